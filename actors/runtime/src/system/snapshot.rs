//! State that outlives its actor: where it is saved is the process's business, that an old incarnation cannot overwrite
//! what a newer one saved is the store's.

use std::fmt;
use std::sync::Mutex;

use neap_scheduler::model::MembershipEpoch;

use super::actor::Fault;
use crate::lock;

/// How large a saved state may be.
pub const SNAPSHOT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Whose state it is, and which one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotId {
    /// The actor's place in the tree, as in `main/reducer-1`.
    pub path: String,
    /// The membership under which it is saved.
    pub epoch: MembershipEpoch,
    /// Grows with every save of an actor, also over its incarnations.
    pub number: u64,
}

/// Why a state was not saved or not read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The actor runs elsewhere under a later membership; this one must end.
    #[error("a later membership has taken over")]
    Fenced,
    /// Too large.
    #[error("a state of {0} bytes is larger than the {SNAPSHOT_BYTES_MAX} that can be saved; keep it in a file")]
    TooLarge(usize),
    /// The state cannot be written as JSON, or what was saved is of another form.
    #[error("the state and its saved form do not fit together")]
    Form(#[source] serde_json::Error),
    /// The store failed.
    #[error("failed to save or read the state of an actor")]
    Store(#[source] Fault),
}

/// Where actors' states are saved. Calls block; they are made from threads that may.
pub trait SnapshotStore: Send + Sync + 'static {
    /// Saves a state. When it returns, the state is safe; on an error, the one before is.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Fenced`] where a later membership has read or saved the state of this path.
    fn save(&self, id: &SnapshotId, state: &[u8]) -> Result<(), SnapshotError>;

    /// The newest state of a path. Refuses saves of memberships before `epoch` from then on.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Store`] where there is one that cannot be read.
    fn load(&self, path: &str, epoch: MembershipEpoch) -> Result<Option<Vec<u8>>, SnapshotError>;
}

/// States in memory: for programs whose state need not outlive the process, and for tests.
#[derive(Default)]
pub struct MemorySnapshots(Mutex<std::collections::BTreeMap<String, Kept>>);

#[derive(Default)]
struct Kept {
    fence: MembershipEpoch,
    newest: Option<(MembershipEpoch, u64, Vec<u8>)>,
}

impl fmt::Debug for MemorySnapshots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemorySnapshots").field("paths", &lock(&self.0).len()).finish()
    }
}

impl SnapshotStore for MemorySnapshots {
    fn save(&self, id: &SnapshotId, state: &[u8]) -> Result<(), SnapshotError> {
        let mut all = lock(&self.0);
        let kept = all.entry(id.path.clone()).or_default();
        if id.epoch < kept.fence {
            return Err(SnapshotError::Fenced);
        }
        kept.fence = id.epoch;
        if kept.newest.as_ref().is_none_or(|(epoch, number, _)| (*epoch, *number) < (id.epoch, id.number)) {
            kept.newest = Some((id.epoch, id.number, state.to_owned()));
        }
        Ok(())
    }

    fn load(&self, path: &str, epoch: MembershipEpoch) -> Result<Option<Vec<u8>>, SnapshotError> {
        let mut all = lock(&self.0);
        let kept = all.entry(path.to_owned()).or_default();
        kept.fence = kept.fence.max(epoch);
        Ok(kept.newest.as_ref().map(|(_, _, state)| state.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(epoch: u64, number: u64) -> SnapshotId {
        SnapshotId { path: "main/one".to_owned(), epoch: MembershipEpoch(epoch), number }
    }

    #[test]
    fn an_older_membership_and_an_older_incarnation_change_nothing() {
        let store = MemorySnapshots::default();
        store.save(&id(1, 5), b"first").unwrap();
        assert_eq!(store.load("main/one", MembershipEpoch(2)).unwrap().as_deref(), Some(&b"first"[..]));
        assert!(matches!(store.save(&id(1, 6), b"late"), Err(SnapshotError::Fenced)));
        store.save(&id(2, 7), b"second").unwrap();
        store.save(&id(2, 6), b"of an older incarnation").unwrap();
        assert_eq!(store.load("main/one", MembershipEpoch(2)).unwrap().as_deref(), Some(&b"second"[..]));
    }
}
