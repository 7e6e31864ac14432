use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::plan::UnsafeSpot;
use super::*;
use crate::model::{MarketChoice, MicroUsd, MicroUsdPerHour, Millis};
use crate::policy::deadline::{DeadlinePolicy, Greedy, OnDemandOnly, UniformProgress};
use crate::sim::spot::{JobTerms, Window, ZoneTrace, simulate};

const TICK: Millis = Millis::from_secs(600);
const HOUR: u64 = 3_600;

/// A zone with spot at $1 and on-demand at $3 an hour.
fn zone(counts: Vec<u32>) -> ZoneTrace {
    ZoneTrace {
        zone: "a".to_owned(),
        instance: "v".to_owned(),
        tick: TICK,
        spot: vec![MicroUsdPerHour::new(1_000_000); counts.len()],
        counts,
        on_demand: Some(MicroUsdPerHour::new(3_000_000)),
    }
}

/// Spot for `up` ticks, none for `down`, over and over.
fn choppy(up: usize, down: usize) -> ZoneTrace {
    zone((0..2_000).map(|tick| u32::from(tick % (up + down) < up)).collect())
}

fn job(market: MarketChoice) -> PlanJob {
    PlanJob {
        work: Millis::from_secs(6 * HOUR),
        workers: 1,
        workers_min: 1,
        workers_max: 1,
        speedup: Speedup(vec![(1, 1.0), (2, 1.8), (4, 3.0)]),
        restart: Millis::from_secs(300),
        checkpoint: Some(Millis::from_secs(600)),
        market,
        deadline: Some(Millis::from_secs(12 * HOUR)),
        budget: None,
        max_price: None,
    }
}

fn planned(job: &PlanJob, zone: &ZoneTrace) -> Result<Plan, PlanRefusal> {
    planned_with(job, zone, UnsafeSpot::Refuse)
}

fn planned_with(job: &PlanJob, zone: &ZoneTrace, unsafe_spot: UnsafeSpot) -> Result<Plan, PlanRefusal> {
    let history = MarketHistory::new(vec![zone], zone.ticks(), job.workers);
    let input = PlanInput {
        job,
        history: &history,
        boot: Millis::from_secs(120),
        policy: &Greedy,
        likeness: Likeness(0.1),
        calibration: Calibration::default(),
        seed: 7,
    };
    plan(&input, unsafe_spot)
}

fn dollars(amount: MicroUsd) -> f64 {
    amount.as_dollars()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// A job that saves its work at once costs what the simulator of spot markets says, tick for tick.
    #[test]
    fn a_run_costs_what_the_simulator_says(
        counts in prop::collection::vec(0u32..2, 200),
        work_minutes in 10u64..900,
        slack_minutes in 30u64..900,
        restart in 0u64..2_000,
    ) {
        let zone = zone(counts);
        let (work, restart) = (Millis::from_secs(60 * work_minutes), Millis::from_secs(restart));
        let deadline = work + restart + Millis::from_secs(60 * slack_minutes);
        let terms = JobTerms { work, deadline, restart };
        let saves_at_once = Some(Millis::ZERO);
        let mut job = job(MarketChoice::Auto);
        (job.work, job.restart, job.deadline, job.checkpoint) = (work, restart, Some(deadline), saves_at_once);
        let history = MarketHistory::new(vec![&zone], zone.ticks(), 1);
        let whole: Vec<u32> = (0..200).collect();
        for policy in [&UniformProgress::default() as &dyn DeadlinePolicy, &Greedy, &OnDemandOnly] {
            let simulated = simulate(terms, &Window::one_zone(&zone, 0), policy.fresh().as_mut());
            let ran = run(&job, Millis::ZERO, &history, &whole, policy.fresh().as_mut());
            prop_assert_eq!(ran.cost(), simulated.cost);
            prop_assert_eq!(ran.finished, simulated.finished_at);
            prop_assert_eq!(ran.preemptions, simulated.preemptions);
        }
    }

    /// Reading a cost and finding its place are inverse to each other.
    #[test]
    fn a_cost_lies_where_it_was_read(costs in prop::collection::btree_set(1u64..1_000_000, 2..60), place in 0.0f64..2.0) {
        let runs: Vec<RunOutcome> = costs
            .iter()
            .map(|cost| RunOutcome { by_cause: [MicroUsd::new(1_000 * cost), MicroUsd::ZERO, MicroUsd::ZERO, MicroUsd::ZERO], ..RunOutcome::default() })
            .collect();
        let draws = Draws::of(&runs, MicroUsd::new(2_000_000_000));
        let found = draws.place_of(draws.cost_at(place));
        prop_assert!((found - place).abs() <= 0.01, "{} read at {}", found, place);
    }

    /// A future is made of whole stretches of the past.
    #[test]
    fn a_future_is_a_stretch_of_the_past(now in 1usize..400, length in 1usize..900, seed in any::<u64>()) {
        let zone = choppy(5, 3);
        let history = MarketHistory::new(vec![&zone], now, 1);
        let future = history.futures(Likeness(0.1)).draw(length, &mut ChaCha8Rng::seed_from_u64(seed));
        prop_assert_eq!(future.len(), length);
        prop_assert!(future.iter().all(|&tick| (tick as usize) < now));
        let jumps = future.windows(2).filter(|pair| pair[1] != pair[0] + 1).all(|pair| pair[0] as usize == now - 1);
        prop_assert!(jumps, "a stretch ends only where the recording does");
    }
}

