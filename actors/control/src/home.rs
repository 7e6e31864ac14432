//! The folder of a control plane, and the secret that lets people in.
//!
//! ```text
//! <home>/ca/            certificate authority (ca.key is 0600)
//!        token          bearer token of the HTTP API, 0600
//!        ports.json     the ports agents know, kept over restarts
//!        journal/       the truth
//!        projection/    rebuilt from the journal when in doubt
//!        nodes/n3/      a local node: its process and its log
//!        jobs/j7/       a job's log and, unless it names another folder, its checkpoints
//!        artifacts/     programs that jobs bring along, by their content
//!        models/j7/     what it left: model.safetensors and its card
//! ```

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use neap_scheduler::model::{JobId, NodeId};
use rand::TryRng;
use rand::rngs::SysRng;

/// Paths below one home folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home(PathBuf);

impl Home {
    /// The home at this folder; nothing is made yet.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self(folder.into())
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The certificate authority.
    pub fn ca(&self) -> PathBuf {
        self.0.join("ca")
    }

    /// The API token's file.
    pub fn token_file(&self) -> PathBuf {
        self.0.join("token")
    }

    pub(crate) fn ports_file(&self) -> PathBuf {
        self.0.join("ports.json")
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.0.join("journal")
    }

    pub(crate) fn rounds(&self) -> PathBuf {
        self.0.join("rounds.jsonl")
    }

    pub(crate) fn projection(&self) -> PathBuf {
        self.0.join("projection")
    }

    /// The programs that jobs bring along.
    pub fn artifacts(&self) -> PathBuf {
        self.0.join("artifacts")
    }

    /// A local node's folder.
    pub fn node(&self, node: NodeId) -> PathBuf {
        self.0.join("nodes").join(node.to_string())
    }

    /// A job's folder.
    pub fn job(&self, job: JobId) -> PathBuf {
        self.0.join("jobs").join(job.to_string())
    }

    /// Where a job's checkpoints go unless it says otherwise.
    pub fn checkpoints(&self, job: JobId) -> PathBuf {
        self.job(job).join("checkpoints")
    }

    /// A job's log.
    pub fn log(&self, job: JobId) -> PathBuf {
        self.job(job).join("log")
    }

    /// Where a job's model goes.
    pub fn model(&self, job: JobId) -> PathBuf {
        self.0.join("models").join(job.to_string())
    }

    /// Makes the folder, open to its owner only.
    pub(crate) fn create(&self) -> io::Result<()> {
        fs::create_dir_all(&self.0)?;
        fs::set_permissions(&self.0, fs::Permissions::from_mode(0o700))
    }

    /// The API token, made at the first start.
    pub(crate) fn token(&self) -> io::Result<String> {
        let path = self.token_file();
        match fs::read_to_string(&path) {
            Ok(token) => Ok(token.trim().to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let token = format!("neap_{}", random_hex()?);
                let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
                writeln!(file, "{token}")?;
                file.sync_all()?;
                Ok(token)
            }
            Err(error) => Err(error),
        }
    }
}

/// 256 random bits in hex.
pub(crate) fn random_hex() -> io::Result<String> {
    let mut secret = [0; 32];
    SysRng.try_fill_bytes(&mut secret).map_err(io::Error::other)?;
    Ok(hex::encode(secret))
}
