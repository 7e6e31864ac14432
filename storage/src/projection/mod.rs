//! The projection: an index over the journal for questions that should not read all of it. Never the truth.
//!
//! It lies in sled 0.34.7, and this folder is the only place that names sled. sled's own flush does not reach the disk
//! (no `fsync`), and a flipped bit makes it panic or drop rows without a word; so nothing depends on it. A projection
//! is used as it is found only if it opens, names a record of the journal with that record's hash, and all its rows add
//! up to the digest kept with them. Then it is brought up to date; otherwise it is moved aside and rebuilt from the
//! journal. Deleting its folder is always safe.
//!
//! Every call into sled goes through `guarded` in `store.rs`, which turns a panic into [`ProjectionError::Broken`].
//! Whoever meets that drops the projection and opens it again with [`crate::journal::Journal::entries`].
//!
//! Flow: [`Projection::open`], then [`Projection::apply`] for each appended record.

mod rows;
mod store;

use std::fs;
use std::path::{Path, PathBuf};

use neap_scheduler::model::{JobId, NodeId};
use neap_scheduler::pricing::LedgerLine;
use neap_scheduler::pricing::attribution::AttributedLine;

use crate::durable;
use crate::journal::{Entry, Seq};
use crate::record::{BilledLine, EpochRecord, Record};
pub use rows::{Decision, JobSummary};
use store::Store;

/// How many projections that did not match are kept for a look. Older ones are deleted.
pub const BAD_KEPT_MAX: usize = 3;

const STORE_DIR: &str = "db";
const BAD_PREFIX: &str = "projection.bad-";

/// Why the projection cannot answer. The journal is not concerned.
#[derive(Debug, thiserror::Error)]
pub enum ProjectionError {
    /// sled failed or panicked, or a row does not read: open it again.
    #[error("the projection cannot be used: {0}; opening it again rebuilds it from the journal")]
    Broken(String),
    /// Another holder has it open: it is left where it is.
    #[error("the projection is in use: {0}; end the process that has it open")]
    InUse(String),
    /// A record was applied that does not follow the last one.
    #[error("the projection is at {at}, record {got} does not follow")]
    OutOfOrder {
        /// The last record applied.
        at: Seq,
        /// The record that was given.
        got: Seq,
    },
    /// The folder cannot be used.
    #[error("failed to {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// How [`Projection::open`] came by its contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// There was none.
    New,
    /// It matched the journal up to a record, and the rest was applied.
    CaughtUp {
        /// That record.
        from: Seq,
    },
    /// It did not match, and was rebuilt.
    Rebuilt {
        /// What was wrong with it.
        why: String,
        /// Where it is kept.
        kept: PathBuf,
    },
}

/// The open projection of one journal.
#[derive(Debug)]
pub struct Projection {
    store: Store,
    opened: Opened,
}

impl Projection {
    /// Opens the projection in `dir` and brings it to the state after the last of `entries`, which are all of the
    /// journal's.
    ///
    /// # Errors
    ///
    /// [`ProjectionError::InUse`] while somebody else has it open; else only where even an empty one cannot be made.
    pub fn open(dir: &Path, entries: &[Entry]) -> Result<Self, ProjectionError> {
        durable::create_dir(dir).map_err(|source| failed("create", dir, source))?;
        let path = dir.join(STORE_DIR);
        let (mut store, opened) = if !path.exists() {
            (Store::open(&path)?, Opened::New)
        } else {
            match Self::open_matching(&path, entries) {
                Ok(store) => {
                    let from = store.applied();
                    (store, Opened::CaughtUp { from })
                }
                Err(error @ ProjectionError::InUse(_)) => return Err(error),
                Err(error) => {
                    let (why, kept) = (error.to_string(), move_aside(dir, &path)?);
                    tracing::warn!(%why, kept = %kept.display(), "projection did not match the journal; rebuilding it");
                    (Store::open(&path)?, Opened::Rebuilt { why, kept })
                }
            }
        };
        for entry in &entries[store.applied().0 as usize..] {
            store.apply(entry)?;
        }
        store.flush()?;
        Ok(Self { store, opened })
    }

    /// Opens what is there, if every row of it follows from `entries`.
    fn open_matching(path: &Path, entries: &[Entry]) -> Result<Store, ProjectionError> {
        let store = Store::open(path)?;
        store.check_rows()?;
        let applied = store.applied();
        if applied.0 > entries.len() as u64 {
            // A record is applied after it is on disk, so the journal had it once.
            let why = format!("it has record {applied}, but the journal ends at #{}: its end was lost", entries.len());
            return Err(ProjectionError::Broken(why));
        }
        let known = match applied.0.checked_sub(1) {
            None => None,
            Some(index) => entries.get(index as usize).map(|entry| entry.hash),
        };
        if known == store.hash() {
            Ok(store)
        } else {
            Err(ProjectionError::Broken("it is of another journal".to_owned()))
        }
    }

