//! Programs by their content: whole or not there, and never more of them than there is room for.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use neap_scheduler::model::ContentHash;
use neap_storage::artifact::{ArtifactError, ArtifactStore, Stored};
use proptest::prelude::*;

fn hash_of(bytes: &[u8]) -> ContentHash {
    ContentHash::new(*blake3::hash(bytes).as_bytes())
}

fn put(store: &ArtifactStore, bytes: &[u8], in_use: &[ContentHash]) -> Result<Stored, ArtifactError> {
    let in_use: BTreeSet<_> = in_use.iter().copied().collect();
    let mut incoming = store.begin(hash_of(bytes), bytes.len() as u64, &in_use)?;
    incoming.write(bytes)?;
    incoming.finish()
}

fn files(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

#[test]
fn a_program_is_kept_under_its_content_for_its_owner_to_run() {
    let folder = tempfile::tempdir().unwrap();
    let store = ArtifactStore::open(folder.path().join("a"), 1_000).unwrap();
    let stored = put(&store, b"#!/bin/true", &[]).unwrap();
    assert_eq!(store.find(hash_of(b"#!/bin/true")).unwrap(), Some(stored.clone()));
    assert_eq!(fs::metadata(&stored.path).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(folder.path().join("a")).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(store.find(hash_of(b"another")).unwrap(), None);
    store.describe(hash_of(b"#!/bin/true"), b"{}").unwrap();
    assert_eq!(store.description(hash_of(b"#!/bin/true")).unwrap().unwrap(), b"{}");
}

#[test]
fn what_is_cut_short_changed_or_too_long_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = ArtifactStore::open(folder.path(), 1_000).unwrap();
    let none = BTreeSet::new();
    let mut cut = store.begin(hash_of(b"whole"), 5, &none).unwrap();
    cut.write(b"who").unwrap();
    assert!(matches!(cut.finish(), Err(ArtifactError::Mismatch { bytes: 3, .. })));
    let mut long = store.begin(hash_of(b"whole"), 5, &none).unwrap();
    assert!(matches!(long.write(b"whole, and more"), Err(ArtifactError::TooLarge { limit: 5 })));
    drop(long);
    assert!(matches!(store.begin(hash_of(b"x"), 1_001, &none), Err(ArtifactError::TooLarge { limit: 1_000 })));
    drop(store.begin(hash_of(b"left"), 4, &none).unwrap());
    assert_eq!(files(folder.path()), 0);
}

#[test]
fn what_an_earlier_process_left_half_is_thrown_away() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(".incoming-x1"), "half").unwrap();
    ArtifactStore::open(folder.path(), 1_000).unwrap();
    assert_eq!(files(folder.path()), 0);
}

#[test]
fn what_is_in_use_is_never_evicted() {
    let folder = tempfile::tempdir().unwrap();
    let store = ArtifactStore::open(folder.path(), 10).unwrap();
    put(&store, b"first", &[]).unwrap();
    put(&store, b"other", &[]).unwrap();
    let in_use = [hash_of(b"first"), hash_of(b"other")];
    assert!(matches!(put(&store, b"third", &in_use), Err(ArtifactError::InUse { limit: 10, .. })));
    put(&store, b"third", &in_use[..1]).unwrap();
    assert!(store.find(in_use[0]).unwrap().is_some());
    assert!(store.find(in_use[1]).unwrap().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However large they are and however they come, the folder never holds more than it may.
    #[test]
    fn the_folder_never_holds_more_than_it_may(sizes in prop::collection::vec(1usize..60, 1..20)) {
        let folder = tempfile::tempdir().unwrap();
        let store = ArtifactStore::open(folder.path(), 100).unwrap();
        for (number, size) in sizes.into_iter().enumerate() {
            let bytes = vec![u8::try_from(number).unwrap(); size];
            put(&store, &bytes, &[]).unwrap();
            let held: u64 = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
            prop_assert!(held <= 100);
            prop_assert!(store.find(hash_of(&bytes)).unwrap().is_some(), "the newest stays");
        }
    }
}
