//! What must hold for every plan, and cases in the words of users.

use proptest::prelude::*;

use super::testing::{cases, cluster, job, node, size};
use super::*;
use crate::model::{JobId, Millis, NodeId, NodeState, WorkerId};

fn starts(plan: &Plan) -> usize {
    plan.actions.iter().filter(|action| matches!(action, Action::Start { .. })).count()
}

fn acquires(plan: &Plan) -> usize {
    plan.actions.iter().filter(|action| matches!(action, Action::Acquire { .. })).count()
}

#[test]
fn a_new_job_rents_its_target_and_waits_for_its_gang() {
    let plan = decide(&cluster(vec![job(1, 2, 3)], vec![], 8));
    assert_eq!((acquires(&plan), starts(&plan)), (3, 0));
    assert_eq!(plan.waiting[&JobId::new(1)], WaitReason::Gang { have: 0, need: 2, coming: 3 });
}

#[test]
fn a_gang_starts_whole_or_not_at_all() {
    let ready = |count: u64| (1..=count).map(|id| node(id, NodeState::Ready)).collect::<Vec<_>>();
    assert_eq!(starts(&decide(&cluster(vec![job(1, 2, 3)], ready(1), 8))), 0);
    assert_eq!(starts(&decide(&cluster(vec![job(1, 2, 3)], ready(2), 8))), 2);
}

#[test]
fn a_lost_worker_is_replaced_and_a_given_up_one_is_not() {
    let mut running = job(1, 1, 2);
    running.started = true;
    running.placed = vec![Placed { worker: WorkerId::new(1), node: NodeId::new(1), role: PlacedRole::Trainer }];
    let snapshot = cluster(vec![running.clone()], vec![node(1, NodeState::Ready)], 8);
    assert_eq!(acquires(&decide(&snapshot)), 1);
    running.given_up = 1;
    let snapshot = cluster(vec![running], vec![node(1, NodeState::Ready)], 8);
    assert!(decide(&snapshot).actions.is_empty());
}

#[test]
fn a_node_with_a_notice_gives_up_its_work_and_then_itself() {
    let mut running = job(1, 1, 1);
    running.started = true;
    running.placed = vec![Placed { worker: WorkerId::new(1), node: NodeId::new(1), role: PlacedRole::Trainer }];
    let leaving = NodeSupply { notice_until: Some(Millis::new(5_000)), ..node(1, NodeState::Ready) };
    let plan = decide(&cluster(vec![running], vec![leaving.clone()], 8));
    assert!(plan.actions.iter().any(|action| matches!(action, Action::Retire { .. })));
    assert_eq!(acquires(&plan), 1);
    assert_eq!(plan.kept[&NodeId::new(1)], KeepReason::Leaving);
    let plan = decide(&cluster(vec![], vec![leaving], 8));
    assert_eq!(plan.actions, [Action::Release { node: NodeId::new(1), reason: ReleaseReason::Noticed }]);
}

#[test]
fn an_idle_node_goes_back_after_its_time_and_not_before() {
    let mut snapshot = cluster(vec![], vec![node(1, NodeState::Ready)], 8);
    assert_eq!(decide(&snapshot).kept[&NodeId::new(1)], KeepReason::IdleUntil(Millis::from_secs(16)));
    snapshot.now = Millis::from_secs(16);
    assert!(matches!(decide(&snapshot).actions[..], [Action::Release { reason: ReleaseReason::Idle { .. }, .. }]));
}

#[test]
fn a_large_job_is_not_starved_by_small_ones() {
    let plan = decide(&cluster(vec![job(1, 4, 4), job(2, 1, 1)], vec![node(1, NodeState::Ready)], 2));
    assert_eq!(starts(&plan), 0);
    assert_eq!(plan.waiting[&JobId::new(1)], WaitReason::NoCapacity { offer: "local/small/spot".to_owned() });
    assert_eq!(plan.waiting[&JobId::new(2)], WaitReason::Behind(JobId::new(1)));
}

