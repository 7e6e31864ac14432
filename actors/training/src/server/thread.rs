//! The parameter server itself: owns the training state, commits steps, sends parameters.
//!
//! A thread feeds it with what comes from outside; the trainer of the same process comes in by itself. Whoever holds the
//! lock never waits for the other: parameters are handed to the trainer's queue without waiting. A step that a replica has
//! to make too is computed on before the replica has made it, and told of and followed by the next one after that.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use neap_runtime::wire::training::{ParametersHeader, TrainerHello};
use neap_runtime::wire::worker::{FailureKind, Member, Membership, Paces, WorkerReport};
use neap_scheduler::elastic::{ReductionTree, ShardRange, TreeNode};
use neap_scheduler::model::{MembershipEpoch, WorkerId};
use neap_scheduler::spec::Consistency;
use tokio::sync::oneshot;

use super::aftermath::tell_of;
use super::checkpoint::{self, RestoreError};
use super::collect::{Collecting, Purpose};
use super::due::Due;
use super::holder::Holder;
use super::keeper::KeeperJob;
use super::meter::Meter;
use super::mirror::{Mirror, StepSum};
use super::others::{Others, committed};
use super::paces::PaceMeter;
use super::relaxed::RelaxedServer;
use super::replicate::{Held, Stands};
use super::{Keeper, ServerEvent, gradients};
use crate::device::ComputeDevice;
use crate::finite::NotFinite;
use crate::job::TrainJob;
use crate::links::{Gradients, Outbox, PanicGuard, SegmentLink, THREAD_QUEUE_MAX, TrainerLink};
use crate::model::Layout;
use crate::optimiser::Scale;
use crate::reduction::Buffers;
use crate::replica::Replica;
use crate::schedule::Schedule;
use crate::segments::Cut;
use crate::state::{Commit, PartError, Snapshot, StepError, TrainingState};

/// What the thread needs to serve.
pub(crate) struct ServerSetup {
    pub(crate) job: Arc<TrainJob>,
    pub(crate) schedule: Schedule,
    pub(crate) layout: Layout,
    pub(crate) data_digest: [u8; 32],
    pub(crate) device: ComputeDevice,
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
pub(super) struct Server {
    pub(super) setup: ServerSetup,
    pub(super) keeper: Keeper,
    /// Trainers that wait for parameters, each with the membership it knows; it may be ahead of the server's.
    pub(super) links: BTreeMap<WorkerId, (MembershipEpoch, TrainerLink)>,
    /// Where this is the only server, or the lead of several.
    pub(super) serving: Option<Serving>,
    /// Where another server leads.
    pub(super) holding: Option<Holder>,
    /// Where this worker holds a replica of another one's state.
    pub(super) held: Option<Held>,
    /// What this server's replica has last said, under the membership it knows; it may be ahead of this one's.
    pub(super) stands: Option<Stands>,
    /// Other servers that have said where they stand, each under the membership it knows; it may be ahead of this one's.
    pub(super) ready: BTreeMap<WorkerId, (MembershipEpoch, u64)>,
    /// To be answered once the state that is being collected is with the keeper.
    pub(super) stopping: Option<oneshot::Sender<()>>,
    due: Due,
}

pub(super) struct Serving {
    pub(super) membership: Membership,
    pub(super) own: Replica,
    pub(super) mirror: Mirror,
    /// Who has sent the gradients of the current step.
    received: BTreeSet<WorkerId>,
    pub(super) meter: Meter,
    paces: PaceMeter,
    pub(super) others: Others,
    /// How the last step was made, for a server that has not heard of it.
    pub(super) last_scale: Option<Scale>,
    /// A state on its way to the keeper; no step is committed before it is complete.
    pub(super) collecting: Option<Collecting>,
}

impl ServerSetup {
    /// The state to go on from, with the name of its checkpoint where it is from one.
    ///
    /// # Errors
    ///
    /// [`RestoreError`] where the checkpoint, or the weights to begin with, cannot be used.
    pub(crate) fn restore(&self, membership: &Membership) -> Result<(String, Snapshot), RestoreError> {
        match self.saved(membership)? {
            Some(saved) => Ok(saved),
            None => Ok((String::new(), Snapshot::initial(self.job.update, self.initial()?))),
        }
    }

    /// What gradients of `length` values in the code of the job's compression stand for; nothing where they are no such code.
    pub(super) fn decoded(&self, coded: Gradients, length: usize) -> Option<Gradients> {
        let worker = coded.worker;
        let decoded = gradients::decoded(coded, self.job.compression?, length, &self.buffers);
        decoded.inspect_err(|error| tracing::warn!(%worker, %error, "gradients refused")).ok()
    }

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

