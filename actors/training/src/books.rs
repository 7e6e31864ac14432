//! The books of a training: which step comes next, which samples were committed, and what was lost on them.

use neap_scheduler::elastic::{SampleOrder, ShardRange};

use crate::ledger::{LedgerError, SampleLedger};
use crate::schedule::Schedule;
use crate::state::{Commit, EpochSummary};

/// The one place where a step's samples are accounted for, however many servers hold the parameters.
pub(crate) struct Books {
    schedule: Schedule,
    step: u64,
    order: SampleOrder,
    ledger: SampleLedger,
    epoch_loss: f64,
    last_epoch_loss: f64,
}

impl Books {
    /// The books after `step` steps; `None` where they cannot have been made.
    pub(crate) fn new(schedule: Schedule, step: u64, epoch_loss: f64, last_epoch_loss: f64) -> Option<Self> {
        if step > schedule.steps_total() {
            return None;
        }
        let (epoch, cursor) = schedule.place(step);
        let order = schedule.order(epoch);
        let mut ledger = SampleLedger::new(schedule.samples);
        for done in 0..cursor {
            ledger.commit(order.ids(order.step(done))).ok()?;
        }
        Some(Self { schedule, step, order, ledger, epoch_loss, last_epoch_loss })
    }

    pub(crate) fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    pub(crate) fn step(&self) -> u64 {
        self.step
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.step >= self.schedule.steps_total()
    }

    /// Sum of losses in the epoch so far, and the mean loss of a sample in the epoch before.
    pub(crate) fn losses(&self) -> (f64, f64) {
        (self.epoch_loss, self.last_epoch_loss)
    }

    /// Mean loss of a sample in the current epoch so far, or in the last one where the current has no step yet.
    pub(crate) fn train_loss(&self) -> f64 {
        match self.ledger.committed() {
            0 => self.last_epoch_loss,
            committed => self.epoch_loss / committed as f64,
        }
    }

    /// Whether these are the samples of a block of shards in the current step.
    pub(crate) fn has(&self, block: ShardRange, samples: &[u32]) -> bool {
        let (_, cursor) = self.schedule.place(self.step);
        !block.is_empty() && samples == self.order.ids(self.order.block(cursor, block))
    }

    /// Enters a step: its samples, and the sum of losses of each logical shard.
    pub(crate) fn commit(&mut self, samples: &[u32], losses: &[f64]) -> Result<Commit, LedgerError> {
        self.ledger.commit(samples)?;
        // One after the other in shard order: the loss too is the same bits for any workers.
        let loss = losses.iter().sum::<f64>();
        self.epoch_loss += loss;
        let (epoch, cursor) = self.schedule.place(self.step);
        self.step += 1;
        let mut commit = Commit { step: self.step, samples: samples.len() as u64, loss, epoch: None };
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
