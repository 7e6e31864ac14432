//! Question: what do checkpoints cost a training? Bound: 2 % of its time.
//!
//! The work is the entry `mlp` (784-256-128-10, 235,146 parameters) with Adam, so that its state is three buffers of that
//! length: 2.8 MB. One worker process with one computing thread carries everything, server and saver included, which is the
//! worst case: whatever a checkpoint costs is taken from the same processor. Back of the envelope: copying 2.8 MB, hashing
//! and writing it twice over takes 5 to 10 ms; at one a second that is below 1 %, and the interval that suits the losses
//! (Young and Daly) is many seconds long.
//!
//! ```text
//! cargo bench --profile dev --bench checkpoints [-- ROUNDS [STEPS]]
//! NEAP_BENCH_CHECKPOINTS=s3://bucket/place cargo bench …     the same in an object store, named by AWS_… as ever
//! ```
//!
//! In each round all intervals take their turn, so that a slow moment of the machine hits all alike. One JSON object a
//! measurement, from the first committed step to the end of the job; then the medians of what each interval costs more than
//! the training without checkpoints of its round.

#[path = "../training/job.rs"]
mod job;
#[path = "../training/usage.rs"]
mod usage;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use job::{JOB, Job, encoded, loopback, runtime, write_data};
use neap_runtime::wire::training::{Consistency, Every, Param, TrainLaunch};
use neap_runtime::wire::worker::{Member, Membership, WorkerCommand, WorkerReport};
use neap_runtime::workload::{ReportSender, WorkerContext, Workload};
use neap_runtime::{CertificateAuthority, Node, NodeConfig, Role};
use neap_scheduler::model::{MembershipEpoch, WorkerId};
use tokio::sync::mpsc;

/// Samples a step.
const BATCH: u32 = 128;

/// Rounds and steps unless the command line says otherwise: ten seconds and more a measurement.
const ROUNDS: usize = 5;
const STEPS: u64 = 5_000;

/// One loss of the state in half an hour: a bad day on a spot market.
const LOSSES_PER_1000_H: u32 = 2_000;

/// What is compared: how often a checkpoint is written.
const INTERVALS: [(&str, Every); 4] = [
    ("none", Every::Never),
    ("as suits one loss in 30 min", Every::Auto),
    ("every second", Every::Millis(1_000)),
    ("every 100 ms", Every::Millis(100)),
];

