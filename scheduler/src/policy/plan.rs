//! What was decided, each part with its reason. `explain`, the console and the tests read these reasons; their texts
//! are made in `reason_text` beside this and nowhere else.

use std::collections::BTreeMap;

use super::rule::Preemption;
use super::snapshot::PlacedRole;
use crate::model::{Generation, JobId, MicroUsd, MicroUsdPerHour, Millis, NodeId, WorkerId};

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
    Gang {
        /// What it costs.
        price: MicroUsdPerHour,
    },
    /// The job runs with fewer workers than its target; how much it has left to do is not known.
    Growth {
        /// What it costs.
        price: MicroUsdPerHour,
    },
    /// The job's objective is worth it.
    PaysOff {
        /// What it costs.
        price: MicroUsdPerHour,
        /// By how much the job is expected to end sooner.
        sooner: Millis,
        /// What the job is expected to cost until its end without it.
        without: MicroUsd,
        /// What the job is expected to cost until its end with it.
        with: MicroUsd,
    },
    /// The deadline would be missed without it.
    Deadline {
        /// What it costs.
        price: MicroUsdPerHour,
        /// By how much it would be missed.
        late: Millis,
    },
    /// A worker moves to it from a node that costs more per useful hour.
    Cheaper {
        /// What it costs.
        price: MicroUsdPerHour,
        /// What is expected to be saved until the job ends.
        saved: MicroUsd,
        /// What moving costs: its boot, and the work lost with the restart.
        moving: MicroUsd,
    },
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
    /// The job has time to spare, and waiting for spot costs less than going on.
    AwaitsSpot,
    /// A job of higher priority needs the node more than this one loses with it.
    Preempted(Preemption),
    /// It moves to a node where the job costs less.
    Moves {
        /// There.
        to: NodeId,
        /// What is expected to be saved until the job ends.
        saved: MicroUsd,
        /// What the work lost and the restart cost.
        moving: MicroUsd,
    },
}

/// Why a node is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReleaseReason {
    /// Nothing to do for longer than idle nodes are kept.
    Idle {
        /// How long it has been idle.
        idle: Millis,
        /// What that cost.
        cost: MicroUsd,
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
    /// Idle, and keeping it has cost less than renting it again would.
    BreakEven {
        /// Released at this time unless work comes.
        until: Millis,
        /// What renting such a node again costs: its boot and the shortest time that is billed.
        again: MicroUsd,
    },
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
    /// It has time to spare, and waiting for spot costs less than running on demand.
    ForSpot {
        /// The time that may pass without progress before it must run on demand.
        slack: Millis,
    },
    /// Jobs of lower priority are giving way.
    MakingWay {
        /// These.
        jobs: Vec<JobId>,
        /// What is lost with it.
        lost: MicroUsd,
    },
    /// The nodes it starts with cost more in an hour than it may spend.
    Rate {
        /// Workers it could pay.
        have: u32,
        /// Workers it starts with.
        need: u32,
        /// The most all its nodes may cost.
        limit: MicroUsdPerHour,
    },
}
