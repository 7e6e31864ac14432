//! What `plan` needs to know of a job and of what it may rent.

use crate::model::{MarketChoice, MicroUsd, MicroUsdPerHour, Millis};

/// How much faster a job is with more workers: the speed of each number of workers, relative to one.
#[derive(Debug, Clone, PartialEq)]
pub struct Speedup(pub Vec<(u32, f64)>);

impl Speedup {
    /// The speed with `workers`, between the two nearest entries in proportion; beyond them that of the last one.
    pub fn of(&self, workers: u32) -> f64 {
        let above = self.0.iter().find(|(count, _)| *count >= workers);
        let below = self.0.iter().rev().find(|(count, _)| *count <= workers);
        match (below, above) {
            (Some(below), Some(above)) if below.0 != above.0 => {
                let share = f64::from(workers - below.0) / f64::from(above.0 - below.0);
                below.1 + share * (above.1 - below.1)
            }
            (Some((_, speed)), _) | (None, Some((_, speed))) => *speed,
            (None, None) => 1.0,
        }
    }
}

/// A job to be planned.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanJob {
    /// How long it takes with `workers` that are never taken away.
    pub work: Millis,
    /// How many nodes it runs on, all at once.
    pub workers: u32,
    /// The fewest it may run on.
    pub workers_min: u32,
    /// The most it may run on.
    pub workers_max: u32,
    /// How its speed depends on that.
    pub speedup: Speedup,
    /// From a ready node to progress: launching, loading the checkpoint.
    pub restart: Millis,
    /// How often it saves its work; `None` never.
    pub checkpoint: Option<Millis>,
    /// Where its nodes come from.
    pub market: MarketChoice,
    /// By when it must be done, from its start.
    pub deadline: Option<Millis>,
    /// The most it may cost.
    pub budget: Option<MicroUsd>,
    /// The most one node may cost an hour.
    pub max_price: Option<MicroUsdPerHour>,
}

/// How many times its ideal time a job may take before it counts as one that never ends (error E020).
pub const IDEAL_TIMES_MAX: u64 = 10;

impl PlanJob {
    /// The time within which it must be done to count as done: its deadline, or ten times its ideal time.
    pub fn patience(&self) -> Millis {
        self.deadline.unwrap_or(Millis::new(self.work.get().saturating_mul(IDEAL_TIMES_MAX)))
    }

    /// How long it takes on the most workers it may have, if nothing is ever taken away.
    pub fn fastest(&self) -> Millis {
        self.with_workers(self.workers_max.max(self.workers)).work.min(self.work)
    }

    /// The same job on another number of workers.
    #[must_use]
    pub fn with_workers(&self, workers: u32) -> Self {
        let ratio = self.speedup.of(self.workers) / self.speedup.of(workers).max(f64::MIN_POSITIVE);
        Self { work: Millis::new((self.work.get() as f64 * ratio) as u64), workers, ..self.clone() }
    }
}
