//! What a decision may know beyond the bare minimum. Every struct here has a default that says "nothing is known, nothing
//! is asked for", and with the defaults all decisions are those of plain first come, first served.

use std::collections::BTreeMap;

use crate::model::{GpuNeed, Gpus, Market, MicroUsd, MicroUsdPerHour, Millis};
pub use crate::spec::Objective;

/// The priority of a job that names none, of 0 to [`PRIORITY_MAX`].
pub const PRIORITY_DEFAULT: u16 = 500;

/// The highest priority.
pub const PRIORITY_MAX: u16 = 1_000;

/// What a job asks for beyond workers of a size, and what is known about its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobTerms {
    /// Who pays.
    pub project: String,
    /// Higher is served first, under a policy that looks at it.
    pub priority: u16,
    /// `market: auto`: either market will do, whichever costs less per useful hour.
    pub either_market: bool,
    /// With a choice of markets: where it goes for now, if its deadline has a say in that.
    pub market_now: Option<MarketNow>,
    /// What an additional worker has to achieve.
    pub objective: Objective,
    /// When it must have ended.
    pub deadline: Option<Millis>,
    /// The most that all its nodes together may cost in an hour.
    pub rate_max: Option<MicroUsdPerHour>,
    /// The accelerators each worker needs.
    pub gpus: GpuNeed,
    /// What is left to do, where an estimate exists.
    pub work: Option<WorkLeft>,
    /// Since when it has been training without a break.
    pub running_since: Option<Millis>,
    /// Work that is lost if all its workers end now: the time since the last checkpoint.
    pub since_checkpoint: Millis,
    /// The time between two checkpoints, where it writes them regularly.
    pub checkpoint_every: Option<Millis>,
    /// How long it takes to train again after all its workers have ended.
    pub restart: Millis,
}

impl Default for JobTerms {
    fn default() -> Self {
        Self {
            project: "default".to_owned(),
            priority: PRIORITY_DEFAULT,
            either_market: false,
            market_now: None,
            objective: Objective::default(),
            deadline: None,
            rate_max: None,
            gpus: GpuNeed::default(),
            work: None,
            running_since: None,
            since_checkpoint: Millis::ZERO,
            checkpoint_every: None,
            restart: Millis::ZERO,
        }
    }
}

/// Where a job with a choice of markets goes for now, as the policy of its deadline says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarketNow {
    /// Its nodes come from this market; those of the other one are left for it.
    Only(Market),
    /// It holds no node until spot is back.
    Wait {
        /// The time that may pass without progress before it must run on demand.
        slack: Millis,
    },
}

/// An estimate of what a job has left to do. Work is the time one worker would need for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkLeft {
    /// At the least.
    pub low: Millis,
    /// Most likely.
    pub likely: Millis,
    /// At the most.
    pub high: Millis,
    /// The part that more workers do not speed up, in thousandths (Amdahl 1967). `None` where only one number of workers
    /// was seen: then more of them are hoped to speed it up in proportion where a deadline presses, and are no reason to
    /// leave the target of the job file.
    pub serial_permille: Option<u16>,
}

impl WorkLeft {
    /// An estimate without a range, for work that speeds up in proportion to the workers.
    pub fn exactly(work: Millis) -> Self {
        Self { low: work, likely: work, high: work, serial_permille: Some(0) }
    }

    /// How long `work` takes `workers`; for ever without any.
    pub fn time_on(&self, work: Millis, workers: u32) -> Millis {
        self.divided(work, workers, u128::from(workers))
    }

    /// What `work` takes of all its `workers` together.
    pub fn node_time_on(&self, work: Millis, workers: u32) -> Millis {
        self.divided(work, workers, 1)
    }

    fn divided(&self, work: Millis, workers: u32, by: u128) -> Millis {
        if workers == 0 {
            return Millis::new(u64::MAX);
        }
        let serial = u128::from(self.serial_permille.unwrap_or(0).min(1_000));
        let permille = serial * u128::from(workers) + (1_000 - serial);
        let time = u128::from(work.get()) * permille / (1_000 * by);
        Millis::new(u64::try_from(time).unwrap_or(u64::MAX))
    }
}

/// What is known about a node beyond its price.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeTerms {
    /// Its accelerators.
    pub gpus: Gpus,
    /// What renting such a node again would take, where it is known.
    pub again: Option<RentAgain>,
    /// How often such nodes are taken back, as observed: in 1,000 hours of one node.
    pub interruptions_per_1000_h: u32,
}

/// What renting a node again would take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RentAgain {
    /// From the request until it takes work; it bills meanwhile.
    pub boot: Millis,
    /// The shortest time that is billed.
    pub billing_min: Millis,
}

/// What projects have used and are entitled to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Accounts {
    /// By project; one that is missing has used nothing and has one share.
    pub projects: BTreeMap<String, Account>,
}

/// What one project has used and is entitled to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// Its part of the cluster, in proportion to the shares of the others.
    pub shares: u32,
    /// What it has used, decayed until `at`.
    pub used: MicroUsd,
    /// When `used` was true.
    pub at: Millis,
}
