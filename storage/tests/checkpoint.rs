//! Checkpoints: what is published comes back, what is damaged is passed over, what is fenced is refused.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Damage, Seeded, copy_dir, files_under, scratch};
use neap_scheduler::model::MembershipEpoch;
use neap_storage::checkpoint::{CHUNK_BYTES, KEEP_MIN, Meta};
use neap_storage::{CheckpointError, CheckpointStore};
use proptest::prelude::*;

fn meta(membership: u64, step: u64) -> Meta {
    let membership = MembershipEpoch(membership);
    Meta { membership, step, epoch: 1, cursor: step, extra: serde_json::json!({ "loss": 0.5, "rng": "00ff" }) }
}

fn store(dir: &Path) -> CheckpointStore {
    CheckpointStore::open(&store_dir(dir)).unwrap()
}

fn store_dir(dir: &Path) -> PathBuf {
    dir.join("checkpoints")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_published_comes_back(
        parts in prop::collection::btree_map(
            "[a-z0-9_][a-z0-9_.-]{0,20}",
            prop::collection::vec(any::<u8>(), 0..2_000),
            1..6,
        ),
        step in 0u64..u64::MAX,
        cursor in any::<u64>(),
    ) {
        let dir = scratch();
        let store = store(dir.path());
        let meta = Meta { cursor, ..meta(2, step) };
        let borrowed: Vec<(&str, &[u8])> = parts.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        let published = store.publish(&meta, &borrowed).unwrap();
        let loaded = store.load_latest().unwrap().unwrap();
        prop_assert_eq!((loaded.name, loaded.digest), (published.name, published.digest));
        prop_assert_eq!((loaded.meta, loaded.parts), (meta, parts));
    }
}

#[test]
fn parts_of_any_number_of_chunks_come_back() {
    let dir = scratch();
    let store = store(dir.path());
    for (step, length) in
        [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES + 5].into_iter().enumerate()
    {
        let mut bytes = vec![0; length];
        bytes.iter_mut().enumerate().for_each(|(index, byte)| *byte = (index % 251) as u8);
        let published = store.publish(&meta(1, step as u64), &[("w", &bytes)]).unwrap();
        assert_eq!(published.bytes, length as u64);
        assert!(store.load(&published.name).unwrap().parts["w"] == bytes, "{length}");
    }
}

#[test]
fn there_is_no_latest_where_there_is_none() {
    let dir = scratch();
    assert_eq!(store(dir.path()).load_latest().unwrap(), None);
    let error = store(dir.path()).load("checkpoint-e000001-s000000000001-0123456789abcdef").unwrap_err();
    assert!(matches!(error, CheckpointError::NotFound { .. }));
    assert!(matches!(store(dir.path()).load("../elsewhere"), Err(CheckpointError::NotFound { .. })));
}

#[test]
fn the_latest_is_of_the_latest_membership() {
    let dir = scratch();
    let store = store(dir.path());
    store.publish(&meta(1, 100), &[("w", b"superseded")]).unwrap();
    store.publish(&meta(2, 80), &[("w", b"went on from an earlier one")]).unwrap();
    assert_eq!(store.load_latest().unwrap().unwrap().meta.step, 80);
    let order: Vec<_> = store.list().unwrap().iter().map(|listed| (listed.membership.0, listed.step)).collect();
    assert_eq!(order, [(1, 100), (2, 80)]);
}

#[test]
fn damage_anywhere_falls_back_to_the_one_before() {
    let original = scratch();
    let published = {
        let store = store(original.path());
        store.publish(&meta(1, 1), &[("w", &[1; 9_000]), ("m", &[2; 5_000])]).unwrap();
        store.publish(&meta(1, 2), &[("w", &[3; 9_000]), ("m", &[4; 5_000])]).unwrap()
    };
    for seed in 0..150 {
        let mut rng = Seeded(seed);
        let dir = scratch();
        copy_dir(original.path(), dir.path());
        let store = store(dir.path());
        let files = files_under(&&store_dir(dir.path()).join(&published.name));
        let file = &files[rng.below(files.len())];
        let damage = match rng.below(10) {
            0 => {
                fs::remove_file(file).unwrap();
                None
            }
            _ => {
                let damage = Damage::any(&mut rng, fs::metadata(file).unwrap().len() as usize);
                assert!(damage.apply(file));
                Some(damage)
            }
        };
        let error = store.load(&published.name).unwrap_err();
        assert!(
            matches!(error, CheckpointError::Damaged { .. }),
            "seed {seed}: {damage:?} of {}: {error:?}",
            file.display()
        );
        assert_eq!(store.load_latest().unwrap().unwrap().meta.step, 1, "seed {seed}: {damage:?} of {}", file.display());

        // Publishing the same again repairs it.
        store.publish(&meta(1, 2), &[("w", &[3; 9_000]), ("m", &[4; 5_000])]).unwrap();
        assert_eq!(store.load_latest().unwrap().unwrap().meta.step, 2);
    }
}

