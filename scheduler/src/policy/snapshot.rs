//! What a decision is made from.

use super::terms::{Accounts, JobTerms, MarketNow, NodeTerms};
use crate::model::{Generation, JobId, Market, MicroUsdPerHour, Millis, NodeId, NodeSize, NodeState, Offer, WorkerId};
use crate::spec::WorkerRange;

/// The cluster as it was seen at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// When.
    pub now: Millis,
    /// The number the plan will carry.
    pub generation: Generation,
    /// Every job that has not ended.
    pub jobs: Vec<JobDemand>,
    /// Every node that has not ended.
    pub nodes: Vec<NodeSupply>,
    /// What could be rented now.
    pub offers: Vec<Offer>,
    /// How long a node may stand idle before it is given back.
    pub idle_release: Millis,
    /// What projects have used and are entitled to.
    pub accounts: Accounts,
}

/// What one job has and wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobDemand {
    /// The job.
    pub id: JobId,
    /// When it was accepted: the order of the queue.
    pub submitted: Millis,
    /// How many workers it wants.
    pub workers: WorkerRange,
    /// What one worker needs.
    pub need: NodeSize,
    /// Which market its nodes come from.
    pub market: Market,
    /// The most one node may cost.
    pub max_price: Option<MicroUsdPerHour>,
    /// Whether one more node hosts the parameter server.
    pub separate_server: bool,
    /// Workers that were preempted and, by the job's wish, are not replaced.
    pub given_up: u32,
    /// Whether it is training, so that workers may be added one by one; else it starts as a gang.
    pub started: bool,
    /// Whether it is ending: nothing is started or rented for it any more.
    pub stopping: bool,
    /// No worker is started before this.
    pub hold_until: Option<Millis>,
    /// Its workers.
    pub placed: Vec<Placed>,
    /// Workers that were told to go and are still there: they fill their nodes and count for nothing else.
    pub leaving: Vec<Placed>,
    /// What it asks for beyond this, and what is known about its work.
    pub terms: JobTerms,
}

impl JobDemand {
    /// Whether its next nodes may come from this market.
    pub fn takes(&self, market: Market) -> bool {
        match self.terms.market_now {
            Some(MarketNow::Only(only)) => market == only,
            Some(MarketNow::Wait { .. }) => false,
            None => self.terms.either_market || market == self.market,
        }
    }

    /// Every worker of it that fills a node, those that are about to go among them.
    pub fn all_placed(&self) -> impl Iterator<Item = &Placed> {
        self.placed.iter().chain(&self.leaving)
    }
}

/// One worker of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// The worker.
    pub worker: WorkerId,
    /// Its node.
    pub node: NodeId,
    /// What it is for.
    pub role: PlacedRole,
}

/// What a worker is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PlacedRole {
    /// Hosts the parameter server and nothing else.
    Server,
    /// Carries logical shards.
    Trainer,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSupply {
    /// The node.
    pub id: NodeId,
    /// What it has.
    pub size: NodeSize,
    /// How it is rented.
    pub market: Market,
    /// What an hour costs.
    pub price: MicroUsdPerHour,
    /// Where it stands.
    pub state: NodeState,
    /// The job it was rented for.
    pub rented_for: Option<JobId>,
    /// When it will be taken back, if a notice came.
    pub notice_until: Option<Millis>,
    /// Whether it answers; work is not placed on a node that does not.
    pub answers: bool,
    /// Since when it has carried no worker.
    pub idle_since: Option<Millis>,
    /// What else is known about it.
    pub terms: NodeTerms,
}

impl NodeSupply {
    /// Whether new work may be placed here.
    pub fn takes_work(&self) -> bool {
        self.state == NodeState::Ready && self.notice_until.is_none() && self.answers
    }

    /// Whether it is on its way.
    pub fn is_coming(&self) -> bool {
        matches!(self.state, NodeState::Requested | NodeState::Booting | NodeState::Joining)
            && self.notice_until.is_none()
    }

    /// Whether work here must move.
    pub fn is_leaving(&self) -> bool {
        self.notice_until.is_some() || matches!(self.state, NodeState::Draining | NodeState::Releasing)
    }
}
