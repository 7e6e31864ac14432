//! Sending messages to actors, wherever they are.

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use neap_scheduler::model::WorkerId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::sync::TryAcquireError;

use super::actor::Actor;
use super::address::{Address, decode_at, decoding, encode};
use super::children::Exit;
use super::node::System;
use super::running::Running;
use super::shell::ShellMsg;
use super::stream::Items;
use crate::codec::CodecError;
use crate::lock;
use crate::remote::{Credit, Inbound, RemoteError, RemoteRef, ReplyTo};
use crate::wire::actors::{OwnActorProtocol, OwnReply, OwnRequest};

/// Why a message did not reach an actor, or no answer came back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ActorError {
    /// Its mailbox is full, or it is being started. Try later, or use a sending method that waits.
    #[error("{0} has as many messages waiting as it takes, or is being started")]
    Busy(Address),
    /// It has ended and is not started again.
    #[error("{address} has ended: {exit}")]
    Ended {
        /// The actor.
        address: Address,
        /// How.
        exit: Exit,
    },
    /// Not in time. A request may or may not have been handled.
    #[error("not within {0:?}")]
    Timeout(Duration),
    /// The actor or its worker went away with the request, which may or may not have been handled.
    #[error("no answer from {0}; the request may or may not have been handled")]
    NoAnswer(Address),
    /// The request failed the actor again and again, and was laid aside.
    #[error("{address} cannot handle the request: {why}")]
    DeadLetter {
        /// The actor.
        address: Address,
        /// What happened the last time.
        why: String,
    },
    /// Its worker has too many streams open, or another of its limits is reached.
    #[error("the worker of {address} is at a limit: {what}")]
    Overloaded {
        /// The actor.
        address: Address,
        /// Which limit.
        what: String,
    },
    /// The message is too large or cannot be encoded, or the answer cannot be decoded.
    #[error("a message cannot be encoded or decoded: {0}")]
    Codec(String),
    /// The handle was decoded outside of a message, so that there is nothing to send with.
    #[error("this handle of {0} did not come in a message; get it from whoever started the actor")]
    Unbound(Address),
}

impl From<CodecError> for ActorError {
    fn from(error: CodecError) -> Self {
        Self::Codec(error.to_string())
    }
}

/// The way to where an actor runs now.
#[derive(Clone)]
pub(super) enum Route {
    Local(Arc<Running>),
    Remote(WorkerId, RemoteRef<OwnActorProtocol>),
}

/// An actor, wherever it runs. Cheap to clone; can be sent in messages to other actors. It outlives the actor and says
/// so when used.
///
/// The messages of one handle to one incarnation of an actor arrive in the order they were sent in.
pub struct Handle<A: Actor> {
    address: Address,
    system: Option<System>,
    route: Arc<Mutex<Option<Route>>>,
    of: PhantomData<fn(A)>,
}

impl<A: Actor> Handle<A> {
    pub(super) fn new(system: System, address: Address) -> Self {
        Self { address, system: Some(system), route: Arc::default(), of: PhantomData }
    }

