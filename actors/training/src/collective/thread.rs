//! The thread of an all-reduce: computes this worker's gradients, exchanges them, commits the same step as everybody.
//!
//! One event after the other; the next gradients are computed when none is waiting. A membership goes through three
//! phases: the workers meet, those that are behind are given the state, then steps follow each other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::Instant;

use neap_runtime::BulkBuffer;
use neap_runtime::wire::collective::{CollectiveContent, CollectiveHeader, CollectiveHello};
use neap_runtime::wire::worker::{FailureKind, Membership};
use neap_scheduler::elastic::{ReductionTree, ShardRange};
use neap_scheduler::model::WorkerId;

use super::batches::Batches;
use super::exchange::{Exchange, Outcome, Refusal, Sum};
use super::group::Group;
use super::link::LinkMessage;
use super::payload::{Outgoing, Tail};
use super::rendezvous::{Agreement, Rendezvous, Source, Standing};
use super::{COLLECTIVE_QUEUE_MAX, CollectiveEvent, Links};
use crate::links::{PanicGuard, ParameterValues};
use crate::loader::{FeedError, JobData};
use crate::reduction::{Floats, Part};
use crate::replica::{Incoming, Replica, parts_of};
use crate::server::{Due, Keeper, KeeperJob, Meter, RestoreError, ServerSetup, tell_of};
use crate::state::{StepError, TrainingState};
use crate::trainer::{Crew, DataTeller, compute_alone};

/// The state of the thread.
pub(crate) struct CollectiveThread {
    worker: WorkerId,
    setup: ServerSetup,
    data: Arc<JobData>,
    crew: Crew,
    keeper: Keeper,
    replica: Option<Replica>,
    /// The newest hello of each worker; it may be ahead of this one.
    hellos: BTreeMap<WorkerId, CollectiveHello>,
    turn: Option<Turn>,
    /// When the lead's next checkpoint is.
    due: Due,
    /// Says what this worker's data cost.
    teller: DataTeller,
}

/// What belongs to one membership.
struct Turn {
    membership: Membership,
    links: Links,
    group: Group,
    phase: Phase,
    exchange: Exchange,
    incoming: Incoming,
    batches: Batches,
    meter: Meter,
    /// Another worker was the lead before.
    leads_anew: bool,
}

enum Phase {
    /// Not everybody is here.
    Meeting(Rendezvous),
    /// This worker is behind and waits for the state of that one.
    Receiving(WorkerId),
    /// The gradients of the next step are to be computed.
    Ready,
    /// They are, and the sum is waited for; or there is no next step.
    Waiting,
}

impl CollectiveThread {
    /// Starts the thread; it ends when the last sender of its events is dropped.
    ///
    /// # Errors
    ///
    /// Where the thread cannot be started.
    pub(crate) fn start(
        worker: WorkerId,
        setup: ServerSetup,
        data: Arc<JobData>,
        crew: Crew,
        keeper: Keeper,
        events: Receiver<CollectiveEvent>,
    ) -> std::io::Result<()> {
        let guard = PanicGuard { thread: "collective", session: setup.outbox.session.clone() };
        let due = Due::new(Instant::now());
        let mut thread = Self {
            worker,
            setup,
            data,
            crew,
            keeper,
            replica: None,
            hellos: BTreeMap::new(),
            turn: None,
            due,
            teller: DataTeller::default(),
        };
        let run = move || {
            let _guard = guard;
            compute_alone();
            thread.run(&events);
        };
        std::thread::Builder::new().name("collective".to_owned()).spawn(run).map(drop)
    }

    /// The queue of the thread's events.
    pub(crate) fn queue() -> (SyncSender<CollectiveEvent>, Receiver<CollectiveEvent>) {
        sync_channel(COLLECTIVE_QUEUE_MAX)
    }

    fn run(&mut self, events: &Receiver<CollectiveEvent>) {
        loop {
            let ready = self.turn.as_ref().is_some_and(|turn| matches!(turn.phase, Phase::Ready));
            let event = match ready {
                true => events.try_recv(),
                false => events.recv().map_err(|_| TryRecvError::Disconnected),
            };
            match event {
                Ok(event) => self.handle(event),
                Err(TryRecvError::Empty) => self.compute(),
                Err(TryRecvError::Disconnected) => return,
            }
        }
    }

