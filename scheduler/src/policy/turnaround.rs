//! Short jobs soon, and everything done early, where estimates of the work exist.
//!
//! Two rules that are each best for one of the two, put together:
//!
//! - A job that alone takes more than half as long as all work spread evenly over the cluster is *critical*: no two of them
//!   fit one after the other before that time, so each must start now for all to end early. Critical jobs come first, the
//!   longest before the others (longest processing time first: Graham, *Bounds on multiprocessing timing anomalies*, SIAM
//!   J. Appl. Math. 17(2), 1969).
//! - All others are served by when they would end had they started at submission: the shortest first among those that came
//!   together (Smith, *Various optimizers for single-stage production*, Naval Res. Logist. Q. 3, 1956). Whatever is
//!   submitted after that moment comes behind the job.
//!
//! A job that cannot start yet lets others take what is left for up to [`PATIENCE`]; from then on only what does not delay
//! its expected start may run before it, as in [`super::backfill`]. Nothing is preempted. A job without an estimate is
//! taken to be as long as the others are on average, and lets nobody pass.

use std::cmp::Reverse;

use super::rule::{Behind, Policy, by_age};
use super::snapshot::{JobDemand, Snapshot};
use crate::model::Millis;

/// How long a job lets others pass. A night: a gang that is wider than what comes free one by one starts the next morning.
pub const PATIENCE: Millis = Millis::from_secs(8 * 3_600);

/// Jobs that decide when everything is over first, then by when they would have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Turnaround;

impl Policy for Turnaround {
    fn name(&self) -> &'static str {
        "turnaround"
    }

    fn order<'a>(&self, snapshot: &'a Snapshot) -> Vec<&'a JobDemand> {
        let critical = critical_from(snapshot);
        let usual = usual_rest(snapshot);
        let mut queue = by_age(snapshot);
        queue.sort_by_key(|job| match rest(job) {
            Some(rest) if critical.is_some_and(|from| rest > from) => (0, Reverse(rest), Millis::ZERO),
            known => (1, Reverse(Millis::ZERO), job.submitted + known.unwrap_or(usual)),
        });
        queue
    }

    fn lets_pass(&self, job: &JobDemand, now: Millis) -> bool {
        rest(job).is_some() && now < job.submitted + PATIENCE
    }

    fn behind(&self) -> Behind {
        Behind::Backfills
    }
}

/// How long the job still takes with the workers of its file, where that is known.
fn rest(job: &JobDemand) -> Option<Millis> {
    job.terms.work.map(|work| work.time_on(work.likely, job.workers.target.max(1)))
}

fn usual_rest(snapshot: &Snapshot) -> Millis {
    let known: Vec<u64> = snapshot.jobs.iter().filter_map(rest).map(Millis::get).collect();
    let sum: u128 = known.iter().copied().map(u128::from).sum();
    Millis::new(u64::try_from(sum / known.len().max(1) as u128).unwrap_or(u64::MAX))
}

/// Half the time that all known work takes if it is spread evenly over the cluster, by what is scarcest: accelerators or
/// processors. Nothing where there is no node to spread it over.
fn critical_from(snapshot: &Snapshot) -> Option<Millis> {
    let (mut gpu_time, mut cpu_time) = (0_u128, 0_u128);
    for job in &snapshot.jobs {
        let time = u128::from(rest(job).unwrap_or_default().get()) * u128::from(job.workers.target.max(1));
        gpu_time += time * u128::from(job.terms.gpus.count.0);
        cpu_time += time * u128::from(job.need.cpus.0);
    }
    let nodes = || snapshot.nodes.iter().filter(|node| node.takes_work());
    let gpus: u128 = nodes().map(|node| u128::from(node.terms.gpus.count.0)).sum();
    let cpus: u128 = nodes().map(|node| u128::from(node.size.cpus.0)).sum();
    let even = [gpu_time.checked_div(gpus), cpu_time.checked_div(cpus)].into_iter().flatten().max()?;
    Some(Millis::new(u64::try_from(even / 2).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::NodeState;
    use crate::policy::testing::{cluster, job, node};
    use crate::policy::{Action, WorkLeft, decide_with};

    fn order(works: &[Option<u64>]) -> Vec<u64> {
        let jobs = works.iter().zip(1..).map(|(work, id)| {
            let mut job = job(id, 1, 1);
            job.terms.work = work.map(|seconds| WorkLeft::exactly(Millis::from_secs(seconds)));
            job
        });
        let snapshot = cluster(jobs.collect(), vec![node(1, NodeState::Ready), node(2, NodeState::Ready)], 0);
        Turnaround.order(&snapshot).iter().map(|job| job.id.number()).collect()
    }

    #[test]
    fn what_decides_the_end_comes_first_and_then_the_shortest() {
        // 1,000 s of work on two nodes: 500 s, so a job of more than 250 s is critical.
        assert_eq!(order(&[Some(100), Some(50), Some(300), Some(350), Some(200)]), [4, 3, 2, 1, 5]);
    }

    #[test]
    fn a_job_without_an_estimate_is_as_long_as_the_others_and_no_estimates_mean_age() {
        assert_eq!(order(&[Some(100), None, Some(100), Some(80), Some(120), Some(100)]), [4, 1, 2, 3, 6, 5]);
        assert_eq!(order(&[None, None, None]), [1, 2, 3]);
    }

    #[test]
    fn a_wide_gang_lets_others_pass_for_a_night_and_no_longer() {
        let starts = |now| {
            let mut jobs = vec![job(1, 3, 3), job(2, 1, 1)];
            for (job, seconds) in jobs.iter_mut().zip([90, 20]) {
                job.terms.work = Some(WorkLeft::exactly(Millis::from_secs(seconds)));
            }
            let mut snapshot = cluster(jobs, vec![node(1, NodeState::Ready), node(2, NodeState::Ready)], 0);
            snapshot.now = now;
            let plan = decide_with(&Turnaround, &snapshot);
            plan.actions.iter().filter(|action| matches!(action, Action::Start { .. })).count()
        };
        assert_eq!([starts(PATIENCE), starts(PATIENCE + Millis::new(2))], [1, 0]);
    }

    #[test]
    fn an_old_job_is_not_passed_by_what_came_after_its_end() {
        let mut old = job(1, 1, 1);
        old.terms.work = Some(WorkLeft::exactly(Millis::from_secs(90)));
        let short = |id: u64, submitted: u64| {
            let mut short = job(id, 1, 1);
            short.submitted = Millis::from_secs(submitted);
            short.terms.work = Some(WorkLeft::exactly(Millis::from_secs(80)));
            short
        };
        let snapshot = cluster(vec![old, short(2, 0), short(3, 11)], vec![node(1, NodeState::Ready)], 0);
        let order: Vec<u64> = Turnaround.order(&snapshot).iter().map(|job| job.id.number()).collect();
        assert_eq!(order, [2, 1, 3]);
    }
}
