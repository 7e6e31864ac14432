//! How long each worker takes for a logical shard, as the parameter server sees it: from parameters sent to gradients in.
//!
//! The control plane deals shards by it (`neap_scheduler::elastic`). What is told is the better of a worker's last two
//! windows, so that one pause of a machine makes no straggler of its worker.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use neap_runtime::wire::worker::WorkerPace;
use neap_scheduler::model::WorkerId;

/// How long one window is, at least.
const WINDOW: Duration = Duration::from_secs(2);

/// Steps of every worker that a window has, at least.
const WINDOW_STEPS_MIN: u32 = 8;

/// Measures the workers of one membership.
pub(super) struct PaceMeter {
    since: Instant,
    workers: BTreeMap<WorkerId, Pace>,
}

#[derive(Default)]
struct Pace {
    sent: Option<Instant>,
    took: Duration,
    shards: u32,
    steps: u32,
    /// Microseconds a shard in the window before.
    before: Option<u64>,
}

impl PaceMeter {
    /// Nothing was measured yet.
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, workers: BTreeMap::new() }
    }

    /// A worker was sent parameters.
    pub(super) fn sent(&mut self, worker: WorkerId, now: Instant) {
        self.workers.entry(worker).or_default().sent = Some(now);
    }

    /// Its gradients for so many shards have come in.
    pub(super) fn received(&mut self, worker: WorkerId, shards: u32, now: Instant) {
        let Some(pace) = self.workers.get_mut(&worker) else { return };
        let Some(sent) = pace.sent.take() else { return };
        pace.took += now.saturating_duration_since(sent);
        pace.shards += shards;
        pace.steps += 1;
    }

    /// Every worker's pace, at the end of every window but the first.
    pub(super) fn due(&mut self, now: Instant) -> Option<Vec<WorkerPace>> {
        let measured = self.workers.values().all(|pace| pace.steps >= WINDOW_STEPS_MIN);
        if !measured || now.saturating_duration_since(self.since) < WINDOW {
            return None;
        }
        self.since = now;
        let closed: Vec<_> = self.workers.iter_mut().map(|(&worker, pace)| (worker, pace.close())).collect();
        closed.into_iter().map(|(worker, told)| Some(WorkerPace { worker, shard_us: told? })).collect()
    }
}

impl Pace {
    /// Ends a window. The better of it and the one before, where there was one.
    fn close(&mut self) -> Option<u64> {
        let shard_us = u64::try_from(self.took.as_micros() / u128::from(self.shards.max(1))).unwrap_or(u64::MAX);
        let before = self.before.replace(shard_us);
        (self.took, self.shards, self.steps) = (Duration::ZERO, 0, 0);
        before.map(|before| before.min(shard_us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One window in which both workers make so many steps of two shards each; what comes of it.
    fn window(meter: &mut PaceMeter, start: Instant, steps: u32, took_ms: [u64; 2]) -> Option<Vec<u64>> {
        for step in 0..steps {
            let sent = start + Duration::from_millis(u64::from(step) * 200);
            for (worker, took) in [1, 2].map(WorkerId::new).into_iter().zip(took_ms) {
                meter.sent(worker, sent);
                meter.received(worker, 2, sent + Duration::from_millis(took));
                // A gradient that comes a second time is not measured.
                meter.received(worker, 2, sent + Duration::from_secs(9));
            }
        }
        let told = meter.due(start + WINDOW)?;
        Some(told.into_iter().map(|pace| pace.shard_us).collect())
    }

    #[test]
    fn a_worker_is_as_fast_as_in_the_better_of_two_windows() {
        let start = Instant::now();
        let mut meter = PaceMeter::new(start);
        let at = |number: u32| start + WINDOW * number;
        assert_eq!(window(&mut meter, at(0), 10, [20, 40]), None);
        assert_eq!(window(&mut meter, at(1), 10, [20, 400]), Some(vec![10_000, 20_000]));
        assert_eq!(window(&mut meter, at(2), 10, [20, 100]), Some(vec![10_000, 50_000]));
        assert_eq!(window(&mut meter, at(3), 10, [20, 40]), Some(vec![10_000, 20_000]));
    }

    #[test]
    fn a_window_with_few_steps_goes_on() {
        let start = Instant::now();
        let mut meter = PaceMeter::new(start);
        window(&mut meter, start, 10, [20, 20]);
        assert_eq!(window(&mut meter, start + WINDOW, WINDOW_STEPS_MIN - 1, [20, 20]), None);
        assert_eq!(window(&mut meter, start + WINDOW * 2, 1, [20, 20]), Some(vec![10_000, 10_000]));
    }
}
