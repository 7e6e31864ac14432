//! How many workers a job has and wants, and what it may spend on them in an hour.

use super::snapshot::{JobDemand, NodeSupply, Placed, PlacedRole};
use crate::model::{MicroUsdPerHour, NodeId};

/// How many workers a job has and wants, the one that hosts a separate parameter server among them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) has: u32,
    pub(super) least: u32,
    target: u32,
    pub(super) servers_missing: u32,
}

impl Wanted {
    /// `goal` is the number of trainers the policy aims at.
    pub(super) fn new(job: &JobDemand, goal: u32, healthy: impl Fn(NodeId) -> bool) -> Self {
        let on_healthy = |placed: &&Placed| healthy(placed.node);
        let count = |role| job.placed.iter().filter(|placed| placed.role == role).filter(on_healthy).count() as u32;
        let (servers, trainers) = (count(PlacedRole::Server), count(PlacedRole::Trainer));
        let extra = u32::from(job.separate_server);
        let target = goal.saturating_sub(job.given_up).max(job.workers.min);
        Self {
            has: servers + trainers,
            least: job.workers.min + extra,
            target: target + extra,
            servers_missing: extra.saturating_sub(servers),
        }
    }

    pub(super) fn missing(&self) -> u32 {
        self.target.saturating_sub(self.has)
    }
}

/// What is left of the most that a job's nodes may cost in an hour. A node that several jobs share counts in full for each
/// of them: each must be able to go on when the others end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Purse {
    left: Option<u64>,
    /// Whether something was left out because it cost too much.
    pub(super) refused: bool,
}

impl Purse {
    pub(super) fn new(job: &JobDemand, spent: MicroUsdPerHour) -> Self {
        Self { left: job.terms.rate_max.map(|most| most.get().saturating_sub(spent.get())), refused: false }
    }

    /// Whether the price fits; it is spent if so.
    pub(super) fn spend(&mut self, price: MicroUsdPerHour) -> bool {
        match self.left {
            Some(left) if left < price.get() => {
                self.refused = true;
                false
            }
            Some(left) => {
                self.left = Some(left - price.get());
                true
            }
            None => true,
        }
    }
}

/// Whether the job accepts the node's market and price; its accelerators and size are another question.
pub(super) fn suits(job: &JobDemand, node: &NodeSupply) -> bool {
    (job.terms.either_market || node.market == job.market) && job.max_price.is_none_or(|most| node.price <= most)
}

/// Whether a worker of the job could run on the node if nothing else did.
pub(super) fn could_carry(job: &JobDemand, node: &NodeSupply) -> bool {
    suits(job, node) && node.size.fits(job.need) && node.terms.gpus.fits(&job.terms.gpus)
}
