//! A bill cut by time and by whatever its reader asks for. The parts always sum to the bill of the range.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::model::{MicroUsd, Millis};

use super::attribution::AttributedLine;
use super::cut;

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

/// How finely time is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Hours of UTC.
    Hour,
    /// Days of UTC.
    Day,
}

impl Step {
    fn length(self) -> u64 {
        match self {
            Self::Hour => HOUR,
            Self::Day => DAY,
        }
    }
}

/// A stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Its first moment.
    pub from: Millis,
    /// The first moment after it.
    pub until: Millis,
}

impl Stretch {
    /// All time.
    pub const ALL: Self = Self { from: Millis::ZERO, until: Millis::new(u64::MAX) };

    fn holds(self, moment: Millis) -> bool {
        self.from <= moment && moment < self.until
    }
}

/// Money and the node time it bought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Part {
    /// The money.
    pub amount: MicroUsd,
    /// The node time; nodes in parallel count each.
    pub time: Millis,
}

/// What lines within `stretch` cost, by the beginning of each step (nothing where time is not cut) and by `key`. A line
/// that lies partly within is cut, in proportion to the time.
pub fn break_down<K: Ord>(
    lines: &[AttributedLine],
    stretch: Stretch,
    step: Option<Step>,
    key: impl Fn(&AttributedLine) -> K,
) -> BTreeMap<(Option<Millis>, K), Part> {
    let mut parts: BTreeMap<(Option<Millis>, K), Part> = BTreeMap::new();
    for whole in lines {
        for piece in cut(&whole.line, |at| end_of(at, stretch, step)) {
            if !stretch.holds(piece.from) {
                continue;
            }
            let begins = step.map(|step| Millis::new(piece.from.get() / step.length() * step.length()));
            let part = parts.entry((begins, key(whole))).or_default();
            part.amount += piece.amount;
            part.time = part.time + piece.to.since(piece.from);
        }
    }
    parts
}

/// The next moment at which lines are cut.
fn end_of(at: Millis, stretch: Stretch, step: Option<Step>) -> Millis {
    let next = step.map(|step| Millis::new((at.get() / step.length() + 1).saturating_mul(step.length())));
    let bounds = [Some(stretch.from), Some(stretch.until), next];
    bounds.into_iter().flatten().filter(|bound| *bound > at).min().unwrap_or(at)
}

/// The beginning of the day of UTC that holds a moment.
pub fn day_of(moment: Millis) -> Millis {
    Millis::new(moment.get() / DAY * DAY)
}

/// The calendar month of UTC that holds a moment, or the one before it.
pub fn month_of(moment: Millis, before: bool) -> Stretch {
    let millis = i64::try_from(moment.get()).unwrap_or(i64::MAX);
    let date = Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX).to_zoned(TimeZone::UTC).date();
    let first = date.first_of_month();
    let instant = |date: jiff::civil::Date| {
        let zoned = date.to_zoned(TimeZone::UTC).ok();
        let millis = zoned.and_then(|zoned| u64::try_from(zoned.timestamp().as_millisecond()).ok());
        millis.map_or(Millis::ZERO, Millis::new)
    };
    let previous = first.yesterday().map_or(first, |day| day.first_of_month());
    let next = date.last_of_month().tomorrow().unwrap_or(date);
    let (from, until) = if before { (previous, first) } else { (first, next) };
    Stretch { from: instant(from), until: instant(until) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{JobId, NodeId};
    use crate::pricing::attribution::ActorName;
    use crate::pricing::{Category, LedgerLine};

    fn any_line() -> impl Strategy<Value = AttributedLine> {
        let category = prop::sample::select(Category::ALL.to_vec());
        let place = (0u64..4, prop::option::of(1u64..4), prop::option::of(0u64..3));
        (category, place, 0u64..90_000_000, 0u64..20_000_000, 0u64..1_000_000).prop_map(
            |(category, (node, job, actor), from, time, amount)| AttributedLine {
                line: LedgerLine {
                    node: NodeId::new(node),
                    job: job.map(JobId::new),
                    category,
                    from: Millis::new(from),
                    to: Millis::new(from + time),
                    amount: MicroUsd::new(amount),
                },
                actor: actor.map(|number| ActorName(format!("trainer/{number}"))),
            },
        )
    }

    fn sum<K>(parts: &BTreeMap<(Option<Millis>, K), Part>) -> MicroUsd {
        parts.values().map(|part| part.amount).sum()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Invariant 3: whatever a bill is cut by, the parts sum to it; and neighbouring ranges sum to both together.
        #[test]
        fn the_parts_sum_to_the_bill(lines in prop::collection::vec(any_line(), 0..20), at in 0u64..110_000_000) {
            let whole: MicroUsd = lines.iter().map(|line| line.line.amount).sum();
            let keys: [fn(&AttributedLine) -> String; 4] = [
                |line| format!("{:?}", line.line.job),
                |line| format!("{:?} {:?}", line.line.job, line.actor),
                |line| line.line.node.to_string(),
                |line| line.line.category.to_string(),
            ];
            for key in keys {
                for step in [None, Some(Step::Hour), Some(Step::Day)] {
                    prop_assert_eq!(sum(&break_down(&lines, Stretch::ALL, step, key)), whole);
                    let before = Stretch { until: Millis::new(at), ..Stretch::ALL };
                    let after = Stretch { from: Millis::new(at), ..Stretch::ALL };
                    let [before, after] = [before, after].map(|part| sum(&break_down(&lines, part, step, key)));
                    prop_assert_eq!(before + after, whole);
                }
            }
        }
    }

    #[test]
    fn months_are_those_of_utc() {
        let moment = Millis::new(1_769_889_600_000); // 2026-01-31 20:00
        let january = Stretch { from: Millis::new(1_767_225_600_000), until: Millis::new(1_769_904_000_000) };
        assert_eq!(month_of(moment, false), january);
        assert_eq!(month_of(january.until, true), january);
        assert_eq!(day_of(moment), Millis::new(1_769_817_600_000));
    }
}
