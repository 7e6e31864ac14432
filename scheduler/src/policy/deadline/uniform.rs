//! Uniform Progress, the policy of "Can't Be Late" (Wu et al., NSDI'24).
//!
//! The job should be on or above the straight line from nothing at the start to everything at the deadline. Spot is
//! taken whenever it is there; without it the job waits while it is ahead of the line and runs on demand while it is
//! behind, and leaves on demand for spot only when it is ahead by two restarts.

use super::baselines::{near_the_end, slack, spot_or};
use super::guard::last_moment;
use super::{DeadlinePolicy, Decision, Held, Reason, Sighting, View, cheapest_on_demand};
use crate::model::Millis;

/// Uniform Progress. It needs to know when the job began, which it takes from its first decision.
#[derive(Debug, Clone, Copy, Default)]
pub struct UniformProgress {
    began: Option<Millis>,
}

impl DeadlinePolicy for UniformProgress {
    fn name(&self) -> &'static str {
        "uniform_progress"
    }

    fn fresh(&self) -> Box<dyn DeadlinePolicy> {
        Box::new(Self::default())
    }

    fn observe(&mut self, _: Sighting) {}

    fn decide(&mut self, view: &View<'_>) -> Decision {
        let began = *self.began.get_or_insert(view.now);
        if let Some(decision) = last_moment(view).or_else(|| near_the_end(view)) {
            return decision;
        }
        let restart = view.restart.get() as f64;
        let ahead_in = |later: f64| ahead_of_line(view, began, later);
        if let Some(zone) = view.on_demand_held() {
            if ahead_in(2.0 * restart) <= 0.0 {
                return Decision::run(Held::on_demand(zone), Reason::CatchingUp);
            }
            return spot_or(view, |_| Decision::run(Held::on_demand(zone), Reason::CatchingUp));
        }
        spot_or(view, |view| {
            if ahead_in(0.0) < 0.0 {
                return Decision::run(Held::on_demand(cheapest_on_demand(view)), Reason::BehindUniformProgress);
            }
            Decision::wait(Reason::SlackAllowsWaiting { slack: slack(view) })
        })
    }
}

/// How far the work done is ahead of the line at `later` milliseconds from now, in milliseconds of work.
fn ahead_of_line(view: &View<'_>, began: Millis, later: f64) -> f64 {
    let work = view.work.get() as f64;
    let done = work - view.work_left.get() as f64;
    let whole = view.deadline.since(began).get().max(1) as f64;
    done - (view.now.since(began).get() as f64 + later) * work / whole
}
