//! The sending half of a channel: messages of this process for one actor of one peer, within the credit it gave.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Semaphore, oneshot};

use crate::bulk::BULK_BYTES_MAX;
use crate::frame::{self, Forget, ForgetAfter, Open, Refusal, tag};
use crate::inbound::INITIAL_CREDIT;
use crate::lock;
use crate::remote::RemoteError;
use crate::watch::ExitReason;
use crate::writer::{Urgency, Writer};

/// How long casts to a channel that was refused or closed get its error before the actor is asked for again. Calls ask at
/// once, because each waits for its own answer.
const REOPEN_AFTER: Duration = Duration::from_millis(100);

/// Calls, spawns and watches that may wait for an answer at a time; more get `Busy`.
const CALLS_MAX: usize = 65_536;

/// A channel number in use, and the credit left on it.
pub(crate) struct OutChannel {
    pub(crate) id: u32,
    actor: String,
    protocol: &'static str,
    pub(crate) messages: Semaphore,
    pub(crate) bulk_bytes: Semaphore,
    /// Closed (in the sense of the semaphore) once the peer has answered, either way.
    answered: Semaphore,
    bulk_bytes_max: OnceLock<u64>,
    /// Bulk transfers ever begun. They may still be under way when the last reference is gone.
    transfers: AtomicU64,
    closed: OnceLock<(RemoteError, Instant)>,
}

impl OutChannel {
    fn new(id: u32, actor: &str, protocol: &'static str) -> Self {
        Self {
            id,
            actor: actor.to_owned(),
            protocol,
            messages: Semaphore::new(INITIAL_CREDIT as usize),
            bulk_bytes: Semaphore::new(0),
            answered: Semaphore::new(0),
            bulk_bytes_max: OnceLock::new(),
            transfers: AtomicU64::new(0),
            closed: OnceLock::new(),
        }
    }

    /// The peer takes messages.
    pub(crate) fn opened(&self, messages: u32, bulk_bytes: u64) {
        let bulk_bytes = bulk_bytes.min(BULK_BYTES_MAX);
        if self.bulk_bytes_max.set(bulk_bytes).is_ok() {
            self.credit(messages.saturating_sub(INITIAL_CREDIT), bulk_bytes);
            self.answered.close();
        }
    }

    /// The peer has handled messages.
    pub(crate) fn credit(&self, messages: u32, bulk_bytes: u64) {
        add_permits(&self.messages, u64::from(messages));
        add_permits(&self.bulk_bytes, bulk_bytes);
    }

    /// A transfer begins, and will get to the peer whatever becomes of the reference that sends it.
    pub(crate) fn begin_transfer(&self) {
        self.transfers.fetch_add(1, Ordering::Relaxed);
    }

    /// Nothing more can be sent. Whoever waits for credit gets `error`.
    pub(crate) fn close(&self, error: RemoteError) {
        let _ = self.closed.set((error, Instant::now()));
        self.messages.close();
        self.bulk_bytes.close();
        self.answered.close();
    }

    /// Whether the peer has said that it leads to an actor, and nothing else since.
    pub(crate) fn is_open(&self) -> bool {
        self.bulk_bytes_max.get().is_some() && self.closed.get().is_none()
    }

    /// Whether nothing more can be sent. Asked under the writer's lock, it is known before the peer is told that the channel
    /// is forgotten: a message either goes ahead of that or is not sent.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get().is_some()
    }

    /// Why it is closed. For those whom a semaphore turned away.
    pub(crate) fn error(&self) -> RemoteError {
        self.closed.get().map_or_else(|| RemoteError::PeerDown("unknown".to_owned()), |(error, _)| error.clone())
    }

    /// The largest payload the actor takes, once the peer has said so.
    pub(crate) async fn bulk_bytes_max(&self) -> Result<u64, RemoteError> {
        let _ = self.answered.acquire().await;
        match self.closed.get() {
            Some((error, _)) => Err(error.clone()),
            None => Ok(self.bulk_bytes_max.get().copied().unwrap_or(0)),
        }
    }
}

/// Adds permits, never so many that the semaphore panics: a peer may lie about what it gives back.
fn add_permits(semaphore: &Semaphore, more: u64) {
    let room = Semaphore::MAX_PERMITS - semaphore.available_permits();
    semaphore.add_permits(usize::try_from(more).unwrap_or(usize::MAX).min(room));
}

/// All references of this process to one actor of one peer share a slot, and with it the credit.
pub(crate) struct OutSlot {
    pub(crate) actor: String,
    pub(crate) protocol: &'static str,
    outgoing: Weak<Outgoing>,
    current: Mutex<Option<Arc<OutChannel>>>,
}

