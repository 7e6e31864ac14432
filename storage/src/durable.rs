//! Small pieces of durable file writing: what is renamed into place is on disk first, and so is the folder's entry.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// For files that only their owner may read.
pub(crate) const PRIVATE: u32 = 0o600;
/// For files that others may read as far as the umask lets them.
pub(crate) const SHARED: u32 = 0o666;

/// Makes the entries of a folder durable: creations, renames and removals in it.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Creates `dir` and its parents; the new entry is durable afterwards.
pub(crate) fn create_dir(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        _ => Ok(()),
    }
}

/// Writes a new file, or over an old one, and syncs it. The folder's entry is not synced here.
pub(crate) fn write_synced(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Replaces `path` by `bytes` in one step: a reader, and a crash, see the old file or the new one. For files with one writer:
/// what a crash leaves behind is overwritten by the next try.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    replace_by(&beside(path, ".tmp"), path, bytes, mode)
}

/// As [`replace`], for files that another process may be replacing at the same time: the last one to finish stays, whole. A
/// writer that is killed leaves a file behind whose name ends in `.tmp` and numbers.
pub(crate) fn replace_among_writers(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let (process, write) = (std::process::id(), WRITES.fetch_add(1, Ordering::Relaxed));
    replace_by(&beside(path, &format!(".tmp-{process}-{write}")), path, bytes, mode)
}

fn replace_by(temporary: &Path, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let result = write_synced(temporary, bytes, mode).and_then(|()| fs::rename(temporary, path));
    if let Err(error) = result {
        // The first error is the one worth telling.
        let _ = fs::remove_file(temporary);
        return Err(error);
    }
    sync_dir(path.parent().unwrap_or(Path::new(".")))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

/// Whether there was no room: on the disk, within the quota, or within the file size limit.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

/// The current wall-clock time, for stamps that people read. Nothing is decided by it.
pub(crate) fn wall_clock() -> neap_scheduler::model::Millis {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_of_one_file_do_not_disturb_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        std::thread::scope(|scope| {
            for writer in 0..4_u8 {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..20 {
                        replace_among_writers(path, &vec![writer; 100_000], SHARED).unwrap();
                        let read = fs::read(path).unwrap();
                        assert!(read.len() == 100_000 && read.iter().all(|byte| *byte == read[0]));
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
