//! Data in object stores: which objects are meant, and their copies on this node.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use glob::{MatchOptions, Pattern};
use neap_scheduler::model::RemoteObjects;
use neap_storage::object::{Access, CacheError, ObjectCache, ObjectError, ObjectInfo, Objects};
use tempfile::TempDir;

use super::files::{DataFile, check_count, has_suffix};
use super::{DataError, Fault, Storage};

/// Objects that are copied at once; each has some parts of its own under way.
const AT_ONCE: usize = 4;

/// `*` stays within a part of a key, as it does within a name on a disk.
const MATCH: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };

/// Copies of objects in a node's cache.
const OBJECTS: &str = "objects";

/// How object stores are reached, and what came from them.
#[derive(Debug)]
pub struct Stores {
    access: Access,
    /// For copies where there is no cache; goes with the process.
    scratch: OnceLock<TempDir>,
    fetched_bytes: AtomicU64,
    /// Of one data set.
    fetched_bytes_max: u64,
}

impl Stores {
    /// Stores that are reached so.
    pub fn new(access: Access) -> Self {
        Self { access, scratch: OnceLock::new(), fetched_bytes: AtomicU64::new(0), fetched_bytes_max: u64::MAX }
    }

    /// Of which no data set with more bytes is fetched.
    pub fn with_most(self, fetched_bytes_max: u64) -> Self {
        Self { fetched_bytes_max, ..self }
    }

    /// How they are reached.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Bytes of objects that were fetched; what was found on the node is not counted.
    pub fn fetched_bytes(&self) -> u64 {
        self.fetched_bytes.load(Ordering::Relaxed)
    }

    /// The copies that this node has, or with no cache those of this process.
    pub(crate) fn copies(&self, cache: Option<&PathBuf>) -> Result<ObjectCache, DataError> {
        if let Some(cache) = cache {
            return Ok(ObjectCache::new(cache.join(OBJECTS)));
        }
        if self.scratch.get().is_none() {
            let path = || std::env::temp_dir().display().to_string();
            let folder = tempfile::tempdir().map_err(|source| DataError::Cache { path: path(), source })?;
            // Another thread may have been first; its folder is as good.
            let _ = self.scratch.set(folder);
        }
        let folder = self.scratch.get().map_or_else(std::env::temp_dir, |folder| folder.path().to_owned());
        Ok(ObjectCache::new(folder))
    }

    pub(crate) fn fetched(&self, bytes: u64) {
        self.fetched_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// The objects that a URI may mean, as they are now, sorted by key.
#[derive(Debug)]
pub(super) struct RemoteFiles {
    uri: String,
    objects: Objects,
    found: Vec<ObjectInfo>,
    /// Whether the URI names them all: one, or a pattern. Of what lies below a prefix, only some may be meant.
    all_meant: bool,
}

impl RemoteFiles {
    /// Asks the store: for the object itself, else for what lies directly below the prefix; or for what matches the pattern.
    pub(super) fn look(meant: &RemoteObjects, stores: &Stores) -> Result<Self, DataError> {
        let uri = meant.to_string();
        let failed = |source: ObjectError| DataError::Store { uri: uri.clone(), source: Box::new(source) };
        let objects = Objects::open(meant.place(), stores.access()).map_err(failed)?;
        let (found, all_meant) = match meant.pattern() {
            Some(pattern) => {
                let help = "write `*` for any text within a part of a key and `?` for one character";
                let pattern = Pattern::new(pattern);
                let pattern = pattern.map_err(|error| Fault::new(format!("is no pattern ({error})"), help).at(&uri))?;
                let mut found = objects.list("").map_err(failed)?;
                found.retain(|object| pattern.matches_with(&object.key, MATCH));
                (found, true)
            }
            None => match one(&objects, meant).map_err(failed)? {
                Some(object) => (vec![object], true),
                None => {
                    let mut found = objects.list("").map_err(failed)?;
                    found.retain(|object| !object.key.contains('/'));
                    (found, false)
                }
            },
        };
        if found.is_empty() {
            return Err(failed(ObjectError::NotFound { key: uri.clone() }));
        }
        Ok(Self { uri, objects, found, all_meant })
    }

    /// The names of what was found.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.found.iter().map(|object| object.key.as_str())
    }

    /// Whether the object of this name is a file of the data set, whose files end in one of these.
    pub(super) fn is_meant(&self, name: &str, suffixes: &[&str]) -> bool {
        self.all_meant || has_suffix(name, suffixes)
    }

    /// Some files must be meant, and not too many.
    pub(super) fn check_count(&self, suffixes: &[&str]) -> Result<(), DataError> {
        check_count(self.names().filter(|name| self.is_meant(name, suffixes)).count(), suffixes, &self.uri)
    }

    /// Copies of the objects whose names are `meant`, in the order of their keys.
    pub(super) fn fetch(&self, meant: impl Fn(&str) -> bool, storage: &Storage) -> Result<Vec<DataFile>, DataError> {
        let cache = storage.stores.copies(storage.cache.as_ref())?;
        let waiting: VecDeque<_> = self.found.iter().filter(|object| meant(&object.key)).enumerate().collect();
        let (bytes, bytes_max) =
            (waiting.iter().map(|(_, object)| object.bytes).sum(), storage.stores.fetched_bytes_max);
        if bytes > bytes_max {
            return Err(DataError::NotFetched { uri: self.uri.clone(), bytes, bytes_max });
        }
        let threads = AT_ONCE.min(waiting.len());
        let waiting = Mutex::new(waiting);
        let fetch = || {
            let mut fetched = Vec::new();
            loop {
                let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some((at, object)) = next else { return Ok(fetched) };
                match self.copy(&cache, object, storage) {
                    Ok(file) => fetched.push((at, file)),
                    Err(error) => {
                        waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
                        return Err(error);
                    }
                }
            }
        };
        let fetched: Result<Vec<_>, _> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(fetch)).collect();
            let joined = threads.into_iter().map(|thread| thread.join());
            joined.map(|joined| joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        });
        let mut files: Vec<_> = fetched?.into_iter().flatten().collect();
        files.sort_unstable_by_key(|(at, _)| *at);
        Ok(files.into_iter().map(|(_, file)| file).collect())
    }

    fn copy(&self, cache: &ObjectCache, object: &ObjectInfo, storage: &Storage) -> Result<DataFile, DataError> {
        let copy = cache.fetch(&self.objects, object).map_err(|error| match error {
            CacheError::Store(source) => DataError::Store { uri: self.uri.clone(), source: Box::new(source) },
            CacheError::Disk { folder, source } => DataError::Cache { path: folder.display().to_string(), source },
        })?;
        if copy.is_new {
            storage.stores.fetched(object.bytes);
        }
        let uri = self.objects.full(&object.key);
        tracing::info!(%uri, bytes = object.bytes, fetched = copy.is_new, "an object is on this node");
        Ok(DataFile::copy(uri, copy))
    }
}

/// The object that a URI names; `None` where there is none of that name. A whole bucket is never one.
fn one(objects: &Objects, meant: &RemoteObjects) -> Result<Option<ObjectInfo>, ObjectError> {
    if meant.place().prefix().is_empty() {
        return Ok(None);
    }
    match objects.look_at("") {
        Ok(object) => Ok(Some(object)),
        Err(ObjectError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
