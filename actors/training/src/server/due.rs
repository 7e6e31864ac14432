//! When a checkpoint is due: by steps and epochs, or by the server's clock. The result of a training does not depend on
//! it: a checkpoint is a snapshot and changes nothing.

use std::time::{Duration, Instant};

use neap_scheduler::elastic::{COST_ASSUMED, between_losses, checkpoint_interval};
use neap_scheduler::model::Millis;
use neap_scheduler::spec::CheckpointEvery;

use crate::job::TrainJob;

/// When the last one was, and what decides when the next one is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Due {
    last: Instant,
    /// The mean time between losses of the state, where losses were seen.
    between_losses: Option<Millis>,
}

impl Due {
    pub(super) fn new(now: Instant) -> Self {
        Self { last: now, between_losses: None }
    }

    /// The state lies on nodes that are lost so often from now on.
    pub(super) fn note_losses(&mut self, losses_per_1000_h: u32) {
        self.between_losses = between_losses(losses_per_1000_h);
    }

    /// A checkpoint was ordered.
    pub(super) fn note_saved(&mut self, now: Instant) {
        self.last = now;
    }

    /// Whether a checkpoint is due after `step` steps, the last of which ended `epoch` where there is one. `cost` is how
    /// long the last one took to write.
    pub(super) fn is_due(
        &self,
        job: &TrainJob,
        step: u64,
        epoch: Option<u32>,
        now: Instant,
        cost: Option<Millis>,
    ) -> bool {
        match self.interval(job.checkpoint_every, cost) {
            Some(interval) => now.duration_since(self.last) >= interval,
            None => job.checkpoint_due(step, epoch),
        }
    }

    /// The time between two checkpoints, where time decides.
    fn interval(&self, every: CheckpointEvery, cost: Option<Millis>) -> Option<Duration> {
        let interval = match every {
            CheckpointEvery::Time(time) => time,
            CheckpointEvery::Auto => checkpoint_interval(cost.unwrap_or(COST_ASSUMED), self.between_losses?),
            CheckpointEvery::Epochs(_) | CheckpointEvery::Steps(_) | CheckpointEvery::Never => return None,
        };
        Some(Duration::from_millis(interval.get()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_decides_where_a_time_is_named_or_losses_are_known() {
        let mut due = Due::new(Instant::now());
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(due.interval(CheckpointEvery::Time(Millis::from_secs(600)), None), seconds(600));
        assert_eq!(due.interval(CheckpointEvery::Auto, None), None, "each epoch until losses were seen");
        due.note_losses(1_000);
        let cheap = due.interval(CheckpointEvery::Auto, Some(Millis::from_secs(2))).unwrap();
        assert_eq!(cheap.as_secs(), 118, "one loss an hour, 2 s a checkpoint");
        assert!(due.interval(CheckpointEvery::Auto, Some(Millis::from_secs(8))).unwrap() > cheap);
        assert_eq!(due.interval(CheckpointEvery::Epochs(1), None), None);
        due.note_losses(0);
        assert_eq!(due.interval(CheckpointEvery::Auto, Some(Millis::from_secs(2))), None);
    }
}