#[test]
fn a_coarse_past_ends_at_the_present_too() {
    let zone = choppy(5, 3);
    let history = MarketHistory::new(vec![&zone], 103, 1);
    let coarse = history.coarse(Millis::from_secs(1_500));
    assert_eq!(coarse.tick(), Millis::from_secs(1_800));
    for back in 1..=34 {
        assert_eq!(coarse.available(0, 34 - back), history.available(0, 103 - 3 * back));
    }
}

#[test]
fn futures_begin_as_the_present_is() {
    // The first half of the past has no spot, the second has; spot is there now.
    let zone = zone((0..2_000).map(|tick| u32::from(tick >= 1_000)).collect());
    let history = MarketHistory::new(vec![&zone], 2_000, 1);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut late = |likeness| {
        let futures = history.futures(Likeness(likeness));
        (0..200).filter(|_| futures.draw(1, &mut rng)[0] >= 1_000).count()
    };
    assert!((60..140).contains(&late(100.0)), "no preference");
    assert!(late(0.05) > 190, "a strong one");
}

#[test]
fn on_demand_is_certain() {
    let plan = planned(&job(MarketChoice::OnDemand), &choppy(5, 1)).unwrap();
    // Six hours of work and seven minutes of start, in whole ticks of ten minutes: 37 ticks at $0.50.
    assert_eq!(plan.cost_p50, MicroUsd::new(18_500_000));
    assert_eq!(plan.cost_p95, plan.cost_p50);
    assert_eq!(plan.finish_p95, Some(Millis::from_secs(37 * 600)));
    assert_eq!(plan.keeps_deadline, Some(1.0));
    assert_eq!(plan.causes[0].0, Cause::OnDemandWork);
}

#[test]
fn causes_are_the_dearest_first_and_add_up() {
    let plan = planned(&job(MarketChoice::Auto), &choppy(9, 3)).unwrap();
    assert!(plan.causes.windows(2).all(|pair| pair[0].1 >= pair[1].1));
    assert_eq!(plan.causes[0].0, Cause::SpotWork);
    let sum: f64 = plan.causes.iter().map(|(_, cost)| dollars(*cost)).sum();
    assert!((sum / dollars(plan.cost_p50) - 1.0).abs() < 0.2, "{plan:?}");
}

