//! Checkpoints: the training state of one job in a local folder or an object store, published whole or not at all.
//!
//! A publish writes chunks, then a manifest, and shows the checkpoint in one last step: `local` by renaming a folder,
//! `objects` by adding an entry to a log. What was damaged since is noticed, because a checkpoint's name ends in the
//! digest of its manifest, and the manifest has the hash of every chunk.
//!
//! Each publish carries its membership epoch. [`CheckpointStore::fence`] refuses older ones from then on, also one that
//! is under way: the fence is looked at in the last step. A publish fences those before it, too. A membership publishes
//! one checkpoint after the other.
//!
//! Not here: when to publish. Flow: [`CheckpointStore::publish`], [`CheckpointStore::load_latest`].

mod local;
mod manifest;
mod objects;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use neap_scheduler::model::MembershipEpoch;
use serde::{Deserialize, Serialize};

use crate::object::{Access, Location, ObjectError, Objects};
use local::LocalStore;
use manifest::Name;
pub use manifest::{CHUNK_BYTES, OBJECT_CHUNK_BYTES, PARTS_MAX};
use objects::ObjectCheckpoints;

/// How many checkpoints are kept at least, whatever is asked: a damaged newest one must not be the only one.
pub const KEEP_MIN: usize = 2;

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

/// A checkpoint that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Its name, and that of its folder.
    pub name: String,
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

/// A checkpoint in memory, verified.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// Its name.
    pub name: String,
    /// blake3 of its manifest, as [`CheckpointStore::publish`] returned it.
    pub digest: String,
    /// What it is of.
    pub meta: Meta,
    /// Its parts by name.
    pub parts: BTreeMap<String, Vec<u8>>,
}

/// Why a checkpoint was not published or not loaded.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A later membership has taken over; whoever asked must stop.
    #[error("membership {asked} may not publish to {store} any more, {fence} has taken over")]
    Fenced {
        /// The store.
        store: String,
        /// The epoch of the publish.
        asked: MembershipEpoch,
        /// The epoch that has taken over.
        fence: MembershipEpoch,
    },
    /// There is no room. What was written of it is removed; earlier checkpoints are as they were.
    #[error(
        "no space left in {store} for a checkpoint of {bytes} bytes; free some space or set `checkpoint.uri` to a folder \
         with room (earlier checkpoints are untouched)"
    )]
    Full {
        /// The store.
        store: String,
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
    #[error("none of the checkpoints in {store} can be used: {}", tried.join("; "))]
    NoneUsable {
        /// The store.
        store: String,
        /// Each with what is wrong with it, the newest first.
        tried: Vec<String>,
    },
    /// There is no checkpoint of this name.
    #[error("there is no checkpoint {name} in {store}")]
    NotFound {
        /// The store.
        store: String,
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
    /// The object store did not do its part.
    #[error("failed to {action} in {store}")]
    Store {
        /// What was tried.
        action: &'static str,
        /// The store.
        store: String,
        /// What became of it.
        #[source]
        source: ObjectError,
    },
    /// Others have changed the store again and again before we could.
    #[error("{store} is changed by others all the time; give the job a `checkpoint.uri` of its own")]
    Contended {
        /// The store.
        store: String,
    },
    /// The log of an object store does not read.
    #[error(
        "no entry of the log in {store} reads, so it cannot be told what is published there; the checkpoints' own \
         folders are untouched: move them away, or name another `checkpoint.uri`"
    )]
    BadLog {
        /// The store.
        store: String,
    },
}

impl CheckpointError {
    /// Whether the same publish may succeed later without anything but room on the disk.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Full { .. } | Self::Io { .. } | Self::Contended { .. } => true,
            Self::Store { source, .. } => source.is_retryable(),
            _ => false,
        }
    }
}

/// The checkpoints of one job.
#[derive(Debug, Clone)]
pub struct CheckpointStore(Place);

#[derive(Debug, Clone)]
enum Place {
    Local(LocalStore),
    Objects(ObjectCheckpoints),
}

impl CheckpointStore {
    /// Uses `folder`, which is created where it is missing.
    ///
    /// # Errors
    ///
    /// Where the folder cannot be made.
    pub fn open(folder: &Path) -> Result<Self, CheckpointError> {
        LocalStore::open(folder).map(Place::Local).map(Self)
    }

    /// Uses a folder, which is created where it is missing, or a place in an object store, of which nothing is asked yet.
    ///
    /// # Errors
    ///
    /// Where the folder cannot be made, or the environment does not say how to reach the store.
    pub fn open_at(location: &Location) -> Result<Self, CheckpointError> {
        Self::open_with(location, &Access::from_environment())
    }

