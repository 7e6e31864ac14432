//! What peers can reach here: registered actors and factories, who may reach them, and how much they may send.

use std::fmt;
use std::sync::Arc;

use neap_scheduler::model::{JobId, NodeId};

use crate::identity::Role;

/// How many messages one peer may have waiting at one actor unless its registration says otherwise.
pub const MAILBOX_MESSAGES_MAX: u32 = 4096;

/// How many bytes of bulk payloads one peer may have waiting at one actor unless its registration says otherwise. It is
/// also the largest payload that the actor takes in one piece.
pub const MAILBOX_BULK_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// How much one peer may have waiting at one actor. At the limit its senders wait, or get `Busy`; nobody else notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MailboxLimits {
    /// Messages of all kinds.
    pub messages: u32,
    /// Bytes of bulk payloads; also the largest payload taken in one piece.
    pub bulk_bytes: u64,
}

impl Default for MailboxLimits {
    fn default() -> Self {
        Self { messages: MAILBOX_MESSAGES_MAX, bulk_bytes: MAILBOX_BULK_BYTES_MAX }
    }
}

/// Who may talk to an actor, watch it, or use a factory, and how much each of them may have waiting. Nobody, unless said
/// otherwise.
#[derive(Clone)]
pub struct Access {
    who: Arc<dyn Fn(&Role) -> bool + Send + Sync>,
    limits: MailboxLimits,
}

impl Access {
    /// Nobody.
    pub fn nobody() -> Self {
        Self::only(|_| false)
    }

    /// Those whom the predicate lets in.
    pub fn only(who: impl Fn(&Role) -> bool + Send + Sync + 'static) -> Self {
        Self { who: Arc::new(who), limits: MailboxLimits::default() }
    }

    /// The control plane.
    pub fn control() -> Self {
        Self::only(|role| *role == Role::Control)
    }

    /// The agent of one node.
    pub fn node(node: NodeId) -> Self {
        Self::only(move |role| *role == Role::Node(node))
    }

    /// The agents of all nodes.
    pub fn nodes() -> Self {
        Self::only(|role| matches!(role, Role::Node(_)))
    }

    /// The workers of one job.
    pub fn workers_of(job: JobId) -> Self {
        Self::only(move |role| matches!(role, Role::Worker { job: theirs, .. } if *theirs == job))
    }

    /// The same, with other limits than the default.
    #[must_use]
    pub fn with_limits(self, limits: MailboxLimits) -> Self {
        Self { limits, ..self }
    }

    /// Whether this role may.
    pub fn allows(&self, role: &Role) -> bool {
        (self.who)(role)
    }

    /// How much each peer may have waiting.
    pub fn limits(&self) -> MailboxLimits {
        self.limits
    }
}

impl Default for Access {
    fn default() -> Self {
        Self::nobody()
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// A name that cannot be registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// Another actor or factory has it.
    #[error("`{0}` is already registered")]
    Taken(String),
    /// Empty, or longer than a name may be.
    #[error("`{0}` is empty or too long for a name")]
    BadName(String),
}

/// An actor's entry among those that peers can reach. It lasts as long as the actor, whatever becomes of this value.
#[derive(Debug)]
pub struct Registration {}

impl Registration {
    /// Ends it before the actor ends: peers get [`crate::RemoteError::NoSuchActor`] from now on.
    pub fn unregister(self) {
        unimplemented!()
    }
}
