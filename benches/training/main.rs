//! Question: what do logical shards, a parameter server and the network cost on top of burn alone?
//!
//! The work is the entry `mlp` (784-256-128-10, 235,146 parameters) with plain SGD, 128 samples a step. Back of the
//! envelope: 6 × 235,146 = 1.4 MFLOP a sample; burn's `flex` measured alone reached 45,000 to 58,000 samples a second on
//! one core, which is 2.2 to 2.8 ms a step. One worker process adds a copy of the parameters into the network and one of
//! the gradients out of it (0.94 MB each, 0.1 ms at 10 GB/s) and saves burn's own optimiser step. Bounds: one shard
//! ≥ 0.9 × burn alone. Two trainer processes and a server process move 4 × 0.94 MB a step; plain QUIC costs about 1 CPU
//! second a GB on both sides together, 3.8 ms a step; bound: CPU beyond computing ≤ 2 × that.
//!
//! ```text
//! cargo bench -p neap-training --profile dev --bench training [-- ROUNDS [ONLY]]
//! ```
//!
//! ONLY picks the measurements whose name contains it. Both set-ups are reported apart. Everything is measured from the first committed step to the end of the job, so neither
//! start-up nor reading the data is in it. One JSON object a measurement, then a table of medians. burn alone gets its
//! batches ready-made; our loader makes them from bytes, and that is in our figures. Where `NEAP_BENCH_PYTHON` names a
//! Python with PyTorch, `benches/peers/torch_mlp.py` runs in the same rounds.

mod alone;
mod ours;
mod processes;
mod usage;
mod work;

use std::collections::BTreeMap;

/// Samples a step.
const BATCH: usize = 128;

/// Steps of one measurement.
const STEPS: usize = 1_000;

/// Rounds unless the command line says otherwise.
const ROUNDS: usize = 5;

/// One measurement.
struct Measurement {
    wall_seconds: f64,
    cpu_seconds: f64,
    samples: usize,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if arguments.first().is_some_and(|argument| argument == processes::WORKER_ARGUMENT) {
        return processes::run_worker_process();
    }
    let rounds = arguments.first().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS);
    let folder = tempfile::tempdir().expect("a temporary folder");
    work::write_data(folder.path());
    let mut rates: BTreeMap<&str, Vec<Measurement>> = BTreeMap::new();
    let only = arguments.get(1).cloned().unwrap_or_default();
    type Run = fn(&std::path::Path) -> Measurement;
    let runs: [(&str, Run); 4] = [
        ("burn alone", |_| alone::run()),
        ("one process, 1 shard", |folder| ours::one_process(folder, 1)),
        ("one process, 8 shards", |folder| ours::one_process(folder, 8)),
        ("2 trainers + server, QUIC", ours::separate),
    ];
    for round in 0..rounds {
        for (what, run) in runs.iter().filter(|(what, _)| what.contains(&only)) {
            let measurement = run(folder.path());
            report(what, round, &measurement);
            rates.entry(what).or_default().push(measurement);
        }
        run_torch();
    }
    println!("\n{:<28}{:>14}{:>18}{:>16}", "", "samples/s", "samples/CPU-s", "CPU ms/step");
    for (what, measurements) in &rates {
        let median = |value: fn(&Measurement) -> f64| {
            let mut values: Vec<f64> = measurements.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let wall = median(|m| m.samples as f64 / m.wall_seconds);
        let cpu = median(|m| m.samples as f64 / m.cpu_seconds);
        let step = median(|m| m.cpu_seconds * 1e3 * BATCH as f64 / m.samples as f64);
        println!("{what:<28}{wall:>14.0}{cpu:>18.0}{step:>16.2}");
    }
}

fn report(what: &str, round: usize, measurement: &Measurement) {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let line = serde_json::json!({
        "bench": "training",
        "what": what,
        "round": round,
        "samples": measurement.samples,
        "wall_seconds": measurement.wall_seconds,
        "cpu_seconds": measurement.cpu_seconds,
        "samples_per_second": measurement.samples as f64 / measurement.wall_seconds,
        "samples_per_cpu_second": measurement.samples as f64 / measurement.cpu_seconds,
        "load": load.split_whitespace().next(),
    });
    println!("{line}");
}

fn run_torch() {
    let Some(python) = std::env::var_os("NEAP_BENCH_PYTHON") else { return };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../benches/peers/torch_mlp.py");
    for arguments in [["rate", "--batch"], ["ddp", "--global-batch"]] {
        let run = std::process::Command::new(&python).arg(script).args(arguments).arg(BATCH.to_string()).status();
        if !run.is_ok_and(|status| status.success()) {
            println!("{}", serde_json::json!({"bench": "training", "what": "torch", "failed": arguments[0]}));
        }
    }
}
