//! Who used each second of a node, down to the actor, and what of it was lost.
//!
//! [`NodeMeter`] cuts a node's time into lines for jobs. This module cuts the lines further, among the actors of a job,
//! and books work again that a preemption threw away: [`lose`] turns busy lines into lost ones. Both move amounts and
//! never change a sum, so that the lines of a node still add up to what it cost, to the micro-dollar (invariant 3).
//!
//! The ledger itself is only ever appended to: lines and [`Loss`]es are records, and a bill is made from both. Nothing
//! here knows why work was lost; whoever knows the last commit says from when to when.

use std::collections::BTreeMap;

use crate::model::{JobId, MicroUsd, Millis, NodeId};

use super::{Category, LedgerLine, NodeMeter, Use};

/// The name of an actor within its job, for example `trainer/3` or `parameter-server/0`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ActorName(pub String);

/// A use of a node's time by one actor, or by a job as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActorUse {
    /// For what, for whom, and for what share, for example processor time.
    pub part: Use,
    /// The actor; `None` where no single one is meant.
    pub actor: Option<ActorName>,
}

/// One line of a bill, with the actor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributedLine {
    /// The line.
    pub line: LedgerLine,
    /// The actor; `None` where no single one is meant.
    pub actor: Option<ActorName>,
}

/// Bills a node up to `now`, shared among actors. The lines sum to what the meter bills.
///
/// # Panics
///
/// If `uses` is empty: the time would belong to nobody.
#[must_use]
pub fn attribute(meter: &mut NodeMeter, now: Millis, uses: &[ActorUse]) -> Vec<AttributedLine> {
    let parts: Vec<Use> = uses.iter().map(|used| used.part).collect();
    let lines = meter.bill(now, &parts);
    lines.into_iter().zip(uses).map(|(line, used)| AttributedLine { line, actor: used.actor.clone() }).collect()
}

/// Work of a job that was thrown away: what it did between its last commit and the moment of the preemption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// The job whose work it was.
    pub job: JobId,
    /// The node, where only its part was lost; `None` where all nodes must do it again.
    pub node: Option<NodeId>,
    /// From when on: the last commit that outlives it.
    pub since: Millis,
    /// Until when.
    pub until: Millis,
}

impl Loss {
    fn concerns(self, line: &LedgerLine) -> bool {
        let mine = line.job == Some(self.job) && self.node.is_none_or(|node| node == line.node);
        mine && line.category == Category::Busy && line.from < self.until && self.since < line.to
    }
}

/// Books the busy time within a loss as lost. A line that lies partly within is cut, in proportion to the time; amounts
/// and times still sum to what they were. Booking the same loss again changes nothing.
#[must_use]
pub fn lose(lines: Vec<AttributedLine>, loss: Loss) -> Vec<AttributedLine> {
    let cut = |line: AttributedLine| if loss.concerns(&line.line) { cut(line, loss) } else { vec![line] };
    lines.into_iter().flat_map(cut).collect()
}

fn cut(whole: AttributedLine, loss: Loss) -> Vec<AttributedLine> {
    let line = &whole.line;
    let (since, until) = (loss.since.max(line.from), loss.until.min(line.to));
    let stretches =
        [(line.from, since, Category::Busy), (since, until, Category::Lost), (until, line.to, Category::Busy)];
    let amounts = line.amount.split(&stretches.map(|(from, to, _)| to.since(from).get()));
    let part = |((from, to, category), amount): ((Millis, Millis, Category), MicroUsd)| AttributedLine {
        line: LedgerLine { category, from, to, amount, ..line.clone() },
        actor: whole.actor.clone(),
    };
    stretches.into_iter().zip(amounts).filter(|((from, to, _), _)| from < to).map(part).collect()
}

/// Lines added up by job, actor and category.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Breakdown {
    /// The amounts. A combination without a line is not there.
    pub amounts: BTreeMap<(Option<JobId>, Option<ActorName>, Category), MicroUsd>,
}

