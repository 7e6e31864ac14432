//! Rows that do not fit into memory: a file of the node's cache, written once, read at any place.
//!
//! ```text
//! magic ─ rows, all of one length ─ targets ─ description (JSON) ─ its length ─ blake3 of everything before
//! ```
//!
//! A file is named by what it was made of: the content of the source files and everything of the job file that decides
//! what becomes of them. It appears under its name only when it is complete and on disk, and is checked as a whole each
//! time it is opened; a damaged one is made again. Files that were not used for longest make room for new ones.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use neap_scheduler::spec::OrderSpec;
use neap_storage::object::Access;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::remote::Stores;
use super::rows::Width;
use super::{DataError, Targets};

const MAGIC: &[u8; 8] = b"NEAPROW1";

/// The suffix of finished files.
const SUFFIX: &str = "rows";

/// What a data set may take of a worker's memory where nothing else is known.
const MEMORY_MAX: u64 = 512 << 20;

/// What all files of a node's cache take together; beyond it the least recently used ones are removed. A single larger
/// one is written all the same, and alone.
const CACHE_BYTES_MAX: u64 = 256 << 30;

/// A description is class names, column names and categories.
const DESCRIPTION_BYTES_MAX: u64 = 256 << 20;

/// Bytes read at once where a whole file is checked.
const READ_BYTES: usize = 1 << 20;

/// Where data sets may lie.
#[derive(Debug, Clone)]
pub struct Storage {
    /// A data set with more bytes is kept in a file.
    pub memory_max: u64,
    /// The node's cache. Without one the file has no name and goes with the process.
    pub cache: Option<PathBuf>,
    /// The object stores that data may come from.
    pub stores: Arc<Stores>,
}

impl Default for Storage {
    fn default() -> Self {
        let stores = Arc::new(Stores::new(Access::from_environment()));
        Self { memory_max: MEMORY_MAX, cache: None, stores }
    }
}

impl Storage {
    /// The path of the file with this key.
    fn path(&self, key: &[u8; 32]) -> Option<PathBuf> {
        Some(self.cache.as_ref()?.join(hex::encode(key)).with_extension(SUFFIX))
    }
}

/// What a file holds, beside its rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Description<T> {
    pub(super) samples: u64,
    /// Values a row.
    pub(super) row_values: u64,
    /// Whether a value is a float.
    pub(super) wide: bool,
    /// Whether targets are values.
    pub(super) values: bool,
    /// What the samples mean.
    pub(super) meaning: T,
}

/// A file that is being written.
pub(super) struct StoreWriter {
    file: BufWriter<Backing>,
    hasher: blake3::Hasher,
    folder: String,
}

enum Backing {
    Named(NamedTempFile),
    Unnamed(File),
}

impl Write for Backing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Named(file) => file.write(bytes),
            Self::Unnamed(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Named(file) => file.flush(),
            Self::Unnamed(file) => file.flush(),
        }
    }
}

impl StoreWriter {
    pub(super) fn create(storage: &Storage) -> Result<Self, DataError> {
        let folder = storage.cache.clone().unwrap_or_else(std::env::temp_dir);
        let text = folder.display().to_string();
        let backing = match &storage.cache {
            Some(folder) => fs::create_dir_all(folder).and_then(|()| NamedTempFile::new_in(folder)).map(Backing::Named),
            None => tempfile::tempfile().map(Backing::Unnamed),
        };
        let backing = backing.map_err(|source| DataError::Cache { path: text.clone(), source })?;
        let mut writer =
            Self { file: BufWriter::with_capacity(READ_BYTES, backing), hasher: blake3::Hasher::new(), folder: text };
        writer.write(MAGIC)?;
        Ok(writer)
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), DataError> {
        self.hasher.update(bytes);
        let folder = &self.folder;
        self.file.write_all(bytes).map_err(|source| DataError::Cache { path: folder.clone(), source })
    }

