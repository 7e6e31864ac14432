//! The actor network of Neap: typed messages between ractor actors of different processes, straight on QUIC.
//!
//! Read in this order: [`identity`] (roles, certificates, the authority), [`node`] (one endpoint of this process),
//! [`registry`] (what peers can reach here), [`peer`] (one connection), [`remote`] (typed references and what an actor
//! receives), [`bulk`] (payloads), [`watch`] (ends of actors and peers), [`join`] (how a new node gets its certificate),
//! [`transport`] (how QUIC is used), [`codec`] (the only place that knows the encoding), [`wire`] (the messages
//! themselves), [`workload`] (worker processes), [`system`] (actors of one's own over the workers of a job).
//!
//! Inside, one connection is: `handshake` (first words), `writer` and `dispatch` (frames out and in), `outbound` and
//! `inbound` (channels with credit), `transfer` (bulk), `frame` (what travels).
//!
//! # Limits
//!
//! Everything that waits has a limit: messages and bulk bytes per peer and actor ([`registry::MAILBOX_MESSAGES_MAX`],
//! [`registry::MAILBOX_BULK_BYTES_MAX`]; senders wait or get `Busy`), bulk bytes per peer
//! ([`node::NodeConfig::bulk_bytes_per_peer`]), frames ([`codec::MESSAGE_BYTES_MAX`]; a longer one closes the connection),
//! peers ([`node::NodeConfig::peers_max`]; more are refused).

#![forbid(unsafe_code)]

pub mod identity;

pub mod node;

pub mod registry;

pub mod peer;

pub mod remote;

pub mod bulk;

pub mod watch;

pub mod join;

pub mod transport;

pub mod codec;

pub mod workload;

pub mod system;

pub mod wire;

mod congestion;

mod dispatch;

mod frame;

mod handshake;

mod inbound;

mod outbound;

mod transfer;

mod writer;

pub use bulk::{BulkBuffer, BulkSlice};
pub use identity::{CertificateAuthority, CertificateRequest, Identity, IdentityError, Role};
pub use join::{JoinError, JoinServer, JoinToken, join};
pub use node::{ConnectError, Node, NodeConfig, NodeError};
pub use peer::{Peer, PeerEvent, PeerId};
pub use registry::{Access, MailboxLimits, RegisterError, Registration};
pub use remote::{Credit, Inbound, Protocol, RemoteError, RemoteRef, ReplyTo};
pub use watch::{ExitReason, ExitWatch, PeerDown};

/// Locks a mutex. A panic of another holder leaves counters and tables in a usable state, so its poison is ignored: one
/// failed task must not take the connection down with it.
fn lock<T: ?Sized>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
