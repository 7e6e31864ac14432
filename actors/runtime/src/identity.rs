//! Who a process is: its role, its certificate, and the authority that signs certificates.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use neap_scheduler::model::{JobId, NodeId, WorkerId};
use serde::{Deserialize, Serialize};

/// What a process is to the others. Carried as the one DNS name of its certificate: `control.neap`, `n3.node.neap`,
/// `w5.j2.worker.neap`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// The control plane.
    Control,
    /// The agent of a node.
    Node(NodeId),
    /// A worker process of a job.
    Worker {
        /// The job.
        job: JobId,
        /// The worker.
        worker: WorkerId,
    },
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Control => f.pad("control.neap"),
            Self::Node(node) => f.pad(&format!("{node}.node.neap")),
            Self::Worker { job, worker } => f.pad(&format!("{worker}.{job}.worker.neap")),
        }
    }
}

/// A name that no role has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no role")]
pub struct RoleParseError(String);

impl FromStr for Role {
    type Err = RoleParseError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let unknown = || RoleParseError(name.to_owned());
        let parts: Vec<&str> = name.split('.').collect();
        match parts.as_slice() {
            ["control", "neap"] => Ok(Self::Control),
            [node, "node", "neap"] => Ok(Self::Node(node.parse().map_err(|_| unknown())?)),
            [worker, job, "worker", "neap"] => {
                let worker = worker.parse().map_err(|_| unknown())?;
                Ok(Self::Worker { job: job.parse().map_err(|_| unknown())?, worker })
            }
            _ => Err(unknown()),
        }
    }
}

/// What goes wrong with keys and certificates.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file of the authority could not be read or written.
    #[error("failed to {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// Others than the owner may read the private key.
    #[error("{} is readable by others (mode {mode:o}); run `chmod 600` on it", path.display())]
    KeyExposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A key or certificate could not be made or read.
    #[error("failed to {action}")]
    Certificate {
        /// What was tried.
        action: &'static str,
        /// The cause.
        #[source]
        source: rcgen::Error,
    },
    /// A certificate names no role, or more than one.
    #[error("a certificate without exactly one role: {0}")]
    NoRole(String),
    /// The TLS library refuses the key or a certificate.
    #[error("the TLS library refuses this identity")]
    Tls(#[source] rustls::Error),
    /// Bytes that are no identity.
    #[error("malformed identity: {0}")]
    Malformed(String),
}

/// Certificate chain, private key and CA certificate of one process. Serialisable, because an agent hands a worker its
/// identity over the pipe that starts it; `Debug` shows no key.
#[derive(Clone, Serialize, Deserialize)]
pub struct Identity {
    chain: Vec<Vec<u8>>,
    key: Vec<u8>,
    ca: Vec<u8>,
}

impl Identity {
    /// The role its own certificate names.
    ///
    /// # Errors
    ///
    /// [`IdentityError::NoRole`] where the certificate was not made by a [`CertificateAuthority`].
    pub fn role(&self) -> Result<Role, IdentityError> {
        unimplemented!()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// Signs the certificates of one cluster.
pub struct CertificateAuthority {}

impl CertificateAuthority {
    /// Loads `ca.pem` and `ca.key` from a folder, or makes them (mode 0600) where neither is there.
    ///
    /// # Errors
    ///
    /// [`IdentityError`], in particular [`IdentityError::KeyExposed`] where others may read the key.
    pub fn load_or_create(dir: &Path) -> Result<Self, IdentityError> {
        let _ = dir;
        unimplemented!()
    }

    /// A fresh key and a certificate for it.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Certificate`].
    pub fn issue(&self, role: Role) -> Result<Identity, IdentityError> {
        let _ = role;
        unimplemented!()
    }

    /// A certificate chain (DER) for a key that only the requester has. Nothing but the public key is taken from the
    /// request; `role` is the caller's decision.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Certificate`] where the request is malformed or not signed with its own key.
    pub fn sign(&self, request: &CertificateRequest, role: Role) -> Result<Vec<Vec<u8>>, IdentityError> {
        let _ = (request, role);
        unimplemented!()
    }

    /// blake3 of the CA certificate; join tokens carry it so that a new node knows whom to trust.
    pub fn fingerprint(&self) -> [u8; 32] {
        unimplemented!()
    }
}

/// A request for a certificate, with proof that the requester has the key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CertificateRequest {
    der: Vec<u8>,
}
