//! What arrives from one peer: every frame of its control stream, and where it goes.
//!
//! Nothing here waits: a message goes into a mailbox (credit has made room for it), an answer to whoever waits, and
//! anything slower into a task of its own. So no actor can hold up the frames behind its own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use quinn::RecvStream;
use serde::de::DeserializeOwned;

use crate::bulk::{BufferPool, BulkBuffer};
use crate::codec;
use crate::frame::{self, Closed, FRAME_BYTES_MAX, FrameCutter, FrameError, Opened, Refusal, tag};
use crate::identity::Role;
use crate::inbound::{BulkRoom, InChannel, RemoteReply, Undelivered};
use crate::lock;
use crate::outbound::Outgoing;
use crate::registry::{Entry, Registry};
use crate::remote::Credit;
use crate::transport::CloseCode;
use crate::writer::{Urgency, Writer};

/// Channels a peer may have open here; more close the connection.
const CHANNELS_MAX: usize = 4096;

/// Actors a peer may watch here; more are refused.
const WATCHES_MAX: usize = 4096;

/// Actors a peer may have starting here at a time; more are refused.
const SPAWNS_MAX: usize = 64;

/// Pieces of the control stream taken at a time.
const CHUNKS: usize = 32;

/// What a peer did that ends its connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    #[error("malformed: {0}")]
    Malformed(String),
    #[error("malformed: {0}")]
    Frame(#[from] FrameError),
    #[error("more was sent to `{0}` than it gave credit for")]
    Credit(String),
    #[error("more than {CHANNELS_MAX} channels are open")]
    Channels,
}

impl Violation {
    /// A body that is too short for its fields.
    pub(crate) fn short() -> Self {
        Self::Malformed("a frame without its fields".to_owned())
    }

    pub(crate) fn code(&self) -> CloseCode {
        match self {
            Self::Malformed(_) | Self::Frame(_) => CloseCode::Malformed,
            Self::Credit(_) => CloseCode::CreditExceeded,
            Self::Channels => CloseCode::Limit,
        }
    }
}

/// Everything one peer has under way here.
pub(crate) struct Dispatcher {
    from: Role,
    registry: Arc<Registry>,
    writer: Arc<Writer>,
    outgoing: Arc<Outgoing>,
    pool: Arc<BufferPool>,
    channels: Mutex<HashMap<u32, Arc<InChannel>>>,
    /// Channels that were refused and that the peer has not yet forgotten: calls on them get the same answer.
    refused: Mutex<HashMap<u32, Refusal>>,
    watches: Mutex<HashMap<u64, Arc<Entry>>>,
    spawning: AtomicUsize,
    /// Bulk bytes not yet granted to any channel.
    bulk_bytes_left: AtomicU64,
    /// Casts that went nowhere.
    lost_casts: AtomicU64,
}

impl Dispatcher {
    pub(crate) fn new(
        from: Role,
        registry: Arc<Registry>,
        writer: Arc<Writer>,
        outgoing: Arc<Outgoing>,
        bulk_bytes_max: u64,
    ) -> Self {
        Self {
            from,
            registry,
            writer,
            outgoing,
            pool: Arc::default(),
            channels: Mutex::default(),
            refused: Mutex::default(),
            watches: Mutex::default(),
            spawning: AtomicUsize::new(0),
            bulk_bytes_left: AtomicU64::new(bulk_bytes_max),
            lost_casts: AtomicU64::new(0),
        }
    }

    /// Reads the control stream until it ends or breaks the protocol. `cutter` has what the handshake left over.
    pub(crate) async fn read(
        self: &Arc<Self>,
        mut stream: RecvStream,
        mut cutter: FrameCutter,
    ) -> Result<(), Violation> {
        let mut chunks: [Bytes; CHUNKS] = std::array::from_fn(|_| Bytes::new());
        while let Ok(Some(count)) = stream.read_chunks(&mut chunks).await {
            for chunk in &mut chunks[..count] {
                cutter.feed(&std::mem::take(chunk), |tag, body| self.frame(tag, body))?;
            }
            tokio::task::coop::consume_budget().await;
        }
        Ok(())
    }

