//! Typed references to actors on other nodes, and what such an actor receives.
//!
//! A [`Protocol`] names the message types of a conversation. Whoever wants to talk takes a [`RemoteRef`] from a
//! [`crate::Peer`]; whoever listens registers a ractor actor whose message type is made `From<Inbound<P>>`.
//!
//! Nothing orders a cast and a bulk transfer, or two bulk transfers, among each other: only casts and calls to one actor
//! arrive in the order they were sent. A bulk header must say what it belongs to.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{AcquireError, SemaphorePermit, TryAcquireError, oneshot};

use crate::bulk::{BulkBuffer, BulkSlice};
use crate::codec::{self, CodecError};
use crate::frame::{self, BULK_HEADER_BYTES_MAX, FRAME_BYTES_MAX, tag};
use crate::identity::Role;
use crate::inbound::{InChannel, RemoteReply};
use crate::outbound::{OutChannel, OutSlot, Reopen};
use crate::peer::Peer;
pub use crate::registry::Access;
use crate::transfer::Transfer;
use crate::writer::{PushError, Urgency};

/// The message types of one conversation.
pub trait Protocol: Send + Sync + 'static {
    /// Its name on the wire; both sides must use the same.
    const NAME: &'static str;
    /// Messages without an answer.
    type Cast: Serialize + DeserializeOwned + Send + 'static;
    /// Messages with an answer.
    type Request: Serialize + DeserializeOwned + Send + 'static;
    /// The answers.
    type Reply: Serialize + DeserializeOwned + Send + 'static;
    /// What is said about a bulk payload.
    type BulkHeader: Serialize + DeserializeOwned + Send + 'static;
}

/// Why a message did not reach an actor, or no answer came back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// No credit is left: the actor has not yet taken what was sent before. Try later, or use a sending method that waits.
    #[error("actor `{actor}` has as many messages waiting as it takes")]
    Busy {
        /// The actor's name.
        actor: String,
    },
    /// Nothing of that name is registered there.
    #[error("no actor `{actor}` at the peer")]
    NoSuchActor {
        /// The name asked for.
        actor: String,
    },
    /// The actor is registered under another protocol.
    #[error("actor `{actor}` speaks {theirs}, not {ours}")]
    WrongProtocol {
        /// The actor's name.
        actor: String,
        /// What was asked for.
        ours: String,
        /// What it speaks.
        theirs: String,
    },
    /// The peer does not let this role talk to that actor.
    #[error("this role may not talk to `{actor}`")]
    Forbidden {
        /// The actor or factory asked for.
        actor: String,
    },
    /// No factory of that name is registered there.
    #[error("no factory `{factory}` at the peer")]
    NoSuchFactory {
        /// The name asked for.
        factory: String,
    },
    /// The factory would not or could not start an actor.
    #[error("factory `{factory}` refused: {reason}")]
    SpawnRefused {
        /// The factory.
        factory: String,
        /// Its reason.
        reason: String,
    },
    /// No answer in time. The request may or may not have been handled.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The actor dropped the request without an answer, for example because it stopped.
    #[error("the actor gave no answer")]
    NoReply,
    /// Larger than a message or a transfer may be.
    #[error("{length} bytes are more than the {limit} allowed here")]
    TooLarge {
        /// What was asked for.
        length: u64,
        /// The limit.
        limit: u64,
    },
    /// A limit of the peer other than credit was reached.
    #[error("the peer is at its limit: {what}")]
    Overloaded {
        /// Which limit.
        what: String,
    },
    /// The message could not be encoded, or the answer could not be decoded.
    #[error("codec: {0}")]
    Codec(String),
    /// The peer does not know this kind of frame; it runs an older build.
    #[error("the peer does not support frame {tag}")]
    Unsupported {
        /// The frame's tag.
        tag: u16,
    },
    /// The connection is gone.
    #[error("the peer is down: {0}")]
    PeerDown(String),
}

impl RemoteError {
    /// Whether the same message may succeed later over the same connection.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::Timeout(_) | Self::NoSuchActor { .. } | Self::Overloaded { .. })
    }
}

