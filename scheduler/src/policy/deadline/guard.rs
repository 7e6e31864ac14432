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

#[cfg(test)]
mod unit_tests {
    use super::super::{SpotSeen, ZoneView};
    use super::*;
    use crate::model::{MicroUsd, MicroUsdPerHour};

    fn zone(on_demand: u64, move_secs: u64) -> ZoneView {
        ZoneView {
            on_demand: MicroUsdPerHour::new(on_demand),
            spot: MicroUsdPerHour::new(1),
            seen: SpotSeen::Unknown,
            move_time: Millis::from_secs(move_secs),
            move_cost: MicroUsd::ZERO,
        }
    }

    /// 50 minutes of work, a restart of 10 minutes, rounds of 10 minutes: six rounds on a fresh instance.
    fn view(zones: &[ZoneView], minutes_left: u64) -> View<'_> {
        View {
            now: Millis::ZERO,
            deadline: Millis::from_secs(minutes_left * 60),
            work: Millis::from_secs(3_000),
            work_left: Millis::from_secs(3_000),
            restart: Millis::from_secs(600),
            warmup_left: Millis::ZERO,
            round: Millis::from_secs(600),
            held: None,
            checkpoint_in: Some(0),
            zones,
        }
    }

    #[test]
    fn the_last_moment_is_counted_in_whole_rounds() {
        let zones = [zone(10, 0)];
        let urgency_at = |minutes| urgency(&view(&zones, minutes));
        assert_eq!(urgency_at(79), Urgency::Slack(Millis::from_secs(600)));
        assert_eq!(urgency_at(69), Urgency::LastMoment);
        assert_eq!(urgency_at(60), Urgency::LastMoment);
    }

    #[test]
    fn at_the_last_moment_spot_is_kept_only_if_it_makes_progress() {
        let zones = [zone(10, 0)];
        let riding = View { held: Some(Held::spot(0)), ..view(&zones, 60) };
        assert_eq!(last_moment(&riding), Some(Decision::run(Held::spot(0), Reason::SpotStillRuns)));
        let starting = View { warmup_left: Millis::from_secs(1), ..riding };
        assert_eq!(last_moment(&starting), Some(Decision::run(Held::on_demand(0), Reason::LastMoment)));
        assert_eq!(last_moment(&View { deadline: Millis::from_secs(4_200), ..riding }), None);
    }

    #[test]
    fn a_move_that_would_be_late_is_not_made_for_a_lower_price() {
        let zones = [zone(10, 0), zone(5, 60)];
        assert_eq!(cheapest_on_demand(&view(&zones, 70)), 1);
        assert_eq!(cheapest_on_demand(&view(&zones, 60)), 0);
    }
}
