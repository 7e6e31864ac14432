//! The host of own actors, one in every worker: supervises what this worker's actors started, wherever it runs, and
//! starts here what other workers ask for (`asked`). What follows from an event is decided in [`super::children`].

mod asked;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use neap_scheduler::model::{MembershipEpoch, Millis, WorkerId};
use ractor::{ActorProcessingErr, ActorRef};
use rand::TryRng;
use rand::rngs::SysRng;
use tokio::sync::{mpsc, oneshot};

use super::actor::ChildExit;
use super::children::{AddError, ChildSpec, Children, Directive, Effect, Exit, Moment, Parent, StartFailure};
use super::context::SpawnError;
use super::directory::Place;
use super::leave::{Held, left_until};
use super::node::System;
use super::placement::Placement;
use super::running::Running;
use super::shell::{STOP_GRACE, ShellMsg};
use crate::remote::Inbound;
use crate::wire::actors::{ActorHostProtocol, HostReply, HostRequest, Incarnation, StartActor};

/// Actors that a worker may supervise; more are refused.
const CHILDREN_MAX: usize = 65_536;

/// How long a start may take.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How long another host has to answer what it need not wait for.
const HOST_TIMEOUT: Duration = Duration::from_secs(5);

/// What an actor is started with, kept for as long as it may have to be started again.
#[derive(Debug, Clone)]
pub(super) struct StartInfo {
    pub(super) path: String,
    pub(super) kind: String,
    pub(super) args: Bytes,
    pub(super) mailbox: u32,
}

/// A message to the [`Host`].
pub(super) enum HostMsg {
    /// From the host of another worker.
    Remote(Inbound<ActorHostProtocol>),
    /// Command: starts a child; answered once it runs.
    Spawn { spec: ChildSpec, info: StartInfo, reply: oneshot::Sender<Result<u64, SpawnError>> },
    /// Event: a start is over.
    StartOver { child: u64, incarnation: u32, outcome: Result<(), StartFailure> },
    /// Event: the pause before a start is over.
    Retry { child: u64, incarnation: u32 },
    /// Query of an actor of this worker, supervised here, that has failed: what now?
    Failed { of: Incarnation, why: String, reply: oneshot::Sender<Directive> },
    /// Event: an actor that ran here has ended.
    ShellEnded(Arc<Running>),
    /// Event: an actor did not start, and what it started meanwhile has no parent.
    ParentGone(Parent),
    /// Command: ends a child of this parent; answered once it has ended.
    StopChild { parent: Parent, child: u64, grace: Duration, reply: oneshot::Sender<()> },
    /// Command: ends all children of this parent; answered once they have ended.
    EndChildren { parent: Parent, grace: Duration, reply: oneshot::Sender<()> },
    /// Event: another worker is gone, under this membership. What ran there begins again under a later one: then nothing of
    /// the old incarnation counts any more, wherever it still runs.
    WorkerLost { worker: WorkerId, under: MembershipEpoch },
    /// Event: a worker of the job, perhaps this one, has to go.
    Leaves { worker: WorkerId, held: Held },
    /// Command: the main function runs here from now on, and wants to know when a child of its fails for good.
    Main(mpsc::Sender<String>),
}

impl From<Inbound<ActorHostProtocol>> for HostMsg {
    fn from(inbound: Inbound<ActorHostProtocol>) -> Self {
        Self::Remote(inbound)
    }
}

pub(super) struct Host;

pub(super) struct HostState {
    system: System,
    began: Instant,
    children: Children,
    infos: HashMap<u64, StartInfo>,
    spawners: HashMap<u64, oneshot::Sender<Result<u64, SpawnError>>>,
    /// Who waits for the end of a child, or of all children of a parent.
    waiting: Vec<Waiting>,
    main: Option<mpsc::Sender<String>>,
    /// The newest membership under which a worker was lost.
    lost_under: MembershipEpoch,
}

struct Waiting {
    parent: Parent,
    child: Option<u64>,
    reply: oneshot::Sender<()>,
}

impl ractor::Actor for Host {
    type Msg = HostMsg;
    type State = HostState;
    type Arguments = System;

