//! An actor that runs in this process, as others here see it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use ractor::{ActorRef, ActorStatus};
use tokio::sync::Semaphore;

use super::shell::ShellMsg;
use crate::lock;
use crate::wire::actors::Incarnation;

/// An actor that runs in this process.
pub(super) struct Running {
    /// Its number among those of this process.
    pub(super) number: u64,
    pub(super) of: Incarnation,
    pub(super) path: String,
    pub(super) sender: ActorRef<ShellMsg>,
    /// Room for messages from this process.
    pub(super) room: Arc<Semaphore>,
    /// Why it is between two lives, or has ended.
    pub(super) failed: Arc<Mutex<Option<String>>>,
    /// Why it has to fail: a child of it did.
    pub(super) escalated: Arc<Mutex<Option<String>>>,
    /// Whether it was cut off.
    pub(super) told: AtomicBool,
}

impl Running {
    pub(super) fn is_alive(&self) -> bool {
        self.sender.get_status() < ActorStatus::Stopping
    }

    pub(super) fn send(&self, message: ShellMsg) -> Result<(), ()> {
        self.sender.cast(message).map_err(|_| ())
    }

    /// Ends it at the next point where it waits.
    pub(super) fn kill(&self) {
        self.told.store(true, Ordering::Relaxed);
        self.sender.get_cell().kill();
    }

    pub(super) fn escalate(&self, why: String) {
        *lock(&self.escalated) = Some(why);
        // Where it has ended meanwhile, it has failed enough.
        let _ = self.send(ShellMsg::Escalated);
    }

    /// Why it ended, where it failed.
    pub(super) fn failure(&self) -> Option<String> {
        let cut_off = self.told.load(Ordering::Relaxed).then(|| "cut off".to_owned());
        lock(&self.failed).take().or(cut_off)
    }
}
