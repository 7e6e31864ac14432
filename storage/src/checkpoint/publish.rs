//! Publishing: chunks, manifest, rename; each on disk before the next.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use neap_scheduler::model::MembershipEpoch;

use super::manifest::{MANIFEST_FILE, Manifest, Name, check_part_names, chunk_file};
use super::{CHUNK_BYTES, CheckpointError, CheckpointStore, Meta, Published, TMP_PREFIX, failed};
use crate::durable;

/// What a publish has just done. Tests stop it there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    FolderMade,
    ChunkWritten,
    ManifestWritten,
    FolderSynced,
    Renamed,
}

impl CheckpointStore {
    /// Publishes `parts` as one checkpoint. When this returns, all of it is on disk; on any error, and after a crash,
    /// none of it is to be seen. Publishing the same again gives the same checkpoint.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Fenced`] where a later membership has taken over, [`CheckpointError::Full`],
    /// [`CheckpointError::BadPart`], [`CheckpointError::Io`].
    pub fn publish(&self, meta: &Meta, parts: &[(&str, &[u8])]) -> Result<Published, CheckpointError> {
        self.publish_watched(meta, parts, &mut |_| {})
    }

    pub(super) fn publish_watched(
        &self,
        meta: &Meta,
        parts: &[(&str, &[u8])],
        watch: &mut dyn FnMut(Step),
    ) -> Result<Published, CheckpointError> {
        check_part_names(parts.iter().map(|(name, _)| *name))?;
        self.check_fence(meta.membership)?;
        self.remove_unfinished_before(meta.membership);
        let manifest = serde_json::to_vec_pretty(&Manifest::of(meta, parts))
            .map_err(|error| CheckpointError::BadPart(error.to_string()))?;
        let digest = blake3::hash(&manifest).to_hex().to_string();
        let name = Name::new(meta, &digest).to_string();
        let bytes = parts.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        let published = Published { path: self.folder.join(&name), name, digest, bytes };
        let unfinished = self.folder.join(unfinished_name(meta));
        let result = write_all(&unfinished, parts, &manifest, watch)
            .map_err(|(path, source)| self.failed_write(bytes, &path, source))
            .and_then(|()| self.make_visible(meta.membership, &unfinished, &published, watch));
        if result.is_err() {
            // Nobody refers to it. What cannot be removed now goes with the next membership.
            let _ = fs::remove_dir_all(&unfinished);
        }
        result.map(|()| published)
    }

    fn make_visible(
        &self,
        membership: MembershipEpoch,
        unfinished: &Path,
        published: &Published,
        watch: &mut dyn FnMut(Step),
    ) -> Result<(), CheckpointError> {
        let _lock = self.lock()?;
        self.check_fence(membership)?;
        let Published { name, path, bytes, .. } = published;
        if path.exists() {
            if self.load(name).is_ok() {
                return fs::remove_dir_all(unfinished).map_err(|source| failed("remove", unfinished, source));
            }
            // The same checkpoint was damaged since: the one just written takes its place.
            fs::remove_dir_all(path).map_err(|source| failed("remove", path, source))?;
        }
        fs::rename(unfinished, path).map_err(|source| self.failed_write(*bytes, path, source))?;
        watch(Step::Renamed);
        durable::sync_dir(&self.folder).map_err(|source| failed("sync", &self.folder, source))
    }

    fn failed_write(&self, bytes: u64, path: &Path, source: io::Error) -> CheckpointError {
        if durable::is_full(&source) {
            return CheckpointError::Full { folder: self.folder.clone(), bytes, source };
        }
        failed("write", path, source)
    }
}

type WriteFailure = (std::path::PathBuf, io::Error);

fn write_all(
    folder: &Path,
    parts: &[(&str, &[u8])],
    manifest: &[u8],
    watch: &mut dyn FnMut(Step),
) -> Result<(), WriteFailure> {
    fs::create_dir(folder).map_err(|error| (folder.to_owned(), error))?;
    watch(Step::FolderMade);
    let write = |file: &str, bytes: &[u8]| {
        let path = folder.join(file);
        durable::write_synced(&path, bytes, durable::SHARED).map_err(|error| (path, error))
    };
    for (name, bytes) in parts {
        for (index, chunk) in bytes.chunks(CHUNK_BYTES).enumerate() {
            write(&chunk_file(name, index), chunk)?;
            watch(Step::ChunkWritten);
        }
    }
    write(MANIFEST_FILE, manifest)?;
    watch(Step::ManifestWritten);
    durable::sync_dir(folder).map_err(|error| (folder.to_owned(), error))?;
    watch(Step::FolderSynced);
    Ok(())
}

/// A name that no other publish uses, with the membership epoch so that later ones know what they may remove.
fn unfinished_name(meta: &Meta) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{TMP_PREFIX}e{}-s{}-{}-{count}", meta.membership.0, meta.step, std::process::id())
}

/// The membership epoch of an unfinished publish, if `name` is of one.
pub(super) fn unfinished_epoch(name: &str) -> Option<MembershipEpoch> {
    let epoch = name.strip_prefix(TMP_PREFIX)?.strip_prefix('e')?.split('-').next()?;
    epoch.parse().ok().map(MembershipEpoch)
}
