//! The parameter server of a worker process. Every worker has one; it serves while the membership says so.
//!
//! ```text
//! ServerActor    receives hellos and gradients from other processes        (thin)
//!     │ ServerEvent
//! ServerHandle   the training state behind a lock: a thread for events from outside, the trainer of this process
//!                  one kind of server for steps that all workers make together, one for those that do not wait
//!     │ KeeperJob, from snapshots
//! Keeper         evaluates, writes the model, reports
//!     │ the newest snapshot
//! Saver          writes checkpoints, reports
//! ```
//!
//! What survives: nothing in memory is needed, a server starts from a checkpoint or from the job's seed. Gradients of
//! another membership are refused here (invariant 5).

mod actor;
mod checkpoint;
mod due;
mod gradients;
mod keeper;
mod meter;
mod paces;
mod relaxed;
mod saver;
mod thread;

use neap_runtime::wire::training::TrainerHello;
use neap_runtime::wire::worker::Membership;
use tokio::sync::oneshot;

pub(crate) use actor::{ServerActor, ServerMsg};
pub(crate) use keeper::Keeper;
pub(crate) use thread::{ServerHandle, ServerSetup};

use crate::links::{Gradients, TrainerLink};

/// What the server's thread is told.
pub(crate) enum ServerEvent {
    /// Command: serve under this membership.
    Serve(Membership),
    /// Command: another worker is the server now.
    Retire,
    /// Event: a trainer waits for parameters.
    Attach { hello: TrainerHello, link: TrainerLink },
    /// Event: gradients have come in.
    Gradients(Gradients),
    /// Command: save the state now, where this worker serves.
    Save,
    /// Command: finish what was begun, save the state before that where asked, then answer.
    Stop { save: bool, done: oneshot::Sender<()> },
}
