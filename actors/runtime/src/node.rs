//! A node of the actor network: one QUIC endpoint of this process that both listens and dials.

use std::net::SocketAddr;

use ractor::{Actor, ActorRef};
use tokio::sync::broadcast;

use crate::identity::{Identity, IdentityError, Role};
pub use crate::peer::Peer;
use crate::peer::PeerEvent;
use crate::registry::{Access, RegisterError, Registration};
use crate::remote::{Inbound, Protocol};

/// Settings of a [`Node`].
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// What this side calls itself in the version handshake.
    pub build: String,
    /// How many bytes of bulk payloads one peer may have in this process at a time, over all actors.
    pub bulk_bytes_per_peer: u64,
    /// How many peers may be connected at a time; more are refused.
    pub peers_max: usize,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self { build: env!("CARGO_PKG_VERSION").to_owned(), bulk_bytes_per_peer: 1024 * 1024 * 1024, peers_max: 1024 }
    }
}

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The address is not to be had.
    #[error("failed to listen on {addr}; choose another port, or stop what uses it")]
    Bind {
        /// The address asked for.
        addr: SocketAddr,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The identity is of no use.
    #[error("failed to use this process's identity")]
    Identity(#[from] IdentityError),
    /// The node's own supervisor could not start.
    #[error("failed to start the supervisor of remotely started actors: {0}")]
    Supervisor(String),
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answered in time.
    #[error("no answer from {addr}")]
    Unreachable {
        /// The address dialled.
        addr: SocketAddr,
    },
    /// The peer is signed by our authority but has another role.
    #[error("the process at {addr} is not {expected}: {reason}")]
    WrongRole {
        /// The address dialled.
        addr: SocketAddr,
        /// The role asked for.
        expected: Role,
        /// What the TLS library says.
        reason: String,
    },
    /// The peer's certificate is not signed by our authority, or has expired.
    #[error("the process at {addr} cannot be trusted: {reason}")]
    Untrusted {
        /// The address dialled.
        addr: SocketAddr,
        /// What the TLS library says.
        reason: String,
    },
    /// The peer refuses us.
    #[error("{addr} refuses this process: {reason}")]
    Refused {
        /// The address dialled.
        addr: SocketAddr,
        /// The peer's reason.
        reason: String,
    },
    /// No version of the protocol is spoken by both.
    #[error("{addr} speaks another version of the protocol: {reason}")]
    Version {
        /// The address dialled.
        addr: SocketAddr,
        /// Both ranges.
        reason: String,
    },
    /// The connection broke while it was being made.
    #[error("failed to connect to {addr}: {reason}")]
    Broken {
        /// The address dialled.
        addr: SocketAddr,
        /// The cause.
        reason: String,
    },
}

/// One QUIC endpoint of this process. Cheap to clone; [`Node::shutdown`] ends it.
#[derive(Clone)]
pub struct Node {}

impl Node {
    /// Starts listening on `bind` (port 0: any). Call it inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`NodeError`].
    pub fn start(identity: &Identity, bind: SocketAddr, config: NodeConfig) -> Result<Self, NodeError> {
        let _ = (identity, bind, config);
        unimplemented!()
    }

    /// Who this node is.
    pub fn role(&self) -> Role {
        unimplemented!()
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        unimplemented!()
    }

    /// Makes a new connection to the process with this role. Every call makes one: callers that want one keep it.
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    pub async fn connect(&self, addr: SocketAddr, expect: Role) -> Result<Peer, ConnectError> {
        let _ = (addr, expect);
        unimplemented!()
    }

    /// Lets peers reach `actor` under `name`, as long as it lives.
    ///
    /// # Errors
    ///
    /// [`RegisterError`] where the name is taken or too long.
    pub fn register<P, M>(
        &self,
        name: &str,
        actor: ActorRef<M>,
        access: Access,
    ) -> Result<Registration, RegisterError>
    where
        P: Protocol,
        M: From<Inbound<P>> + ractor::Message,
    {
        let _ = (name, actor, access);
        unimplemented!()
    }

    /// Lets peers start actors here by name. `make` builds an actor and its arguments from what the peer sent; the actor
    /// is supervised by this node, and reachable for whoever `access` lets in.
    ///
    /// # Errors
    ///
    /// [`RegisterError`] where the name is taken or too long.
    pub fn register_factory<P, A, F>(
        &self,
        name: &str,
        access: Access,
        make: F,
    ) -> Result<(), RegisterError>
    where
        P: Protocol,
        A: Actor,
        A::Msg: From<Inbound<P>>,
        F: Fn(Role, Vec<u8>) -> Result<(A, A::Arguments), String> + Send + Sync + 'static,
    {
        let _ = (name, access, make);
        unimplemented!()
    }

    /// Peers as they come and go. A receiver that falls behind by more than a thousand events misses some; take
    /// [`Self::peers`] then.
    pub fn peer_events(&self) -> broadcast::Receiver<PeerEvent> {
        unimplemented!()
    }

    /// Calls `hook` whenever a peer is gone, from the connection's own task: it must not block.
    pub fn on_peer_down(&self, hook: impl Fn(&Peer, &crate::watch::PeerDown) + Send + Sync + 'static) {
        let _ = hook;
        unimplemented!()
    }

    /// The peers connected now.
    pub fn peers(&self) -> Vec<Peer> {
        unimplemented!()
    }

    /// Closes every connection and stops listening.
    pub async fn shutdown(&self) {
        unimplemented!()
    }
}
