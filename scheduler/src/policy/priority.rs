//! Priority with preemption that counts what it destroys.
//!
//! Higher priority is served first, the older job among equals. A waiting job may push out a running one of lower priority
//! if what that destroys is worth less than the waiting it saves:
//!
//! > (work since the victim's checkpoint + its restart) × price of the victim's nodes × the victim's priority
//! > < time until the victim would end by itself × price of the waiting job's smallest gang × the job's priority
//!
//! So an hour of a job of priority 1000 weighs as much as two hours of one of priority 500. When nothing is known about
//! the victim's end, it is expected to run for as long again as it has run (the median remaining lifetime of heavy-tailed
//! processes is their age: Harchol-Balter and Downey, ACM TOCS 15(3), 1997). A victim of which not even its start is known
//! is left alone. An elastic victim first gives up the workers above its minimum: survivors go on, so that costs no work.

use super::rule::{Policy, Preemption, Victim, Waiting, by_age};
use super::snapshot::{JobDemand, Snapshot};
use crate::model::{MicroUsd, MicroUsdPerHour, Millis};

/// By priority, then age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Priority;

impl Policy for Priority {
    fn name(&self) -> &'static str {
        "priority"
    }

    fn order<'a>(&self, snapshot: &'a Snapshot) -> Vec<&'a JobDemand> {
        let mut queue = by_age(snapshot);
        queue.sort_by_key(|job| std::cmp::Reverse(job.terms.priority));
        queue
    }

    fn preempts(&self, waiting: &Waiting<'_>, victim: &Victim<'_>) -> Option<Preemption> {
        if victim.job.terms.priority >= waiting.job.terms.priority {
            return None;
        }
        let lost = victim.rate.cost_of(victim.lost);
        let gained = waiting.rate.cost_of(expected_rest(victim.job, waiting.now)?);
        let weighted = |amount: MicroUsd, job: &JobDemand| u128::from(amount.get()) * u128::from(job.terms.priority);
        (weighted(lost, victim.job) < weighted(gained, waiting.job)).then_some(Preemption {
            by: waiting.job.id,
            lost,
            gained,
        })
    }
}

/// How long the job will run on: by its estimate, else for as long again as it has run.
fn expected_rest(job: &JobDemand, now: Millis) -> Option<Millis> {
    let workers = u32::try_from(job.placed.len()).unwrap_or(u32::MAX);
    let estimated = job.terms.work.map(|work| work.time_on(work.likely, workers));
    estimated.or_else(|| job.terms.running_since.map(|since| now.since(since)))
}

/// What all of these cost together in an hour.
pub(super) fn total(prices: impl Iterator<Item = MicroUsdPerHour>) -> MicroUsdPerHour {
    prices.fold(MicroUsdPerHour::new(0), |sum, price| MicroUsdPerHour::new(sum.get().saturating_add(price.get())))
}
