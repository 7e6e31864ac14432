//! Whether a worker should change its node: from on-demand back to spot, or away from a node that it alone keeps rented.
//!
//! The saving is the difference in the cost of useful hours until the job ends (the whole price of the old node where the
//! new one is rented anyway); it must exceed the work lost since the checkpoint and the restart of all workers, and the
//! boot of a node that has to be rented first. Jobs without an estimate stay where they are.

use crate::model::{MicroUsd, MicroUsdPerHour, Millis};
use crate::policy::JobDemand;

/// What moving a worker is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Saving {
    /// What is expected to be saved until the job ends.
    pub saved: MicroUsd,
    /// What moving costs.
    pub moving: MicroUsd,
}

/// What a job with `rate` for all its nodes saves by moving one worker from an hour at `from` to an hour at `to`, if the
/// new node takes `boot` to come; nothing if moving costs as much.
pub fn moving(
    job: &JobDemand,
    rate: MicroUsdPerHour,
    from: MicroUsdPerHour,
    to: MicroUsdPerHour,
    boot: Millis,
) -> Option<Saving> {
    saving(job, rate, from, to, boot).filter(|saving| saving.saved > saving.moving)
}

/// The same, whether or not moving costs more than it saves; nothing if it is not known how long the job takes.
pub fn saving(
    job: &JobDemand,
    rate: MicroUsdPerHour,
    from: MicroUsdPerHour,
    to: MicroUsdPerHour,
    boot: Millis,
) -> Option<Saving> {
    let work = job.terms.work?;
    let workers = u32::try_from(job.placed.len()).unwrap_or(u32::MAX);
    let rest = work.time_on(work.low, workers.saturating_sub(u32::from(job.separate_server)).max(1));
    let by = MicroUsdPerHour::new(from.get().saturating_sub(to.get()));
    let saved = by.cost_of(rest.since(boot));
    let moving = rate.cost_of(job.terms.since_checkpoint + job.terms.restart) + to.cost_of(boot);
    Some(Saving { saved, moving })
}