    /// One frame.
    pub(crate) fn frame(self: &Arc<Self>, tag: u16, body: &[u8]) -> Result<(), Violation> {
        match tag {
            tag::CAST => self.cast(body),
            tag::CALL => self.call(body),
            tag::REPLY => {
                let (call, answer) = frame::split_u64(body).ok_or_else(Violation::short)?;
                self.outgoing.answered(call, Ok(Bytes::copy_from_slice(answer)));
                Ok(())
            }
            tag::CREDIT => self.credit(body),
            tag::FAILED => {
                let failed: frame::Failed = parse(body)?;
                self.outgoing.answered(failed.call, Err(failed.refusal));
                Ok(())
            }
            tag::OPEN => self.open(parse(body)?),
            tag::OPENED => {
                let Opened { channel, messages, bulk_bytes } = parse(body)?;
                if let Some(channel) = self.outgoing.channel(channel) {
                    channel.opened(messages, bulk_bytes);
                }
                Ok(())
            }
            tag::CLOSED => {
                let Closed { channel, refusal } = parse(body)?;
                self.outgoing.closed(channel, refusal);
                Ok(())
            }
            tag::FORGET => {
                let frame::Forget { channel } = parse(body)?;
                self.forget(channel);
                Ok(())
            }
            tag::FORGET_AFTER => {
                let frame::ForgetAfter { channel: id, transfers } = parse(body)?;
                if self.channel(id).is_none_or(|channel| channel.ends_after(transfers)) {
                    self.forget(id);
                }
                Ok(())
            }
            tag::SPAWN => {
                self.spawn(parse(body)?);
                Ok(())
            }
            tag::WATCH => {
                self.watch(parse(body)?);
                Ok(())
            }
            tag::UNWATCH => {
                let frame::Unwatch { watch } = parse(body)?;
                if let Some(entry) = lock(&self.watches).remove(&watch) {
                    entry.unwatch(&self.writer, watch);
                }
                Ok(())
            }
            tag::EXITED => {
                let frame::Exited { watch, exit } = parse(body)?;
                self.outgoing.exited(watch, exit.into());
                Ok(())
            }
            tag::UNSUPPORTED => {
                let frame::Unsupported { tag } = parse(body)?;
                tracing::warn!(peer = %self.from, tag, "the peer does not support a frame that it was sent");
                Ok(())
            }
            unknown => {
                self.unsupported(unknown);
                Ok(())
            }
        }
    }

    /// Answers a frame that this build does not know.
    pub(crate) fn unsupported(&self, tag: u16) {
        tracing::warn!(peer = %self.from, tag, "an unknown frame was dropped");
        self.notice(Urgency::Now, tag::UNSUPPORTED, &frame::Unsupported { tag });
    }

    /// Credit and room for a payload; `None` where its channel leads nowhere any more.
    pub(crate) fn admit_bulk(
        &self,
        id: u32,
        bytes: u64,
    ) -> Result<Option<(Credit, BulkRoom, Arc<InChannel>)>, Violation> {
        let Some(channel) = self.channel(id) else {
            self.lost_cast(None);
            return Ok(None);
        };
        if channel.received() {
            self.forget(id);
        }
        let credit = self.take_credit(&channel)?;
        let room = channel.take_bulk(bytes).ok_or_else(|| Violation::Credit(channel.entry.name.clone()))?;
        Ok(Some((credit, room, channel)))
    }

    pub(crate) fn deliver_bulk(
        &self,
        channel: &Arc<InChannel>,
        header: &[u8],
        payload: BulkBuffer,
        credit: Credit,
    ) -> Result<(), Violation> {
        self.delivered(channel, channel.entry.receiver.bulk(self.from, header, payload, credit))
    }

    pub(crate) fn pool(&self) -> &Arc<BufferPool> {
        &self.pool
    }

    /// The connection is gone: nothing of the peer's is kept.
    pub(crate) fn down(&self) {
        lock(&self.channels).clear();
        for (watch, entry) in std::mem::take(&mut *lock(&self.watches)) {
            entry.unwatch(&self.writer, watch);
        }
    }

    fn cast(&self, body: &[u8]) -> Result<(), Violation> {
        let (id, message) = frame::split_u32(body).ok_or_else(Violation::short)?;
        let Some(channel) = self.channel(id) else {
            self.lost_cast(None);
            return Ok(());
        };
        let credit = self.take_credit(&channel)?;
        if !channel.entry.is_alive() {
            self.close_channel(&channel);
            return Ok(());
        }
        self.delivered(&channel, channel.entry.receiver.cast(self.from, message, credit))
    }

