//! Properties of runs on generated markets: no policy misses a deadline that on-demand could meet, every micro-dollar is
//! accounted for, equal inputs give equal runs, and nobody beats who knows the future.

use proptest::prelude::*;

use super::*;
use crate::model::{Market, MicroUsd, MicroUsdPerHour, Millis};
use crate::policy::deadline::{Adaptive, DeadlinePolicy, Greedy, Held, OnDemandOnly, UniformProgress};

const TICK: Millis = Millis::from_secs(600);
const PROBE: Millis = Millis::from_secs(60);

/// Few terms, so that solved tables are shared: 5 h of work with little, some and much slack, and none but a restart.
const TERMS: [(u64, u64); 4] = [(720, 32), (720, 36), (180, 45), (720, 60)];

fn terms(index: usize) -> JobTerms {
    let (restart, ticks) = TERMS[index % TERMS.len()];
    JobTerms {
        work: Millis::from_secs(5 * 3_600),
        deadline: Millis::from_secs(ticks * 600),
        restart: Millis::from_secs(restart),
    }
}

/// A zone whose spot capacity alternates between the given stays; it ends unavailable.
fn zone(stays: &[u8], first: bool, spot: u64) -> ZoneTrace {
    let states = stays.iter().zip([first, !first].into_iter().cycle());
    let mut counts: Vec<u32> = states.flat_map(|(&stay, up)| vec![u32::from(up); usize::from(stay)]).collect();
    counts.resize(80, 0);
    ZoneTrace {
        zone: format!("zone-{spot}"),
        instance: "small".to_owned(),
        tick: TICK,
        spot: (0..80).map(|tick| MicroUsdPerHour::new(spot + 1_000 * (tick / 20))).collect(),
        counts,
        on_demand: Some(MicroUsdPerHour::new(3_060_000)),
    }
}

fn zones() -> impl Strategy<Value = Vec<ZoneTrace>> {
    let market = (prop::collection::vec(1u8..20, 1..24), any::<bool>(), 500_000u64..3_500_000);
    prop::collection::vec(market.prop_map(|(stays, first, spot)| zone(&stays, first, spot)), 1..4)
}

/// Many zones by trying, or the first alone and shown.
fn window(zones: &[ZoneTrace]) -> Window<'_> {
    if let [zone] = zones {
        return Window::one_zone(zone, 0);
    }
    let rules = Rules { visibility: Visibility::ByTrying { probe: PROBE }, last_tick_charged: true };
    let cost = |from: usize, to: usize| MoveCost {
        time: Millis::from_secs(60 * from.abs_diff(to) as u64),
        money: MicroUsd::new(500_000),
    };
    Window::new(zones.iter().collect(), 0, cost, rules)
}

fn policies(adaptive: &Adaptive) -> Vec<Box<dyn DeadlinePolicy>> {
    vec![Box::new(OnDemandOnly), Box::new(Greedy), Box::new(UniformProgress::default()), adaptive.fresh()]
}

/// Runs a policy and checks what holds for every run.
fn checked_run(terms: JobTerms, window: &Window<'_>, policy: &mut dyn DeadlinePolicy) -> (Outcome, Vec<Step>) {
    let mut steps: Vec<Step> = Vec::new();
    let outcome = simulate_logged(terms, window, policy, |step| steps.push(*step));
    let name = policy.name();
    assert!(!outcome.missed, "{name} missed the deadline: {outcome:?}");
    assert_eq!(steps.iter().map(|step| step.cost).sum::<MicroUsd>(), outcome.cost, "{name}: the ticks add up");
    let passed = outcome.on_spot + outcome.on_demand + outcome.idle;
    assert_eq!(Some(passed), outcome.finished_at, "{name}: every tick is on spot, on demand or idle");
    let mut once = outcome.cost;
    for (tick, step) in steps.iter().enumerate() {
        let Some(Held { zone, market }) = step.held else { continue };
        let price = match market {
            Market::Spot => {
                assert!(window.available(zone, tick), "{name} held spot where there was none");
                window.spot_price(zone, tick)
            }
            Market::OnDemand => window.on_demand_price(zone),
        };
        once = once - price.cost_of(window.tick());
    }
    let moves = MicroUsd::new(500_000 * u64::from(outcome.moves));
    assert!(once >= moves, "{name}: {once:?} is less than the moves");
    assert_eq!(outcome.probes == 0, once == moves, "{name}: what is not held or moved is probes");
    (outcome, steps)
}