/// An actor on another node, as far as this process may know it. Cheap to clone. It outlives neither the connection nor
/// the actor, and says so when used; after a refusal the actor is asked for again, so a reference may be taken before the
/// actor is there.
pub struct RemoteRef<P: Protocol> {
    peer: Peer,
    slot: Arc<OutSlot>,
    protocol: PhantomData<fn() -> P>,
}

impl<P: Protocol> Clone for RemoteRef<P> {
    fn clone(&self) -> Self {
        Self { peer: self.peer.clone(), slot: self.slot.clone(), protocol: PhantomData }
    }
}

impl<P: Protocol> fmt::Debug for RemoteRef<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteRef({} at {})", self.slot.actor, self.peer.role())
    }
}

impl<P: Protocol> RemoteRef<P> {
    pub(crate) fn new(peer: Peer, slot: Arc<OutSlot>) -> Self {
        Self { peer, slot, protocol: PhantomData }
    }

    /// The name the actor is registered under.
    pub fn name(&self) -> &str {
        &self.slot.actor
    }

    /// Who hosts it.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Waits until the peer has said whether the actor is there. Casts after that are lost only with the actor or its peer;
    /// without it, the first ones are on their way before anybody knows.
    ///
    /// # Errors
    ///
    /// [`RemoteError`] where it is not there, or not for this process.
    pub async fn opened(&self) -> Result<(), RemoteError> {
        self.slot.channel(Reopen::AtOnce)?.bulk_bytes_max().await.map(drop)
    }

    /// Whether the peer has said that the actor is there, and not since that it is gone.
    pub fn is_open(&self) -> bool {
        self.peer.is_alive() && self.slot.is_open()
    }

    /// Sends a message without an answer; waits while the actor has no credit to give.
    ///
    /// # Errors
    ///
    /// [`RemoteError`] where it cannot be sent. `Ok` says that it was sent, not that it was handled: the first casts to
    /// an actor that is not there are lost, later ones get the refusal.
    pub async fn cast(&self, message: P::Cast) -> Result<(), RemoteError> {
        let channel = self.slot.channel(Reopen::Later)?;
        let permit = match channel.messages.try_acquire() {
            Ok(permit) => permit,
            Err(_) => acquire(&channel, channel.messages.acquire().await)?,
        };
        let late = AtomicBool::new(false);
        let fill = |buffer: &mut BytesMut| unless_closed(&channel, &late, || put_cast(buffer, &channel, &message));
        let pushed = match self.peer.writer().push(Urgency::Batch, fill) {
            Err(PushError::Full) => self.peer.writer().push_wait(Urgency::Batch, fill).await,
            other => other,
        };
        self.sent(&channel, permit, pushed, &late)
    }

    /// As [`Self::cast`], but never waits.
    ///
    /// # Errors
    ///
    /// [`RemoteError::Busy`] without credit.
    pub fn try_cast(&self, message: P::Cast) -> Result<(), RemoteError> {
        let channel = self.slot.channel(Reopen::Later)?;
        let permit = match channel.messages.try_acquire() {
            Ok(permit) => permit,
            Err(TryAcquireError::NoPermits) => return Err(self.busy()),
            Err(TryAcquireError::Closed) => return Err(channel.error()),
        };
        let late = AtomicBool::new(false);
        let pushed = self
            .peer
            .writer()
            .push(Urgency::Batch, |buffer| unless_closed(&channel, &late, || put_cast(buffer, &channel, &message)));
        self.sent(&channel, permit, pushed, &late)
    }

    /// Sends a request and waits for its answer, credit included, for at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`RemoteError`] where no answer comes.
    pub async fn call(&self, request: P::Request, timeout: Duration) -> Result<P::Reply, RemoteError> {
        let answered = tokio::time::timeout(timeout, self.call_unlimited(&request)).await;
        answered.unwrap_or(Err(RemoteError::Timeout(timeout)))
    }

