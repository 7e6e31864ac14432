//! The parameter server itself: owns the training state, commits steps, sends parameters.
//!
//! A thread feeds it with what comes from outside; the trainer of the same process comes in by itself. Whoever holds the
//! lock never waits for the other: parameters are handed to the trainer's queue without waiting.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use neap_runtime::wire::training::{ParametersHeader, TrainerHello};
use neap_runtime::wire::worker::{FailureKind, Member, Membership, Paces, WorkerReport};
use neap_scheduler::elastic::{ReductionTree, ShardRange, TreeNode};
use neap_scheduler::model::{MembershipEpoch, WorkerId};
use neap_scheduler::spec::Consistency;

use super::checkpoint::{self, RestoreError};
use super::due::Due;
use super::keeper::KeeperJob;
use super::meter::Meter;
use super::paces::PaceMeter;
use super::relaxed::RelaxedServer;
use super::{Keeper, ServerEvent};
use crate::finite::NotFinite;
use crate::job::TrainJob;
use crate::links::{Gradients, Outbox, PanicGuard, THREAD_QUEUE_MAX, TrainerLink};
use crate::model::Layout;
use crate::reduction::Buffers;
use crate::schedule::Schedule;
use crate::state::{Commit, PartError, Snapshot, StepError, TrainingState};

/// What the thread needs to serve.
pub(crate) struct ServerSetup {
    pub(crate) job: Arc<TrainJob>,
    pub(crate) schedule: Schedule,
    pub(crate) layout: Layout,
    pub(crate) data_digest: [u8; 32],
    pub(crate) buffers: Buffers,
    pub(crate) outbox: Outbox,
}

/// The way to the parameter server of this process. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ServerHandle(Arc<Mutex<Box<dyn Serve>>>);

/// A kind of parameter server.
pub(super) trait Serve: Send {
    /// Handles an event on the calling thread, which may block and compute.
    fn handle(&mut self, event: ServerEvent);
}

/// The server of a job whose workers make every step together.
struct Server {
    setup: ServerSetup,
    keeper: Keeper,
    /// Trainers that wait for parameters, each with the membership it knows; it may be ahead of the server's.
    links: BTreeMap<WorkerId, (MembershipEpoch, TrainerLink)>,
    serving: Option<Serving>,
    due: Due,
}

struct Serving {
    membership: Membership,
    state: TrainingState,
    /// Who has sent the gradients of the current step.
    received: BTreeSet<WorkerId>,
    meter: Meter,
    paces: PaceMeter,
}

impl ServerSetup {
    /// The state that a membership goes on from, with the name of its checkpoint; `None` where it starts over.
    pub(super) fn saved(&self, membership: &Membership) -> Result<Option<(String, Snapshot)>, RestoreError> {
        let Some(checkpoint) = &membership.restore else { return Ok(None) };
        let (store, name) = checkpoint::find(&checkpoint.name, &self.job)?;
        Ok(checkpoint::load(&store, name, &self.job)?.map(|snapshot| (checkpoint.name.clone(), snapshot)))
    }

    /// The parameters a job begins with: drawn from its seed, and given ones over them.
    pub(super) fn initial(&self) -> Result<Vec<f32>, RestoreError> {
        let drawn = self.layout.initial(self.job.seed);
        match &self.job.init {
            Some(init) => Ok(init.load(&self.layout, drawn)?),
            None => Ok(drawn),
        }
    }

    /// Whether a trainer has the server's training data; another's end the job.
    pub(super) fn same_data(&self, hello: &TrainerHello) -> bool {
        let same = hello.data_digest == self.data_digest;
        if !same {
            let text = format!(
                "worker {} has other training data under the same path than the parameter server; give all nodes the \
                 same data",
                hello.worker
            );
            self.outbox.fail(FailureKind::Invalid, text);
        }
        same
    }
}

impl ServerHandle {
    /// Starts the thread that feeds the server; it ends when the last sender of its events is dropped.
    ///
    /// # Errors
    ///
    /// Where the thread cannot be started.
    pub(crate) fn start(setup: ServerSetup, keeper: Keeper, events: Receiver<ServerEvent>) -> std::io::Result<Self> {
        let guard = PanicGuard { thread: "parameter-server", session: setup.outbox.session.clone() };
        let server: Box<dyn Serve> = match setup.job.consistency {
            Consistency::Sync => {
                let due = Due::new(Instant::now());
                Box::new(Server { setup, keeper, links: BTreeMap::new(), serving: None, due })
            }
            Consistency::Ssp { .. } | Consistency::Async => Box::new(RelaxedServer::new(setup, keeper)),
        };
        let server = Self(Arc::new(Mutex::new(server)));
        let handle = server.clone();
        let run = move || {
            let _guard = guard;
            for event in events {
                handle.handle(event);
            }
        };
        std::thread::Builder::new().name("server".to_owned()).spawn(run)?;
        Ok(server)
    }

