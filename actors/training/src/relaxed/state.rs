//! The training state of a job whose logical shards do not go in step.
//!
//! As [`crate::state::TrainingState`], a pure state machine: the parameter server feeds it with gradients and looks at what
//! follows. A gradient counts by its share of the step, as [`Optimiser::step_part`] says. A step counts as committed when the
//! last shard has made it; an epoch ends with its last step.

use std::collections::VecDeque;
use std::sync::Arc;

use neap_scheduler::elastic::{ReductionTree, SampleOrder, ShardRange, TreeNode};
use neap_scheduler::spec::Consistency;

use super::clocks::{Clocks, Next, Order};
use crate::finite::{NotFinite, first_not_finite};
use crate::ledger::{LedgerError, SampleLedger};
use crate::optimiser::{Optimiser, Share};
use crate::parameters::Parameters;
use crate::reduction::{Buffers, Floats, Part, add};
use crate::schedule::Schedule;
use crate::state::{Commit, EpochSummary, PartError, RelaxedPosition, Snapshot, StepError};
use crate::update::UpdateSettings;

/// Where a job's training stands.
pub struct RelaxedState {
    schedule: Schedule,
    tree: ReductionTree,
    parameters: Parameters,
    settings: UpdateSettings,
    optimiser: Optimiser,
    clocks: Clocks,
    /// The epochs that some shard is in and not all have ended, from `first_epoch` on.
    epochs: VecDeque<OpenEpoch>,
    first_epoch: u32,
    last_epoch_loss: f64,
    /// What was applied since the slowest shard last made a step.
    since_commit: (u64, f64),
    buffers: Buffers,
}

/// An epoch under way.
struct OpenEpoch {
    order: SampleOrder,
    ledger: SampleLedger,
    loss: f64,
}

impl RelaxedState {
    /// The state before the first step.
    pub fn new(schedule: Schedule, consistency: Consistency, settings: UpdateSettings, parameters: Vec<f32>) -> Self {
        let optimiser = Optimiser::new(settings.optimiser, parameters.len());
        Self::build(schedule, settings, optimiser, Arc::new(parameters), Clocks::new(&schedule, consistency))
    }

    /// The state of a snapshot; `None` where it does not fit the job.
    pub fn restore(
        schedule: Schedule,
        consistency: Consistency,
        settings: UpdateSettings,
        length: usize,
        snapshot: Snapshot,
    ) -> Option<Self> {
        let RelaxedPosition { clocks, epoch_losses } = snapshot.relaxed?;
        let clocks = Clocks::restore(&schedule, consistency, clocks)?;
        if snapshot.parameters.len() != length || snapshot.step != clocks.slowest() {
            return None;
        }
        let optimiser = Optimiser::restore(settings.optimiser, length, snapshot.optimiser_time, snapshot.moments)?;
        let mut state = Self::build(schedule, settings, optimiser, snapshot.parameters, clocks);
        state.last_epoch_loss = snapshot.last_epoch_loss;
        state.enter_what_is_done().ok()?;
        // An epoch without a step may have been begun too.
        if epoch_losses.len() < state.epochs.len() {
            return None;
        }
        state.epochs.iter_mut().zip(epoch_losses).for_each(|(epoch, loss)| epoch.loss = loss);
        Some(state)
    }

    fn build(
        schedule: Schedule,
        settings: UpdateSettings,
        optimiser: Optimiser,
        parameters: Arc<Vec<f32>>,
        clocks: Clocks,
    ) -> Self {
        Self {
            schedule,
            tree: ReductionTree::new(schedule.logical_shards),
            parameters: Parameters::new(parameters),
            settings,
            optimiser,
            first_epoch: schedule.place(clocks.slowest()).0,
            clocks,
            epochs: VecDeque::new(),
            last_epoch_loss: 0.0,
            since_commit: (0, 0.0),
            buffers: Buffers::default(),
        }
    }

    /// Steps that every shard has made.
    pub fn step(&self) -> u64 {
        self.clocks.slowest()
    }

    /// How far each shard has come.
    pub fn clocks(&self) -> &Clocks {
        &self.clocks
    }

