//! An actor that runs in this process, as others here see it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use ractor::{ActorRef, ActorStatus};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::shell::ShellMsg;
use crate::lock;
use crate::registry::Registration;
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
    /// How much room there is where nobody takes any.
    pub(super) mailbox: u32,
    /// How other processes reach it.
    pub(super) registration: OnceLock<Registration>,
    pub(super) signals: Arc<Signals>,
}

/// What an actor's shell and the rest of the process tell each other beside messages.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// Why it is between two lives, or has ended.
    pub(super) failed: Mutex<Option<String>>,
    /// Why it has to fail: a child of it did.
    pub(super) escalated: Mutex<Option<String>>,
    /// That a node has to go, and when. Heard before the next message.
    pub(super) notice: Mutex<Option<Instant>>,
    /// Whether it has heard that.
    pub(super) heard: AtomicBool,
    /// Whether it is to leave.
    leaving: AtomicBool,
    /// Whether it ended because it has left: it begins anew elsewhere.
    pub(super) left: AtomicBool,
    /// Whether it was cut off.
    cut_off: AtomicBool,
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
        self.signals.cut_off.store(true, Ordering::Relaxed);
        self.sender.get_cell().kill();
    }

    pub(super) fn escalate(&self, why: String) {
        *lock(&self.signals.escalated) = Some(why);
        // Where it has ended meanwhile, it has failed enough.
        let _ = self.send(ShellMsg::Escalated);
    }

    /// Why it ended, where it failed.
    pub(super) fn failure(&self) -> Option<String> {
        let cut_off = self.signals.cut_off.load(Ordering::Relaxed).then(|| "cut off".to_owned());
        lock(&self.signals.failed).take().or(cut_off)
    }

    /// Has it hear, before its next message, that a node has to go.
    pub(super) fn tell_notice(&self, deadline: Instant) {
        *lock(&self.signals.notice) = Some(deadline);
        // Where it has ended meanwhile, there is nothing to hear.
        let _ = self.send(ShellMsg::Notice);
    }

    /// Whether it has heard that, or has ended.
    pub(super) fn has_heard(&self) -> bool {
        !self.is_alive() || self.signals.heard.load(Ordering::Acquire)
    }

    /// Takes no more messages: senders look for it elsewhere. What they have sent is still handled.
    pub(super) fn close(&self) {
        self.signals.leaving.store(true, Ordering::Release);
        self.room.close();
        if let Some(registration) = self.registration.get() {
            registration.close();
        }
    }

    /// After [`Self::close`]: whether everything that was sent is handled.
    pub(super) fn is_quiet(&self) -> bool {
        let remote = self.registration.get().is_none_or(Registration::is_quiet);
        !self.is_alive() || remote && self.room.available_permits() == self.mailbox as usize
    }

    /// Whether it has left, or has heard that it will end with its node.
    pub(super) fn is_ready_to_go(&self) -> bool {
        !self.is_alive() || self.has_heard() && !self.signals.leaving.load(Ordering::Acquire)
    }

    /// Whether it ended because it has left.
    pub(super) fn has_left(&self) -> bool {
        self.signals.left.load(Ordering::Acquire)
    }
}
