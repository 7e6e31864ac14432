//! How many placement decisions a second does a control plane make and have on disk?
//!
//! One round over 5,000 nodes and 50,000 tasks, decided by the function that production calls, and every start written to
//! the journal as production's `WorkerStarted` record. A decision counts when the append that carries it has returned:
//! its bytes are `fdatasync`ed. Measured with one append a plan, one of 256 records, and one a decision, each without and
//! with the projection that the control plane's store updates after each append. Today the control plane appends each
//! start by itself, because it sends each to a node before the next.
//!
//! Bound: 50,000 records of about 165 bytes are 8 MB, a tenth of a second for any disk, and one `fdatasync`; one a
//! decision is the disk's own rate of small synced writes, which the last line shows without our code. Gate: 10,000
//! decisions a second; kube-scheduler's floor in its own CI is 680 to 810 pods a second at this size.
//!
//! ```text
//! cargo bench -p neap-storage --bench placement_durable            in the target folder's file system
//! NEAP_BENCH_DISK=/mnt/disk cargo bench ...                        in that folder's
//! ```
//!
//! Prints one JSON line a measure.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on stops")]

use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use large_cluster::{NODES, TASKS, cluster};
use neap_scheduler::model::{Millis, WorkerId};
use neap_scheduler::policy::{Action, PlacedRole, Plan, decide};
use neap_storage::{Journal, Projection, Record};

#[path = "large_cluster.rs"]
mod large_cluster;

/// The decisions a second that must be reached.
const GATE: f64 = 10_000.0;

/// Repetitions of each measure; the median counts.
const ROUNDS: usize = 5;

/// So many decisions are enough where each waits for the disk.
const ONE_BY_ONE: usize = 2_000;

/// Bytes of one record with its frame, about: for the disk alone.
const RECORD_BYTES: usize = 165;

/// What follows the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Index {
    /// Nothing.
    None,
    /// The projection, as in the control plane's store.
    Projection,
}

fn main() {
    // `cargo test --benches` runs every bench once to see that it works.
    let rounds = if std::env::args().any(|arg| arg == "--test") { 1 } else { ROUNDS };
    let disk =
        std::env::var_os("NEAP_BENCH_DISK").map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    println!(r#"{{"nodes":{NODES},"tasks":{TASKS},"file_system":"{}"}}"#, file_system(&disk));
    let mut gated = 0.0;
    for (name, index) in [("journal", Index::None), ("journal_and_projection", Index::Projection)] {
        let all = TASKS as usize;
        let plan = measure(&format!("{name}_one_append_a_plan"), rounds, &disk, index, all, all);
        measure(&format!("{name}_appends_of_256"), rounds, &disk, index, all, 256);
        measure(&format!("{name}_one_append_a_decision"), rounds, &disk, index, ONE_BY_ONE, 1);
        gated = if index == Index::None { plan } else { gated };
    }
    disk_alone(&disk);
    println!(r#"{{"peak_resident_mib":{:.0}}}"#, peak_resident_mib());
    assert!(rounds == 1 || gated >= GATE, "{gated:.0} durable decisions/s; the gate is {GATE:.0}");
}

/// Decides the whole round and writes the first `decisions` of it in appends of `group`; gives back decisions a second,
/// the time of deciding taken in proportion.
fn measure(name: &str, rounds: usize, disk: &Path, index: Index, decisions: usize, group: usize) -> f64 {
    let mut rounds: Vec<(Duration, Duration, u64)> =
        (0..rounds).map(|_| one_round(disk, index, decisions, group)).collect();
    let share = decisions as f64 / TASKS as f64;
    let total = |(decide, write, _): &(Duration, Duration, u64)| decide.as_secs_f64() * share + write.as_secs_f64();
    rounds.sort_by(|one, other| total(one).total_cmp(&total(other)));
    let (decide, write, bytes) = rounds[rounds.len() / 2];
    let rate = decisions as f64 / total(&(decide, write, bytes));
    println!(
        r#"{{"measure":"{name}","rounds":{},"decisions":{decisions},"appends":{},"bytes_per_decision":{:.0},"decide_ms":{:.1},"write_ms":{:.1},"decisions_per_s":{rate:.0}}}"#,
        rounds.len(),
        decisions.div_ceil(group),
        bytes as f64 / decisions as f64,
        decide.as_secs_f64() * 1e3 * share,
        write.as_secs_f64() * 1e3,
    );
    rate
}

/// The time of deciding, the time of writing, and the bytes written.
fn one_round(disk: &Path, index: Index, decisions: usize, group: usize) -> (Duration, Duration, u64) {
    let snapshot = cluster();
    let folder = tempfile::tempdir_in(disk).unwrap();
    let (mut journal, entries) = Journal::open(&folder.path().join("journal")).unwrap();
    let projection = || Projection::open(&folder.path().join("projection"), &entries).unwrap();
    let mut projection = (index == Index::Projection).then(projection);
    let before = journal.bytes();

    let start = Instant::now();
    let plan = decide(black_box(&snapshot));
    let decided = start.elapsed();

    let start = Instant::now();
    let records = started(&plan, snapshot.now);
    assert_eq!(records.len() as u64, TASKS, "every task fits");
    for records in records[..decisions].chunks(group) {
        let payloads: Vec<_> = records.iter().map(Record::encode).collect();
        let entries = journal.append_entries(&payloads).unwrap();
        for entry in &entries {
            projection.iter_mut().for_each(|projection| projection.apply(entry).unwrap());
        }
    }
    let written = start.elapsed();

    let bytes = journal.bytes() - before;
    drop(journal);
    let (_, found) = Journal::open(&folder.path().join("journal")).unwrap();
    assert_eq!(found.len(), decisions, "what was acknowledged is there");
    (decided, written, bytes)
}

/// What the control plane writes down for the starts of a plan.
fn started(plan: &Plan, at: Millis) -> Vec<Record> {
    let starts = plan.actions.iter().filter_map(|action| match action {
        Action::Start { job, node, role, .. } => Some((*job, *node, *role == PlacedRole::Server)),
        _ => None,
    });
    let records = starts.zip(1..).map(|((job, node, server), worker)| Record::WorkerStarted {
        job,
        worker: WorkerId::new(worker),
        node,
        server,
        at,
    });
    records.collect()
}

/// Small synced writes without our code: what the disk can do one by one.
fn disk_alone(disk: &Path) {
    let mut file: File = tempfile::tempfile_in(disk).unwrap();
    let bytes = [0_u8; RECORD_BYTES];
    let start = Instant::now();
    for _ in 0..ONE_BY_ONE {
        file.write_all(&bytes).unwrap();
        file.sync_data().unwrap();
    }
    let each = start.elapsed().as_secs_f64() / ONE_BY_ONE as f64;
    println!(
        r#"{{"measure":"disk_alone","bytes":{RECORD_BYTES},"fdatasync_us":{:.1},"per_s":{:.0}}}"#,
        each * 1e6,
        1.0 / each
    );
}

/// The type and device of the file system that a folder lies in, as Linux says.
fn file_system(folder: &Path) -> String {
    let folder = folder.canonicalize().unwrap();
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let holds = |line: &str| {
        let mut fields = line.split(' ');
        let (device, place, kind) = (fields.next()?, fields.next()?, fields.next()?);
        folder.starts_with(place).then(|| (place.len(), format!("{kind} on {device}")))
    };
    mounts.lines().filter_map(holds).max().map_or_else(|| "unknown".to_owned(), |(_, name)| name)
}

/// The most memory this process has had resident, as Linux says.
fn peak_resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) / 1024.0
}