    /// Completes the file, and puts it under its key where the storage has a cache.
    pub(super) fn finish<T: Serialize>(
        mut self,
        storage: &Storage,
        key: &[u8; 32],
        targets: &Targets,
        description: &Description<T>,
    ) -> Result<StoredRows, DataError> {
        let text = serde_json::to_vec(description).expect("a description is plain data");
        self.write(targets.as_bytes())?;
        self.write(&text)?;
        self.write(&(text.len() as u64).to_le_bytes())?;
        let digest = *self.hasher.finalize().as_bytes();
        self.write(&digest)?;
        let folder = self.folder;
        let failed = |source| DataError::Cache { path: folder.clone(), source };
        let backing = self.file.into_inner().map_err(|error| failed(error.into_error()))?;
        let file = match (backing, storage.path(key)) {
            (Backing::Named(file), Some(path)) => {
                let bytes = file.as_file().metadata().map_err(failed)?.len();
                make_room(path.parent().unwrap_or(Path::new("/")), CACHE_BYTES_MAX.saturating_sub(bytes));
                file.as_file().sync_all().map_err(failed)?;
                let file = file.persist(&path).map_err(|error| failed(error.error))?;
                tracing::info!(path = %path.display(), bytes, "data that does not fit into memory is on disk");
                file
            }
            (Backing::Named(file), None) => file.into_file(),
            (Backing::Unnamed(file), _) => file,
        };
        Ok(StoredRows::new(file, folder, description))
    }
}

/// Removes the files that were not used for longest until those left have at most `bytes_max` together. What cannot be
/// removed stays: the disk says when it is full.
fn make_room(folder: &Path, bytes_max: u64) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let file = |entry: io::Result<fs::DirEntry>| {
        let path = entry.ok()?.path();
        let metadata = fs::metadata(&path).ok().filter(|_| path.extension().is_some_and(|suffix| suffix == SUFFIX))?;
        Some((metadata.mtime(), metadata.len(), path))
    };
    let mut files: Vec<_> = entries.filter_map(file).collect();
    files.sort_unstable();
    let mut total: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
    for (_, bytes, path) in files {
        if total <= bytes_max {
            return;
        }
        if fs::remove_file(&path).is_ok() {
            total -= bytes;
            tracing::info!(path = %path.display(), "an old data set left the cache");
        }
    }
}

/// What is in the cache under a key: rows, targets and description. `None` where there is nothing that can be used.
pub(super) fn load<T: for<'de> Deserialize<'de>>(
    storage: &Storage,
    key: &[u8; 32],
) -> Option<(StoredRows, Targets, Description<T>)> {
    let path = storage.path(key)?;
    let file = File::options().read(true).write(true).open(&path).ok()?;
    match check(&file) {
        Ok((targets, description)) => {
            // Says when it was used last; where that fails, it may be the first to go.
            let _ = file.set_modified(SystemTime::now());
            Some((StoredRows::new(file, path.display().to_string(), &description), targets, description))
        }
        Err(why) => {
            tracing::warn!(path = %path.display(), why, "a file of the data cache is damaged; it is made again");
            let _ = fs::remove_file(&path);
            None
        }
    }
}

/// Reads a file as a whole and compares its hash.
fn check<T: for<'de> Deserialize<'de>>(file: &File) -> Result<(Targets, Description<T>), String> {
    let io = |error: io::Error| error.to_string();
    let length = file.metadata().map_err(io)?.len();
    let body = length.checked_sub(40).ok_or("too short")?;
    let mut end = [0; 40];
    file.read_exact_at(&mut end, body).map_err(io)?;
    let (text_length, digest) = end.split_at(8);
    let mut hasher = blake3::Hasher::new();
    let mut source = file.take(body + 8);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match source.read(&mut buffer).map_err(io)? {
            0 => break,
            read => hasher.update(&buffer[..read]),
        };
    }
    if hasher.finalize().as_bytes()[..] != *digest {
        return Err("its content does not have its hash".to_owned());
    }
    let text_length = u64::from_le_bytes(text_length.try_into().map_err(|_| "no length")?);
    let text_start =
        body.checked_sub(text_length).filter(|_| text_length <= DESCRIPTION_BYTES_MAX).ok_or("no length")?;
    let mut text = vec![0; text_length as usize];
    file.read_exact_at(&mut text, text_start).map_err(io)?;
    let description: Description<T> = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    let values = if description.wide { 4 } else { 1 };
    let rows = description.samples.checked_mul(description.row_values).and_then(|count| count.checked_mul(values));
    let targets_start = rows.and_then(|rows| rows.checked_add(MAGIC.len() as u64)).ok_or("no rows")?;
    let target_bytes = description.samples * if description.values { 4 } else { 2 };
    if targets_start + target_bytes != text_start {
        return Err("its parts do not fit together".to_owned());
    }
    let mut targets = vec![0; target_bytes as usize];
    file.read_exact_at(&mut targets, targets_start).map_err(io)?;
    let targets = match description.values {
        true => Targets::Values(bytemuck::pod_collect_to_vec(&targets)),
        false => Targets::Classes(bytemuck::pod_collect_to_vec(&targets)),
    };
    Ok((targets, description))
}