    fn handle(&mut self, event: CollectiveEvent) {
        match event {
            CollectiveEvent::Adopt { membership, links } => self.adopt(membership, links),
            CollectiveEvent::Hello(hello) => self.greeted(hello),
            CollectiveEvent::Received { from, header, payload } => self.receive(from, header, payload),
            CollectiveEvent::Save => self.save(),
            CollectiveEvent::Stop { save, done } => {
                if save {
                    self.save();
                }
                self.turn = None;
                self.keeper.submit(KeeperJob::Flush(done));
            }
        }
    }

    fn adopt(&mut self, membership: Membership, links: Links) {
        let before = self.turn.take();
        let led = before.as_ref().is_some_and(|turn| turn.leads(self.worker));
        let tree = ReductionTree::new(self.setup.schedule.logical_shards);
        let Some(group) = Group::new(&membership, self.worker, tree, self.setup.layout.len()) else {
            return tracing::warn!(epoch = %membership.epoch, "a membership in which this worker carries nothing");
        };
        if membership.server == self.worker {
            self.keeper.submit(KeeperJob::Fence(membership.epoch));
        }
        self.due.note_losses(membership.losses_per_1000_h);
        let standing = Standing {
            state: self.replica.as_ref().map(Replica::mark),
            checkpoint_step: membership.restore.as_ref().map(|checkpoint| checkpoint.step),
        };
        let hello = CollectiveHello {
            membership: membership.epoch,
            worker: self.worker,
            data_digest: self.setup.data_digest,
            state: standing.state,
            checkpoint_step: standing.checkpoint_step,
            device: self.setup.device.model().to_owned(),
        };
        for link in links.values() {
            // A task that has ended belongs to a membership that is over.
            let _ = link.blocking_send(LinkMessage::Hello(hello.clone()));
        }
        let (strict, epoch) = (self.setup.job.strict, membership.epoch);
        let meter = Meter::after(before.as_ref().and_then(|turn| turn.meter.last()));
        let batches = match before {
            // Batches do not depend on the membership: those prepared for the same shards are kept.
            Some(turn) if turn.batches.block() == group.block(group.me()) => turn.batches,
            _ => Batches::new(group.block(group.me())),
        };
        self.turn = Some(Turn {
            phase: Phase::Meeting(Rendezvous::new(membership.server, group.workers())),
            exchange: Exchange::new(group.clone(), self.setup.buffers.clone(), strict),
            incoming: Incoming::default(),
            batches,
            meter,
            leads_anew: membership.server == self.worker && !led,
            membership,
            links,
            group,
        });
        self.note(self.worker, standing);
        self.hellos.retain(|_, hello| hello.membership >= epoch);
        let here = self.hellos.values().cloned().collect::<Vec<_>>();
        here.into_iter().for_each(|hello| self.meet(&hello));
    }

    fn greeted(&mut self, hello: CollectiveHello) {
        let known = self.hellos.get(&hello.worker).map(|known| known.membership);
        if known.is_none_or(|known| known < hello.membership) {
            self.hellos.insert(hello.worker, hello.clone());
        }
        self.meet(&hello);
    }

    /// What keeps this worker and another one from making a step together.
    fn mismatch(&self, hello: &CollectiveHello) -> Option<String> {
        if hello.data_digest == self.setup.data_digest {
            return self.setup.other_device(hello.worker, &hello.device);
        }
        Some(format!(
            "worker {} has other training data under {} than worker {}; give all nodes the same data, and do not change \
             it while a job runs",
            hello.worker, self.setup.job.train_data.path, self.worker
        ))
    }

    /// Whoever does not match the lead ends the job, and the lead says so: it hears of everybody.
    fn refuse(&self, hello: &CollectiveHello, text: String) {
        tracing::error!(worker = %hello.worker, text, "another worker does not match");
        if self.turn.as_ref().is_some_and(|turn| turn.leads(self.worker)) {
            self.setup.outbox.fail(FailureKind::Invalid, text);
        }
    }

    /// Notes a hello where it belongs to the membership in force.
    fn meet(&mut self, hello: &CollectiveHello) {
        if self.turn.as_ref().is_none_or(|turn| turn.membership.epoch != hello.membership) {
            return;
        }
        match self.mismatch(hello) {
            None => {
                let standing = Standing { state: hello.state, checkpoint_step: hello.checkpoint_step };
                self.note(hello.worker, standing);
            }
            Some(text) => self.refuse(hello, text),
        }
    }

    fn note(&mut self, worker: WorkerId, standing: Standing) {
        let Some(Turn { phase: Phase::Meeting(rendezvous), .. }) = &mut self.turn else { return };
        if let Some(agreement) = rendezvous.note(worker, standing) {
            self.agreed(&agreement);
        }
    }

