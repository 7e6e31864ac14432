//! The two simplest policies: never spot, and always spot until the last moment.

use super::guard::{last_moment, urgency};
use super::{DeadlinePolicy, Decision, Held, Reason, Sighting, Urgency, View, cheapest_on_demand};
use crate::model::Millis;

/// Holds one on-demand instance from the start to the end: the cost that all others are measured against.
#[derive(Debug, Clone, Copy, Default)]
pub struct OnDemandOnly;

impl DeadlinePolicy for OnDemandOnly {
    fn name(&self) -> &'static str {
        "on_demand"
    }

    fn fresh(&self) -> Box<dyn DeadlinePolicy> {
        Box::new(*self)
    }

    fn observe(&mut self, _: Sighting) {}

    fn decide(&mut self, view: &View<'_>) -> Decision {
        let zone = view.on_demand_held().unwrap_or_else(|| cheapest_on_demand(view));
        Decision::run(Held::on_demand(zone), Reason::OnDemandAlways)
    }
}

/// Takes spot whenever it is there, waits when it is not, and goes on demand two restarts before it must.
///
/// The margin of two restarts is that of the baseline in "Can't Be Late" (NSDI'24): one for the start on demand, one so
/// that a spot instance still starting does not spend it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Greedy;

impl DeadlinePolicy for Greedy {
    fn name(&self) -> &'static str {
        "greedy"
    }

    fn fresh(&self) -> Box<dyn DeadlinePolicy> {
        Box::new(*self)
    }

    fn observe(&mut self, _: Sighting) {}

    fn decide(&mut self, view: &View<'_>) -> Decision {
        if let Some(decision) = last_moment(view).or_else(|| near_the_end(view)) {
            return decision;
        }
        spot_or(view, |view| Decision::wait(Reason::SlackAllowsWaiting { slack: slack(view) }))
    }
}

/// Time that may pass without progress.
pub(super) fn slack(view: &View<'_>) -> Millis {
    match urgency(view) {
        Urgency::Slack(slack) => slack,
        Urgency::LastMoment => Millis::ZERO,
    }
}

/// On demand for whoever holds no spot instance when no more than two restarts of slack are left.
pub(super) fn near_the_end(view: &View<'_>) -> Option<Decision> {
    let sooner = View { restart: view.restart + view.restart, ..*view };
    if view.spot_held().is_some() || urgency(&sooner) != Urgency::LastMoment {
        return None;
    }
    let zone = view.on_demand_held().unwrap_or_else(|| cheapest_on_demand(view));
    Some(Decision::run(Held::on_demand(zone), Reason::TooNearToLeave))
}

/// The spot instance held, else the cheapest zone that has spot or may have it, else what `otherwise` says.
pub(super) fn spot_or(view: &View<'_>, otherwise: impl FnOnce(&View<'_>) -> Decision) -> Decision {
    if let Some(zone) = view.spot_held() {
        return Decision::run(Held::spot(zone), Reason::SpotStillRuns);
    }
    match cheapest_spot_to_try(view) {
        Some(zone) => Decision::run(Held::spot(zone), Reason::SpotIsThere),
        None => otherwise(view),
    }
}

/// The cheapest zone that is not known to be without spot.
pub(super) fn cheapest_spot_to_try(view: &View<'_>) -> Option<usize> {
    let worth_a_try = |zone: &usize| view.zones[*zone].seen != super::SpotSeen::Gone;
    (0..view.zones.len()).filter(worth_a_try).min_by_key(|&zone| (view.zones[zone].spot, zone))
}
