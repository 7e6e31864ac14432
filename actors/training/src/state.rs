//! The training state: parameters, optimiser, data cursor and sample ledger, advanced together by one commit a step.
//!
//! A pure state machine: the parameter server's thread feeds it with parts of gradients and looks at what follows.
//! Nothing of a step is visible before its commit; abandoning a step leaves no trace (invariants 5 to 7).

use std::ops::Range;
use std::sync::Arc;

use neap_scheduler::elastic::{ReductionTree, TreeNode};

use crate::books::Books;
use crate::finite::NotFinite;
use crate::ledger::LedgerError;
use crate::optimiser::{Optimiser, Scale};
use crate::reduction::{Buffers, Floats, Part};
use crate::schedule::Schedule;
use crate::segment::{Prepared, Segment};
use crate::segments::Cut;
use crate::update::UpdateSettings;

/// Where a job's training stands: its books, and the parameters or, with several servers, the lead's segment of them.
pub struct TrainingState {
    tree: ReductionTree,
    settings: UpdateSettings,
    books: Books,
    segment: Segment,
}

/// Everything that a training goes on from.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Steps committed.
    pub step: u64,
    /// The parameters.
    pub parameters: Arc<Vec<f32>>,
    /// Steps of the optimiser.
    pub optimiser_time: u64,
    /// Its buffers.
    pub moments: Vec<Vec<f32>>,
    /// Sum of losses in the epoch so far.
    pub epoch_loss: f64,
    /// Mean loss of a sample in the epoch before.
    pub last_epoch_loss: f64,
    /// Where the logical shards do not go in step: how far each has come.
    pub relaxed: Option<RelaxedPosition>,
}

/// How far each logical shard has come, where they do not go in step.
#[derive(Debug, Clone, PartialEq)]
pub struct RelaxedPosition {
    /// The steps of each shard.
    pub clocks: Vec<u64>,
    /// The sum of losses so far in each epoch that some shard has begun and not all have ended, the oldest first.
    pub epoch_losses: Vec<f64>,
}

impl Snapshot {
    /// The state before the first step.
    pub fn initial(settings: UpdateSettings, parameters: Vec<f32>) -> Self {
        let fresh = Optimiser::new(settings.optimiser, parameters.len());
        Self {
            step: 0,
            parameters: Arc::new(parameters),
            optimiser_time: fresh.time(),
            moments: fresh.into_moments(),
            epoch_loss: 0.0,
            last_epoch_loss: 0.0,
            relaxed: None,
        }
    }
}

/// A part of a gradient that does not belong to the step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PartError {
    /// Of another length than the parameters.
    #[error("a gradient of {found} values for {expected} parameters")]
    Length {
        /// Its length.
        found: usize,
        /// The parameters' length.
        expected: usize,
    },
    /// Made from other samples than those of the step.
    #[error("the samples of shards {start}..{end} are not those of step {step}")]
    Samples {
        /// First shard.
        start: u32,
        /// One past the last shard.
        end: u32,
        /// The step.
        step: u64,
    },
}

/// Why a complete step is not committed. The job must end then.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StepError {
    /// The sample ledger does not balance.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A loss or a gradient is not finite.
    #[error(transparent)]
    NotFinite(#[from] NotFinite),
}

/// What a commit brought.
#[derive(Debug, Clone, PartialEq)]
pub struct Commit {
    /// Steps committed, this one included.
    pub step: u64,
    /// Samples of the step.
    pub samples: u64,
    /// Sum of their losses.
    pub loss: f64,
    /// Where the step was the last of an epoch.
    pub epoch: Option<EpochSummary>,
}

/// A whole epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EpochSummary {
    /// The epoch, counted from 0.
    pub epoch: u32,
    /// Samples committed: all of them.
    pub samples: u64,
    /// Digest of their ids in the order of commits.
    pub sample_digest: [u8; 32],
    /// Mean loss of a sample.
    pub train_loss: f64,
}

impl TrainingState {
    /// The state before the first step.
    pub fn new(schedule: Schedule, settings: UpdateSettings, parameters: Vec<f32>) -> Self {
        let length = parameters.len();
        let whole = Snapshot::initial(settings, parameters);
        Self::restore(schedule, settings, length, whole).expect("an initial state fits the job it was made for")
    }

