//! Adds the lines of bills up: by what the time was spent on, by job, by node. Money stays whole micro-dollars.

use std::collections::BTreeMap;

use neap_scheduler::model::{JobId, MicroUsd, Millis, NodeId};
use neap_scheduler::pricing::{Category, LedgerLine};

/// Time of nodes, and what it cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spent {
    /// How much.
    pub amount: MicroUsd,
    /// For how long: node time, so two nodes in parallel count twice. Jobs that share a node each count all of it.
    pub time: Millis,
}

impl Spent {
    fn add(&mut self, line: &LedgerLine) {
        self.amount += line.amount;
        self.time = self.time + line.to.since(line.from);
    }
}

/// A bill: its total and three ways to cut it, each of which sums to the total.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bill {
    /// All lines.
    pub total: Spent,
    /// By what the time was spent on. A category without a line is not there.
    pub by_category: BTreeMap<Category, Spent>,
    /// By who pays; `None` is the cluster itself.
    pub by_job: BTreeMap<Option<JobId>, Spent>,
    /// By node.
    pub by_node: BTreeMap<NodeId, Spent>,
}

impl Bill {
    /// Adds up `lines`.
    pub fn of<'a>(lines: impl IntoIterator<Item = &'a LedgerLine>) -> Self {
        let mut bill = Self::default();
        for line in lines {
            bill.add(line);
        }
        bill
    }

    /// Adds one line.
    pub fn add(&mut self, line: &LedgerLine) {
        self.total.add(line);
        self.by_category.entry(line.category).or_default().add(line);
        self.by_job.entry(line.job).or_default().add(line);
        self.by_node.entry(line.node).or_default().add(line);
    }

    /// What was spent on one category.
    pub fn category(&self, category: Category) -> Spent {
        self.by_category.get(&category).copied().unwrap_or_default()
    }

    /// The part of the money that bought nothing but waiting, 0 to 1. Where all of it was free, the part of the time.
    pub fn idle_share(&self) -> f64 {
        let idle = self.category(Category::Idle);
        let (idle, all) = match self.total.amount {
            MicroUsd::ZERO => (idle.time.get(), self.total.time.get()),
            all => (idle.amount.get(), all.get()),
        };
        if all == 0 { 0.0 } else { idle as f64 / all as f64 }
    }
}

#[cfg(test)]
mod tests {
    use neap_scheduler::model::MicroUsdPerHour;
    use neap_scheduler::pricing::{NodeMeter, Use};
    use proptest::prelude::*;

    use super::*;

    fn any_use() -> impl Strategy<Value = Use> {
        (0usize..4, prop::option::of(1u64..4), 0u64..9).prop_map(|(category, job, weight)| Use {
            category: Category::ALL[category],
            job: job.map(JobId::new),
            weight,
        })
    }

    proptest! {
        /// Invariant 3, over several nodes: the bill is price times time, however it is cut.
        #[test]
        fn a_bill_is_what_the_nodes_cost(
            nodes in prop::collection::vec(
                (0u64..50_000_000, prop::collection::vec((1u64..9_000_000, prop::collection::vec(any_use(), 1..4)), 1..8)),
                1..6,
            ),
        ) {
            let mut bill = Bill::default();
            let mut cost = MicroUsd::ZERO;
            for (node, (price, history)) in nodes.iter().enumerate() {
                let price = MicroUsdPerHour::new(*price);
                let mut meter = NodeMeter::start(NodeId::new(node as u64), price, Millis::ZERO);
                let mut now = Millis::ZERO;
                for (pause, uses) in history {
                    now = now + Millis::new(*pause);
                    meter.bill(now, uses).iter().for_each(|line| bill.add(line));
                }
                cost += price.cost_of(now);
            }
            prop_assert_eq!(bill.total.amount, cost);
            prop_assert_eq!(bill.by_category.values().map(|spent| spent.amount).sum::<MicroUsd>(), cost);
            prop_assert_eq!(bill.by_job.values().map(|spent| spent.amount).sum::<MicroUsd>(), cost);
            prop_assert_eq!(bill.by_node.values().map(|spent| spent.amount).sum::<MicroUsd>(), cost);
            prop_assert!((0.0..=1.0).contains(&bill.idle_share()));
        }
    }

    #[test]
    fn the_idle_share_of_free_nodes_is_of_their_time() {
        let line = |category, to| LedgerLine {
            node: NodeId::new(1),
            job: None,
            category,
            from: Millis::ZERO,
            to: Millis::new(to),
            amount: MicroUsd::ZERO,
        };
        assert_eq!(Bill::of([&line(Category::Busy, 300), &line(Category::Idle, 100)]).idle_share(), 0.25);
        assert_eq!(Bill::default().idle_share(), 0.0);
    }
}
