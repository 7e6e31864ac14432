//! Joining a cluster with a one-time token, on a port of its own.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;

use neap_scheduler::model::NodeId;

use crate::identity::{CertificateAuthority, Identity};
use crate::node::NodeError;

/// What a new node presents once: whom to trust, and the secret that lets it in.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    ca_fingerprint: [u8; 32],
    secret: [u8; 32],
}

impl JoinToken {
    /// A token with a fresh secret for the cluster with this CA.
    pub fn generate(ca_fingerprint: [u8; 32]) -> Self {
        let _ = ca_fingerprint;
        unimplemented!()
    }

    /// blake3 of the secret: what the control plane keeps.
    pub fn secret_hash(&self) -> [u8; 32] {
        unimplemented!()
    }

    /// The token's text, secret included: `neapjoin_<hex>`. For the node that joins and for nobody else.
    pub fn reveal(&self) -> String {
        unimplemented!()
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("neapjoin_[hidden]")
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("JoinToken([hidden])")
    }
}

/// A text that is no join token. Does not show the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a join token; one looks like `neapjoin_` and 128 hexadecimal digits")]
pub struct TokenParseError;

impl FromStr for JoinToken {
    type Err = TokenParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let _ = text;
        Err(TokenParseError)
    }
}

/// Why a node could not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Nobody answered in time.
    #[error("no answer from {addr}")]
    Unreachable {
        /// The address dialled.
        addr: SocketAddr,
    },
    /// Whoever answered is not the cluster that made the token.
    #[error("the process at {addr} does not belong to the cluster of this token: {reason}")]
    WrongCluster {
        /// The address dialled.
        addr: SocketAddr,
        /// What did not fit.
        reason: String,
    },
    /// The control plane refused the token.
    #[error("the control plane refuses this node: {0}")]
    Refused(String),
    /// The exchange broke.
    #[error("failed to join through {addr}: {reason}")]
    Broken {
        /// The address dialled.
        addr: SocketAddr,
        /// The cause.
        reason: String,
    },
}

impl JoinError {
    /// Whether trying again with the same token can help.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Broken { .. })
    }
}

/// Joins as `node`: makes a key, proves the token, and gets a certificate for the key. The key never leaves this process.
///
/// # Errors
///
/// [`JoinError`].
pub async fn join(addr: SocketAddr, token: &JoinToken, node: NodeId) -> Result<Identity, JoinError> {
    let _ = (addr, token, node);
    unimplemented!()
}

/// What [`JoinServer`] asks before it signs: the node that wants in and blake3 of the secret it presented. An `Err` is
/// the reason the node is told. The callback makes a token single-use: it is called once for each attempt.
pub type Admission = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// Lets nodes join.
pub struct JoinServer {}

impl JoinServer {
    /// Listens on `bind`. Call it inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`NodeError`].
    pub fn start(
        bind: SocketAddr,
        ca: Arc<CertificateAuthority>,
        admit: impl Fn(NodeId, [u8; 32]) -> Admission + Send + Sync + 'static,
    ) -> Result<Self, NodeError> {
        let _ = (bind, ca, admit);
        unimplemented!()
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        unimplemented!()
    }

    /// Stops listening.
    pub async fn shutdown(&self) {
        unimplemented!()
    }
}