    /// Whether a trainer has the server's training data, and where it matters its model of device; another's end the job.
    pub(super) fn same_data(&self, hello: &TrainerHello) -> bool {
        let text = if hello.data_digest != self.data_digest {
            format!(
                "worker {} has other training data under {} than the parameter server; give all nodes the same data, and \
                 do not change it while a job runs",
                hello.worker, self.job.train_data.path
            )
        } else if let Some(text) = self.other_device(hello.worker, &hello.device) {
            text
        } else {
            return true;
        };
        self.outbox.fail(FailureKind::Invalid, text);
        false
    }

    /// What is wrong with the device of another worker: under `strict` all must be of one model, because other devices round
    /// otherwise.
    pub(crate) fn other_device(&self, worker: WorkerId, device: &str) -> Option<String> {
        (self.job.strict && device != self.device.model()).then(|| {
            format!(
                "worker {worker} computes on `{device}` and another worker of the job on `{}`, which does not give the same \
                 bits; give all nodes the same devices and drivers, or write `train.determinism: samples`",
                self.device
            )
        })
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
            Consistency::Sync => Box::new(Server {
                setup,
                keeper,
                links: BTreeMap::new(),
                serving: None,
                holding: None,
                held: None,
                stands: None,
                ready: BTreeMap::new(),
                stopping: None,
                due: Due::new(Instant::now()),
            }),
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
            ServerEvent::Serve { membership, place, links } => self.serve(membership, place, links),
            ServerEvent::Retire => (self.serving, self.holding, self.held) = (None, None, None),
            ServerEvent::Replicate { membership, link } => self.replicate(membership, link),
            ServerEvent::Attach { hello, link } => self.attach(&hello, link),
            ServerEvent::Gradients(gradients) => self.take_gradients(gradients),
            ServerEvent::Coded(coded) => self.take_coded(coded),
            ServerEvent::Told { from, message } => self.told(from, message),
            ServerEvent::Bulk { from, header, payload } => self.take_bulk(from, header, payload),
            ServerEvent::Save => self.save(),
            ServerEvent::Stop { save, done } => {
                if save {
                    self.save();
                }
                self.stopping = Some(done);
                self.stop_when_collected();
            }
        }
    }
}

impl Server {
    fn serve(&mut self, membership: Membership, place: usize, links: BTreeMap<WorkerId, SegmentLink>) {
        match place {
            0 => self.lead(membership, &links),
            _ => self.hold(membership, place, links),
        }
    }

    fn lead(&mut self, membership: Membership, links: &BTreeMap<WorkerId, SegmentLink>) {
        self.keeper.submit(KeeperJob::Fence(membership.epoch));
        self.due.note_losses(membership.losses_per_1000_h);
        self.holding = None;
        let held = self.held.take();
        let segments = self.cut().segments(membership.servers.len().max(1));
        let own = segments.first().cloned().unwrap_or_default();
        let others = membership.servers.iter().zip(segments).skip(1);
        let others =
            Others::new(others.filter_map(|(&server, segment)| Some((server, segment, links.get(&server)?.clone()))));
        let way = membership.replicas.first().and_then(|&replica| Some((replica, links.get(&replica)?.clone())));
        // The control plane names a checkpoint to servers that are new to it; what such ones still hold is stale.
        let stays =
            |serving: &&mut Serving| membership.restore.is_none() && serving.membership.servers == membership.servers;
        match self.serving.as_mut().filter(stays) {
            Some(serving) => {
                serving.own.state.abandon_step();
                serving.received.clear();
                serving.paces = PaceMeter::new(Instant::now());
                serving.others = others;
                serving.mirror.adopt(way);
                serving.collecting.iter_mut().for_each(Collecting::restart);
                serving.membership = membership;
            }
            None => {
                let meter = Meter::after(held.as_ref().and_then(Held::last_step));
                let replica = held.and_then(|held| held.go_on_as_server(&membership));
                let Some(own) = replica.or_else(|| self.restored(&membership, own)) else { return };
                self.tell_of_last_epoch(&own, membership.epoch);
                self.serving = Some(Serving {
                    membership,
                    own: own.with_buffers(self.setup.buffers.clone()),
                    mirror: Mirror::new(way),
                    received: BTreeSet::new(),
                    meter,
                    paces: PaceMeter::new(Instant::now()),
                    others,
                    last_scale: None,
                    collecting: None,
                });
            }
        }
        self.join_ready();
        self.meet_replica();
        self.go_on();
    }

