//! All-reduce between the workers of one job: how they find out who has the training state, and the slices of gradients
//! that they add up for each other.
//!
//! Every worker registers the actor `collective`. A membership begins with a hello from everybody to everybody; gradients
//! and states follow as bulk transfers, which arrive in any order, so each says what it belongs to.

use neap_scheduler::model::{MembershipEpoch, WorkerId};
use serde::{Deserialize, Serialize};

use crate::remote::Protocol;

/// Worker → worker, under `strategy: allreduce`.
#[derive(Debug)]
pub struct CollectiveProtocol;

/// The name under which the actor of [`CollectiveProtocol`] is registered.
pub const COLLECTIVE_ACTOR: &str = "collective";

impl Protocol for CollectiveProtocol {
    const NAME: &'static str = "collective";
    type Cast = ();
    type Request = CollectiveHello;
    type Reply = ();
    type BulkHeader = CollectiveHeader;
}

/// A worker has joined a membership, and this is where it stands. Answered as soon as it is noted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectiveHello {
    /// The membership.
    pub membership: MembershipEpoch,
    /// The worker.
    pub worker: WorkerId,
    /// Digest of the training data it uses; another one than that of the others ends the job.
    pub data_digest: [u8; 32],
    /// The training state it has, if any.
    pub state: Option<StateMark>,
    /// The step of the newest checkpoint that the control plane told it of.
    pub checkpoint_step: Option<u64>,
    /// The model of the device it computes on; another one than the lead's ends a job that must be bit-identical.
    pub device: String,
}

/// Which training state a worker has. Two workers with the same mark have the same bits. Ordered by how far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StateMark {
    /// Steps committed since the start of the job.
    pub step: u64,
    /// The membership under which the last of them was committed, or the state was restored.
    pub membership: MembershipEpoch,
}

/// Announces a bulk payload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CollectiveHeader {
    /// The membership; an older one is refused.
    pub membership: MembershipEpoch,
    /// What the payload is.
    pub content: CollectiveContent,
}

/// What a payload is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum CollectiveContent {
    /// One worker's gradients, as far as the receiver adds them up: of each part the slice that is the receiver's segment,
    /// as `f32`; then the ids of the samples used, part after part, as `u32`; then the losses of the logical shards,
    /// part after part, as `f64`.
    Slices {
        /// The step the gradients belong to, counted from 0 since the start of the job.
        step: u64,
        /// The nodes of the reduction tree that the sender has summed up.
        parts: Vec<SlicePart>,
    },
    /// The sender's segment of the sum over all workers, as `f32`.
    Sum {
        /// The step it belongs to.
        step: u64,
    },
    /// One hop around the ring: a segment as `f32`, then sample ids and losses as in [`Self::Slices`].
    Hop {
        /// The step it belongs to.
        step: u64,
        /// Which of the step's hops it is, counted from 0.
        number: u32,
        /// How many sample ids come along.
        samples: u32,
        /// How many losses come along.
        losses: u32,
    },
    /// A buffer of the training state, as `f32`.
    State(StatePart),
}

/// A node of the reduction tree in a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlicePart {
    /// The node's level; 0 are the logical shards themselves.
    pub level: u32,
    /// The node's position in its level.
    pub index: u32,
    /// How many samples were used.
    pub samples: u32,
    /// How many logical shards, each with a loss, lie below it.
    pub losses: u32,
}

/// One buffer of a training state. What the state has beyond its buffers comes with each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatePart {
    /// Which state.
    pub mark: StateMark,
    /// Which buffer: 0 are the parameters, then come the optimiser's; last the parameters at the end of `epoch_end`, where
    /// that was an earlier step.
    pub buffer: u32,
    /// How many buffers the state has.
    pub buffers: u32,
    /// Steps of the optimiser.
    pub optimiser_time: u64,
    /// Sum of losses in the epoch so far.
    pub epoch_loss: f64,
    /// Mean loss of a sample in the epoch before.
    pub last_epoch_loss: f64,
    /// The last epoch that ended, if the sender knows of one.
    pub epoch_end: Option<EpochEnd>,
}

/// The end of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EpochEnd {
    /// The epoch, counted from 0.
    pub epoch: u32,
    /// Samples committed in it.
    pub samples: u64,
    /// Digest of their ids in the order of commits.
    pub sample_digest: [u8; 32],
    /// Mean loss of a sample.
    pub train_loss: f64,
}
