//! Publishing: chunks, manifest, rename; each on disk before the next.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use neap_scheduler::model::MembershipEpoch;

use super::super::manifest::{MANIFEST_FILE, Prepared, chunk_file};
use super::super::{CHUNK_BYTES, CheckpointError, Meta, Published};
use super::{LocalStore, TMP_PREFIX, failed};
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

impl LocalStore {
    pub(in super::super) fn publish(&self, meta: &Meta, parts: &[(&str, &[u8])]) -> Result<Published, CheckpointError> {
        self.publish_watched(meta, parts, &mut |_| {})
    }

    pub(super) fn publish_watched(
        &self,
        meta: &Meta,
        parts: &[(&str, &[u8])],
        watch: &mut dyn FnMut(Step),
    ) -> Result<Published, CheckpointError> {
        self.check_fence(meta.membership)?;
        let Prepared { manifest, published } = Prepared::new(meta, parts, CHUNK_BYTES)?;
        let bytes = published.bytes;
        let unfinished = self.folder.join(unfinished_name(meta));
        let result = self
            .fence(meta.membership)
            .and_then(|()| write_all(&unfinished, parts, &manifest, watch))
            .and_then(|()| self.make_visible(meta.membership, &unfinished, &published, watch));
        match result {
            Ok(()) => Ok(published),
            Err(error) => {
                // Nobody refers to it. What cannot be removed now goes with the next membership.
                let _ = fs::remove_dir_all(&unfinished);
                // Whoever has taken over removes what was unfinished; that is the reason then, not the missing file.
                self.check_fence(meta.membership)?;
                Err(self.named_full(error, bytes))
            }
        }
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
        let path = &self.folder.join(&published.name);
        if path.exists() {
            if self.load(&published.name).is_ok() {
                return fs::remove_dir_all(unfinished).map_err(|source| failed("remove", unfinished, source));
            }
            // The same checkpoint was damaged since: the one just written takes its place.
            fs::remove_dir_all(path).map_err(|source| failed("remove", path, source))?;
        }
        fs::rename(unfinished, path).map_err(|source| failed("write", path, source))?;
        watch(Step::Renamed);
        durable::sync_dir(&self.folder).map_err(|source| failed("sync", &self.folder, source))
    }

    /// Says what a full disk means for a checkpoint.
    fn named_full(&self, error: CheckpointError, bytes: u64) -> CheckpointError {
        match error {
            CheckpointError::Io { source, .. } if durable::is_full(&source) => {
                CheckpointError::Full { store: self.shown(), bytes, source }
            }
            other => other,
        }
    }
}

fn write_all(
    folder: &Path,
    parts: &[(&str, &[u8])],
    manifest: &[u8],
    watch: &mut dyn FnMut(Step),
) -> Result<(), CheckpointError> {
    fs::create_dir(folder).map_err(|source| failed("create", folder, source))?;
    watch(Step::FolderMade);
    let write = |file: &str, bytes: &[u8]| {
        let path = folder.join(file);
        durable::write_synced(&path, bytes, durable::SHARED).map_err(|source| failed("write", &path, source))
    };
    for (name, bytes) in parts {
        for (index, chunk) in bytes.chunks(CHUNK_BYTES).enumerate() {
            write(&chunk_file(name, index), chunk)?;
            watch(Step::ChunkWritten);
        }
    }
    write(MANIFEST_FILE, manifest)?;
    watch(Step::ManifestWritten);
    durable::sync_dir(folder).map_err(|source| failed("sync", folder, source))?;
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

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};

    use super::super::super::CheckpointStore;
    use super::*;

    fn meta(membership: u64, step: u64) -> Meta {
        let membership = MembershipEpoch(membership);
        Meta { membership, step, epoch: 1, cursor: 2, extra: serde_json::json!({ "rng": [1, 2] }) }
    }

    fn unfinished(store: &LocalStore) -> usize {
        store.file_names().unwrap().iter().filter(|name| unfinished_epoch(name).is_some()).count()
    }

    /// Nothing is cleaned up by unwinding, so a panic leaves the files as a crash at that point would.
    #[test]
    fn a_crash_after_any_step_leaves_no_partial_checkpoint() {
        let two_chunks = vec![7; CHUNK_BYTES + 1];
        let parts: [(&str, &[u8]); 2] = [("w", &two_chunks), ("m", b"momentum")];
        let steps = [
            Step::FolderMade,
            Step::ChunkWritten,
            Step::ChunkWritten,
            Step::ChunkWritten,
            Step::ManifestWritten,
            Step::FolderSynced,
            Step::Renamed,
        ];
        for (crash_after, step) in steps.into_iter().enumerate() {
            let dir = tempfile::tempdir().unwrap();
            let (store, whole) = (LocalStore::open(dir.path()).unwrap(), CheckpointStore::open(dir.path()).unwrap());
            let before = store.publish(&meta(1, 1), &[("w", b"before")]).unwrap();
            let mut seen = 0;
            let crashed = catch_unwind(AssertUnwindSafe(|| {
                store.publish_watched(&meta(1, 2), &parts, &mut |now| {
                    if seen == crash_after {
                        panic_any(now);
                    }
                    seen += 1;
                })
            }));
            assert_eq!(crashed.unwrap_err().downcast_ref(), Some(&step));
            let latest = whole.load_latest().unwrap().unwrap();
            match step {
                Step::Renamed => assert_eq!(latest.parts["w"], two_chunks),
                _ => assert_eq!((latest.name, store.list().unwrap().len()), (before.name, 1), "{step:?}"),
            }
            // The next membership finds its way and cleans up.
            store.publish(&meta(2, 2), &parts).unwrap();
            assert_eq!(whole.load_latest().unwrap().unwrap().meta, meta(2, 2));
            assert_eq!(unfinished(&store), 0, "{step:?}");
        }
    }

    #[test]
    fn a_fence_stops_a_publish_that_is_under_way() {
        for at in [Step::FolderMade, Step::ChunkWritten, Step::FolderSynced] {
            let dir = tempfile::tempdir().unwrap();
            let store = LocalStore::open(dir.path()).unwrap();
            let result = store.publish_watched(&meta(3, 9), &[("w", b"late")], &mut |now| {
                if now == at {
                    store.fence(MembershipEpoch(4)).unwrap();
                }
            });
            assert!(
                matches!(result, Err(CheckpointError::Fenced { fence: MembershipEpoch(4), .. })),
                "{at:?}: {result:?}"
            );
            assert_eq!((store.list().unwrap().len(), unfinished(&store)), (0, 0));
        }
    }
}
