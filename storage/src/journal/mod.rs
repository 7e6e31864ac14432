//! The journal: an append-only file of chained records, and the only truth about a cluster (invariant 2).
//!
//! [`Journal::append`] returns once its records are on disk; whatever the outside may rely on is appended first and
//! said afterwards. One append is one `fdatasync`, however many records it carries, and it is all or nothing: after a
//! crash either every record of it is there or none. The journal does not know what the payloads mean; see
//! [`crate::record`].
//!
//! What [`Journal::open`] promises: it verifies every byte. An append that a crash cut short (nobody was told that it
//! had happened) is cut off, kept aside and reported by [`Journal::torn`]. Everything else that is not as it was
//! written is [`JournalError::Damaged`], with the place. The last resort against a file that lost its tail is the
//! anchor, a second file that says how far the journal must reach; it is renewed every [`ANCHOR_EVERY`] records, so
//! damage to the very last append since then cannot be told from a crash in the middle of it, and is reported as such;
//! and a file cut exactly between two appends since then can only be noticed by a projection that has seen more.
//!
//! Deliberately not here: compaction and snapshots. Flow: [`Journal::open`], then [`Journal::append`].

mod anchor;
mod frame;
mod verify;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use neap_scheduler::model::Millis;
use serde::{Deserialize, Serialize};

use crate::durable;
use anchor::Anchor;
use frame::Frame;
pub use frame::PAYLOAD_BYTES_MAX;

/// The most bytes of payload one append may carry. It bounds what a crash can cut off and what `journal.torn` holds.
pub const APPEND_BYTES_MAX: usize = 16 << 20;

/// The most records between two writings of the anchor.
///
/// The anchor costs two more syncs, 3 % of the syncs at one record an append; what it adds is the certainty that
/// everything before it is there.
pub const ANCHOR_EVERY: u64 = 64;

const JOURNAL_FILE: &str = "journal.neap";
const ANCHOR_FILE: &str = "journal.head";
const LOCK_FILE: &str = "journal.lock";

/// The number of a record: 1 for the first, then one more each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl Seq {
    /// Before the first record.
    pub const ZERO: Self = Self(0);

    /// The number after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl std::fmt::Display for Seq {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// The hash of a record and, through the chain, of all before it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChainHash(pub [u8; 32]);

impl std::fmt::Display for ChainHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl std::fmt::Debug for ChainHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ChainHash({self})")
    }
}

/// One record of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub seq: Seq,
    /// The wall clock when it was appended; for people, nothing is decided by it.
    pub at: Millis,
    /// Its place in the chain.
    pub hash: ChainHash,
    /// What it says; see [`crate::record::Record::decode`].
    pub payload: Vec<u8>,
}

/// The bytes that [`Journal::open`] cut off: an append that never finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// The first record that is not there.
    pub seq: Seq,
    /// Where the journal was cut.
    pub offset: u64,
    /// How many bytes were cut off.
    pub bytes: u64,
    /// What was wrong with them.
    pub why: String,
    /// Where they are kept.
    pub kept: PathBuf,
}

/// Why the journal could not be opened or appended to.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process writes this journal.
    #[error("another control plane is using {}; stop it first (`neap down`)", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The journal is not as it was written. Nothing was changed.
    #[error(
        "{} is damaged at record {seq}, byte {offset}: {why}; nothing was changed, restore the folder from a backup",
        path.display()
    )]
    Damaged {
        /// The damaged file.
        path: PathBuf,
        /// The first record that cannot be trusted.
        seq: Seq,
        /// Where it starts.
        offset: u64,
        /// What is wrong.
        why: String,
    },
    /// A newer version of Neap wrote it.
    #[error("{} has format version {version}, this neap reads up to {known}; use a newer neap", path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// The version it has.
        version: u16,
        /// The newest version this code reads.
        known: u16,
    },
    /// The append carries more than the journal takes. Nothing was written.
    #[error("an append of {bytes} bytes is over the limit of {limit} bytes")]
    TooLarge {
        /// What was asked.
        bytes: usize,
        /// [`PAYLOAD_BYTES_MAX`] for one payload or [`APPEND_BYTES_MAX`] for all of them.
        limit: usize,
    },
    /// There is no room on the disk. Nothing was written; the next append may succeed.
    #[error("no space left for the journal in {}; free some space, then try again", dir.display())]
    Full {
        /// The journal's folder.
        dir: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Reading or writing failed. A failed append was taken back; the next one may succeed.
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
    /// An earlier append failed and could not be taken back: what is on disk is unknown until the journal is opened
    /// again.
    #[error("{} must be opened again after a failed write", path.display())]
    Closed {
        /// The journal.
        path: PathBuf,
    },
}

impl JournalError {
    /// Whether the same append may succeed later without anything but room on the disk.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::Io { .. })
    }
}