#[test]
fn a_job_that_nothing_can_carry_says_so_and_holds_nobody_back() {
    let mut huge = job(1, 1, 1);
    huge.need = size(64);
    let plan = decide(&cluster(vec![huge, job(2, 1, 1)], vec![], 8));
    assert!(matches!(&plan.waiting[&JobId::new(1)], WaitReason::Infeasible(why) if why.contains("local/small/spot")));
    assert_eq!(acquires(&plan), 1);
}

#[test]
fn a_separate_server_has_a_node_of_its_own() {
    let mut separate = job(1, 2, 2);
    separate.separate_server = true;
    let nodes = (1..=3).map(|id| node(id, NodeState::Ready)).collect();
    let plan = decide(&cluster(vec![separate], nodes, 8));
    let roles: Vec<_> = plan
        .actions
        .iter()
        .filter_map(|action| if let Action::Start { role, .. } = action { Some(*role) } else { None })
        .collect();
    assert_eq!(roles, [PlacedRole::Server, PlacedRole::Trainer, PlacedRole::Trainer]);
}

/// Two jobs chased each other round after round: the earlier one moved to the node that the later one had just left its own
/// for, and the later one was put where the earlier one had been.
#[test]
fn a_worker_that_left_its_place_is_placed_before_another_job_moves() {
    let on = |id: u64, cpus: u32, at: Option<u64>| {
        let mut running = job(id, 1, 1);
        (running.started, running.need) = (true, size(cpus));
        running.terms.work = Some(WorkLeft::exactly(Millis::from_secs(36_000)));
        let place = |node| Placed { worker: WorkerId::new(id), node: NodeId::new(node), role: PlacedRole::Trainer };
        running.placed = at.map(place).into_iter().collect();
        running
    };
    let rented = |id: u64, cpus: u32| {
        let again = RentAgain { boot: Millis::from_secs(60), billing_min: Millis::ZERO };
        let terms = NodeTerms { again: Some(again), ..NodeTerms::default() };
        NodeSupply { size: size(cpus), terms, ..node(id, NodeState::Ready) }
    };
    let jobs = vec![on(1, 1, Some(1)), on(2, 2, Some(2)), on(3, 2, None)];
    let plan = decide(&cluster(jobs, vec![rented(1, 4), rented(2, 5)], 0));
    assert!(matches!(plan.actions[..], [Action::Start { job, .. }] if job == JobId::new(3)), "{:?}", plan.actions);
}

fn any_node() -> impl Strategy<Value = NodeSupply> {
    let state = prop::sample::select(vec![
        NodeState::Requested,
        NodeState::Booting,
        NodeState::Joining,
        NodeState::Ready,
        NodeState::Ready,
        NodeState::Draining,
        NodeState::Unreachable,
        NodeState::Releasing,
    ]);
    (state, prop::option::of(1u64..4), prop::option::weighted(0.2, 0u64..9_000), prop::bool::weighted(0.8), 1u32..4)
        .prop_map(|(state, rented_for, notice, answers, cpus)| NodeSupply {
            size: size(cpus),
            rented_for: rented_for.map(JobId::new),
            notice_until: notice.map(Millis::new),
            answers,
            ..node(0, state)
        })
}

