//! Prices in the words of users.

use proptest::prelude::*;

use super::*;
use crate::model::{JobId, Market, MicroUsd, MicroUsdPerHour, Millis, NodeId, NodeState, Offer, WorkerId};
use crate::policy::testing::{any_state, cases, cluster, job, node, offer};
use crate::policy::{
    AcquireReason, Action, JobDemand, KeepReason, Objective, Placed, PlacedRole, RentAgain, RetireReason, WorkLeft,
    decide,
};
use crate::spec::WorkerRange;

const HOUR: Millis = Millis::from_secs(3_600);

fn elastic(objective: Objective, serial_permille: u16) -> JobDemand {
    let mut job = job(1, 1, 4);
    job.workers = WorkerRange { min: 1, target: 4, max: 8 };
    job.terms.objective = objective;
    job.terms.work = Some(WorkLeft { serial_permille: Some(serial_permille), ..WorkLeft::exactly(HOUR) });
    job
}

fn workers(job: JobDemand, boot: Millis) -> u32 {
    let mut snapshot = cluster(vec![job], vec![], 8);
    snapshot.offers[0].boot = boot;
    worthwhile_workers(&snapshot.jobs[0], 0, &snapshot)
}

#[test]
fn without_an_estimate_the_target_of_the_file_counts() {
    let mut unknown = elastic(Objective::MinCost, 0);
    unknown.terms.work = None;
    assert_eq!(workers(unknown, HOUR), 4);
}

#[test]
fn a_node_more_is_bought_only_if_the_objective_gains() {
    let boot = Millis::from_secs(60);
    assert_eq!(workers(elastic(Objective::MinCost, 0), boot), 1);
    assert_eq!(workers(elastic(Objective::MinTime, 0), boot), 8);
    // Half the work is serial: with 2 workers it costs half as much again and takes three quarters of the time.
    assert_eq!(workers(elastic(Objective::Balanced, 500), boot), 1);
    assert_eq!(workers(elastic(Objective::Balanced, 20), boot), 5);
}

#[test]
fn a_deadline_buys_as_many_nodes_as_it_needs() {
    let mut late = elastic(Objective::MinCost, 0);
    late.terms.deadline = Some(Millis::from_secs(1_300));
    assert_eq!(workers(late, Millis::ZERO), 3);
}

#[test]
fn a_node_on_its_way_is_not_bought_twice() {
    let mut coming = node(1, NodeState::Booting);
    coming.rented_for = Some(JobId::new(1));
    let plan = decide(&cluster(vec![job(1, 1, 1)], vec![coming], 8));
    assert!(plan.actions.is_empty(), "{:?}", plan.actions);
}

#[test]
fn the_reason_of_a_rented_node_has_the_dollars_in_it() {
    let mut running = elastic(Objective::MinTime, 0);
    running.started = true;
    running.placed = vec![Placed { worker: WorkerId::new(1), node: NodeId::new(1), role: PlacedRole::Trainer }];
    let plan = decide(&cluster(vec![running], vec![node(1, NodeState::Ready)], 1));
    let [Action::Acquire { reason, .. }] = &plan.actions[..] else { panic!("{:?}", plan.actions) };
    assert_eq!(reason.to_string(), "the job ends 30m00s sooner and costs $0.0120 instead of $0.0120; $0.0120/h");
}

fn market_offer(market: Market, price: u64, interruptions: u32) -> Offer {
    let mut offer = Offer { name: market.to_string(), market, price: MicroUsdPerHour::new(price), ..offer(4) };
    offer.terms.interruptions_per_1000_h = interruptions;
    offer
}

fn on_either_market() -> JobDemand {
    let mut either = job(1, 1, 1);
    either.terms.either_market = true;
    either.terms.restart = Millis::from_secs(600);
    either.terms.checkpoint_every = Some(HOUR);
    either
}

#[test]
fn the_market_is_chosen_by_the_cost_of_a_useful_hour() {
    let either = on_either_market();
    // 40 minutes are lost with each interruption: at 1 in 2 hours a third of the time.
    assert_eq!(useful_price(&either, MicroUsdPerHour::new(20_000), 500), MicroUsdPerHour::new(30_000));
    for (interruptions, market) in
        [(0, Market::Spot), (400, Market::Spot), (600, Market::OnDemand), (2_000, Market::OnDemand)]
    {
        let offers = [market_offer(Market::Spot, 20_000, interruptions), market_offer(Market::OnDemand, 30_000, 0)];
        assert_eq!(cheapest(&either, offers.iter()).unwrap().market, market, "{interruptions}");
    }
}

/// A job of 100 hours on an on-demand node, while spot costs a third.
fn on_demand_for_now() -> crate::policy::Snapshot {
    let mut running = on_either_market();
    running.started = true;
    running.terms.work = Some(WorkLeft::exactly(Millis::from_secs(360_000)));
    running.placed = vec![Placed { worker: WorkerId::new(1), node: NodeId::new(1), role: PlacedRole::Trainer }];
    let mut here = node(1, NodeState::Ready);
    (here.market, here.price) = (Market::OnDemand, MicroUsdPerHour::new(30_000));
    let mut snapshot = cluster(vec![running], vec![here], 0);
    snapshot.offers = vec![market_offer(Market::Spot, 10_000, 10), market_offer(Market::OnDemand, 30_000, 0)];
    snapshot
}

