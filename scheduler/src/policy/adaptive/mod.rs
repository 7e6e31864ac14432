//! Dividing a cluster of GPUs of several types among training jobs that can change size.
//!
//! Start at [`AllocationPolicy`]. A policy sees a [`ClusterView`] and [`Observation`]s, nothing else, and answers with an
//! [`Allocation`] that carries a reason for every job.

mod allocation;
mod goodput;
mod history;
mod market;
mod named;
mod options;
mod prices;
mod queue;
mod seats;
mod throughput;
mod view;

pub use allocation::{
    Allocation, AllocationPolicy, Grant, GrantReason, Misgrant, WaitReason, requested_batch, split_batch,
};
pub use goodput::{Bound, Goodput, GoodputSettings};
pub use named::ADAPTIVE_POLICY_NAMES;
pub use queue::{Fifo, LeastService};
pub use view::{
    AppIndex, AppOnType, AppView, Batch, ClusterView, Demand, GpuTypeIndex, GpuTypeView, GradientStats, Holding,
    JobView, Observation, Placement, Shape,
};

#[cfg(test)]
mod tests;
