//! First come, first served: gangs start whole, running jobs grow to their target, idle nodes go back.
//!
//! Jobs are served in the order they were accepted. A job that cannot start yet holds back the later ones, so that it
//! is never starved by smaller jobs; what it cannot use now stays free. Deciding twice on an unchanged cluster gives
//! the same plan, and a plan that was carried out gives an empty one.

use std::collections::{BTreeMap, BTreeSet};

use super::plan::{AcquireReason, Action, KeepReason, Plan, ReleaseReason, RetireReason, StartReason, WaitReason};
use super::snapshot::{JobDemand, NodeSupply, Placed, PlacedRole, Snapshot};
use crate::model::{JobId, Millis, NodeId, NodeSize, NodeState, Offer, WorkerId};

/// Decides what to do next about everything in the snapshot.
pub fn decide(snapshot: &Snapshot) -> Plan {
    let mut round = Round::new(snapshot);
    let mut queue: Vec<&JobDemand> = snapshot.jobs.iter().collect();
    queue.sort_by_key(|job| (job.submitted, job.id));
    for job in queue {
        round.retire(job);
        if !job.stopping {
            round.serve(job);
        }
    }
    for node in &snapshot.nodes {
        round.keep_or_release(node);
    }
    round.plan
}

/// The cheapest offer that can carry one worker of the job; `sold_out_too` also looks at offers that are not available
/// now, to tell "not now" from "never".
pub fn cheapest_fit<'a>(job: &JobDemand, offers: &'a [Offer], sold_out_too: bool) -> Option<&'a Offer> {
    offers
        .iter()
        .filter(|offer| offer.market == job.market && offer.size.fits(job.need))
        .filter(|offer| job.max_price.is_none_or(|most| offer.price <= most))
        .filter(|offer| sold_out_too || offer.available > 0)
        .min_by_key(|offer| (offer.price, offer.name.as_str()))
}

struct Round<'a> {
    snapshot: &'a Snapshot,
    plan: Plan,
    /// What is left on nodes that take work.
    free: BTreeMap<NodeId, NodeSize>,
    /// What can still be rented.
    offers: Vec<Offer>,
    /// Nodes that some job uses or will use.
    used: BTreeMap<NodeId, KeepReason>,
    /// The first job that could not start.
    blocked_by: Option<JobId>,
}

impl<'a> Round<'a> {
    fn new(snapshot: &'a Snapshot) -> Self {
        let mut free: BTreeMap<NodeId, NodeSize> =
            snapshot.nodes.iter().filter(|node| node.takes_work()).map(|node| (node.id, node.size)).collect();
        let mut carries: BTreeMap<NodeId, BTreeSet<JobId>> = BTreeMap::new();
        for job in &snapshot.jobs {
            for placed in &job.placed {
                if let Some(left) = free.get_mut(&placed.node) {
                    *left = left.minus(job.need);
                }
                carries.entry(placed.node).or_default().insert(job.id);
            }
        }
        let used =
            carries.into_iter().map(|(node, jobs)| (node, KeepReason::Carries(jobs.into_iter().collect()))).collect();
        let plan = Plan { generation: snapshot.generation, ..Plan::default() };
        Self { snapshot, plan, free, offers: snapshot.offers.clone(), used, blocked_by: None }
    }

    /// Moves workers away from nodes that are leaving, and ends those of a job that is ending or has too many: after a
    /// silent node has come back, its replacement is there too.
    fn retire(&mut self, job: &JobDemand) {
        let surplus = self.surplus(job);
        for placed in &job.placed {
            let node = self.node(placed.node);
            let reason = match node {
                _ if job.stopping => RetireReason::JobEnding,
                Some(NodeSupply { notice_until: Some(until), .. }) => RetireReason::Notice { until: *until },
                Some(NodeSupply { state: NodeState::Draining, .. }) => RetireReason::Drain,
                _ if surplus.contains(&placed.worker) => RetireReason::Surplus,
                _ => continue,
            };
            self.plan.actions.push(Action::Retire { job: job.id, worker: placed.worker, reason });
        }
    }

