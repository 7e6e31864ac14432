//! Which step lies where: epochs, steps and samples of a whole job. Pure arithmetic over [`SampleOrder`].

use neap_scheduler::elastic::SampleOrder;
use neap_scheduler::spec::TrainLength;

/// What fixes the order of a job's work, whoever carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// Samples of the training data.
    pub samples: u32,
    /// Samples a step.
    pub global_batch: u32,
    /// Parts a step is cut into.
    pub logical_shards: u32,
    /// Samples of a part that are computed at once, at most.
    pub micro_batch: u32,
    /// Seed of the sample order.
    pub shuffle_seed: Option<u64>,
    /// When the job ends.
    pub length: TrainLength,
}

impl Schedule {
    /// Steps of one epoch.
    pub fn steps_per_epoch(&self) -> u64 {
        u64::from(self.samples).div_ceil(u64::from(self.global_batch)).max(1)
    }

    /// Steps of the whole job.
    pub fn steps_total(&self) -> u64 {
        match self.length {
            TrainLength::Epochs(epochs) => self.steps_per_epoch().saturating_mul(u64::from(epochs)),
            TrainLength::Steps(steps) => steps,
        }
    }

    /// Epochs of the whole job, the last possibly cut short.
    pub fn epochs_total(&self) -> u32 {
        u32::try_from(self.steps_total().div_ceil(self.steps_per_epoch())).unwrap_or(u32::MAX)
    }

    /// The epoch a step lies in, and which of its steps it is.
    pub fn place(&self, step: u64) -> (u32, u64) {
        let per_epoch = self.steps_per_epoch();
        (u32::try_from(step / per_epoch).unwrap_or(u32::MAX), step % per_epoch)
    }

    /// The order of samples in an epoch.
    pub fn order(&self, epoch: u32) -> SampleOrder {
        SampleOrder::new(self.samples, self.shuffle_seed, epoch, self.global_batch, self.logical_shards)
    }

    /// The samples of one logical shard's part of a step, in the pieces that are computed one after the other.
    pub fn pieces<'a>(&self, samples: &'a [u32]) -> std::slice::Chunks<'a, u32> {
        samples.chunks(self.micro_batch.max(1) as usize)
    }

    /// Samples committed before `step`.
    pub fn samples_before(&self, step: u64) -> u64 {
        let (epoch, cursor) = self.place(step);
        let in_epoch = cursor.saturating_mul(u64::from(self.global_batch)).min(u64::from(self.samples));
        u64::from(epoch) * u64::from(self.samples) + in_epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_last_step_belongs_to_its_epoch() {
        let schedule = Schedule {
            samples: 10,
            global_batch: 4,
            logical_shards: 2,
            micro_batch: 4,
            shuffle_seed: None,
            length: TrainLength::Epochs(3),
        };
        assert_eq!((schedule.steps_per_epoch(), schedule.steps_total(), schedule.epochs_total()), (3, 9, 3));
        assert_eq!(schedule.place(5), (1, 2));
        assert_eq!(schedule.samples_before(5), 18);
        assert_eq!(schedule.samples_before(6), 20);
        let steps = Schedule { length: TrainLength::Steps(4), ..schedule };
        assert_eq!((steps.steps_total(), steps.epochs_total()), (4, 2));
    }
}
