//! Typed references to actors on other nodes, and what such an actor receives.
//!
//! A [`Protocol`] names the message types of a conversation. Whoever wants to talk takes a [`RemoteRef`] from a
//! [`crate::Peer`]; whoever listens registers a ractor actor whose message type is made `From<Inbound<P>>`.
//!
//! Nothing orders a cast and a bulk transfer, or two bulk transfers, among each other: only casts and calls to one actor
//! arrive in the order they were sent. A bulk header must say what it belongs to.

use std::marker::PhantomData;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bulk::{BulkBuffer, BulkSlice};
use crate::identity::Role;
pub use crate::registry::Access;

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

/// An actor on another node, as far as this process may know it. Cheap to clone; outlives neither the connection nor the
/// actor, and says so when used.
pub struct RemoteRef<P: Protocol> {
    protocol: PhantomData<fn() -> P>,
}

impl<P: Protocol> Clone for RemoteRef<P> {
    fn clone(&self) -> Self {
        Self { protocol: PhantomData }
    }
}

impl<P: Protocol> RemoteRef<P> {
    /// The name the actor is registered under.
    pub fn name(&self) -> &str {
        unimplemented!()
    }

    /// Who hosts it.
    pub fn peer(&self) -> &crate::Peer {
        unimplemented!()
    }

    /// Sends a message without an answer; waits while the actor has no credit to give.
    ///
    /// # Errors
    ///
    /// [`RemoteError`] where it cannot be sent. `Ok` says that it was sent, not that it was handled.
    pub async fn cast(&self, message: P::Cast) -> Result<(), RemoteError> {
        let _ = message;
        unimplemented!()
    }

    /// As [`Self::cast`], but never waits.
    ///
    /// # Errors
    ///
    /// [`RemoteError::Busy`] without credit.
    pub fn try_cast(&self, message: P::Cast) -> Result<(), RemoteError> {
        let _ = message;
        unimplemented!()
    }

    /// Sends a request and waits for its answer, credit included, for at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`RemoteError`] where no answer comes.
    pub async fn call(&self, request: P::Request, timeout: Duration) -> Result<P::Reply, RemoteError> {
        let _ = (request, timeout);
        unimplemented!()
    }

    /// Sends a header and a payload on a stream of its own, without copying the payload; waits while the actor has no
    /// credit to give. Returns when all of it was handed to the transport.
    ///
    /// # Errors
    ///
    /// [`RemoteError::TooLarge`] where the payload is larger than the actor takes in one piece.
    pub async fn send_bulk(&self, header: P::BulkHeader, payload: &[BulkSlice]) -> Result<(), RemoteError> {
        let _ = (header, payload);
        unimplemented!()
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
#[derive(Debug)]
pub struct Credit {
    held: Option<()>,
}

impl Credit {
    /// Credit that belongs to nobody, for messages an actor sends itself.
    pub fn local() -> Self {
        Self { held: None }
    }
}

/// Where the answer to a call goes. Dropped without an answer, the caller gets [`RemoteError::NoReply`].
pub struct ReplyTo<P: Protocol> {
    protocol: PhantomData<fn() -> P>,
}

impl<P: Protocol> ReplyTo<P> {
    /// Answers the call. An answer that cannot be encoded reaches the caller as an error.
    pub fn send(self, reply: P::Reply) {
        let _ = reply;
        unimplemented!()
    }

    /// An answer that is awaited in this process, and where it arrives.
    pub fn local() -> (Self, tokio::sync::oneshot::Receiver<P::Reply>) {
        unimplemented!()
    }
}
