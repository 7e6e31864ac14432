//! What earlier versions wrote keeps reading. `tests/golden/` has one file or folder for each format; once released
//! they are never written again. A new format adds its own beside them: `cargo test -p neap-storage --test golden --
//! --ignored`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::{copy_dir, scratch};
use neap_scheduler::model::{
    ContentHash, CpuMillis, FailReason, JobId, JobState, Market, MembershipEpoch, MemoryMib, MicroUsd, MicroUsdPerHour,
    Millis, NodeId, NodeSize, NodeState, WorkerId,
};
use neap_scheduler::pricing::Category;
use neap_storage::checkpoint::Meta;
use neap_storage::record::{
    ArtifactRecord, BilledLine, BudgetScope, CheckpointRecord, EntryRecord, EpochRecord, EstimateRecord, KindRecord,
    MemberRecord, ParamRecord, ValueRecord,
};
use neap_storage::{CheckpointStore, Journal, Record, RecordError};

/// The hash of the last record of the golden journal.
const JOURNAL_HASH: &str = include_str!("golden/journal-v1.hash");

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// The place of a record's kind in [`samples`], and behind them in [`added_samples`]. A new kind does not compile here before it has one.
fn place(record: &Record) -> usize {
    match record {
        Record::ClusterCreated { .. } => 0,
        Record::ControlStarted { .. } => 1,
        Record::JobSubmitted { .. } => 2,
        Record::JobStateChanged { .. } => 3,
        Record::NodeRequested { .. } => 4,
        Record::NodeStateChanged { .. } => 5,
        Record::NodeBilled(_) => 6,
        Record::WorkerStarted { .. } => 7,
        Record::WorkerEnded { .. } => 8,
        Record::MembershipChanged { .. } => 9,
        Record::EpochFinished(_) => 10,
        Record::CheckpointPublished { .. } => 11,
        Record::JobFinished { .. } => 12,
        Record::PreemptionNotice { .. } => 13,
        Record::JoinTokenMade { .. } => 14,
        Record::JoinTokenUsed { .. } => 15,
        Record::BudgetSet { .. } => 16,
        Record::ActorsFinished { .. } => 17,
    }
}

fn checkpoint() -> CheckpointRecord {
    CheckpointRecord {
        membership: MembershipEpoch(2),
        step: 240,
        epoch: 1,
        uri: "file:///var/lib/neap/j1/checkpoint-e000002-s000000000240-00112233aabbccdd".to_owned(),
        digest: "00112233aabbccdd".repeat(4),
        bytes: 4_194_304,
    }
}

