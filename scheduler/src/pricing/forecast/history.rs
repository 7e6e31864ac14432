//! From the lines of a bill to what was spent in each hour.

use crate::model::{MicroUsd, Millis};
use crate::pricing::{LedgerLine, cut};

const HOUR: Millis = Millis::new(3_600_000);

/// Hours of history that are looked at: two years, far more than moves a forecast. What is older counts to the first.
const HOURS_MAX: u64 = 2 * 366 * 24;

/// What was spent in each hour, the oldest first; the last one ends now, the first is that in which the first line begins.
/// The hours sum to the lines.
pub fn hourly<'a>(lines: impl IntoIterator<Item = &'a LedgerLine>, now: Millis) -> Vec<MicroUsd> {
    let mut hours: Vec<MicroUsd> = Vec::new();
    for line in lines {
        // The hours end as long before now as whole hours are, not on the clock.
        let end_of = |at: Millis| now_and_whole_hours_after(at, now);
        for piece in cut(line, end_of) {
            let ago = (now.since(piece.from).get().saturating_sub(1) / HOUR.get()).min(HOURS_MAX);
            let ago = usize::try_from(ago).unwrap_or(usize::MAX);
            if hours.len() <= ago {
                hours.resize(ago + 1, MicroUsd::ZERO);
            }
            hours[ago] += piece.amount;
        }
    }
    hours.reverse();
    hours
}

/// The first moment after `at` that is a whole number of hours before `now`.
fn now_and_whole_hours_after(at: Millis, now: Millis) -> Millis {
    let left = now.since(at).get();
    if left == 0 { at } else { Millis::new(now.get() - (left - 1) / HOUR.get() * HOUR.get()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::NodeId;
    use crate::pricing::Category;

    const NOW: Millis = Millis::new(1_769_889_600_123);

    fn line(ago: u64, time: u64, amount: u64) -> LedgerLine {
        let from = Millis::new(NOW.get() - ago);
        LedgerLine {
            node: NodeId::new(1),
            job: None,
            category: Category::Busy,
            from,
            to: Millis::new((from.get() + time).min(NOW.get())),
            amount: MicroUsd::new(amount),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_hours_sum_to_the_bill(
            lines in prop::collection::vec((0u64..90_000_000, 0u64..90_000_000, 0u64..1_000_000_000), 0..20),
        ) {
            let lines: Vec<LedgerLine> = lines.into_iter().map(|(ago, time, amount)| line(ago, time, amount)).collect();
            let hours = hourly(&lines, NOW);
            let spent: MicroUsd = lines.iter().map(|line| line.amount).sum();
            prop_assert_eq!(hours.iter().copied().sum::<MicroUsd>(), spent);
        }
    }

    #[test]
    fn the_last_hour_ends_now() {
        let hour = HOUR.get();
        let hours = hourly(&[line(hour + hour / 2, hour, 100), line(3 * hour, hour, 7)], NOW);
        assert_eq!(hours.iter().map(|spent| spent.get()).collect::<Vec<_>>(), [7, 50, 50]);
    }
}
