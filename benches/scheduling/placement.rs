//! How many placement decisions a second does the mechanism make?
//!
//! One round over 5,000 nodes and 50,000 one-worker tasks of mixed sizes, all of which fit: 50,000 decisions to start a
//! worker. Bound: a decision is a few range queries and updates of ordered maps of thousands of entries (~1 µs each), and
//! its share of reading the snapshot: about 5–10 µs, so 100,000 a second; the gate is 10,000. A second line measures a
//! round on the full cluster with one more task (what a submission waits for).
//!
//! Deciding is all that is timed; `placement_durable` of neap-storage times it with the journal. Prints one JSON line a
//! measure.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on stops")]
#![allow(clippy::disallowed_methods, reason = "a bench reads the clock and its own arguments; the library never does")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use large_cluster::{TASKS, cluster, task};
use neap_scheduler::model::{CpuMillis, MemoryMib, NodeSize};
use neap_scheduler::policy::{Action, Plan, Snapshot, applied, decide};

#[path = "large_cluster.rs"]
mod large_cluster;

/// Timed rounds; enough for a 95th percentile of them.
const ROUNDS: usize = 21;

/// The decisions a second that must be reached.
const GATE: f64 = 10_000.0;

fn main() {
    // `cargo test --benches` runs every bench once to see that it works.
    let rounds = if std::env::args().any(|arg| arg == "--test") { 1 } else { ROUNDS };
    let snapshot = cluster();
    let (times, plan) = timed(rounds, &snapshot);
    let starts = plan.actions.iter().filter(|action| matches!(action, Action::Start { .. })).count();
    assert_eq!(starts as u64, TASKS, "every task fits");
    let rate = report("placement_50000_tasks_on_5000_nodes", &times, starts);

    let mut full = applied(&snapshot, &plan);
    full.jobs.push(task(TASKS + 1, NodeSize { cpus: CpuMillis(100), memory: MemoryMib(64) }));
    let (times, plan) = timed(rounds, &full);
    assert_eq!(plan.actions.len(), 1, "one task more, one action");
    report("one_more_task_on_the_full_cluster", &times, 1);
    assert!(rounds == 1 || rate >= GATE, "{rate:.0} decisions/s; the gate is {GATE:.0}");
}

fn timed(rounds: usize, snapshot: &Snapshot) -> (Vec<Duration>, Plan) {
    let mut times = Vec::new();
    let mut last = Plan::default();
    for _ in 0..rounds {
        let start = Instant::now();
        last = decide(black_box(snapshot));
        times.push(start.elapsed());
    }
    times.sort_unstable();
    (times, last)
}

fn report(what: &str, times: &[Duration], decisions: usize) -> f64 {
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
    let (median, p95) = (at(0.5), at(0.95));
    let rate = decisions as f64 / median.as_secs_f64();
    println!(
        r#"{{"measure":"{what}","rounds":{},"decisions":{decisions},"round_ms_p50":{:.2},"round_ms_p95":{:.2},"decisions_per_s":{rate:.0},"us_per_decision_p95":{:.2}}}"#,
        times.len(),
        median.as_secs_f64() * 1e3,
        p95.as_secs_f64() * 1e3,
        p95.as_secs_f64() * 1e6 / decisions as f64
    );
    rate
}