    async fn pre_start(&self, _: ActorRef<HostMsg>, system: System) -> Result<HostState, ActorProcessingErr> {
        Ok(HostState {
            system,
            began: Instant::now(),
            children: Children::default(),
            infos: HashMap::new(),
            spawners: HashMap::new(),
            waiting: Vec::new(),
            main: None,
            lost_under: MembershipEpoch::default(),
        })
    }

    async fn handle(
        &self,
        _: ActorRef<HostMsg>,
        message: HostMsg,
        state: &mut HostState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            HostMsg::Remote(inbound) => state.remote(inbound),
            HostMsg::Spawn { spec, info, reply } => state.spawn(spec, info, reply),
            HostMsg::StartOver { child, incarnation, outcome } => state.start_over(child, incarnation, outcome),
            HostMsg::Retry { child, incarnation } => {
                let effects = state.children.retry(child, incarnation, &state.system.seats());
                state.perform(effects, STOP_GRACE);
            }
            HostMsg::Failed { of, why, reply } => {
                // Without a receiver the actor has been ended meanwhile.
                let _ = reply.send(state.failed(of, &why));
            }
            HostMsg::ShellEnded(running) => state.shell_ended(&running),
            HostMsg::ParentGone(parent) => {
                let effects = state.children.parent_gone(parent);
                state.perform(effects, STOP_GRACE);
            }
            HostMsg::StopChild { parent, child, grace, reply } => {
                if state.children.of(parent).contains(&child) {
                    state.waiting.push(Waiting { parent, child: Some(child), reply });
                    let effects = state.children.stop(child);
                    state.perform(effects, grace);
                }
            }
            HostMsg::EndChildren { parent, grace, reply } => {
                state.waiting.push(Waiting { parent, child: None, reply });
                let effects = state.children.parent_gone(parent);
                state.perform(effects, grace);
                state.answer_waiting();
            }
            HostMsg::WorkerLost { worker, under } => state.worker_lost(worker, under),
            HostMsg::Leaves { worker, held: _held } => state.leaves(worker),
            HostMsg::Main(escalations) => state.main = Some(escalations),
        }
        Ok(())
    }
}

impl HostState {
    fn spawn(&mut self, spec: ChildSpec, info: StartInfo, reply: oneshot::Sender<Result<u64, SpawnError>>) {
        let (name, placement) = (spec.name.clone(), spec.placement);
        let added = match self.children.len() {
            CHILDREN_MAX.. => Err(SpawnError::TooMany(CHILDREN_MAX)),
            _ => self.children.add(spec, &self.system.seats()).map_err(|error| match (error, placement) {
                (AddError::NameTaken, _) => SpawnError::NameTaken(name),
                (AddError::NoWorker, Placement::Node(node)) => {
                    SpawnError::Node { name, node, fault: self.system.fault_of(node) }
                }
                (AddError::NoWorker, _) => SpawnError::NoWorker(name),
            }),
        };
        match added {
            Ok((child, effects)) => {
                self.infos.insert(child, info);
                self.spawners.insert(child, reply);
                self.system.directory().set(child, Place::Pending);
                self.perform(effects, STOP_GRACE);
            }
            Err(error) => {
                // Without a receiver nobody wants it any more.
                let _ = reply.send(Err(error));
            }
        }
    }

    fn start_over(&mut self, child: u64, incarnation: u32, outcome: Result<(), StartFailure>) {
        let moment = self.moment();
        let effects = match outcome {
            Ok(()) => self.children.started(child, incarnation),
            Err(failure) => self.children.start_failed(child, incarnation, failure, moment),
        };
        self.perform(effects, STOP_GRACE);
        // What began on a worker that has to go meanwhile hears of it now.
        for worker in self.system.workers() {
            if self.system.leaves(worker).is_some() {
                self.leaves(worker);
            }
        }
    }

    fn leaves(&mut self, worker: WorkerId) {
        let effects = match self.system.leaves(self.system.worker()) {
            Some(_) => self.children.home_leaves(),
            None => self.children.worker_leaves(worker, &self.system.staying_seats()),
        };
        self.perform(effects, STOP_GRACE);
    }

    fn left(&mut self, of: Incarnation) {
        let moment = self.moment();
        let effects = self.children.left(of.child, of.incarnation, &self.system.seats(), moment);
        self.perform(effects, STOP_GRACE);
    }

