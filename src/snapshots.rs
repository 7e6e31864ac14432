//! The states of own actors as checkpoints: one store a path in the tree, where the job's checkpoints go.

use std::sync::Arc;

use neap_runtime::system::{Fault, SnapshotError, SnapshotId, SnapshotStore};
use neap_scheduler::model::{Location, MembershipEpoch};
use neap_storage::checkpoint::{CheckpointError, CheckpointStore, KEEP_MIN, Meta};

/// The part of a checkpoint that holds the state.
const PART: &str = "state";

/// Keeps the states of a job's actors in a folder or in an object store.
///
/// # Errors
///
/// Where the text names no place. One that cannot be used shows with the first state.
pub(crate) fn open(place: &str) -> Result<Arc<dyn SnapshotStore>, Fault> {
    Ok(Arc::new(Snapshots(Location::parse(place)?)))
}

struct Snapshots(Location);

impl Snapshots {
    /// The store of one path in the tree. Names in it have no dots, so that two paths never share a place.
    fn store(&self, path: &str) -> Result<CheckpointStore, SnapshotError> {
        CheckpointStore::open_at(&self.0.join(&path.replace('/', "."))).map_err(failed)
    }
}

impl SnapshotStore for Snapshots {
    fn save(&self, id: &SnapshotId, state: &[u8]) -> Result<(), SnapshotError> {
        let store = self.store(&id.path)?;
        let meta = Meta { membership: id.epoch, step: id.number, epoch: 0, cursor: 0, extra: serde_json::Value::Null };
        store.publish(&meta, &[(PART, state)]).map_err(failed)?;
        // What is left over only takes room, and goes with the next one.
        if let Err(error) = store.keep(KEEP_MIN) {
            tracing::warn!(%error, path = id.path, "old states of an actor were not removed");
        }
        Ok(())
    }

    fn load(&self, path: &str, epoch: MembershipEpoch) -> Result<Option<Vec<u8>>, SnapshotError> {
        let store = self.store(path)?;
        store.fence(epoch).map_err(failed)?;
        let loaded = store.load_latest().map_err(failed)?;
        Ok(loaded.and_then(|mut loaded| loaded.parts.remove(PART)))
    }
}

fn failed(error: CheckpointError) -> SnapshotError {
    match error {
        CheckpointError::Fenced { .. } => SnapshotError::Fenced,
        other => SnapshotError::Store(Box::new(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(path: &str, epoch: u64, number: u64) -> SnapshotId {
        SnapshotId { path: path.to_owned(), epoch: MembershipEpoch(epoch), number }
    }

    #[test]
    fn a_state_is_found_by_its_path_and_fenced_by_its_membership() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder.path().display().to_string()).unwrap();
        let load = |path: &str, epoch| store.load(path, MembershipEpoch(epoch)).unwrap();
        assert_eq!(load("main/one", 1), None);
        store.save(&id("main/one", 1, 1 << 32), b"first").unwrap();
        store.save(&id("main/one", 1, (1 << 32) + 1), b"second").unwrap();
        assert_eq!(load("main/two", 1), None);
        assert_eq!(load("main/one", 2).as_deref(), Some(&b"second"[..]));
        assert!(matches!(store.save(&id("main/one", 1, 5 << 32), b"late"), Err(SnapshotError::Fenced)));
        store.save(&id("main/one", 2, 2 << 32), b"third").unwrap();
        assert_eq!(load("main/one", 2).as_deref(), Some(&b"third"[..]));
    }
}