#[test]
fn what_is_not_saved_is_lost() {
    let zone = choppy(12, 2);
    let history = MarketHistory::new(vec![&zone], zone.ticks(), 1);
    let whole: Vec<u32> = (0..1_000).collect();
    let lost = |checkpoint| {
        let job = PlanJob { checkpoint, work: Millis::from_secs(4 * HOUR), ..job(MarketChoice::Spot) };
        let outcome = run(&job, Millis::ZERO, &history, &whole, &mut SpotOnly);
        (outcome.finished, outcome.by_cause[Cause::LostWork as usize])
    };
    assert!(lost(None).0.is_none(), "two hours of spot at a time never do four hours of work");
    let (finished, every_hour) = lost(Some(Millis::from_secs(HOUR)));
    assert!(finished.is_some() && every_hour > MicroUsd::ZERO);
    assert!(lost(Some(Millis::ZERO)).1 == MicroUsd::ZERO);
}

#[test]
fn a_spot_job_that_would_hardly_ever_be_done_is_refused() {
    let reckless = PlanJob { checkpoint: None, deadline: None, ..job(MarketChoice::Spot) };
    let refused = planned(&reckless, &choppy(12, 2)).unwrap_err();
    assert!(refused.to_string().starts_with("error[E020]"), "{refused}");
    assert!(planned_with(&reckless, &choppy(12, 2), UnsafeSpot::Allow).is_ok());
    assert!(planned(&reckless, &choppy(200, 2)).is_ok());
    assert!(planned(&PlanJob { checkpoint: Some(TICK), ..reckless }, &choppy(12, 2)).is_ok());
}

#[test]
fn cheaper_ways_are_shown_with_what_they_save() {
    let plan = planned(&job(MarketChoice::OnDemand), &choppy(50, 1)).unwrap();
    let auto = plan.alternatives.iter().find(|one| one.change == Change::Market(MarketChoice::Auto)).unwrap();
    assert_eq!(auto.saving, plan.cost_p50 - auto.cost_p50);
    assert!(dollars(auto.saving) > 10.0 && auto.keeps_deadline > Some(0.95), "{auto:?}");
    assert!(plan.alternatives.windows(2).all(|pair| pair[0].cost_p50 <= pair[1].cost_p50));
}

#[test]
fn fewer_workers_and_a_later_deadline_are_tried() {
    // Three times as fast on four: 24 node hours, and 20 on two.
    let wide = PlanJob { workers: 4, ..job(MarketChoice::OnDemand) };
    let plan = planned(&wide, &choppy(6, 6)).unwrap();
    let changed = |wanted: fn(&Change) -> bool| plan.alternatives.iter().any(|one| wanted(&one.change));
    assert!(changed(|change| *change == Change::Workers(2)), "{plan:?}");
    let tight = PlanJob { deadline: Some(Millis::from_secs(8 * HOUR)), ..job(MarketChoice::Auto) };
    let plan = planned(&tight, &choppy(6, 6)).unwrap();
    assert!(plan.alternatives.iter().any(|one| matches!(one.change, Change::Deadline(_))), "{plan:?}");
}

#[test]
fn chances_of_budget_and_deadline_are_those_of_the_runs() {
    let zone = choppy(30, 6);
    let chance = |budget: u64| {
        let job = PlanJob { budget: Some(MicroUsd::new(budget)), ..job(MarketChoice::Auto) };
        planned(&job, &zone).unwrap().keeps_budget.unwrap()
    };
    assert_eq!(chance(1_000_000), 0.0);
    assert_eq!(chance(30_000_000), 1.0);
    let spot = PlanJob { deadline: Some(Millis::from_secs(6 * HOUR + 600)), ..job(MarketChoice::Spot) };
    let keeps = planned(&spot, &zone).unwrap().keeps_deadline.unwrap();
    assert!(keeps < 0.05, "spot is taken away every five hours: {keeps}");
}

#[test]
fn a_price_limit_below_every_offer_is_refused() {
    let limited = |market, usd: u64| PlanJob { max_price: Some(MicroUsdPerHour::new(usd * 100_000)), ..job(market) };
    let refused = planned(&limited(MarketChoice::OnDemand, 29), &choppy(9, 1)).unwrap_err();
    assert_eq!(refused, PlanRefusal::MaxPrice { cheapest: MicroUsdPerHour::new(3_000_000) });
    assert!(planned(&limited(MarketChoice::Auto, 9), &choppy(9, 1)).is_err());
    assert!(planned(&limited(MarketChoice::Auto, 10), &choppy(9, 1)).is_ok());
}