    fn call(&self, body: &[u8]) -> Result<(), Violation> {
        let (id, rest) = frame::split_u32(body).ok_or_else(Violation::short)?;
        let (call, request) = frame::split_u64(rest).ok_or_else(Violation::short)?;
        let reply = RemoteReply::new(self.writer.clone(), call);
        let Some(channel) = self.channel(id) else {
            reply.refuse(lock(&self.refused).get(&id).cloned().unwrap_or(Refusal::NoSuchActor));
            return Ok(());
        };
        let credit = self.take_credit(&channel)?;
        if !channel.entry.is_alive() {
            // In this order, so that whoever gets the answer and tries again does not meet this channel.
            self.close_channel(&channel);
            reply.refuse(Refusal::NoSuchActor);
            return Ok(());
        }
        self.delivered(&channel, channel.entry.receiver.call(self.from, request, reply, credit))
    }

    fn credit(&self, body: &[u8]) -> Result<(), Violation> {
        let (id, rest) = frame::split_u32(body).ok_or_else(Violation::short)?;
        let (messages, rest) = frame::split_u32(rest).ok_or_else(Violation::short)?;
        let (bulk_bytes, _) = frame::split_u64(rest).ok_or_else(Violation::short)?;
        if let Some(channel) = self.outgoing.channel(id) {
            channel.credit(messages, bulk_bytes);
        }
        Ok(())
    }

    fn open(&self, open: frame::Open) -> Result<(), Violation> {
        let id = open.channel;
        let entry = match self.admit(&open) {
            Ok(entry) => entry,
            Err(refusal) => {
                let mut refused = lock(&self.refused);
                if refused.len() >= CHANNELS_MAX {
                    return Err(Violation::Channels);
                }
                refused.insert(id, refusal.clone());
                drop(refused);
                self.notice(Urgency::Batch, tag::CLOSED, &Closed { channel: id, refusal });
                return Ok(());
            }
        };
        let bulk_bytes = self.grant_bulk(entry.access.limits().bulk_bytes);
        let channel = Arc::new(InChannel::new(id, entry, self.writer.clone(), bulk_bytes));
        {
            let mut channels = lock(&self.channels);
            if channels.len() >= CHANNELS_MAX {
                return Err(Violation::Channels);
            }
            if channels.contains_key(&id) {
                return Err(Violation::Malformed(format!("channel {id} is opened twice")));
            }
            channels.insert(id, channel.clone());
        }
        self.notice(Urgency::Now, tag::OPENED, &Opened { channel: id, messages: channel.messages_max(), bulk_bytes });
        channel.entry.add_channel(&channel);
        Ok(())
    }

    /// The actor that is asked for, if it is there, speaks the protocol, and the peer may talk to it.
    fn admit(&self, open: &frame::Open) -> Result<Arc<Entry>, Refusal> {
        let entry = self.registry.actor(&open.actor).ok_or(Refusal::NoSuchActor)?;
        if !entry.access.allows(&self.from) {
            tracing::warn!(peer = %self.from, actor = entry.name, "a peer may not talk to an actor");
            return Err(Refusal::Forbidden);
        }
        if entry.protocol != open.protocol {
            return Err(Refusal::WrongProtocol { theirs: entry.protocol.to_owned() });
        }
        Ok(entry)
    }

    /// Sets bulk bytes of the peer's budget aside for a channel; less than asked for where the budget is nearly used up.
    fn grant_bulk(&self, wanted: u64) -> u64 {
        let wanted = wanted.min(crate::bulk::BULK_BYTES_MAX);
        let take = |left: u64| Some(left - left.min(wanted));
        let before = self.bulk_bytes_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        before.unwrap_or(0).min(wanted)
    }

    fn forget(&self, id: u32) {
        lock(&self.refused).remove(&id);
        if let Some(channel) = lock(&self.channels).remove(&id) {
            self.bulk_bytes_left.fetch_add(channel.bulk_bytes_max(), Ordering::Relaxed);
        }
    }