    fn failed(&mut self, of: Incarnation, why: &str) -> Directive {
        let moment = self.moment();
        let (directive, effects) = self.children.failed(of.child, of.incarnation, why, moment);
        self.perform(effects, STOP_GRACE);
        directive
    }

    fn shell_ended(&mut self, running: &Arc<Running>) {
        self.system.remove(running);
        let effects = self.children.parent_gone(Parent::Actor(running.number));
        self.perform(effects, STOP_GRACE);
        let (of, failed, left) = (running.of, running.failure(), running.has_left());
        match (of.home == self.system.worker(), left) {
            (true, true) => self.left(of),
            (true, false) => self.ended(of, failed),
            (false, _) => {
                let (system, held) = (self.system.clone(), self.system.hold());
                tokio::spawn(async move {
                    let request = match left {
                        true => HostRequest::Left { of },
                        false => HostRequest::Ended { of, failed: failed.as_deref().map(crate::frame::short) },
                    };
                    system.report_end(of, request).await;
                    drop(held);
                });
            }
        }
    }

    fn ended(&mut self, of: Incarnation, failed: Option<String>) {
        let exit = failed.map_or(Exit::Stopped, Exit::Failed);
        let effects = self.children.ended(of.child, of.incarnation, exit);
        self.perform(effects, STOP_GRACE);
    }

    fn worker_lost(&mut self, worker: WorkerId, under: MembershipEpoch) {
        self.lost_under = self.lost_under.max(under);
        self.system.streams().reader_lost(worker);
        // What it started has no supervisor any more; what it does from now on would be done twice.
        self.system.started_for(worker).iter().for_each(|running| running.kill());
        let moment = self.moment();
        let effects = self.children.worker_lost(worker, moment);
        self.perform(effects, STOP_GRACE);
    }

    fn moment(&self) -> Moment {
        let draw = SysRng.try_next_u32().expect("the system's random generator answers");
        Moment { now: Millis::new(self.began.elapsed().as_millis() as u64), draw }
    }

    /// Does what was decided. Whatever takes time goes into a task that comes back with an event.
    fn perform(&mut self, effects: Vec<Effect>, grace: Duration) {
        for effect in effects {
            match effect {
                Effect::Start { child, incarnation, worker } => self.start(child, incarnation, worker),
                Effect::Up { child, incarnation, worker } => {
                    self.system.directory().set(child, Place::Up(worker, incarnation));
                    if let Some(reply) = self.spawners.remove(&child) {
                        let _ = reply.send(Ok(child));
                    }
                }
                Effect::Down { child } => self.system.directory().set(child, Place::Pending),
                Effect::RetryAfter { child, incarnation, pause } => {
                    let (system, lost_under) = (self.system.clone(), self.lost_under);
                    tokio::spawn(async move {
                        tokio::time::sleep(pause).await;
                        while system.epoch() <= lost_under {
                            system.pause().await;
                        }
                        system.tell_host(HostMsg::Retry { child, incarnation });
                    });
                }
                Effect::Stop { child, incarnation, worker } => self.stop(child, incarnation, worker, grace),
                Effect::Leave { child, incarnation, worker, stays } => {
                    self.tell_to_leave(self.incarnation(child, incarnation), worker, stays);
                }
                Effect::Exited { child, parent, name, exit } => self.exited(child, parent, name, exit),
                Effect::Escalate { parent, why } => self.escalate(parent, why),
            }
        }
    }

    fn incarnation(&self, child: u64, incarnation: u32) -> Incarnation {
        Incarnation { home: self.system.worker(), child, incarnation }
    }

    fn start(&self, child: u64, incarnation: u32, worker: WorkerId) {
        let Some(info) = self.infos.get(&child).cloned() else { return };
        let of = self.incarnation(child, incarnation);
        let start = StartActor { of, path: info.path, kind: info.kind, args: info.args, mailbox: info.mailbox };
        let system = self.system.clone();
        tokio::spawn(async move {
            let outcome = start_on(&system, worker, start).await;
            if matches!(outcome, Err(StartFailure::Unreachable(_))) {
                // It may have started and not been able to say so.
                let _ = system.ask(worker, HostRequest::Stop { of, grace_ms: 0 }, HOST_TIMEOUT).await;
            }
            system.tell_host(HostMsg::StartOver { child, incarnation, outcome });
        });
    }

