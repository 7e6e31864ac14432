//! Streams of items from an actor to a reader, at the reader's pace.
//!
//! The reader asks for the next items; the actor can be at most [`STREAM_ITEMS_MAX`] items ahead of what was asked for,
//! then its sends wait. So a stream takes bounded memory at both ends, however slow its reader is.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use neap_scheduler::model::WorkerId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::address::decode_at;
use super::directory::HELD;
use super::node::System;
use crate::codec;
use crate::lock;
use crate::wire::actors::{HostReply, HostRequest, StreamEnd};

/// Items that an actor can be ahead of its reader.
pub const STREAM_ITEMS_MAX: usize = 64;

/// How large an encoded item may be.
pub const ITEM_BYTES_MAX: usize = 512 * 1024;

/// Once so many bytes are together, they are sent: with one more item they still fit into a frame.
const BATCH_BYTES: usize = 256 * 1024;

/// Streams that one worker may have open; more are refused.
const STREAMS_MAX: usize = 4096;

/// How long the other side of a read has to answer beyond the time it may hold it.
const READ_MARGIN: Duration = Duration::from_secs(5);

/// Why a stream did not go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The actor ended, gave up or was lost before the stream's end.
    #[error("the stream broke off before its end")]
    Broken,
    /// Nobody reads it any more.
    #[error("the stream's reader is gone")]
    Closed,
    /// An item is too large, or not of the type that was expected.
    #[error("an item of the stream cannot be sent or read: {0}")]
    Item(String),
}

enum Sent {
    Item(Bytes),
    Finished,
}

/// The actor's end of a stream. Dropped without [`Self::finish`], its reader gets [`StreamError::Broken`].
pub struct ItemSender<T> {
    items: mpsc::Sender<Sent>,
    of: PhantomData<fn(T)>,
}

impl<T: Serialize> ItemSender<T> {
    /// Sends an item; waits while the reader is slow.
    ///
    /// # Errors
    ///
    /// [`StreamError::Closed`] where nobody reads, [`StreamError::Item`] where it is larger than [`ITEM_BYTES_MAX`].
    pub async fn send(&self, item: &T) -> Result<(), StreamError> {
        let item = codec::encode::<_, ITEM_BYTES_MAX>(item).map_err(|error| StreamError::Item(error.to_string()))?;
        self.items.send(Sent::Item(item.into())).await.map_err(|_| StreamError::Closed)
    }

    /// Ends the stream: its reader knows that it has everything.
    ///
    /// # Errors
    ///
    /// [`StreamError::Closed`] where nobody reads.
    pub async fn finish(self) -> Result<(), StreamError> {
        self.items.send(Sent::Finished).await.map_err(|_| StreamError::Closed)
    }
}

impl<T> fmt::Debug for ItemSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ItemSender").field("room", &self.items.capacity()).finish_non_exhaustive()
    }
}

/// The streams that actors of this worker have open.
#[derive(Default)]
pub(super) struct Streams {
    open: Mutex<BTreeMap<u64, Open>>,
    last: AtomicU64,
}

#[derive(Clone)]
struct Open {
    reader: WorkerId,
    items: Arc<tokio::sync::Mutex<mpsc::Receiver<Sent>>>,
}

impl Streams {
    /// A new stream; `None` where there are too many.
    pub(super) fn open<T>(&self, reader: WorkerId) -> Option<(u64, ItemSender<T>)> {
        let (items, receiver) = mpsc::channel(STREAM_ITEMS_MAX);
        let mut open = lock(&self.open);
        if open.len() >= STREAMS_MAX {
            return None;
        }
        let stream = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        open.insert(stream, Open { reader, items: Arc::new(tokio::sync::Mutex::new(receiver)) });
        Some((stream, ItemSender { items, of: PhantomData }))
    }