fn same(a: &[Step], b: &[Step]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a.held, a.reason, a.cost) == (b.held, b.reason, b.cost))
}

/// The cheapest of all ways to hold nothing, spot or on-demand in each tick, by trying them all.
fn cheapest_by_trying_all(terms: JobTerms, window: &Window<'_>, ticks: u32) -> Option<MicroUsd> {
    let ways = (0..3u32.pow(ticks)).map(|way| {
        let choice = |tick: u32| match way / 3u32.pow(tick) % 3 {
            1 => Some(Held::spot(0)),
            2 => Some(Held::on_demand(0)),
            _ => None,
        };
        (0..ticks).map(choice).collect::<Vec<_>>()
    });
    let outcomes = ways.map(|plan| simulate(terms, window, &mut Planned::new(plan)));
    outcomes.filter(|outcome| !outcome.missed).map(|outcome| outcome.cost).min()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_policy_misses_a_deadline_and_every_micro_dollar_is_accounted_for(zones in zones(), index in 0usize..4) {
        let adaptive = Adaptive::new();
        let (terms, window) = (terms(index), window(&zones));
        for (mut policy, mut again) in policies(&adaptive).into_iter().zip(policies(&adaptive)) {
            let (outcome, steps) = checked_run(terms, &window, policy.as_mut());
            let (_, repeated) = checked_run(terms, &window, again.as_mut());
            prop_assert!(same(&steps, &repeated), "{} differs from run to run", policy.name());
            if zones.len() == 1 {
                let least = optimal_one_zone(terms, &window).expect("on-demand alone meets the deadline");
                prop_assert!(least <= outcome.cost, "{} beat who knows the future", policy.name());
            }
        }
    }

    #[test]
    fn who_knows_the_future_pays_the_least_of_all_ways(
        stays in prop::collection::vec(1u8..4, 1..6),
        first: bool,
        spot in 100_000u64..4_000_000,
        restart in 0u64..900,
        work in 1u64..2_400,
    ) {
        let zone = zone(&stays, first, spot);
        let window = Window::one_zone(&zone, 0);
        let terms = JobTerms {
            work: Millis::from_secs(work),
            deadline: Millis::from_secs(6 * 600),
            restart: Millis::from_secs(restart),
        };
        prop_assert_eq!(optimal_one_zone(terms, &window), cheapest_by_trying_all(terms, &window, 6));
    }
}

/// Run with `cargo test -p neap-scheduler --release -- --ignored twenty_thousand_markets`.
#[test]
#[ignore = "a minute in release mode"]
fn no_deadline_is_missed_on_twenty_thousand_markets() {
    let adaptive = Adaptive::new();
    let config = ProptestConfig { cases: 20_000, ..ProptestConfig::default() };
    let check = |(zones, index): (Vec<ZoneTrace>, usize)| {
        let window = window(&zones);
        policies(&adaptive).iter_mut().for_each(|policy| drop(checked_run(terms(index), &window, policy.as_mut())));
        Ok(())
    };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    runner.run(&(zones(), 0usize..4), check).expect("no deadline is missed");
}

#[test]
fn steady_spot_is_taken_from_start_to_end() {
    let zone = zone(&[80], true, 918_000);
    let window = Window::one_zone(&zone, 0);
    let outcome = simulate(terms(1), &window, &mut Adaptive::new());
    assert_eq!((outcome.launches, outcome.on_demand, outcome.idle), (1, Millis::ZERO, Millis::ZERO));
}

#[test]
fn without_spot_the_job_is_on_demand_in_time() {
    let zone = zone(&[80], false, 918_000);
    let window = Window::one_zone(&zone, 0);
    let (outcome, steps) = checked_run(terms(3), &window, &mut Adaptive::new());
    assert_eq!((outcome.launches, outcome.on_spot), (1, Millis::ZERO));
    assert!(steps.iter().all(|step| !step.reason.to_string().is_empty()));
}

#[test]
fn the_cheaper_of_two_steady_zones_is_used() {
    let zones = [zone(&[80], true, 2_000_000), zone(&[80], true, 900_000)];
    let mut held = Vec::new();
    simulate_logged(terms(1), &window(&zones), &mut Adaptive::new(), |step| held.push(step.held));
    assert!(held.iter().all(|held| *held == Some(Held::spot(1))), "{held:?}");
}
