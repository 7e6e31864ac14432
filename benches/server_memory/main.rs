//! Question: how much memory does a parameter server need beside what every worker needs, and does it stay there?
//!
//! Bound: 5 × the parameters with Adam (they themselves, two moments, a gradient, and one of the above on its way), plus a
//! constant that does not depend on the model. Two trainer processes and a server process that carries no shard train a small
//! and a large network; the constant is what the server of the small one takes, and the rest of the large one's is compared
//! with its parameters. `actors/training/tests/memory.rs` shows that nothing grows over 10,000 steps.
//!
//! ```text
//! cargo bench --profile dev --bench server_memory [-- STEPS]
//! ```

#[path = "../training/job.rs"]
mod job;
#[path = "../training/processes.rs"]
mod processes;

use std::path::Path;

use job::{Job, runtime};
use neap_runtime::wire::training::{Consistency, Param};
use neap_runtime::wire::worker::WorkerReport;
use neap_training::Entries;
use processes::{Processes, membership};

/// Steps of each training unless the command line says otherwise.
const STEPS: u64 = 150;

const SHARDS: u32 = 2;

/// Memory of the server's process, in bytes.
struct Memory {
    /// The most it had so far.
    peak: u64,
    /// At the end.
    last: u64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if arguments.first().is_some_and(|argument| argument == processes::WORKER_ARGUMENT) {
        return processes::run_worker_process(Entries::builtin());
    }
    let steps = arguments.first().and_then(|steps| steps.parse().ok()).unwrap_or(STEPS);
    let folder = tempfile::tempdir().expect("a temporary folder");
    job::write_data(folder.path());
    let (small, large) = ((16, 16), (2_048, 1_024));
    let constant = run(folder.path(), small, steps);
    let memory = run(folder.path(), large, steps);
    let bytes = 4 * parameters(large);
    let times = |memory: u64, constant: u64| memory.saturating_sub(constant) as f64 / bytes as f64;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!("parameters: {:.1} MiB; {steps} steps", mib(bytes));
    println!("{:<16}{:>14}{:>14}{:>20}", "", "constant MiB", "large MiB", "x parameters");
    for (what, constant, memory) in [("peak", constant.peak, memory.peak), ("at the end", constant.last, memory.last)] {
        println!("{what:<16}{:>14.1}{:>14.1}{:>20.2}", mib(constant), mib(memory), times(memory, constant));
    }
}

/// Parameters of a network from 784 values through two hidden layers to 10 classes.
fn parameters((first, second): (u64, u64)) -> u64 {
    784 * first + first + first * second + second + second * 10 + 10
}

/// Trains a network with these hidden layers.
fn run(folder: &Path, (first, second): (u64, u64), steps: u64) -> Memory {
    let number = |value: u64| Param::Int(value as i64);
    let params = vec![
        ("hidden1", number(first)),
        ("hidden2", number(second)),
        ("optimizer", Param::Text("adam".to_owned())),
        ("lr", Param::Float(0.001)),
    ];
    let job = Job {
        entry: "mlp",
        params: params.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        batch: 8,
        logical_shards: SHARDS,
        steps,
        threads: 1,
        consistency: Consistency::Sync,
    };
    runtime().block_on(async {
        let mut processes = Processes::start(&job, folder, 3).await;
        let server = processes.pids()[2];
        let first = membership(&processes.addresses[..2], processes.addresses[2], SHARDS);
        processes.tell(&first).await;
        let mut seen = Memory { peak: 0, last: 0 };
        loop {
            match processes.reports.recv().await.expect("the job runs to its end") {
                // Before the model is written, which is not the server's work.
                WorkerReport::Progress(_) => {
                    seen = Memory { peak: memory(server, "VmHWM:"), last: memory(server, "VmRSS:") };
                }
                WorkerReport::Finished(_) => break,
                WorkerReport::Failed { message, .. } => panic!("{message}"),
                _ => {}
            }
        }
        processes.stop().await.expect("the workers end well");
        seen
    })
}

/// A figure of the kernel's account of a process, in bytes.
fn memory(pid: u32, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is alive");
    let line = status.lines().find(|line| line.starts_with(what)).expect("Linux tells it");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number of KiB");
    kib * 1024
}
