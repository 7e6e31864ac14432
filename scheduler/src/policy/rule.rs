//! The one thing policies differ in. A policy orders the queue, says how many workers each job should have, whether later
//! jobs may pass one that waits, and whom to preempt. How gangs are placed, grown, retired and explained is mechanism, and
//! the same under every policy.

use std::collections::BTreeMap;
use std::fmt::Debug;

use super::backfill::Backfill;
use super::fair_share::FairShare;
use super::fifo::Fifo;
use super::goodput::Goodput;
use super::priority::Priority;
use super::snapshot::{JobDemand, Snapshot};
use super::turnaround::Turnaround;
use crate::autoscale;
use crate::model::{JobId, MicroUsd, MicroUsdPerHour, Millis};

/// A scheduling policy.
pub trait Policy: Debug + Send + Sync {
    /// The name by which it is chosen.
    fn name(&self) -> &'static str;

    /// The jobs in the order in which they are served. Every job is in it once.
    fn order<'a>(&self, snapshot: &'a Snapshot) -> Vec<&'a JobDemand> {
        by_age(snapshot)
    }

    /// How many trainers the job should have now; between `workers.min` and `workers.max`. It `has` some on nodes that take
    /// work.
    fn target(&self, job: &JobDemand, has: u32, snapshot: &Snapshot) -> u32 {
        autoscale::worthwhile_workers(job, has, snapshot)
    }

    /// How many trainers jobs may have at most, where there are not enough nodes for what all want. A job that is not in it
    /// has no limit; `workers.min` is always granted.
    fn limits(&self, snapshot: &Snapshot) -> BTreeMap<JobId, u32> {
        let _ = snapshot;
        BTreeMap::new()
    }

    /// What may happen behind a job that cannot start yet.
    fn behind(&self) -> Behind {
        Behind::Waits
    }

    /// Whether a job that cannot start yet holds nobody back so far: it keeps nothing, and later ones take what is left.
    fn lets_pass(&self, job: &JobDemand, now: Millis) -> bool {
        let _ = (job, now);
        false
    }

    /// Whether running `victim` should give way to `job`, and why.
    fn preempts(&self, job: &Waiting<'_>, victim: &Victim<'_>) -> Option<Preemption> {
        let _ = (job, victim);
        None
    }
}

/// What may happen behind a job that cannot start yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    /// Nothing: strict order.
    Waits,
    /// What does not delay it.
    Backfills,
}

/// A job that could start if others gave way.
#[derive(Debug)]
pub struct Waiting<'a> {
    /// The job.
    pub job: &'a JobDemand,
    /// What its smallest gang would cost in an hour.
    pub rate: MicroUsdPerHour,
    /// The time of the decision.
    pub now: Millis,
}

/// A running job that could give way, as a whole or with the workers it can do without.
#[derive(Debug)]
pub struct Victim<'a> {
    /// The job.
    pub job: &'a JobDemand,
    /// What the nodes that it would leave cost in an hour.
    pub rate: MicroUsdPerHour,
    /// The time of all its workers that would be lost: nothing while enough of them go on.
    pub lost: Millis,
}

/// Why a job gives way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preemption {
    /// The job it gives way to.
    pub by: JobId,
    /// What is lost with it: work since its checkpoint and its restart, at the price of its nodes.
    pub lost: MicroUsd,
    /// What the waiting that is saved is worth.
    pub gained: MicroUsd,
}

/// A name that no policy has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no policy is named `{name}`; there are {}", known.join(", "))]
pub struct UnknownPolicy {
    /// The name.
    pub name: String,
    /// The names that there are.
    pub known: &'static [&'static str],
}

/// The names of all policies, the default first.
pub const POLICY_NAMES: [&str; 6] = ["fifo", "backfill", "fair_share", "priority", "goodput", "turnaround"];

impl dyn Policy {
    /// The policy of this name, with its default settings.
    ///
    /// # Errors
    ///
    /// [`UnknownPolicy`] where there is none; it lists the names.
    pub fn by_name(name: &str) -> Result<Box<dyn Policy>, UnknownPolicy> {
        Ok(match name {
            "fifo" => Box::new(Fifo),
            "backfill" => Box::new(Backfill),
            "fair_share" => Box::new(FairShare::default()),
            "priority" => Box::new(Priority),
            "goodput" => Box::new(Goodput),
            "turnaround" => Box::new(Turnaround),
            _ => return Err(UnknownPolicy { name: name.to_owned(), known: &POLICY_NAMES }),
        })
    }
}

/// The jobs, the oldest first.
pub(super) fn by_age(snapshot: &Snapshot) -> Vec<&JobDemand> {
    let mut queue: Vec<&JobDemand> = snapshot.jobs.iter().collect();
    queue.sort_by_key(|job| (job.submitted, job.id));
    queue
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_policy_and_another_lists_them() {
        for name in POLICY_NAMES {
            assert_eq!(<dyn Policy>::by_name(name).unwrap().name(), name);
        }
        let error = <dyn Policy>::by_name("lottery").unwrap_err().to_string();
        let names = "fifo, backfill, fair_share, priority, goodput, turnaround";
        assert_eq!(error, format!("no policy is named `lottery`; there are {names}"));
    }
}
