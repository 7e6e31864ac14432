//! What must hold for every plan of every policy, on random states.
//!
//! Many more than usual: `PROPTEST_CASES=20000 cargo test --release -p neap-scheduler --lib policy::properties`.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::testing::{any_state, cases};
use super::*;
use crate::model::{JobId, Millis, NodeId, NodeState};

/// Rounds within which a plan that is carried out at once must have settled. Nodes come, gangs start, others give way and
/// workers move one a round, so it takes a few for each of the up to 10 workers of up to 8 jobs.
const ROUNDS: usize = 200;

fn policies() -> impl Iterator<Item = Box<dyn Policy>> {
    POLICY_NAMES.into_iter().map(|name| <dyn Policy>::by_name(name).unwrap())
}

/// Everything on the way arrives, everything that is being released is gone.
fn arrive(snapshot: &mut Snapshot) {
    for node in snapshot.nodes.iter_mut().filter(|node| node.is_coming()) {
        node.state = NodeState::Ready;
        node.idle_since = Some(snapshot.now);
    }
    snapshot.nodes.retain(|node| node.state != NodeState::Releasing);
}

/// What each node would carry after the plan, against what it has.
fn check_capacity(snapshot: &Snapshot, plan: &Plan) -> Result<(), TestCaseError> {
    let mut starting: BTreeMap<NodeId, Vec<JobId>> = BTreeMap::new();
    for action in &plan.actions {
        if let Action::Start { job, node, .. } = action {
            starting.entry(*node).or_default().push(*job);
        }
    }
    for (id, jobs) in starting {
        let node = snapshot.nodes.iter().find(|node| node.id == id).unwrap();
        prop_assert!(node.takes_work());
        let on = |job: &&JobDemand| jobs.contains(&job.id) || job.placed.iter().any(|placed| placed.node == id);
        let there: Vec<_> = snapshot.jobs.iter().filter(on).collect();
        let cpus: u32 = there.iter().map(|job| job.need.cpus.0).sum();
        let memory: u64 = there.iter().map(|job| job.need.memory.0).sum();
        let gpus: u32 = there.iter().map(|job| job.terms.gpus.count.0).sum();
        prop_assert!(cpus <= node.size.cpus.0 && memory <= node.size.memory.0 && gpus <= node.terms.gpus.count.0);
        for job in there {
            prop_assert!(job.terms.gpus.accepts(node.terms.gpus.model.as_deref()));
            let twice = jobs.iter().filter(|one| **one == job.id).count();
            prop_assert!(twice + job.placed.iter().filter(|placed| placed.node == id).count() <= 1);
        }
    }
    for offer in &snapshot.offers {
        let rented =
            plan.actions.iter().filter(|a| matches!(a, Action::Acquire { offer: name, .. } if *name == offer.name));
        prop_assert!(rented.count() <= offer.available as usize);
    }
    Ok(())
}

/// A gang starts with its minimum on healthy nodes, or not at all.
fn check_gangs(snapshot: &Snapshot, plan: &Plan) -> Result<(), TestCaseError> {
    for job in snapshot.jobs.iter().filter(|job| !job.started) {
        let new = plan.actions.iter().filter(|a| matches!(a, Action::Start { job: id, .. } if *id == job.id)).count();
        let healthy = |placed: &&Placed| snapshot.nodes.iter().any(|node| node.id == placed.node && node.takes_work());
        let least = job.workers.min as usize + usize::from(job.separate_server);
        prop_assert!(new == 0 || new + job.placed.iter().filter(healthy).count() >= least);
    }
    Ok(())
}