/// What to do about a channel that was closed a moment ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reopen {
    /// Ask for the actor again.
    AtOnce,
    /// Keep the answer for a moment: casts come in thousands.
    Later,
}

impl OutSlot {
    /// The channel to use now.
    pub(crate) fn channel(&self, reopen: Reopen) -> Result<Arc<OutChannel>, RemoteError> {
        let mut current = lock(&self.current);
        if let Some(channel) = &*current {
            match channel.closed.get() {
                None => return Ok(channel.clone()),
                Some((error, at)) if reopen == Reopen::Later && at.elapsed() < REOPEN_AFTER => {
                    return Err(error.clone());
                }
                Some(_) => {}
            }
        }
        let outgoing = self.outgoing.upgrade().ok_or_else(|| RemoteError::PeerDown("closed".to_owned()))?;
        let channel = outgoing.open(&self.actor, self.protocol)?;
        *current = Some(channel.clone());
        Ok(channel)
    }
}

impl OutSlot {
    /// Whether the peer has said that the actor is there, and nothing else since.
    pub(crate) fn is_open(&self) -> bool {
        lock(&self.current).as_ref().is_some_and(|channel| channel.is_open())
    }
}

impl Drop for OutSlot {
    fn drop(&mut self) {
        let channel = lock(&self.current).take();
        if let (Some(channel), Some(outgoing)) = (channel, self.outgoing.upgrade()) {
            outgoing.forget(&channel);
        }
    }
}

