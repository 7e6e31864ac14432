//! The core of `neap plan`: what a job will cost and when it will be done, before it runs.
//!
//! Start at [`plan`]. The job is run many times, under the policy of production, through futures that are drawn from the
//! recorded past of its spot market ([`future`]); P50 and P95, chances and causes are read off the runs ([`draws`]);
//! then the same is done for the job with one thing changed, to find what would be cheaper. Where nothing is recorded, a
//! market is assumed ([`AssumedStays`]).
//!
//! Pure: the same input gives the same plan. It does not choose offers and knows no provider; whoever calls it hands in
//! the zones that the job may use, with their prices and their recorded availability.

mod assumed;
pub mod draws;
pub mod future;
mod job;
mod only;
mod plan;
mod run;

pub use assumed::{AssumedPrices, AssumedStays};
pub use draws::{Calibration, Draws};
pub use future::{Likeness, MarketHistory};
pub use job::{IDEAL_TIMES_MAX, PlanJob, Speedup};
pub use only::SpotOnly;
pub use plan::{Alternative, Change, Plan, PlanInput, PlanRefusal, UnsafeSpot, draw, plan};
pub use run::{Cause, RunOutcome, run};

/// What `neap plan` draws and reads with: fitted on the first halves of the recorded spot markets by
/// `cargo bench -p neap-scheduler --bench plan`, which prints it (`docs/benchmarks/plan.txt`).
pub const FITTED: (Likeness, Calibration) = (Likeness(0.05), Calibration { p50: 0.550, p95: 0.993 });

#[cfg(test)]
mod tests;
