//! Goodput: when there are fewer nodes than elastic jobs could use, they go where they shorten the jobs most.
//!
//! Each job is fast by Amdahl's law with the serial part that was fitted while it ran ([`crate::autoscale::Pace`]); its
//! batch is fixed by its file, so its goodput (Pollux, OSDI'21) is its throughput. The next node goes to the job whose
//! remaining time it cuts by the largest part: weighing speed by one over the work left is shortest remaining time first,
//! softened by how well each job scales, as in heSRPT (Berg et al., 2020). Speed is concave in workers, so handing out
//! nodes one by one is optimal. A worker that is there already counts for more, by what letting it go would cost in
//! restarts; so nodes do not go to and fro.
//!
//! What one job wants is still for [`crate::autoscale::worthwhile_workers`] to say; this only divides what is scarce. The same
//! question for GPUs of several types, with batches that may change, is [`super::adaptive`]'s.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use super::rule::{Behind, Policy};
use super::snapshot::{JobDemand, NodeSupply, PlacedRole, Snapshot};
use super::wanted::could_carry;
use crate::autoscale;
use crate::model::{JobId, Millis, NodeId};

/// How long a size is likely to be kept, which is what a restart is weighed against: the tenure that did best for the policy
/// of several GPU types.
const TENURE: Millis = Millis::from_secs(1_000);

/// The policy; it has no settings.
#[derive(Debug, Clone, Copy, Default)]
pub struct Goodput;

impl Policy for Goodput {
    fn name(&self) -> &'static str {
        "goodput"
    }

    fn behind(&self) -> Behind {
        Behind::Backfills
    }

    fn limits(&self, snapshot: &Snapshot) -> BTreeMap<JobId, u32> {
        let jobs: Vec<Bidder<'_>> =
            snapshot.jobs.iter().filter(|job| !job.stopping).map(|job| Bidder::new(job, snapshot)).collect();
        let least: u32 = jobs.iter().map(|bidder| bidder.job.workers.min).sum();
        let mut left = workers_at_most(snapshot).saturating_sub(least);
        let mut given: Vec<u32> = jobs.iter().map(|bidder| bidder.job.workers.min).collect();
        let mut bids: BinaryHeap<Bid> = (0..jobs.len()).filter_map(|job| jobs[job].bid(job, given[job])).collect();
        while let Some(Bid { job, .. }) = bids.pop().filter(|_| left > 0) {
            given[job] += 1;
            left -= 1;
            bids.extend(jobs[job].bid(job, given[job]));
        }
        jobs.iter().zip(given).map(|(bidder, workers)| (bidder.job.id, workers)).collect()
    }
}

/// How many workers there could be: those there are, and one on each node that is empty, on its way or to be rented.
fn workers_at_most(snapshot: &Snapshot) -> u32 {
    let fits = |carries: &dyn Fn(&JobDemand) -> bool| snapshot.jobs.iter().any(carries);
    let occupied: BTreeSet<NodeId> =
        snapshot.jobs.iter().flat_map(JobDemand::all_placed).map(|placed| placed.node).collect();
    let empty = |node: &&NodeSupply| (node.takes_work() || node.is_coming()) && !occupied.contains(&node.id);
    let empty = snapshot.nodes.iter().filter(empty).filter(|node| fits(&|job| could_carry(job, node))).count();
    let there = empty + snapshot.jobs.iter().map(|job| job.placed.len()).sum::<usize>();
    let rentable = autoscale::open_offers(&snapshot.offers, snapshot.now);
    let rentable = rentable.iter().filter(|offer| fits(&|job| autoscale::accepts(job, offer)));
    rentable.fold(u32::try_from(there).unwrap_or(u32::MAX), |sum, offer| sum.saturating_add(offer.available))
}

/// A job that could use more workers.
struct Bidder<'a> {
    job: &'a JobDemand,
    has: u32,
    wants: u32,
    serial: f64,
    /// One over the work left, in hours of one worker.
    weight: f64,
}

/// What one worker more is worth to a job.
#[derive(Debug, PartialEq)]
struct Bid {
    worth: f64,
    job: usize,
}

