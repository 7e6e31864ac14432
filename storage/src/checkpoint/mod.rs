//! Checkpoints: the training state of one job in a local folder, published whole or not at all.
//!
//! A publish writes its chunks and then its manifest into a folder of its own, syncs each, renames the folder and syncs
//! the folder around it (design rule 7). Whatever has the name of a checkpoint is therefore complete; what was damaged
//! since is noticed, because a checkpoint's name ends in the digest of its manifest, and the manifest has the hash of
//! every chunk.
//!
//! Each publish carries its membership epoch. [`CheckpointStore::fence`] refuses older ones from then on, also one that
//! is under way: the fence is looked at under a lock right before the rename. A publish fences those before it, too.
//!
//! Not here: object stores, and when to publish. Flow: [`CheckpointStore::publish`], [`CheckpointStore::load_latest`].

mod manifest;
mod publish;
mod read;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use neap_scheduler::model::MembershipEpoch;
use serde::{Deserialize, Serialize};

use crate::durable;
use manifest::Name;
pub use manifest::{CHUNK_BYTES, PARTS_MAX};
pub use read::Loaded;

/// How many checkpoints are kept at least, whatever is asked: a damaged newest one must not be the only one.
pub const KEEP_MIN: usize = 2;

const FENCE_FILE: &str = "fence";
const FENCE_LOCK: &str = "fence.lock";
const TMP_PREFIX: &str = "tmp-";

/// What a checkpoint is of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// The membership epoch that publishes it (fencing).
    pub membership: MembershipEpoch,
    /// Steps done.
    pub step: u64,
    /// The pass over the data it lies in, counted from 0.
    pub epoch: u32,
    /// How many steps of that pass are done: where the data goes on.
    pub cursor: u64,
    /// Whatever else belongs to the state: the state of random generators, the loss so far. Not looked at here.
    pub extra: serde_json::Value,
}

/// A checkpoint that is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Its name, and that of its folder.
    pub name: String,
    /// Its folder.
    pub path: PathBuf,
    /// blake3 of its manifest, hexadecimal: stands for every byte of it.
    pub digest: String,
    /// The size of its parts.
    pub bytes: u64,
}

/// A checkpoint as its name tells, unread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Who published it.
    pub membership: MembershipEpoch,
    /// Steps done.
    pub step: u64,
}

/// Why a checkpoint was not published or not loaded.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A later membership has taken over; whoever asked must stop.
    #[error("membership {asked} may not publish to {} any more, {fence} has taken over", folder.display())]
    Fenced {
        /// The store.
        folder: PathBuf,
        /// The epoch of the publish.
        asked: MembershipEpoch,
        /// The epoch that has taken over.
        fence: MembershipEpoch,
    },
    /// There is no room. What was written of it is removed; earlier checkpoints are as they were.
    #[error(
        "no space left in {} for a checkpoint of {bytes} bytes; free some space or set `checkpoint.uri` to a folder \
         with room (earlier checkpoints are untouched)",
        folder.display()
    )]
    Full {
        /// The store.
        folder: PathBuf,
        /// The size of the checkpoint's parts.
        bytes: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The parts cannot be stored as given.
    #[error("a checkpoint part cannot be stored: {0}")]
    BadPart(String),
    /// A checkpoint is not as it was published.
    #[error("checkpoint {name} is damaged: {why}")]
    Damaged {
        /// Its name.
        name: String,
        /// What is wrong, with the file.
        why: String,
    },
    /// A newer version of Neap wrote it.
    #[error("checkpoint {name} has format version {version}, this neap reads up to {known}; use a newer neap")]
    TooNew {
        /// Its name.
        name: String,
        /// The version it has.
        version: u32,
        /// The newest version this code reads.
        known: u32,
    },
    /// There are checkpoints, and none of them can be used.
    #[error("none of the checkpoints in {} can be used: {}", folder.display(), tried.join("; "))]
    NoneUsable {
        /// The store.
        folder: PathBuf,
        /// Each with what is wrong with it, the newest first.
        tried: Vec<String>,
    },
    /// There is no checkpoint of this name.
    #[error("there is no checkpoint {name} in {}", folder.display())]
    NotFound {
        /// The store.
        folder: PathBuf,
        /// The name.
        name: String,
    },
    /// Reading or writing failed.
    #[error("failed to {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl CheckpointError {
    /// Whether the same publish may succeed later without anything but room on the disk.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::Io { .. })
    }
}

/// The checkpoints of one job.
#[derive(Debug, Clone)]
pub struct CheckpointStore {
    folder: PathBuf,
}