    /// The newest trainers beyond the target.
    fn surplus(&self, job: &JobDemand) -> Vec<WorkerId> {
        let healthy = |placed: &&Placed| self.node(placed.node).is_some_and(NodeSupply::takes_work);
        let trainers = job.placed.iter().filter(|placed| placed.role == PlacedRole::Trainer);
        let mut trainers: Vec<_> = trainers.filter(healthy).map(|placed| placed.worker).collect();
        trainers.sort_unstable();
        trainers.split_off(trainers.len().min(job.workers.target as usize))
    }

    fn serve(&mut self, job: &JobDemand) {
        if let Some(first) = self.blocked_by {
            self.plan.waiting.insert(job.id, WaitReason::Behind(first));
            return;
        }
        if let Some(until) = job.hold_until.filter(|&until| until > self.snapshot.now) {
            self.plan.waiting.insert(job.id, WaitReason::Backoff { until });
            return;
        }
        let wanted = Wanted::new(job, |node| self.node(node).is_some_and(NodeSupply::takes_work));
        let homes = self.homes(job, wanted.missing());
        let coming = self.coming_for(job, wanted.missing() - count(&homes));
        let short = wanted.missing() - count(&homes) - count(&coming);
        let can_start = job.started || wanted.has + count(&homes) >= wanted.least;
        for node in coming.iter().copied() {
            self.used.insert(node, KeepReason::ComingFor(job.id));
        }
        if can_start {
            self.start(job, &wanted, &homes);
        } else {
            for &node in &homes {
                self.used.entry(node).or_insert(KeepReason::GangOf(job.id));
                self.free.remove(&node);
            }
        }
        let sold_out = self.acquire(job, short);
        self.explain_wait(job, &wanted, can_start, (count(&homes), count(&coming), short - sold_out), sold_out);
    }

    /// Free nodes for workers of the job, at most one worker of a job on a node; the fullest fitting first, so that
    /// whole nodes stay free.
    fn homes(&self, job: &JobDemand, most: u32) -> Vec<NodeId> {
        let taken: BTreeSet<NodeId> = job.placed.iter().map(|placed| placed.node).collect();
        let mut fitting: Vec<_> = self
            .free
            .iter()
            .filter(|(node, left)| !taken.contains(node) && left.fits(job.need))
            .filter(|(node, _)| self.node(**node).is_some_and(|node| suits(job, node)))
            .map(|(node, left)| (left.cpus, left.memory, *node))
            .collect();
        fitting.sort_unstable();
        fitting.into_iter().map(|(.., node)| node).take(most as usize).collect()
    }

    fn coming_for(&self, job: &JobDemand, most: u32) -> Vec<NodeId> {
        self.snapshot
            .nodes
            .iter()
            .filter(|node| node.is_coming() && node.size.fits(job.need) && suits(job, node))
            .filter(|node| node.rented_for == Some(job.id) || node.rented_for.is_none())
            .filter(|node| !self.used.contains_key(&node.id))
            .map(|node| node.id)
            .take(most as usize)
            .collect()
    }

    fn start(&mut self, job: &JobDemand, wanted: &Wanted, homes: &[NodeId]) {
        let mut servers = wanted.servers_missing;
        for &node in homes {
            let role = if servers > 0 { PlacedRole::Server } else { PlacedRole::Trainer };
            servers = servers.saturating_sub(1);
            let reason = if job.started { StartReason::Growth } else { StartReason::Gang };
            self.plan.actions.push(Action::Start { job: job.id, node, role, reason });
            self.used.insert(node, KeepReason::Carries(vec![job.id]));
            if let Some(left) = self.free.get_mut(&node) {
                *left = left.minus(job.need);
            }
        }
    }

    /// Rents up to `short` nodes; gives back how many could not be had.
    fn acquire(&mut self, job: &JobDemand, short: u32) -> u32 {
        let reason = if job.started { AcquireReason::Growth } else { AcquireReason::Gang };
        for rented in 0..short {
            let Some(name) = cheapest_fit(job, &self.offers, false).map(|offer| offer.name.clone()) else {
                return short - rented;
            };
            for offer in self.offers.iter_mut().filter(|offer| offer.name == name) {
                offer.available -= 1;
            }
            self.plan.actions.push(Action::Acquire { job: job.id, offer: name, reason });
        }
        0
    }

