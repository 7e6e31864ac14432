//! The projection: answers follow from the journal alone, whatever was in its folder before.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use common::{copy_dir, scratch, write_journal};
use neap_scheduler::model::{JobId, JobState, MembershipEpoch, MicroUsd, Millis, NodeId, PendingReason, WorkerId};
use neap_scheduler::pricing::Category;
use neap_storage::projection::{BAD_KEPT_MAX, Opened};
use neap_storage::record::{BilledLine, CheckpointRecord, EpochRecord, MemberRecord};
use neap_storage::{Entry, Journal, Projection, ProjectionError, Record, Seq};

const JOB: JobId = JobId::new(1);
const OTHER: JobId = JobId::new(2);

fn submitted(job: JobId) -> Record {
    Record::JobSubmitted {
        job,
        name: format!("digits-{job}"),
        project: "default".to_owned(),
        submitted_at: Millis::new(10),
        source: "kind: train".to_owned(),
        base_dir: "/data".to_owned(),
        spec_hash: "00".to_owned(),
        estimate: None,
        artifact: None,
        init_digest: None,
    }
}

fn state(job: JobId, at: u64, state: JobState, why: &str) -> Record {
    Record::JobStateChanged { job, at: Millis::new(at), state, why: why.to_owned() }
}

fn billed(node: u64, job: Option<JobId>, category: Category, amount: u64) -> Record {
    let (from, to) = (Millis::new(0), Millis::new(1_000));
    let (node, amount) = (NodeId::new(node), MicroUsd::new(amount));
    Record::NodeBilled(BilledLine { node, job, category, from, to, amount, actor: None })
}

fn history() -> Vec<Record> {
    vec![
        submitted(JOB),
        submitted(OTHER),
        state(JOB, 11, JobState::Pending(PendingReason::GangWait), "1 of 2 workers"),
        state(JOB, 12, JobState::Running, "its gang is there"),
        Record::MembershipChanged {
            job: JOB,
            epoch: MembershipEpoch(1),
            members: vec![MemberRecord { worker: WorkerId::new(1), node: NodeId::new(1), shards: (0, 8) }],
            server: WorkerId::new(1),
            more_servers: Vec::new(),
            replicas: Vec::new(),
            restore: None,
            at: Millis::new(13),
            why: "started".to_owned(),
        },
        billed(1, Some(JOB), Category::Busy, 70),
        billed(1, None, Category::Idle, 20),
        billed(2, Some(OTHER), Category::Boot, 5),
        Record::EpochFinished(EpochRecord {
            job: JOB,
            membership: MembershipEpoch(1),
            epoch: 0,
            step: 12,
            samples: 1_500,
            train_loss: Some(0.5),
            eval_loss: None,
            eval_accuracy: Some(0.75),
            eval_metrics: BTreeMap::new(),
            sample_digest: "aa".to_owned(),
            at: Millis::new(20),
        }),
        Record::CheckpointPublished {
            job: JOB,
            checkpoint: CheckpointRecord {
                membership: MembershipEpoch(1),
                step: 12,
                epoch: 0,
                uri: "file:///c".to_owned(),
                digest: "dd".to_owned(),
                bytes: 9,
            },
            at: Millis::new(21),
        },
        billed(1, Some(JOB), Category::Busy, 30),
    ]
}

fn journal_of(dir: &Path, records: &[Record]) -> Vec<Entry> {
    let appends: Vec<_> = records.iter().map(|record| vec![record.encode()]).collect();
    write_journal(&dir.join("journal"), &appends)
}

#[test]
fn questions_are_answered_from_the_journal() {
    let dir = scratch();
    let entries = journal_of(dir.path(), &history());
    let projection = Projection::open(&dir.path().join("projection"), &entries).unwrap();
    assert_eq!(projection.opened(), &Opened::New);
    assert_eq!(projection.applied(), Seq(11));

    let jobs = projection.jobs().unwrap();
    assert_eq!(jobs.iter().map(|job| job.job).collect::<Vec<_>>(), [JOB, OTHER]);
    let job = projection.job(JOB).unwrap().unwrap();
    assert_eq!((job.state, job.why.as_str()), (Some(JobState::Running), "its gang is there"));
    assert_eq!((job.epochs, job.steps, job.eval_accuracy, job.cost), (1, 12, Some(0.75), MicroUsd::new(100)));
    assert_eq!(job.checkpoint.as_deref(), Some("file:///c"));
    assert_eq!(projection.job(JobId::new(9)).unwrap(), None);

    let amounts = |lines: Vec<neap_scheduler::pricing::LedgerLine>| {
        lines.iter().map(|line| line.amount.get()).collect::<Vec<_>>()
    };
    assert_eq!(amounts(projection.ledger_lines(JOB).unwrap()), [70, 30]);
    assert_eq!(amounts(projection.ledger_lines(OTHER).unwrap()), [5]);
    assert_eq!(amounts(projection.cluster_lines().unwrap()), [20]);
    assert_eq!(amounts(projection.node_lines(NodeId::new(1)).unwrap()), [70, 20, 30]);
    assert_eq!(amounts(projection.lines_all().unwrap()), [70, 20, 5, 30]);
    assert_eq!(projection.epochs(JOB).unwrap().len(), 1);
    assert!(projection.epochs(OTHER).unwrap().is_empty());
    let decisions = projection.decisions(JOB).unwrap();
    assert_eq!(decisions[0].what, "job is pending (gang_wait)");
    assert_eq!(decisions[0].why, "1 of 2 workers");
    assert_eq!(decisions[2].what, "membership e1 with 1 workers");
}

