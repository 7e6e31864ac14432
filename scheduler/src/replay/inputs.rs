//! The record of what a decision was made from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{
    Generation, GpuCount, GpuNeed, Gpus, JobId, Market, MicroUsd, MicroUsdPerHour, Millis, NodeId, NodeSize, NodeState,
    Offer, OfferTerms, WorkerId,
};
use crate::policy::{
    Account, Accounts, JobDemand, JobTerms, MarketNow, NodeSupply, NodeTerms, Objective, Placed, PlacedRole, RentAgain,
    Snapshot, WorkLeft,
};
use crate::spec::WorkerRange;

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    now: Millis,
    generation: Generation,
    jobs: Vec<JobRecord>,
    nodes: Vec<NodeRecord>,
    offers: Vec<OfferRecord>,
    idle_release: Millis,
    accounts: BTreeMap<String, (u32, MicroUsd, Millis)>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct JobRecord {
    id: JobId,
    submitted: Millis,
    /// Least, target, most.
    workers: (u32, u32, u32),
    need: NodeSize,
    gpus: (GpuCount, Vec<String>),
    market: Market,
    either_market: bool,
    #[serde(default)]
    market_now: Option<MarketNowRecord>,
    max_price: Option<MicroUsdPerHour>,
    rate_max: Option<MicroUsdPerHour>,
    separate_server: bool,
    given_up: u32,
    started: bool,
    stopping: bool,
    hold_until: Option<Millis>,
    /// Worker, node, and whether it only hosts the parameter server.
    placed: Vec<(WorkerId, NodeId, bool)>,
    /// Those that are about to go.
    #[serde(default)]
    leaving: Vec<(WorkerId, NodeId, bool)>,
    project: String,
    priority: u16,
    objective: ObjectiveRecord,
    deadline: Option<Millis>,
    /// Low, likely, high, and the serial part in thousandths.
    work: Option<(Millis, Millis, Millis, Option<u16>)>,
    running_since: Option<Millis>,
    since_checkpoint: Millis,
    checkpoint_every: Option<Millis>,
    restart: Millis,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ObjectiveRecord {
    MinCost,
    MinTime,
    Balanced,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum MarketNowRecord {
    Only(Market),
    Wait(Millis),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct NodeRecord {
    id: NodeId,
    size: NodeSize,
    gpus: (GpuCount, Option<String>),
    market: Market,
    price: MicroUsdPerHour,
    state: NodeState,
    rented_for: Option<JobId>,
    notice_until: Option<Millis>,
    answers: bool,
    idle_since: Option<Millis>,
    /// Boot and shortest billed time of another one.
    again: Option<(Millis, Millis)>,
    interruptions_per_1000_h: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct OfferRecord {
    name: String,
    size: NodeSize,
    gpus: (GpuCount, Option<String>),
    market: Market,
    price: MicroUsdPerHour,
    boot: Millis,
    available: u32,
    billing_min: Millis,
    interruptions_per_1000_h: u32,
    hold_until: Option<Millis>,
}

impl From<&Snapshot> for SnapshotRecord {
    fn from(snapshot: &Snapshot) -> Self {
        let accounts = snapshot.accounts.projects.iter();
        Self {
            now: snapshot.now,
            generation: snapshot.generation,
            jobs: snapshot.jobs.iter().map(JobRecord::from).collect(),
            nodes: snapshot.nodes.iter().map(NodeRecord::from).collect(),
            offers: snapshot.offers.iter().map(OfferRecord::from).collect(),
            idle_release: snapshot.idle_release,
            accounts: accounts.map(|(name, one)| (name.clone(), (one.shares, one.used, one.at))).collect(),
        }
    }
}

impl SnapshotRecord {
    /// The snapshot, as it was.
    pub fn snapshot(&self) -> Snapshot {
        let account = |&(shares, used, at): &(u32, MicroUsd, Millis)| Account { shares, used, at };
        let accounts = self.accounts.iter().map(|(name, one)| (name.clone(), account(one)));
        Snapshot {
            now: self.now,
            generation: self.generation,
            jobs: self.jobs.iter().map(JobRecord::demand).collect(),
            nodes: self.nodes.iter().map(NodeRecord::supply).collect(),
            offers: self.offers.iter().map(OfferRecord::offer).collect(),
            idle_release: self.idle_release,
            accounts: Accounts { projects: accounts.collect() },
        }
    }
}

impl From<&JobDemand> for JobRecord {
    fn from(job: &JobDemand) -> Self {
        let terms = &job.terms;
        let workers = |placed: &[Placed]| {
            placed.iter().map(|one| (one.worker, one.node, one.role == PlacedRole::Server)).collect()
        };
        Self {
            id: job.id,
            submitted: job.submitted,
            need: job.need,
            market: job.market,
            max_price: job.max_price,
            separate_server: job.separate_server,
            given_up: job.given_up,
            started: job.started,
            stopping: job.stopping,
            hold_until: job.hold_until,
            workers: (job.workers.min, job.workers.target, job.workers.max),
            gpus: (terms.gpus.count, terms.gpus.models.clone()),
            placed: workers(&job.placed),
            leaving: workers(&job.leaving),
            project: terms.project.clone(),
            objective: terms.objective.into(),
            work: terms.work.map(|work| (work.low, work.likely, work.high, work.serial_permille)),
            either_market: terms.either_market,
            market_now: terms.market_now.map(MarketNowRecord::from),
            rate_max: terms.rate_max,
            priority: terms.priority,
            deadline: terms.deadline,
            running_since: terms.running_since,
            since_checkpoint: terms.since_checkpoint,
            checkpoint_every: terms.checkpoint_every,
            restart: terms.restart,
        }
    }
}

impl JobRecord {
    fn demand(&self) -> JobDemand {
        let (min, target, max) = self.workers;
        let role = |server| if server { PlacedRole::Server } else { PlacedRole::Trainer };
        let workers = |placed: &[(WorkerId, NodeId, bool)]| {
            placed.iter().map(|&(worker, node, server)| Placed { worker, node, role: role(server) }).collect()
        };
        let work = |(low, likely, high, serial_permille)| WorkLeft { low, likely, high, serial_permille };
        JobDemand {
            id: self.id,
            submitted: self.submitted,
            need: self.need,
            market: self.market,
            max_price: self.max_price,
            separate_server: self.separate_server,
            given_up: self.given_up,
            started: self.started,
            stopping: self.stopping,
            hold_until: self.hold_until,
            workers: WorkerRange { min, target, max },
            placed: workers(&self.placed),
            leaving: workers(&self.leaving),
            terms: JobTerms {
                project: self.project.clone(),
                gpus: GpuNeed { count: self.gpus.0, models: self.gpus.1.clone() },
                objective: self.objective.into(),
                work: self.work.map(work),
                either_market: self.either_market,
                market_now: self.market_now.map(MarketNow::from),
                rate_max: self.rate_max,
                priority: self.priority,
                deadline: self.deadline,
                running_since: self.running_since,
                since_checkpoint: self.since_checkpoint,
                checkpoint_every: self.checkpoint_every,
                restart: self.restart,
            },
        }
    }
}

impl From<&NodeSupply> for NodeRecord {
    fn from(node: &NodeSupply) -> Self {
        Self {
            id: node.id,
            size: node.size,
            market: node.market,
            price: node.price,
            state: node.state,
            rented_for: node.rented_for,
            notice_until: node.notice_until,
            answers: node.answers,
            idle_since: node.idle_since,
            gpus: (node.terms.gpus.count, node.terms.gpus.model.clone()),
            again: node.terms.again.map(|again| (again.boot, again.billing_min)),
            interruptions_per_1000_h: node.terms.interruptions_per_1000_h,
        }
    }
}

impl NodeRecord {
    fn supply(&self) -> NodeSupply {
        NodeSupply {
            id: self.id,
            size: self.size,
            market: self.market,
            price: self.price,
            state: self.state,
            rented_for: self.rented_for,
            notice_until: self.notice_until,
            answers: self.answers,
            idle_since: self.idle_since,
            terms: NodeTerms {
                gpus: Gpus { count: self.gpus.0, model: self.gpus.1.clone() },
                again: self.again.map(|(boot, billing_min)| RentAgain { boot, billing_min }),
                interruptions_per_1000_h: self.interruptions_per_1000_h,
            },
        }
    }
}

impl From<&Offer> for OfferRecord {
    fn from(offer: &Offer) -> Self {
        Self {
            name: offer.name.clone(),
            size: offer.size,
            market: offer.market,
            price: offer.price,
            boot: offer.boot,
            available: offer.available,
            gpus: (offer.terms.gpus.count, offer.terms.gpus.model.clone()),
            billing_min: offer.terms.billing_min,
            interruptions_per_1000_h: offer.terms.interruptions_per_1000_h,
            hold_until: offer.terms.hold_until,
        }
    }
}

impl OfferRecord {
    fn offer(&self) -> Offer {
        Offer {
            name: self.name.clone(),
            size: self.size,
            market: self.market,
            price: self.price,
            boot: self.boot,
            available: self.available,
            terms: OfferTerms {
                gpus: Gpus { count: self.gpus.0, model: self.gpus.1.clone() },
                billing_min: self.billing_min,
                interruptions_per_1000_h: self.interruptions_per_1000_h,
                hold_until: self.hold_until,
            },
        }
    }
}

impl From<Objective> for ObjectiveRecord {
    fn from(objective: Objective) -> Self {
        match objective {
            Objective::MinCost => Self::MinCost,
            Objective::MinTime => Self::MinTime,
            Objective::Balanced => Self::Balanced,
        }
    }
}

impl From<ObjectiveRecord> for Objective {
    fn from(objective: ObjectiveRecord) -> Self {
        match objective {
            ObjectiveRecord::MinCost => Self::MinCost,
            ObjectiveRecord::MinTime => Self::MinTime,
            ObjectiveRecord::Balanced => Self::Balanced,
        }
    }
}

impl From<MarketNow> for MarketNowRecord {
    fn from(now: MarketNow) -> Self {
        match now {
            MarketNow::Only(market) => Self::Only(market),
            MarketNow::Wait { slack } => Self::Wait(slack),
        }
    }
}

impl From<MarketNowRecord> for MarketNow {
    fn from(now: MarketNowRecord) -> Self {
        match now {
            MarketNowRecord::Only(market) => Self::Only(market),
            MarketNowRecord::Wait(slack) => Self::Wait { slack },
        }
    }
}
