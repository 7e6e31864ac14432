//! The training state: parameters, optimiser, data cursor and sample ledger, advanced together by one commit a step.
//!
//! A pure state machine: the parameter server's thread feeds it with parts of gradients and looks at what follows.
//! Nothing of a step is visible before its commit; abandoning a step leaves no trace (invariants 5 to 7).

use std::sync::Arc;

use neap_scheduler::elastic::{ReductionTree, SampleOrder, TreeNode};

use crate::finite::{NotFinite, first_not_finite};
use crate::ledger::{LedgerError, SampleLedger};
use crate::optimiser::Optimiser;
use crate::parameters::Parameters;
use crate::reduction::{Buffers, Floats, Part, Reducer};
use crate::schedule::Schedule;
use crate::update::UpdateSettings;

/// Where a job's training stands.
pub struct TrainingState {
    schedule: Schedule,
    tree: ReductionTree,
    parameters: Parameters,
    settings: UpdateSettings,
    optimiser: Optimiser,
    step: u64,
    order: SampleOrder,
    ledger: SampleLedger,
    epoch_loss: f64,
    last_epoch_loss: f64,
    reducer: Reducer,
    buffers: Buffers,
}

/// Everything that a training goes on from.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Steps committed: those that every logical shard has made.
    pub step: u64,
    /// The parameters.
    pub parameters: Arc<Vec<f32>>,
    /// The optimiser's time: steps, or where the logical shards do not go in step, steps of one shard.
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
        let optimiser = Optimiser::new(settings.optimiser, parameters.len());
        Self::build(schedule, settings, optimiser, Arc::new(parameters), 0)
    }

    /// The state of a snapshot; `None` where it does not fit the job.
    pub fn restore(schedule: Schedule, settings: UpdateSettings, length: usize, snapshot: Snapshot) -> Option<Self> {
        let Snapshot { step, parameters, optimiser_time, moments, epoch_loss, last_epoch_loss, relaxed } = snapshot;
        if parameters.len() != length || step > schedule.steps_total() || relaxed.is_some() {
            return None;
        }
        let optimiser = Optimiser::restore(settings.optimiser, length, optimiser_time, moments)?;
        let mut state = Self::build(schedule, settings, optimiser, parameters, step);
        (state.epoch_loss, state.last_epoch_loss) = (epoch_loss, last_epoch_loss);
        let (_, cursor) = schedule.place(step);
        for done in 0..cursor {
            state.ledger.commit(state.order.ids(state.order.step(done))).ok()?;
        }
        Some(state)
    }

    fn build(
        schedule: Schedule,
        settings: UpdateSettings,
        optimiser: Optimiser,
        parameters: Arc<Vec<f32>>,
        step: u64,
    ) -> Self {
        let tree = ReductionTree::new(schedule.logical_shards);
        let (epoch, _) = schedule.place(step);
        Self {
            schedule,
            tree,
            parameters: Parameters::new(parameters),
            settings,
            optimiser,
            step,
            order: schedule.order(epoch),
            ledger: SampleLedger::new(schedule.samples),
            epoch_loss: 0.0,
            last_epoch_loss: 0.0,
            reducer: Reducer::new(tree),
            buffers: Buffers::default(),
        }
    }

    /// The order of the job's work.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// Steps committed; the step that is computed now.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Whether all steps are committed.
    pub fn is_finished(&self) -> bool {
        self.step >= self.schedule.steps_total()
    }

    /// The parameters of the current step.
    pub fn parameters(&self) -> &Arc<Vec<f32>> {
        self.parameters.shared()
    }

    /// Mean loss of a sample in the current epoch so far, or in the last one where the current has no step yet.
    pub fn train_loss(&self) -> f64 {
        match self.ledger.committed() {
            0 => self.last_epoch_loss,
            committed => self.epoch_loss / committed as f64,
        }
    }

    /// Shares the buffers of whoever computes in this process.
    #[must_use]
    pub fn with_buffers(self, buffers: Buffers) -> Self {
        Self { buffers, ..self }
    }

    /// What a checkpoint holds. Parameters are shared, not copied: the next commit leaves them as they are.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            step: self.step,
            parameters: self.parameters().clone(),
            optimiser_time: self.optimiser.time(),
            moments: self.optimiser.moments().to_vec(),
            epoch_loss: self.epoch_loss,
            last_epoch_loss: self.last_epoch_loss,
            relaxed: None,
        }
    }

    /// Forgets the parts of the current step that have come in.
    pub fn abandon_step(&mut self) {
        self.reducer.clear(&self.buffers);
    }

    /// Whether a part belongs to the current step.
    ///
    /// # Errors
    ///
    /// [`PartError`] where it does not.
    pub fn check(&self, node: TreeNode, length: usize, samples: &[u32]) -> Result<(), PartError> {
        let expected = self.parameters().len();
        if length != expected {
            return Err(PartError::Length { found: length, expected });
        }
        let covers = self.tree.covers(node);
        let (_, cursor) = self.schedule.place(self.step);
        match !covers.is_empty() && samples == self.order.ids(self.order.block(cursor, covers)) {
            true => Ok(()),
            false => Err(PartError::Samples { start: covers.start, end: covers.end, step: self.step }),
        }
    }

    /// Takes in a part that [`Self::check`] has seen. The last one of a step commits it.
    ///
    /// # Errors
    ///
    /// [`StepError`]; the job must end then.
    pub fn insert(&mut self, node: TreeNode, part: Part<Box<dyn Floats>>) -> Result<Option<Commit>, StepError> {
        match self.reducer.insert(node, part, &self.buffers) {
            Some(sum) => self.commit(sum).map(Some),
            None => Ok(None),
        }
    }

    fn commit(&mut self, sum: Part<Box<dyn Floats>>) -> Result<Commit, StepError> {
        if let Some(fault) = NotFinite::find(self.step, &sum.losses, first_not_finite(sum.gradient.values())) {
            return Err(fault.into());
        }
        self.ledger.commit(&sum.samples)?;
        let gradient = sum.gradient.values();
        let scale = self.settings.scale(self.step, self.schedule.steps_total(), gradient);
        self.optimiser.step(self.parameters.to_mut(), gradient, scale);
        sum.gradient.into_vec().into_iter().for_each(|buffer| self.buffers.put(buffer));
        // One after the other in shard order: the loss too is the same bits for any workers.
        let loss = sum.losses.iter().sum::<f64>();
        self.epoch_loss += loss;
        let (epoch, cursor) = self.schedule.place(self.step);
        self.step += 1;
        let mut commit = Commit { step: self.step, samples: sum.samples.len() as u64, loss, epoch: None };
        if cursor + 1 == self.schedule.steps_per_epoch() {
            commit.epoch = Some(self.close_epoch(epoch)?);
        }
        Ok(commit)
    }

    fn close_epoch(&mut self, epoch: u32) -> Result<EpochSummary, LedgerError> {
        let summary = EpochSummary {
            epoch,
            samples: self.ledger.committed(),
            sample_digest: self.ledger.close()?,
            train_loss: self.train_loss(),
        };
        self.ledger = SampleLedger::new(self.schedule.samples);
        (self.epoch_loss, self.last_epoch_loss) = (0.0, summary.train_loss);
        if !self.is_finished() {
            self.order = self.schedule.order(epoch + 1);
        }
        Ok(summary)
    }
}

#[cfg(test)]
mod tests {
    use neap_scheduler::elastic::assign;
    use neap_scheduler::spec::TrainLength;

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
            shuffle_seed: Some(3),
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
        let (ids, node) = (one.order.ids(one.order.shard(0, 0)).to_vec(), TreeNode { level: 0, index: 0 });
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