    /// The state of a snapshot; `None` where it does not fit the job.
    pub fn restore(schedule: Schedule, settings: UpdateSettings, length: usize, snapshot: Snapshot) -> Option<Self> {
        Self::restore_segment(schedule, settings, Cut::new(length), 0..length, snapshot)
    }

    /// The state of a snapshot as the lead of several servers has it, which holds the segment `range`; `None` where the
    /// snapshot does not fit the job.
    pub fn restore_segment(
        schedule: Schedule,
        settings: UpdateSettings,
        cut: Cut,
        range: Range<usize>,
        snapshot: Snapshot,
    ) -> Option<Self> {
        let books = Books::new(schedule, snapshot.step, snapshot.epoch_loss, snapshot.last_epoch_loss)?;
        let tree = ReductionTree::new(schedule.logical_shards);
        let segment = Segment::new(tree, cut, range, &settings, snapshot)?;
        Some(Self { tree, settings, books, segment })
    }

    /// The order of the job's work.
    pub fn schedule(&self) -> &Schedule {
        self.books.schedule()
    }

    /// Steps committed; the step that is computed now.
    pub fn step(&self) -> u64 {
        self.books.step()
    }

    /// Whether all steps are committed.
    pub fn is_finished(&self) -> bool {
        self.books.is_finished()
    }

    /// The parameters of the current step.
    pub fn parameters(&self) -> &Arc<Vec<f32>> {
        self.segment.parameters()
    }

    /// Their positions in the flat buffer.
    pub fn range(&self) -> &Range<usize> {
        self.segment.range()
    }

    /// Mean loss of a sample in the current epoch so far, or in the last one where the current has no step yet.
    pub fn train_loss(&self) -> f64 {
        self.books.train_loss()
    }

    /// Shares the buffers of whoever computes in this process.
    #[must_use]
    pub fn with_buffers(self, buffers: Buffers) -> Self {
        Self { segment: self.segment.with_buffers(buffers), ..self }
    }

    /// What a checkpoint holds; of the parameters and the optimiser's buffers what lies in this state's segment.
    /// Parameters are shared, not copied: the next commit leaves them as they are.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { moments: self.segment.optimiser().moments().to_vec(), ..self.without_moments() }
    }

    /// As [`Self::snapshot`], without the optimiser's buffers: what a model is made of.
    pub fn without_moments(&self) -> Snapshot {
        let (epoch_loss, last_epoch_loss) = self.books.losses();
        Snapshot {
            step: self.step(),
            parameters: self.segment.parameters().clone(),
            optimiser_time: self.segment.optimiser().time(),
            moments: Vec::new(),
            epoch_loss,
            last_epoch_loss,
            relaxed: None,
        }
    }

    /// Forgets the parts of the current step that have come in.
    pub fn abandon_step(&mut self) {
        self.segment.abandon_step();
    }

    /// Whether a part belongs to the current step.
    ///
    /// # Errors
    ///
    /// [`PartError`] where it does not.
    pub fn check(&self, node: TreeNode, length: usize, samples: &[u32]) -> Result<(), PartError> {
        let expected = self.segment.range().len();
        if length != expected {
            return Err(PartError::Length { found: length, expected });
        }
        let covers = self.tree.covers(node);
        match self.books.has(covers, samples) {
            true => Ok(()),
            false => Err(PartError::Samples { start: covers.start, end: covers.end, step: self.step() }),
        }
    }

    /// Takes in a part that [`Self::check`] has seen; whether the step's gradient is complete now.
    pub fn receive(&mut self, node: TreeNode, part: Part<Box<dyn Floats>>) -> bool {
        self.segment.insert(node, part)
    }

    /// Whether the step's gradient is complete.
    pub fn is_prepared(&self) -> bool {
        self.segment.sum().is_some()
    }

    /// The step's gradient with its losses and samples, once it is complete.
    pub fn sum(&self) -> Option<&Part<Box<dyn Floats>>> {
        self.segment.sum()
    }

    /// As [`Self::receive`], for a state that holds all parameters. The last part of a step commits it.
    ///
    /// # Errors
    ///
    /// [`StepError`]; the job must end then.
    pub fn insert(&mut self, node: TreeNode, part: Part<Box<dyn Floats>>) -> Result<Option<Commit>, StepError> {
        self.receive(node, part);
        Ok(self.commit([])?.map(|(commit, _)| commit))
    }

    /// Commits the step if its gradient is complete. `others` are the segments of the other servers, in order behind this
    /// one's, all prepared for the same step. The scale is what they have to make their part of the step with.
    ///
    /// # Errors
    ///
    /// [`StepError`]; the job must end then.
    pub fn commit<'a>(
        &mut self,
        others: impl IntoIterator<Item = &'a Prepared>,
    ) -> Result<Option<(Commit, Scale)>, StepError> {
        let Some((sum, mut whole)) = self.segment.sum().zip(self.segment.prepared()) else { return Ok(None) };
        for other in others {
            whole.squares.extend(&other.squares);
            whole.not_finite = whole.not_finite.or(other.not_finite);
        }
        if let Some(fault) = NotFinite::find(self.books.step(), &sum.losses, whole.not_finite) {
            return Err(fault.into());
        }
        let scale = self.settings.scale(self.books.step(), self.schedule().steps_total(), whole.squares);
        let commit = self.books.commit(&sum.samples, &sum.losses)?;
        self.segment.apply(scale);
        Ok(Some((commit, scale)))
    }
}

