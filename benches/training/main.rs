//! Question: what do logical shards, a parameter server and the network cost on top of burn alone, and how does that
//! compare with PyTorch and Ray? One command measures all of it, ours and the peers in turns, and prints the tables:
//!
//! ```text
//! ./benches/peers/setup all                                # once
//! cargo bench --profile dev --bench training [-- --rounds 5 --only mlp,cnn,rounds,quinn,memory --raw FILE --short]
//! ```
//!
//! From the workspace's root and without `-p`: then burn is compiled with the features that the tests have too, once.
//!
//! Each measurement is a fixed amount of work; a round does all of them once, ours and the peers' alternating, and the
//! tables have medians of the rounds with the lowest and the highest rate. What is measured goes from an early step to the
//! last one, so neither start-up nor reading the data is in it. CPU is that of all processes that take part.
//!
//! - `mlp` (784-256-128-10, 235,146 parameters) and `cnn` (105,866), plain SGD. Back of the envelope: `mlp` is
//!   6 × 235,146 = 1.4 MFLOP a sample, `cnn` 6.7 MFLOP in small matrices. One worker process adds a copy of the parameters
//!   into the network and one of the gradients out of it (0.94 MB each, 0.1 ms at 10 GB/s, of a step of 2 to 3 ms) and
//!   saves burn's own optimiser step: at least 0.9 × burn alone. Two trainers and a server move 4 × 0.94 MB a step; plain
//!   QUIC costs about 1 CPU-second a GB and side, 4 to 8 ms a step. burn alone gets its batches ready-made; our loader
//!   makes them from bytes, and that is in our figures.
//! - `rounds`: a parameter server with two workers, 784-h-10, against the same in Ray. A round is one update of the
//!   parameters: of two gradients in step (`sync`), of one out of step (`async`). Ours encrypts and crosses three processes;
//!   Ray's object store shares memory. 102 k parameters: 4 × 0.41 MB a round, 2 to 4 ms of CPU. 5 M: 80 MB.
//! - `quinn`: 5 M parameters out and gradients back with next to no computing, in bytes a second of the whole round, against
//!   one stream of plain quinn with the same transport settings. The round has copies beside the transport: a load into
//!   the network, a gradient, a sum, an update, 20 MB each: about a tenth of it.
//! - `memory`: what a step allocates, against committed bounds; above them the bench fails.
//!
//! A peer that is missing is named in its rows. `NEAP_BENCH_TORCH` and `NEAP_BENCH_RAY` name other Pythons than those in
//! `.venv/torch` and `.venv/ray`.

mod allocated;
mod alone;
mod bounds;
mod job;
mod jobs;
mod memory;
mod models;
mod peers;
mod plain;
mod plan;
mod processes;
mod results;
mod usage;

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::peers::Peer;
use crate::plan::{Bench, Work};
use crate::results::{Part, Results};

/// Rounds unless the command line says otherwise.
const ROUNDS: usize = 5;

/// What the command line says.
struct Arguments {
    rounds: usize,
    parts: Vec<Part>,
    raw: Option<PathBuf>,
    short: bool,
}

impl Arguments {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments = Self { rounds: ROUNDS, parts: Part::ALL.to_vec(), raw: None, short: false };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "--rounds" => arguments.rounds = value()?.parse().map_err(|_| "--rounds needs a number")?,
                "--only" => arguments.parts = parts(&value()?)?,
                "--raw" => arguments.raw = Some(value()?.into()),
                "--short" => arguments.short = true,
                // Cargo says this to every bench.
                "--bench" => {}
                _ => return Err(format!("unknown argument {word}")),
            }
        }
        Ok(arguments)
    }
}

fn parts(names: &str) -> Result<Vec<Part>, String> {
    let find = |name: &str| Part::ALL.into_iter().find(|part| part.name() == name);
    names.split(',').map(|name| find(name).ok_or_else(|| format!("no part {name}"))).collect()
}

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some(processes::WORKER_ARGUMENT) => jobs::run_worker_process(),
        Some(plain::RECEIVER_ARGUMENT) => plain::run_receiver_process(),
        _ => match Arguments::read(std::env::args().skip(1)).and_then(run) {
            Ok(true) => {}
            Ok(false) => return ExitCode::FAILURE,
            Err(fault) => {
                eprintln!("error: {fault}");
                return ExitCode::from(2);
            }
        },
    }
    ExitCode::SUCCESS
}

/// Whether what a step allocates is within its bounds.
fn run(arguments: Arguments) -> Result<bool, String> {
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    job::write_data(folder.path());
    let bench =
        Bench { folder: folder.path().to_owned(), torch: Peer::torch(), ray: Peer::ray(), short: arguments.short };
    let mut log = Log::open(arguments.raw.as_ref())?;
    log.line(&machine());
    let works: Vec<Work> = arguments.parts.iter().flat_map(|&part| plan::works(part)).collect();
    let mut results = Results::default();
    for round in 1..=arguments.rounds {
        for work in &works {
            measure(work, &bench, round, &mut results, &mut log);
        }
    }
    let mut holds = true;
    for &part in &arguments.parts {
        let table = if part == Part::Memory {
            let (table, kept) = memory::table(&bench);
            holds = kept;
            table
        } else {
            let rows = works.iter().filter(|work| work.part == part).flat_map(|work| work.rows.clone());
            results.table(part, &rows.collect::<Vec<_>>(), &bounds::of(part, &results))
        };
        println!("\n{table}");
    }
    if !holds {
        eprintln!("error: a step allocates more than its bound in benches/training/memory.rs");
    }
    Ok(holds)
}

fn measure(work: &Work, bench: &Bench, round: usize, results: &mut Results, log: &mut Log) {
    let part = work.part;
    match work.run(bench) {
        Ok(measured) => {
            for (row, measurement) in work.rows.iter().zip(measured) {
                log.line(&results::line(part, row, round, &measurement));
                results.add(part, row, measurement);
            }
        }
        Err(why) => {
            for row in &work.rows {
                eprintln!("NOT MEASURED: {}, {row}: {why}", part.name());
                results.fail(part, row, &why);
            }
        }
    }
}

/// What it ran on.
fn machine() -> serde_json::Value {
    let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    serde_json::json!({
        "bench": "training",
        "processor": model.map(|(_, model)| model),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "load1": results::load(),
    })
}

/// The raw lines: to a file where one is named, else to standard output.
struct Log(Box<dyn Write>);

impl Log {
    fn open(path: Option<&PathBuf>) -> Result<Self, String> {
        let Some(path) = path else { return Ok(Self(Box::new(std::io::stdout()))) };
        let file = File::create(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(Box::new(file)))
    }

    fn line(&mut self, line: &serde_json::Value) {
        writeln!(self.0, "{line}").expect("the raw lines can be written");
    }
}
