//! How fast a job is, with each number of workers it was seen with, and so what it has left to do.
//!
//! Fitted while the job runs: reports of committed samples give the time of a sample for each number of workers, and two
//! numbers of workers give how much of it more workers do not speed up. The time of a sample with n workers is taken as
//! a + b ∕ n (Amdahl 1967), by least squares weighted with the time each number was seen. What was seen long ago counts
//! less, so that a job that becomes slower is noticed.

use std::collections::BTreeMap;

use crate::model::Millis;
use crate::policy::WorkLeft;

/// What was seen before counts half after this much training with the same number of workers: a few dozen reports.
const HALF_LIFE_S: f64 = 60.0;

/// A number of workers counts for the fit once it was seen for this long, some ten reports; before that, its start-up
/// counts for too much.
const SEEN_MIN_S: f64 = 10.0;

/// The range of an estimate is never narrower than this part of it: reports are a second apart, and the rest of a job is
/// not quite like its beginning.
const SPREAD_MIN: f64 = 0.05;

/// Nor wider.
const SPREAD_MAX: f64 = 0.5;

/// The pace of one job.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Pace {
    by_workers: BTreeMap<u32, Seen>,
    latest: u32,
}

/// What was seen with one number of workers; decayed sums.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Seen {
    samples: f64,
    seconds: f64,
    /// Squared samples per second, times seconds.
    squares: f64,
}

impl Seen {
    fn rate(&self) -> f64 {
        self.samples / self.seconds
    }

    /// The standard deviation of the rate between reports, as a part of it.
    fn spread(&self) -> f64 {
        let rate = self.rate();
        ((self.squares / self.seconds - rate * rate).max(0.0).sqrt() / rate).clamp(SPREAD_MIN, SPREAD_MAX)
    }
}

impl Pace {
    /// Takes in that `workers` committed `samples` in the time `over`. No time and no workers say nothing.
    pub fn saw(&mut self, workers: u32, samples: u64, over: Millis) {
        let seconds = over.as_secs_f64();
        if workers == 0 || seconds <= 0.0 {
            return;
        }
        let seen = self.by_workers.entry(workers).or_default();
        let keep = 0.5_f64.powf(seconds / HALF_LIFE_S);
        let rate = samples as f64 / seconds;
        seen.samples = seen.samples * keep + samples as f64;
        seen.seconds = seen.seconds * keep + seconds;
        seen.squares = seen.squares * keep + rate * rate * seconds;
        self.latest = workers;
    }

    /// What is left of a job with this many samples to go; nothing before any was committed.
    pub fn work_left(&self, samples: u64) -> Option<WorkLeft> {
        let seen = self.by_workers.get(&self.latest).filter(|seen| seen.samples > 0.0)?;
        let serial_permille = self.serial_permille();
        let serial = f64::from(serial_permille.unwrap_or(0)) / 1_000.0;
        let workers = f64::from(self.latest);
        let alone = samples as f64 / seen.rate() * workers / (serial * workers + 1.0 - serial);
        let millis = |part: f64| Millis::new((alone * part * 1_000.0).ceil() as u64);
        let spread = seen.spread();
        Some(WorkLeft {
            low: millis(1.0 - spread),
            likely: millis(1.0),
            high: millis(1.0 + 2.0 * spread),
            serial_permille,
        })
    }

    /// The part of the work of one worker that more of them do not speed up; nothing before two numbers were seen.
    fn serial_permille(&self) -> Option<u16> {
        let seen = self.by_workers.iter().filter(|(_, seen)| seen.seconds >= SEEN_MIN_S && seen.samples > 0.0);
        let points: Vec<(f64, f64, f64)> =
            seen.map(|(workers, seen)| (1.0 / f64::from(*workers), 1.0 / seen.rate(), seen.seconds)).collect();
        if points.len() < 2 {
            return None;
        }
        let weight: f64 = points.iter().map(|(.., weight)| weight).sum();
        let mean = |value: fn(&(f64, f64, f64)) -> f64| {
            points.iter().map(|point| value(point) * point.2).sum::<f64>() / weight
        };
        let (x, y) = (mean(|point| point.0), mean(|point| point.1));
        let covariance: f64 = points.iter().map(|point| point.2 * (point.0 - x) * (point.1 - y)).sum();
        let variance: f64 = points.iter().map(|point| point.2 * (point.0 - x).powi(2)).sum();
        let parallel = covariance / variance;
        let serial = y - parallel * x;
        // Slower with more workers is as bad as no faster; faster than in proportion as good as in proportion.
        let part = (serial / (serial + parallel)).clamp(0.0, 1.0);
        Some((part * 1_000.0).round() as u16)
    }
}

#[cfg(test)]
mod unit_tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Millis = Millis::from_secs(1);

    fn seen(rates: &[(u32, u64)]) -> Pace {
        let mut pace = Pace::default();
        for &(workers, rate) in rates {
            (0..20).for_each(|_| pace.saw(workers, rate, SECOND));
        }
        pace
    }

    #[test]
    fn nothing_is_known_before_a_sample_is_committed() {
        let mut pace = Pace::default();
        assert_eq!(pace.work_left(100), None);
        pace.saw(2, 0, SECOND);
        pace.saw(0, 5, SECOND);
        pace.saw(2, 5, Millis::ZERO);
        assert_eq!(pace.work_left(100), None);
    }

    #[test]
    fn one_number_of_workers_says_how_long_and_not_how_it_scales() {
        let left = seen(&[(2, 100)]).work_left(1_000).unwrap();
        assert_eq!(left.serial_permille, None);
        assert_eq!(left.time_on(left.likely, 2), Millis::from_secs(10));
        assert!(left.low < left.likely && left.likely < left.high);
    }

    #[test]
    fn workers_that_do_not_help_are_found_out() {
        let left = seen(&[(1, 100), (2, 100)]).work_left(1_000).unwrap();
        assert_eq!(left.serial_permille, Some(1_000));
        let left = seen(&[(1, 100), (2, 90)]).work_left(1_000).unwrap();
        assert_eq!(left.serial_permille, Some(1_000));
        let left = seen(&[(1, 100), (2, 200)]).work_left(1_000).unwrap();
        assert_eq!(left.serial_permille, Some(0));
        assert_eq!(left.time_on(left.likely, 2), Millis::from_secs(5));
    }

    #[test]
    fn a_job_that_slows_down_is_noticed() {
        let mut pace = seen(&[(1, 1_000)]);
        (0..600).for_each(|_| pace.saw(1, 100, SECOND));
        let left = pace.work_left(1_000).unwrap();
        assert!(left.likely >= Millis::from_secs(9), "{left:?}");
    }

    proptest! {
        /// With the times of Amdahl's law it finds the law, whatever was seen.
        #[test]
        fn amdahls_law_is_found(serial in 0u16..=1_000, few in 1u32..8, more in 1u32..8) {
            let rate = |workers: u32| {
                let (part, workers) = (f64::from(serial) / 1_000.0, f64::from(workers));
                (1e7 / (part + (1.0 - part) / workers)) as u64
            };
            let pace = seen(&[(few, rate(few)), (few + more, rate(few + more))]);
            let found = pace.work_left(1).unwrap().serial_permille.unwrap();
            prop_assert!(found.abs_diff(serial) <= 1, "{found} for {serial}");
        }
    }
}