#[test]
fn a_job_goes_back_to_spot_when_that_saves_more_than_moving_costs() {
    let mut snapshot = on_demand_for_now();
    let plan = decide(&snapshot);
    assert!(
        matches!(&plan.actions[..], [Action::Acquire { offer, reason: AcquireReason::Cheaper { .. }, .. }] if offer == "spot")
    );
    snapshot = crate::policy::applied(&snapshot, &plan);
    assert!(decide(&snapshot).actions.is_empty(), "demand is counted once");
    snapshot.nodes[1].state = NodeState::Ready;
    let plan = decide(&snapshot);
    assert!(
        matches!(plan.actions[..], [Action::Retire { reason: RetireReason::Moves { .. }, .. }]),
        "{:?}",
        plan.actions
    );
    snapshot = crate::policy::applied(&snapshot, &plan);
    assert!(matches!(decide(&snapshot).actions[0], Action::Start { node, .. } if node == NodeId::new(2)));
}

#[test]
fn a_job_that_is_almost_done_stays_where_it_is() {
    let mut snapshot = on_demand_for_now();
    snapshot.jobs[0].terms.work = Some(WorkLeft::exactly(Millis::from_secs(600)));
    assert!(decide(&snapshot).actions.is_empty());
}

#[test]
fn two_half_empty_nodes_become_one_if_the_saving_exceeds_the_restart() {
    let mut snapshot =
        cluster(vec![job(1, 1, 1), job(2, 1, 1)], vec![node(1, NodeState::Ready), node(2, NodeState::Ready)], 0);
    for (at, job) in snapshot.jobs.iter_mut().enumerate() {
        let number = at as u64 + 1;
        job.started = true;
        job.terms.work = Some(WorkLeft::exactly(HOUR));
        job.terms.restart = Millis::from_secs(60);
        job.placed =
            vec![Placed { worker: WorkerId::new(number), node: NodeId::new(number), role: PlacedRole::Trainer }];
    }
    for node in &mut snapshot.nodes {
        node.size = crate::policy::testing::size(2);
        node.terms.again = Some(RentAgain { boot: HOUR, billing_min: Millis::ZERO });
    }
    let moves = |snapshot: &crate::policy::Snapshot| decide(snapshot).actions.len();
    assert_eq!(moves(&snapshot), 1);
    snapshot.jobs.iter_mut().for_each(|job| job.terms.restart = HOUR);
    assert_eq!(moves(&snapshot), 0);
}

#[test]
fn an_idle_node_is_kept_until_keeping_costs_as_much_as_renting_again() {
    let mut idle_node = node(1, NodeState::Ready);
    idle_node.idle_since = Some(Millis::from_secs(100));
    idle_node.terms.again = Some(RentAgain { boot: Millis::from_secs(40), billing_min: Millis::from_secs(60) });
    let at = |now, most| idle(&idle_node, Millis::from_secs(now), Millis::from_secs(most));
    let again = MicroUsd::new(333);
    assert_eq!(at(150, 600), Idle::Keep(KeepReason::BreakEven { until: Millis::from_secs(200), again }));
    assert!(matches!(at(200, 600), Idle::Release(_)));
    assert!(matches!(at(150, 30), Idle::Release(_)), "the cluster's limit stays one");
    assert_eq!(at(110, 30), Idle::Keep(KeepReason::IdleUntil(Millis::from_secs(130))));
}

#[test]
fn an_offer_that_fails_is_left_alone_for_a_while_and_then_tried_again() {
    let failed = Launches::default().failed(Millis::ZERO, Millis::from_secs(5));
    assert_eq!(failed.hold_until(), Some(Millis::from_secs(15)));
    assert_eq!(failed.failed(Millis::ZERO, Millis::from_secs(6)), failed, "one wave of launches is one failure");
    let again = failed.failed(Millis::from_secs(15), Millis::from_secs(20));
    assert_eq!(again.hold_until(), Some(Millis::from_secs(40)));
    assert_eq!(again.succeeded(), Launches::default());
    let mut snapshot = cluster(vec![job(1, 1, 1)], vec![], 4);
    snapshot.offers[0].terms.hold_until = Some(Millis::from_secs(15));
    assert!(decide(&snapshot).actions.is_empty());
    snapshot.now = Millis::from_secs(15);
    assert_eq!(decide(&snapshot).actions.len(), 1);
}

#[test]
fn leaving_two_workers_and_renting_one_is_not_cheaper_than_leaving_one() {
    let mut wide = elastic(Objective::Balanced, 100);
    wide.workers = WorkerRange { min: 1, target: 3, max: 3 };
    wide.terms.work = wide.terms.work.map(|work| WorkLeft { likely: Millis::from_secs(10_000), ..work });
    wide.terms.restart = Millis::from_secs(600);
    let mut snapshot = cluster(vec![wide], vec![], 8);
    snapshot.offers[0].boot = Millis::from_secs(60);
    assert_eq!(worthwhile_workers(&snapshot.jobs[0], 4, &snapshot), 3);
}

proptest! {
    #![proptest_config(cases(128))]

    /// A job that gets the workers it should have should have no other number.
    #[test]
    fn the_number_of_workers_is_a_fixed_point(seed in any::<u64>(), has in 0u32..10) {
        let snapshot = any_state(seed);
        for job in &snapshot.jobs {
            let goal = worthwhile_workers(job, has, &snapshot);
            prop_assert!((job.workers.min..=job.workers.max).contains(&goal));
            prop_assert_eq!(worthwhile_workers(job, goal, &snapshot), goal, "{} from {} workers", job.id, has);
        }
    }
}