    /// The lead's state from the checkpoint that the membership names, or from the job's seed; ends the job where there is none.
    fn restored(&self, membership: &Membership, range: Range<usize>) -> Option<Replica> {
        let ServerSetup { job, schedule, .. } = &self.setup;
        let restored = self.setup.restore(membership).and_then(|(name, whole)| {
            let state = TrainingState::restore_segment(*schedule, job.update, self.cut(), range, whole);
            state.ok_or_else(|| RestoreError::of_another_model(name))
        });
        self.or_fail(restored).map(|state| Replica::new(state, membership.epoch, None))
    }

    /// The server before may have been lost before it had evaluated the last epoch. Told twice, it is the same.
    fn tell_of_last_epoch(&self, own: &Replica, membership: MembershipEpoch) {
        let Some((summary, snapshot)) = own.last_epoch().cloned() else { return };
        self.keeper.submit(KeeperJob::Epoch { membership, summary, snapshot, save: false });
    }

    pub(super) fn cut(&self) -> Cut {
        Cut::new(self.setup.layout.len())
    }

    /// What was restored; ends the job where nothing could be.
    pub(super) fn or_fail<T>(&self, restored: Result<T, RestoreError>) -> Option<T> {
        restored.inspect_err(|error| self.setup.outbox.fail(FailureKind::Invalid, error.text())).ok()
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
        self.send_parameters(Some(hello.worker));
    }

    /// Sends the current parameters to all trainers of the membership, or to one of them.
    pub(super) fn send_parameters(&mut self, only: Option<WorkerId>) {
        let (membership, segment, step, parameters, mut paces) = match (&mut self.serving, &self.holding) {
            (Some(Serving { membership, own: Replica { state, .. }, paces, .. }), _) => {
                (&*membership, 0, state.step(), state.parameters(), Some(paces))
            }
            (None, Some(holder)) if holder.is_settled() => {
                (&holder.membership, holder.place, holder.segment.step(), holder.segment.parameters(), None)
            }
            _ => return,
        };
        if step >= self.setup.schedule.steps_total() {
            return;
        }
        let epoch = membership.epoch;
        let wanted = |worker: WorkerId| only.is_none_or(|only| only == worker);
        let links = self.links.iter().filter(|(worker, (known, _))| wanted(**worker) && *known == epoch);
        for (&worker, (_, link)) in links {
            let Some(&Member { shard_start, shard_end, .. }) = membership.member(worker) else { continue };
            let header = ParametersHeader { membership: epoch, step, segment, shard_start, shard_end };
            match link.send(header, parameters) {
                true => paces.iter_mut().for_each(|paces| paces.sent(worker, Instant::now())),
                false => self.setup.outbox.peer_lost(epoch, worker),
            }
        }
    }

    fn take_coded(&mut self, coded: Gradients) {
        let length = match (&self.serving, &self.holding) {
            (Some(serving), _) => serving.own.state.range().len(),
            (None, Some(holder)) => holder.segment.range().len(),
            (None, None) => return,
        };
        self.setup.decoded(coded, length).into_iter().for_each(|gradients| self.take_gradients(gradients));
    }

    fn take_gradients(&mut self, gradients: Gradients) {
        let shards = self.setup.schedule.logical_shards;
        let taken = match (&mut self.serving, &mut self.holding) {
            (Some(serving), _) => serving.accept(gradients, shards),
            (None, Some(holder)) => {
                let lead = holder.lead();
                let told = holder.accept(gradients, shards);
                if let Ok(false) = told {
                    self.setup.outbox.peer_lost(holder.membership.epoch, lead);
                }
                told.map(drop)
            }
            (None, None) => return,
        };
        match taken {
            Ok(()) => self.try_commit(),
            Err(refusal) => self.refuse(refusal),
        }
    }

    fn refuse(&mut self, refusal: Refusal) {
        match refusal {
            Refusal::Late => tracing::debug!("gradients of another membership or step refused"),
            Refusal::Wrong(text) => tracing::warn!(text, "gradients refused"),
            Refusal::Ledger(text) => {
                self.serving = None;
                self.setup.outbox.fail(FailureKind::DataLedger, text);
            }
            Refusal::NotFinite(fault) => {
                self.serving = None;
                // Behind the checkpoints that are being written: they are of steps that were made.
                let message = fault.describe(&self.setup.layout);
                self.keeper.submit(KeeperJob::Fail { kind: FailureKind::User, message });
            }
        }
    }

