//! The actor network of Neap: typed messages between ractor actors of different processes, straight on QUIC.
//!
//! Read in this order: [`identity`] (roles, certificates, the authority), [`node`] (one endpoint of this process),
//! [`registry`] (what peers can reach here), [`peer`] (one connection), [`remote`] (typed references and what an actor
//! receives), [`bulk`] (payloads), [`watch`] (ends of actors and peers), [`join`] (how a new node gets its certificate),
//! [`codec`] (the only place that knows the encoding), [`wire`] (the messages themselves), [`workload`] (worker processes).

#![forbid(unsafe_code)]

pub mod identity;

pub mod node;

pub mod registry;

pub mod peer;

pub mod remote;

pub mod bulk;

pub mod watch;

pub mod join;

pub mod codec;

pub mod workload;

pub mod wire;

pub use bulk::{BulkBuffer, BulkSlice};
pub use identity::{CertificateAuthority, CertificateRequest, Identity, IdentityError, Role};
pub use join::{JoinError, JoinServer, JoinToken, join};
pub use node::{ConnectError, Node, NodeConfig, NodeError};
pub use peer::{Peer, PeerEvent, PeerId};
pub use registry::{Access, MailboxLimits, RegisterError, Registration};
pub use remote::{Credit, Inbound, Protocol, RemoteError, RemoteRef, ReplyTo};
pub use watch::{ExitReason, ExitWatch, PeerDown};
