//! Runs one own actor: takes its messages in order, begins anew after a failure, lays poison aside, ends in order.
//!
//! A shell outlives the failures of its actor and keeps the messages that wait; whether it begins anew is decided by the
//! actor's supervisor. The message that failed the actor is tried again first: it is not lost with a failure that was
//! not its own. After [`POISON_CRASHES`] tries it is laid aside.

use std::marker::PhantomData;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use ractor::{ActorProcessingErr, ActorRef};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::actor::{Actor, ChildExit, guarded};
use super::address::{Address, decode_at, encode};
use super::children::{Directive, Parent};
use super::context::Context;
use super::dead_letters::DeadLetter;
use super::host::HostMsg;
use super::leave::left_until;
use super::node::System;
use super::running::{Running, Signals};
use crate::lock;
use crate::registry::{Access, MailboxLimits};
use crate::remote::{Inbound, ReplyTo};
use crate::wire::actors::{Incarnation, OwnActorProtocol, OwnReply, OwnRequest, StartActor};

/// How often a message may fail its actor before it is laid aside.
pub const POISON_CRASHES: u32 = 3;

/// How long an actor's end may take where nobody says otherwise: the messages that wait, its children, its last words.
pub(super) const STOP_GRACE: Duration = Duration::from_secs(5);

/// A message to a shell.
pub(super) enum ShellMsg {
    /// From another process.
    Remote(Inbound<OwnActorProtocol>),
    /// From this process, with the room it takes.
    Local(Inbound<OwnActorProtocol>, OwnedSemaphorePermit),
    /// A child has ended for good.
    ChildExited(ChildExit),
    /// A child has failed for good, and this actor fails with it; why lies in [`Signals::escalated`].
    Escalated,
    /// A node has to go; when lies in [`Signals::notice`].
    Notice,
    /// Leave before then, to begin anew elsewhere.
    Leave(Instant),
    /// End once what waits is handled.
    Stop(Duration),
}

impl From<Inbound<OwnActorProtocol>> for ShellMsg {
    fn from(inbound: Inbound<OwnActorProtocol>) -> Self {
        Self::Remote(inbound)
    }
}

/// The name under which an incarnation is registered for other workers.
pub(super) fn wire_name(of: Incarnation) -> String {
    format!("own/{}/{}/{}", of.home, of.child, of.incarnation)
}

/// Starts an actor in this process. On an error nothing of it is left.
pub(super) async fn start<A: Actor>(system: System, start: StartActor) -> Result<Arc<Running>, String> {
    let StartActor { of, path, kind, args, mailbox } = start;
    let number = system.next_number();
    let me = Parent::Actor(number);
    let context = Context {
        system: system.clone(),
        path: path.clone(),
        me,
        address: Some(Address { kind, home: of.home, child: of.child }),
        epoch: system.epoch(),
        saved: u64::from(of.incarnation) << 32,
        stopping: false,
    };
    let signals = Arc::<Signals>::default();
    let mut state = State::<A> { actor: None, context, args, of, signals: signals.clone() };
    if let Err(why) = state.begin().await {
        system.tell_host(HostMsg::ParentGone(me));
        return Err(why);
    }
    let spawned = ractor::Actor::spawn(None, Shell::<A>(PhantomData), state).await;
    let (sender, ended) = spawned.map_err(|error| error.to_string())?;
    let running = Arc::new(Running {
        number,
        of,
        path,
        sender: sender.clone(),
        room: Arc::new(Semaphore::new(mailbox as usize)),
        mailbox,
        registration: OnceLock::new(),
        signals,
    });
    system.add(running.clone());
    let limits = MailboxLimits { messages: mailbox, bulk_bytes: 0 };
    let access = Access::only(system.members_only()).with_limits(limits);
    let registered = system.node().register::<OwnActorProtocol, ShellMsg>(&wire_name(of), sender, access);
    let registered = registered.map(|registration| drop(running.registration.set(registration)));
    if let Err(error) = &registered {
        running.kill();
        tracing::error!(%error, actor = running.path, "an actor could not be registered");
    }
    let ended_one = running.clone();
    tokio::spawn(async move {
        // Its outcome lies in the record of the actor; a shell itself does not fail.
        let _ = ended.await;
        system.tell_host(HostMsg::ShellEnded(ended_one));
    });
    registered.map(|()| running).map_err(|error| error.to_string())
}

struct Shell<A>(PhantomData<fn(A)>);

struct State<A> {
    /// There unless the actor is between two lives.
    actor: Option<A>,
    context: Context,
    args: Bytes,
    of: Incarnation,
    signals: Arc<Signals>,
}

/// Whether the shell goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Go,
    End,
}

