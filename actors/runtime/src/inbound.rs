//! The receiving half of a channel: where messages of one peer for one actor arrive, and how its credit goes back.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::BufMut;
use ractor::ActorRef;

use crate::bulk::BulkBuffer;
use crate::codec::{self, CodecError};
use crate::frame::{self, BULK_HEADER_BYTES_MAX, Closed, FRAME_BYTES_MAX, Failed, Refusal, tag};
use crate::identity::Role;
use crate::lock;
use crate::registry::Entry;
use crate::remote::{Credit, Inbound, Protocol, ReplyTo};
use crate::writer::{Urgency, Writer};

/// Messages that a sender may send before its channel is answered, so that the first message costs no extra round trip.
/// No window is smaller.
pub(crate) const INITIAL_CREDIT: u32 = 16;

/// Why a message was not handed to its actor.
#[derive(Debug)]
pub(crate) enum Undelivered {
    /// It is not a message of the actor's protocol.
    Malformed(CodecError),
    /// The actor has ended.
    Gone,
}

/// Turns bytes into the messages of one actor.
pub(crate) trait Receiver: Send + Sync {
    fn cast(&self, from: Role, body: &[u8], credit: Credit) -> Result<(), Undelivered>;
    fn call(&self, from: Role, body: &[u8], reply: RemoteReply, credit: Credit) -> Result<(), Undelivered>;
    fn bulk(&self, from: Role, header: &[u8], payload: BulkBuffer, credit: Credit) -> Result<(), Undelivered>;
}

/// The receiver of an actor with messages `M`, in the conversation `P`.
pub(crate) struct ActorReceiver<P, M> {
    pub(crate) actor: ActorRef<M>,
    pub(crate) protocol: PhantomData<fn() -> P>,
}

impl<P: Protocol, M: From<Inbound<P>> + ractor::Message> ActorReceiver<P, M> {
    fn deliver(&self, inbound: Inbound<P>) -> Result<(), Undelivered> {
        self.actor.cast(M::from(inbound)).map_err(|_| Undelivered::Gone)
    }
}

impl<P: Protocol, M: From<Inbound<P>> + ractor::Message> Receiver for ActorReceiver<P, M> {
    fn cast(&self, from: Role, body: &[u8], credit: Credit) -> Result<(), Undelivered> {
        let message = codec::decode::<P::Cast, FRAME_BYTES_MAX>(body).map_err(Undelivered::Malformed)?;
        self.deliver(Inbound::Cast { from, message, credit })
    }

    fn call(&self, from: Role, body: &[u8], reply: RemoteReply, credit: Credit) -> Result<(), Undelivered> {
        let request = codec::decode::<P::Request, FRAME_BYTES_MAX>(body).map_err(Undelivered::Malformed)?;
        self.deliver(Inbound::Call { from, request, reply: ReplyTo::remote(reply), credit })
    }

    fn bulk(&self, from: Role, header: &[u8], payload: BulkBuffer, credit: Credit) -> Result<(), Undelivered> {
        let header = codec::decode::<P::BulkHeader, BULK_HEADER_BYTES_MAX>(header).map_err(Undelivered::Malformed)?;
        self.deliver(Inbound::Bulk { from, header, payload, credit })
    }
}

/// One channel of one peer to one actor, with what was granted and not yet given back.
pub(crate) struct InChannel {
    pub(crate) id: u32,
    pub(crate) entry: Arc<Entry>,
    writer: Arc<Writer>,
    messages_max: u32,
    bulk_bytes_max: u64,
    /// Messages received whose credit the sender does not have back.
    messages_held: AtomicU32,
    /// Of those, messages handled whose credit was not yet sent.
    messages_returned: AtomicU32,
    bulk_bytes_held: AtomicU64,
    transfers: Mutex<Transfers>,
}

/// How many bulk transfers have come in on a channel, and after how many its number is not used any more.
#[derive(Debug, Default)]
struct Transfers {
    received: u64,
    last: Option<u64>,
}

impl Transfers {
    fn are_all_here(&self) -> bool {
        self.last.is_some_and(|last| self.received >= last)
    }
}

impl InChannel {
    pub(crate) fn new(id: u32, entry: Arc<Entry>, writer: Arc<Writer>, bulk_bytes_max: u64) -> Self {
        let messages_max = entry.access.limits().messages.max(INITIAL_CREDIT);
        Self {
            id,
            entry,
            writer,
            messages_max,
            bulk_bytes_max,
            messages_held: AtomicU32::new(0),
            messages_returned: AtomicU32::new(0),
            bulk_bytes_held: AtomicU64::new(0),
            transfers: Mutex::default(),
        }
    }

    pub(crate) fn messages_max(&self) -> u32 {
        self.messages_max
    }

    pub(crate) fn bulk_bytes_max(&self) -> u64 {
        self.bulk_bytes_max
    }

