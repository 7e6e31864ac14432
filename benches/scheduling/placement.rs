//! How many placement decisions a second does the mechanism make?
//!
//! One round over 5,000 nodes and 50,000 one-worker tasks of mixed sizes, all of which fit: 50,000 decisions to start a
//! worker. Bound: a decision is a few range queries and updates of ordered maps of thousands of entries (~1 µs each), and
//! its share of reading the snapshot: about 5–10 µs, so 100,000 a second; the gate is 10,000. A second line measures a
//! round on the full cluster with one more task (what a submission waits for).
//!
//! Deciding is all that is timed; each action then goes to [`durable`], where a control plane would write it down. That
//! write is measured with the journal. Prints one JSON line a measure.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on stops")]
#![allow(clippy::disallowed_methods, reason = "a bench reads the clock and its own arguments; the library never does")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use neap_scheduler::model::{
    CpuMillis, Generation, JobId, Market, MemoryMib, MicroUsdPerHour, Millis, NodeId, NodeSize, NodeState,
};
use neap_scheduler::policy::{
    Accounts, Action, JobDemand, JobTerms, NodeSupply, NodeTerms, Plan, Snapshot, applied, decide,
};
use neap_scheduler::spec::WorkerRange;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const NODES: u64 = 5_000;
const TASKS: u64 = 50_000;

/// Timed rounds; enough for a 95th percentile of them.
const ROUNDS: usize = 21;

/// The decisions a second that must be reached.
const GATE: f64 = 10_000.0;

fn main() {
    // `cargo test --benches` runs every bench once to see that it works.
    let rounds = if std::env::args().any(|arg| arg == "--test") { 1 } else { ROUNDS };
    let snapshot = cluster(1);
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
        last.actions.iter().for_each(durable);
    }
    times.sort_unstable();
    (times, last)
}

/// Where a control plane writes the action down before it acts.
fn durable(action: &Action) {
    black_box(action);
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

/// Nodes of 16 to 96 cores, and tasks of 0.25 to 6 cores that fill them to about 80 %.
fn cluster(seed: u64) -> Snapshot {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let nodes = (1..=NODES).map(|id| {
        let cores = [16, 32, 64, 96][rng.random_range(0..4)];
        node(id, NodeSize { cpus: CpuMillis::from_cores(cores), memory: MemoryMib(u64::from(cores) * 4_096) })
    });
    let nodes = nodes.collect();
    let jobs = (1..=TASKS).map(|id| {
        let cpus = CpuMillis(rng.random_range(1..=24) * 250);
        task(id, NodeSize { cpus, memory: MemoryMib(rng.random_range(1..=4) * u64::from(cpus.0)) })
    });
    Snapshot {
        now: Millis::from_secs(1_000),
        generation: Generation(1),
        jobs: jobs.collect(),
        nodes,
        offers: Vec::new(),
        idle_release: Millis::from_secs(600),
        accounts: Accounts::default(),
    }
}

fn node(id: u64, size: NodeSize) -> NodeSupply {
    NodeSupply {
        id: NodeId::new(id),
        size,
        market: Market::OnDemand,
        price: MicroUsdPerHour::new(1_000_000),
        state: NodeState::Ready,
        rented_for: None,
        notice_until: None,
        answers: true,
        idle_since: Some(Millis::from_secs(900)),
        terms: NodeTerms::default(),
    }
}

fn task(id: u64, need: NodeSize) -> JobDemand {
    JobDemand {
        id: JobId::new(id),
        submitted: Millis::new(id),
        workers: WorkerRange { min: 1, target: 1, max: 1 },
        need,
        market: Market::OnDemand,
        max_price: None,
        separate_server: false,
        given_up: 0,
        started: false,
        stopping: false,
        hold_until: None,
        placed: Vec::new(),
        leaving: Vec::new(),
        terms: JobTerms::default(),
    }
}