#[test]
fn limits_that_nothing_can_keep_have_their_codes() {
    let refusal = |job: PlanJob| planned(&job, &choppy(9, 1)).unwrap_err().to_string();
    let auto = || job(MarketChoice::Auto);
    assert!(refusal(PlanJob { budget: Some(MicroUsd::ZERO), ..auto() }).starts_with("error[E021]"));
    assert!(refusal(PlanJob { deadline: Some(Millis::ZERO), ..auto() }).starts_with("error[E025]"));
    let tight = PlanJob { deadline: Some(Millis::from_secs(4 * HOUR)), ..auto() };
    let text = "error[E026] the deadline leaves 4h00m, but the job takes at least 6h07m on all its workers";
    assert_eq!(refusal(tight.clone()), text);
    // On two workers it takes 3 h 20 min.
    assert!(planned(&PlanJob { workers_max: 2, ..tight }, &choppy(9, 1)).is_ok());
}

#[test]
fn nothing_recorded_is_said_so() {
    assert_eq!(planned(&job(MarketChoice::Spot), &zone(Vec::new())), Err(PlanRefusal::NoHistory));
}

#[test]
fn an_assumed_market_is_like_those_it_is_taken_from() {
    let known = choppy(30, 10);
    let stays = AssumedStays::of(&[known.clone(), known]).unwrap();
    assert!((stays.with.get() as f64 / (30.0 * TICK.get() as f64) - 1.0).abs() < 0.05, "{stays:?}");
    let prices = AssumedPrices { spot: MicroUsdPerHour::new(1_000_000), on_demand: MicroUsdPerHour::new(3_000_000) };
    let assumed = stays.zone(TICK, 20_000, prices, &mut ChaCha8Rng::seed_from_u64(5));
    let again = AssumedStays::of(std::slice::from_ref(&assumed)).unwrap();
    assert!((again.with.get() as f64 / stays.with.get() as f64 - 1.0).abs() < 0.15, "{again:?}");
    assert!((again.without.get() as f64 / stays.without.get() as f64 - 1.0).abs() < 0.15, "{again:?}");
    assert!(planned(&job(MarketChoice::Auto), &assumed).is_ok());
    assert_eq!(AssumedStays::of(&[]), None);
}

#[test]
fn a_second_zone_makes_it_cheaper() {
    // Spot is in the one zone or in the other.
    let (here, there) = (choppy(12, 12), zone((0..2_000).map(|tick| u32::from(tick % 24 >= 12)).collect()));
    let cost = |zones: Vec<&ZoneTrace>| {
        let history = MarketHistory::new(zones, 2_000, 1);
        let job = job(MarketChoice::Auto);
        let input = PlanInput {
            job: &job,
            history: &history,
            boot: Millis::from_secs(120),
            policy: &Greedy,
            likeness: Likeness(0.1),
            calibration: Calibration::default(),
            seed: 7,
        };
        plan(&input, UnsafeSpot::Refuse).unwrap().cost_p50
    };
    assert!(dollars(cost(vec![&here, &there])) < 0.8 * dollars(cost(vec![&here])));
}

#[test]
fn the_same_input_gives_the_same_plan() {
    let zone = choppy(7, 4);
    assert_eq!(planned(&job(MarketChoice::Auto), &zone), planned(&job(MarketChoice::Auto), &zone));
}

#[test]
fn a_calibration_reads_where_the_truth_was() {
    let places = (1..100).map(|place| f64::from(place) / 50.0).collect();
    assert_eq!(Calibration::fit(places), Calibration { p50: 1.0, p95: 1.9 });
    assert_eq!(Calibration::fit(Vec::new()), Calibration::default());
}
