//! Many zones that answer only when tried: a reservation price for spot.
//!
//! Each zone has a price for an hour of progress: its spot price over the share of a stay that is left after the restart,
//! plus the move. The zones together are filled with the work left, cheapest first, each with the hours of capacity that
//! it is believed to give until the deadline. The price of the last zone needed is the reservation price: zones up to it
//! are tried in order, dearer ones are waited out, and when all of them together are too little, on demand it is. A
//! failed launch is free, so no probe is ever paid.

use super::{ZoneMemory, hours, on_demand};
use super::super::baselines::slack;
use super::super::{Decision, Held, Reason, SpotSeen, View};

/// Hours believed in, of those expected: the rest pays for being wrong.
const TRUST: f64 = 0.9;

/// One zone as a source of progress.
#[derive(Debug, Clone, Copy)]
struct Source {
    zone: usize,
    /// Millionths of a dollar for an hour of progress, from a launch now.
    price: f64,
    /// Hours of progress it is believed to give until the deadline.
    hours: f64,
}

/// What to do where spot must be tried for.
pub(super) fn decide(view: &View<'_>, memories: &[ZoneMemory]) -> Decision {
    let left = hours(view.time_left());
    let work = hours(view.work_left);
    let sources = sources(view, memories, left);
    let reserve = reservation(&sources, work);
    let held = view.spot_held();
    let staying = held.map(|zone| view.zones[zone].spot.get() as f64);
    let limit = staying.or(reserve).unwrap_or(f64::INFINITY);
    let worth = |source: &&Source| view.zones[source.zone].seen != SpotSeen::Gone && Some(source.zone) != held;
    if let Some(source) = sources.iter().find(worth)
        && source.price <= limit
    {
        return Decision::run(Held::spot(source.zone), Reason::SpotCostsLeast);
    }
    match (held, reserve) {
        (Some(zone), _) => Decision::run(Held::spot(zone), Reason::SpotStillRuns),
        (None, Some(_)) => Decision::wait(Reason::WaitingCostsLeast { slack: slack(view) }),
        (None, None) => on_demand(view),
    }
}

/// Every zone, the cheapest progress first.
fn sources(view: &View<'_>, memories: &[ZoneMemory], left: f64) -> Vec<Source> {
    let source = |(zone, memory): (usize, &ZoneMemory)| {
        let offer = view.zones[zone];
        let start = hours(view.launch_time(zone));
        let outlook = memory.stays.outlook(0.0);
        let work = hours(view.work_left);
        let round = hours(view.round);
        let held = outlook.mean(|stay| (stay + round).min(work + start));
        let useful = outlook.mean(|stay| ((stay + round).min(work + start) - start).max(0.0));
        let up = memory.belief.hours_up(left);
        Source {
            zone,
            price: (offer.spot.get() as f64 * held + offer.move_cost.get() as f64) / useful.max(1e-9),
            hours: up * useful / held * TRUST,
        }
    };
    let mut sources: Vec<Source> = memories.iter().enumerate().map(source).collect();
    sources.sort_by(|a, b| a.price.total_cmp(&b.price));
    sources
}

/// The price of the last zone needed to do `work`, or nothing if all of them are too little.
fn reservation(sources: &[Source], work: f64) -> Option<f64> {
    let mut filled = 0.0;
    sources.iter().find_map(|source| {
        filled += source.hours;
        (filled >= work).then_some(source.price)
    })
}
