//! What was decided, each part with its reason. `explain`, the console and the tests read these reasons; their texts
//! are made here and nowhere else.

use std::collections::BTreeMap;
use std::fmt;

use super::snapshot::PlacedRole;
use crate::model::{Generation, JobId, MicroUsdPerHour, Millis, NodeId, WorkerId};

/// A complete decision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Whoever executes plans refuses one older than the last.
    pub generation: Generation,
    /// What to do, in order.
    pub actions: Vec<Action>,
    /// Why a job does not have what it wants.
    pub waiting: BTreeMap<JobId, WaitReason>,
    /// Why a node is kept: exactly one reason for every node that is not released.
    pub kept: BTreeMap<NodeId, KeepReason>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Rent a node.
    Acquire {
        /// For this job.
        job: JobId,
        /// From this offer.
        offer: String,
        /// Why.
        reason: AcquireReason,
    },
    /// Start a worker.
    Start {
        /// Of this job.
        job: JobId,
        /// Here.
        node: NodeId,
        /// For this.
        role: PlacedRole,
        /// Why.
        reason: StartReason,
    },
    /// Move a worker's work to others, then end it.
    Retire {
        /// The job.
        job: JobId,
        /// The worker.
        worker: WorkerId,
        /// Why.
        reason: RetireReason,
    },
    /// Give a node back.
    Release {
        /// The node.
        node: NodeId,
        /// Why.
        reason: ReleaseReason,
    },
}

/// Why a node is rented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcquireReason {
    /// The job cannot start without it.
    Gang,
    /// The job runs with fewer workers than its target.
    Growth,
}

/// Why a worker is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartReason {
    /// All of the gang can start.
    Gang,
    /// The job runs with fewer workers than its target.
    Growth,
}

/// Why a worker has to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetireReason {
    /// Its node will be taken back.
    Notice {
        /// Then.
        until: Millis,
    },
    /// Its node is drained.
    Drain,
    /// Its job is ending.
    JobEnding,
    /// The job has more workers than its target.
    Surplus,
}

/// Why a node is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReleaseReason {
    /// Nothing to do for longer than idle nodes are kept.
    Idle {
        /// How long it has been idle.
        idle: Millis,
    },
    /// On its way for a job that does not need it any more.
    NotNeeded,
    /// It will be taken back anyway, and its work has moved.
    Noticed,
    /// It does not answer, and its work has moved.
    Unreachable,
}

/// Why a node is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeepReason {
    /// It carries workers of these jobs.
    Carries(Vec<JobId>),
    /// It is on its way for this job.
    ComingFor(JobId),
    /// It waits for the rest of this job's gang.
    GangOf(JobId),
    /// Idle; released at this time unless work comes.
    IdleUntil(Millis),
    /// Its work is moving away.
    Leaving,
    /// It does not answer; its lease still runs.
    Silent,
}

/// Why a job does not have what it wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitReason {
    /// An earlier job is served first.
    Behind(JobId),
    /// Nodes are on their way.
    Booting {
        /// How many.
        coming: u32,
    },
    /// It holds or could hold some nodes, not enough to start.
    Gang {
        /// Workers that could start now.
        have: u32,
        /// Workers it starts with.
        need: u32,
        /// Whether anything is on its way.
        coming: u32,
    },
    /// Offers would fit, but none is available now.
    NoCapacity {
        /// The cheapest fitting offer, sold out.
        offer: String,
    },
    /// No offer can carry one of its workers.
    Infeasible(String),
    /// Its workers crashed; the next try is later.
    Backoff {
        /// Not before this.
        until: Millis,
    },
}

impl fmt::Display for AcquireReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gang => "the job cannot start without it",
            Self::Growth => "the job has fewer workers than its target",
        })
    }
}

impl fmt::Display for StartReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gang => "all workers the job starts with have a node",
            Self::Growth => "the job has fewer workers than its target, and this node is free",
        })
    }
}

impl fmt::Display for RetireReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Notice { .. } => "the provider takes the node back",
            Self::Drain => "the node is drained",
            Self::JobEnding => "the job is ending",
            Self::Surplus => "the job has more workers than its target",
        })
    }
}

impl fmt::Display for ReleaseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle { idle } => write!(f, "idle for {idle}"),
            Self::NotNeeded => f.write_str("no job needs it any more"),
            Self::Noticed => f.write_str("the provider takes it back, and its work has moved"),
            Self::Unreachable => f.write_str("it does not answer, and its work has moved"),
        }
    }
}

impl KeepReason {
    /// The reason in a sentence, seen at `now`.
    pub fn text(&self, now: Millis) -> String {
        match self {
            Self::Carries(jobs) => {
                let jobs: Vec<_> = jobs.iter().map(ToString::to_string).collect();
                format!("carries {}", jobs.join(", "))
            }
            Self::ComingFor(job) => format!("on its way for {job}"),
            Self::GangOf(job) => format!("waits for the rest of the workers {job} starts with"),
            Self::IdleUntil(until) => format!("idle; released in {} unless work comes", until.since(now)),
            Self::Leaving => "its work is moving away".to_owned(),
            Self::Silent => "does not answer; its lease still runs".to_owned(),
        }
    }
}

impl WaitReason {
    /// Why, and what would change it, seen at `now`.
    pub fn text(&self, now: Millis, max_price: Option<MicroUsdPerHour>) -> String {
        match self {
            Self::Behind(job) => format!("{job} came first; starts once that job has its nodes or ends"),
            Self::Booting { coming } => format!("{coming} node(s) are on their way"),
            Self::Gang { have, need, coming } => format!(
                "has nodes for {have} of the {need} workers it starts with, {coming} on their way; \
                 a smaller workers.min would start it sooner"
            ),
            Self::NoCapacity { offer } => {
                format!("every fitting offer is sold out (cheapest: {offer}); starts when a node is free or offered")
            }
            Self::Infeasible(why) => match max_price {
                Some(price) => format!("{why} (max_price is {price})"),
                None => why.clone(),
            },
            Self::Backoff { until } => format!("its workers crashed; next try in {}", until.since(now)),
        }
    }
}