    /// Sends a header and a payload on a stream of its own, without copying the payload; waits while the actor has no
    /// credit to give. Returns when all of it was handed to the transport. Once begun, a transfer is finished even where
    /// the caller stops waiting, and arrives even where the last reference to the actor is dropped meanwhile.
    ///
    /// # Errors
    ///
    /// [`RemoteError::TooLarge`] where the payload is larger than the actor takes in one piece.
    pub async fn send_bulk(&self, header: P::BulkHeader, payload: &[BulkSlice]) -> Result<(), RemoteError> {
        let length: u64 = payload.iter().map(|slice| slice.len() as u64).sum();
        let channel = self.slot.channel(Reopen::AtOnce)?;
        let limit = channel.bulk_bytes_max().await?;
        if length > limit {
            return Err(RemoteError::TooLarge { length, limit });
        }
        let room = u32::try_from(length).expect("no limit is larger than BULK_BYTES_MAX, which fits");
        let head = bulk_head(channel.id, length, &header)?;
        let message = acquire(&channel, channel.messages.acquire().await)?;
        let bytes = acquire(&channel, channel.bulk_bytes.acquire_many(room).await)?;
        let stream = self.peer.connection().open_uni().await.map_err(|_| self.peer.down_error())?;
        channel.begin_transfer();
        message.forget();
        bytes.forget();
        let mut chunks = vec![head.freeze()];
        chunks.extend(payload.iter().filter(|slice| !slice.is_empty()).map(BulkSlice::bytes));
        Transfer::new(stream, chunks).send().await.map_err(|_| self.peer.down_error())
    }

    async fn call_unlimited(&self, request: &P::Request) -> Result<P::Reply, RemoteError> {
        let channel = self.slot.channel(Reopen::AtOnce)?;
        let was_open = channel.is_open();
        match self.call_on(&channel, request).await {
            // The actor has ended since; there may be another one by that name, and this one never had the request.
            Err(RemoteError::NoSuchActor { .. }) if was_open => {
                self.call_on(&*self.slot.channel(Reopen::AtOnce)?, request).await
            }
            other => other,
        }
    }

    async fn call_on(&self, channel: &OutChannel, request: &P::Request) -> Result<P::Reply, RemoteError> {
        let permit = match channel.messages.try_acquire() {
            Ok(permit) => permit,
            Err(_) => acquire(channel, channel.messages.acquire().await)?,
        };
        let mut pending = self.peer.outgoing().begin_call(&self.slot)?;
        let (id, late) = (pending.id, AtomicBool::new(false));
        let put = |buffer: &mut BytesMut| {
            frame::put(buffer, tag::CALL, |buffer| {
                buffer.put_u32_le(channel.id);
                buffer.put_u64_le(id);
                codec::encode_into(request, buffer)
            })
        };
        let fill = |buffer: &mut BytesMut| unless_closed(channel, &late, || put(buffer));
        let pushed = self.peer.writer().push_wait(Urgency::Now, fill).await;
        self.sent(channel, permit, pushed, &late)?;
        let answer = pending.answer().await?;
        codec::decode::<P::Reply, FRAME_BYTES_MAX>(&answer).map_err(|error| RemoteError::Codec(error.to_string()))
    }

    /// Credit is used up only by a message that was taken.
    fn sent(
        &self,
        channel: &OutChannel,
        permit: SemaphorePermit<'_>,
        pushed: Result<(), PushError>,
        late: &AtomicBool,
    ) -> Result<(), RemoteError> {
        match pushed {
            Ok(()) if late.load(Ordering::Relaxed) => Err(channel.error()),
            Ok(()) => {
                permit.forget();
                Ok(())
            }
            Err(PushError::Full) => Err(self.busy()),
            Err(PushError::Closed) => Err(self.peer.down_error()),
            Err(PushError::Codec(error)) => Err(error.into()),
        }
    }

    fn busy(&self) -> RemoteError {
        RemoteError::Busy { actor: self.slot.actor.clone() }
    }
}

fn acquire<'a>(
    channel: &OutChannel,
    permit: Result<SemaphorePermit<'a>, AcquireError>,
) -> Result<SemaphorePermit<'a>, RemoteError> {
    permit.map_err(|_| channel.error())
}

/// Puts a message, unless its channel was closed meanwhile and it came `late`.
fn unless_closed(
    channel: &OutChannel,
    late: &AtomicBool,
    put: impl FnOnce() -> Result<(), CodecError>,
) -> Result<(), CodecError> {
    match channel.is_closed() {
        true => {
            late.store(true, Ordering::Relaxed);
            Ok(())
        }
        false => put(),
    }
}

