//! One authenticated connection to another node.

use std::net::SocketAddr;

use crate::identity::Role;
use crate::remote::{Protocol, RemoteError, RemoteRef};
use crate::watch::{ExitReason, ExitWatch, PeerDown};

/// Distinguishes connections within this process; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u64);

/// A peer has come or gone.
#[derive(Debug, Clone)]
pub enum PeerEvent {
    /// Connected and past the version handshake.
    Up(Peer),
    /// Gone; every sender and watcher of it has been told.
    Down {
        /// Which connection.
        id: PeerId,
        /// Who it was.
        role: Role,
        /// Why it ended.
        reason: PeerDown,
    },
}

/// An authenticated connection to another node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Peer {}

impl Peer {
    /// Which connection this is.
    pub fn id(&self) -> PeerId {
        unimplemented!()
    }

    /// Who is at the other end, as its certificate says.
    pub fn role(&self) -> Role {
        unimplemented!()
    }

    /// Where the other end is.
    pub fn remote_addr(&self) -> SocketAddr {
        unimplemented!()
    }

    /// Whether the connection still stands.
    pub fn is_alive(&self) -> bool {
        unimplemented!()
    }

    /// A reference to the actor registered there under `name`. Asks nobody: a wrong name shows with the first message.
    pub fn actor<P: Protocol>(&self, name: &str) -> RemoteRef<P> {
        let _ = name;
        unimplemented!()
    }

    /// Starts an actor there, by the name of a factory.
    ///
    /// # Errors
    ///
    /// [`RemoteError`] where there is no such factory, this role may not use it, or it refuses the arguments.
    pub async fn spawn<P: Protocol>(&self, factory: &str, args: Vec<u8>) -> Result<RemoteRef<P>, RemoteError> {
        let _ = (factory, args);
        unimplemented!()
    }

    /// Watches an actor there.
    ///
    /// # Errors
    ///
    /// [`RemoteError`] where there is no such actor, or this role may not watch it.
    pub async fn watch(&self, actor_name: &str) -> Result<ExitWatch, RemoteError> {
        let _ = actor_name;
        unimplemented!()
    }

    /// Watches an actor there and calls `hook` when it has ended.
    ///
    /// # Errors
    ///
    /// As [`Self::watch`].
    pub async fn on_actor_exit(
        &self,
        actor_name: &str,
        hook: impl FnOnce(ExitReason) + Send + 'static,
    ) -> Result<(), RemoteError> {
        let _ = (actor_name, hook);
        unimplemented!()
    }

    /// Ends the connection; the peer is told `reason`.
    pub fn close(&self, reason: &str) {
        let _ = reason;
        unimplemented!()
    }

    /// Waits for the end of the connection.
    pub async fn closed(&self) -> PeerDown {
        unimplemented!()
    }
}
