//! Programs by their content: a folder of files that are named after the hash of what is in them.
//!
//! ```text
//! <folder>/<64 hex digits>          the program, executable by its owner only
//!          <64 hex digits>.json     what its owner says is in it, where somebody has said so
//!          .incoming-…              one that is being written; gone when its writer is
//! ```
//!
//! A file is under its name whole or not at all: it is written beside, hashed on the way, synced and renamed. What is
//! there is never changed, only evicted, the one that was longest not asked for first. A program that runs while it is
//! evicted goes on: its file lives as long as its process.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::PathBuf;
use std::time::SystemTime;

use neap_scheduler::model::ContentHash;
use tempfile::NamedTempFile;

use crate::durable;

/// The largest program that is taken. A debug build that links a deep-learning library has 100 to 300 MiB.
pub const ARTIFACT_BYTES_MAX: u64 = 2 << 30;

/// The longest description that is kept.
pub const DESCRIPTION_BYTES_MAX: usize = 1 << 20;

const INCOMING: &str = ".incoming-";

/// What keeps a program from being stored or found.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// It is larger than programs may be.
    #[error("the artifact is larger than the {limit} bytes that one may have")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// It is not what it was said to be: cut short, or changed on the way.
    #[error("the artifact should be {expected}, and what came is {found} ({bytes} bytes); send it again")]
    Mismatch {
        /// What was announced.
        expected: ContentHash,
        /// What came.
        found: ContentHash,
        /// How much came.
        bytes: u64,
    },
    /// There is no room for it.
    #[error("no room for the artifact in {folder}; make room there and try again")]
    Full {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The folder holds as much as it may, and all of it is needed.
    #[error(
        "the artifacts of jobs that have not ended fill the {limit} bytes of {folder}; wait for one of them to end"
    )]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// The folder does not work.
    #[error("failed to use the artifact folder {folder}")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A program that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its file, executable.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// A folder of programs. Cheap to clone; used by one process at a time.
#[derive(Debug, Clone)]
pub struct ArtifactStore {
    folder: PathBuf,
    bytes_max: u64,
    /// Whether what was taken in outlives the process, and a loss of power.
    lasting: bool,
}

impl ArtifactStore {
    /// Opens a folder, or makes it, and throws away what an earlier process did not finish.
    ///
    /// # Errors
    ///
    /// [`ArtifactError::Folder`].
    pub fn open(folder: impl Into<PathBuf>, bytes_max: u64) -> Result<Self, ArtifactError> {
        Self { folder: folder.into(), bytes_max, lasting: true }.prepared(|name| name.starts_with(INCOMING))
    }

    /// Opens a folder for this process only: what an earlier one left is thrown away, so nothing needs to be synced.
    ///
    /// # Errors
    ///
    /// [`ArtifactError::Folder`].
    pub fn open_cache(folder: impl Into<PathBuf>, bytes_max: u64) -> Result<Self, ArtifactError> {
        Self { folder: folder.into(), bytes_max, lasting: false }.prepared(|_| true)
    }

    fn prepared(self, left_over: impl Fn(&str) -> bool) -> Result<Self, ArtifactError> {
        let store = self;
        let open = || -> io::Result<()> {
            DirBuilder::new().recursive(true).mode(0o700).create(&store.folder)?;
            for entry in fs::read_dir(&store.folder)? {
                let entry = entry?;
                if left_over(&entry.file_name().to_string_lossy()) {
                    fs::remove_file(entry.path())?;
                }
            }
            Ok(())
        };
        open().map_err(|source| store.failed(source))?;
        Ok(store)
    }

    /// The program with this content, if it is there; it is evicted later than others from now on.
    ///
    /// # Errors
    ///
    /// [`ArtifactError::Folder`].
    pub fn find(&self, hash: ContentHash) -> Result<Option<Stored>, ArtifactError> {
        let path = self.path_of(hash);
        let found = || -> io::Result<u64> {
            let file = File::open(&path)?;
            // Only decides what is evicted first; a file system that does not keep times evicts in another order.
            let _ = file.set_modified(SystemTime::now());
            Ok(file.metadata()?.len())
        };
        match found() {
            Ok(bytes) => Ok(Some(Stored { path, bytes })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.failed(source)),
        }
    }

    /// Makes room for a program of `bytes` and begins to take it in. What `in_use` names stays.
    ///
    /// # Errors
    ///
    /// [`ArtifactError::TooLarge`], [`ArtifactError::InUse`] or [`ArtifactError::Folder`].
    pub fn begin(
        &self,
        hash: ContentHash,
        bytes: u64,
        in_use: &BTreeSet<ContentHash>,
    ) -> Result<Incoming, ArtifactError> {
        let limit = ARTIFACT_BYTES_MAX.min(self.bytes_max);
        if bytes > limit {
            return Err(ArtifactError::TooLarge { limit });
        }
        self.make_room(bytes, in_use)?;
        let file = tempfile::Builder::new().prefix(INCOMING).tempfile_in(&self.folder);
        let file = file.map_err(|source| self.failed(source))?;
        Ok(Incoming { store: self.clone(), hash, file, hasher: blake3::Hasher::new(), bytes: 0, limit: bytes })
    }