fn any_cluster() -> impl Strategy<Value = Snapshot> {
    let jobs = prop::collection::vec((1u32..4, 0u32..3, 1u32..3, any::<bool>(), any::<bool>()), 0..4);
    let placed = prop::collection::vec((0usize..4, 0usize..8), 0..6);
    (jobs, prop::collection::vec(any_node(), 0..8), placed, 0u32..6).prop_map(|(jobs, mut nodes, placed, available)| {
        nodes.iter_mut().zip(1..).for_each(|(node, id)| node.id = NodeId::new(id));
        let mut jobs: Vec<JobDemand> = jobs
            .into_iter()
            .zip(1..)
            .map(|((min, more, cpus, started, separate_server), id)| JobDemand {
                need: size(cpus),
                started,
                separate_server,
                ..job(id, min, min + more)
            })
            .collect();
        for ((job, node), worker) in placed.into_iter().zip(1..) {
            let (jobs_len, nodes_len) = (jobs.len(), nodes.len());
            if jobs_len == 0 || nodes_len == 0 {
                continue;
            }
            let node = &nodes[node % nodes_len];
            let job = &mut jobs[job % jobs_len];
            let joined = matches!(node.state, NodeState::Ready | NodeState::Draining);
            if joined && node.size.fits(job.need) && job.placed.iter().all(|placed| placed.node != node.id) {
                job.placed.push(Placed { worker: WorkerId::new(worker), node: node.id, role: PlacedRole::Trainer });
            }
        }
        cluster(jobs, nodes, available)
    })
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn a_plan_is_a_function_of_the_snapshot(snapshot in any_cluster()) {
        prop_assert_eq!(decide(&snapshot), decide(&snapshot));
    }

    #[test]
    fn every_node_is_released_or_has_one_reason(snapshot in any_cluster()) {
        let plan = decide(&snapshot);
        for node in &snapshot.nodes {
            let released = plan.actions.iter().filter(|action| matches!(action, Action::Release { node: id, .. } if *id == node.id)).count();
            let kept = usize::from(plan.kept.contains_key(&node.id));
            prop_assert_eq!(released + kept, 1, "{:?}", node);
        }
    }

    #[test]
    fn no_more_is_started_than_fits_and_no_more_rented_than_offered(snapshot in any_cluster()) {
        let plan = decide(&snapshot);
        let mut started: std::collections::BTreeMap<NodeId, Vec<JobId>> = Default::default();
        for action in &plan.actions {
            if let Action::Start { job, node, .. } = action {
                started.entry(*node).or_default().push(*job);
            }
        }
        for (id, jobs) in started {
            let node = snapshot.nodes.iter().find(|node| node.id == id).unwrap();
            prop_assert!(node.takes_work());
            let here = |job: &&JobDemand| jobs.contains(&job.id) || job.placed.iter().any(|placed| placed.node == id);
            let new: u32 = snapshot.jobs.iter().filter(|job| jobs.contains(&job.id)).map(|job| job.need.cpus.0).sum();
            let old: u32 = snapshot.jobs.iter().filter(|job| job.placed.iter().any(|placed| placed.node == id)).map(|job| job.need.cpus.0).sum();
            prop_assert!(new <= node.size.cpus.0.saturating_sub(old));
            prop_assert!(snapshot.jobs.iter().filter(here).count() >= 1);
        }
        prop_assert!(acquires(&plan) as u32 <= snapshot.offers[0].available);
    }

    #[test]
    fn a_gang_that_has_not_started_starts_with_its_minimum_or_not_at_all(snapshot in any_cluster()) {
        let plan = decide(&snapshot);
        for job in snapshot.jobs.iter().filter(|job| !job.started) {
            let new = plan.actions.iter().filter(|action| matches!(action, Action::Start { job: id, .. } if *id == job.id)).count() as u32;
            let healthy = job.placed.iter().filter(|placed| snapshot.nodes.iter().any(|node| node.id == placed.node && node.takes_work())).count() as u32;
            prop_assert!(new == 0 || new + healthy >= job.workers.min);
        }
    }

    /// Feeding its own answer back settles: after a few rounds nothing is left to do.
    #[test]
    fn deciding_on_what_was_decided_settles(snapshot in any_cluster()) {
        let mut snapshot = snapshot;
        for _ in 0..12 {
            let plan = decide(&snapshot);
            if plan.actions.is_empty() {
                return Ok(());
            }
            snapshot = applied(&snapshot, &plan);
            for node in &mut snapshot.nodes {
                if node.is_coming() {
                    node.state = NodeState::Ready;
                }
            }
            snapshot.nodes.retain(|node| node.state != NodeState::Releasing);
        }
        prop_assert!(false, "still busy: {:?}", decide(&snapshot).actions);
    }
}