/// Among jobs that ask for the same, the older starts first.
fn check_age(snapshot: &Snapshot, plan: &Plan) -> Result<(), TestCaseError> {
    let starts = |id| plan.actions.iter().any(|a| matches!(a, Action::Start { job, .. } if *job == id));
    for young in snapshot.jobs.iter().filter(|job| !job.started && starts(job.id)) {
        for old in snapshot.jobs.iter().filter(|job| !job.started && !job.stopping) {
            let as_young = JobDemand { id: young.id, submitted: young.submitted, ..old.clone() };
            if as_young == *young && (old.submitted, old.id) < (young.submitted, young.id) {
                prop_assert!(starts(old.id), "{} passes {}", young.id, old.id);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn a_plan_is_a_function_of_the_snapshot(seed in any::<u64>()) {
        for policy in policies() {
            let plans = [(); 2].map(|()| format!("{:?}", decide_with(&*policy, &any_state(seed))));
            prop_assert_eq!(&plans[0], &plans[1]);
        }
    }

    #[test]
    fn nothing_is_placed_twice_and_no_gang_starts_half(seed in any::<u64>()) {
        let snapshot = any_state(seed);
        for policy in policies() {
            let plan = decide_with(&*policy, &snapshot);
            check_capacity(&snapshot, &plan)?;
            check_gangs(&snapshot, &plan)?;
        }
    }

    #[test]
    fn every_node_is_released_or_has_one_reason(seed in any::<u64>()) {
        let snapshot = any_state(seed);
        for policy in policies() {
            let plan = decide_with(&*policy, &snapshot);
            for node in &snapshot.nodes {
                let released = plan.actions.iter().filter(|a| matches!(a, Action::Release { node: id, .. } if *id == node.id));
                prop_assert_eq!(released.count() + usize::from(plan.kept.contains_key(&node.id)), 1, "{:?}", node);
            }
        }
    }

    #[test]
    fn among_equals_the_older_starts_first(seed in any::<u64>(), copies in 1usize..4) {
        let mut snapshot = any_state(seed);
        for job in snapshot.jobs.clone().into_iter().filter(|job| !job.started).take(copies) {
            let id = JobId::new(100 + job.id.number());
            snapshot.jobs.push(JobDemand { id, submitted: job.submitted + Millis::new(1), ..job });
        }
        for policy in policies() {
            check_age(&snapshot, &decide_with(&*policy, &snapshot))?;
        }
    }

    /// Feeding its own answer back settles, and stays settled.
    #[test]
    fn deciding_on_what_was_decided_settles(seed in any::<u64>()) {
        for policy in policies() {
            check_settles(&*policy, any_state(seed), Capacity::Shrinks)?;
        }
    }

    /// Nothing is rented and given back in turns.
    #[test]
    fn deciding_settles_where_everything_can_be_rented_again(seed in any::<u64>()) {
        for policy in policies() {
            check_settles(&*policy, any_state(seed), Capacity::Stays)?;
        }
    }

    /// A node that no job uses is gone once the idle time has passed, or says why it is not.
    #[test]
    fn an_unused_node_is_gone_within_the_idle_time(seed in any::<u64>()) {
        for policy in policies() {
            let mut snapshot = any_state(seed);
            snapshot.jobs.clear();
            for _ in 0..3 {
                snapshot = applied(&snapshot, &decide_with(&*policy, &snapshot));
                arrive(&mut snapshot);
                snapshot.nodes.iter_mut().filter(|node| node.idle_since.is_none()).for_each(|node| node.idle_since = Some(snapshot.now));
                snapshot.now = snapshot.now + snapshot.idle_release;
            }
            let plan = decide_with(&*policy, &snapshot);
            snapshot = applied(&snapshot, &plan);
            prop_assert!(snapshot.nodes.iter().all(|node| !node.answers), "{:?}", snapshot.nodes);
        }
    }

    /// Driving a random state to its end, every job that the empty cluster could start does start.
    #[test]
    fn no_gang_waits_for_ever(seed in any::<u64>()) {
        for policy in policies() {
            check_progress(&*policy, any_state(seed))?;
        }
    }
}

/// What becomes of an offer of which a node was rented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Capacity {
    /// There is one less of it.
    Shrinks,
    /// There are as many as before.
    Stays,
}

/// Carries plans out at once until nothing is left to do.
fn check_settles(policy: &dyn Policy, mut snapshot: Snapshot, capacity: Capacity) -> Result<(), TestCaseError> {
    let offers = snapshot.offers.clone();
    for _ in 0..ROUNDS {
        let plan = decide_with(policy, &snapshot);
        check_capacity(&snapshot, &plan)?;
        if plan.actions.is_empty() {
            return Ok(());
        }
        snapshot = applied(&snapshot, &plan);
        arrive(&mut snapshot);
        if capacity == Capacity::Stays {
            snapshot.offers.clone_from(&offers);
        }
    }
    let plan = decide_with(policy, &snapshot);
    prop_assert!(false, "{} is still busy: {:?}", policy.name(), plan.actions);
    Ok(())
}

/// Runs the cluster on; one running job ends a round. Offers are always open and nothing breaks. A job that runs although
/// the empty cluster could not start it (prices rose since) may be preempted and then waits for good.
fn check_progress(policy: &dyn Policy, mut snapshot: Snapshot) -> Result<(), TestCaseError> {
    snapshot.offers.iter_mut().for_each(|offer| {
        offer.available += 6;
        offer.terms.hold_until = None;
    });
    // Spot is back: whoever waited for it goes on.
    snapshot.jobs.iter_mut().for_each(|job| {
        job.terms.market_now = job.terms.market_now.filter(|now| !matches!(now, MarketNow::Wait { .. }));
    });
    snapshot.jobs.iter_mut().for_each(|job| job.hold_until = None);
    let startable: BTreeSet<JobId> = {
        let jobs = snapshot.jobs.iter().filter(|job| starts_alone(policy, &snapshot, job));
        jobs.map(|job| job.id).collect()
    };
    snapshot.jobs.retain(|job| job.started || startable.contains(&job.id));
    let most = ROUNDS * (snapshot.jobs.len() + 1);
    for _ in 0..most {
        if snapshot.jobs.is_empty() {
            break;
        }
        // What was given back can be rented again.
        snapshot.offers.iter_mut().for_each(|offer| offer.available = offer.available.max(6));
        let plan = decide_with(policy, &snapshot);
        check_capacity(&snapshot, &plan)?;
        check_gangs(&snapshot, &plan)?;
        snapshot = applied(&snapshot, &plan);
        arrive(&mut snapshot);
        snapshot.now = snapshot.now + Millis::from_secs(60);
        if plan.actions.is_empty() {
            let Some(over) = snapshot.jobs.iter().position(|job| job.started) else { continue };
            snapshot.jobs.remove(over);
            let freed: Vec<_> = snapshot.jobs.iter().flat_map(|job| &job.placed).map(|placed| placed.node).collect();
            snapshot
                .nodes
                .iter_mut()
                .filter(|node| !freed.contains(&node.id))
                .for_each(|node| node.idle_since = Some(snapshot.now));
        }
    }
    let plan = decide_with(policy, &snapshot);
    let all_ran = snapshot.jobs.iter().all(|job| !startable.contains(&job.id));
    prop_assert!(all_ran, "{}: {:?} {:?}", policy.name(), plan.waiting, plan.actions);
    Ok(())
}

/// Whether the job would start on a cluster of its own.
fn starts_alone(policy: &dyn Policy, snapshot: &Snapshot, job: &JobDemand) -> bool {
    let job = JobDemand { started: false, stopping: false, placed: Vec::new(), ..job.clone() };
    let alone = Snapshot { jobs: vec![job], nodes: Vec::new(), ..snapshot.clone() };
    let mut alone = applied(&alone, &decide_with(policy, &alone));
    arrive(&mut alone);
    applied(&alone, &decide_with(policy, &alone)).jobs[0].started
}
