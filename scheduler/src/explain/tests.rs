//! What an explanation says is tried out: the named change is applied and must start the job.

use proptest::prelude::*;

use super::search::all_candidates;
use super::*;
use crate::model::{Market, MicroUsdPerHour, Millis, NodeId, NodeState, WorkerId};
use crate::policy::testing::{any_state, cases, cluster, job, node, size, waiting_jobs};
use crate::policy::{
    Backfill, Fifo, KeepReason, NodeSupply, POLICY_NAMES, Placed, PlacedRole, Priority, WorkLeft, applied,
};
use crate::spec::WorkerRange;

fn answer(policy: &dyn Policy, snapshot: &Snapshot, id: u64) -> String {
    match explain_job(policy, snapshot, JobId::new(id)) {
        Some(JobExplanation::Waits(waits)) => waits.answer.to_string(),
        other => panic!("{other:?}"),
    }
}

fn ready(count: u64) -> Vec<crate::policy::NodeSupply> {
    (1..=count).map(|id| node(id, NodeState::Ready)).collect()
}

#[test]
fn a_smaller_gang_starts_where_some_nodes_are_free() {
    assert_eq!(answer(&Fifo, &cluster(vec![job(1, 4, 4)], ready(3), 1), 1), "workers.min: 3 would start it now");
}

#[test]
fn the_smallest_change_of_a_size_is_what_is_left() {
    let mut large = job(1, 1, 1);
    large.need = size(3);
    large.need.memory = size(1).memory;
    let mut nodes = ready(2);
    nodes[1].size = size(2);
    assert_eq!(answer(&Fifo, &cluster(vec![large], nodes, 1), 1), "resources.cpus: 2 would start it now");
}

#[test]
fn market_price_and_rate_are_named() {
    let nodes = |market, price| {
        let mut nodes = ready(1);
        (nodes[0].market, nodes[0].price) = (market, MicroUsdPerHour::new(price));
        nodes
    };
    let snapshot = cluster(vec![job(1, 1, 1)], nodes(Market::OnDemand, 12_000), 0);
    assert_eq!(answer(&Fifo, &snapshot, 1), "market: auto would start it now");
    let mut thrifty = job(1, 1, 1);
    thrifty.max_price = Some(MicroUsdPerHour::new(10_000));
    let snapshot = cluster(vec![thrifty], nodes(Market::Spot, 40_000), 0);
    assert_eq!(answer(&Fifo, &snapshot, 1), "max_price of $0.0400/h would start it now");
    let mut poor = job(1, 2, 2);
    poor.terms.rate_max = Some(MicroUsdPerHour::new(20_000));
    let text = answer(&Fifo, &cluster(vec![poor], ready(2), 0), 1);
    assert_eq!(text, "workers.min: 1 would start it now");
}

#[test]
fn a_job_behind_another_names_it_or_its_priority() {
    let snapshot = cluster(vec![job(1, 4, 4), job(2, 1, 1)], ready(1), 1);
    assert_eq!(answer(&Fifo, &snapshot, 2), "j1 ended or paused would start it now");
    assert_eq!(answer(&Priority, &snapshot, 2), "priority: 501 would start it now");
}

#[test]
fn several_causes_are_named_together() {
    let mut picky = job(1, 3, 3);
    picky.market = Market::OnDemand;
    let text = answer(&Fifo, &cluster(vec![picky], ready(2), 0), 1);
    assert_eq!(text, "no single change would start it now; together these would: workers.min: 1, market: auto");
    let text = answer(&Fifo, &cluster(vec![job(1, 1, 1)], vec![], 0), 1);
    assert!(text.starts_with("no change would start it now"), "{text}");
}