    fn agreed(&mut self, agreement: &Agreement) {
        let source = agreement.source.worker();
        if agreement.receivers.contains(&self.worker) {
            self.set_phase(Phase::Receiving(source));
            return self.take_over_state(source);
        }
        if let Source::Lead(_) = agreement.source
            && !self.begin()
        {
            return;
        }
        if source == self.worker {
            self.hand_over_state(agreement);
        }
        self.begin_steps();
    }

    /// Makes the state from the newest checkpoint or from the job's seed.
    fn begin(&mut self) -> bool {
        let Some(turn) = &self.turn else { return false };
        let ServerSetup { job, schedule, layout, buffers, .. } = &self.setup;
        let restored = self.setup.restore(&turn.membership).and_then(|(name, snapshot)| {
            let state = TrainingState::restore(*schedule, job.update, layout.len(), snapshot);
            state.ok_or_else(|| RestoreError::of_another_model(name))
        });
        match restored {
            Ok(state) => {
                let replica = Replica::new(state, turn.membership.epoch, None);
                self.replica = Some(replica.with_buffers(buffers.clone()));
                true
            }
            Err(error) => {
                self.setup.outbox.fail(FailureKind::Invalid, error.text());
                false
            }
        }
    }

    fn hand_over_state(&mut self, agreement: &Agreement) {
        let (Some(turn), Some(replica)) = (&self.turn, &self.replica) else { return };
        if agreement.receivers.is_empty() {
            return;
        }
        for (part, piece) in parts_of(replica) {
            for &to in &agreement.receivers {
                let (content, pieces) = (CollectiveContent::State(part.clone()), vec![piece.clone()]);
                turn.send(Outgoing { to, content, pieces, tail: Tail::default() });
            }
        }
    }

    /// Takes up the state of `source`, where all of it has come in.
    fn take_over_state(&mut self, source: WorkerId) {
        let ServerSetup { job, schedule, layout, buffers, .. } = &self.setup;
        let Some(turn) = &mut self.turn else { return };
        match turn.incoming.take(source, job, *schedule, layout.len()) {
            Ok(None) => {}
            Ok(Some(replica)) => {
                self.replica = Some(replica.with_buffers(buffers.clone()));
                self.begin_steps();
            }
            Err(error) => self.setup.outbox.fail(FailureKind::Invalid, error.to_string()),
        }
    }

    fn begin_steps(&mut self) {
        if self.turn.as_ref().is_some_and(|turn| turn.leads_anew) {
            self.tell_of_last_epoch();
        }
        self.go_on();
    }

    fn go_on(&mut self) {
        let finished = self.replica.as_ref().is_none_or(|replica| replica.state.is_finished());
        self.set_phase(if finished { Phase::Waiting } else { Phase::Ready });
        self.finish_if_done();
    }

    fn set_phase(&mut self, phase: Phase) {
        if let Some(turn) = &mut self.turn {
            turn.phase = phase;
        }
    }

    fn compute(&mut self) {
        let (Some(turn), Some(replica)) = (&mut self.turn, &self.replica) else { return };
        turn.phase = Phase::Waiting;
        let (step, block) = (replica.state.step(), turn.block());
        let batch = match turn.batches.next(&self.data, &self.setup.schedule, step) {
            Ok(batch) => batch,
            Err(error) => return self.fail(&error),
        };
        let parameters = ParameterValues::Shared(replica.state.parameters().clone());
        let parts = self.crew.compute(turn.group.tree(), block, parameters, batch);
        self.teller.tell(&self.data, turn.membership.epoch, &self.setup.outbox);
        let outcome = turn.exchange.start(step, parts);
        self.follow(outcome);
    }

    fn receive(&mut self, from: WorkerId, header: CollectiveHeader, payload: BulkBuffer) {
        let length = self.setup.layout.len();
        let Some(turn) = self.turn.as_mut().filter(|turn| turn.membership.epoch == header.membership) else {
            return tracing::debug!(%from, membership = %header.membership, "a payload of another membership refused");
        };
        let CollectiveContent::State(part) = header.content else {
            let outcome = turn.exchange.receive(from, header.content, payload);
            return self.follow(outcome);
        };
        if !turn.incoming.add(from, part, payload, length) {
            return tracing::warn!(%from, "a buffer of another state refused");
        }
        if let Phase::Receiving(source) = turn.phase {
            self.take_over_state(source);
        }
    }