#[cfg(test)]
mod tests {
    use neap_scheduler::elastic::{SampleOrder, assign};
    use neap_scheduler::spec::{OrderSpec, TrainLength};

    use super::*;
    use crate::optimiser::{OptimiserSettings, SgdSettings};
    use crate::reduction::{Leaves, reduce_block};

    const SETTINGS: UpdateSettings = UpdateSettings {
        clip_norm: Some(0.5),
        ..UpdateSettings::plain(OptimiserSettings::Sgd(SgdSettings { lr: 0.1, momentum: 0.9, weight_decay: 0.01 }))
    };

    fn schedule() -> Schedule {
        // 103 samples, batches of 24: the last step has 7 samples for 8 shards, so one shard is empty.
        Schedule {
            samples: 103,
            global_batch: 24,
            logical_shards: 8,
            micro_batch: 24,
            order: OrderSpec { seed: Some(3), window: None, micro_shard: 1 },
            length: TrainLength::Epochs(3),
        }
    }

    fn fresh() -> TrainingState {
        TrainingState::new(schedule(), SETTINGS, (0..50).map(|at| (at as f32).sin()).collect())
    }

    /// A stand-in for a model whose gradient depends on samples and parameters.
    fn compute(parameters: &[f32], samples: &[u32], count: usize) -> (Vec<f32>, f64) {
        let mut gradient = vec![0.0; parameters.len()];
        for &sample in samples {
            for (at, (slope, value)) in gradient.iter_mut().zip(parameters).enumerate() {
                *slope += ((sample as f32 + at as f32) * 0.37).sin() * value / count as f32;
            }
        }
        (gradient, samples.iter().map(|&sample| f64::from(sample) * 1e-3).sum())
    }