/// What kind of message it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Cast,
    Call,
}

/// Why a message was not handled.
enum Trouble {
    /// It, or its answer, cannot be read or written: another try is no use.
    Foreign(String),
    /// The actor failed.
    Failed(String),
}

impl<A: Actor> ractor::Actor for Shell<A> {
    type Msg = ShellMsg;
    type State = State<A>;
    type Arguments = State<A>;

    async fn pre_start(&self, _: ActorRef<ShellMsg>, state: State<A>) -> Result<State<A>, ActorProcessingErr> {
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<ShellMsg>,
        message: ShellMsg,
        state: &mut State<A>,
    ) -> Result<(), ActorProcessingErr> {
        if state.hear().await == Flow::End {
            myself.stop(None);
            return Ok(());
        }
        let flow = match message {
            // The room is given back once the message is handled.
            ShellMsg::Local(inbound, _room) => state.take(inbound).await,
            ShellMsg::Remote(inbound) => state.take(inbound).await,
            ShellMsg::ChildExited(exit) => state.child_exited(exit).await,
            ShellMsg::Escalated => state.escalated().await,
            // It was heard before anything else.
            ShellMsg::Notice => Flow::Go,
            ShellMsg::Leave(deadline) => {
                state.leave(deadline).await;
                Flow::End
            }
            ShellMsg::Stop(grace) => {
                state.finish(grace).await;
                Flow::End
            }
        };
        if flow == Flow::End {
            myself.stop(None);
        }
        Ok(())
    }
}

impl<A: Actor> State<A> {
    /// Starts the actor, for the first time or anew.
    async fn begin(&mut self) -> Result<(), String> {
        let args = decode_at::<A::Args>(&self.context.system, &self.args)
            .map_err(|error| format!("its arguments do not decode: {error}"))?;
        self.context.stopping = false;
        self.actor = Some(guarded(A::start(args, &mut self.context)).await?);
        Ok(())
    }

    async fn take(&mut self, inbound: Inbound<OwnActorProtocol>) -> Flow {
        // Each arm keeps the sender's credit until its message is handled.
        let flow = match inbound {
            Inbound::Cast { message, credit: _credit, .. } => self.message(Kind::Cast, message, None).await,
            Inbound::Call { request: OwnRequest::Call(bytes), reply, credit: _credit, .. } => {
                self.message(Kind::Call, bytes, Some(reply)).await
            }
            Inbound::Call { request: OwnRequest::Stream(bytes), from, reply, credit: _credit } => {
                self.stream(from, &bytes, reply).await
            }
            Inbound::Bulk { .. } => Flow::Go,
        };
        self.after(flow).await
    }

    /// Handles a message, again and again if need be.
    async fn message(&mut self, kind: Kind, bytes: Bytes, mut reply: Option<ReplyTo<OwnActorProtocol>>) -> Flow {
        for crashes in 1..=POISON_CRASHES {
            match self.try_once(kind, &bytes).await {
                Ok(answer) => {
                    if let (Some(reply), Some(answer)) = (reply.take(), answer) {
                        reply.send(OwnReply::Reply(answer));
                    }
                    return Flow::Go;
                }
                Err(Trouble::Foreign(why)) => {
                    self.lay_aside(&bytes, 0, why, reply.take());
                    return Flow::Go;
                }
                Err(Trouble::Failed(why)) => {
                    if crashes == POISON_CRASHES {
                        self.lay_aside(&bytes, crashes, why.clone(), reply.take());
                    }
                    if self.recover(why).await == Flow::End {
                        return Flow::End;
                    }
                }
            }
        }
        Flow::Go
    }

    async fn try_once(&mut self, kind: Kind, bytes: &Bytes) -> Result<Option<Bytes>, Trouble> {
        let foreign = |error: crate::codec::CodecError| Trouble::Foreign(error.to_string());
        let Some(actor) = &mut self.actor else { return Err(Trouble::Failed("it is between two lives".to_owned())) };
        match kind {
            Kind::Cast => {
                let message = decode_at::<A::Cast>(&self.context.system, bytes).map_err(foreign)?;
                guarded(actor.cast(message, &mut self.context)).await.map_err(Trouble::Failed)?;
                Ok(None)
            }
            Kind::Call => {
                let request = decode_at::<A::Request>(&self.context.system, bytes).map_err(foreign)?;
                let reply = guarded(actor.call(request, &mut self.context)).await.map_err(Trouble::Failed)?;
                encode(&reply).map(Some).map_err(foreign)
            }
        }
    }