#[test]
fn an_expected_start_comes_from_estimates_or_is_unknown() {
    let mut running = job(1, 1, 1);
    running.started = true;
    running.placed =
        vec![Placed { worker: WorkerId::new(1), node: crate::model::NodeId::new(1), role: PlacedRole::Trainer }];
    let mut snapshot = cluster(vec![running, job(2, 1, 1)], ready(1), 0);
    let expected = |snapshot: &Snapshot| match explain_job(&Fifo, snapshot, JobId::new(2)) {
        Some(JobExplanation::Waits(waits)) => waits.expected,
        other => panic!("{other:?}"),
    };
    assert_eq!(expected(&snapshot), ExpectedStart::default());
    let seconds = Millis::from_secs;
    snapshot.jobs[0].terms.work =
        Some(WorkLeft { low: seconds(10), high: seconds(60), ..WorkLeft::exactly(seconds(20)) });
    let [low, likely, high] = [12, 22, 62].map(|at| Some(seconds(at)));
    assert_eq!(expected(&snapshot), ExpectedStart { low, likely, high });
}

#[test]
fn a_node_says_what_would_release_it() {
    let mut running = job(1, 1, 1);
    running.started = true;
    let here = crate::model::NodeId::new(1);
    running.placed = vec![Placed { worker: WorkerId::new(1), node: here, role: PlacedRole::Trainer }];
    let snapshot = cluster(vec![running], ready(1), 0);
    let price = MicroUsdPerHour::new(3_600_000);
    let outlook = |snapshot: &Snapshot| explain_node(&Fifo, snapshot, here).unwrap().outlook(snapshot.now, price);
    let Some(NodeExplanation::Kept { released_by, .. }) = explain_node(&Fifo, &snapshot, here) else { panic!() };
    assert_eq!(released_by, ReleasedBy::EndOf { jobs: vec![JobId::new(1)], idle: snapshot.idle_release });
    let expected = ["serves j1", "would go back 15.0s after the end of j1, which costs $0.0150 more"];
    assert_eq!(outlook(&snapshot), expected);
    let idle = cluster(vec![], ready(1), 0);
    let Some(NodeExplanation::Kept { released_by, .. }) = explain_node(&Fifo, &idle, here) else { panic!() };
    assert_eq!(released_by, ReleasedBy::Time(Millis::from_secs(16)));
    assert_eq!(outlook(&idle), ["goes back in 14.0s unless work comes, which costs $0.0140 until then"]);
    let mut late = idle;
    late.now = Millis::from_secs(20);
    assert!(outlook(&late)[0].starts_with("goes back with the next plan: idle for "), "{:?}", outlook(&late));
}

/// For each waiting job of a state under one of the policies: the named change starts it, or no change that is tried does.
fn check(seed: u64) {
    let snapshot = any_state(seed);
    let policy = <dyn Policy>::by_name(POLICY_NAMES[seed as usize % POLICY_NAMES.len()]).unwrap();
    let plan = decide_with(&*policy, &snapshot);
    for id in waiting_jobs(&snapshot, &plan) {
        let job = snapshot.jobs.iter().find(|job| job.id == id).unwrap();
        let starts_with = |changes: &[Change]| {
            let changed = changes.iter().fold(snapshot.clone(), |state, change| change.applied(&state, id));
            starts(&decide_with(&*policy, &changed), id)
        };
        let answer = search::smallest_change(&*policy, &snapshot, &plan, job);
        let context = format!("seed {seed}, {}, {id}: {answer}", policy.name());
        match &answer {
            Answer::One(change) => assert!(starts_with(std::slice::from_ref(change)), "{context}"),
            Answer::Together(changes) => assert!(starts_with(changes), "{context}"),
            Answer::Nothing => {}
        }
        if !matches!(answer, Answer::One(_)) {
            for change in all_candidates(&*policy, &snapshot, &plan, job).into_iter().flatten() {
                assert!(!starts_with(std::slice::from_ref(&change)), "{context}; but {change} would");
            }
        }
    }
}

#[test]
fn random_states_have_jobs_that_wait() {
    let waiting = |seed| {
        let snapshot = any_state(seed);
        waiting_jobs(&snapshot, &decide_with(&Fifo, &snapshot)).len()
    };
    let waiting: usize = (0..200).map(waiting).sum();
    assert!(waiting > 100, "only {waiting} in 200 states");
}