fn samples() -> Vec<Record> {
    let (job, node, worker, at) = (JobId::new(1), NodeId::new(3), WorkerId::new(12), Millis::new(1_760_000_000_123));
    vec![
        Record::ClusterCreated { cluster: "c0ffee".to_owned(), at },
        Record::ControlStarted { version: "0.1.0".to_owned(), at },
        Record::JobSubmitted {
            job,
            name: "digits".to_owned(),
            project: "default".to_owned(),
            submitted_at: at,
            source: "kind: train\nname: \"digits\" # ✓\n".to_owned(),
            base_dir: "/home/ada/jobs".to_owned(),
            spec_hash: "ab".repeat(32),
            estimate: None,
            artifact: None,
            init_digest: None,
        },
        Record::JobStateChanged {
            job,
            at,
            state: JobState::Failed(FailReason::UserError),
            why: "exit code 1".to_owned(),
        },
        Record::NodeRequested {
            node,
            offer: "local/small/spot".to_owned(),
            size: NodeSize { cpus: CpuMillis(1_500), memory: MemoryMib(2_048) },
            market: Market::Spot,
            price: MicroUsdPerHour::new(40_000),
            for_job: Some(job),
            client_token: "neap-c0ffee-n3".to_owned(),
            at,
        },
        Record::NodeStateChanged { node, at, state: NodeState::Draining, why: "preemption notice".to_owned() },
        Record::NodeBilled(BilledLine {
            node,
            job: None,
            category: Category::Idle,
            from: at,
            to: at + Millis::new(5_000),
            amount: MicroUsd::new(55),
            actor: None,
        }),
        Record::WorkerStarted { job, worker, node, server: true, at },
        Record::WorkerEnded { job, worker, node, at, why: "signal 9".to_owned() },
        Record::MembershipChanged {
            job,
            epoch: MembershipEpoch(3),
            members: vec![
                MemberRecord { worker, node, shards: (0, 4) },
                MemberRecord { worker: WorkerId::new(13), node: NodeId::new(4), shards: (4, 8) },
            ],
            server: worker,
            more_servers: Vec::new(),
            replicas: Vec::new(),
            restore: Some(checkpoint()),
            at,
            why: "worker w11 was lost".to_owned(),
        },
        Record::EpochFinished(EpochRecord {
            job,
            membership: MembershipEpoch(3),
            epoch: 2,
            step: 360,
            samples: 1_500,
            train_loss: Some(0.125),
            eval_loss: None,
            eval_accuracy: Some(0.9375),
            eval_metrics: BTreeMap::new(),
            sample_digest: "0123456789abcdef".to_owned(),
            at,
        }),
        Record::CheckpointPublished { job, checkpoint: checkpoint(), at },
        Record::JobFinished {
            job,
            at,
            model_path: "/home/ada/jobs/model.safetensors".to_owned(),
            card_path: "/home/ada/jobs/model.json".to_owned(),
            steps: 360,
            epochs: 3,
            train_loss: Some(0.125),
            eval_loss: Some(0.25),
            eval_accuracy: Some(0.9375),
            eval_metrics: BTreeMap::new(),
            model_blake3: Some("cd".repeat(32)),
        },
        Record::PreemptionNotice { node, at, deadline: at + Millis::new(5_000) },
        Record::JoinTokenMade { node, secret_hash: "ef".repeat(32), expires_at: at },
        Record::JoinTokenUsed { node, at },
    ]
}

