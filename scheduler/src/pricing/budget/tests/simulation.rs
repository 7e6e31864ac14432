//! Thousands of random worlds, in each of which no budget is ever broken.

use proptest::prelude::*;

use super::world::{Faults, World};

/// Ticks in which nodes are rented; a world goes on until all are gone.
const TICKS: u32 = 16;

fn simulate(seed: u64, faults: Faults) -> Result<(), String> {
    World::new(seed, faults).run(TICKS)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Invariant 3, with slow deletes, lost replies, price jumps, restarts, others taking over, changed limits and the end of a month.
    #[test]
    fn no_budget_is_ever_broken(seed in any::<u64>()) {
        prop_assert_eq!(simulate(seed, Faults::default()), Ok(()));
    }
}

/// The same in 100,000 worlds:
/// `cargo test --release -p neap-scheduler --lib -- --ignored no_budget_is_ever_broken_in_100_000_worlds`
#[test]
#[ignore = "long: the command stands above"]
fn no_budget_is_ever_broken_in_100_000_worlds() {
    for seed in 0..100_000 {
        assert_eq!(simulate(seed, Faults::default()), Ok(()), "seed {seed}");
    }
}

#[test]
fn forgetting_that_deletes_are_slow_is_found_out() {
    let faults = Faults { forgets_deletes: true, ..Faults::default() };
    assert!((0..20).any(|seed| simulate(seed, faults).is_err()));
}

#[test]
fn forgetting_that_prices_jump_is_found_out() {
    let faults = Faults { forgets_price_jumps: true, ..Faults::default() };
    assert!((0..20).any(|seed| simulate(seed, faults).is_err()));
}

#[test]
fn forgetting_what_was_spent_before_a_take_over_is_found_out() {
    let faults = Faults { forgets_the_past: true, ..Faults::default() };
    assert!((0..20).any(|seed| simulate(seed, faults).is_err()));
}

#[test]
fn one_seed_is_one_world() {
    let fingerprint = || {
        let mut world = World::new(7, Faults::default());
        world.run(TICKS).unwrap();
        world.fingerprint()
    };
    assert_eq!(fingerprint(), fingerprint());
}
