//! sled behind a few calls: one batch a record, a digest over all rows, and no panic that gets out.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::ProjectionError;
use super::rows::{self, Row};
use crate::journal::{ChainHash, Entry, Seq};
use crate::record::Record;

/// sled's default cache is 1 GiB; an idle control plane stays under 60 MiB.
const CACHE_BYTES: u64 = 4 << 20;

/// How long an open waits for the lock of its file. sled lets go of it in a thread of its own some time after the
/// database was dropped; only the owner of the journal opens a projection, so nobody else can hold it for long.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(10);
const LOCK_POLL: Duration = Duration::from_millis(5);

/// What the rows mean. Another number makes the projection be rebuilt.
const LAYOUT: u32 = 1;

/// Sorts before all rows.
const MARK_KEY: &[u8] = b"!";

/// Up to where the rows go, written in the same batch as they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    layout: u32,
    applied: Seq,
    hash: [u8; 32],
    rows: RowsDigest,
}

/// The sum of the hashes of all rows, lane by lane: it can be kept up to date when a row comes or goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
struct RowsDigest([u64; 4]);

impl RowsDigest {
    fn add(&mut self, key: &[u8], value: &[u8]) {
        self.change(key, value, u64::wrapping_add);
    }

    fn remove(&mut self, key: &[u8], value: &[u8]) {
        self.change(key, value, u64::wrapping_sub);
    }

    fn change(&mut self, key: &[u8], value: &[u8], change: fn(u64, u64) -> u64) {
        let hash = blake3::Hasher::new().update(&(key.len() as u64).to_le_bytes()).update(key).update(value).finalize();
        for (lane, bytes) in self.0.iter_mut().zip(hash.as_bytes().as_chunks().0) {
            *lane = change(*lane, u64::from_le_bytes(*bytes));
        }
    }
}

pub(super) struct Store {
    db: Option<sled::Db>,
    mark: Option<Mark>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("applied", &self.applied()).finish_non_exhaustive()
    }
}

impl Store {
    pub(super) fn open(path: &Path) -> Result<Self, ProjectionError> {
        let mut store = Self { db: Some(open_unlocked(path)?), mark: None };
        store.mark = store.row(MARK_KEY)?;
        match &store.mark {
            Some(mark) if mark.layout != LAYOUT => Err(broken(format!("its layout is {}", mark.layout))),
            _ => Ok(store),
        }
    }

    /// Reads every row and compares their digest with the one that was kept up to date beside them.
    pub(super) fn check_rows(&self) -> Result<(), ProjectionError> {
        let mut digest = RowsDigest::default();
        guarded(|| {
            for row in self.db().iter() {
                let (key, value) = row?;
                if &key[..] != MARK_KEY {
                    digest.add(&key, &value);
                }
            }
            Ok(())
        })?;
        let expected = self.mark.as_ref().map_or_else(RowsDigest::default, |mark| mark.rows);
        if digest == expected { Ok(()) } else { Err(broken("its rows do not add up to their digest".to_owned())) }
    }

    pub(super) fn applied(&self) -> Seq {
        self.mark.as_ref().map_or(Seq::ZERO, |mark| mark.applied)
    }

    pub(super) fn hash(&self) -> Option<ChainHash> {
        self.mark.as_ref().map(|mark| ChainHash(mark.hash))
    }

    pub(super) fn apply(&mut self, entry: &Entry) -> Result<(), ProjectionError> {
        let at = self.applied();
        if entry.seq <= at {
            return Ok(());
        }
        if entry.seq != at.next() {
            return Err(ProjectionError::OutOfOrder { at, got: entry.seq });
        }
        let rows = match Record::decode(&entry.payload) {
            Ok(record) => rows::rows_of(entry.seq, &record, |job| self.row(&rows::job_key(job)))?,
            Err(error) => {
                // What it means is for the control plane to say; there is nothing to look up in it.
                tracing::debug!(seq = entry.seq.0, %error, "a record makes no rows");
                Vec::new()
            }
        };
        self.write(entry, &rows)
    }

    fn write(&mut self, entry: &Entry, rows: &[Row]) -> Result<(), ProjectionError> {
        let mut digest = self.mark.as_ref().map_or_else(RowsDigest::default, |mark| mark.rows);
        let mut batch = sled::Batch::default();
        for Row { key, value } in rows {
            if let Some(before) = guarded(|| self.db().get(key))? {
                digest.remove(key, &before);
            }
            digest.add(key, value);
            batch.insert(&key[..], &value[..]);
        }
        let mark = Mark { layout: LAYOUT, applied: entry.seq, hash: entry.hash.0, rows: digest };
        batch.insert(MARK_KEY, serde_json::to_vec(&mark).map_err(|error| broken(error.to_string()))?);
        guarded(|| self.db().apply_batch(batch))?;
        self.mark = Some(mark);
        Ok(())
    }

    pub(super) fn flush(&self) -> Result<(), ProjectionError> {
        guarded(|| self.db().flush()).map(|_| ())
    }

    pub(super) fn row<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, ProjectionError> {
        guarded(|| self.db().get(key))?.map(|value| decode(&value)).transpose()
    }

    /// All rows whose key starts with `prefix`, in the order of their keys.
    pub(super) fn rows<T: DeserializeOwned>(&self, prefix: &[u8]) -> Result<Vec<T>, ProjectionError> {
        let values: Vec<sled::IVec> = guarded(|| self.db().scan_prefix(prefix).values().collect())?;
        values.iter().map(|value| decode(value)).collect()
    }

    fn db(&self) -> &sled::Db {
        self.db.as_ref().expect("the database is there until the store is dropped")
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Closing a damaged database may panic; a panic in `drop` would end the process.
        let db = self.db.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(db)));
    }
}

/// Opens the database as soon as its lock is free.
fn open_unlocked(path: &Path) -> Result<sled::Db, ProjectionError> {
    let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(None);
    let until = Instant::now() + LOCK_WAIT_MAX;
    loop {
        match caught(|| config.open())? {
            Err(error) if is_locked(&error) && Instant::now() < until => thread::sleep(LOCK_POLL),
            Err(error) if is_locked(&error) => return Err(ProjectionError::InUse(error.to_string())),
            opened => return opened.map_err(|error| broken(error.to_string())),
        }
    }
}

/// sled 0.34.7 keeps neither the kind nor the number of the system's error, only this text.
fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().contains("could not acquire lock"))
}

fn decode<T: DeserializeOwned>(value: &[u8]) -> Result<T, ProjectionError> {
    serde_json::from_slice(value).map_err(|error| broken(format!("a row does not read: {error}")))
}

fn broken(why: String) -> ProjectionError {
    ProjectionError::Broken(why)
}

/// Calls into sled, which panics on much that it should report.
fn guarded<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, ProjectionError> {
    caught(call)?.map_err(|error| broken(error.to_string()))
}

fn caught<T>(call: impl FnOnce() -> T) -> Result<T, ProjectionError> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        broken(format!("sled panicked: {text}"))
    })
}
