//! Death watch: how the end of an actor on another node, or of the whole peer, is told.

use std::fmt;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::outbound::Outgoing;

/// Why a connection ended, as this side sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerDown {
    /// Nothing was heard for the idle time: the process, the machine or the network is gone.
    Silent,
    /// The peer closed the connection.
    ClosedByPeer(String),
    /// This process closed the connection.
    ClosedHere(String),
    /// The connection broke in another way.
    Broken(String),
}

impl fmt::Display for PeerDown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => f.pad("nothing heard for too long"),
            Self::ClosedByPeer(reason) => write!(f, "closed by the peer: {reason}"),
            Self::ClosedHere(reason) => write!(f, "closed here: {reason}"),
            Self::Broken(reason) => write!(f, "connection broken: {reason}"),
        }
    }
}

/// How an actor ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitReason {
    /// It stopped, with the reason it or whoever stopped it gave, or it is no longer registered.
    Stopped(Option<String>),
    /// It panicked or returned an error; the text of that.
    Failed(String),
    /// Its whole peer is gone, so nothing is known about the actor.
    PeerDown(String),
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped(None) => f.pad("stopped"),
            Self::Stopped(Some(reason)) => write!(f, "stopped: {reason}"),
            Self::Failed(reason) => write!(f, "failed: {reason}"),
            Self::PeerDown(reason) => write!(f, "its peer is down: {reason}"),
        }
    }
}

/// Resolves once, when the watched actor has ended or its peer is down. Dropping it ends the watch.
pub struct ExitWatch {
    id: u64,
    exited: oneshot::Receiver<ExitReason>,
    outgoing: Arc<Outgoing>,
}

impl ExitWatch {
    pub(crate) fn new(id: u64, outgoing: Arc<Outgoing>) -> Self {
        Self { id, exited: outgoing.begin_watch(id), outgoing }
    }

    /// Waits for the end of the actor.
    pub async fn exited(mut self) -> ExitReason {
        (&mut self.exited).await.unwrap_or_else(|_| ExitReason::PeerDown("the connection is gone".to_owned()))
    }
}

impl fmt::Debug for ExitWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExitWatch").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Drop for ExitWatch {
    fn drop(&mut self) {
        self.outgoing.end_watch(self.id);
    }
}