    /// As [`CheckpointStore::open_at`], with what says how object stores are reached.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn open_with(location: &Location, access: &Access) -> Result<Self, CheckpointError> {
        match location {
            Location::Local(folder) => Self::open(folder),
            Location::Remote(uri) => {
                let opened = Objects::open(uri, access);
                let opened = opened.map_err(|source| CheckpointError::Store {
                    action: "open",
                    store: uri.to_string(),
                    source,
                })?;
                Ok(Self(Place::Objects(ObjectCheckpoints::new(opened))))
            }
        }
    }

    /// Writes something small and removes it again.
    ///
    /// # Errors
    ///
    /// Where that is refused or fails.
    pub fn check_writable(&self) -> Result<(), CheckpointError> {
        match &self.0 {
            Place::Local(store) => store.check_writable(),
            Place::Objects(store) => store.check_writable(),
        }
    }

    /// From now on refuses to publish for memberships before `epoch`, and removes what they left unfinished. A lower
    /// epoch than before changes nothing.
    ///
    /// # Errors
    ///
    /// Where the fence cannot be written; then it does not hold.
    pub fn fence(&self, epoch: MembershipEpoch) -> Result<(), CheckpointError> {
        match &self.0 {
            Place::Local(store) => store.fence(epoch),
            Place::Objects(store) => store.fence(epoch),
        }
    }

    /// The oldest membership epoch that may publish.
    ///
    /// # Errors
    ///
    /// Where the fence cannot be read.
    pub fn read_fence(&self) -> Result<MembershipEpoch, CheckpointError> {
        match &self.0 {
            Place::Local(store) => store.read_fence(),
            Place::Objects(store) => store.read_fence(),
        }
    }

    /// All checkpoints, the oldest first: by membership epoch, then by step.
    ///
    /// # Errors
    ///
    /// Where the store cannot be read.
    pub fn list(&self) -> Result<Vec<Listed>, CheckpointError> {
        let names = match &self.0 {
            Place::Local(store) => store.list()?,
            Place::Objects(store) => store.list()?,
        };
        let listed = |name: &Name| Listed { name: name.to_string(), membership: name.membership, step: name.step };
        Ok(names.iter().map(listed).collect())
    }

    /// Publishes `parts` as one checkpoint. When this returns, all of it is stored; on any error, and after a crash, none
    /// of it is to be seen. Publishing the same again gives the same checkpoint.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Fenced`] where a later membership has taken over, [`CheckpointError::Full`],
    /// [`CheckpointError::BadPart`], [`CheckpointError::Io`], [`CheckpointError::Store`].
    pub fn publish(&self, meta: &Meta, parts: &[(&str, &[u8])]) -> Result<Published, CheckpointError> {
        match &self.0 {
            Place::Local(store) => store.publish(meta, parts),
            Place::Objects(store) => store.publish(meta, parts),
        }
    }

    /// The newest checkpoint that is undamaged, or nothing where there never was one. A damaged one is reported and
    /// passed over.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::NoneUsable`] where there are checkpoints, but none is undamaged.
    pub fn load_latest(&self) -> Result<Option<Loaded>, CheckpointError> {
        let mut tried = Vec::new();
        for listed in self.list()?.iter().rev() {
            match self.load(&listed.name) {
                Ok(loaded) => return Ok(Some(loaded)),
                // A store that is away says nothing about what is in it.
                Err(error @ CheckpointError::Store { .. }) => return Err(error),
                Err(error) => {
                    tracing::warn!(store = self.shown(), checkpoint = %listed.name, %error, "checkpoint passed over");
                    tried.push(error.to_string());
                }
            }
        }
        if tried.is_empty() { Ok(None) } else { Err(CheckpointError::NoneUsable { store: self.shown(), tried }) }
    }

    /// The checkpoint of this name.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::NotFound`], [`CheckpointError::Damaged`], [`CheckpointError::TooNew`],
    /// [`CheckpointError::Io`], [`CheckpointError::Store`].
    pub fn load(&self, name: &str) -> Result<Loaded, CheckpointError> {
        match &self.0 {
            Place::Local(store) => store.load(name),
            Place::Objects(store) => store.load(name),
        }
    }

    /// Deletes all but the newest `count` checkpoints, at least [`KEEP_MIN`], and returns the names of the deleted ones.
    /// What unfinished publishes left in an object store goes, too.
    ///
    /// # Errors
    ///
    /// Where one cannot be deleted.
    pub fn keep(&self, count: usize) -> Result<Vec<String>, CheckpointError> {
        match &self.0 {
            Place::Local(store) => store.keep(count),
            Place::Objects(store) => store.keep(count),
        }
    }

    fn shown(&self) -> String {
        match &self.0 {
            Place::Local(store) => store.shown(),
            Place::Objects(store) => store.shown().to_owned(),
        }
    }
}