fn put_cast<T: Serialize>(buffer: &mut BytesMut, channel: &OutChannel, message: &T) -> Result<(), CodecError> {
    frame::put(buffer, tag::CAST, |buffer| {
        buffer.put_u32_le(channel.id);
        codec::encode_into(message, buffer)
    })
}

/// The frame in front of a payload.
fn bulk_head<T: Serialize>(channel: u32, length: u64, header: &T) -> Result<BytesMut, RemoteError> {
    let mut head = BytesMut::with_capacity(128);
    frame::put(&mut head, tag::BULK, |buffer| {
        buffer.put_u32_le(channel);
        buffer.put_u64_le(length);
        codec::encode_into(header, buffer)
    })?;
    match head.len() {
        length if length > BULK_HEADER_BYTES_MAX => {
            Err(RemoteError::TooLarge { length: length as u64, limit: BULK_HEADER_BYTES_MAX as u64 })
        }
        _ => Ok(head),
    }
}

impl From<CodecError> for RemoteError {
    fn from(error: CodecError) -> Self {
        match error {
            CodecError::TooLarge { length, limit } => Self::TooLarge { length: length as u64, limit: limit as u64 },
            other => Self::Codec(other.to_string()),
        }
    }
}

/// What an actor receives from another node. Every variant holds a [`Credit`]: keep it until the message is handled.
pub enum Inbound<P: Protocol> {
    /// A message without an answer.
    Cast {
        /// The sender, as its certificate says.
        from: Role,
        /// The message.
        message: P::Cast,
        /// Given back to the sender when dropped.
        credit: Credit,
    },
    /// A message that waits for an answer.
    Call {
        /// The sender, as its certificate says.
        from: Role,
        /// The request.
        request: P::Request,
        /// Where the answer goes.
        reply: ReplyTo<P>,
        /// Given back to the sender when dropped.
        credit: Credit,
    },
    /// A header with a payload.
    Bulk {
        /// The sender, as its certificate says.
        from: Role,
        /// What the payload is.
        header: P::BulkHeader,
        /// The payload; its bytes are given back to the sender when it is dropped.
        payload: BulkBuffer,
        /// Given back to the sender when dropped.
        credit: Credit,
    },
}

/// Room in an actor's mailbox, given back to the sender when dropped.
pub struct Credit {
    channel: Option<Arc<InChannel>>,
}

impl Credit {
    /// Credit that belongs to nobody, for messages an actor sends itself.
    pub fn local() -> Self {
        Self { channel: None }
    }

    pub(crate) fn of(channel: Arc<InChannel>) -> Self {
        Self { channel: Some(channel) }
    }
}

impl fmt::Debug for Credit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(if self.channel.is_some() { "Credit(remote)" } else { "Credit(local)" })
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        if let Some(channel) = &self.channel {
            channel.give_back();
        }
    }
}

/// Where the answer to a call goes. Dropped without an answer, the caller gets [`RemoteError::NoReply`].
pub struct ReplyTo<P: Protocol>(ReplyPath<P>);

enum ReplyPath<P: Protocol> {
    Remote(RemoteReply),
    Local(oneshot::Sender<P::Reply>),
}

impl<P: Protocol> ReplyTo<P> {
    pub(crate) fn remote(reply: RemoteReply) -> Self {
        Self(ReplyPath::Remote(reply))
    }

    /// An answer that is awaited in this process, and where it arrives.
    pub fn local() -> (Self, oneshot::Receiver<P::Reply>) {
        let (sender, receiver) = oneshot::channel();
        (Self(ReplyPath::Local(sender)), receiver)
    }

    /// Answers the call. An answer that cannot be encoded or is too large reaches the caller as an error.
    pub fn send(self, reply: P::Reply) {
        match self.0 {
            ReplyPath::Remote(remote) => remote.answer(&reply),
            ReplyPath::Local(sender) => {
                let _ = sender.send(reply);
            }
        }
    }
}

impl<P: Protocol> fmt::Debug for ReplyTo<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("ReplyTo(..)")
    }
}