impl Eq for Bid {}

impl Ord for Bid {
    /// The higher bid first; of equal ones that of the older job.
    fn cmp(&self, other: &Self) -> Ordering {
        self.worth.total_cmp(&other.worth).then(other.job.cmp(&self.job))
    }
}

impl PartialOrd for Bid {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<'a> Bidder<'a> {
    fn new(job: &'a JobDemand, snapshot: &Snapshot) -> Self {
        let trainers = job.placed.iter().filter(|placed| placed.role == PlacedRole::Trainer).count();
        let has = u32::try_from(trainers).unwrap_or(u32::MAX);
        let work = job.terms.work;
        let hours = work.map_or(UNKNOWN_HOURS, |work| work.likely.as_secs_f64() / 3_600.0);
        let serial = work.and_then(|work| work.serial_permille).unwrap_or(0);
        Self {
            job,
            has,
            wants: autoscale::worthwhile_workers(job, has, snapshot),
            serial: f64::from(serial) / 1_000.0,
            weight: 1.0 / hours.max(1e-6),
        }
    }

    fn speed(&self, workers: u32) -> f64 {
        let workers = f64::from(workers);
        workers / (self.serial * workers + 1.0 - self.serial)
    }

    /// What the next worker after `given` is worth; nothing if the job wants no more.
    fn bid(&self, job: usize, given: u32) -> Option<Bid> {
        let gain = self.speed(given + 1) - self.speed(given);
        let kept =
            if given < self.has { 1.0 + self.job.terms.restart.as_secs_f64() / TENURE.as_secs_f64() } else { 1.0 };
        (given < self.wants).then_some(Bid { worth: self.weight * gain * kept, job })
    }
}

/// How much work a job is taken to have before its pace was seen.
const UNKNOWN_HOURS: f64 = 1.0;

#[cfg(test)]
mod unit_tests {
    use super::super::testing::{cluster, job};
    use super::super::{Action, WorkLeft, decide_with};
    use super::*;

    fn elastic(id: u64, hours: u64, serial_permille: u16) -> JobDemand {
        let mut one = job(id, 1, 4);
        one.terms.objective = super::super::Objective::MinTime;
        one.terms.work = Some(WorkLeft {
            serial_permille: Some(serial_permille),
            ..WorkLeft::exactly(Millis::from_secs(hours * 3_600))
        });
        one
    }

    fn limits(jobs: Vec<JobDemand>, nodes: u32) -> Vec<u32> {
        Goodput.limits(&cluster(jobs, vec![], nodes)).into_values().collect()
    }

    #[test]
    fn the_short_job_gets_the_scarce_nodes() {
        assert_eq!(limits(vec![elastic(1, 10, 0), elastic(2, 1, 0)], 5), [1, 4]);
    }

    #[test]
    fn nodes_go_where_they_speed_things_up() {
        assert_eq!(limits(vec![elastic(1, 2, 900), elastic(2, 2, 0)], 5), [1, 4]);
    }

    #[test]
    fn with_enough_for_all_nobody_is_limited() {
        assert_eq!(limits(vec![elastic(1, 10, 0), elastic(2, 1, 0)], 8), [4, 4]);
    }

    #[test]
    fn everyone_keeps_its_minimum() {
        assert_eq!(limits(vec![elastic(1, 10, 0), elastic(2, 1, 0), elastic(3, 5, 0)], 2), [1, 1, 1]);
    }

    #[test]
    fn equal_jobs_share_and_the_older_gets_the_odd_one() {
        assert_eq!(limits(vec![elastic(1, 2, 100), elastic(2, 2, 100)], 5), [3, 2]);
    }

    #[test]
    fn a_plan_follows_the_division() {
        let snapshot = cluster(vec![elastic(1, 10, 0), elastic(2, 1, 0)], vec![], 5);
        let plan = decide_with(&Goodput, &snapshot);
        let rented = |id: u64| {
            let for_it = |action: &&Action| matches!(action, Action::Acquire { job, .. } if job.number() == id);
            plan.actions.iter().filter(for_it).count()
        };
        assert_eq!((rented(1), rented(2)), (1, 4));
    }
}
