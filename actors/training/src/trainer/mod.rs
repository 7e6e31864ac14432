//! The trainer of a worker process: computes the gradients of the logical shards it carries.
//!
//! ```text
//! TrainerActor   receives parameters from a server in another process     (thin)
//!     │ TrainerEvent
//! TrainerThread  owns the networks, the batches and the way to the server
//!     └─ Crew    further computing threads, one network each
//! ```
//!
//! The thread keeps nothing that a new membership could not make anew: parameters come with every step.

mod actor;
mod crew;
mod gather;
mod send;
mod teller;
mod thread;

use neap_runtime::wire::training::ParametersHeader;
use neap_scheduler::elastic::ShardRange;
use neap_scheduler::model::MembershipEpoch;

pub(crate) use actor::{TrainerActor, TrainerMsg};
pub(crate) use crew::{Crew, compute_alone};
pub(crate) use teller::DataTeller;
pub(crate) use thread::{TrainerSetup, TrainerThread};

use crate::links::{ParameterValues, ServerLink};

/// What the trainer's thread is told.
pub(crate) enum TrainerEvent {
    /// Command: carry these logical shards under this membership; the servers are in the order of their segments.
    Assign { membership: MembershipEpoch, block: ShardRange, servers: Vec<ServerLink> },
    /// Command: carry nothing.
    Release,
    /// Event: a segment of the parameters of a step has come in.
    Parameters { header: ParametersHeader, values: ParameterValues },
}
