//! Checkpoints in a real S3 server (moto): what is published comes back, what is fenced is refused, what fails is named,
//! and a `kill -9` at any moment leaves whole checkpoints only.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod common;

#[path = "common/moto.rs"]
mod moto;

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use common::{Seeded, run_and_kill};
use moto::{BUCKET, Gate, Moto, SECRET, Weather};
use neap_scheduler::model::MembershipEpoch;
use neap_storage::checkpoint::{Meta, OBJECT_CHUNK_BYTES};
use neap_storage::object::{Access, Location, Objects, Patience};
use neap_storage::{CheckpointError, CheckpointStore};

const PUBLISHER: &str = "NEAP_STORAGE_TEST_S3_PUBLISHER";

/// `kill -9` so often; each time a Python server takes some megabytes.
const CYCLES: u64 = 10;

/// So that a store that is away is given up soon.
const PATIENCE: Patience =
    Patience { request: Duration::from_millis(1_500), total: Duration::from_secs(3), retries_max: 2 };

fn place(prefix: &str) -> Location {
    Location::parse(&format!("s3://{BUCKET}/{prefix}")).unwrap()
}

fn access(addr: SocketAddr) -> Access {
    Access::with_variables(Moto::environment(addr))
}

fn store(addr: SocketAddr, prefix: &str) -> CheckpointStore {
    CheckpointStore::open_with(&place(prefix), &access(addr)).unwrap()
}

fn meta(membership: u64, step: u64) -> Meta {
    let membership = MembershipEpoch(membership);
    Meta { membership, step, epoch: 1, cursor: step, extra: serde_json::json!({ "loss": 0.5 }) }
}

/// The state after `step` steps, the same in parent and child; two chunks.
fn state_at(step: u64) -> Vec<u8> {
    let mut rng = Seeded(step);
    let mut state = vec![0; OBJECT_CHUNK_BYTES + 1_000];
    state.chunks_mut(4_096).for_each(|page| page[..8].copy_from_slice(&rng.next().to_le_bytes()[..]));
    state
}

/// An error with all its causes.
fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[test]
fn checkpoints_are_published_fenced_kept_and_found_damaged() {
    let Some(moto) = Moto::start("checkpoints_are_published_fenced_kept_and_found_damaged") else { return };
    let store = store(moto.addr, "ordinary/job");
    store.check_writable().unwrap();
    assert_eq!(store.load_latest().unwrap(), None);
    let state = state_at(1);
    let first = store.publish(&meta(1, 1), &[("w", &state), ("m", b"momentum")]).unwrap();
    assert_eq!(store.publish(&meta(1, 1), &[("w", &state), ("m", b"momentum")]).unwrap(), first);
    let loaded = store.load(&first.name).unwrap();
    assert!(loaded.parts["w"] == state && loaded.parts["m"] == b"momentum" && loaded.meta == meta(1, 1));

    store.fence(MembershipEpoch(3)).unwrap();
    let error = store.publish(&meta(2, 2), &[("w", b"late")]).unwrap_err();
    assert!(matches!(error, CheckpointError::Fenced { fence: MembershipEpoch(3), .. }), "{error:?}");
    for step in 2..=4 {
        store.publish(&meta(3, step), &[("w", b"small")]).unwrap();
    }
    assert_eq!(store.keep(2).unwrap().len(), 2);
    let newest = store.load_latest().unwrap().unwrap();
    assert_eq!(newest.meta.step, 4);

    // Objects change in the store: one bit, then half of it gone.
    let Location::Remote(uri) = place("ordinary/job") else { panic!("that is a place in a store") };
    let objects = Objects::open(&uri, &access(moto.addr)).unwrap();
    let key = format!("{}/w.00000", newest.name);
    for damaged in [b"smalm".as_slice(), b"sm"] {
        objects.put(&key, damaged.to_vec().into()).unwrap();
        let error = store.load(&newest.name).unwrap_err();
        assert!(matches!(error, CheckpointError::Damaged { .. }) && error.to_string().contains("w.00000"), "{error}");
        assert_eq!(store.load_latest().unwrap().unwrap().meta.step, 3);
    }
    let left: Vec<String> = objects.list("").unwrap().into_iter().map(|info| info.key).collect();
    let chunks = left.iter().filter(|key| key.contains("/w.")).count();
    assert_eq!(chunks, 2, "what is not kept is gone, chunks too: {left:?}");
}