    /// The next items, once there are any; of a stream of another reader nothing is said.
    pub(super) async fn next(&self, stream: u64, reader: WorkerId) -> HostReply {
        let broken = HostReply::Items { items: Vec::new(), end: Some(StreamEnd::Broken) };
        let Some(open) = lock(&self.open).get(&stream).filter(|open| open.reader == reader).cloned() else {
            return broken;
        };
        let mut receiver = open.items.lock().await;
        let Ok(first) = tokio::time::timeout(HELD, receiver.recv()).await else { return HostReply::NotYet };
        let (mut items, mut bytes, mut next) = (Vec::new(), 0, first);
        let end = loop {
            match next {
                Some(Sent::Item(item)) => {
                    bytes += item.len();
                    items.push(item);
                }
                Some(Sent::Finished) => break Some(StreamEnd::Finished),
                None => break Some(StreamEnd::Broken),
            }
            if bytes >= BATCH_BYTES || items.len() >= STREAM_ITEMS_MAX {
                break None;
            }
            next = match receiver.try_recv() {
                Ok(sent) => Some(sent),
                Err(mpsc::error::TryRecvError::Empty) => break None,
                Err(mpsc::error::TryRecvError::Disconnected) => None,
            };
        };
        if end.is_some() {
            lock(&self.open).remove(&stream);
        }
        HostReply::Items { items, end }
    }

    pub(super) fn close(&self, stream: u64, reader: WorkerId) {
        let mut open = lock(&self.open);
        if open.get(&stream).is_some_and(|open| open.reader == reader) {
            open.remove(&stream);
        }
    }

    /// A worker is gone: what it read is read by nobody.
    pub(super) fn reader_lost(&self, worker: WorkerId) {
        lock(&self.open).retain(|_, open| open.reader != worker);
    }
}

/// The reader's end of a stream. Dropping it ends the stream at the actor, too.
pub struct Items<T> {
    system: System,
    worker: WorkerId,
    stream: u64,
    ready: VecDeque<Bytes>,
    end: Option<StreamEnd>,
    of: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Items<T> {
    pub(super) fn new(system: System, worker: WorkerId, stream: u64) -> Self {
        Self { system, worker, stream, ready: VecDeque::new(), end: None, of: PhantomData }
    }

    /// The next item; `None` after the last.
    ///
    /// # Errors
    ///
    /// [`StreamError::Broken`] where the actor went away before the end.
    pub async fn next(&mut self) -> Result<Option<T>, StreamError> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                let item = decode_at(&self.system, &item).map_err(|error| StreamError::Item(error.to_string()))?;
                return Ok(Some(item));
            }
            match self.end {
                Some(StreamEnd::Finished) => return Ok(None),
                Some(StreamEnd::Broken) => return Err(StreamError::Broken),
                None => self.read().await,
            }
        }
    }

    /// Everything that is left, for streams that fit into memory.
    ///
    /// # Errors
    ///
    /// As [`Self::next`].
    pub async fn collect(mut self) -> Result<Vec<T>, StreamError> {
        let mut all = Vec::new();
        while let Some(item) = self.next().await? {
            all.push(item);
        }
        Ok(all)
    }

    async fn read(&mut self) {
        let reply = match self.worker == self.system.worker() {
            true => Ok(self.system.streams().next(self.stream, self.worker).await),
            false => {
                let request = HostRequest::NextItems { stream: self.stream };
                self.system.ask(self.worker, request, HELD + READ_MARGIN).await
            }
        };
        match reply {
            Ok(HostReply::Items { items, end }) => {
                self.ready.extend(items);
                self.end = end;
            }
            // A membership that one of the two does not know yet: nothing was taken from the stream.
            Ok(HostReply::NotYet) => {}
            Ok(HostReply::Stale(_)) => self.system.pause().await,
            _ => self.end = Some(StreamEnd::Broken),
        }
    }
}

impl<T> Drop for Items<T> {
    fn drop(&mut self) {
        if self.end.is_none() {
            self.system.close_stream(self.worker, self.stream);
        }
    }
}

impl<T> fmt::Debug for Items<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Items(stream {} of {})", self.stream, self.worker)
    }
}