struct Measurement {
    wall_seconds: f64,
    cpu_seconds: f64,
    checkpoints: usize,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let rounds = arguments.first().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS);
    let steps = arguments.get(1).and_then(|steps| steps.parse().ok()).unwrap_or(STEPS);
    let mut all: BTreeMap<&str, Vec<Measurement>> = BTreeMap::new();
    for round in 0..rounds {
        for (what, every) in INTERVALS {
            let measurement = train(every, steps);
            report(what, round, &measurement);
            all.entry(what).or_default().push(measurement);
        }
    }
    println!(
        "\n{:<30}{:>14}{:>16}{:>16}{:>22}",
        "checkpoints", "how many", "more time", "more CPU", "CPU ms a checkpoint"
    );
    let without = &all["none"];
    for (what, _) in &INTERVALS[1..] {
        let pairs = || all[what].iter().zip(without);
        let wall = median(pairs().map(|(with, without)| with.wall_seconds / without.wall_seconds - 1.0));
        let cpu = median(pairs().map(|(with, without)| with.cpu_seconds / without.cpu_seconds - 1.0));
        let count = median(all[what].iter().map(|measurement| measurement.checkpoints as f64));
        let each =
            median(pairs().map(|(with, without)| {
                (with.cpu_seconds - without.cpu_seconds) * 1e3 / with.checkpoints.max(1) as f64
            }));
        println!("{what:<30}{count:>14.0}{:>14.2} %{:>14.2} %{each:>22.1}", wall * 100.0, cpu * 100.0);
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn report(what: &str, round: usize, measurement: &Measurement) {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let line = serde_json::json!({
        "bench": "checkpoints",
        "what": what,
        "round": round,
        "wall_seconds": measurement.wall_seconds,
        "cpu_seconds": measurement.cpu_seconds,
        "checkpoints": measurement.checkpoints,
        "load": load.split_whitespace().next(),
    });
    println!("{line}");
}

/// A training in a folder of its own, in this process.
fn train(every: Every, steps: u64) -> Measurement {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_data(folder.path());
    let job = job(steps);
    runtime().block_on(async {
        let authority = CertificateAuthority::load_or_create(&folder.path().join("ca")).expect("an authority");
        let worker = WorkerId::new(1);
        let identity = authority.issue(Role::Worker { job: JOB, worker }).expect("an identity");
        let node = Node::start(&identity, loopback(), NodeConfig::default()).expect("an endpoint");
        let (commands, inbox) = mpsc::channel(4);
        let (sender, mut reports) = ReportSender::channel();
        let context = WorkerContext {
            job: JOB,
            worker,
            args: encoded(&launch(&job, folder.path(), every)),
            compute_threads: job.threads,
            cache: folder.path().join("cache"),
            node: node.clone(),
            commands: inbox,
            reports: sender,
        };
        let running = tokio::spawn(Arc::new(neap_training::workload(neap_training::Entries::builtin())).start(context));
        let members = vec![Member { worker, addr: node.local_addr(), shard_start: 0, shard_end: job.logical_shards }];
        let membership = Membership {
            epoch: MembershipEpoch(1),
            members,
            server: worker,
            servers: vec![worker],
            replicas: Vec::new(),
            restore: None,
            losses_per_1000_h: LOSSES_PER_1000_H,
        };
        commands.send(WorkerCommand::Membership(membership)).await.expect("the worker listens");
        let measurement = measure(&mut reports).await;
        commands.send(WorkerCommand::Stop { save: false }).await.expect("the worker listens");
        running.await.expect("no panic").expect("a clean end");
        node.shutdown().await;
        measurement
    })
}

/// From the first committed step to the end of the job.
async fn measure(reports: &mut mpsc::Receiver<WorkerReport>) -> Measurement {
    let (mut start, mut checkpoints) = (None, 0);
    loop {
        match reports.recv().await.expect("the job runs to its end") {
            WorkerReport::Progress(_) => {
                start.get_or_insert_with(|| (Instant::now(), usage::cpu_seconds(std::process::id())));
            }
            WorkerReport::Checkpoint(_) => checkpoints += 1,
            WorkerReport::Finished(_) => {
                let (started, before) = start.expect("progress comes before the end");
                let wall_seconds = started.elapsed().as_secs_f64();
                return Measurement {
                    wall_seconds,
                    cpu_seconds: usage::cpu_seconds(std::process::id()) - before,
                    checkpoints,
                };
            }
            WorkerReport::Failed { message, .. } => panic!("{message}"),
            _ => {}
        }
    }
}

/// What is trained, for so many steps after the first.
fn job(steps: u64) -> Job {
    let params = vec![("optimizer".to_owned(), Param::Text("adam".to_owned())), ("lr".to_owned(), Param::Float(0.001))];
    let (entry, consistency) = ("mlp", Consistency::Sync);
    Job { entry, params, batch: BATCH, logical_shards: 8, steps: steps + 1, threads: 1, consistency }
}

fn launch(job: &Job, folder: &Path, every: Every) -> TrainLaunch {
    // Each training has a place of its own also in an object store: two of them must not fence each other off.
    let own = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let place = std::env::var("NEAP_BENCH_CHECKPOINTS").map(|place| format!("{place}/{own}"));
    let common = job::launch(job, folder);
    TrainLaunch {
        checkpoint_folder: place.unwrap_or_else(|_| common.checkpoint_folder.clone()),
        checkpoint_every: every,
        checkpoint_keep: 3,
        ..common
    }
}
