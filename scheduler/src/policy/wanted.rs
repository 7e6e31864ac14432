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

/// How many nodes of each kind a job takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shopping {
    /// Free ones, the cheapest.
    pub(super) homes: u32,
    /// Those on their way, the cheapest.
    pub(super) coming: u32,
    /// Those to rent, the cheapest.
    pub(super) rented: u32,
}

impl Shopping {
    /// As many as there are, the free ones first.
    pub(super) const UNLIMITED: Self = Self { homes: u32::MAX, coming: u32::MAX, rented: u32::MAX };

    /// Up to `most` nodes that together cost no more than `left` in an hour: those that are there before those that have to
    /// come, but the cheapest of all kinds where only they pay a gang.
    pub(super) fn within(left: u64, most: u32, gang: u32, prices: [&[MicroUsdPerHour]; 3]) -> Self {
        let mut nodes: Vec<(u64, usize)> = Vec::new();
        for (kind, of_kind) in prices.into_iter().enumerate() {
            nodes.extend(of_kind.iter().map(|price| (price.get(), kind)));
        }
        nodes.sort_unstable_by_key(|(price, kind)| (*kind, *price));
        let soonest = Self::first(&nodes, left, most);
        if soonest.count() >= gang {
            return soonest;
        }
        nodes.sort_unstable();
        Self::first(&nodes, left, most)
    }

    fn first(nodes: &[(u64, usize)], mut left: u64, most: u32) -> Self {
        let mut counts = [0; 3];
        for (price, kind) in nodes.iter().take(most as usize) {
            let Some(rest) = left.checked_sub(*price) else { break };
            left = rest;
            counts[*kind] += 1;
        }
        let [homes, coming, rented] = counts;
        Self { homes, coming, rented }
    }

    pub(super) fn count(self) -> u32 {
        self.homes.saturating_add(self.coming).saturating_add(self.rented)
    }
}

/// Whether the job accepts the node's market and price; its accelerators and size are another question.
pub(super) fn suits(job: &JobDemand, node: &NodeSupply) -> bool {
    job.takes(node.market) && job.max_price.is_none_or(|most| node.price <= most)
}

/// Whether a worker of the job could run on the node if nothing else did.
pub(super) fn could_carry(job: &JobDemand, node: &NodeSupply) -> bool {
    suits(job, node) && node.size.fits(job.need) && node.terms.gpus.fits(&job.terms.gpus)
}
