//! Many zones that answer only when tried: a reservation price for spot.
//!
//! Each zone has a price for an hour of progress: its spot price over the share of a stay that is left after the restart,
//! plus the move. The zones together are filled with the work left, cheapest first, each with the hours of capacity that
//! it is believed to give until the deadline. The price of the last zone needed is the reservation price: zones up to it
//! are tried in order and dearer ones are waited out, for waiting costs nothing while there is slack. The last hours of
//! slack are not for waiting, but for the restarts to come: then, and where spot is not plentiful, any zone that is cheaper
//! than on demand is taken, and the rest is decided as for one zone. A launch that fails is free; a probe is paid for only
//! while on demand is held, to see for how long spot has been there.
//!
//! The measure of a zone by its lifetime and price is that of SkyNomad (NSDI'27); the reservation price is ours.

use super::super::{Held, SpotSeen, View};
use super::{ZoneMemory, hours};

/// Hours of capacity counted on for each that is expected. More than one, because being wrong is cheap: what a zone does
/// not give in the end is had from the next dearer one. Between 1.3 and 1.6 the cost differs by less than 2 %.
const OPTIMISM: f64 = 1.5;

/// Spot is plentiful if some zone is expected to have it for this much more time than the work needs.
const PLENTY: f64 = 1.1;

/// Slack kept for restarts, in restarts; with less than that nothing is waited for.
const SLACK_RESTARTS: f64 = 10.0;

/// What runs is left only for something this many times cheaper: a new stay may be short, an old one has proved itself.
const LEAVING: f64 = 1.2;

/// One zone as a source of progress.
#[derive(Debug, Clone, Copy)]
struct Source {
    zone: usize,
    /// Millionths of a dollar for an hour of progress, from a launch now.
    price: f64,
    /// Hours of progress it is counted on for until the deadline.
    hours: f64,
}

/// What the zones ask for in a round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Advice {
    /// Launch on spot in this zone, or keep it if it is held.
    Spot(usize),
    /// On demand is held, and spot in this zone may be worth leaving it.
    MayLeaveFor(usize),
    /// Wait for a cheaper zone: there is slack, and they are believed to give enough.
    WaitForCheaper,
    /// No zone has anything to offer.
    NothingToBeHad,
}

/// Which zone to try next, or what to do without one.
pub(super) fn advise(view: &View<'_>, memories: &[ZoneMemory]) -> Advice {
    let sources = sources(view, memories);
    let spare = hours(view.time_left()) - hours(view.work_left);
    let scarce = spare < SLACK_RESTARTS * hours(view.restart) || !plentiful(view, &sources);
    let reserve = reservation(&sources, hours(view.work_left)).filter(|_| !scarce);
    let limit = match view.held {
        Some(held) => price_of(view, held) / LEAVING,
        None => reserve.unwrap_or_else(|| cheapest_demand(view)),
    };
    let to_try = |source: &&Source| view.zones[source.zone].seen != SpotSeen::Gone && !holds(view, source.zone);
    let next = sources.iter().find(to_try).filter(|source| source.price <= limit);
    match (next, view.spot_held()) {
        (Some(source), _) if view.on_demand_held().is_some() => Advice::MayLeaveFor(source.zone),
        (Some(source), _) => Advice::Spot(source.zone),
        (None, Some(zone)) => Advice::Spot(zone),
        (None, None) if reserve.is_some() => Advice::WaitForCheaper,
        (None, None) => Advice::NothingToBeHad,
    }
}

/// Whether there is spot somewhere for so much of the time that waiting for a cheaper zone is safe.
fn plentiful(view: &View<'_>, sources: &[Source]) -> bool {
    let left = hours(view.time_left());
    let none: f64 = sources.iter().map(|source| 1.0 - (source.hours / left).min(1.0)).product();
    (1.0 - none) * left >= PLENTY * hours(view.work_left)
}

/// Every zone, the cheapest progress first.
fn sources(view: &View<'_>, memories: &[ZoneMemory]) -> Vec<Source> {
    let zones = memories.iter().enumerate();
    let mut sources: Vec<Source> = zones.map(|(zone, memory)| source(view, zone, memory)).collect();
    sources.sort_by(|a, b| a.price.total_cmp(&b.price));
    sources
}

fn source(view: &View<'_>, zone: usize, memory: &ZoneMemory) -> Source {
    let offer = view.zones[zone];
    let start = hours(view.launch_time(zone));
    let needed = hours(view.work_left) + start;
    let outlook = memory.stays.outlook(0.0);
    let stay = |hours_more: f64| (hours_more + hours(view.round)).min(needed);
    let held = outlook.mean(stay);
    let useful = outlook.mean(|more| (stay(more) - start).max(0.0));
    let cost = offer.spot.get() as f64 * held + offer.move_cost.get() as f64;
    Source {
        zone,
        price: cost / useful.max(f64::MIN_POSITIVE),
        hours: memory.belief.hours_up(hours(view.time_left())) * useful / held,
    }
}

/// The price of the last zone needed to do `work`, or nothing if all of them are too little.
fn reservation(sources: &[Source], work: f64) -> Option<f64> {
    let mut filled = 0.0;
    sources.iter().find_map(|source| {
        filled += source.hours * OPTIMISM;
        (filled >= work).then_some(source.price)
    })
}

fn holds(view: &View<'_>, zone: usize) -> bool {
    view.spot_held() == Some(zone)
}

fn price_of(view: &View<'_>, held: Held) -> f64 {
    let offer = view.zones[held.zone];
    let price = if view.spot_held().is_some() { offer.spot } else { offer.on_demand };
    price.get() as f64
}

fn cheapest_demand(view: &View<'_>) -> f64 {
    view.zones.iter().map(|zone| zone.on_demand.get() as f64).fold(f64::INFINITY, f64::min)
}

/// The zone with the lowest price for spot, whether it is to be had or not.
pub(super) fn cheapest_spot(view: &View<'_>) -> usize {
    (0..view.zones.len()).min_by_key(|&zone| (view.zones[zone].spot, zone)).unwrap_or(0)
}
