//! Spot markets of the past: recorded availability and prices, and one job's run through a window of them.
//!
//! Truth about the future lives here; a policy sees a [`crate::policy::deadline::View`]. Read [`ZoneTrace`] (what was
//! recorded), [`Window`] and [`Rules`] (what part of it, by which rules), then [`simulate`]. [`optimal_one_zone`]
//! and [`plan_zones`] know the future and bound what a policy can reach.

mod optimal;
mod optimal_zones;
mod run;
mod steps;
mod trace;
mod window;

pub use optimal::optimal_one_zone;
pub use optimal_zones::{Planned, plan_zones};
pub use run::{Outcome, Step, simulate, simulate_logged};
pub use steps::read_step_function;
pub use trace::{ZoneTrace, read_zone_traces};
pub use window::{JobTerms, MoveCost, Rules, Visibility, Window};

#[cfg(test)]
mod tests;