/// The journal of one cluster, open for appending. There is at most one per folder, over all processes.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    file: File,
    /// The end of the last append that is on disk.
    end: u64,
    head: Anchor,
    /// What the anchor file says; it may be behind `head`.
    anchored: Seq,
    usable: bool,
    torn: Option<TornTail>,
    /// Holds the lock as long as it is open.
    _lock: File,
}

impl Journal {
    /// Opens the journal in `dir`, or starts one, and verifies all of it.
    ///
    /// # Errors
    ///
    /// [`JournalError::Locked`] where another process has it open, [`JournalError::Damaged`] where it is not as it was
    /// written, and what reading can meet.
    pub fn open(dir: &Path) -> Result<(Self, Vec<Entry>), JournalError> {
        let mut found = Self::open_verified(dir)?;
        if let Some(torn) = &found.0.torn {
            tracing::warn!(
                seq = torn.seq.0, offset = torn.offset, bytes = torn.bytes, why = %torn.why, kept = %torn.kept.display(),
                "journal ended in an append that never finished; it was cut off"
            );
        }
        if dir.join(ANCHOR_FILE).exists() {
            // A full disk is no reason not to start: the anchor that is there still holds.
            found.0.renew_anchor();
        } else {
            found.0.write_anchor()?;
        }
        Ok(found)
    }

    fn open_verified(dir: &Path) -> Result<(Self, Vec<Entry>), JournalError> {
        durable::create_dir(dir).map_err(|source| failed("create", dir, source))?;
        let lock = lock(&dir.join(LOCK_FILE))?;
        let path = dir.join(JOURNAL_FILE);
        let anchor_path = dir.join(ANCHOR_FILE);
        let anchor = Anchor::read(&anchor_path)?;
        if !path.exists() {
            if let Some(anchor) = anchor {
                return Err(JournalError::Damaged {
                    path,
                    seq: Seq(1),
                    offset: 0,
                    why: format!("the file is missing, but the anchor says it reached {}", anchor.seq),
                });
            }
            let header = frame::header(durable::wall_clock());
            durable::replace(&path, &header, durable::PRIVATE).map_err(|source| failed("create", &path, source))?;
        }
        let file =
            OpenOptions::new().read(true).append(true).open(&path).map_err(|source| failed("open", &path, source))?;
        let verified = verify::verify(&path, &file, anchor)?;
        let torn = verified.torn.map(|torn| verify::set_aside(dir, &path, &file, torn)).transpose()?;
        let journal = Self {
            dir: dir.to_owned(),
            file,
            end: verified.end,
            head: verified.head,
            anchored: anchor.map_or(Seq::ZERO, |anchor| anchor.seq),
            usable: true,
            torn,
            _lock: lock,
        };
        Ok((journal, verified.entries))
    }

    /// Appends `payloads` as one record each and returns the number of the last. When this returns, they are on disk.
    /// Without payloads nothing is written.
    ///
    /// # Errors
    ///
    /// On any error none of the records is in the journal, and none will appear later.
    pub fn append(&mut self, payloads: &[Vec<u8>]) -> Result<Seq, JournalError> {
        self.append_entries(payloads).map(|_| self.head.seq)
    }

    /// Like [`Self::append`], and returns the records as [`Self::open`] would: ready for
    /// [`crate::projection::Projection::apply`].
    ///
    /// # Errors
    ///
    /// See [`Self::append`].
    pub fn append_entries(&mut self, payloads: &[Vec<u8>]) -> Result<Vec<Entry>, JournalError> {
        check_sizes(payloads)?;
        if !self.usable {
            return Err(JournalError::Closed { path: self.path() });
        }
        if payloads.is_empty() {
            return Ok(Vec::new());
        }
        let (bytes, entries) = self.frames(payloads);
        if let Err(source) = (&self.file).write_all(&bytes).and_then(|()| self.file.sync_data()) {
            self.take_back();
            return Err(failed("append to", &self.path(), source));
        }
        self.end += bytes.len() as u64;
        if let Some(last) = entries.last() {
            self.head = Anchor { seq: last.seq, hash: last.hash };
        }
        if self.head.seq.0 - self.anchored.0 >= ANCHOR_EVERY {
            self.renew_anchor();
        }
        Ok(entries)
    }

    /// The number of the last record.
    pub fn seq(&self) -> Seq {
        self.head.seq
    }

    /// The hash of the last record; of the file's header where there is none.
    pub fn hash(&self) -> ChainHash {
        self.head.hash
    }

    /// What [`Self::open`] had to cut off.
    pub fn torn(&self) -> Option<&TornTail> {
        self.torn.as_ref()
    }

    /// The size of the journal on disk.
    pub fn bytes(&self) -> u64 {
        self.end
    }