#[test]
fn it_catches_up_with_the_journal() {
    let dir = scratch();
    let entries = journal_of(dir.path(), &history());
    let home = dir.path().join("projection");
    drop(Projection::open(&home, &entries[..4]).unwrap());
    let mut projection = Projection::open(&home, &entries[..6]).unwrap();
    assert_eq!(projection.opened(), &Opened::CaughtUp { from: Seq(4) });
    assert!(matches!(projection.apply(&entries[8]), Err(ProjectionError::OutOfOrder { at: Seq(6), got: Seq(9) })));
    projection.apply(&entries[2]).unwrap();
    for entry in &entries[6..] {
        projection.apply(entry).unwrap();
    }
    assert_eq!(projection.job(JOB).unwrap().unwrap().cost, MicroUsd::new(100));
}

/// sled frees its lock some time after the drop: an open in that time must wait, not rebuild a healthy projection.
#[test]
fn one_whose_lock_is_freed_late_is_not_rebuilt() {
    let dir = scratch();
    let entries = journal_of(dir.path(), &history());
    let home = dir.path().join("projection");
    drop(Projection::open(&home, &entries[..4]).unwrap());
    let file = fs::File::open(home.join("db").join("db")).unwrap();
    while let Err(error) = file.try_lock() {
        assert!(matches!(error, fs::TryLockError::WouldBlock), "{error}");
        thread::sleep(Duration::from_millis(1));
    }
    let holder = thread::spawn(move || {
        thread::sleep(Duration::from_millis(200));
        drop(file);
    });
    let projection = Projection::open(&home, &entries).unwrap();
    assert_eq!(projection.opened(), &Opened::CaughtUp { from: Seq(4) });
    holder.join().unwrap();
}

#[test]
fn one_that_is_ahead_of_the_journal_or_of_another_is_rebuilt() {
    let dir = scratch();
    let entries = journal_of(dir.path(), &history());
    let home = dir.path().join("projection");
    drop(Projection::open(&home, &entries).unwrap());
    let projection = Projection::open(&home, &entries[..5]).unwrap();
    assert!(matches!(projection.opened(), Opened::Rebuilt { why, .. } if why.contains("its end was lost")));
    assert_eq!(projection.lines_all().unwrap().len(), 0);
    drop(projection);

    let other_dir = scratch();
    let mut other = history();
    other.swap(0, 1);
    let other = journal_of(other_dir.path(), &other);
    let projection = Projection::open(&home, &other).unwrap();
    assert!(matches!(projection.opened(), Opened::Rebuilt { why, .. } if why.contains("another")));
    assert_eq!(projection.lines_all().unwrap().len(), 4);
}

#[test]
fn only_a_few_bad_ones_are_kept() {
    let dir = scratch();
    let entries = journal_of(dir.path(), &history());
    let home = dir.path().join("projection");
    for _ in 0..BAD_KEPT_MAX + 3 {
        drop(Projection::open(&home, &entries).unwrap());
        drop(Projection::open(&home, &entries[..5]).unwrap());
        fs::remove_dir_all(home.join("db")).unwrap();
    }
    let bad = fs::read_dir(&home).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut bad: Vec<String> = bad.filter(|name| name.starts_with("projection.bad-")).collect();
    bad.sort();
    assert_eq!(bad, ["projection.bad-4", "projection.bad-5", "projection.bad-6"]);
}

#[test]
fn garbage_in_place_of_the_database_changes_no_answer() {
    let dir = scratch();
    let entries = journal_of(dir.path(), &history());
    let home = dir.path().join("projection");
    drop(Projection::open(&home, &entries).unwrap());
    let spare = dir.path().join("spare");
    copy_dir(&home, &spare);
    for path in [home.join("db/db"), home.join("db/conf")] {
        fs::write(&path, b"not a database").unwrap();
        let projection = Projection::open(&home, &entries).unwrap();
        // sled takes some of it for an empty database, depending on what it wrote beside it before.
        let relied_on = matches!(projection.opened(), Opened::CaughtUp { from } if *from > Seq::ZERO);
        assert!(!relied_on, "{}: {:?}", path.display(), projection.opened());
        assert_eq!(projection.lines_all().unwrap().len(), 4);
        drop(projection);
        fs::remove_dir_all(&home).unwrap();
        copy_dir(&spare, &home);
    }
}

#[test]
fn a_record_of_a_newer_version_makes_no_rows_and_no_trouble() {
    let dir = scratch();
    let (mut journal, _) = Journal::open(&dir.path().join("journal")).unwrap();
    journal
        .append(&[br#"{"type":"moon_phase","phase":"full"}"#.to_vec(), billed(1, None, Category::Idle, 3).encode()])
        .unwrap();
    let projection = Projection::open(&dir.path().join("projection"), &journal.entries().unwrap()).unwrap();
    assert_eq!(projection.applied(), Seq(2));
    assert_eq!(projection.lines_all().unwrap().len(), 1);
}
