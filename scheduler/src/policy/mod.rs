//! Deciding what runs where, what to rent and what to give back: a function from a [`Snapshot`] to a [`Plan`].
//!
//! The snapshot may be stale; whoever executes the plan checks each action against the state it then finds. The plan is
//! complete: nothing is left to choose, and everything done or not done has its reason. Start at [`decide`]; a [`Policy`]
//! says in what order jobs are served and who gives way, and everything else is one mechanism. [`deadline`] is
//! a policy of its own: where one job with a deadline runs next.

pub mod deadline;

pub mod adaptive;
mod decide;
mod free;
mod give_way;
mod keep;
mod plan;
mod reason_text;
mod relocate;
mod reservation;
mod serve;
mod snapshot;
mod terms;
mod wanted;

mod backfill;
mod fair_share;
mod fifo;
mod goodput;
mod priority;
mod rule;
mod turnaround;

mod applied;
#[cfg(test)]
pub(crate) use reservation::has_room as reservation_room;

pub use applied::applied;
pub use backfill::Backfill;
pub use decide::{cheapest_fit, decide, decide_with};
pub use fair_share::FairShare;
pub use fifo::Fifo;
pub use goodput::Goodput;
pub use plan::{AcquireReason, Action, KeepReason, Plan, ReleaseReason, RetireReason, StartReason, WaitReason};
pub use priority::Priority;
pub use rule::{Behind, POLICY_NAMES, Policy, Preemption, UnknownPolicy, Victim, Waiting};
pub use snapshot::{JobDemand, NodeSupply, Placed, PlacedRole, Snapshot};
pub use terms::{
    Account, Accounts, JobTerms, MarketNow, NodeTerms, Objective, PRIORITY_DEFAULT, PRIORITY_MAX, RentAgain, WorkLeft,
};
pub use turnaround::{PATIENCE, Turnaround};

#[cfg(test)]
mod properties;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
