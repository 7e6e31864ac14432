//! Copies of whole objects on a node, shared by the jobs that run there.
//!
//! ```text
//! <folder>/content/<blake3>    a copy, under the hash of its content
//! <folder>/known/<version>     a link to the copy of one version of one object: the hash of its URI, size and ETag
//! <folder>/partial/<version>   a download under way; with `.lock`, a file that is locked by the process that makes it
//! ```
//!
//! A copy appears under its name complete, with one rename; a process that is killed leaves a partial file, which the next one
//! takes over or removes. Two processes that want the same version do not both fetch it: the second waits for the lock and
//! finds the copy. Each time a copy is handed out its content is hashed, and one that is damaged is fetched again. Copies that
//! were not used for longest make room, except those that a process holds.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use super::{DownloadError, ObjectError, ObjectInfo, Objects};

/// What all copies of a node take together; a single larger object is kept all the same, and alone.
const BYTES_MAX: u64 = 256 << 30;

/// Bytes read or written at once.
const BUFFER_BYTES: usize = 1 << 20;

const CONTENT: &str = "content";
const KNOWN: &str = "known";
const PARTIAL: &str = "partial";

/// The suffix of locks.
const LOCK: &str = "lock";

/// Why there is no copy of an object.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The store did not give the object.
    #[error(transparent)]
    Store(#[from] ObjectError),
    /// The node's disk did not take it.
    #[error("failed to keep copies of objects in {}; free some space there", folder.display())]
    Disk {
        /// The cache's folder.
        folder: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A node's copies of objects.
#[derive(Debug, Clone)]
pub struct ObjectCache {
    folder: PathBuf,
    bytes_max: u64,
}

/// A copy of an object. It stays on disk as long as this lives.
#[derive(Debug)]
pub struct CachedObject {
    /// The file.
    pub path: PathBuf,
    /// blake3 of its content.
    pub hash: [u8; 32],
    /// Whether it was fetched now, and not there before.
    pub is_new: bool,
    /// Locked against removal.
    _held: File,
}

impl ObjectCache {
    /// The cache in this folder; it is made when something is put into it.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, bytes_max: BYTES_MAX }
    }

    /// With room for so many bytes.
    pub fn with_room(self, bytes_max: u64) -> Self {
        Self { bytes_max, ..self }
    }

    /// A copy of the object as it was when it was looked at: one that is there, else a new one. Blocks while another process
    /// fetches the same.
    ///
    /// # Errors
    ///
    /// [`CacheError`]. What was there is as it was.
    pub fn fetch(&self, objects: &Objects, object: &ObjectInfo) -> Result<CachedObject, CacheError> {
        let version = objects.version(object);
        if let Some(found) = version.as_deref().and_then(|version| self.known(version)) {
            return Ok(found);
        }
        let disk = |source| CacheError::Disk { folder: self.folder.clone(), source };
        for part in [CONTENT, KNOWN, PARTIAL] {
            fs::create_dir_all(self.folder.join(part)).map_err(disk)?;
        }
        // Without a name for its content an object is fetched each time.
        static UNNAMED: AtomicU64 = AtomicU64::new(0);
        let unnamed = || format!("unnamed-{}-{}", std::process::id(), UNNAMED.fetch_add(1, Ordering::Relaxed));
        let partial =
            Partial::lock(&self.folder.join(PARTIAL), version.clone().unwrap_or_else(unnamed)).map_err(disk)?;
        if let Some(found) = version.as_deref().and_then(|version| self.known(version)) {
            return Ok(found);
        }
        self.make_room(object.bytes);
        let fetched = partial.download(objects, object).and_then(|hash| {
            let kept = self.keep(&partial, hash, version.as_deref());
            kept.map_err(DownloadError::Keep)
        });
        fetched.map_err(|error| match error {
            DownloadError::Store(error) => CacheError::Store(error),
            DownloadError::Keep(source) => disk(source),
        })
    }

    /// The copy of a version, where there is one that is whole.
    fn known(&self, version: &str) -> Option<CachedObject> {
        let target = fs::read_link(self.folder.join(KNOWN).join(version)).ok()?;
        let name = target.file_name()?.to_str()?;
        let mut hash = [0; 32];
        hex::decode_to_slice(name, &mut hash).ok()?;
        self.hold(hash)
    }

    /// Holds a copy, where there is one that is whole.
    fn hold(&self, hash: [u8; 32]) -> Option<CachedObject> {
        let path = self.content(hash);
        let mut file = File::open(&path).ok()?;
        file.lock_shared().ok()?;
        // It may have made room between the two calls.
        if !is_at(&file, &path) {
            return None;
        }
        if hash_of(&mut file).ok()? != hash {
            tracing::warn!(path = %path.display(), "a copy of an object is damaged; it is fetched again");
            let _ = fs::remove_file(&path);
            return None;
        }
        // Says when it was used last; where that fails, it may be the first to go.
        let _ = file.set_modified(SystemTime::now());
        Some(CachedObject { path, hash, is_new: false, _held: file })
    }

    /// Gives a complete download its name.
    fn keep(&self, partial: &Partial, hash: [u8; 32], version: Option<&str>) -> io::Result<CachedObject> {
        let path = self.content(hash);
        // Another object may have the same content.
        let kept = match self.hold(hash) {
            Some(there) => CachedObject { is_new: true, ..there },
            None => {
                fs::rename(&partial.path, &path)?;
                let held = File::open(&path)?;
                held.lock_shared()?;
                CachedObject { path, hash, is_new: true, _held: held }
            }
        };
        if let Some(version) = version {
            let link = self.folder.join(KNOWN).join(version);
            // Of an earlier copy that made room. Nobody else writes it while this download is locked.
            let _ = fs::remove_file(&link);
            symlink(Path::new("..").join(CONTENT).join(hex::encode(hash)), link)?;
        }
        Ok(kept)
    }

    fn content(&self, hash: [u8; 32]) -> PathBuf {
        self.folder.join(CONTENT).join(hex::encode(hash))
    }

    /// Removes what was not used for longest, until `more` bytes have room; and downloads that nobody goes on with. What is in
    /// use or cannot be removed stays: the disk says when it is full.
    fn make_room(&self, more: u64) {
        for lock in files_of(&self.folder.join(PARTIAL)).filter(|path| path.extension().is_some_and(|end| end == LOCK))
        {
            remove_unlocked(&lock, || fs::remove_file(lock.with_extension("")));
        }
        let aged = |path: PathBuf| fs::metadata(&path).ok().map(|found| (found.mtime(), found.len(), path));
        let mut copies: Vec<_> = files_of(&self.folder.join(CONTENT)).filter_map(aged).collect();
        copies.sort_unstable();
        let room = self.bytes_max.saturating_sub(more);
        let mut total: u64 = copies.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, bytes, path) in copies {
            if total <= room {
                break;
            }
            if remove_unlocked(&path, || Ok(())) {
                total -= bytes;
                tracing::info!(path = %path.display(), bytes, "an old copy of an object left the cache");
            }
        }
        for link in files_of(&self.folder.join(KNOWN)).filter(|link| !link.exists()) {
            let _ = fs::remove_file(link);
        }
    }
}