    /// The queue of the thread's events.
    pub(crate) fn queue() -> (SyncSender<ServerEvent>, Receiver<ServerEvent>) {
        sync_channel(THREAD_QUEUE_MAX)
    }

    /// Handles an event on the calling thread, which may block and compute.
    pub(crate) fn handle(&self, event: ServerEvent) {
        // A panic under the lock ends the worker; until then the state is not used for anything new.
        let Ok(mut server) = self.0.lock() else { return };
        server.handle(event);
    }
}

impl Serve for Server {
    fn handle(&mut self, event: ServerEvent) {
        match event {
            ServerEvent::Serve(membership) => self.serve(membership),
            ServerEvent::Retire => self.serving = None,
            ServerEvent::Attach { hello, link } => self.attach(&hello, link),
            ServerEvent::Gradients(gradients) => self.take_gradients(gradients),
            ServerEvent::Save => self.save(),
            ServerEvent::Stop { save, done } => {
                if save {
                    self.save();
                }
                self.serving = None;
                self.keeper.submit(KeeperJob::Flush(done));
            }
        }
    }
}

impl Server {
    fn serve(&mut self, membership: Membership) {
        self.keeper.submit(KeeperJob::Fence(membership.epoch));
        self.due.note_losses(membership.losses_per_1000_h);
        // The control plane names a checkpoint to a server that is new to it; what such a one still holds is stale.
        match self.serving.as_mut().filter(|_| membership.restore.is_none()) {
            Some(serving) => {
                serving.state.abandon_step();
                serving.received.clear();
                serving.paces = PaceMeter::new(Instant::now());
                serving.membership = membership;
            }
            None => match self.restore(&membership) {
                Ok(state) => {
                    let (meter, paces) = (Meter::new(), PaceMeter::new(Instant::now()));
                    self.serving = Some(Serving { membership, state, received: BTreeSet::new(), meter, paces });
                }
                Err(error) => return self.setup.outbox.fail(FailureKind::Invalid, error.text()),
            },
        }
        self.go_on();
    }

    fn restore(&self, membership: &Membership) -> Result<TrainingState, RestoreError> {
        let ServerSetup { job, schedule, layout, buffers, .. } = &self.setup;
        let state = match self.setup.saved(membership)? {
            None => TrainingState::new(*schedule, job.update, self.setup.initial()?),
            Some((name, snapshot)) => {
                let state = TrainingState::restore(*schedule, job.update, layout.len(), snapshot);
                state
                    .ok_or_else(|| RestoreError::Foreign { name, why: "its buffers are of another model".to_owned() })?
            }
        };
        Ok(state.with_buffers(buffers.clone()))
    }

    fn attach(&mut self, hello: &TrainerHello, link: TrainerLink) {
        if !self.setup.same_data(hello) {
            return;
        }
        let known = self.links.get(&hello.worker).map(|(membership, _)| *membership);
        if known.is_some_and(|known| known > hello.membership) {
            return;
        }
        self.links.insert(hello.worker, (hello.membership, link));
        let Some(serving) = &mut self.serving else { return };
        if serving.membership.epoch == hello.membership && !serving.state.is_finished() {
            serving.send_parameters(&self.links, Some(hello.worker), &self.setup.outbox);
        }
    }

    fn take_gradients(&mut self, gradients: Gradients) {
        let Some(serving) = &mut self.serving else { return };
        match serving.accept(gradients, self.setup.schedule.logical_shards) {
            Ok(None) => {}
            Ok(Some(commit)) => self.committed(&commit),
            Err(Refusal::Late) => tracing::debug!("gradients of another membership or step refused"),
            Err(Refusal::Wrong(text)) => tracing::warn!(text, "gradients refused"),
            Err(Refusal::Ledger(text)) => {
                self.serving = None;
                self.setup.outbox.fail(FailureKind::DataLedger, text);
            }
            Err(Refusal::NotFinite(fault)) => {
                self.serving = None;
                // Behind the checkpoints that are being written: they are of steps that were made.
                let message = fault.describe(&self.setup.layout);
                self.keeper.submit(KeeperJob::Fail { kind: FailureKind::User, message });
            }
        }
    }

    fn committed(&mut self, commit: &Commit) {
        let Some(serving) = &mut self.serving else { return };
        // First what others wait for. What follows shares these parameters; the next commit leaves them as they are.
        if !serving.state.is_finished() {
            serving.send_parameters(&self.links, None, &self.setup.outbox);
        }
        let membership = serving.membership.epoch;
        if let Some(progress) = serving.meter.note(commit, &self.setup.schedule, membership) {
            self.setup.outbox.report_latest(WorkerReport::Progress(progress));
        }
        let (now, epoch) = (Instant::now(), commit.epoch.map(|summary| summary.epoch));
        if let Some(workers) = serving.paces.due(now) {
            self.setup.outbox.report_latest(WorkerReport::Paces(Paces { membership, workers }));
        }
        let save = self.due.is_due(&self.setup.job, commit.step, epoch, now, self.keeper.checkpoint_cost());
        match commit.epoch {
            Some(summary) => {
                if save {
                    self.due.note_saved(now);
                }
                let snapshot = serving.state.snapshot();
                self.keeper.submit(KeeperJob::Epoch { membership, summary, snapshot, save });
            }
            None if save => self.save(),
            None => {}
        }
        self.finish_if_done();
    }