    struct Computed<'a> {
        order: &'a SampleOrder,
        cursor: u64,
        parameters: &'a [f32],
    }

    impl Leaves for Computed<'_> {
        fn make(&mut self, shard: u32, _: &Buffers) -> Part<Vec<f32>> {
            let ids = self.order.ids(self.order.shard(self.cursor, shard));
            let (gradient, loss) = compute(self.parameters, ids, self.order.step(self.cursor).len());
            Part { gradient, losses: vec![loss], samples: ids.to_vec() }
        }
    }

    fn run_step(state: &mut TrainingState, workers: u32) -> Commit {
        let (epoch, cursor) = state.schedule().place(state.step());
        let order = state.schedule().order(epoch);
        let tree = ReductionTree::new(8);
        let parameters = state.parameters().clone();
        let mut committed = None;
        for block in assign(8, workers).into_iter().rev() {
            let mut leaves = Computed { order: &order, cursor, parameters: &parameters };
            let parts = reduce_block(tree, block, &Buffers::default(), &mut leaves);
            for (node, part) in parts {
                state.check(node, part.gradient.len(), &part.samples).unwrap();
                let gradient: Box<dyn Floats> = Box::new(part.gradient);
                let part = Part { gradient, losses: part.losses, samples: part.samples };
                committed = state.insert(node, part).unwrap();
            }
        }
        committed.unwrap()
    }

    fn bits(state: &TrainingState) -> Vec<u32> {
        state.parameters().iter().map(|value| value.to_bits()).collect()
    }

    #[test]
    fn the_number_of_workers_never_changes_the_result() {
        let run = |workers: &[u32]| {
            let mut state = fresh();
            let mut epochs = Vec::new();
            while !state.is_finished() {
                let workers = workers[state.step() as usize % workers.len()];
                epochs.extend(run_step(&mut state, workers).epoch);
            }
            (bits(&state), epochs)
        };
        let alone = run(&[1]);
        assert_eq!(alone.1.len(), 3);
        assert!(alone.1.iter().all(|epoch| epoch.samples == 103));
        for workers in [&[2][..], &[3], &[8], &[1, 5, 2, 8]] {
            assert_eq!(run(workers), alone);
        }
    }

    /// The parameters after each step with the buffer cut into so many segments, which come in one after the other.
    fn run_with_servers(length: usize, servers: usize, workers: u32) -> Vec<u32> {
        let initial = || Snapshot::initial(SETTINGS, (0..length).map(|at| (at as f32).sin()).collect());
        let (tree, cut) = (ReductionTree::new(8), Cut::new(length));
        let ranges = cut.segments(servers);
        let mut lead = TrainingState::restore_segment(schedule(), SETTINGS, cut, ranges[0].clone(), initial()).unwrap();
        let segment = |range: &Range<usize>| Segment::new(tree, cut, range.clone(), &SETTINGS, initial()).unwrap();
        let mut others: Vec<Segment> = ranges[1..].iter().map(segment).collect();
        let joined = |lead: &TrainingState, others: &[Segment]| -> Vec<f32> {
            let segments = std::iter::once(lead.parameters()).chain(others.iter().map(Segment::parameters));
            segments.flat_map(|segment| segment.to_vec()).collect()
        };
        while !lead.is_finished() {
            let (epoch, cursor) = schedule().place(lead.step());
            let order = schedule().order(epoch);
            let parameters = joined(&lead, &others);
            for block in assign(8, workers).into_iter().rev() {
                let mut leaves = Computed { order: &order, cursor, parameters: &parameters };
                for (node, part) in reduce_block(tree, block, &Buffers::default(), &mut leaves) {
                    let cut_out =
                        |range: &Range<usize>| -> Box<dyn Floats> { Box::new(part.gradient[range.clone()].to_vec()) };
                    for other in &mut others {
                        let gradient = cut_out(other.range());
                        other.insert(node, Part { gradient, losses: Vec::new(), samples: Vec::new() });
                    }
                    let gradient = cut_out(&ranges[0]);
                    lead.check(node, gradient.values().len(), &part.samples).unwrap();
                    lead.receive(node, Part { gradient, losses: part.losses, samples: part.samples });
                }
            }
            let prepared: Vec<Prepared> = others.iter().map(|other| other.prepared().unwrap()).collect();
            let (_, scale) = lead.commit(&prepared).unwrap().unwrap();
            assert!(others.iter_mut().all(|other| other.apply(scale).is_some()));
        }
        joined(&lead, &others).into_iter().map(f32::to_bits).collect()
    }

    #[test]
    fn the_number_of_servers_never_changes_the_result() {
        let alone = run_with_servers(1_000, 1, 1);
        for (servers, workers) in [(1, 3), (2, 1), (3, 2), (4, 8), (7, 3)] {
            assert_eq!(run_with_servers(1_000, servers, workers), alone, "{servers} servers, {workers} workers");
        }
    }

    #[test]
    fn a_prepared_step_is_made_once_and_an_abandoned_one_never() {
        let (tree, cut) = (ReductionTree::new(1), Cut::new(300));
        let initial = Snapshot::initial(SETTINGS, vec![1.0; 300]);
        let mut segment = Segment::new(tree, cut, 256..300, &SETTINGS, initial).unwrap();
        let part = |length: usize| Part {
            gradient: Box::new(vec![f32::NAN; length]) as Box<dyn Floats>,
            losses: Vec::new(),
            samples: Vec::new(),
        };
        assert!(segment.insert(tree.root(), part(44)));
        assert_eq!(segment.prepared().unwrap().not_finite, Some(256));
        segment.abandon_parts();
        assert!(segment.prepared().is_some());
        segment.abandon_step();
        assert!(segment.apply(Scale::ONE).is_none() && segment.prepared().is_none());
        assert_eq!((segment.step(), segment.parameters().to_vec()), (0, vec![1.0; 44]));
        segment.insert(tree.root(), part(44));
        assert!(segment.apply(Scale::ONE).is_some() && segment.apply(Scale::ONE).is_none());
        assert_eq!(segment.step(), 1);
    }

    #[test]
    fn a_snapshot_in_the_middle_of_an_epoch_goes_on_to_the_same_result() {
        let mut whole = fresh();
        let mut cut = fresh();
        for _ in 0..7 {
            run_step(&mut whole, 2);
            run_step(&mut cut, 3);
        }
        let mut resumed = TrainingState::restore(schedule(), SETTINGS, 50, cut.snapshot()).unwrap();
        while !whole.is_finished() {
            assert_eq!(run_step(&mut whole, 1), run_step(&mut resumed, 2));
        }
        assert_eq!(bits(&whole), bits(&resumed));
        let mut other = cut.snapshot();
        other.moments.clear();
        assert!(TrainingState::restore(schedule(), SETTINGS, 50, other).is_none());
    }

    #[test]
    fn an_abandoned_step_leaves_no_trace_and_readers_keep_their_parameters() {
        let (mut one, mut other) = (fresh(), fresh());
        let order = schedule().order(0);
        let (ids, node) = (order.ids(order.shard(0, 0)).to_vec(), TreeNode { level: 0, index: 0 });
        let part = Part { gradient: Box::new(vec![9.0f32; 50]) as Box<dyn Floats>, losses: vec![1.0], samples: ids };
        assert_eq!(one.insert(node, part).unwrap(), None);
        one.abandon_step();
        let reader = one.parameters().clone();
        let before = reader.to_vec();
        run_step(&mut one, 2);
        run_step(&mut other, 2);
        assert_eq!(bits(&one), bits(&other));
        assert_eq!(*reader, before);
    }

    #[test]
    fn a_step_that_is_not_finite_is_not_made_and_says_the_same_for_any_workers() {
        let fault = |workers: u32| {
            let mut state = fresh();
            run_step(&mut state, 1);
            let before = bits(&state);
            let tree = ReductionTree::new(8);
            let order = state.schedule().order(0);
            let mut fault = None;
            for block in assign(8, workers) {
                let mut leaves = Computed { order: &order, cursor: 1, parameters: state.parameters() };
                for (node, mut part) in reduce_block(tree, block, &Buffers::default(), &mut leaves) {
                    let covers = tree.covers(node);
                    for (shard, loss) in covers.iter().zip(&mut part.losses).filter(|(shard, _)| [2, 5].contains(shard))
                    {
                        *loss = f64::INFINITY;
                        part.gradient[9 + shard as usize] = f32::NAN;
                    }
                    let gradient: Box<dyn Floats> = Box::new(part.gradient);
                    let part = Part { gradient, losses: part.losses, samples: part.samples };
                    fault = state.insert(node, part).err();
                }
            }
            assert_eq!((bits(&state), state.step()), (before, 1));
            fault.unwrap()
        };
        let losses = vec![(2, f64::INFINITY), (5, f64::INFINITY)];
        let expected = StepError::NotFinite(NotFinite { step: 1, losses, gradient: Some(11) });
        for workers in [1, 2, 3, 8] {
            assert_eq!(fault(workers), expected, "{workers} workers");
        }
    }

    #[test]
    fn parts_of_another_step_are_refused() {
        let state = fresh();
        let node = TreeNode { level: 0, index: 2 };
        assert!(matches!(state.check(node, 49, &[]), Err(PartError::Length { found: 49, expected: 50 })));
        assert!(matches!(state.check(node, 50, &[1, 2, 3]), Err(PartError::Samples { start: 2, end: 3, step: 0 })));
        let beyond = TreeNode { level: 0, index: 200 };
        assert!(state.check(beyond, 50, &[]).is_err());
    }
}