    /// A stream is not tried again: its reader may have read a part of it, and learns that it broke off.
    async fn stream(&mut self, from: crate::identity::Role, bytes: &Bytes, reply: ReplyTo<OwnActorProtocol>) -> Flow {
        let crate::identity::Role::Worker { worker, .. } = from else { return Flow::Go };
        let request = match decode_at::<A::Request>(&self.context.system, bytes) {
            Ok(request) => request,
            Err(error) => {
                self.lay_aside(bytes, 0, error.to_string(), Some(reply));
                return Flow::Go;
            }
        };
        let Some((stream, items)) = self.context.system.streams().open::<A::Item>(worker) else {
            reply.send(OwnReply::DeadLetter("too many streams are open".to_owned()));
            return Flow::Go;
        };
        reply.send(OwnReply::Stream(stream));
        let Some(actor) = &mut self.actor else { return Flow::Go };
        match guarded(actor.stream(request, items, &mut self.context)).await {
            Ok(()) => Flow::Go,
            Err(why) => self.recover(why).await,
        }
    }

    async fn child_exited(&mut self, exit: ChildExit) -> Flow {
        let Some(actor) = &mut self.actor else { return Flow::Go };
        let flow = match guarded(actor.child_exited(exit, &mut self.context)).await {
            Ok(()) => Flow::Go,
            Err(why) => self.recover(why).await,
        };
        self.after(flow).await
    }

    /// Fails because a child did, unless it has begun anew since.
    async fn escalated(&mut self) -> Flow {
        let why = lock(&self.signals.escalated).take();
        match why {
            Some(why) => self.recover(why).await,
            None => Flow::Go,
        }
    }

    /// Hears that a node has to go, where that was told.
    async fn hear(&mut self) -> Flow {
        let Some(deadline) = lock(&self.signals.notice).take() else { return Flow::Go };
        let flow = match self.notice(deadline).await {
            Ok(()) => Flow::Go,
            Err(why) => self.recover(why).await,
        };
        let flow = self.after(flow).await;
        self.signals.heard.store(true, Ordering::Release);
        flow
    }

    async fn notice(&mut self, deadline: Instant) -> Result<(), String> {
        let Some(actor) = &mut self.actor else { return Ok(()) };
        guarded(actor.notice(left_until(deadline), &mut self.context)).await
    }

    /// Ends here, to begin anew elsewhere, unless the actor has other plans.
    async fn leave(&mut self, deadline: Instant) {
        let grace = STOP_GRACE.min(left_until(deadline) / 4);
        self.context.system.end_children(self.context.me, grace).await;
        if let Err(why) = self.notice(deadline).await {
            tracing::warn!(actor = self.context.path, why, "an actor failed as the last thing before it moves");
        }
        match self.context.stopping {
            true => self.finish(grace).await,
            false => self.signals.left.store(true, Ordering::Release),
        }
    }

    /// Begins anew after a failure, if the supervisor says so.
    async fn recover(&mut self, mut why: String) -> Flow {
        let system = self.context.system.clone();
        loop {
            tracing::warn!(actor = self.context.path, why, "an actor failed");
            *lock(&self.signals.failed) = Some(why.clone());
            self.actor = None;
            system.end_children(self.context.me, STOP_GRACE).await;
            lock(&self.signals.escalated).take();
            match system.failed(self.of, &why).await {
                Directive::Restart(pause) => tokio::time::sleep(Duration::from_millis(pause)).await,
                Directive::End => return Flow::End,
            }
            match self.begin().await {
                Ok(()) => {
                    lock(&self.signals.failed).take();
                    return Flow::Go;
                }
                Err(error) => why = error,
            }
        }
    }

    /// Ends where the actor has asked for it.
    async fn after(&mut self, flow: Flow) -> Flow {
        if flow == Flow::Go && self.context.stopping {
            self.finish(STOP_GRACE).await;
            return Flow::End;
        }
        flow
    }

    /// Ends in order: children first, and a part of the time is left for the actor's own last words.
    async fn finish(&mut self, grace: Duration) {
        self.context.system.end_children(self.context.me, grace.mul_f64(0.75)).await;
        if let Some(actor) = &mut self.actor
            && let Err(why) = guarded(actor.stop(&mut self.context)).await
        {
            tracing::warn!(actor = self.context.path, why, "an actor failed while it was being stopped");
        }
    }

    fn lay_aside(&self, bytes: &Bytes, crashes: u32, why: String, reply: Option<ReplyTo<OwnActorProtocol>>) {
        if let Some(reply) = reply {
            reply.send(OwnReply::DeadLetter(crate::frame::short(&why)));
        }
        self.context.system.letters().add(DeadLetter {
            path: self.context.path.clone(),
            kind: A::NAME,
            payload_hash: blake3::hash(bytes).to_hex().to_string(),
            bytes: bytes.len(),
            crashes,
            why,
        });
    }
}
