//! How many workers a job should have.
//!
//! The next node is bought only if that lowers what the objective counts: the expected cost until the job ends
//! (`min_cost`), its time (`min_time`), or the cost with an hour valued like an hour of the smallest gang (`balanced`);
//! or if the deadline would be missed without. Work speeds up by Amdahl's law. A node more costs its boot, a node less
//! costs a restart, so a choice once made is not undone by looking again: switching costs obey the triangle inequality.
//! A job of which nothing is known has the target of its file; so has one that was seen with one number of workers only,
//! unless its deadline needs more.

use crate::model::{MicroUsd, Millis, Offer};
use crate::policy::{AcquireReason, JobDemand, Objective, Snapshot, WorkLeft};

use super::offers::{cheapest, useful_price};

/// What is expected of a job with a number of workers. Durations, not dollars: all its nodes cost alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outlook {
    /// Until it ends, booting and regrouping included.
    pub time: Millis,
    /// What it pays for until then, as the time of one node.
    pub node_time: Millis,
}

/// What is expected of a job that has `has` workers and goes on with `workers`, if a node takes `boot` to come.
pub fn outlook(job: &JobDemand, work: WorkLeft, has: u32, workers: u32, boot: Millis) -> Outlook {
    expected(job, work, work.likely, has, workers, boot)
}

/// How many trainers a job that `has` some should have now, between `workers.min` and `workers.max`.
pub fn worthwhile_workers(job: &JobDemand, has: u32, snapshot: &Snapshot) -> u32 {
    let range = job.workers;
    let Some(work) = job.terms.work.filter(|_| range.min < range.max) else { return range.target };
    let boot = cheapest(job, snapshot.offers.iter()).map_or(Millis::ZERO, |offer| offer.boot);
    let late = |workers: u32| lateness(job, work, has, workers, boot, snapshot.now);
    if work.serial_permille.is_none() {
        // Whether more workers would speed it up is not known, so only a deadline is a reason for more than the target.
        let least_late = (range.target..=range.max).min_by_key(|&workers| (late(workers), workers));
        return least_late.unwrap_or(range.target);
    }
    let best = (range.min..=range.max).min_by_key(|&workers| {
        let outlook = outlook(job, work, has, workers, boot);
        (late(workers), value(job, &outlook), workers.abs_diff(has), workers)
    });
    best.unwrap_or(range.target)
}

/// Why one node more than `has` is rented from `offer`, for a job that could run without it.
pub(crate) fn growth_reason(job: &JobDemand, has: u32, offer: &Offer, now: Millis) -> AcquireReason {
    let price = offer.price;
    let has = has.saturating_sub(u32::from(job.separate_server));
    let Some(work) = job.terms.work.filter(|_| has > 0) else { return AcquireReason::Growth { price } };
    let late = lateness(job, work, has, has, offer.boot, now);
    if late > Millis::ZERO {
        return AcquireReason::Deadline { price, late };
    }
    let (before, after) = (outlook(job, work, has, has, offer.boot), outlook(job, work, has, has + 1, offer.boot));
    let useful = useful_price(job, price, offer.terms.interruptions_per_1000_h);
    let cost = |outlook: Outlook| -> MicroUsd { useful.cost_of(outlook.node_time) };
    AcquireReason::PaysOff { price, sooner: before.time.since(after.time), without: cost(before), with: cost(after) }
}

/// By how much the deadline is missed if the work is as long as it may be. Before a node is let go, the time that getting
/// it back would take must be there too; else it would be rented for the deadline and let go as soon as it has come.
fn lateness(job: &JobDemand, work: WorkLeft, has: u32, workers: u32, boot: Millis, now: Millis) -> Millis {
    let back = if workers < has { boot.since(job.terms.restart) } else { Millis::ZERO };
    job.terms.deadline.map_or(Millis::ZERO, |deadline| {
        (now + expected(job, work, work.high, has, workers, boot).time + back).since(deadline)
    })
}

fn expected(job: &JobDemand, work: WorkLeft, amount: Millis, has: u32, workers: u32, boot: Millis) -> Outlook {
    let waits = match workers.cmp(&has) {
        std::cmp::Ordering::Greater => boot,
        std::cmp::Ordering::Equal => Millis::ZERO,
        std::cmp::Ordering::Less => job.terms.restart,
    };
    let run = work.time_on(amount, workers);
    let booting = boot.get().saturating_mul(u64::from(workers.saturating_sub(has)));
    // All that are there pause, however many go: with a cost that grew with those that stay, leaving two and renting one
    // could look cheaper than leaving one.
    let regrouping = if workers < has { job.terms.restart.get().saturating_mul(u64::from(has)) } else { 0 };
    let paid = work.node_time_on(amount, workers).get().saturating_add(booting).saturating_add(regrouping);
    Outlook { time: run + waits, node_time: Millis::new(paid) }
}

/// What the objective makes smallest.
fn value(job: &JobDemand, outlook: &Outlook) -> (u128, u128) {
    let (time, cost) = (u128::from(outlook.time.get()), u128::from(outlook.node_time.get()));
    match job.terms.objective {
        // A node that only leaves the cost as it is does not pay for itself.
        Objective::MinCost => (cost, 0),
        Objective::MinTime => (time, cost),
        Objective::Balanced => (cost + u128::from(job.workers.min) * time, time),
    }
}
