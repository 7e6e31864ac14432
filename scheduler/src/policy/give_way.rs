//! Whom to preempt for a job that cannot start. The policy prices each victim; here is only counted what it frees.
//!
//! Nothing is preempted unless the whole gang can start with it. Elastic jobs first give up the workers they can do
//! without, the newest first; only if that is not enough, whole jobs end, those that lose least first.

use std::collections::{BTreeMap, BTreeSet};

use super::decide::Round;
use super::plan::{RetireReason, WaitReason};
use super::priority::total;
use super::reservation::has_room;
use super::rule::{Preemption, Victim, Waiting};
use super::snapshot::{JobDemand, Placed, PlacedRole};
use super::wanted::could_carry;
use crate::model::{JobId, MicroUsd, Millis, NodeId, WorkerId};

/// Workers of one job that could go, and the nodes on which that makes room.
struct Offered {
    job: JobId,
    preemption: Preemption,
    workers: Vec<WorkerId>,
    frees: Vec<NodeId>,
}

impl Round<'_> {
    /// Retires workers of other jobs until `job` has the `short` nodes it lacks; nothing if that is not possible.
    pub(super) fn make_way(&mut self, job: &JobDemand, short: u32, homes: &[NodeId]) -> Option<WaitReason> {
        let gang = job.workers.min + u32::from(job.separate_server);
        let price = self.snapshot.offers.iter().filter(|offer| crate::autoscale::accepts(job, offer));
        let price = price.map(|offer| offer.price).min()?;
        let waiting = Waiting { job, rate: total((0..gang).map(|_| price)), now: self.snapshot.now };
        let mine: BTreeSet<NodeId> = job.placed.iter().map(|placed| placed.node).chain(homes.iter().copied()).collect();
        let going = self.making_room_already(job, &mine);
        let short = short.saturating_sub(u32::try_from(going.len()).unwrap_or(u32::MAX));
        if short == 0 {
            let jobs: BTreeSet<JobId> = going.into_values().collect();
            return Some(WaitReason::MakingWay { jobs: jobs.into_iter().collect(), lost: MicroUsd::ZERO });
        }
        let chosen =
            choose(self.shrinkable(&waiting, &mine), short).or_else(|| choose(self.whole(&waiting, &mine), short))?;
        let mut losses: BTreeMap<JobId, MicroUsd> = BTreeMap::new();
        for offered in chosen {
            losses.insert(offered.job, offered.preemption.lost);
            for worker in offered.workers {
                self.retire_worker(offered.job, worker, RetireReason::Preempted(offered.preemption));
            }
        }
        Some(WaitReason::MakingWay { jobs: losses.keys().copied().collect(), lost: losses.into_values().sum() })
    }

    /// Nodes with room for `job` once a worker that was told to go is gone, and whose it is.
    fn making_room_already(&self, job: &JobDemand, mine: &BTreeSet<NodeId>) -> BTreeMap<NodeId, JobId> {
        let others = self.snapshot.jobs.iter().filter(|other| other.id != job.id);
        let leaving = others.flat_map(|other| other.leaving.iter().map(|placed| (placed.node, other.id)));
        leaving.filter(|(node, other)| !mine.contains(node) && self.room_without(*node, *other, job)).collect()
    }

    /// Trainers above the minimum of their jobs, one by one.
    fn shrinkable(&self, waiting: &Waiting<'_>, mine: &BTreeSet<NodeId>) -> Vec<Offered> {
        let mut offered = Vec::new();
        for victim in self.snapshot.jobs.iter().filter(|victim| may_go(victim, waiting)) {
            let mut trainers: Vec<&Placed> =
                victim.placed.iter().filter(|placed| placed.role == PlacedRole::Trainer).collect();
            trainers.sort_by_key(|placed| placed.worker);
            for &placed in trainers.iter().skip(victim.workers.min as usize).rev() {
                offered.extend(self.offer_of(waiting, victim, &[*placed], Millis::ZERO, mine));
            }
        }
        offered.sort_by_key(|one| (self.jobs.get(&one.job).map(|job| job.terms.priority), std::cmp::Reverse(one.job)));
        offered
    }

    /// Whole jobs, those that lose least for each node first.
    fn whole(&self, waiting: &Waiting<'_>, mine: &BTreeSet<NodeId>) -> Vec<Offered> {
        let victims = self.snapshot.jobs.iter().filter(|victim| may_go(victim, waiting));
        let all = victims.filter_map(|victim| {
            let lost = victim.terms.since_checkpoint + victim.terms.restart;
            self.offer_of(waiting, victim, &victim.placed, lost, mine)
        });
        let mut offered: Vec<Offered> = all.collect();
        offered.sort_by_key(|one| (one.preemption.lost.get() / one.frees.len().max(1) as u64, one.job));
        offered
    }

    /// What it would mean if these workers of `victim` went; nothing if it frees no node or the policy refuses.
    fn offer_of(
        &self,
        waiting: &Waiting<'_>,
        victim: &JobDemand,
        workers: &[Placed],
        lost: Millis,
        mine: &BTreeSet<NodeId>,
    ) -> Option<Offered> {
        let rate = total(workers.iter().filter_map(|placed| self.nodes.get(&placed.node)).map(|node| node.price));
        let preemption = self.policy.preempts(waiting, &Victim { job: victim, rate, lost })?;
        let frees: Vec<NodeId> = workers
            .iter()
            .map(|placed| placed.node)
            .filter(|node| !mine.contains(node) && self.room_without(*node, victim.id, waiting.job))
            .collect();
        let workers = workers.iter().map(|placed| placed.worker).collect();
        (!frees.is_empty()).then_some(Offered { job: victim.id, preemption, workers, frees })
    }

    /// Whether `job` would fit on the node without `victim`.
    fn room_without(&self, node: NodeId, victim: JobId, job: &JobDemand) -> bool {
        let Some(node) = self.nodes.get(&node).filter(|node| node.takes_work() && could_carry(job, node)) else {
            return false;
        };
        let others = self.occupants.get(&node.id).into_iter().flatten().filter(|other| **other != victim);
        has_room(node, others.filter_map(|other| self.jobs.get(other)).copied(), job)
    }
}

fn may_go(victim: &JobDemand, waiting: &Waiting<'_>) -> bool {
    victim.id != waiting.job.id && victim.started && !victim.stopping && !victim.placed.is_empty()
}

/// The first of `offered` that together free `short` nodes, without those that turn out not to be needed.
fn choose(offered: Vec<Offered>, short: u32) -> Option<Vec<Offered>> {
    let mut freed = BTreeSet::new();
    let mut chosen = Vec::new();
    for one in offered {
        if freed.len() >= short as usize {
            break;
        }
        let before = freed.len();
        freed.extend(one.frees.iter().copied());
        if freed.len() > before {
            chosen.push(one);
        }
    }
    (freed.len() >= short as usize).then(|| without_needless(chosen, short as usize))
}

fn without_needless(mut chosen: Vec<Offered>, short: usize) -> Vec<Offered> {
    for index in (0..chosen.len()).rev() {
        let others = chosen.iter().enumerate().filter(|(other, _)| *other != index);
        let freed: BTreeSet<NodeId> = others.flat_map(|(_, one)| one.frees.iter().copied()).collect();
        if freed.len() >= short {
            chosen.remove(index);
        }
    }
    chosen
}