impl Objects {
    /// What one version of an object is known by: the hash of its URI, size and ETag, in hex. Nothing where the store does not
    /// say what its content is.
    pub fn version(&self, object: &ObjectInfo) -> Option<String> {
        let mut hasher = blake3::Hasher::new();
        for part in [self.full(&object.key).as_str(), object.etag.as_deref()?] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        hasher.update(&object.bytes.to_le_bytes());
        Some(hasher.finalize().to_hex().to_string())
    }
}

/// A download under way, which no other process makes as long as this lives.
struct Partial {
    path: PathBuf,
    lock_path: PathBuf,
    _lock: File,
}

impl Partial {
    /// Waits for a process that makes the same.
    fn lock(folder: &Path, name: String) -> io::Result<Self> {
        let path = folder.join(name);
        let lock_path = path.with_extension(LOCK);
        loop {
            let lock = File::options().create(true).truncate(false).write(true).open(&lock_path)?;
            lock.lock()?;
            // Whoever had it has removed it, and others have another one.
            if is_at(&lock, &lock_path) {
                return Ok(Self { path, lock_path, _lock: lock });
            }
        }
    }

    /// Writes the object down; gives the hash of its content.
    fn download(&self, objects: &Objects, object: &ObjectInfo) -> Result<[u8; 32], DownloadError> {
        let file = File::create(&self.path).map_err(DownloadError::Keep)?;
        let mut hasher = blake3::Hasher::new();
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, file);
        objects.download(object, |bytes| {
            hasher.update(bytes);
            out.write_all(bytes)
        })?;
        let file = out.into_inner().map_err(|error| DownloadError::Keep(error.into_error()))?;
        file.sync_all().map_err(DownloadError::Keep)?;
        Ok(*hasher.finalize().as_bytes())
    }
}

/// The lock's file goes last: what is left without one is nobody's.
impl Drop for Partial {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_file(&self.lock_path);
    }
}

fn hash_of(file: &mut File) -> io::Result<[u8; 32]> {
    let (mut hasher, mut buffer) = (blake3::Hasher::new(), vec![0; BUFFER_BYTES]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(*hasher.finalize().as_bytes()),
            read => hasher.update(&buffer[..read]),
        };
    }
}

/// Whether an open file is the one that has this path now.
fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(open), Ok(named)) = (file.metadata(), fs::metadata(path)) else { return false };
    (open.dev(), open.ino()) == (named.dev(), named.ino())
}

fn files_of(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder).into_iter().flatten().filter_map(|entry| entry.ok().map(|entry| entry.path()))
}

/// Removes a file that no process has locked, and before it what belongs to it.
fn remove_unlocked(path: &Path, before: impl FnOnce() -> io::Result<()>) -> bool {
    let Ok(file) = File::open(path) else { return false };
    let is_free = file.try_lock().is_ok() && is_at(&file, path);
    if is_free {
        let _ = before();
    }
    is_free && fs::remove_file(path).is_ok()
}

#[cfg(test)]
mod tests;