    /// Reads and verifies all records again, for example to rebuild a projection.
    ///
    /// # Errors
    ///
    /// [`JournalError::Damaged`] where the file no longer is what was appended.
    pub fn entries(&self) -> Result<Vec<Entry>, JournalError> {
        let path = self.path();
        let file = File::open(&path).map_err(|source| failed("open", &path, source))?;
        Ok(verify::verify(&path, &file, Some(self.head))?.entries)
    }

    /// Renews the anchor and closes the journal. Dropping it does the same, but cannot say when that fails.
    ///
    /// # Errors
    ///
    /// Where the anchor could not be written; every record is safe nevertheless.
    pub fn close(mut self) -> Result<(), JournalError> {
        self.write_anchor()
    }

    fn frames(&self, payloads: &[Vec<u8>]) -> (Vec<u8>, Vec<Entry>) {
        let mut bytes = Vec::with_capacity(payloads.iter().map(|payload| frame::FRAME_BYTES + payload.len()).sum());
        let at = durable::wall_clock();
        let first = self.head.seq.next();
        let last = Seq(self.head.seq.0 + payloads.len() as u64);
        let (mut seq, mut prev) = (first, self.head.hash);
        let mut entries = Vec::with_capacity(payloads.len());
        for payload in payloads {
            let hash = Frame { seq, append: (first, last), at, prev, payload }.encode_into(&mut bytes);
            entries.push(Entry { seq, at, hash, payload: payload.clone() });
            (seq, prev) = (seq.next(), hash);
        }
        (bytes, entries)
    }

    /// Removes what a failed append left. Where even that fails the journal takes no more appends: a record that was
    /// refused must not come back to life.
    fn take_back(&mut self) {
        if let Err(error) = self.file.set_len(self.end).and_then(|()| self.file.sync_all()) {
            self.usable = false;
            tracing::error!(
                error = &error as &dyn std::error::Error,
                offset = self.end,
                "a failed append could not be taken back; the journal must be opened again"
            );
        }
    }

    /// Writes the anchor where it may as well be written later: the records themselves are safe.
    fn renew_anchor(&mut self) {
        if let Err(error) = self.write_anchor() {
            tracing::warn!(error = &error as &dyn std::error::Error, "journal anchor could not be renewed");
        }
    }

    fn write_anchor(&mut self) -> Result<(), JournalError> {
        let path = self.dir.join(ANCHOR_FILE);
        if self.usable && (self.anchored < self.head.seq || !path.exists()) {
            durable::replace(&path, &self.head.encode(), durable::PRIVATE)
                .map_err(|source| failed("write", &path, source))?;
            self.anchored = self.head.seq;
        }
        Ok(())
    }

    fn path(&self) -> PathBuf {
        self.dir.join(JOURNAL_FILE)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.renew_anchor();
    }
}

fn lock(path: &Path) -> Result<File, JournalError> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(durable::PRIVATE)
        .open(path)
        .map_err(|source| failed("open", path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JournalError::Locked { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed("lock", path, source)),
    }
}

fn check_sizes(payloads: &[Vec<u8>]) -> Result<(), JournalError> {
    if let Some(payload) = payloads.iter().find(|payload| payload.len() > PAYLOAD_BYTES_MAX) {
        return Err(JournalError::TooLarge { bytes: payload.len(), limit: PAYLOAD_BYTES_MAX });
    }
    let bytes: usize = payloads.iter().map(Vec::len).sum();
    if bytes > APPEND_BYTES_MAX {
        return Err(JournalError::TooLarge { bytes, limit: APPEND_BYTES_MAX });
    }
    Ok(())
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> JournalError {
    if durable::is_full(&source) {
        let dir = path.parent().unwrap_or(path).to_owned();
        return JournalError::Full { dir, source };
    }
    JournalError::Io { action, path: path.to_owned(), source }
}

/// Reads a small file whole, or nothing where there is none.
fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, JournalError> {
    let mut bytes = Vec::new();
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file,
    };
    match file.and_then(|file| file.take(anchor::ANCHOR_BYTES as u64 + 1).read_to_end(&mut bytes)) {
        Ok(_) => Ok(Some(bytes)),
        Err(source) => Err(failed("read", path, source)),
    }
}

/// Keeps `bytes` under a name that no earlier torn tail has.
fn keep_aside(dir: &Path, seq: Seq, bytes: &[u8]) -> Result<PathBuf, JournalError> {
    let first = dir.join(format!("journal.torn.{}", seq.0));
    let others = (2..).map(|n| dir.join(format!("journal.torn.{}.{n}", seq.0)));
    let path = std::iter::once(first).chain(others).find(|path| !path.exists()).expect("numbers do not run out");
    durable::write_synced(&path, bytes, durable::PRIVATE)
        .and_then(|()| durable::sync_dir(dir))
        .inspect_err(|_| {
            let _ = fs::remove_file(&path);
        })
        .map_err(|source| failed("keep the torn end of the journal in", &path, source))?;
    Ok(path)
}