    fn spawn(self: &Arc<Self>, spawn: frame::Spawn) {
        let reply = RemoteReply::new(self.writer.clone(), spawn.call);
        let Some(factory) = self.registry.factory(&spawn.factory) else { return reply.refuse(Refusal::NoSuchFactory) };
        if !factory.access.allows(&self.from) {
            tracing::warn!(peer = %self.from, factory = spawn.factory, "a peer may not use a factory");
            return reply.refuse(Refusal::Forbidden);
        }
        if factory.protocol != spawn.protocol {
            return reply.refuse(Refusal::WrongProtocol { theirs: factory.protocol.to_owned() });
        }
        if self.spawning.fetch_add(1, Ordering::Relaxed) >= SPAWNS_MAX {
            self.spawning.fetch_sub(1, Ordering::Relaxed);
            return reply.refuse(Refusal::Overloaded(format!("{SPAWNS_MAX} actors are being started")));
        }
        let dispatcher = self.clone();
        tokio::spawn(async move {
            let started = (factory.start)(dispatcher.from, spawn.args).await;
            dispatcher.spawning.fetch_sub(1, Ordering::Relaxed);
            match started {
                Ok(name) => reply.answer(&name),
                Err(refusal) => reply.refuse(refusal),
            }
        });
    }

    fn watch(&self, watch: frame::Watch) {
        let reply = RemoteReply::new(self.writer.clone(), watch.call);
        let Some(entry) = self.registry.actor(&watch.actor) else { return reply.refuse(Refusal::NoSuchActor) };
        if !entry.access.allows(&self.from) {
            return reply.refuse(Refusal::Forbidden);
        }
        {
            let mut watches = lock(&self.watches);
            if watches.len() >= WATCHES_MAX {
                watches.retain(|_, entry| entry.is_alive());
            }
            if watches.len() >= WATCHES_MAX {
                drop(watches);
                return reply.refuse(Refusal::Overloaded(format!("{WATCHES_MAX} actors are watched")));
            }
            watches.insert(watch.call, entry.clone());
        }
        // Answered first, so that the end cannot overtake the answer.
        reply.answer(&());
        if !entry.watch(&self.writer, watch.call) {
            let exit = frame::Exit::Stopped(None);
            self.notice(Urgency::Now, tag::EXITED, &frame::Exited { watch: watch.call, exit });
        }
    }

    fn channel(&self, id: u32) -> Option<Arc<InChannel>> {
        lock(&self.channels).get(&id).cloned()
    }

    fn take_credit(&self, channel: &Arc<InChannel>) -> Result<Credit, Violation> {
        channel.take().ok_or_else(|| Violation::Credit(channel.entry.name.clone()))
    }

    fn delivered(&self, channel: &Arc<InChannel>, result: Result<(), Undelivered>) -> Result<(), Violation> {
        match result {
            Ok(()) => Ok(()),
            Err(Undelivered::Malformed(error)) => {
                let protocol = channel.entry.protocol;
                Err(Violation::Malformed(format!("a message that is none of {protocol}: {error}")))
            }
            Err(Undelivered::Gone) => {
                self.close_channel(channel);
                Ok(())
            }
        }
    }

    /// Tells the sender, once, that its actor has ended.
    fn close_channel(&self, channel: &Arc<InChannel>) {
        self.lost_cast(Some(&channel.entry.name));
        if lock(&self.channels).contains_key(&channel.id) {
            self.forget(channel.id);
            self.notice(Urgency::Now, tag::CLOSED, &Closed { channel: channel.id, refusal: Refusal::NoSuchActor });
        }
    }

    /// Counts a message that went nowhere; says so now and then.
    fn lost_cast(&self, actor: Option<&str>) {
        let lost = self.lost_casts.fetch_add(1, Ordering::Relaxed) + 1;
        if lost.is_power_of_two() {
            tracing::warn!(peer = %self.from, lost, actor, "messages for no actor");
        }
    }

    fn notice<T: serde::Serialize>(&self, urgency: Urgency, tag: u16, body: &T) {
        if let Err(error) = self.writer.push_notice(urgency, |buffer| frame::put_struct(buffer, tag, body)) {
            tracing::error!(%error, tag, "a notice could not be encoded");
        }
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Violation> {
    codec::decode::<T, FRAME_BYTES_MAX>(body).map_err(|error| Violation::Malformed(error.to_string()))
}
