//! Progress, from commits.

use std::time::{Duration, Instant};

use neap_runtime::wire::worker::Progress;
use neap_scheduler::model::MembershipEpoch;

use crate::schedule::Schedule;
use crate::state::Commit;

/// How often progress is reported.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// Turns commits into a report a few times a second.
pub(super) struct Meter {
    since: Instant,
    samples: u64,
    loss: f64,
    first: bool,
}

impl Meter {
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), samples: 0, loss: 0.0, first: true }
    }

    /// Takes a commit in; a report where one is due.
    pub(super) fn note(
        &mut self,
        commit: &Commit,
        schedule: &Schedule,
        membership: MembershipEpoch,
    ) -> Option<Progress> {
        self.samples += commit.samples;
        self.loss += commit.loss;
        let (now, steps_total) = (Instant::now(), schedule.steps_total());
        let elapsed = now - self.since;
        if !self.first && elapsed < PROGRESS_EVERY && commit.step < steps_total {
            return None;
        }
        let samples = self.samples.max(1) as f64;
        let progress = Progress {
            membership,
            step: commit.step,
            steps_total,
            epoch: schedule.place(commit.step).0,
            epochs_total: schedule.epochs_total(),
            samples: schedule.samples_before(commit.step),
            loss: self.loss / samples,
            samples_per_second: samples / elapsed.as_secs_f64().max(1e-9),
        };
        *self = Self { since: now, samples: 0, loss: 0.0, first: false };
        Some(progress)
    }
}