impl Breakdown {
    /// Adds up `lines`.
    pub fn of<'a>(lines: impl IntoIterator<Item = &'a AttributedLine>) -> Self {
        let mut breakdown = Self::default();
        for AttributedLine { line, actor } in lines {
            *breakdown.amounts.entry((line.job, actor.clone(), line.category)).or_default() += line.amount;
        }
        breakdown
    }

    /// What all of it cost.
    pub fn total(&self) -> MicroUsd {
        self.amounts.values().copied().sum()
    }

    /// What one category cost.
    pub fn category(&self, category: Category) -> MicroUsd {
        self.amounts.iter().filter(|((_, _, of), _)| *of == category).map(|(_, amount)| *amount).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::MicroUsdPerHour;

    fn any_use() -> impl Strategy<Value = ActorUse> {
        let category = prop::sample::select(Category::ALL.to_vec());
        (category, prop::option::of(1u64..4), prop::option::of(0u64..3), 0u64..9_000).prop_map(
            |(category, job, actor, weight)| ActorUse {
                part: Use { category, job: job.map(JobId::new), weight },
                actor: actor.map(|number| ActorName(format!("trainer/{number}"))),
            },
        )
    }

    fn any_loss() -> impl Strategy<Value = Loss> {
        (1u64..4, prop::option::of(0u64..3), 0u64..40_000_000, 0u64..40_000_000).prop_map(|(job, node, a, b)| Loss {
            job: JobId::new(job),
            node: node.map(NodeId::new),
            since: Millis::new(a.min(b)),
            until: Millis::new(a.max(b)),
        })
    }

    /// One stretch of a node: how long, at what price from its end on, and who used it.
    type Stretch = (u64, Option<u64>, Vec<ActorUse>);

    fn any_history() -> impl Strategy<Value = Vec<Vec<Stretch>>> {
        let stretch = (0u64..9_000_000, prop::option::of(0u64..50_000_000), prop::collection::vec(any_use(), 1..4));
        prop::collection::vec(prop::collection::vec(stretch, 1..8), 1..4)
    }

    /// The lines of a history, and what its nodes cost, computed without the meter.
    fn bill(history: &[Vec<Stretch>]) -> (Vec<AttributedLine>, MicroUsd) {
        let (mut lines, mut cost) = (Vec::new(), MicroUsd::ZERO);
        for (node, stretches) in history.iter().enumerate() {
            let mut price = MicroUsdPerHour::new(3_600_000);
            let mut meter = NodeMeter::start(NodeId::new(node as u64), price, Millis::ZERO);
            let (mut now, mut since) = (Millis::ZERO, Millis::ZERO);
            for (pause, next_price, uses) in stretches {
                now = now + Millis::new(*pause);
                lines.extend(attribute(&mut meter, now, uses));
                if let Some(next) = next_price {
                    cost += price.cost_of(now.since(since));
                    (price, since) = (MicroUsdPerHour::new(*next), now);
                    meter.reprice(price);
                }
            }
            cost += price.cost_of(now.since(since));
        }
        (lines, cost)
    }

    fn sum(lines: &[AttributedLine]) -> MicroUsd {
        lines.iter().map(|line| line.line.amount).sum()
    }

    /// Node time of each job and actor; lost time stays with who spent it.
    fn time(lines: &[AttributedLine]) -> BTreeMap<(NodeId, Option<JobId>, Option<ActorName>), u64> {
        let mut time = BTreeMap::new();
        for AttributedLine { line, actor } in lines {
            *time.entry((line.node, line.job, actor.clone())).or_default() += line.to.since(line.from).get();
        }
        time
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Invariant 3, down to the actor, through price changes and any losses.
        #[test]
        fn every_micro_dollar_of_a_node_is_on_exactly_one_line(
            history in any_history(),
            losses in prop::collection::vec(any_loss(), 0..6),
        ) {
            let (lines, cost) = bill(&history);
            let time_before = time(&lines);
            let after = losses.iter().fold(lines, |lines, loss| lose(lines, *loss));
            prop_assert_eq!(sum(&after), cost);
            prop_assert_eq!(time(&after), time_before);
            prop_assert_eq!(Breakdown::of(&after).total(), cost);
            let by_category: MicroUsd = Category::ALL.iter().map(|of| Breakdown::of(&after).category(*of)).sum();
            prop_assert_eq!(by_category, cost);
        }

        #[test]
        fn a_loss_is_booked_once_and_only_where_work_was(history in any_history(), loss in any_loss()) {
            let (lines, _) = bill(&history);
            let once = lose(lines.clone(), loss);
            prop_assert_eq!(&lose(once.clone(), loss), &once);
            prop_assert!(once.iter().all(|line| !loss.concerns(&line.line)), "no busy time is left within the loss");
            let other = |lines: &[AttributedLine]| {
                let of_others = |line: &&AttributedLine| line.line.job != Some(loss.job);
                lines.iter().filter(of_others).cloned().collect::<Vec<_>>()
            };
            prop_assert_eq!(other(&once), other(&lines));
        }
    }

    #[test]
    fn a_line_is_cut_where_the_work_was_lost() {
        let used = Use { category: Category::Busy, job: Some(JobId::new(7)), weight: 1 };
        let mut meter = NodeMeter::start(NodeId::new(1), MicroUsdPerHour::new(3_600_000), Millis::ZERO);
        let lines = attribute(&mut meter, Millis::from_secs(10), &[ActorUse { part: used, actor: None }]);
        let loss = Loss { job: JobId::new(7), node: None, since: Millis::from_secs(6), until: Millis::from_secs(99) };
        let after = lose(lines, loss);
        let amounts: Vec<_> = after.iter().map(|line| (line.line.category, line.line.amount.get())).collect();
        assert_eq!(amounts, [(Category::Busy, 6_000), (Category::Lost, 4_000)]);
    }
}