/// Everything this process has under way towards one peer.
pub(crate) struct Outgoing {
    writer: Arc<Writer>,
    table: Mutex<Table>,
    next_call: AtomicU64,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Table {
    next_channel: u32,
    slots: HashMap<(String, &'static str), Weak<OutSlot>>,
    channels: HashMap<u32, Weak<OutChannel>>,
    down: Option<RemoteError>,
}

#[derive(Default)]
struct Waiting {
    calls: HashMap<u64, Call>,
    watches: HashMap<u64, oneshot::Sender<ExitReason>>,
    down: Option<RemoteError>,
}

struct Call {
    answer: oneshot::Sender<Result<Bytes, RemoteError>>,
    target: Arc<OutSlot>,
}

impl Outgoing {
    pub(crate) fn new(writer: Arc<Writer>) -> Self {
        Self { writer, table: Mutex::default(), next_call: AtomicU64::new(1), waiting: Mutex::default() }
    }

    /// The slot for an actor, shared by all who want to talk to it.
    pub(crate) fn slot(self: &Arc<Self>, actor: &str, protocol: &'static str) -> Arc<OutSlot> {
        let mut table = lock(&self.table);
        let key = (actor.to_owned(), protocol);
        if let Some(slot) = table.slots.get(&key).and_then(Weak::upgrade) {
            return slot;
        }
        if table.slots.len() >= 64 && table.slots.len().is_power_of_two() {
            table.slots.retain(|_, slot| slot.strong_count() > 0);
        }
        let slot = Arc::new(OutSlot {
            actor: actor.to_owned(),
            protocol,
            outgoing: Arc::downgrade(self),
            current: Mutex::default(),
        });
        table.slots.insert(key, Arc::downgrade(&slot));
        slot
    }

    fn open(&self, actor: &str, protocol: &'static str) -> Result<Arc<OutChannel>, RemoteError> {
        let mut table = lock(&self.table);
        if let Some(error) = &table.down {
            return Err(error.clone());
        }
        let id = table.next_channel;
        table.next_channel += 1;
        let channel = Arc::new(OutChannel::new(id, actor, protocol));
        let open = Open { channel: id, protocol: protocol.to_owned(), actor: actor.to_owned() };
        // Under the lock, so that nothing is sent on the channel before this.
        self.writer
            .push_notice(Urgency::Batch, |buffer| frame::put_struct(buffer, tag::OPEN, &open))
            .map_err(|error| RemoteError::Codec(error.to_string()))?;
        table.channels.insert(id, Arc::downgrade(&channel));
        Ok(channel)
    }

    /// Tells the peer that a channel number will not be used again, for more than what is under way.
    fn forget(&self, channel: &OutChannel) {
        if lock(&self.table).channels.remove(&channel.id).is_some() {
            self.send_forget(channel);
        }
    }

    fn send_forget(&self, channel: &OutChannel) {
        let sent = match channel.transfers.load(Ordering::Relaxed) {
            0 => {
                let forget = Forget { channel: channel.id };
                self.writer.push_notice(Urgency::Batch, |buffer| frame::put_struct(buffer, tag::FORGET, &forget))
            }
            transfers => {
                let forget = ForgetAfter { channel: channel.id, transfers };
                self.writer.push_notice(Urgency::Batch, |buffer| frame::put_struct(buffer, tag::FORGET_AFTER, &forget))
            }
        };
        debug_assert!(sent.is_ok(), "two numbers always fit into a frame");
    }

    /// The channel with this number, if it is still of use.
    pub(crate) fn channel(&self, id: u32) -> Option<Arc<OutChannel>> {
        lock(&self.table).channels.get(&id).and_then(Weak::upgrade)
    }

    /// The peer has closed a channel.
    pub(crate) fn closed(&self, id: u32, refusal: Refusal) {
        let channel = lock(&self.table).channels.remove(&id).and_then(|channel| channel.upgrade());
        if let Some(channel) = channel {
            channel.close(refusal.into_error(&channel.actor, channel.protocol));
            self.send_forget(&channel);
        }
    }

    /// Registers a call; the guard forgets it when the caller no longer waits.
    pub(crate) fn begin_call(self: &Arc<Self>, target: &Arc<OutSlot>) -> Result<PendingCall, RemoteError> {
        let id = self.next_call.fetch_add(1, Ordering::Relaxed);
        let (answer, receiver) = oneshot::channel();
        let mut waiting = lock(&self.waiting);
        if let Some(error) = &waiting.down {
            return Err(error.clone());
        }
        if waiting.calls.len() >= CALLS_MAX {
            return Err(RemoteError::Busy { actor: target.actor.clone() });
        }
        waiting.calls.insert(id, Call { answer, target: target.clone() });
        drop(waiting);
        Ok(PendingCall { id, receiver, outgoing: self.clone() })
    }

    /// An answer has come. One that nobody waits for any more is dropped.
    pub(crate) fn answered(&self, id: u64, answer: Result<Bytes, Refusal>) {
        let call = lock(&self.waiting).calls.remove(&id);
        if let Some(call) = call {
            let answer = answer.map_err(|refusal| refusal.into_error(&call.target.actor, call.target.protocol));
            let _ = call.answer.send(answer);
        }
    }

    /// Expects the end of an actor to be told under this number.
    pub(crate) fn begin_watch(&self, id: u64) -> oneshot::Receiver<ExitReason> {
        let (exited, receiver) = oneshot::channel();
        lock(&self.waiting).watches.insert(id, exited);
        receiver
    }

    /// A watched actor has ended.
    pub(crate) fn exited(&self, id: u64, reason: ExitReason) {
        if let Some(watch) = lock(&self.waiting).watches.remove(&id) {
            let _ = watch.send(reason);
        }
    }

    /// Nobody waits for this end any more.
    pub(crate) fn end_watch(&self, id: u64) {
        if lock(&self.waiting).watches.remove(&id).is_some() {
            let unwatch = frame::Unwatch { watch: id };
            let sent =
                self.writer.push_notice(Urgency::Batch, |buffer| frame::put_struct(buffer, tag::UNWATCH, &unwatch));
            debug_assert!(sent.is_ok(), "one number always fits into a frame");
        }
    }

    /// The connection is gone: everybody who waits for something is told.
    pub(crate) fn down(&self, reason: &str) {
        let error = RemoteError::PeerDown(reason.to_owned());
        let channels: Vec<_> = {
            let mut table = lock(&self.table);
            table.down = Some(error.clone());
            table.channels.drain().filter_map(|(_, channel)| channel.upgrade()).collect()
        };
        for channel in channels {
            channel.close(error.clone());
        }
        let mut waiting = lock(&self.waiting);
        waiting.down = Some(error.clone());
        let (calls, watches) = (std::mem::take(&mut waiting.calls), std::mem::take(&mut waiting.watches));
        drop(waiting);
        for call in calls.into_values() {
            let _ = call.answer.send(Err(error.clone()));
        }
        for watch in watches.into_values() {
            let _ = watch.send(ExitReason::PeerDown(reason.to_owned()));
        }
    }
}

/// A call that waits for its answer.
pub(crate) struct PendingCall {
    pub(crate) id: u64,
    receiver: oneshot::Receiver<Result<Bytes, RemoteError>>,
    outgoing: Arc<Outgoing>,
}

impl PendingCall {
    pub(crate) async fn answer(&mut self) -> Result<Bytes, RemoteError> {
        (&mut self.receiver).await.unwrap_or(Err(RemoteError::NoReply))
    }
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        let call = lock(&self.outgoing.waiting).calls.remove(&self.id);
        drop(call);
    }
}
