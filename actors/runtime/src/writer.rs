//! The sending half of a control stream: many senders, one buffer, few writes.
//!
//! A sender appends its frame to a shared buffer. Calls and answers then try to write the buffer out at once, so that a
//! lone call waits for no other task; casts leave it to the writer's task, so that many casts become one write. Whoever
//! holds the stream writes for everybody.

use std::future::Future;
use std::pin::pin;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use quinn::{Connection, SendStream};
use tokio::sync::Notify;

use crate::codec::CodecError;
use crate::lock;
use crate::transport::{CloseCode, close};

/// Beyond this many unwritten bytes, senders of messages wait (or get `Busy`).
const CONTROL_BUFFER_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Beyond this many unwritten bytes, the peer is taken for one that does not read, and the connection is closed. Only
/// answers, credit and notices can get here, and only after their own limits.
const CONTROL_BACKLOG_BYTES_MAX: usize = 32 * 1024 * 1024;

/// From this many unwritten bytes on, a cast writes them out itself. About one full batch of datagrams.
const BATCH_BYTES: usize = 16 * 1024;

/// Room the shared buffer keeps between batches.
const BUFFER_KEEP_BYTES: usize = 256 * 1024;

/// How soon a frame has to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Somebody waits for it.
    Now,
    /// Better with others in one write.
    Batch,
}

/// Why a frame was not taken.
#[derive(Debug)]
pub(crate) enum PushError {
    /// More is waiting than may wait.
    Full,
    /// The connection is gone.
    Closed,
    /// The frame cannot be encoded.
    Codec(CodecError),
}

#[derive(Debug)]
pub(crate) struct Writer {
    connection: Connection,
    waiting: Mutex<Waiting>,
    output: tokio::sync::Mutex<Output>,
    /// Something waits that nobody is writing.
    work: Notify,
    /// Something was written.
    room: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    frames: BytesMut,
    closed: bool,
}

#[derive(Debug)]
struct Output {
    stream: SendStream,
    /// What was taken from `waiting` and is being written.
    batch: BytesMut,
    written: usize,
}

impl Writer {
    pub(crate) fn new(connection: Connection, stream: SendStream) -> Self {
        Self {
            connection,
            waiting: Mutex::default(),
            output: tokio::sync::Mutex::new(Output { stream, batch: BytesMut::new(), written: 0 }),
            work: Notify::new(),
            room: Notify::new(),
        }
    }

    /// Appends what `fill` encodes, unless too much is waiting.
    pub(crate) fn push(
        &self,
        urgency: Urgency,
        fill: impl FnOnce(&mut BytesMut) -> Result<(), CodecError>,
    ) -> Result<(), PushError> {
        let waiting = {
            let mut waiting = lock(&self.waiting);
            if waiting.closed {
                return Err(PushError::Closed);
            }
            if waiting.frames.len() > CONTROL_BUFFER_BYTES_MAX {
                return Err(PushError::Full);
            }
            fill(&mut waiting.frames).map_err(PushError::Codec)?;
            waiting.frames.len()
        };
        self.urge(urgency, waiting);
        Ok(())
    }

    /// Appends a frame that nobody can wait for: an answer, credit, a notice. Does nothing once the connection is gone.
    pub(crate) fn push_notice(
        &self,
        urgency: Urgency,
        fill: impl FnOnce(&mut BytesMut) -> Result<(), CodecError>,
    ) -> Result<(), CodecError> {
        let waiting = {
            let mut waiting = lock(&self.waiting);
            if waiting.closed {
                return Ok(());
            }
            fill(&mut waiting.frames)?;
            waiting.frames.len()
        };
        if waiting > CONTROL_BACKLOG_BYTES_MAX {
            close(&self.connection, CloseCode::Backlog, "the peer does not read what it is sent");
        }
        self.urge(urgency, waiting);
        Ok(())
    }

    /// As [`Self::push`], but waits for room. `fill` is called once, when there is room.
    pub(crate) async fn push_wait(
        &self,
        urgency: Urgency,
        mut fill: impl FnMut(&mut BytesMut) -> Result<(), CodecError>,
    ) -> Result<(), PushError> {
        loop {
            match self.push(urgency, &mut fill) {
                Err(PushError::Full) => {}
                other => return other,
            }
            let mut room = pin!(self.room.notified());
            room.as_mut().enable();
            // Asked again after enabling: the room may have been made in between.
            match self.push(urgency, &mut fill) {
                Err(PushError::Full) => room.await,
                other => return other,
            }
        }
    }

    /// Writes until the connection ends. The task that runs this is the only one that waits for the stream.
    pub(crate) async fn run(&self) {
        loop {
            self.work.notified().await;
            let mut output = self.output.lock().await;
            while self.next_batch(&mut output) {
                if output.write().await.is_err() {
                    return;
                }
            }
        }
    }

    /// No more frames are taken; what waits is dropped.
    pub(crate) fn shut(&self) {
        let mut waiting = lock(&self.waiting);
        waiting.closed = true;
        waiting.frames = BytesMut::new();
        drop(waiting);
        self.room.notify_waiters();
    }

    /// Whether the connection is gone.
    pub(crate) fn is_shut(&self) -> bool {
        lock(&self.waiting).closed
    }

    fn urge(&self, urgency: Urgency, waiting: usize) {
        if urgency == Urgency::Now || waiting >= BATCH_BYTES {
            self.write_now();
        } else {
            self.work.notify_one();
        }
    }

    /// Writes what the stream takes without waiting. Leaves the rest, and whatever somebody else is writing, to the task.
    fn write_now(&self) {
        let Ok(mut output) = self.output.try_lock() else {
            self.work.notify_one();
            return;
        };
        while self.next_batch(&mut output) {
            // The task will be the one that waits, so nobody needs to be woken from here.
            let mut context = Context::from_waker(Waker::noop());
            match pin!(output.write()).poll(&mut context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return,
                Poll::Pending => break,
            }
        }
        let left = output.written < output.batch.len();
        drop(output);
        if left || !lock(&self.waiting).frames.is_empty() {
            self.work.notify_one();
        }
    }

    /// Takes what waits as the next batch, unless a batch is not yet through. Says whether there is something to write.
    fn next_batch(&self, output: &mut Output) -> bool {
        if output.written < output.batch.len() {
            return true;
        }
        output.batch.clear();
        output.written = 0;
        if output.batch.capacity() > BUFFER_KEEP_BYTES {
            output.batch = BytesMut::new();
        }
        let mut waiting = lock(&self.waiting);
        std::mem::swap(&mut waiting.frames, &mut output.batch);
        drop(waiting);
        if output.batch.len() > CONTROL_BUFFER_BYTES_MAX {
            self.room.notify_waiters();
        }
        !output.batch.is_empty()
    }
}

impl Output {
    async fn write(&mut self) -> Result<(), quinn::WriteError> {
        while self.written < self.batch.len() {
            self.written += self.stream.write(&self.batch[self.written..]).await?;
        }
        Ok(())
    }
}