    /// Whether every shard has made all steps.
    pub fn is_finished(&self) -> bool {
        self.clocks.is_finished()
    }

    /// The newest parameters.
    pub fn parameters(&self) -> &Arc<Vec<f32>> {
        self.parameters.shared()
    }

    /// What whoever carries `block` does next. It may be the first step of an epoch.
    pub fn next(&mut self, block: ShardRange) -> Next {
        let next = self.clocks.next(block);
        if let Next::Compute(order) = next {
            self.open(order.step);
        }
        next
    }

    /// Mean loss of a sample in the oldest epoch under way, or in the one before where that has none yet.
    pub fn train_loss(&self) -> f64 {
        match self.epochs.front().map(|epoch| (epoch.ledger.committed(), epoch.loss)) {
            None | Some((0, _)) => self.last_epoch_loss,
            Some((committed, loss)) => loss / committed as f64,
        }
    }

    /// Shares the buffers of whoever computes in this process.
    #[must_use]
    pub fn with_buffers(self, buffers: Buffers) -> Self {
        Self { buffers, ..self }
    }

    /// What a checkpoint holds.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            step: self.step(),
            parameters: self.parameters().clone(),
            optimiser_time: self.optimiser.time(),
            moments: self.optimiser.moments().to_vec(),
            epoch_loss: self.epochs.front().map_or(0.0, |epoch| epoch.loss),
            last_epoch_loss: self.last_epoch_loss,
            relaxed: Some(RelaxedPosition {
                clocks: self.clocks.steps().to_vec(),
                epoch_losses: self.epochs.iter().map(|epoch| epoch.loss).collect(),
            }),
        }
    }

    /// Whether a part belongs to an order that [`Self::next`] gave out.
    ///
    /// # Errors
    ///
    /// [`PartError`] where it does not.
    pub fn check(&self, order: Order, node: TreeNode, length: usize, samples: &[u32]) -> Result<(), PartError> {
        let expected = self.parameters().len();
        if length != expected {
            return Err(PartError::Length { found: length, expected });
        }
        let covers = self.tree.covers(node);
        let (epoch, cursor) = self.schedule.place(order.step);
        let open = epoch.checked_sub(self.first_epoch).and_then(|at| self.epochs.get(at as usize));
        let order_of = |open: &OpenEpoch| samples == open.order.ids(open.order.block(cursor, covers));
        match !covers.is_empty() && open.is_some_and(order_of) {
            true => Ok(()),
            false => Err(PartError::Samples { start: covers.start, end: covers.end, step: order.step }),
        }
    }

    /// Applies the gradient of an order whose parts [`Self::check`] has seen, left to right. Returns the step that all shards
    /// have made by it, if there is one.
    ///
    /// # Errors
    ///
    /// [`StepError`]; the job must end then.
    pub fn apply(&mut self, order: Order, parts: Vec<Part<Box<dyn Floats>>>) -> Result<Option<Commit>, StepError> {
        let before = self.step();
        let Some(sum) = self.sum(parts) else { return Ok(None) };
        let fault = NotFinite::find(order.step, &sum.losses, first_not_finite(sum.gradient.values()));
        if let Some(fault) = fault {
            return Err(fault.with_shards_from(order.shards.start).into());
        }
        let loss = sum.losses.iter().sum::<f64>();
        let epoch = self.open(order.step);
        epoch.ledger.commit(&sum.samples)?;
        epoch.loss += loss;
        self.since_commit.0 += sum.samples.len() as u64;
        self.since_commit.1 += loss;
        let share = Share { parts: order.shards.len(), whole: self.schedule.logical_shards };
        let gradient = sum.gradient.values();
        let total = self.schedule.steps_total();
        let scale = self.settings.part_scale(order.step, total, gradient, share.portion());
        self.optimiser.step_part(self.parameters.to_mut(), gradient, scale, share);
        sum.gradient.into_vec().into_iter().for_each(|buffer| self.buffers.put(buffer));
        self.clocks.advance(order);
        if self.step() > before { Ok(Some(self.commit()?)) } else { Ok(None) }
    }

    /// The slowest shard has made a step.
    fn commit(&mut self) -> Result<Commit, LedgerError> {
        let (samples, loss) = std::mem::take(&mut self.since_commit);
        let step = self.step();
        let ends = self.schedule.place(step).1 == 0;
        let epoch = if ends { Some(self.close_epoch()?) } else { None };
        Ok(Commit { step, samples, loss, epoch })
    }

    fn close_epoch(&mut self) -> Result<EpochSummary, LedgerError> {
        let number = self.first_epoch;
        let Some(done) = self.epochs.pop_front() else { unreachable!("its last step was applied just now") };
        self.first_epoch += 1;
        let samples = done.ledger.committed();
        self.last_epoch_loss = done.loss / samples.max(1) as f64;
        let sample_digest = done.ledger.close()?;
        Ok(EpochSummary { epoch: number, samples, sample_digest, train_loss: self.last_epoch_loss })
    }

    /// The epoch of a step, begun where no shard has been in it.
    fn open(&mut self, step: u64) -> &mut OpenEpoch {
        let at = (self.schedule.place(step).0 - self.first_epoch) as usize;
        while self.epochs.len() <= at {
            let order = self.schedule.order(self.first_epoch + self.epochs.len() as u32);
            let ledger = SampleLedger::new(self.schedule.samples);
            self.epochs.push_back(OpenEpoch { order, ledger, loss: 0.0 });
        }
        &mut self.epochs[at]
    }

    fn sum(&self, parts: Vec<Part<Box<dyn Floats>>>) -> Option<Part<Box<dyn Floats>>> {
        parts.into_iter().reduce(|mut sum, part| {
            add(sum.gradient.values_mut(), part.gradient.values());
            sum.losses.extend(part.losses);
            sum.samples.extend(part.samples);
            part.gradient.into_vec().into_iter().for_each(|buffer| self.buffers.put(buffer));
            sum
        })
    }

    /// Enters into the ledgers what the clocks say is done.
    fn enter_what_is_done(&mut self) -> Result<(), LedgerError> {
        let first_step = u64::from(self.first_epoch) * self.schedule.steps_per_epoch();
        for step in first_step..self.clocks.fastest() {
            let cursor = self.schedule.place(step).1;
            let clocks = self.clocks.steps().to_vec();
            let epoch = self.open(step);
            for (shard, _) in (0..).zip(&clocks).filter(|(_, clock)| **clock > step) {
                epoch.ledger.commit(epoch.order.ids(epoch.order.shard(cursor, shard)))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use neap_scheduler::elastic::assign;
    use neap_scheduler::spec::TrainLength;
    use proptest::prelude::*;

    use super::*;
    use crate::optimiser::{OptimiserSettings, SgdSettings};
    use crate::reduction::{Leaves, reduce_block};

    const SHARDS: u32 = 5;
    const EPOCHS: u32 = 4;
    /// 31 samples in steps of 10: the last step of an epoch has one sample for five shards.
    const SAMPLES: u32 = 31;

    const PLAIN: UpdateSettings =
        UpdateSettings::plain(OptimiserSettings::Sgd(SgdSettings { lr: 1.0, momentum: 0.0, weight_decay: 0.0 }));

    fn schedule() -> Schedule {
        Schedule {
            samples: SAMPLES,
            global_batch: 10,
            logical_shards: SHARDS,
            micro_batch: 10,
            shuffle_seed: Some(5),
            length: TrainLength::Epochs(EPOCHS),
        }
    }

    /// A stand-in for a model: each sample pulls the one parameter down by itself, so that the result tells how often each
    /// sample was used.
    struct Pull<'a> {
        order: &'a SampleOrder,
        cursor: u64,
    }

    impl Leaves for Pull<'_> {
        fn make(&mut self, shard: u32, _: &Buffers) -> Part<Vec<f32>> {
            let ids = self.order.ids(self.order.shard(self.cursor, shard));
            let pull = ids.iter().map(|&id| (id + 1) as f32).sum::<f32>();
            Part { gradient: vec![pull], losses: vec![f64::from(pull)], samples: ids.to_vec() }
        }
    }

    type Sent = Vec<(TreeNode, Part<Box<dyn Floats>>)>;

    fn compute(order: Order) -> Sent {
        let (epoch, cursor) = schedule().place(order.step);
        let samples = schedule().order(epoch);
        let tree = ReductionTree::new(SHARDS);
        let parts = reduce_block(tree, order.shards, &Buffers::default(), &mut Pull { order: &samples, cursor });
        let boxed = |part: Part<Vec<f32>>| Part {
            gradient: Box::new(part.gradient) as Box<dyn Floats>,
            losses: part.losses,
            samples: part.samples,
        };
        parts.into_iter().map(|(node, part)| (node, boxed(part))).collect()
    }

    fn take(state: &mut RelaxedState, order: Order) -> Option<Commit> {
        let sent = compute(order);
        for (node, part) in &sent {
            state.check(order, *node, part.gradient.values().len(), &part.samples).unwrap();
        }
        state.apply(order, sent.into_iter().map(|(_, part)| part).collect()).unwrap()
    }

    #[test]
    fn a_gradient_that_is_not_finite_is_not_applied() {
        let mut state = RelaxedState::new(schedule(), Consistency::Async, PLAIN, vec![0.0]);
        let Next::Compute(order) = state.next(ShardRange { start: 2, end: 4 }) else { panic!("nobody is behind") };
        let mut sent = compute(order);
        sent.last_mut().unwrap().1.losses[0] = f64::INFINITY;
        let error = state.apply(order, sent.into_iter().map(|(_, part)| part).collect()).unwrap_err();
        let StepError::NotFinite(fault) = error else { panic!("{error}") };
        assert_eq!((fault.step, fault.losses, fault.gradient), (0, vec![(3, f64::INFINITY)], None));
        assert_eq!((state.parameters()[0], state.step()), (0.0, 0));
    }

    /// What may happen next; the numbers choose among what is there.
    #[derive(Debug, Clone)]
    enum Event {
        /// The gradient of some worker arrives.
        Arrives(usize),
        /// So many workers carry the shards from now on; what was computed is lost.
        Regroup(u32),
        /// The server is lost and goes on from its last checkpoint.
        Restore,
        /// A checkpoint is written.
        Save,
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = prop_oneof![
            12 => (0usize..8).prop_map(Event::Arrives),
            1 => (1u32..=SHARDS).prop_map(Event::Regroup),
            1 => Just(Event::Restore),
            2 => Just(Event::Save),
        ];
        prop::collection::vec(event, 0..200)
    }

    fn consistency() -> impl Strategy<Value = Consistency> {
        prop_oneof![(0u32..4).prop_map(|staleness| Consistency::Ssp { staleness }), Just(Consistency::Async),]
    }

    /// A server with its workers.
    struct World {
        consistency: Consistency,
        state: RelaxedState,
        blocks: Vec<ShardRange>,
        /// What each worker computes.
        orders: Vec<Option<Order>>,
        saved: Snapshot,
        epochs: Vec<EpochSummary>,
    }

    impl World {
        fn new(consistency: Consistency) -> Self {
            let state = RelaxedState::new(schedule(), consistency, PLAIN, vec![0.0]);
            let saved = state.snapshot();
            let mut world =
                Self { consistency, state, blocks: Vec::new(), orders: Vec::new(), saved, epochs: Vec::new() };
            world.regroup(2);
            world
        }

        fn regroup(&mut self, workers: u32) {
            self.blocks = assign(SHARDS, workers);
            self.orders = vec![None; self.blocks.len()];
            self.hand_out();
        }

        fn hand_out(&mut self) {
            for (block, order) in self.blocks.iter().zip(&mut self.orders).filter(|(_, order)| order.is_none()) {
                let Next::Compute(next) = self.state.next(*block) else { continue };
                if let Consistency::Ssp { staleness } = self.consistency {
                    assert!(next.step - self.state.step() <= u64::from(staleness), "too far ahead: {next:?}");
                }
                *order = Some(next);
            }
            assert!(self.state.is_finished() || self.orders.iter().any(Option::is_some), "everybody waits");
        }

        fn arrives(&mut self, which: usize) {
            let begun: Vec<usize> = (0..self.orders.len()).filter(|&at| self.orders[at].is_some()).collect();
            let Some(&at) = begun.get(which % begun.len().max(1)) else { return };
            let order = self.orders[at].take().unwrap();
            let before = self.state.step();
            if let Some(commit) = take(&mut self.state, order) {
                assert_eq!(commit.step, before + 1);
                self.epochs.extend(commit.epoch);
            }
            self.hand_out();
        }

        fn restore(&mut self) {
            let state = RelaxedState::restore(schedule(), self.consistency, PLAIN, 1, self.saved.clone());
            self.state = state.expect("it was saved by such a state");
            let (epoch, _) = schedule().place(self.state.step());
            self.epochs.retain(|summary| summary.epoch < epoch);
            self.regroup(self.blocks.len() as u32);
        }

        fn happens(&mut self, event: &Event) {
            match *event {
                Event::Arrives(which) => self.arrives(which),
                Event::Regroup(workers) => self.regroup(workers),
                Event::Restore => self.restore(),
                Event::Save => self.saved = self.state.snapshot(),
            }
        }
    }

    proptest! {
        #[test]
        fn every_sample_counts_once_an_epoch_whatever_happens(
            consistency in consistency(),
            events in events(),
            turn in 0usize..8,
        ) {
            let mut world = World::new(consistency);
            events.iter().for_each(|event| world.happens(event));
            while !world.state.is_finished() {
                world.arrives(turn);
            }
            let numbers: Vec<u32> = world.epochs.iter().map(|epoch| epoch.epoch).collect();
            prop_assert_eq!(numbers, (0..EPOCHS).collect::<Vec<_>>());
            let once = f64::from((1..=SAMPLES).sum::<u32>());
            for epoch in &world.epochs {
                prop_assert_eq!(epoch.samples, u64::from(SAMPLES));
                prop_assert_eq!(epoch.train_loss, once / f64::from(SAMPLES));
            }
            // All sums here are whole numbers that a float holds exactly.
            prop_assert_eq!(f64::from(world.state.parameters()[0]), -once * f64::from(EPOCHS));
            prop_assert_eq!(world.state.train_loss(), once / f64::from(SAMPLES));
        }
    }

    #[test]
    fn a_gradient_of_other_samples_or_another_size_is_refused() {
        let mut state = RelaxedState::new(schedule(), Consistency::Async, PLAIN, vec![0.0]);
        let Next::Compute(order) = state.next(ShardRange { start: 0, end: 1 }) else { panic!("nothing to do") };
        let node = TreeNode { level: 0, index: 0 };
        let samples = compute(order).remove(0).1.samples;
        assert_eq!(state.check(order, node, 1, &samples), Ok(()));
        assert!(matches!(state.check(order, node, 2, &samples), Err(PartError::Length { found: 2, expected: 1 })));
        assert!(matches!(state.check(order, node, 1, &[]), Err(PartError::Samples { step: 0, .. })));
        let beyond = TreeNode { level: 0, index: 200 };
        assert!(state.check(order, beyond, 1, &[]).is_err());
        let not_begun = Order { step: 4, ..order };
        assert!(state.check(not_begun, node, 1, &compute(not_begun).remove(0).1.samples).is_err());
    }

    #[test]
    fn a_snapshot_of_shards_in_step_is_refused_and_the_other_way_round() {
        let relaxed = RelaxedState::new(schedule(), Consistency::Async, PLAIN, vec![0.0]);
        let in_step = crate::state::TrainingState::new(schedule(), PLAIN, vec![0.0]);
        assert!(RelaxedState::restore(schedule(), Consistency::Async, PLAIN, 1, in_step.snapshot()).is_none());
        assert!(crate::state::TrainingState::restore(schedule(), PLAIN, 1, relaxed.snapshot()).is_none());
    }
}