    /// Its name among all actors of the job.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Sends a message without an answer; waits while the mailbox is full or the actor is being started again. `Ok` says
    /// that it is on its way or waits in the mailbox; it is lost where the actor's worker is.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// async fn example(context: Context, (): ()) -> Result<(), Fault> {
    ///     let log = context.spawn::<Log>(Spawn::named("log"), &()).await?;
    ///     log.send(&"one line".to_owned()).await?;
    ///     // What is sent before a call is handled before it.
    ///     assert_eq!(log.call(&(), Duration::from_secs(10)).await?, 1);
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ActorError`] where it cannot be sent.
    pub async fn send(&self, message: &A::Cast) -> Result<(), ActorError> {
        self.send_bytes(encode(message)?).await
    }

    /// As [`Self::send`], but waits no longer than `within`.
    ///
    /// # Errors
    ///
    /// [`ActorError::Timeout`] where it was not sent in time.
    pub async fn send_deadline(&self, message: &A::Cast, within: Duration) -> Result<(), ActorError> {
        let sent = tokio::time::timeout(within, self.send(message)).await;
        sent.unwrap_or(Err(ActorError::Timeout(within)))
    }

    /// As [`Self::send`], but never waits.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// async fn example(context: Context, (): ()) -> Result<(), Fault> {
    ///     let log = context.spawn::<Log>(Spawn::named("log").mailbox(16), &()).await?;
    ///     // The first message finds out where the actor is.
    ///     log.send(&"slow".to_owned()).await?;
    ///     let busy = (0..17).find_map(|_| log.try_send(&"more".to_owned()).err());
    ///     assert!(matches!(busy, Some(ActorError::Busy(_))));
    ///     // For a bounded time: `send_deadline`.
    ///     let late = log.send_deadline(&"more".to_owned(), Duration::from_millis(1)).await;
    ///     assert!(matches!(late, Err(ActorError::Timeout(_))));
    ///     log.send_deadline(&"more".to_owned(), Duration::from_secs(10)).await?;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ActorError::Busy`] where the mailbox is full, and where it is not yet known where the actor runs; it is looked
    /// for then.
    pub fn try_send(&self, message: &A::Cast) -> Result<(), ActorError> {
        let bytes = encode(message)?;
        let route = lock(&self.route).clone().filter(is_open);
        let sent = match route {
            None => {
                let handle = self.clone();
                // Whether it is found shows with the next message.
                tokio::spawn(async move { handle.route().await.is_ok() });
                return Err(ActorError::Busy(self.address.clone()));
            }
            Some(Route::Local(running)) => match running.room.clone().try_acquire_owned() {
                Err(TryAcquireError::NoPermits) => return Err(ActorError::Busy(self.address.clone())),
                Err(TryAcquireError::Closed) => Err(()),
                Ok(permit) => running.send(ShellMsg::Local(self.local_cast(bytes)?, permit)),
            },
            Some(Route::Remote(_, actor)) => match actor.try_cast(bytes) {
                Ok(()) => Ok(()),
                Err(RemoteError::TooLarge { length, limit }) => {
                    return Err(ActorError::Codec(format!("{length} bytes are more than {limit}")));
                }
                Err(RemoteError::Busy { .. }) => return Err(ActorError::Busy(self.address.clone())),
                Err(_) => Err(()),
            },
        };
        sent.map_err(|()| {
            self.forget_route();
            ActorError::Busy(self.address.clone())
        })
    }

    /// Sends a request and waits for its answer, for at most `within`, also while the actor is being started again
    /// before it has the request. Handled at most once: with [`ActorError::NoAnswer`] and [`ActorError::Timeout`] it is
    /// not known whether it was.
    ///
    /// # Errors
    ///
    /// [`ActorError`] where no answer comes.
    pub async fn call(&self, request: &A::Request, within: Duration) -> Result<A::Reply, ActorError> {
        let request = OwnRequest::Call(encode(request)?);
        let answered = tokio::time::timeout(within, self.ask(&request, within)).await;
        self.reply(answered.unwrap_or(Err(ActorError::Timeout(within)))?)
    }

    /// As [`Self::call`], but asks again where the actor or its worker went away with the request: handled at least
    /// once where it succeeds, perhaps more often. For requests that may be repeated.
    ///
    /// # Errors
    ///
    /// [`ActorError`] where no answer comes within `within`, over all tries.
    pub async fn call_repeatable(&self, request: &A::Request, within: Duration) -> Result<A::Reply, ActorError> {
        let request = OwnRequest::Call(encode(request)?);
        let tries = async {
            loop {
                match self.ask(&request, within).await {
                    Err(ActorError::NoAnswer(_)) => self.system()?.pause().await,
                    other => return other,
                }
            }
        };
        let answered = tokio::time::timeout(within, tries).await;
        self.reply(answered.unwrap_or(Err(ActorError::Timeout(within)))?)
    }

    /// Sends a request that is answered with many items; waits for the stream to open for at most `within`. The actor is never
    /// more than [`super::STREAM_ITEMS_MAX`] items ahead of its reader.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// async fn example(context: Context, (): ()) -> Result<(), Fault> {
    ///     let log = context.spawn::<Log>(Spawn::named("log"), &()).await?;
    ///     for line in ["one", "two", "three"] {
    ///         log.send(&line.to_owned()).await?;
    ///     }
    ///     let mut lines = log.stream(&(), Duration::from_secs(10)).await?;
    ///     assert_eq!(lines.next().await?.as_deref(), Some("one"));
    ///     assert_eq!(lines.collect().await?, ["two", "three"]);
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ActorError`] where it does not open.
    pub async fn stream(&self, request: &A::Request, within: Duration) -> Result<Items<A::Item>, ActorError> {
        let request = OwnRequest::Stream(encode(request)?);
        let opening = async { Ok((self.ask(&request, within).await?, self.worker()?)) };
        let answered = tokio::time::timeout(within, opening).await;
        match answered.unwrap_or(Err(ActorError::Timeout(within)))? {
            (OwnReply::Stream(stream), worker) => Ok(Items::new(self.system()?.clone(), worker, stream)),
            (OwnReply::DeadLetter(why), _) => Err(ActorError::Overloaded { address: self.address.clone(), what: why }),
            (OwnReply::Reply(_), _) => Err(ActorError::Codec("a reply instead of a stream".to_owned())),
        }
    }

    /// Waits for the actor's end for good; restarts are none. For whoever has a handle, on any worker.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// async fn example(context: Context, (): ()) -> Result<(), Fault> {
    ///     let spawn = Spawn::named("log").on_failure(OnFailure::Stop);
    ///     let log = context.spawn::<Log>(spawn, &()).await?;
    ///     log.send(&"panic".to_owned()).await?;
    ///     assert_eq!(log.ended().await?, Exit::Failed("panicked: told to".to_owned()));
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ActorError::Unbound`].
    pub async fn ended(&self) -> Result<Exit, ActorError> {
        Ok(self.system()?.await_end(&self.address).await)
    }

    pub(super) fn system(&self) -> Result<&System, ActorError> {
        self.system.as_ref().ok_or_else(|| ActorError::Unbound(self.address.clone()))
    }

    async fn send_bytes(&self, bytes: Bytes) -> Result<(), ActorError> {
        loop {
            let sent = match self.route().await? {
                Route::Local(running) => match running.room.clone().acquire_owned().await {
                    Ok(permit) => running.send(ShellMsg::Local(self.local_cast(bytes.clone())?, permit)),
                    Err(_) => Err(()),
                },
                Route::Remote(_, actor) => match actor.cast(bytes.clone()).await {
                    Ok(()) => Ok(()),
                    Err(error) => self.may_be_sent_again(error).map(Err)?,
                },
            };
            match sent {
                Ok(()) => return Ok(()),
                Err(()) => self.look_again().await?,
            }
        }
    }

    async fn ask(&self, request: &OwnRequest, within: Duration) -> Result<OwnReply, ActorError> {
        loop {
            match self.route().await? {
                Route::Local(running) => {
                    let (reply, answer) = ReplyTo::<OwnActorProtocol>::local();
                    let from = self.system()?.role();
                    let inbound = Inbound::Call { from, request: request.clone(), reply, credit: Credit::local() };
                    let sent = match running.room.clone().acquire_owned().await {
                        Ok(permit) => running.send(ShellMsg::Local(inbound, permit)),
                        Err(_) => Err(()),
                    };
                    if sent.is_ok() {
                        return answer.await.map_err(|_| ActorError::NoAnswer(self.address.clone()));
                    }
                }
                Route::Remote(_, actor) => match actor.call(request.clone(), within).await {
                    Ok(reply) => return Ok(reply),
                    Err(RemoteError::NoReply | RemoteError::PeerDown(_)) => {
                        self.forget_route();
                        return Err(ActorError::NoAnswer(self.address.clone()));
                    }
                    Err(error) => self.may_be_sent_again(error)?,
                },
            }
            self.look_again().await?;
        }
    }

    fn reply(&self, reply: OwnReply) -> Result<A::Reply, ActorError> {
        match reply {
            OwnReply::Reply(bytes) => Ok(decode_at(self.system()?, &bytes)?),
            OwnReply::DeadLetter(why) => Err(ActorError::DeadLetter { address: self.address.clone(), why }),
            OwnReply::Stream(_) => Err(ActorError::Codec("a stream instead of a reply".to_owned())),
        }
    }

    /// The way there: the one known, where it is still open, or the one that its supervisor knows.
    async fn route(&self) -> Result<Route, ActorError> {
        let known = lock(&self.route).clone().filter(is_open);
        if let Some(route) = known {
            return Ok(route);
        }
        let route = self.system()?.find(&self.address).await?;
        *lock(&self.route) = Some(route.clone());
        Ok(route)
    }

    /// Where the actor ran when it was last asked.
    fn worker(&self) -> Result<WorkerId, ActorError> {
        match &*lock(&self.route) {
            Some(Route::Remote(worker, _)) => Ok(*worker),
            Some(Route::Local(_)) => Ok(self.system()?.worker()),
            None => Err(ActorError::NoAnswer(self.address.clone())),
        }
    }

    fn forget_route(&self) {
        lock(&self.route).take();
    }

    async fn look_again(&self) -> Result<(), ActorError> {
        self.forget_route();
        self.system()?.pause().await;
        Ok(())
    }

    fn local_cast(&self, message: Bytes) -> Result<Inbound<OwnActorProtocol>, ActorError> {
        Ok(Inbound::Cast { from: self.system()?.role(), message, credit: Credit::local() })
    }

    /// `Ok` where the message was certainly not taken, because the actor has moved or this worker is not yet known there.
    fn may_be_sent_again(&self, error: RemoteError) -> Result<(), ActorError> {
        let address = || self.address.clone();
        match error {
            RemoteError::NoSuchActor { .. } | RemoteError::Forbidden { .. } | RemoteError::PeerDown(_) => Ok(()),
            RemoteError::Busy { .. } => Err(ActorError::Busy(address())),
            RemoteError::Timeout(within) => Err(ActorError::Timeout(within)),
            RemoteError::NoReply => Err(ActorError::NoAnswer(address())),
            RemoteError::Overloaded { what } => Err(ActorError::Overloaded { address: address(), what }),
            other => Err(ActorError::Codec(other.to_string())),
        }
    }
}

fn is_open(route: &Route) -> bool {
    match route {
        Route::Local(running) => running.is_alive(),
        Route::Remote(_, actor) => actor.is_open(),
    }
}

impl<A: Actor> Clone for Handle<A> {
    fn clone(&self) -> Self {
        Self { address: self.address.clone(), system: self.system.clone(), route: self.route.clone(), of: PhantomData }
    }
}

impl<A: Actor> PartialEq for Handle<A> {
    fn eq(&self, other: &Self) -> bool {
        self.address == other.address
    }
}

impl<A: Actor> Eq for Handle<A> {}

impl<A: Actor> fmt::Debug for Handle<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({})", self.address)
    }
}

impl<A: Actor> Serialize for Handle<A> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.address.serialize(serializer)
    }
}

impl<'de, A: Actor> Deserialize<'de> for Handle<A> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let address = Address::deserialize(deserializer)?;
        if address.kind != A::NAME {
            let text = format!("a handle of an actor `{}` where one of `{}` is expected", address.kind, A::NAME);
            return Err(serde::de::Error::custom(text));
        }
        Ok(Self { address, system: decoding(), route: Arc::default(), of: PhantomData })
    }
}
