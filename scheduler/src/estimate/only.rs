//! The policy of jobs that ask for spot nodes and nothing else.

use crate::policy::deadline::{DeadlinePolicy, Decision, Held, Reason, Sighting, View};

/// Takes the cheapest spot node that is there, and waits where there is none, whatever the deadline.
#[derive(Debug, Clone, Copy, Default)]
pub struct SpotOnly;

impl DeadlinePolicy for SpotOnly {
    fn name(&self) -> &'static str {
        "spot_only"
    }

    fn fresh(&self) -> Box<dyn DeadlinePolicy> {
        Box::new(*self)
    }

    fn observe(&mut self, _: Sighting) {}

    fn decide(&mut self, view: &View<'_>) -> Decision {
        if let Some(zone) = view.spot_held() {
            return Decision::run(Held::spot(zone), Reason::SpotStillRuns);
        }
        match view.cheapest_spot_seen() {
            Some(zone) => Decision::run(Held::spot(zone), Reason::SpotIsThere),
            None => Decision::wait(Reason::SlackAllowsWaiting { slack: view.time_left() }),
        }
    }
}