proptest! {
    #![proptest_config(cases(1_000))]

    /// `PROPTEST_CASES=10000 cargo test --release -p neap-scheduler --lib explain` tries many more.
    #[test]
    fn the_named_change_does_start_the_job(seed in any::<u64>()) {
        check(seed);
    }

    /// What a node is said to be released by does release it.
    #[test]
    fn what_would_release_a_node_does(seed in any::<u64>()) {
        let snapshot = any_state(seed);
        for node in &snapshot.nodes {
            let Some(NodeExplanation::Kept { released_by: ReleasedBy::EndOf { jobs, idle }, .. }) = explain_node(&Fifo, &snapshot, node.id) else { continue };
            let mut after = snapshot.clone();
            after.jobs.retain(|job| !jobs.contains(&job.id));
            after.nodes.iter_mut().filter(|one| one.id == node.id).for_each(|one| one.idle_since = Some(snapshot.now));
            after.now = snapshot.now + idle;
            // Others may want it by then; it must not be kept for nothing.
            let plan = decide_with(&Fifo, &after);
            let gone = !applied(&after, &plan).nodes.iter().any(|one| one.id == node.id);
            let for_nothing =
                matches!(plan.kept.get(&node.id), Some(KeepReason::IdleUntil(_) | KeepReason::BreakEven { .. }));
            prop_assert!(gone || !for_nothing);
        }
    }

    /// On nodes that stay, where jobs keep their number of workers and every estimate is true, jobs that pass the first
    /// waiting one do not make it start later. (What is rented for a later job may carry an earlier one, which then leaves
    /// other nodes free than it would have.)
    #[test]
    fn backfill_does_not_delay_the_first_waiting_job(seed in any::<u64>()) {
        let snapshot = on_nodes_that_stay(any_state(seed));
        let plan = decide_with(&Backfill, &snapshot);
        let order: Vec<JobId> = Backfill.order(&snapshot).iter().map(|job| job.id).collect();
        let blocked = |id: &&JobId| matches!(plan.waiting.get(id), Some(WaitReason::NoCapacity { .. }));
        let Some(first) = order.iter().find(blocked) else { return Ok(()) };
        let later = |id: &JobId| order.iter().skip_while(|one| *one != first).skip(1).any(|one| one == id);
        let mut alone = snapshot.clone();
        alone.jobs.retain(|job| job.started || !later(&job.id));
        let start = |snapshot: &Snapshot| forecast::expected_start(&Backfill, snapshot, *first).likely;
        if let Some(by_itself) = start(&alone) {
            // Each event looked ahead rounds by up to a millisecond.
            let latest = by_itself + Millis::new(200);
            prop_assert!(start(&snapshot).is_some_and(|start| start <= latest), "{first}");
        }
    }
}

fn on_nodes_that_stay(mut snapshot: Snapshot) -> Snapshot {
    snapshot.nodes.retain(NodeSupply::takes_work);
    let stays = |node: NodeId| snapshot.nodes.iter().any(|one| one.id == node);
    snapshot.jobs.retain(|job| job.placed.iter().all(|placed| stays(placed.node)));
    snapshot.offers.iter_mut().for_each(|offer| offer.available = 0);
    snapshot.idle_release = Millis::new(u64::MAX / 2);
    snapshot.nodes.iter_mut().for_each(|node| node.terms.again = None);
    for job in &mut snapshot.jobs {
        let trainers = job.placed.iter().filter(|placed| placed.role == PlacedRole::Trainer).count();
        let workers = if job.started { trainers as u32 } else { job.workers.min };
        job.workers = WorkerRange { min: workers, target: workers, max: workers };
        job.hold_until = None;
        // A reservation does not look at what the job may spend in an hour.
        job.terms.rate_max = None;
    }
    snapshot
}
