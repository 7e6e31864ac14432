//! Scenario: a flipped bit, a lost tail or a zeroed page, anywhere in the journal or in sled, with seeds. Every time
//! the damage is detected or without effect; sled is rebuilt; the journal never starts as if nothing had happened.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::{Damage, Seeded, copy_dir, files_under, scratch, write_journal};
use neap_scheduler::model::{JobId, JobState, MicroUsd, Millis, NodeId};
use neap_scheduler::pricing::Category;
use neap_storage::projection::Opened;
use neap_storage::record::BilledLine;
use neap_storage::{Entry, Journal, JournalError, Projection, Record};

const TRIALS: u64 = 300;
const RECORDS_BILLED: u64 = 40;
const ANCHORED: usize = 25;

/// A history of three jobs whose nodes are billed.
fn history() -> Vec<Vec<Vec<u8>>> {
    let mut rng = Seeded(7);
    let mut records = Vec::new();
    for job in 1..=3 {
        let job = JobId::new(job);
        records.push(Record::JobSubmitted {
            job,
            name: format!("job-{job}"),
            project: "default".to_owned(),
            submitted_at: Millis::new(5),
            source: "kind: train\n".repeat(20),
            base_dir: "/data".to_owned(),
            spec_hash: "00".repeat(32),
            estimate: None,
            artifact: None,
            init_digest: None,
        });
        records.push(Record::JobStateChanged {
            job,
            at: Millis::new(6),
            state: JobState::Running,
            why: "its gang is there".to_owned(),
        });
    }
    for at in 0..RECORDS_BILLED {
        records.push(Record::NodeBilled(BilledLine {
            node: NodeId::new(rng.next() % 5),
            job: (rng.below(4) > 0).then(|| JobId::new(1 + rng.next() % 3)),
            category: Category::ALL[rng.below(4)],
            from: Millis::new(at),
            to: Millis::new(at + 1),
            amount: MicroUsd::new(rng.next() % 1_000),
            actor: None,
        }));
    }
    let mut appends = Vec::new();
    let mut records = records.iter().map(Record::encode).peekable();
    while records.peek().is_some() {
        appends.push(records.by_ref().take(1 + rng.below(4)).collect());
    }
    appends
}

/// Everything a projection can be asked.
fn answers(projection: &Projection) -> BTreeMap<String, String> {
    let mut answers = BTreeMap::new();
    let mut add = |question: &str, answer: String| answers.insert(question.to_owned(), answer);
    add("jobs", format!("{:?}", projection.jobs().unwrap()));
    add("lines", format!("{:?}", projection.lines_all().unwrap()));
    add("cluster", format!("{:?}", projection.cluster_lines().unwrap()));
    for job in 1..=3 {
        let job = JobId::new(job);
        add(&format!("lines {job}"), format!("{:?}", projection.ledger_lines(job).unwrap()));
        add(&format!("decisions {job}"), format!("{:?}", projection.decisions(job).unwrap()));
    }
    answers
}

#[test]
fn no_damage_to_the_journal_goes_unnoticed() {
    let original = scratch();
    let appends = history();
    let early = appends.iter().scan(0, |records, append: &Vec<Vec<u8>>| {
        *records += append.len();
        Some(*records)
    });
    let early = early.take_while(|records| *records <= ANCHORED).count();
    write_journal(original.path(), &appends[..early]);
    let anchor = fs::read(original.path().join("journal.head")).unwrap();
    let (mut journal, before) = Journal::open(original.path()).unwrap();
    appends[early..].iter().for_each(|append| {
        journal.append(append).unwrap();
    });
    let entries = journal.entries().unwrap();
    drop(journal);
    fs::write(original.path().join("journal.head"), anchor).unwrap();

    let mut outcomes = BTreeMap::new();
    for seed in 0..TRIALS {
        let mut rng = Seeded(seed);
        let dir = scratch();
        copy_dir(original.path(), dir.path());
        let file = if rng.below(20) == 0 { "journal.head" } else { "journal.neap" };
        let path = dir.path().join(file);
        let damage = Damage::any(&mut rng, fs::metadata(&path).unwrap().len() as usize);
        let changed = damage.apply(&path);
        let outcome = match Journal::open(dir.path()) {
            Ok((_, found)) if found == entries => {
                assert!(!changed, "seed {seed}: {damage:?} of {file} had no effect");
                "without effect"
            }
            Ok((journal, found)) => {
                assert!(found.len() >= before.len(), "seed {seed}: {damage:?} lost records that the anchor names");
                assert_eq!(found, entries[..found.len()], "seed {seed}: {damage:?}");
                let torn = journal.torn();
                let clean_cut = matches!(damage, Damage::Truncate(length) if length as u64 == journal.bytes());
                assert!(torn.is_some() || clean_cut, "seed {seed}: {damage:?} lost records without a word");
                assert!(torn.is_none_or(|torn| torn.seq.0 as usize == found.len() + 1), "seed {seed}");
                "torn tail"
            }
            Err(JournalError::Damaged { .. }) => "damaged",
            Err(error) => panic!("seed {seed}: {damage:?} gave {error:?}"),
        };
        *outcomes.entry(outcome).or_insert(0) += 1;
    }
    println!("journal, {TRIALS} trials: {outcomes:?}");
}

#[test]
fn no_damage_to_sled_reaches_an_answer() {
    // What sled has to say about its damage is for the projection, not for the terminal.
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.location().is_some_and(|location| location.file().contains("sled-0.34")) {
            usual(panic);
        }
    }));
    let original = scratch();
    let entries = write_journal(&original.path().join("journal"), &history());
    let home = original.path().join("projection");
    let expected = answers(&opened(&home, &entries));

    let mut outcomes = BTreeMap::new();
    for seed in 0..TRIALS {
        let mut rng = Seeded(seed);
        let dir = scratch();
        copy_dir(&home, dir.path());
        let files: Vec<_> =
            files_under(dir.path()).into_iter().filter(|file| fs::metadata(file).unwrap().len() > 0).collect();
        let file = &files[rng.below(files.len())];
        let damage = Damage::any(&mut rng, written_length(file));
        damage.apply(file);
        let projection = opened(dir.path(), &entries);
        let outcome = match projection.opened() {
            Opened::CaughtUp { from } if from.0 as usize == entries.len() => "without effect",
            Opened::CaughtUp { .. } | Opened::New => "an earlier state, caught up",
            Opened::Rebuilt { kept, .. } => {
                assert!(kept.exists());
                "rebuilt"
            }
        };
        let same = answers(&projection) == expected;
        assert!(same, "seed {seed}: {damage:?} of {} changed an answer", file.display());
        *outcomes.entry(outcome).or_insert(0) += 1;
    }
    println!("sled, {TRIALS} trials: {outcomes:?}");
}

fn opened(dir: &Path, entries: &[Entry]) -> Projection {
    Projection::open(dir, entries).unwrap()
}

/// sled's file is mostly room for later; damage goes where something is.
fn written_length(file: &Path) -> usize {
    let bytes = fs::read(file).unwrap();
    bytes.iter().rposition(|&byte| byte != 0).map_or(bytes.len(), |last| last + 1)
}