/// Rows in a file.
#[derive(Debug)]
pub struct StoredRows {
    file: File,
    path: String,
    row_bytes: usize,
    width: Width,
    samples: u32,
    runs: Option<Mutex<Runs>>,
}

/// Runs of rows that were read lately, so that a window of them is read once.
#[derive(Debug)]
struct Runs {
    /// Rows a run.
    rows: u32,
    runs_max: usize,
    known: HashMap<u32, Arc<Vec<u8>>>,
    /// The oldest first.
    order: VecDeque<u32>,
}

impl StoredRows {
    fn new<T>(file: File, path: String, description: &Description<T>) -> Self {
        let width = if description.wide { Width::Float } else { Width::Byte };
        Self {
            file,
            path,
            row_bytes: description.row_values as usize * width.bytes(),
            width,
            samples: u32::try_from(description.samples).unwrap_or(u32::MAX),
            runs: None,
        }
    }

    pub(super) fn is_wide(&self) -> bool {
        self.width == Width::Float
    }

    /// Reads whole micro-shards and keeps a window of them, where the order has one and it fits into memory. Otherwise
    /// rows are read one by one, wherever they lie.
    pub(super) fn read_for(&mut self, order: OrderSpec, memory_max: u64) {
        let Some(window) = order.window.filter(|_| order.seed.is_some()) else { return };
        let run_bytes = order.micro_shard as u64 * self.row_bytes as u64;
        // The next window's runs come in while the last of the current one are still used.
        let runs_max = 2 * u64::from(window / order.micro_shard.max(1)).max(1);
        if runs_max * run_bytes > memory_max {
            tracing::warn!(window, "two windows do not fit into memory; samples are read one by one");
            return;
        }
        let (known, order_of_use) = (HashMap::new(), VecDeque::new());
        let runs = Runs { rows: order.micro_shard, runs_max: runs_max as usize, known, order: order_of_use };
        self.runs = Some(Mutex::new(runs));
    }

    /// Reads the rows of these samples into `out`, one after the other.
    pub(super) fn read(&self, ids: &[u32], out: &mut [u8]) -> Result<(), DataError> {
        let read = match &self.runs {
            Some(runs) => self.read_runs(&mut runs.lock().unwrap_or_else(PoisonError::into_inner), ids, out),
            None => self.read_rows(ids, out),
        };
        read.map_err(|source| DataError::Unreadable { path: self.path.clone(), source })
    }

    fn read_runs(&self, runs: &mut Runs, ids: &[u32], out: &mut [u8]) -> io::Result<()> {
        for (&id, out) in ids.iter().zip(out.chunks_exact_mut(self.row_bytes)) {
            let number = id / runs.rows;
            let run = match runs.known.get(&number) {
                Some(run) => run.clone(),
                None => {
                    let first = number * runs.rows;
                    let count = runs.rows.min(self.samples.saturating_sub(first));
                    let mut bytes = vec![0; count as usize * self.row_bytes];
                    self.file.read_exact_at(&mut bytes, self.offset(first))?;
                    runs.insert(number, Arc::new(bytes))
                }
            };
            let at = (id % runs.rows) as usize * self.row_bytes;
            out.copy_from_slice(&run[at..at + self.row_bytes]);
        }
        Ok(())
    }

    /// Neighbours are read in one go.
    fn read_rows(&self, ids: &[u32], out: &mut [u8]) -> io::Result<()> {
        let mut places: Vec<usize> = (0..ids.len()).collect();
        places.sort_unstable_by_key(|&place| ids[place]);
        let mut buffer = Vec::new();
        for run in places.chunk_by(|&one, &next| ids[next] == ids[one] + 1) {
            buffer.resize(run.len() * self.row_bytes, 0);
            self.file.read_exact_at(&mut buffer, self.offset(ids[run[0]]))?;
            for (&place, row) in run.iter().zip(buffer.chunks_exact(self.row_bytes)) {
                out[place * self.row_bytes..(place + 1) * self.row_bytes].copy_from_slice(row);
            }
        }
        Ok(())
    }

    fn offset(&self, row: u32) -> u64 {
        MAGIC.len() as u64 + u64::from(row) * self.row_bytes as u64
    }
}

impl Runs {
    fn insert(&mut self, number: u32, run: Arc<Vec<u8>>) -> Arc<Vec<u8>> {
        if self.order.len() >= self.runs_max
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.order.push_back(number);
        self.known.insert(number, run.clone());
        run
    }
}
