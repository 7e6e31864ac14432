//! The mechanism under every policy: gangs start whole, running jobs grow to their target, idle nodes go back.
//!
//! A round serves the jobs in the policy's order, each from what the earlier ones left. The first job that cannot start
//! yet holds what it found; what may happen behind it is for the policy to say. Nothing is remembered between rounds:
//! whatever a job holds while it waits, it finds again by its place in the order, so a gang can neither start half nor
//! block another for ever. Deciding twice on an unchanged cluster gives the same plan, and a plan that was carried out
//! gives an empty one. The flow starts at [`decide_with`]; the parts of a round are in [`super::serve`] (one job),
//! [`super::give_way`] (preemption) and [`super::keep`] (nodes).

use std::collections::{BTreeMap, BTreeSet};

use super::fifo::Fifo;
use super::free::FreeNodes;
use super::plan::{Action, KeepReason, Plan, RetireReason};
use super::reservation::{Occupants, Reservation};
use super::rule::Policy;
use super::snapshot::{JobDemand, NodeSupply, Placed, PlacedRole, Snapshot};
use super::terms::MarketNow;
use crate::autoscale;
use crate::model::{JobId, NodeId, NodeState, Offer, WorkerId};

/// Decides what to do next about everything in the snapshot, first come, first served.
pub fn decide(snapshot: &Snapshot) -> Plan {
    decide_with(&Fifo, snapshot)
}

/// Decides what to do next about everything in the snapshot, under a policy.
pub fn decide_with(policy: &dyn Policy, snapshot: &Snapshot) -> Plan {
    let mut round = Round::new(policy, snapshot);
    let limits = policy.limits(snapshot);
    for job in policy.order(snapshot) {
        let limit = limits.get(&job.id).copied().unwrap_or(u32::MAX).max(job.workers.min);
        let goal = policy.target(job, round.trainers(job), snapshot).min(limit);
        round.retire(job, goal);
        if !job.stopping {
            round.serve(job, goal);
        }
    }
    round.move_to_cheaper();
    for node in &snapshot.nodes {
        round.keep_or_release(node);
    }
    round.plan
}

/// The cheapest offer that can carry one worker of the job, by its price for an hour of useful work; `sold_out_too` also
/// looks at offers that are not available now, to tell "not now" from "never".
pub fn cheapest_fit<'a>(job: &JobDemand, offers: &'a [Offer], sold_out_too: bool) -> Option<&'a Offer> {
    autoscale::cheapest(job, offers.iter().filter(|offer| sold_out_too || offer.available > 0))
}

/// What is left while the jobs are served one after the other.
pub(super) struct Round<'a> {
    pub(super) policy: &'a dyn Policy,
    pub(super) snapshot: &'a Snapshot,
    pub(super) plan: Plan,
    pub(super) jobs: BTreeMap<JobId, &'a JobDemand>,
    pub(super) nodes: BTreeMap<NodeId, &'a NodeSupply>,
    /// What is left on nodes that take work.
    pub(super) free: FreeNodes,
    /// What is kept for the first job that could not start.
    pub(super) held: FreeNodes,
    /// Nodes on their way, by the job they were rented for.
    pub(super) coming: BTreeMap<Option<JobId>, BTreeSet<NodeId>>,
    /// What can still be rented.
    pub(super) offers: Vec<Offer>,
    pub(super) occupants: Occupants,
    /// Nodes that some job uses or will use.
    pub(super) used: BTreeMap<NodeId, KeepReason>,
    /// Workers that leave in this round.
    pub(super) retired: BTreeSet<WorkerId>,
    /// The first job that could not start.
    pub(super) blocked: Option<Reservation<'a>>,
    /// Jobs that have all workers they should have, before the first one that could not start.
    pub(super) complete: Vec<&'a JobDemand>,
}

impl<'a> Round<'a> {
    fn new(policy: &'a dyn Policy, snapshot: &'a Snapshot) -> Self {
        let mut free = FreeNodes::default();
        let mut coming: BTreeMap<Option<JobId>, BTreeSet<NodeId>> = BTreeMap::new();
        for node in &snapshot.nodes {
            if node.takes_work() {
                free.insert(node);
            } else if node.is_coming() {
                coming.entry(node.rented_for).or_default().insert(node.id);
            }
        }
        let mut occupants = Occupants::new();
        for job in &snapshot.jobs {
            for placed in job.all_placed() {
                free.take(placed.node, job);
                occupants.entry(placed.node).or_default().insert(job.id);
            }
        }
        let carries = |jobs: &BTreeSet<JobId>| KeepReason::Carries(jobs.iter().copied().collect());
        Self {
            policy,
            snapshot,
            plan: Plan { generation: snapshot.generation, ..Plan::default() },
            jobs: snapshot.jobs.iter().map(|job| (job.id, job)).collect(),
            nodes: snapshot.nodes.iter().map(|node| (node.id, node)).collect(),
            free,
            held: FreeNodes::default(),
            coming,
            offers: autoscale::open_offers(&snapshot.offers, snapshot.now),
            used: occupants.iter().map(|(node, jobs)| (*node, carries(jobs))).collect(),
            occupants,
            retired: BTreeSet::new(),
            blocked: None,
            complete: Vec::new(),
        }
    }

    /// Moves workers away from nodes that are leaving, and ends those of a job that is ending or has too many: after a
    /// silent node has come back, its replacement is there too.
    fn retire(&mut self, job: &JobDemand, goal: u32) {
        let surplus = self.surplus(job, goal);
        let waits = matches!(job.terms.market_now, Some(MarketNow::Wait { .. }));
        for placed in &job.placed {
            let node = self.nodes.get(&placed.node);
            let reason = match node {
                _ if job.stopping => RetireReason::JobEnding,
                _ if waits => RetireReason::AwaitsSpot,
                Some(NodeSupply { notice_until: Some(until), .. }) => RetireReason::Notice { until: *until },
                Some(NodeSupply { state: NodeState::Draining, .. }) => RetireReason::Drain,
                _ if surplus.contains(&placed.worker) => RetireReason::Surplus,
                _ => continue,
            };
            self.retire_worker(job.id, placed.worker, reason);
        }
    }

    pub(super) fn retire_worker(&mut self, job: JobId, worker: WorkerId, reason: RetireReason) {
        if self.retired.insert(worker) {
            self.plan.actions.push(Action::Retire { job, worker, reason });
        }
    }

    /// The newest trainers beyond the goal.
    fn surplus(&self, job: &JobDemand, goal: u32) -> Vec<WorkerId> {
        let healthy = |placed: &&Placed| self.takes_work(placed.node);
        let trainers = job.placed.iter().filter(|placed| placed.role == PlacedRole::Trainer);
        let mut trainers: Vec<_> = trainers.filter(healthy).map(|placed| placed.worker).collect();
        trainers.sort_unstable();
        trainers.split_off(trainers.len().min(goal as usize))
    }

    /// How many trainers the job has on nodes that take work.
    fn trainers(&self, job: &JobDemand) -> u32 {
        let trainers = job.placed.iter().filter(|placed| placed.role == PlacedRole::Trainer);
        u32::try_from(trainers.filter(|placed| self.takes_work(placed.node)).count()).unwrap_or(u32::MAX)
    }

    pub(super) fn takes_work(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|node| node.takes_work())
    }
}
