//! The parameter server of a worker process. Every worker has one; it serves while the membership says so.
//!
//! ```text
//! ServerActor    receives hellos and gradients from other processes        (thin)
//! SegmentActor   receives from the job's other servers                     (thin)
//!     │ ServerEvent
//! ServerHandle   the training state behind a lock: a thread for events from outside, the trainer of this process
//!                  one kind of server for steps that all workers make together, one for those that do not wait
//!     │ KeeperJob, from snapshots
//! Keeper         evaluates, writes the model, reports
//!     │ the newest snapshot
//! Saver          writes checkpoints, reports
//! ```
//!
//! Of several servers each holds a segment of the parameters. The first one leads ([`others`]): it alone keeps the books,
//! decides when a step is made, and collects the segments for the keeper ([`collect`]). The others ([`holder`]) are never
//! ahead of it.
//!
//! A single server may have a replica in another worker ([`mirror`]), which makes every step too ([`replicate`]); a step
//! counts when both have made it.
//!
//! What survives: a replica, where there is one; otherwise nothing in memory is needed, a server starts from a checkpoint or
//! from the job's seed. Gradients of another membership are refused here (invariant 5).

mod actor;
mod aftermath;
mod checkpoint;
mod collect;
mod due;
mod gradients;
mod holder;
mod keeper;
mod lead;
mod meter;
mod mirror;
mod others;
mod paces;
mod relaxed;
mod replicate;
mod saver;
mod segment_actor;
mod thread;

use std::collections::BTreeMap;

use neap_runtime::BulkBuffer;
use neap_runtime::wire::training::{SegmentHeader, SegmentMessage, TrainerHello};
use neap_runtime::wire::worker::Membership;
use neap_scheduler::model::WorkerId;
use tokio::sync::oneshot;

pub(crate) use actor::{ServerActor, ServerMsg};
pub(crate) use aftermath::tell_of;
pub(crate) use checkpoint::RestoreError;
pub(crate) use due::Due;
pub(crate) use keeper::{Keeper, KeeperJob};
pub(crate) use meter::Meter;
pub(crate) use segment_actor::{SegmentActor, SegmentMsg};
pub(crate) use thread::{ServerHandle, ServerSetup};

use crate::links::{Gradients, SegmentLink, TrainerLink};

/// What the server's thread is told.
pub(crate) enum ServerEvent {
    /// Command: hold the segment in this place under this membership. The first server leads and has a way to every other
    /// one and to its replica, the others have one to it.
    Serve { membership: Membership, place: usize, links: BTreeMap<WorkerId, SegmentLink> },
    /// Command: other workers are the servers now.
    Retire,
    /// Event: a trainer waits for parameters.
    Attach { hello: TrainerHello, link: TrainerLink },
    /// Event: gradients have come in.
    Gradients(Gradients),
    /// Event: gradients have come in, in the code of the job's compression.
    Coded(Gradients),
    /// Event: another server of the job, or this one's replica, has said something.
    Told { from: WorkerId, message: SegmentMessage },
    /// Command: hold a replica of the server's state under this membership, with a way to the server.
    Replicate { membership: Membership, link: SegmentLink },
    /// Event: another server, or the one that is replicated here, has sent something.
    Bulk { from: WorkerId, header: SegmentHeader, payload: BulkBuffer },
    /// Command: save the state now, where this worker serves.
    Save,
    /// Command: finish what was begun, save the state before that where asked, then answer.
    Stop { save: bool, done: oneshot::Sender<()> },
}