    /// Keeps what somebody says is in a program.
    ///
    /// # Errors
    ///
    /// [`ArtifactError::TooLarge`] or [`ArtifactError::Folder`].
    pub fn describe(&self, hash: ContentHash, description: &[u8]) -> Result<(), ArtifactError> {
        if description.len() > DESCRIPTION_BYTES_MAX {
            return Err(ArtifactError::TooLarge { limit: DESCRIPTION_BYTES_MAX as u64 });
        }
        let path = self.description_of(hash);
        durable::replace(&path, description, durable::PRIVATE).map_err(|source| self.failed(source))
    }

    /// What was said to be in a program.
    ///
    /// # Errors
    ///
    /// [`ArtifactError::Folder`].
    pub fn description(&self, hash: ContentHash) -> Result<Option<Vec<u8>>, ArtifactError> {
        match fs::read(self.description_of(hash)) {
            Ok(description) => Ok(Some(description)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.failed(source)),
        }
    }

    /// Evicts until `bytes` more fit.
    fn make_room(&self, bytes: u64, in_use: &BTreeSet<ContentHash>) -> Result<(), ArtifactError> {
        let mut kept = self.programs().map_err(|source| self.failed(source))?;
        kept.sort_unstable();
        let mut total: u64 = kept.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, size, hash) in kept {
            if total + bytes <= self.bytes_max {
                return Ok(());
            }
            if in_use.contains(&hash) {
                continue;
            }
            for path in [self.description_of(hash), self.path_of(hash)] {
                match fs::remove_file(path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(self.failed(error)),
                    _ => {}
                }
            }
            tracing::info!(%hash, bytes = size, "artifact evicted");
            total -= size;
        }
        match total + bytes <= self.bytes_max {
            true => Ok(()),
            false => Err(ArtifactError::InUse { folder: self.folder.clone(), limit: self.bytes_max }),
        }
    }

    /// When each was last asked for, its size, its content.
    fn programs(&self) -> io::Result<Vec<(SystemTime, u64, ContentHash)>> {
        let mut programs = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let Some(hash) = entry.file_name().to_str().and_then(ContentHash::from_digits) else { continue };
            let facts = entry.metadata()?;
            programs.push((facts.modified()?, facts.len(), hash));
        }
        Ok(programs)
    }

    fn path_of(&self, hash: ContentHash) -> PathBuf {
        self.folder.join(hash.digits())
    }

    fn description_of(&self, hash: ContentHash) -> PathBuf {
        self.folder.join(hash.digits() + ".json")
    }

    fn failed(&self, source: io::Error) -> ArtifactError {
        let folder = self.folder.clone();
        match durable::is_full(&source) {
            true => ArtifactError::Full { folder, source },
            false => ArtifactError::Folder { folder, source },
        }
    }
}

/// A program that is being taken in. Dropped before its end, it leaves nothing.
#[derive(Debug)]
pub struct Incoming {
    store: ArtifactStore,
    hash: ContentHash,
    file: NamedTempFile,
    hasher: blake3::Hasher,
    bytes: u64,
    limit: u64,
}

impl Incoming {
    /// Takes the next bytes.
    ///
    /// # Errors
    ///
    /// [`ArtifactError::TooLarge`] beyond what was announced, [`ArtifactError::Full`] or [`ArtifactError::Folder`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ArtifactError> {
        self.bytes += bytes.len() as u64;
        if self.bytes > self.limit {
            return Err(ArtifactError::TooLarge { limit: self.limit });
        }
        self.hasher.update(bytes);
        self.file.write_all(bytes).map_err(|source| self.store.failed(source))
    }

    /// How much has come.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Checks what came, and puts it under its name.
    ///
    /// # Errors
    ///
    /// [`ArtifactError::Mismatch`] where it is not what was announced, [`ArtifactError::Full`] or
    /// [`ArtifactError::Folder`].
    pub fn finish(self) -> Result<Stored, ArtifactError> {
        let Self { store, hash, file, hasher, bytes, .. } = self;
        let found = ContentHash::new(*hasher.finalize().as_bytes());
        if found != hash {
            return Err(ArtifactError::Mismatch { expected: hash, found, bytes });
        }
        let path = store.path_of(hash);
        let keep = || -> io::Result<()> {
            file.as_file().set_permissions(Permissions::from_mode(0o700))?;
            if store.lasting {
                file.as_file().sync_all()?;
            }
            file.persist(&path).map_err(|error| error.error)?;
            match path.parent().filter(|_| store.lasting) {
                Some(folder) => durable::sync_dir(folder),
                None => Ok(()),
            }
        };
        keep().map_err(|source| store.failed(source))?;
        Ok(Stored { path, bytes })
    }
}