    /// Applies the record that follows the last one. One that was applied before changes nothing.
    ///
    /// # Errors
    ///
    /// [`ProjectionError::OutOfOrder`] where records are missing in between, [`ProjectionError::Broken`].
    pub fn apply(&mut self, entry: &Entry) -> Result<(), ProjectionError> {
        self.store.apply(entry)
    }

    /// The last record applied.
    pub fn applied(&self) -> Seq {
        self.store.applied()
    }

    /// How it came by its contents when it was opened.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// All jobs, by id.
    ///
    /// # Errors
    ///
    /// [`ProjectionError::Broken`], as for every question here.
    pub fn jobs(&self) -> Result<Vec<JobSummary>, ProjectionError> {
        self.store.rows(rows::JOBS)
    }

    /// One job, if there is such a job.
    ///
    /// # Errors
    ///
    /// See [`Self::jobs`].
    pub fn job(&self, job: JobId) -> Result<Option<JobSummary>, ProjectionError> {
        self.store.row(&rows::job_key(job))
    }

    /// The lines that a job pays, in the order they were billed.
    ///
    /// # Errors
    ///
    /// See [`Self::jobs`].
    pub fn ledger_lines(&self, job: JobId) -> Result<Vec<LedgerLine>, ProjectionError> {
        self.lines(&rows::lines_of_job(Some(job)))
    }

    /// The lines that the cluster itself pays.
    ///
    /// # Errors
    ///
    /// See [`Self::jobs`].
    pub fn cluster_lines(&self) -> Result<Vec<LedgerLine>, ProjectionError> {
        self.lines(&rows::lines_of_job(None))
    }

    /// The lines of a node's bill.
    ///
    /// # Errors
    ///
    /// See [`Self::jobs`].
    pub fn node_lines(&self, node: NodeId) -> Result<Vec<LedgerLine>, ProjectionError> {
        self.lines(&rows::lines_of_node(node))
    }

    /// All lines.
    ///
    /// # Errors
    ///
    /// See [`Self::jobs`].
    pub fn lines_all(&self) -> Result<Vec<LedgerLine>, ProjectionError> {
        self.lines(rows::LINES)
    }

    /// All lines, with the actors that used the time.
    ///
    /// # Errors
    ///
    /// See [`Self::jobs`].
    pub fn attributed_lines(&self) -> Result<Vec<AttributedLine>, ProjectionError> {
        Ok(self.billed(rows::LINES)?.iter().map(AttributedLine::from).collect())
    }

    /// The finished passes of a job over its data.
    ///
    /// # Errors
    ///
    /// See [`Self::jobs`].
    pub fn epochs(&self, job: JobId) -> Result<Vec<EpochRecord>, ProjectionError> {
        self.store.rows(&rows::epochs_of(job))
    }

    /// What was decided about a job, and why.
    ///
    /// # Errors
    ///
    /// See [`Self::jobs`].
    pub fn decisions(&self, job: JobId) -> Result<Vec<Decision>, ProjectionError> {
        self.store.rows(&rows::decisions_of(job))
    }

    /// Hands what sled has in memory to the operating system. Without it, a crash only makes the next start catch up.
    ///
    /// # Errors
    ///
    /// See [`Self::jobs`].
    pub fn flush(&self) -> Result<(), ProjectionError> {
        self.store.flush()
    }

    fn lines(&self, prefix: &[u8]) -> Result<Vec<LedgerLine>, ProjectionError> {
        Ok(self.billed(prefix)?.iter().map(LedgerLine::from).collect())
    }

    fn billed(&self, prefix: &[u8]) -> Result<Vec<BilledLine>, ProjectionError> {
        let records: Vec<Record> = self.store.rows(prefix)?;
        let line = |record| match record {
            Record::NodeBilled(line) => Some(line),
            _ => None,
        };
        Ok(records.into_iter().filter_map(line).collect())
    }
}

/// Moves the store out of the way and deletes the oldest of those that were moved before.
fn move_aside(dir: &Path, path: &Path) -> Result<PathBuf, ProjectionError> {
    let mut numbers = bad_numbers(dir).map_err(|source| failed("read", dir, source))?;
    let next = numbers.last().map_or(1, |last| last + 1);
    let kept = dir.join(format!("{BAD_PREFIX}{next}"));
    fs::rename(path, &kept).map_err(|source| failed("move aside", path, source))?;
    numbers.push(next);
    for old in &numbers[..numbers.len().saturating_sub(BAD_KEPT_MAX)] {
        let old = dir.join(format!("{BAD_PREFIX}{old}"));
        if let Err(error) = fs::remove_dir_all(&old) {
            tracing::warn!(path = %old.display(), %error, "an old projection could not be deleted");
        }
    }
    Ok(kept)
}

fn bad_numbers(dir: &Path) -> std::io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.strip_prefix(BAD_PREFIX)?.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn failed(action: &'static str, path: &Path, source: std::io::Error) -> ProjectionError {
    ProjectionError::Io { action, path: path.to_owned(), source }
}
