//! Checkpoints in a local folder.
//!
//! A publish writes its chunks and then its manifest into a folder of its own, syncs each, renames the folder and syncs
//! the folder around it (design rule 7). Whatever has the name of a checkpoint is therefore complete.
//!
//! The fence is a file, looked at under a lock right before the rename.

mod publish;
mod read;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use neap_scheduler::model::MembershipEpoch;

use super::manifest::Name;
use super::{CheckpointError, KEEP_MIN};
use crate::durable;

const FENCE_FILE: &str = "fence";
const FENCE_LOCK: &str = "fence.lock";
const TMP_PREFIX: &str = "tmp-";

/// The checkpoints of one job in a folder.
#[derive(Debug, Clone)]
pub(super) struct LocalStore {
    folder: PathBuf,
}

impl LocalStore {
    /// Uses `folder`, which is created where it is missing.
    pub(super) fn open(folder: &Path) -> Result<Self, CheckpointError> {
        durable::create_dir(folder).map_err(|source| failed("create", folder, source))?;
        Ok(Self { folder: folder.to_owned() })
    }

    pub(super) fn shown(&self) -> String {
        self.folder.display().to_string()
    }

    /// Writes a file and removes it.
    pub(super) fn check_writable(&self) -> Result<(), CheckpointError> {
        let path = self.folder.join(format!("{TMP_PREFIX}e0-probe-{}", std::process::id()));
        let probed = durable::write_synced(&path, b"probe", durable::SHARED).and_then(|()| fs::remove_file(&path));
        probed.map_err(|source| failed("write", &path, source))
    }

    /// From now on refuses to publish for memberships before `epoch`, and removes what they left unfinished. A lower
    /// epoch than before changes nothing.
    pub(super) fn fence(&self, epoch: MembershipEpoch) -> Result<(), CheckpointError> {
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
    pub(super) fn read_fence(&self) -> Result<MembershipEpoch, CheckpointError> {
        let path = self.folder.join(FENCE_FILE);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(MembershipEpoch::default()),
            text => text.map_err(|source| failed("read", &path, source))?,
        };
        let bad = |_| failed("read", &path, io::Error::new(io::ErrorKind::InvalidData, "it holds no epoch"));
        text.trim_end().parse().map(MembershipEpoch).map_err(bad)
    }

    /// All checkpoints, the oldest first: by membership epoch, then by step.
    pub(super) fn list(&self) -> Result<Vec<Name>, CheckpointError> {
        let mut names: Vec<Name> = self.file_names()?.iter().filter_map(|name| Name::parse(name)).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Deletes all but the newest `count` checkpoints, at least [`KEEP_MIN`], and returns the names of the deleted
    /// ones.
    pub(super) fn keep(&self, count: usize) -> Result<Vec<String>, CheckpointError> {
        let listed = self.list()?;
        let surplus = listed.len().saturating_sub(count.max(KEEP_MIN));
        let mut deleted = Vec::new();
        for name in listed.iter().take(surplus).map(Name::to_string) {
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
            return Err(CheckpointError::Fenced { store: self.shown(), asked, fence });
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
