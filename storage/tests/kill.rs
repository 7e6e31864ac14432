//! `kill -9` in the middle of writing: what was acknowledged is there, and what is there is whole.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod common;

use std::path::Path;
use std::time::Duration;

use common::{Seeded, acknowledge, begin, run_and_kill, scratch};
use neap_scheduler::model::{JobId, MembershipEpoch, MicroUsd, Millis, NodeId};
use neap_scheduler::pricing::Category;
use neap_storage::checkpoint::Meta;
use neap_storage::record::BilledLine;
use neap_storage::{CheckpointStore, Journal, Projection, Record};

const APPENDER: &str = "NEAP_STORAGE_TEST_APPENDER";
const PUBLISHER: &str = "NEAP_STORAGE_TEST_PUBLISHER";
const CYCLES: u64 = 12;

/// Kills that hit a publish, each at another moment of it.
const KILLS_INSIDE: usize = 100;
/// Kills in between are not counted; more than this many would mean that most are.
const KILLS_MAX: u64 = 200;

/// The record that belongs at `seq`, the same in parent and child.
fn record_at(seq: u64) -> Record {
    Record::NodeBilled(BilledLine {
        node: NodeId::new(seq % 3),
        job: Some(JobId::new(seq % 5)),
        category: Category::Busy,
        from: Millis::new(seq),
        to: Millis::new(seq + 1),
        amount: MicroUsd::new(Seeded(seq).next() % 1_000),
        actor: None,
    })
}

/// Not a test by itself: the child of the next one. Journal first, then projection, then the acknowledgement.
#[test]
fn appender() {
    let Some(dir) = std::env::var_os(APPENDER) else { return };
    let (mut journal, entries) = Journal::open(&Path::new(&dir).join("journal")).unwrap();
    let mut projection = Projection::open(&Path::new(&dir).join("projection"), &entries).unwrap();
    loop {
        let next = journal.seq().0 + 1;
        let payloads: Vec<Vec<u8>> = (next..=next + next % 4).map(|seq| record_at(seq).encode()).collect();
        for entry in journal.append_entries(&payloads).unwrap() {
            projection.apply(&entry).unwrap();
        }
        acknowledge(journal.seq().0);
    }
}

#[test]
fn a_killed_appender_loses_nothing_it_acknowledged() {
    // On a real disk where there is one: this is about syncs, too.
    let dir = tempfile::tempdir().unwrap();
    for seed in 0..CYCLES {
        let killed = run_and_kill("appender", APPENDER, dir.path(), seed, Duration::from_millis(60));
        let acknowledged = killed.acknowledged;
        let (journal, entries) = Journal::open(&dir.path().join("journal")).unwrap();
        assert!(journal.seq().0 >= acknowledged, "{} < {acknowledged}", journal.seq());
        for entry in &entries {
            assert_eq!(Record::decode(&entry.payload).unwrap(), record_at(entry.seq.0));
        }
        let projection = Projection::open(&dir.path().join("projection"), &entries).unwrap();
        let billed: MicroUsd = projection.lines_all().unwrap().iter().map(|line| line.amount).sum();
        let expected: u64 = (1..=journal.seq().0).map(|seq| Seeded(seq).next() % 1_000).sum();
        assert_eq!(billed, MicroUsd::new(expected));
    }
}

/// The state after `step` steps, the same in parent and child; more than one chunk.
fn state_at(step: u64) -> Vec<u8> {
    let mut rng = Seeded(step);
    let mut state = vec![0; 5 << 20];
    state.chunks_mut(4_096).for_each(|page| page[..8].copy_from_slice(&rng.next().to_le_bytes()));
    state
}

/// Not a test by itself: the child of the next one.
#[test]
fn publisher() {
    let Some(dir) = std::env::var_os(PUBLISHER) else { return };
    let store = CheckpointStore::open(Path::new(&dir)).unwrap();
    let latest = store.load_latest().unwrap();
    let (membership, mut step) = latest.map_or((0, 0), |latest| (latest.meta.membership.0, latest.meta.step));
    let membership = MembershipEpoch(membership + 1);
    store.fence(membership).unwrap();
    loop {
        step += 1;
        let meta = Meta { membership, step, epoch: 0, cursor: step, extra: serde_json::Value::Null };
        let state = state_at(step);
        begin(step);
        store.publish(&meta, &[("parameters", &state)]).unwrap();
        acknowledge(step);
        store.keep(3).unwrap();
    }
}

#[test]
fn a_publisher_killed_at_100_points_inside_publish_leaves_only_whole_checkpoints() {
    let dir = scratch();
    let store = CheckpointStore::open(dir.path()).unwrap();
    let (mut inside, mut seed) = (0, 0);
    while inside < KILLS_INSIDE {
        let killed = run_and_kill("publisher", PUBLISHER, dir.path(), seed, Duration::from_millis(30));
        inside += usize::from(killed.begun > killed.acknowledged);
        // Whatever is to be seen is whole, and the one before the newest too.
        let listed = store.list().unwrap();
        for listed in &listed {
            let loaded = store.load(&listed.name).unwrap();
            assert!(loaded.parts["parameters"] == state_at(listed.step), "seed {seed}: {listed:?}");
        }
        assert!(seed == 0 || listed.len() >= 2, "seed {seed}: {listed:?}");
        // At most the interval that was being written is lost.
        let latest = store.load_latest().unwrap().expect("one was acknowledged").meta.step;
        assert!((killed.acknowledged..=killed.begun).contains(&latest), "seed {seed}: {latest} after {killed:?}");
        seed += 1;
        assert!(seed < KILLS_MAX, "only {inside} of {seed} kills hit a publish");
    }
    let unfinished = std::fs::read_dir(dir.path()).unwrap();
    let unfinished =
        unfinished.filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().starts_with("tmp-"));
    assert!(unfinished.count() <= 2, "what an earlier membership left is cleaned up");
}
