//! Production in a virtual clock: jobs arrive, [`decide_with`](crate::policy::decide_with) decides as it does in production,
//! a provider boots nodes, fails, and takes spot nodes back.
//!
//! Discrete events, one seed, no threads: the same world, policy and seed give the same report. Ground truth (work, boot
//! times, lifetimes of nodes) stays in the [`World`]; the policy sees a [`Snapshot`](crate::policy::Snapshot) of what a control
//! plane would know: estimates where the job has one, interruptions as counted so far, back-off after failed launches.
//!
//! Not modelled: the time a plan takes to be carried out, network and data placement, and speed that depends on the kind of node.
//! Start at [`simulate`]; worlds are described in `world`, made from traces in `traces` and from recorded rounds in `recorded`, and compared by [`diff`].

mod engine;
mod nodes;
mod outcome;
mod recorded;
mod runs;
mod traces;
mod view;
mod world;

pub use engine::{simulate, simulate_watched};
pub use outcome::{JobChange, JobOutcome, NodeOutcome, Report, UseSample, diff};
pub use recorded::{RecordedWorld, recorded_world};
pub use traces::{gpu_cluster, openb_nodes, openb_pods, philly_jobs, shockwave_jobs};
pub use world::{Estimate, FixedNode, Provider, Settings, SimJob, World};

#[cfg(test)]
mod tests;
