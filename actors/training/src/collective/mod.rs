//! All-reduce: every worker holds the whole training state and takes the same step itself.
//!
//! ```text
//! CollectiveActor   receives hellos, slices, sums and states from the other workers        (thin)
//!     │ CollectiveEvent
//! CollectiveThread  computes, feeds the machines below, commits; the lead also feeds the keeper
//!     ├─ Rendezvous  who has the newest state, when a membership begins                      (pure)
//!     ├─ Exchange    gradients to their sum: along the tree, or around a ring                (pure)
//!     └─ link        task: the way to one other worker, one a membership and worker
//! ```
//!
//! The lead is the worker that the membership names as the server: it alone evaluates, writes checkpoints and the model, and
//! reports, with the parameter server's own keeper. What survives: the state, in every worker. Whatever belongs to another
//! membership is refused here (invariant 5).

mod actor;
mod batches;
mod exchange;
mod group;
mod link;
mod payload;
mod rendezvous;
mod ring;
mod thread;
mod tree;

use std::collections::BTreeMap;

use neap_runtime::BulkBuffer;
use neap_runtime::wire::collective::{CollectiveHeader, CollectiveHello};
use neap_runtime::wire::worker::Membership;
use neap_scheduler::model::WorkerId;
use tokio::sync::{mpsc, oneshot};

pub(crate) use actor::{CollectiveActor, CollectiveMsg};
pub(crate) use link::{LINK_QUEUE_MAX, LinkMessage, run as run_link};
pub(crate) use payload::{PayloadError, Piece, Tail, cut_slices, floats};
pub(crate) use thread::CollectiveThread;

/// The ways to the other workers of a membership.
pub(crate) type Links = BTreeMap<WorkerId, mpsc::Sender<LinkMessage>>;

/// Messages that may wait for the thread: in a step every other worker sends two, and may be a step ahead, so it is enough
/// for 256 workers that all have sent everything.
pub(crate) const COLLECTIVE_QUEUE_MAX: usize = 1024;

/// What the thread is told.
pub(crate) enum CollectiveEvent {
    /// Command: carry this worker's shards under this membership, with these ways to the others.
    Adopt { membership: Membership, links: Links },
    /// Event: another worker is there.
    Hello(CollectiveHello),
    /// Event: a payload has come in.
    Received { from: WorkerId, header: CollectiveHeader, payload: BulkBuffer },
    /// Command: save the state now, where this worker leads.
    Save,
    /// Command: finish what was begun, save the state before that where this worker leads and it is asked, then answer.
    Stop { save: bool, done: oneshot::Sender<()> },
}
