//! Death watch: how the end of an actor on another node, or of the whole peer, is told.

use std::fmt;

use serde::{Deserialize, Serialize};

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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitReason {
    /// It stopped, with the reason it or whoever stopped it gave, or it is no longer registered.
    Stopped(Option<String>),
    /// It panicked or returned an error; the text of that.
    Failed(String),
    /// Its whole peer is gone, so nothing is known about the actor.
    PeerDown(String),
}

/// Resolves once, when the watched actor has ended or its peer is down.
#[derive(Debug)]
pub struct ExitWatch {
    exited: tokio::sync::oneshot::Receiver<ExitReason>,
}

impl ExitWatch {
    /// Waits for the end of the actor.
    pub async fn exited(self) -> ExitReason {
        self.exited.await.unwrap_or_else(|_| ExitReason::PeerDown("the watch was dropped".to_owned()))
    }
}
