//! The least cost of a job in one zone by who knows the future: a bound for every policy, exact to the micro-dollar.
//!
//! Dynamic programming over ticks. The state is the time lost so far (ticks without an instance, and restarts) and what
//! is held; the work done is the time passed less the time lost, so the job is done when that covers it. Every loss is a
//! multiple of the greatest common divisor of tick and restart, which keeps the states whole numbers. A restart is
//! counted at once; whoever knows the future launches no instance that would be lost before its restart ends.

use super::window::{JobTerms, Window};
use crate::model::MicroUsd;

/// More states than this and the terms are refused: about a gigabyte.
const LOSSES_MAX: u64 = 40_000_000;

const NOTHING: usize = 0;
const SPOT: usize = 1;
const ON_DEMAND: usize = 2;

/// The least cost of finishing in time; nothing if that cannot be done, or if tick and restart share no useful divisor.
///
/// # Panics
///
/// If the window has more than one zone.
pub fn optimal_one_zone(terms: JobTerms, window: &Window<'_>) -> Option<MicroUsd> {
    assert_eq!(window.zones(), 1, "the exact bound is for one zone");
    let unit = gcd(window.tick().get(), terms.restart.get());
    let (tick, restart) = (window.tick().get() / unit, terms.restart.get() / unit);
    let work = terms.work.get().div_ceil(unit);
    let ticks = (terms.deadline.get() / window.tick().get()).min(window.ticks() as u64);
    let losses = (ticks * tick).checked_sub(work)? as usize + 1;
    if losses as u64 > LOSSES_MAX {
        return None;
    }
    let mut best: [Vec<u64>; 3] = std::array::from_fn(|_| vec![u64::MAX; losses]);
    best[NOTHING][0] = 0;
    let mut done = u64::MAX;
    for now in 0..ticks {
        let spot = window.available(0, now as usize).then(|| window.spot_price(0, now as usize).cost_of(window.tick()));
        let on_demand = window.on_demand_price(0).cost_of(window.tick());
        let prices = [Some(0), spot.map(MicroUsd::get), Some(on_demand.get())];
        best = next_tick(&best, prices, tick as usize, restart as usize);
        done = done.min(finish(&mut best, (now + 1) * tick, work));
    }
    (done < u64::MAX).then(|| MicroUsd::new(done))
}

/// The least cost in each state after one more tick.
fn next_tick(best: &[Vec<u64>; 3], prices: [Option<u64>; 3], tick: usize, restart: usize) -> [Vec<u64>; 3] {
    let losses = best[NOTHING].len();
    let mut next: [Vec<u64>; 3] = std::array::from_fn(|_| vec![u64::MAX; losses]);
    for from in [NOTHING, SPOT, ON_DEMAND] {
        for to in [NOTHING, SPOT, ON_DEMAND] {
            let Some(price) = prices[to] else { continue };
            let loss = match to {
                NOTHING => tick,
                _ if to == from => 0,
                _ => restart,
            };
            let Some(kept) = losses.checked_sub(loss) else { continue };
            for (cell, &cost) in next[to][loss..].iter_mut().zip(&best[from][..kept]) {
                *cell = (*cell).min(cost.saturating_add(price));
            }
        }
    }
    next
}

/// Takes out the states in which the work is done after `passed` and returns the least of their costs.
fn finish(best: &mut [Vec<u64>; 3], passed: u64, work: u64) -> u64 {
    let Some(loss_max) = passed.checked_sub(work) else { return u64::MAX };
    let mut least = u64::MAX;
    for cost in best.iter_mut().flat_map(|costs| costs.iter_mut().take(loss_max as usize + 1)) {
        least = least.min(*cost);
        *cost = u64::MAX;
    }
    least
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
