//! One meter a node. Time goes in, lines come out, and nothing is lost to rounding (invariant 3).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{JobId, MicroUsd, MicroUsdPerHour, Millis, NodeId};

/// What a stretch of a node's time was spent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// Rented, not ready.
    Boot,
    /// Carrying work.
    Busy,
    /// Ready, with nothing to do.
    Idle,
    /// Giving up its work, or being released.
    Drain,
    /// Carried work that a preemption threw away: busy time that is booked again once the loss is known.
    Lost,
    /// Ran without anybody knowing, until it was found and given back.
    Orphan,
}

impl Category {
    /// All of them: the order of a node's life, then what went wrong.
    pub const ALL: [Self; 6] = [Self::Boot, Self::Busy, Self::Idle, Self::Drain, Self::Lost, Self::Orphan];

    /// The category's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::Busy => "busy",
            Self::Idle => "idle",
            Self::Drain => "drain",
            Self::Lost => "lost",
            Self::Orphan => "orphan",
        }
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Who used a stretch of time, and for what share of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Use {
    /// For what.
    pub category: Category,
    /// The job that pays; `None` is the cluster itself.
    pub job: Option<JobId>,
    /// Relative share, for example processor time; equal shares where all are 0.
    pub weight: u64,
}

/// One line of a bill: this much of this node's time, for this job, at this amount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerLine {
    /// The node.
    pub node: NodeId,
    /// The job that pays; `None` is the cluster itself.
    pub job: Option<JobId>,
    /// For what.
    pub category: Category,
    /// Start of the stretch.
    pub from: Millis,
    /// End of the stretch.
    pub to: Millis,
    /// The amount.
    pub amount: MicroUsd,
}

/// Bills one node from its start to its end. The sum of all lines it ever gave out is the price times the time billed;
/// where the price changed, the sum of that over the stretches between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeMeter {
    node: NodeId,
    price: MicroUsdPerHour,
    started: Millis,
    priced_since: Millis,
    billed_before: MicroUsd,
    billed_until: Millis,
}

impl NodeMeter {
    /// A meter that starts to run at `started`.
    pub fn start(node: NodeId, price: MicroUsdPerHour, started: Millis) -> Self {
        let (priced_since, billed_before, billed_until) = (started, MicroUsd::ZERO, started);
        Self { node, price, started, priced_since, billed_before, billed_until }
    }

    /// Another price from where it is billed until. Bill up to the change first: what is not billed yet costs the new
    /// price.
    pub fn reprice(&mut self, price: MicroUsdPerHour) {
        self.billed_before = self.billed();
        self.priced_since = self.billed_until;
        self.price = price;
    }

    /// When it started to run.
    pub fn started(&self) -> Millis {
        self.started
    }

    /// Until when lines were given out.
    pub fn billed_until(&self) -> Millis {
        self.billed_until
    }

    /// What has been billed so far.
    pub fn billed(&self) -> MicroUsd {
        self.cost_until(self.billed_until)
    }

    /// Bills the time up to `now`, shared among `uses`; no lines where no time has passed (or the clock went back).
    /// Where the whole stretch costs nothing there still is a line, so that time is accounted for too.
    ///
    /// # Panics
    ///
    /// If `uses` is empty: the time would belong to nobody.
    #[must_use]
    pub fn bill(&mut self, now: Millis, uses: &[Use]) -> Vec<LedgerLine> {
        let lines = self.preview(now, uses);
        self.billed_until = self.billed_until.max(now);
        lines
    }

    /// The lines that [`Self::bill`] would give out now.
    ///
    /// # Panics
    ///
    /// If `uses` is empty.
    pub fn preview(&self, now: Millis, uses: &[Use]) -> Vec<LedgerLine> {
        if now <= self.billed_until {
            return Vec::new();
        }
        let amount = self.cost_until(now) - self.cost_until(self.billed_until);
        let weights: Vec<u64> = uses.iter().map(|part| part.weight).collect();
        let line = |(part, amount): (&Use, MicroUsd)| LedgerLine {
            node: self.node,
            job: part.job,
            category: part.category,
            from: self.billed_until,
            to: now,
            amount,
        };
        uses.iter().zip(amount.split(&weights)).map(line).collect()
    }

    fn cost_until(&self, instant: Millis) -> MicroUsd {
        self.billed_before + self.price.cost_of(instant.since(self.priced_since))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_use() -> impl Strategy<Value = Use> {
        (0usize..4, prop::option::of(1u64..5), 0u64..8_000).prop_map(|(category, job, weight)| Use {
            category: Category::ALL[category],
            job: job.map(JobId::new),
            weight,
        })
    }

    proptest! {
        /// Invariant 3, for one node and any history.
        #[test]
        fn the_lines_of_a_bill_sum_to_price_times_time(
            price in 0u64..100_000_000,
            started in 0u64..1_000_000,
            history in prop::collection::vec((0u64..10_000_000, prop::collection::vec(any_use(), 1..5)), 1..60),
        ) {
            let price = MicroUsdPerHour::new(price);
            let mut meter = NodeMeter::start(NodeId::new(1), price, Millis::new(started));
            let mut now = Millis::new(started);
            let mut sum = MicroUsd::ZERO;
            for (pause, uses) in history {
                now = now + Millis::new(pause);
                sum += meter.bill(now, &uses).iter().map(|line| line.amount).sum();
            }
            prop_assert_eq!(sum, price.cost_of(now.since(Millis::new(started))));
            prop_assert_eq!(sum, meter.billed());
        }
    }

    #[test]
    fn a_clock_that_goes_back_bills_nothing() {
        let mut meter = NodeMeter::start(NodeId::new(1), MicroUsdPerHour::new(3_600_000), Millis::from_secs(100));
        let idle = [Use { category: Category::Idle, job: None, weight: 1 }];
        assert_eq!(meter.bill(Millis::from_secs(110), &idle)[0].amount, MicroUsd::new(10_000));
        assert!(meter.bill(Millis::from_secs(90), &idle).is_empty());
        assert_eq!(meter.bill(Millis::from_secs(111), &idle)[0].amount, MicroUsd::new(1_000));
    }
}