    fn go_on(&mut self) {
        let Some(serving) = &mut self.serving else { return };
        self.links.retain(|_, (membership, _)| *membership >= serving.membership.epoch);
        if !serving.state.is_finished() {
            serving.send_parameters(&self.links, None, &self.setup.outbox);
        }
        self.finish_if_done();
    }

    fn finish_if_done(&self) {
        let Some(serving) = self.serving.as_ref().filter(|serving| serving.state.is_finished()) else { return };
        self.keeper.submit(KeeperJob::Finish {
            membership: serving.membership.epoch,
            train_loss: serving.state.train_loss(),
            snapshot: Snapshot { moments: Vec::new(), ..serving.state.snapshot() },
        });
    }

    fn save(&mut self) {
        let Some(serving) = &self.serving else { return };
        self.due.note_saved(Instant::now());
        let (membership, snapshot) = (serving.membership.epoch, serving.state.snapshot());
        self.keeper.submit(KeeperJob::Save { membership, snapshot });
    }
}

/// Why gradients were not taken.
pub(super) enum Refusal {
    /// Of another membership or step: ordinary after a change.
    Late,
    /// Not what this worker should send.
    Wrong(String),
    /// The sample ledger would not balance: the job must end.
    Ledger(String),
    /// The step cannot be made: the job must end.
    NotFinite(NotFinite),
}

impl From<StepError> for Refusal {
    fn from(error: StepError) -> Self {
        match error {
            StepError::Ledger(error) => Self::Ledger(error.to_string()),
            StepError::NotFinite(fault) => Self::NotFinite(fault),
        }
    }
}

impl Serving {
    /// Takes in one trainer's gradients. The last ones of a step commit it.
    fn accept(&mut self, gradients: Gradients, shards: u32) -> Result<Option<Commit>, Refusal> {
        if gradients.membership != self.membership.epoch
            || gradients.step != self.state.step()
            || self.state.is_finished()
            || self.received.contains(&gradients.worker)
        {
            return Err(Refusal::Late);
        }
        self.check(&gradients, shards)?;
        self.received.insert(gradients.worker);
        let carried = gradients.parts.iter().map(|(_, part)| part.losses.len() as u32).sum();
        self.paces.received(gradients.worker, carried, Instant::now());
        let mut committed = None;
        for (node, part) in gradients.parts {
            committed = self.state.insert(node, part).map_err(Refusal::from)?;
        }
        if committed.is_some() {
            self.received.clear();
        }
        Ok(committed)
    }

    fn check(&self, gradients: &Gradients, shards: u32) -> Result<(), Refusal> {
        let Some(member) = self.membership.member(gradients.worker) else {
            return Err(Refusal::Wrong(format!("{} is no member", gradients.worker)));
        };
        let tree = ReductionTree::new(shards);
        let block = ShardRange { start: member.shard_start, end: member.shard_end };
        let nodes: Vec<TreeNode> = gradients.parts.iter().map(|(node, _)| *node).collect();
        if nodes != tree.cover(block) {
            return Err(Refusal::Wrong(format!("{} sent other parts than it carries", gradients.worker)));
        }
        for (node, part) in &gradients.parts {
            if part.losses.len() != tree.covers(*node).len() as usize {
                return Err(Refusal::Wrong(format!("{} sent {} losses", gradients.worker, part.losses.len())));
            }
            self.state.check(*node, part.gradient.values().len(), &part.samples).map_err(|error| match error {
                PartError::Length { .. } => Refusal::Wrong(error.to_string()),
                PartError::Samples { .. } => Refusal::Ledger(format!("worker {}: {error}", gradients.worker)),
            })?;
        }
        Ok(())
    }

    /// Sends the current parameters to all trainers of the membership, or to one of them.
    fn send_parameters(
        &mut self,
        links: &BTreeMap<WorkerId, (MembershipEpoch, TrainerLink)>,
        only: Option<WorkerId>,
        outbox: &Outbox,
    ) {
        let membership = self.membership.epoch;
        let step = self.state.step();
        let wanted = |worker: WorkerId| only.is_none_or(|only| only == worker);
        for (&worker, (_, link)) in links.iter().filter(|(worker, (epoch, _))| wanted(**worker) && *epoch == membership)
        {
            let Some(&Member { shard_start, shard_end, .. }) = self.membership.member(worker) else { continue };
            let header = ParametersHeader { membership, step, shard_start, shard_end };
            match link.send(header, self.state.parameters()) {
                true => self.paces.sent(worker, Instant::now()),
                false => outbox.peer_lost(membership, worker),
            }
        }
    }
}