#[test]
fn where_all_are_damaged_each_is_listed() {
    let dir = scratch();
    let store = store(dir.path());
    for step in 1..=2 {
        let published = store.publish(&meta(1, step), &[("w", b"weights")]).unwrap();
        fs::remove_file(store_dir(dir.path()).join(&published.name).join("w.00000")).unwrap();
    }
    match store.load_latest() {
        Err(error @ CheckpointError::NoneUsable { .. }) => {
            let text = error.to_string();
            assert!(text.contains("s000000000001") && text.contains("s000000000002"), "{text}");
            assert!(text.contains("w.00000 is missing"), "{text}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_older_membership_is_refused_from_the_fence_on() {
    let dir = scratch();
    let store = store(dir.path());
    store.publish(&meta(3, 1), &[("w", b"a")]).unwrap();
    store.fence(MembershipEpoch(4)).unwrap();
    store.fence(MembershipEpoch(2)).unwrap();
    assert_eq!(store.read_fence().unwrap(), MembershipEpoch(4));
    let error =
        CheckpointStore::open(&store_dir(dir.path())).unwrap().publish(&meta(3, 2), &[("w", b"b")]).unwrap_err();
    assert!(matches!(error, CheckpointError::Fenced { asked: MembershipEpoch(3), fence: MembershipEpoch(4), .. }));
    assert!(!error.is_retryable());
    store.publish(&meta(4, 2), &[("w", b"b")]).unwrap();
    // Publishing fences, too.
    store.publish(&meta(6, 3), &[("w", b"c")]).unwrap();
    assert!(matches!(store.publish(&meta(5, 3), &[("w", b"c")]), Err(CheckpointError::Fenced { .. })));
    assert_eq!(store.list().unwrap().len(), 3);
}

#[test]
fn publishing_the_same_again_is_the_same_checkpoint() {
    let dir = scratch();
    let store = store(dir.path());
    let first = store.publish(&meta(1, 5), &[("w", b"same")]).unwrap();
    assert_eq!(store.publish(&meta(1, 5), &[("w", b"same")]).unwrap(), first);
    assert_eq!(store.list().unwrap().len(), 1);
    let other = store.publish(&meta(1, 5), &[("w", b"other")]).unwrap();
    assert_ne!(other.name, first.name);
    assert_eq!(store.list().unwrap().len(), 2);
}

#[test]
fn old_ones_are_deleted_but_never_all_but_one() {
    let dir = scratch();
    let store = store(dir.path());
    for step in 1..=5 {
        store.publish(&meta(1, step), &[("w", b"w")]).unwrap();
    }
    assert_eq!(store.keep(3).unwrap().len(), 2);
    let steps = |store: &CheckpointStore| store.list().unwrap().iter().map(|listed| listed.step).collect::<Vec<_>>();
    assert_eq!(steps(&store), [3, 4, 5]);
    store.keep(0).unwrap();
    assert_eq!(steps(&store), [4, 5]);
    assert_eq!(KEEP_MIN, 2);
    assert!(store.keep(2).unwrap().is_empty());
}

#[test]
fn a_newer_format_is_named_as_such() {
    let dir = scratch();
    let store = store(dir.path());
    let published = store.publish(&meta(1, 1), &[("w", b"w")]).unwrap();
    let manifest = fs::read_to_string(store_dir(dir.path()).join(&published.name).join("manifest.json")).unwrap();
    let manifest = manifest.replacen("\"format\": 1", "\"format\": 7", 1);
    let digest = blake3::hash(manifest.as_bytes()).to_hex();
    let name = format!("checkpoint-e000001-s000000000001-{}", &digest[..16]);
    fs::rename(store_dir(dir.path()).join(&published.name), store_dir(dir.path()).join(&name)).unwrap();
    fs::write(store_dir(dir.path()).join(&name).join("manifest.json"), manifest).unwrap();
    assert!(matches!(store.load(&name), Err(CheckpointError::TooNew { version: 7, known: 1, .. })));
}