#[test]
fn a_store_that_fails_is_slow_or_vanishes_is_named_and_loses_nothing() {
    let Some(moto) = Moto::start("a_store_that_fails_is_slow_or_vanishes_is_named_and_loses_nothing") else { return };
    let gate = Gate::before(moto.addr);
    for weather in [Weather::Error, Weather::Silent, Weather::Cut] {
        let prefix = format!("faults/{weather:?}");
        // A client of its own: connections that are open stay as they are.
        let open = || CheckpointStore::open_with(&place(&prefix), &access(gate.addr).patient(PATIENCE)).unwrap();
        gate.turn(Weather::Fair);
        open().publish(&meta(1, 1), &[("w", b"before")]).unwrap();
        gate.turn(weather);
        let error = open().publish(&meta(1, 2), &[("w", &state_at(2))]).unwrap_err();
        let text = chain(&error);
        assert!(error.is_retryable() && text.contains(&format!("s3://{BUCKET}/{prefix}")), "{weather:?}: {text}");
        assert!(!text.contains(SECRET), "{text}");
        gate.turn(Weather::Fair);
        let store = open();
        assert_eq!(store.load_latest().unwrap().unwrap().meta.step, 1, "{weather:?}");
        store.publish(&meta(1, 3), &[("w", b"after")]).unwrap();
        assert_eq!(store.load_latest().unwrap().unwrap().meta.step, 3, "{weather:?}");
    }
    let nobody =
        CheckpointStore::open_with(&place("nobody"), &access(SocketAddr::from(([127, 0, 0, 1], 1))).patient(PATIENCE));
    let error = nobody.unwrap().check_writable().unwrap_err();
    assert!(chain(&error).contains(&format!("s3://{BUCKET}/nobody")), "{}", chain(&error));
}

#[test]
fn a_bucket_that_is_not_there_is_named() {
    let Some(moto) = Moto::start("a_bucket_that_is_not_there_is_named") else { return };
    let place = Location::parse("s3://neap-absent/job").unwrap();
    let store = CheckpointStore::open_with(&place, &access(moto.addr).patient(PATIENCE)).unwrap();
    let error = store.check_writable().unwrap_err();
    assert!(chain(&error).contains("neap-absent"), "{}", chain(&error));
}

/// Not a test by itself: the child of the next one. The variable holds the server's address.
#[test]
fn publisher() {
    let Ok(addr) = std::env::var(PUBLISHER) else { return };
    let store = store(addr.parse().unwrap(), "killed/job");
    let latest = store.load_latest().unwrap();
    let (membership, mut step) = latest.map_or((0, 0), |latest| (latest.meta.membership.0, latest.meta.step));
    loop {
        step += 1;
        let state = state_at(step);
        common::begin(step);
        store.publish(&meta(membership + 1, step), &[("parameters", &state)]).unwrap();
        common::acknowledge(step);
        store.keep(3).unwrap();
    }
}

#[test]
fn a_killed_publisher_leaves_only_whole_checkpoints_in_the_store() {
    let Some(moto) = Moto::start("a_killed_publisher_leaves_only_whole_checkpoints_in_the_store") else { return };
    let store = store(moto.addr, "killed/job");
    for seed in 0..CYCLES {
        let within = Duration::from_millis(600);
        let killed = run_and_kill("publisher", PUBLISHER, moto.addr.to_string().as_ref(), seed, within);
        for listed in store.list().unwrap() {
            let loaded = store.load(&listed.name).unwrap();
            assert!(loaded.parts["parameters"] == state_at(listed.step), "{listed:?}");
        }
        let latest = store.load_latest().unwrap().expect("one was acknowledged").meta.step;
        assert!((killed.acknowledged..=killed.begun).contains(&latest), "seed {seed}: {latest} after {killed:?}");
    }
}