    /// Commits the step where everything that belongs to it is there.
    pub(super) fn try_commit(&mut self) {
        let free = |serving: &&mut Serving| serving.collecting.is_none() && serving.mirror.is_ready();
        let Some(serving) = self.serving.as_mut().filter(free) else { return };
        let Some(others) = serving.others.prepared() else { return };
        let sum = StepSum::for_replica(&serving.mirror, &serving.own.state, &self.setup.buffers);
        match serving.own.state.commit(others) {
            Ok(None) => {}
            Ok(Some((commit, scale))) => {
                serving.received.clear();
                serving.others.next_step();
                serving.last_scale = Some(scale);
                if self.setup.job.has_replicas {
                    serving.own.committed(&commit, serving.membership.epoch);
                }
                let told = committed(serving.membership.epoch, commit.step, scale);
                self.tell_others(&told);
                self.committed(commit, sum);
            }
            Err(error) => self.refuse(error.into()),
        }
    }

    fn committed(&mut self, commit: Commit, sum: Option<StepSum>) {
        // First what others wait for. What follows shares these parameters; the next commit leaves them as they are.
        self.send_parameters(None);
        let Some(serving) = &mut self.serving else { return };
        if let Err(lost) = serving.mirror.committed(serving.membership.epoch, commit, sum) {
            self.setup.outbox.peer_lost(serving.membership.epoch, lost);
        }
        self.count();
        self.finish_if_done();
    }

    /// The last commit counts once the replica has made it too, and everything follows from it that follows from a commit.
    pub(super) fn count(&mut self) {
        let Some(serving) = &mut self.serving else { return };
        let Some(commit) = serving.mirror.counted() else { return };
        let membership = serving.membership.epoch;
        if let Some(workers) = serving.paces.due(Instant::now()) {
            self.setup.outbox.report_latest(WorkerReport::Paces(Paces { membership, workers }));
        }
        let wanted = tell_of(&commit, membership, &mut serving.meter, &mut self.due, &self.setup, &self.keeper);
        if let Some(purpose) = wanted {
            self.collect(purpose);
        }
    }

    fn go_on(&mut self) {
        let Some(serving) = &self.serving else { return };
        self.links.retain(|_, (membership, _)| *membership >= serving.membership.epoch);
        self.send_parameters(None);
        self.count();
        self.finish_if_done();
    }

    pub(super) fn finish_if_done(&mut self) {
        let done = |serving: &&Serving| serving.own.state.is_finished() && serving.mirror.is_ready();
        let Some(serving) = self.serving.as_ref().filter(done) else { return };
        self.collect(Purpose::Finish { train_loss: serving.own.state.train_loss() });
    }

    fn save(&mut self) {
        if self.serving.is_some() {
            self.due.note_saved(Instant::now());
        }
        self.collect(Purpose::Save);
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
    /// Takes in one trainer's gradients.
    fn accept(&mut self, gradients: Gradients, shards: u32) -> Result<(), Refusal> {
        if gradients.membership != self.membership.epoch
            || gradients.step != self.own.state.step()
            || self.own.state.is_finished()
            || self.received.contains(&gradients.worker)
        {
            return Err(Refusal::Late);
        }
        self.check(&gradients, shards)?;
        self.received.insert(gradients.worker);
        let carried = gradients.parts.iter().map(|(_, part)| part.losses.len() as u32).sum();
        self.paces.received(gradients.worker, carried, Instant::now());
        for (node, part) in gradients.parts {
            self.own.state.receive(node, part);
        }
        Ok(())
    }

    fn check(&self, gradients: &Gradients, shards: u32) -> Result<(), Refusal> {
        let tree = ReductionTree::new(shards);
        check_parts(&self.membership, tree, gradients)?;
        for (node, part) in &gradients.parts {
            if part.losses.len() != tree.covers(*node).len() as usize {
                return Err(Refusal::Wrong(format!("{} sent {} losses", gradients.worker, part.losses.len())));
            }
            self.own.state.check(*node, part.gradient.values().len(), &part.samples).map_err(|error| match error {
                PartError::Length { .. } => Refusal::Wrong(error.to_string()),
                PartError::Samples { .. } => Refusal::Ledger(format!("worker {}: {error}", gradients.worker)),
            })?;
        }
        Ok(())
    }
}

/// Whether these are the parts that a member adds up for the block it carries.
pub(super) fn check_parts(membership: &Membership, tree: ReductionTree, gradients: &Gradients) -> Result<(), Refusal> {
    let Some(member) = membership.member(gradients.worker) else {
        return Err(Refusal::Wrong(format!("{} is no member", gradients.worker)));
    };
    let block = ShardRange { start: member.shard_start, end: member.shard_end };
    let nodes: Vec<TreeNode> = gradients.parts.iter().map(|(node, _)| *node).collect();
    match nodes == tree.cover(block) {
        true => Ok(()),
        false => Err(Refusal::Wrong(format!("{} sent other parts than it carries", gradients.worker))),
    }
}