/// Kinds and fields that were added to format 1 later: older journals do not have them, and read as before.
fn added_samples() -> Vec<Record> {
    let (job, node, at) = (JobId::new(1), NodeId::new(3), Millis::new(1_760_000_000_123));
    let (max_cost, max_cost_per_hour) = (Some(MicroUsd::new(500_000_000)), Some(MicroUsdPerHour::new(4_500_000)));
    let scope = BudgetScope::Organisation;
    vec![
        Record::BudgetSet {
            scope: scope.clone(),
            max_cost: None,
            max_cost_per_month: max_cost,
            max_cost_per_hour,
            warn_at_permille: 800,
            at,
        },
        Record::BudgetSet {
            scope: BudgetScope::Project("vision".to_owned()),
            max_cost,
            max_cost_per_month: None,
            max_cost_per_hour: None,
            warn_at_permille: 950,
            at,
        },
        Record::BudgetSet {
            scope,
            max_cost: None,
            max_cost_per_month: None,
            max_cost_per_hour: None,
            warn_at_permille: 800,
            at,
        },
        Record::JobSubmitted {
            job,
            name: "digits".to_owned(),
            project: "vision".to_owned(),
            submitted_at: at,
            source: "kind: train\n".to_owned(),
            base_dir: "/home/ada/jobs".to_owned(),
            spec_hash: "ab".repeat(32),
            estimate: Some(EstimateRecord {
                cost_p50: MicroUsd::new(3_000_000),
                cost_p95: MicroUsd::new(5_000_000),
                lasts: Millis::from_secs(3_600),
            }),
            artifact: None,
            init_digest: None,
        },
        Record::NodeBilled(BilledLine {
            node,
            job: Some(job),
            category: Category::Busy,
            from: at,
            to: at + Millis::new(5_000),
            amount: MicroUsd::new(55),
            actor: Some("trainer/w12".to_owned()),
        }),
        Record::MembershipChanged {
            job,
            epoch: MembershipEpoch(4),
            members: vec![
                MemberRecord { worker: WorkerId::new(12), node, shards: (0, 4) },
                MemberRecord { worker: WorkerId::new(13), node: NodeId::new(4), shards: (4, 8) },
            ],
            server: WorkerId::new(12),
            more_servers: vec![WorkerId::new(13)],
            replicas: Vec::new(),
            restore: None,
            at,
            why: "a worker has joined".to_owned(),
        },
        Record::ActorsFinished { job, at, result: r#"{"words":7}"#.to_owned() },
    ]
}

fn golden_meta() -> Meta {
    let extra = serde_json::json!({ "rng": "a1b2", "loss": 0.5 });
    Meta { membership: MembershipEpoch(2), step: 240, epoch: 1, cursor: 40, extra }
}

#[test]
fn every_kind_of_record_of_format_1_reads() {
    let text = fs::read_to_string(golden("records-v1.jsonl")).unwrap();
    let records: Vec<Record> = text.lines().map(|line| Record::decode(line.as_bytes()).unwrap()).collect();
    assert_eq!(records, samples());
    let places: Vec<usize> = records.iter().map(place).collect();
    assert_eq!(places, (0..=15).collect::<Vec<_>>());
}

#[test]
fn records_are_written_as_they_were_in_format_1() {
    let text = fs::read_to_string(golden("records-v1.jsonl")).unwrap();
    for (record, line) in samples().iter().zip(text.lines()) {
        assert_eq!(String::from_utf8(record.encode()).unwrap(), line);
    }
}

#[test]
fn what_was_added_to_format_1_reads_and_is_written_as_it_was() {
    let text = fs::read_to_string(golden("records-v1-added.jsonl")).unwrap();
    let records: Vec<Record> = text.lines().map(|line| Record::decode(line.as_bytes()).unwrap()).collect();
    assert_eq!(records, added_samples());
    for added in 16..=17 {
        assert!(records.iter().any(|record| place(record) == added), "kind {added} has no sample");
    }
    for (record, line) in records.iter().zip(text.lines()) {
        assert_eq!(String::from_utf8(record.encode()).unwrap(), line);
    }
}

#[test]
fn a_journal_of_format_1_opens_to_the_same_hash() {
    let dir = scratch();
    copy_dir(&golden("journal-v1"), dir.path());
    let (journal, entries) = Journal::open(dir.path()).unwrap();
    assert!(journal.torn().is_none());
    let records: Vec<Record> = entries.iter().map(|entry| Record::decode(&entry.payload).unwrap()).collect();
    assert_eq!(records, samples());
    assert_eq!(journal.hash().to_string(), JOURNAL_HASH.trim_end());
}

#[test]
fn a_checkpoint_of_format_1_loads() {
    let dir = scratch();
    copy_dir(&golden("checkpoint-v1"), dir.path());
    let store = CheckpointStore::open(dir.path()).unwrap();
    assert_eq!(store.read_fence().unwrap(), MembershipEpoch(2));
    let loaded = store.load_latest().unwrap().unwrap();
    assert_eq!(loaded.meta, golden_meta());
    assert_eq!(loaded.parts["w"], [1, 2, 3]);
    assert_eq!(loaded.parts["adam.m"], [4; 100]);
}

#[test]
fn a_field_of_a_newer_version_is_passed_over_and_a_missing_one_has_its_default() {
    let newer = br#"{"type":"join_token_used","node":3,"at":5,"by":"somebody"}"#;
    assert_eq!(Record::decode(newer).unwrap(), Record::JoinTokenUsed { node: NodeId::new(3), at: Millis::new(5) });
    let older = br#"{"type":"job_finished","job":1,"at":5,"model_path":"m","card_path":"c","steps":3,"epochs":1}"#;
    assert!(matches!(Record::decode(older), Ok(Record::JobFinished { eval_accuracy: None, model_blake3: None, .. })));
}

#[test]
fn an_artifact_that_a_job_brings_along_reads() {
    let line = br#"{"type":"job_submitted","job":1,"name":"mine","project":"default","submitted_at":5,"source":"kind: train\n","base_dir":"/","spec_hash":"00","artifact":{"hash":"blake3:0707070707070707070707070707070707070707070707070707070707070707","launch_version":1,"entries":[{"name":"mine","default_batch":64,"params":[{"name":"depth","kind":{"type":"int","min":1,"max":9},"default":2},{"name":"rate","kind":{"type":"float","min":0.0,"max":1.0},"default":1.0},{"name":"kind","kind":{"type":"text","choices":["a","b"]},"default":"a"},{"name":"bias","kind":{"type":"bool"}}]}]}}"#;
    let param = |name: &str, kind, default| ParamRecord { name: name.to_owned(), kind, default };
    let choices = vec!["a".to_owned(), "b".to_owned()];
    let params = vec![
        param("depth", KindRecord::Int { min: 1, max: 9 }, Some(ValueRecord::Int(2))),
        param("rate", KindRecord::Float { min: 0.0, max: 1.0 }, Some(ValueRecord::Float(1.0))),
        param("kind", KindRecord::Text { choices }, Some(ValueRecord::Text("a".to_owned()))),
        param("bias", KindRecord::Bool, None),
    ];
    let entries = vec![EntryRecord { name: "mine".to_owned(), default_batch: 64, params }];
    let brought = ArtifactRecord { hash: ContentHash::new([7; 32]), launch_version: 1, entries, mains: Vec::new() };
    let record = Record::decode(line).unwrap();
    assert!(
        matches!(&record, Record::JobSubmitted { artifact: Some(artifact), .. } if *artifact == brought),
        "{record:?}"
    );
    assert_eq!(record.encode(), line);
    // What job files are checked against is the same before and after.
    let info = brought.info();
    assert_eq!(info.entries.iter().map(EntryRecord::from).collect::<Vec<_>>(), brought.entries);
}

#[test]
fn a_kind_of_a_newer_version_is_told_from_nonsense() {
    match Record::decode(br#"{"type":"moon_phase","phase":"full"}"#) {
        Err(RecordError::Unsupported(kind)) => assert_eq!(kind, "moon_phase"),
        other => panic!("{other:?}"),
    }
    let nonsense: [&[u8]; 6] =
        [b"", b"null", b"{}", br#"{"type":"join_token_used"}"#, br#"{"type":7}"#, &[0xff, 0xfe, 0x00]];
    for payload in nonsense {
        assert!(matches!(Record::decode(payload), Err(RecordError::Malformed(_))), "{payload:?}");
    }
}

#[test]
fn a_loss_that_is_no_number_is_stored_as_none() {
    let mut samples = samples();
    let Record::EpochFinished(epoch) = &mut samples[10] else { unreachable!("see `place`") };
    epoch.train_loss = Some(f64::NAN);
    let Record::EpochFinished(epoch) = Record::decode(&samples[10].encode()).unwrap() else { panic!("another kind") };
    assert_eq!(epoch.train_loss, None);
}

#[test]
#[ignore = "writes the golden files of a format that has none yet"]
fn write_what_is_missing() {
    let records = golden("records-v1.jsonl");
    if !records.exists() {
        let line = |record: &Record| String::from_utf8(record.encode()).unwrap() + "\n";
        fs::write(records, samples().iter().map(line).collect::<String>()).unwrap();
    }
    let added = golden("records-v1-added.jsonl");
    if !added.exists() {
        let line = |record: &Record| String::from_utf8(record.encode()).unwrap() + "\n";
        fs::write(added, added_samples().iter().map(line).collect::<String>()).unwrap();
    }
    let journal_dir = golden("journal-v1");
    if !journal_dir.exists() {
        let (mut journal, _) = Journal::open(&journal_dir).unwrap();
        let payloads: Vec<Vec<u8>> = samples().iter().map(Record::encode).collect();
        journal.append(&payloads[..3]).unwrap();
        journal.append(&payloads[3..]).unwrap();
        fs::write(golden("journal-v1.hash"), format!("{}\n", journal.hash())).unwrap();
        journal.close().unwrap();
        fs::remove_file(journal_dir.join("journal.lock")).unwrap();
    }
    let checkpoint_dir = golden("checkpoint-v1");
    if !checkpoint_dir.exists() {
        let store = CheckpointStore::open(&checkpoint_dir).unwrap();
        store.publish(&golden_meta(), &[("w", &[1, 2, 3]), ("adam.m", &[4; 100])]).unwrap();
        fs::remove_file(checkpoint_dir.join("fence.lock")).unwrap();
    }
}
