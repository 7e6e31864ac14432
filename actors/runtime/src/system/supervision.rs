//! What follows from a failure: again after a pause, or no more. A pure function of the failures before.
//!
//! The pause doubles with every failure within the window and is drawn evenly up to that bound, so that actors that
//! failed together do not come back together (rule 11 of the reliability rules: 100 ms to 30 s, five restarts in 60 s).

use std::collections::VecDeque;
use std::time::Duration;

use neap_scheduler::model::Millis;
use serde::{Deserialize, Serialize};

/// How often an actor is started again within [`RESTART_WINDOW`]; one failure more and its supervisor fails.
pub const RESTARTS_MAX: usize = 5;

/// For how long a failure counts.
pub const RESTART_WINDOW: Duration = Duration::from_secs(60);

/// The bound of the first pause.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(100);

/// The bound of the longest pause.
pub const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// What happens to an actor that failed: it panicked, gave an error, or its node was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum OnFailure {
    /// It is started again, up to [`RESTARTS_MAX`] times in [`RESTART_WINDOW`]; then its parent fails.
    #[default]
    Restart,
    /// It is gone, and its parent is told.
    Stop,
    /// Its parent fails.
    Escalate,
}

/// What follows from a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Start it again, after this pause.
    Again(Duration),
    /// It has ended.
    End,
    /// It has ended, and so has its parent's patience.
    Escalate,
}

/// When an actor failed, as far back as it counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct History(VecDeque<Millis>);

impl History {
    /// Judges a failure at `now`. `draw` is an evenly drawn number that the pause is made from.
    pub(crate) fn failed(&mut self, on_failure: OnFailure, now: Millis, draw: u32) -> Verdict {
        match on_failure {
            OnFailure::Stop => Verdict::End,
            OnFailure::Escalate => Verdict::Escalate,
            OnFailure::Restart => {
                let window = u64::try_from(RESTART_WINDOW.as_millis()).unwrap_or(u64::MAX);
                self.0.retain(|at| now.since(*at).get() < window);
                self.0.push_back(now);
                match self.0.len() {
                    failures if failures > RESTARTS_MAX => Verdict::Escalate,
                    failures => Verdict::Again(pause(failures, draw)),
                }
            }
        }
    }
}

/// The pause after so many failures in a row.
fn pause(failures: usize, draw: u32) -> Duration {
    let doubled = BACKOFF_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(BACKOFF_MAX).mul_f64(f64::from(draw) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_sixth_failure_within_a_minute_escalates_and_an_old_one_is_forgotten() {
        let mut history = History::default();
        for second in 0..5 {
            let verdict = history.failed(OnFailure::Restart, Millis::from_secs(second), 0);
            assert_eq!(verdict, Verdict::Again(Duration::ZERO), "failure at {second} s");
        }
        let mut patient = history.clone();
        assert_eq!(history.failed(OnFailure::Restart, Millis::from_secs(59), 0), Verdict::Escalate);
        assert_eq!(patient.failed(OnFailure::Restart, Millis::from_secs(60), 0), Verdict::Again(Duration::ZERO));
    }

    #[test]
    fn the_bound_of_the_pause_doubles_up_to_its_limit() {
        let bounds: Vec<_> = [1, 2, 3, 20].map(|failures| pause(failures, u32::MAX).as_millis()).into();
        assert_eq!(bounds, [100, 200, 400, 30_000]);
    }

    proptest! {
        #[test]
        fn never_more_restarts_in_a_window_than_allowed(gaps in prop::collection::vec(0u64..30_000, 1..200)) {
            let mut history = History::default();
            let (mut now, mut restarts) = (0, Vec::<u64>::new());
            for gap in gaps {
                now += gap;
                if let Verdict::Again(pause) = history.failed(OnFailure::Restart, Millis::new(now), u32::MAX) {
                    prop_assert!(pause <= BACKOFF_MAX);
                    restarts.push(now);
                }
            }
            for window in restarts.windows(RESTARTS_MAX + 1) {
                prop_assert!(window[RESTARTS_MAX] - window[0] >= RESTART_WINDOW.as_millis() as u64);
            }
        }
    }
}