impl CheckpointStore {
    /// Uses `folder`, which is created where it is missing.
    ///
    /// # Errors
    ///
    /// Where the folder cannot be made.
    pub fn open(folder: &Path) -> Result<Self, CheckpointError> {
        durable::create_dir(folder).map_err(|source| failed("create", folder, source))?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// From now on refuses to publish for memberships before `epoch`, and removes what they left unfinished. A lower
    /// epoch than before changes nothing.
    ///
    /// # Errors
    ///
    /// Where the fence cannot be written; then it does not hold.
    pub fn fence(&self, epoch: MembershipEpoch) -> Result<(), CheckpointError> {
        let _lock = self.lock()?;
        if self.read_fence()? >= epoch {
            return Ok(());
        }
        let path = self.folder.join(FENCE_FILE);
        let text = format!("{}\n", epoch.0);
        durable::replace(&path, text.as_bytes(), durable::SHARED).map_err(|source| failed("write", &path, source))?;
        self.remove_unfinished_before(epoch);
        Ok(())
    }

    /// The oldest membership epoch that may publish.
    ///
    /// # Errors
    ///
    /// Where the fence cannot be read.
    pub fn read_fence(&self) -> Result<MembershipEpoch, CheckpointError> {
        let path = self.folder.join(FENCE_FILE);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(MembershipEpoch::default()),
            text => text.map_err(|source| failed("read", &path, source))?,
        };
        let bad = |_| failed("read", &path, io::Error::new(io::ErrorKind::InvalidData, "it holds no epoch"));
        text.trim_end().parse().map(MembershipEpoch).map_err(bad)
    }

    /// All checkpoints, the oldest first: by membership epoch, then by step.
    ///
    /// # Errors
    ///
    /// Where the folder cannot be read.
    pub fn list(&self) -> Result<Vec<Listed>, CheckpointError> {
        let mut names: Vec<Name> = self.file_names()?.iter().filter_map(|name| Name::parse(name)).collect();
        names.sort_unstable();
        let listed = |name: &Name| Listed { name: name.to_string(), membership: name.membership, step: name.step };
        Ok(names.iter().map(listed).collect())
    }

    /// Deletes all but the newest `count` checkpoints, at least [`KEEP_MIN`], and returns the names of the deleted
    /// ones.
    ///
    /// # Errors
    ///
    /// Where one cannot be deleted.
    pub fn keep(&self, count: usize) -> Result<Vec<String>, CheckpointError> {
        let listed = self.list()?;
        let surplus = listed.len().saturating_sub(count.max(KEEP_MIN));
        let mut deleted = Vec::new();
        for Listed { name, .. } in listed.into_iter().take(surplus) {
            // Renamed first, so that a crash halfway leaves no checkpoint with missing chunks under its name.
            let (path, doomed) = (self.folder.join(&name), self.folder.join(format!("{TMP_PREFIX}e0-deleted-{name}")));
            remove_if_there(&doomed)
                .and_then(|()| fs::rename(&path, &doomed))
                .and_then(|()| fs::remove_dir_all(&doomed))
                .map_err(|source| failed("delete", &path, source))?;
            deleted.push(name);
        }
        Ok(deleted)
    }

    fn file_names(&self) -> Result<Vec<String>, CheckpointError> {
        let read = |entry: io::Result<fs::DirEntry>| entry.map(|entry| entry.file_name());
        let names: io::Result<Vec<_>> = fs::read_dir(&self.folder).and_then(|entries| entries.map(read).collect());
        let names = names.map_err(|source| failed("read", &self.folder, source))?;
        Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
    }

    /// Excludes other publishes and fences, in this process and in others, until it is dropped.
    fn lock(&self) -> Result<File, CheckpointError> {
        let path = self.folder.join(FENCE_LOCK);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let locked = file.and_then(|file| file.lock().map(|()| file));
        locked.map_err(|source| failed("lock", &path, source))
    }

    fn check_fence(&self, asked: MembershipEpoch) -> Result<(), CheckpointError> {
        let fence = self.read_fence()?;
        if asked < fence {
            return Err(CheckpointError::Fenced { folder: self.folder.clone(), asked, fence });
        }
        Ok(())
    }

    /// Removes what memberships before `epoch` began and did not finish. They are refused anyway, so what cannot be
    /// removed only takes room.
    fn remove_unfinished_before(&self, epoch: MembershipEpoch) {
        for name in self.file_names().unwrap_or_default() {
            if publish::unfinished_epoch(&name).is_some_and(|of| of < epoch)
                && let Err(error) = fs::remove_dir_all(self.folder.join(&name))
            {
                tracing::warn!(%name, %error, "an unfinished checkpoint could not be removed");
            }
        }
    }
}

fn remove_if_there(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> CheckpointError {
    CheckpointError::Io { action, path: path.to_owned(), source }
}