    /// Takes credit for one message; `None` where the peer has sent more than it was granted.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Credit> {
        let held = self.messages_held.fetch_add(1, Ordering::Relaxed) + 1;
        (held <= self.messages_max).then(|| Credit::of(self.clone()))
    }

    /// Takes room for a payload; `None` where the peer has sent more than it was granted.
    pub(crate) fn take_bulk(self: &Arc<Self>, bytes: u64) -> Option<BulkRoom> {
        let held = self.bulk_bytes_held.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        (held <= self.bulk_bytes_max).then(|| BulkRoom { channel: self.clone(), bytes })
    }

    /// Tells the sender that the actor takes no more messages. What it has sent until it knows is still taken.
    pub(crate) fn close(&self) {
        let closed = Closed { channel: self.id, refusal: Refusal::NoSuchActor };
        let sent = self.writer.push_notice(Urgency::Now, |buffer| frame::put_struct(buffer, tag::CLOSED, &closed));
        debug_assert!(sent.is_ok(), "a short refusal always fits into a frame");
    }

    /// One more transfer has come in; whether the channel is of no use any more.
    pub(crate) fn received(&self) -> bool {
        let mut transfers = lock(&self.transfers);
        transfers.received += 1;
        transfers.are_all_here()
    }

    /// After so many transfers the sender does not use the channel any more; whether that is so already.
    pub(crate) fn ends_after(&self, last: u64) -> bool {
        let mut transfers = lock(&self.transfers);
        transfers.last = Some(last);
        transfers.are_all_here()
    }

    /// Gives credit back in batches of a quarter of the window: one frame for many messages, and the sender never waits
    /// for the last of them.
    pub(crate) fn give_back(&self) {
        let returned = self.messages_returned.fetch_add(1, Ordering::Relaxed) + 1;
        if returned >= (self.messages_max / 4).max(1) {
            let messages = self.messages_returned.swap(0, Ordering::Relaxed);
            if messages > 0 {
                self.messages_held.fetch_sub(messages, Ordering::Relaxed);
                self.send_credit(messages, 0);
            }
        }
    }

    fn give_back_bulk(&self, bytes: u64) {
        self.bulk_bytes_held.fetch_sub(bytes, Ordering::Relaxed);
        // The handled message goes along: senders of bulk often wait for both.
        let messages = self.messages_returned.swap(0, Ordering::Relaxed);
        self.messages_held.fetch_sub(messages, Ordering::Relaxed);
        self.send_credit(messages, bytes);
    }

    fn send_credit(&self, messages: u32, bulk_bytes: u64) {
        let sent = self.writer.push_notice(Urgency::Batch, |buffer| {
            frame::put(buffer, tag::CREDIT, |buffer| {
                buffer.put_u32_le(self.id);
                buffer.put_u32_le(messages);
                buffer.put_u64_le(bulk_bytes);
                Ok(())
            })
        });
        debug_assert!(sent.is_ok(), "three numbers always fit into a frame");
    }
}

/// Room for a payload, given back to its sender when dropped.
pub(crate) struct BulkRoom {
    channel: Arc<InChannel>,
    bytes: u64,
}

impl Drop for BulkRoom {
    fn drop(&mut self) {
        self.channel.give_back_bulk(self.bytes);
    }
}

/// Where the answer to a call of a peer goes. Dropped without one, the peer is told so.
pub(crate) struct RemoteReply {
    writer: Arc<Writer>,
    call: u64,
    answered: bool,
}

impl RemoteReply {
    pub(crate) fn new(writer: Arc<Writer>, call: u64) -> Self {
        Self { writer, call, answered: false }
    }

    pub(crate) fn answer<T: serde::Serialize>(mut self, reply: &T) {
        self.answered = true;
        let pushed = self.writer.push_notice(Urgency::Now, |buffer| {
            frame::put(buffer, tag::REPLY, |buffer| {
                buffer.put_u64_le(self.call);
                codec::encode_into(reply, buffer)
            })
        });
        match pushed {
            Ok(()) => {}
            Err(CodecError::TooLarge { length, limit }) => {
                self.send_refusal(Refusal::ReplyTooLarge { length: length as u64, limit: limit as u64 });
            }
            Err(error) => self.send_refusal(Refusal::ReplyNotEncoded(frame::short(&error.to_string()))),
        }
    }

    pub(crate) fn refuse(mut self, refusal: Refusal) {
        self.answered = true;
        self.send_refusal(refusal);
    }

    fn send_refusal(&self, refusal: Refusal) {
        let failed = Failed { call: self.call, refusal };
        if let Err(error) =
            self.writer.push_notice(Urgency::Now, |buffer| frame::put_struct(buffer, tag::FAILED, &failed))
        {
            tracing::error!(%error, "a refusal could not be encoded");
        }
    }
}

impl Drop for RemoteReply {
    fn drop(&mut self) {
        if !self.answered {
            self.send_refusal(Refusal::NoReply);
        }
    }
}