    fn stop(&self, child: u64, incarnation: u32, worker: WorkerId, grace: Duration) {
        let of = self.incarnation(child, incarnation);
        if worker == self.system.worker() {
            stop_here(&self.system, of, grace);
            return;
        }
        let system = self.system.clone();
        let grace_ms = grace.as_millis() as u64;
        tokio::spawn(async move {
            // A worker that does not answer is lost soon, and its actors with it.
            let _ = system.ask(worker, HostRequest::Stop { of, grace_ms }, HOST_TIMEOUT).await;
        });
    }

    /// Tells a child that its worker, or this one, has to go.
    fn tell_to_leave(&self, of: Incarnation, worker: WorkerId, stays: bool) {
        let (system, held) = (self.system.clone(), self.system.hold());
        let Some(deadline) = system.leaves(system.worker()).or_else(|| system.leaves(worker)) else { return };
        tokio::spawn(async move {
            if worker == system.worker() {
                system.leave_here(of, stays, deadline).await;
            } else {
                let left = left_until(deadline);
                let request = HostRequest::Leave { of, stays, left_ms: left.as_millis() as u64 };
                if let Err(error) = system.ask(worker, request, left + HOST_TIMEOUT).await {
                    // It is lost with its worker then, if not before.
                    tracing::debug!(%error, %worker, "an actor did not hear in time that a node has to go");
                }
            }
            drop(held);
        });
    }

    fn exited(&mut self, child: u64, parent: Parent, name: String, exit: Exit) {
        self.infos.remove(&child);
        self.system.directory().set(child, Place::Ended(exit.clone()));
        if let Some(reply) = self.spawners.remove(&child) {
            let why = exit.to_string();
            let _ = reply.send(Err(SpawnError::Failed { name: name.clone(), why }));
        } else if let Parent::Actor(number) = parent
            && let Some(running) = self.system.by_number(number)
        {
            // Where the parent has ended meanwhile, nobody wants to know.
            let _ = running.send(ShellMsg::ChildExited(ChildExit { name, exit }));
        }
        self.answer_waiting();
    }

    fn escalate(&mut self, parent: Parent, why: String) {
        match parent {
            Parent::Main => {
                if let Some(main) = &self.main {
                    // One is enough to end it.
                    let _ = main.try_send(why);
                }
            }
            Parent::Actor(number) => {
                if let Some(running) = self.system.by_number(number) {
                    running.escalate(why);
                }
            }
        }
    }

    fn answer_waiting(&mut self) {
        let children = &self.children;
        let is_over = |waiting: &mut Waiting| {
            let left = children.of(waiting.parent);
            waiting.child.map_or(left.is_empty(), |child| !left.contains(&child))
        };
        for waiting in self.waiting.extract_if(.., is_over) {
            let _ = waiting.reply.send(());
        }
    }
}

async fn start_on(system: &System, worker: WorkerId, start: StartActor) -> Result<(), StartFailure> {
    if worker == system.worker() {
        return system.start_here(start).await.map_err(StartFailure::Refused);
    }
    match system.ask(worker, HostRequest::Start(start), START_TIMEOUT).await {
        Ok(HostReply::Done) => Ok(()),
        Ok(HostReply::Refused(why)) => Err(StartFailure::Refused(why)),
        Ok(other) => Err(StartFailure::Unreachable(format!("{worker} answered {other:?}"))),
        Err(error) => Err(StartFailure::Unreachable(error.to_string())),
    }
}

/// Tells an actor of this process to end, and sees to it that it does.
fn stop_here(system: &System, of: Incarnation, grace: Duration) {
    let Some(running) = system.incarnation(of) else { return };
    if running.send(ShellMsg::Stop(grace)).is_err() {
        return;
    }
    tokio::spawn(async move {
        tokio::time::sleep(grace).await;
        if running.is_alive() {
            tracing::warn!(actor = running.path, ?grace, "an actor did not end in time and is cut off");
            running.kill();
        }
    });
}