    fn follow(&mut self, outcome: Result<Outcome, Refusal>) {
        let Some(turn) = &self.turn else { return };
        match outcome {
            Ok(Outcome { send, sum }) => {
                send.into_iter().for_each(|outgoing| turn.send(outgoing));
                if let Some(sum) = sum {
                    self.commit(sum);
                }
            }
            Err(Refusal::Late) => tracing::debug!("a payload of another step refused"),
            Err(refusal @ Refusal::Wrong(_)) => tracing::warn!(%refusal, "a payload refused"),
        }
    }

    fn commit(&mut self, sum: Sum) {
        let (Some(turn), Some(replica)) = (&mut self.turn, &mut self.replica) else { return };
        debug_assert_eq!(sum.step, replica.state.step(), "only the step that was computed is exchanged");
        let root = turn.group.tree().root();
        let Part { gradient, losses, samples } = sum.part;
        if let Err(error) = replica.state.check(root, gradient.len(), &samples) {
            return self.setup.outbox.fail(FailureKind::DataLedger, error.to_string());
        }
        let part = Part { gradient: Box::new(gradient) as Box<dyn Floats>, losses, samples };
        let commit = match replica.state.insert(root, part) {
            Ok(commit) => commit.expect("the root alone completes the sum"),
            Err(error) => return self.give_up(error),
        };
        replica.committed(&commit, turn.membership.epoch);
        if turn.leads(self.worker) {
            let membership = turn.membership.epoch;
            let wanted = tell_of(&commit, membership, &mut turn.meter, &mut self.due, &self.setup, &self.keeper);
            if let Some(purpose) = wanted {
                self.keeper.submit(purpose.job(membership, replica.state.snapshot()));
            }
        } else {
            turn.meter.pass();
        }
        self.go_on();
    }

    /// Ends the job over a step that is not made. Every worker comes to the same fault in the same words, and the lead says
    /// so, behind the checkpoints that are being written: they are of steps that were made.
    fn give_up(&mut self, error: StepError) {
        let Some(turn) = self.turn.take() else { return };
        if turn.leads(self.worker) {
            let (kind, message) = match error {
                StepError::Ledger(error) => (FailureKind::DataLedger, error.to_string()),
                StepError::NotFinite(fault) => (FailureKind::User, fault.describe(&self.setup.layout)),
            };
            self.keeper.submit(KeeperJob::Fail { kind, message });
        }
    }

    /// The lead before may have been lost before it had evaluated the last epoch. Told twice, it is the same.
    fn tell_of_last_epoch(&self) {
        let (Some(turn), Some(replica)) = (&self.turn, &self.replica) else { return };
        let Some((summary, snapshot)) = replica.last_epoch().cloned() else { return };
        let membership = turn.membership.epoch;
        self.keeper.submit(KeeperJob::Epoch { membership, summary, snapshot, save: false });
    }

    fn finish_if_done(&self) {
        let (Some(turn), Some(replica)) = (&self.turn, &self.replica) else { return };
        if replica.state.is_finished() && turn.leads(self.worker) {
            self.keeper.submit(KeeperJob::Finish {
                membership: turn.membership.epoch,
                train_loss: replica.state.train_loss(),
                snapshot: replica.state.without_moments(),
            });
        }
    }

    fn save(&mut self) {
        let (Some(turn), Some(replica)) = (&self.turn, &self.replica) else { return };
        if turn.leads(self.worker) {
            self.due.note_saved(Instant::now());
            let (membership, snapshot) = (turn.membership.epoch, replica.state.snapshot());
            self.keeper.submit(KeeperJob::Save { membership, snapshot });
        }
    }

    fn fail(&mut self, error: &FeedError) {
        self.turn = None;
        let text = match error {
            FeedError::Fetch(cause) => cause.to_string(),
            FeedError::Ended => error.to_string(),
        };
        self.setup.outbox.fail(FailureKind::Invalid, text);
    }
}

impl Turn {
    fn leads(&self, worker: WorkerId) -> bool {
        self.membership.server == worker
    }

    fn block(&self) -> ShardRange {
        self.group.block(self.group.me())
    }

    fn send(&self, outgoing: Outgoing) {
        if let Some(link) = self.links.get(&outgoing.to) {
            // A task that has ended belongs to a membership that is over.
            let _ = link.blocking_send(LinkMessage::Payload(outgoing));
        }
    }
}
