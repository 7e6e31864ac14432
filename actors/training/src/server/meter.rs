//! Progress, from commits.

use std::time::{Duration, Instant};

use neap_runtime::wire::worker::Progress;
use neap_scheduler::model::MembershipEpoch;

use crate::schedule::Schedule;
use crate::state::Commit;

/// How often progress is reported.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// Turns commits into a report a few times a second.
pub(crate) struct Meter {
    since: Instant,
    samples: u64,
    loss: f64,
    first: bool,
    /// When the last step was committed, where that is known.
    last: Option<Instant>,
    /// The longest time between two commits.
    pause: Duration,
}

impl Meter {
    pub(crate) fn new() -> Self {
        Self::after(None)
    }

    /// The meter of a worker that takes over from one whose last commit was then.
    pub(crate) fn after(last: Option<Instant>) -> Self {
        Self { since: Instant::now(), samples: 0, loss: 0.0, first: true, last, pause: Duration::ZERO }
    }

    /// When the last step was committed.
    pub(crate) fn last(&self) -> Option<Instant> {
        self.last
    }

    /// Another worker reports this commit.
    pub(crate) fn pass(&mut self) {
        self.last = Some(Instant::now());
    }

    /// Takes a commit in; a report where one is due.
    pub(crate) fn note(
        &mut self,
        commit: &Commit,
        schedule: &Schedule,
        membership: MembershipEpoch,
    ) -> Option<Progress> {
        self.samples += commit.samples;
        self.loss += commit.loss;
        self.note_pause(Instant::now());
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
            pause_millis: self.pause.as_millis() as u64,
        };
        *self = Self { since: now, samples: 0, loss: 0.0, first: false, last: self.last, pause: Duration::ZERO };
        Some(progress)
    }

    fn note_pause(&mut self, now: Instant) {
        let since = self.last.replace(now).map_or(Duration::ZERO, |last| now.duration_since(last));
        self.pause = self.pause.max(since);
    }
}
