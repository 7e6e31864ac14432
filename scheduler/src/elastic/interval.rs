//! How often to save: often enough that a loss costs little, seldom enough that saving does.
//!
//! Young (1974) found √(2δM) for a checkpoint that costs δ and nodes that are lost every M on average; Daly ("A higher order
//! estimate of the optimum checkpoint interval for restart dumps", FGCS 2006, eq. 37) made it hold where δ is not small
//! beside M. On top of that the share of time that goes into saving is bounded: a cluster that is lost every other minute
//! is not helped by saving all the time.

use crate::model::Millis;

/// The most that saving may cost: 2 % of the time.
pub const OVERHEAD_MAX: f64 = 0.02;

/// Never more often than this, whatever the figures: what they are measured with is no better.
pub const INTERVAL_MIN: Millis = Millis::new(1_000);

/// Never less often than this: a day of work is not risked on an estimate.
pub const INTERVAL_MAX: Millis = Millis::from_secs(6 * 3_600);

/// What a checkpoint is taken to cost before the first one was written.
pub const COST_ASSUMED: Millis = Millis::new(1_000);

/// The time between two checkpoints of which each costs `cost`, for state that is lost every `between_losses` on average.
pub fn checkpoint_interval(cost: Millis, between_losses: Millis) -> Millis {
    let (cost, between) = (cost.get() as f64, between_losses.get() as f64);
    let cheap = cost * (1.0 - OVERHEAD_MAX) / OVERHEAD_MAX;
    Millis::new(daly(cost, between).max(cheap) as u64).clamp(INTERVAL_MIN, INTERVAL_MAX)
}

/// The work between two checkpoints with which the least time is lost, in the unit of both.
fn daly(cost: f64, between: f64) -> f64 {
    if cost >= 2.0 * between {
        return between;
    }
    let ratio = cost / (2.0 * between);
    (2.0 * cost * between).sqrt() * (1.0 + ratio.sqrt() / 3.0 + ratio / 9.0) - cost
}

/// The mean time between losses at this many in 1,000 hours; `None` where none was seen.
pub fn between_losses(losses_per_1000_h: u32) -> Option<Millis> {
    const MS_PER_1000_H: u64 = 1_000 * 3_600 * 1_000;
    (losses_per_1000_h > 0).then(|| Millis::new(MS_PER_1000_H / u64::from(losses_per_1000_h)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a job loses on average, as a share of its time: saving, and half an interval with every loss.
    fn waste(interval: f64, cost: f64, between: f64) -> f64 {
        cost / (interval + cost) + (interval / 2.0 + cost) / between
    }

    #[test]
    fn the_interval_is_daly_s() {
        for (cost, between, seconds) in [
            // Young's rule where δ is small: √(2 · 2 s · 1 h) = 120 s.
            (2, 3_600, 118),
            // Losses so often that 2 % of overhead is what decides.
            (2, 60, 98),
            (0, 3_600, 1),
            (1, 10_000 * 3_600, 8_484),
            (300, 6 * 3_600, 14_700),
        ] {
            let interval = checkpoint_interval(Millis::from_secs(cost), Millis::from_secs(between));
            assert_eq!(interval.get() / 1_000, seconds, "{cost} s, {between} s");
        }
        // √(2 · 300 · 21,600) · (1 + √(1/144)/3 + 1/144/9) − 300: 3,600 · 1.02855 − 300.
        assert_eq!(daly(300.0, 21_600.0).round(), 3_403.0);
        assert_eq!(daly(50.0, 20.0), 20.0);
        assert_eq!(between_losses(0), None);
        assert_eq!(between_losses(1_000), Some(Millis::from_secs(3_600)));
    }

    proptest! {
        #[test]
        fn saving_costs_no_more_than_it_may_and_no_interval_nearby_is_better(
            cost in 1u64..60_000, between in 10_000u64..100_000_000,
        ) {
            let interval = checkpoint_interval(Millis::new(cost), Millis::new(between));
            prop_assert!((INTERVAL_MIN..=INTERVAL_MAX).contains(&interval));
            let (interval, cost, between) = (interval.get() as f64, cost as f64, between as f64);
            prop_assert!(cost / (interval + cost) <= OVERHEAD_MAX * 1.001 || interval >= INTERVAL_MAX.get() as f64);
            let decided_by_loss = interval > cost * 49.5
                && interval > INTERVAL_MIN.get() as f64
                && interval < INTERVAL_MAX.get() as f64;
            if decided_by_loss {
                for other in [interval * 0.8, interval * 1.25] {
                    prop_assert!(waste(interval, cost, between) <= waste(other, cost, between) * 1.001);
                }
            }
        }

        #[test]
        fn more_losses_never_make_it_longer(cost in 0u64..60_000, between in 1u64..100_000_000, factor in 2u64..50) {
            let (cost, often, seldom) = (Millis::new(cost), Millis::new(between), Millis::new(between * factor));
            prop_assert!(checkpoint_interval(cost, often) <= checkpoint_interval(cost, seldom));
        }
    }
}
