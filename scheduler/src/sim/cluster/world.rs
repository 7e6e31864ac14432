//! What a simulation starts from: the jobs to come, the nodes that are there, and what a provider rents out.

use crate::model::{GpuNeed, Gpus, Market, MicroUsdPerHour, Millis, NodeSize};
use crate::policy::{Objective, PRIORITY_DEFAULT};
use crate::spec::WorkerRange;

/// A world to simulate.
#[derive(Debug, Clone, PartialEq)]
pub struct World {
    /// The jobs, in any order.
    pub jobs: Vec<SimJob>,
    /// Nodes that are always there and never given back.
    pub nodes: Vec<FixedNode>,
    /// What can be rented.
    pub providers: Vec<Provider>,
    /// How the cluster is run.
    pub settings: Settings,
}

/// How the cluster is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Decisions are made at multiples of this; zero decides after every event.
    pub round: Millis,
    /// The longest that an idle rented node is kept.
    pub idle_release: Millis,
    /// The simulation ends here, whatever is left to do.
    pub until: Option<Millis>,
    /// The seed of everything random.
    pub seed: u64,
}

impl Default for Settings {
    /// Decisions after every event, and the idle time of the local cluster's default.
    fn default() -> Self {
        Self { round: Millis::ZERO, idle_release: Millis::from_secs(300), until: None, seed: 0 }
    }
}

/// A job to come.
#[derive(Debug, Clone, PartialEq)]
pub struct SimJob {
    /// Its name in the trace.
    pub name: String,
    /// Who pays.
    pub project: String,
    /// When it is submitted.
    pub submitted: Millis,
    /// How many workers it can use.
    pub workers: WorkerRange,
    /// What each of them needs.
    pub need: NodeSize,
    /// The accelerators each of them needs.
    pub gpus: GpuNeed,
    /// Which market its nodes come from.
    pub market: Market,
    /// Either market will do.
    pub either_market: bool,
    /// The most one node may cost.
    pub max_price: Option<MicroUsdPerHour>,
    /// Higher comes first under a policy that looks at it.
    pub priority: u16,
    /// What an additional worker has to achieve.
    pub objective: Objective,
    /// When it must have ended.
    pub deadline: Option<Millis>,
    /// What there is to do, as the time of one worker.
    pub work: Millis,
    /// The part of it that more workers do not speed up, in thousandths.
    pub serial_permille: u16,
    /// What the policy knows of the work; nothing where there is no estimate.
    pub estimate: Option<Estimate>,
    /// The time between two checkpoints; all work is lost with the last worker where there is none.
    pub checkpoint_every: Option<Millis>,
    /// The time from the start of its workers to progress, at every start.
    pub restart: Millis,
}

impl SimJob {
    /// A job of so many whole-node workers that runs for `run` with all of them, of which nothing is known beforehand.
    pub fn rigid(name: impl Into<String>, submitted: Millis, workers: u32, run: Millis) -> Self {
        Self {
            name: name.into(),
            project: "default".to_owned(),
            submitted,
            workers: WorkerRange { min: workers, target: workers, max: workers },
            need: NodeSize { cpus: crate::model::CpuMillis(0), memory: crate::model::MemoryMib(0) },
            gpus: GpuNeed::default(),
            market: Market::OnDemand,
            either_market: false,
            max_price: None,
            priority: PRIORITY_DEFAULT,
            objective: Objective::default(),
            deadline: None,
            work: Millis::new(run.get().saturating_mul(u64::from(workers))),
            serial_permille: 0,
            estimate: None,
            checkpoint_every: None,
            restart: Millis::ZERO,
        }
    }
}

/// What a policy knows of a job's work, in thousandths of what it really is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// The low end.
    pub low_permille: u32,
    /// The likely value.
    pub likely_permille: u32,
    /// The high end.
    pub high_permille: u32,
}

impl Estimate {
    /// The truth.
    pub const EXACT: Self = Self { low_permille: 1_000, likely_permille: 1_000, high_permille: 1_000 };
}

/// A node that is always there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixedNode {
    /// What it has.
    pub size: NodeSize,
    /// Its accelerators.
    pub gpus: Gpus,
    /// What an hour costs.
    pub price: MicroUsdPerHour,
    /// Which market's jobs it serves.
    pub market: Market,
}

/// An offer and how it really behaves.
#[derive(Debug, Clone, PartialEq)]
pub struct Provider {
    /// `provider/type/market`.
    pub name: String,
    /// What its nodes have.
    pub size: NodeSize,
    /// Their accelerators.
    pub gpus: Gpus,
    /// How they are rented.
    pub market: Market,
    /// What an hour costs.
    pub price: MicroUsdPerHour,
    /// The shortest time that is billed.
    pub billing_min: Millis,
    /// The most of it at any time.
    pub quota: u32,
    /// The shortest and the longest boot; what is between is equally likely.
    pub boot: (Millis, Millis),
    /// Launches that fail, in thousandths; that is seen after the boot time.
    pub failing_permille: u32,
    /// How often a node is taken back, in 1,000 hours; lifetimes are exponential.
    pub interruptions_per_1000_h: u32,
    /// How long before it goes a node is told.
    pub notice: Millis,
}
