//! The safety net: the last moment at which starting on demand still meets the deadline, counted in whole rounds.
//!
//! An instance is held in whole rounds and a new one must restart first, so a job with work `w` left needs
//! `ceil((w + restart) / round)` rounds on a fresh instance. While more whole rounds are left than that, one of them may
//! be spent on anything. When just as many are left, only two things are safe: hold on demand, or keep a spot instance
//! that is past its restart, because each round it makes brings the end one round nearer.

use super::{Decision, Held, Reason, View};
use crate::model::Millis;

/// How pressing the deadline is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// This much time may pass without progress.
    Slack(Millis),
    /// On demand from now on, or a spot instance that already makes progress.
    LastMoment,
}

/// How pressing the deadline is for a job that would restart where its checkpoint lies.
pub fn urgency(view: &View<'_>) -> Urgency {
    let spare = rounds_left(view).saturating_sub(rounds_needed(view, view.restart));
    if spare == 0 { Urgency::LastMoment } else { Urgency::Slack(Millis::new(spare * view.round.get())) }
}

/// The zone where starting on demand now costs least to the end, among those where it still meets the deadline if any
/// does; the zone of the checkpoint if it is too late everywhere.
pub fn cheapest_on_demand(view: &View<'_>) -> usize {
    let left = rounds_left(view);
    let rounds = |zone: usize| rounds_needed(view, view.launch_time(zone));
    let cost = |zone: usize| {
        let offer = view.zones[zone];
        offer.on_demand.cost_of(Millis::new(rounds(zone) * view.round.get())) + offer.move_cost
    };
    let in_time = (0..view.zones.len()).filter(|&zone| rounds(zone) <= left);
    in_time.min_by_key(|&zone| (cost(zone), zone)).or(view.checkpoint_in).unwrap_or(0)
}

/// Whole rounds until the deadline.
fn rounds_left(view: &View<'_>) -> u64 {
    view.time_left().get() / view.round.get()
}

/// Whole rounds that a new instance needs, with `start` before it makes progress.
fn rounds_needed(view: &View<'_>, start: Millis) -> u64 {
    (view.work_left + start).get().div_ceil(view.round.get())
}

/// What must be done at the last moment, if it has come: keep the spot instance that makes progress, or be on demand.
pub fn last_moment(view: &View<'_>) -> Option<Decision> {
    if urgency(view) != Urgency::LastMoment {
        return None;
    }
    Some(match (view.spot_held(), view.on_demand_held()) {
        (Some(zone), _) if view.warmup_left == Millis::ZERO => Decision::run(Held::spot(zone), Reason::SpotStillRuns),
        (_, Some(zone)) => Decision::run(Held::on_demand(zone), Reason::LastMoment),
        _ => Decision::run(Held::on_demand(cheapest_on_demand(view)), Reason::LastMoment),
    })
}