    fn explain_wait(
        &mut self,
        job: &JobDemand,
        wanted: &Wanted,
        can_start: bool,
        (homes, coming, rented): (u32, u32, u32),
        sold_out: u32,
    ) {
        let on_the_way = coming + rented;
        if can_start {
            if on_the_way > 0 {
                self.plan.waiting.insert(job.id, WaitReason::Booting { coming: on_the_way });
            }
            return;
        }
        let have = wanted.has + homes;
        let reason = if have + on_the_way >= wanted.least {
            WaitReason::Gang { have, need: wanted.least, coming: on_the_way }
        } else if let Some(offer) = cheapest_fit(job, &self.snapshot.offers, true) {
            debug_assert!(sold_out > 0, "a gang that is short of nodes could not rent some");
            self.blocked_by = Some(job.id);
            WaitReason::NoCapacity { offer: offer.name.clone() }
        } else {
            WaitReason::Infeasible(infeasible(job, &self.snapshot.offers))
        };
        self.plan.waiting.insert(job.id, reason);
    }

    fn keep_or_release(&mut self, node: &NodeSupply) {
        if node.state.is_terminal() {
            return;
        }
        let now = self.snapshot.now;
        let carried = self.used.get(&node.id);
        let release = match node.state {
            NodeState::Releasing => None,
            NodeState::Unreachable if carried.is_none() => Some(ReleaseReason::Unreachable),
            _ if carried.is_some() => None,
            _ if node.notice_until.is_some() || node.state == NodeState::Draining => Some(ReleaseReason::Noticed),
            NodeState::Ready => idle_too_long(node, now, self.snapshot.idle_release),
            _ => Some(ReleaseReason::NotNeeded),
        };
        if let Some(reason) = release {
            self.plan.actions.push(Action::Release { node: node.id, reason });
            return;
        }
        let reason = match carried {
            _ if node.is_leaving() => KeepReason::Leaving,
            Some(reason) => reason.clone(),
            None if !node.answers => KeepReason::Silent,
            None => KeepReason::IdleUntil(node.idle_since.unwrap_or(now) + self.snapshot.idle_release),
        };
        self.plan.kept.insert(node.id, reason);
    }

    fn node(&self, id: NodeId) -> Option<&'a NodeSupply> {
        self.snapshot.nodes.iter().find(|node| node.id == id)
    }
}

/// How many workers a job has and wants, the one that hosts a separate parameter server among them.
struct Wanted {
    has: u32,
    least: u32,
    target: u32,
    servers_missing: u32,
}

impl Wanted {
    fn new(job: &JobDemand, healthy: impl Fn(NodeId) -> bool) -> Self {
        let healthy =
            |role| job.placed.iter().filter(|placed| placed.role == role && healthy(placed.node)).count() as u32;
        let (servers, trainers) = (healthy(PlacedRole::Server), healthy(PlacedRole::Trainer));
        let extra = u32::from(job.separate_server);
        let target = job.workers.target.saturating_sub(job.given_up).max(job.workers.min);
        Self {
            has: servers + trainers,
            least: job.workers.min + extra,
            target: target + extra,
            servers_missing: extra.saturating_sub(servers),
        }
    }

    fn missing(&self) -> u32 {
        self.target.saturating_sub(self.has)
    }
}

fn suits(job: &JobDemand, node: &NodeSupply) -> bool {
    node.market == job.market && job.max_price.is_none_or(|most| node.price <= most)
}

fn idle_too_long(node: &NodeSupply, now: Millis, idle_release: Millis) -> Option<ReleaseReason> {
    let idle = now.since(node.idle_since?);
    (idle >= idle_release && node.answers).then_some(ReleaseReason::Idle { idle })
}

fn infeasible(job: &JobDemand, offers: &[Offer]) -> String {
    let need = format!("{} cpus and {} of memory", job.need.cpus, job.need.memory);
    match offers
        .iter()
        .filter(|offer| offer.market == job.market)
        .max_by_key(|offer| (offer.size.cpus, offer.size.memory))
    {
        Some(largest) => format!(
            "no {} offer carries a worker of {need}; the largest is {} with {} cpus and {} at {}",
            job.market, largest.name, largest.size.cpus, largest.size.memory, largest.price
        ),
        None => format!("no offer on the {} market", job.market),
    }
}

fn count(nodes: &[NodeId]) -> u32 {
    u32::try_from(nodes.len()).unwrap_or(u32::MAX)
}
