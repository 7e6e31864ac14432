//! Deciding what runs where, what to rent and what to give back: a function from a [`Snapshot`] to a [`Plan`].
//!
//! The snapshot may be stale; whoever executes the plan checks each action against the state it then finds. The plan is
//! complete: nothing is left to choose, and everything done or not done has its reason. Start at [`decide`].

pub mod adaptive;
mod decide;
mod plan;
mod snapshot;

pub use decide::{cheapest_fit, decide};
pub use plan::{AcquireReason, Action, KeepReason, Plan, ReleaseReason, RetireReason, StartReason, WaitReason};
pub use snapshot::{JobDemand, NodeSupply, Placed, PlacedRole, Snapshot};

#[cfg(test)]
mod tests;
