//! How well, and how fast, do our policies divide a cluster of GPUs among elastic training jobs?
//!
//! Every trace runs through the simulator and is printed beside what the peers reach on it: Sia and Gavel measured in
//! Sia's own simulator (`reference/sia_simulator_measured.csv`), and the tables of Sia's paper (SOSP'23). First the 89
//! runs of single jobs are compared with Sia's simulator: no score counts unless they agree within 1 %. The bound that
//! no scheduler reaches is `reference/sia_lower_bounds.csv`: no contention at all, about 0.22 to 0.26 h per job.
//!
//! ```text
//! cargo bench -p neap-scheduler --bench adaptive                  everything but the scaled clusters
//! cargo bench -p neap-scheduler --bench adaptive -- --trace sia_saturn_1 --scale 32
//!   --trace NAME,...      traces or families; --policy goodput|fifo|least_service; --rigid; --homogeneous
//!   --pollux              only Pollux's workloads, as its own simulator runs them
//!   --scale N             N copies of each job on N times the cluster; --json; --set KEY=VALUE (see `set`)
//! ```
//!
//! The data is read from `../shared/bench/scheduling` beside the repository, or from `NEAP_BENCH_DATA`.

#![allow(clippy::disallowed_methods, reason = "the crate under test is pure; its bench reads files and a clock")]

use std::collections::BTreeMap;
use std::time::Instant;

use neap_scheduler::policy::adaptive::{
    Allocation, AllocationPolicy, AppView, Batch, ClusterView, Fifo, Goodput, GoodputSettings, JobView, LeastService,
    Observation, Placement,
};
use neap_scheduler::sim::adaptive::{
    ClusterSpec, DecisionTimer, FixedRun, RunSettings, SimulationReport, Summary, Table, Trace, World, at_share,
    completion_seconds, read_traces, simulate,
};
use neap_scheduler::sim::read_rows;
use serde::Deserialize;

#[path = "adaptive_pollux.rs"]
mod pollux;
#[path = "recorded.rs"]
mod recorded;

/// Average, p99, makespan (hours) and GPU-hours per job, as published in Sia's paper: table 3, and table 4 for 16 nodes
/// of 4 T4.
const PUBLISHED_SIA: [(&str, [f64; 4]); 3] = [
    ("sia_philly", [0.6, 9.5, 14.2, 4.0]),
    ("sia_saturn", [0.7, 10.9, 14.9, 4.8]),
    ("sia_newtrace", [0.7, 4.6, 52.2, 3.0]),
];
const PUBLISHED_SIA_HOMOGENEOUS: [f64; 4] = [1.9, 18.1, 21.4, 8.4];
/// How much better than Sia the average has to be on a trace on which both were measured.
const AVERAGE_GATE: f64 = 0.95;
/// How far a run of a single job may be from Sia's simulator.
const CONFORMANCE: f64 = 0.01;

fn main() {
    let options = Options::parse(std::env::args().skip(1));
    if !recorded::folder().is_dir() {
        println!("SKIPPED: no benchmark data at {}; set NEAP_BENCH_DATA", recorded::folder().display());
        return;
    }
    let started = Instant::now();
    let world = profiles();
    if options.pollux {
        pollux::run(&world, &options);
    } else if options.traces.is_empty() {
        conformance(&world);
        suite(&world, &options);
    } else {
        section(&world, &options, &options.traces);
    }
    println!("everything took {:.1} s on one core", started.elapsed().as_secs_f64());
}

#[derive(Clone, Default)]
struct Options {
    traces: Vec<String>,
    policy: Option<String>,
    rigid: bool,
    homogeneous: bool,
    pollux: bool,
    json: bool,
    scale: u32,
    settings: GoodputSettings,
}

impl Options {
    fn parse(arguments: impl Iterator<Item = String>) -> Self {
        let mut options = Self { scale: 1, ..Self::default() };
        let mut arguments = arguments.filter(|argument| argument != "--bench");
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} needs a value"));
            match argument.as_str() {
                "--trace" => options.traces = value().split(',').map(str::to_owned).collect(),
                "--policy" => options.policy = Some(value()),
                "--scale" => options.scale = value().parse().expect("--scale takes a number"),
                "--set" => set(&mut options.settings, &value()),
                "--rigid" => options.rigid = true,
                "--homogeneous" => options.homogeneous = true,
                "--pollux" => options.pollux = true,
                "--json" => options.json = true,
                other => panic!("unknown option {other}; the head of benches/scheduling/adaptive.rs lists them"),
            }
        }
        options
    }

    fn cluster(&self) -> ClusterSpec {
        let cluster = if self.homogeneous { ClusterSpec::homogeneous_t4() } else { ClusterSpec::sia_heterogeneous() };
        cluster.scaled(self.scale)
    }

    fn policy(&self) -> Box<dyn AllocationPolicy> {
        match self.policy.as_deref() {
            Some("fifo") => Box::new(Fifo),
            Some("least_service") => Box::new(LeastService),
            _ => Box::new(Watched { policy: Goodput::new(self.settings), worth: 0.0, bound: 0.0 }),
        }
    }
}

/// The goodput policy, and how far its divisions were from the best possible ones.
struct Watched {
    policy: Goodput,
    worth: f64,
    bound: f64,
}

impl AllocationPolicy for Watched {
    fn name(&self) -> &'static str {
        self.policy.name()
    }

    fn observe(&mut self, view: &ClusterView<'_>, seen: &Observation) {
        self.policy.observe(view, seen);
    }

    fn allocate(&mut self, view: &ClusterView<'_>) -> Allocation {
        let allocation = self.policy.allocate(view);
        let last = self.policy.last_bound();
        self.worth += last.worth;
        self.bound += last.bound;
        allocation
    }

    fn batch(&self, app: &AppView, job: &JobView, placement: &Placement) -> Batch {
        self.policy.batch(app, job, placement)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        println!("    divisions reach {:.2} % of the bound", 100.0 * self.worth / self.bound.max(1e-9));
    }
}

/// Changes one setting of the goodput policy, for finding out what it does.
fn set(settings: &mut GoodputSettings, change: &str) {
    let (key, value) = change.split_once('=').expect("--set takes KEY=VALUE");
    let value: f64 = value.parse().expect("the value is a number");
    match key {
        "floor" => settings.price_floor = value,
        "memory" => settings.price_memory_seconds = value,
        "average" => settings.price_average_seconds = value,
        "far" => settings.price_far_share = value,
        "tenure" => settings.tenure_seconds = value,
        "tail" => settings.tail_exponent = value,
        "width" => settings.width_exponent = value,
        "explore" => settings.explore_factor = value as u32,
        "unknown" => settings.unknown_seconds = value,
        other => panic!("no setting {other}"),
    }
}

fn text(name: &str) -> String {
    recorded::read(name).unwrap_or_else(|error| panic!("{error}"))
}

fn rows<T: serde::de::DeserializeOwned>(name: &str) -> Vec<T> {
    let rows = read_rows(name, &text(name)).unwrap_or_else(|error| panic!("{error}"));
    rows.into_iter().map(|row| row.value).collect()
}

fn profiles() -> World {
    let names = ["profiles/apps.csv", "profiles/throughput.csv", "profiles/statistical_efficiency.csv"];
    let texts = names.map(text);
    let table = |index: usize| Table { file: names[index], text: &texts[index] };
    World::read(table(0), table(1), table(2)).unwrap_or_else(|error| panic!("{error}"))
}

/// The traces of a family, or the one of that name.
fn traces(wanted: &str, world: &World) -> Vec<Trace> {
    let family = family(wanted);
    let name = format!("job_traces/{family}.csv");
    let table = Table { file: &name, text: &text(&name) };
    let traces = read_traces(table, world).unwrap_or_else(|error| panic!("{error}"));
    traces.into_iter().filter(|trace| wanted == family || trace.name == wanted).collect()
}

fn family(trace: &str) -> &str {
    match trace.rsplit_once('_') {
        Some((family, number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => family,
        _ => trace,
    }
}

#[derive(Debug, Deserialize)]
struct SingleRun {
    app: String,
    gpu: String,
    placement: String,
    target_batch: u32,
    completion_s: f64,
}

fn conformance(world: &World) {
    let runs: Vec<SingleRun> = rows("profiles/conformance_fixed_config.csv");
    let error = |run: &SingleRun| {
        let gpus: Vec<u32> = run.placement.split('x').map(|gpus| gpus.parse().expect("a number of GPUs")).collect();
        let fixed = FixedRun { gpu: &run.gpu, gpus_per_node: &gpus, batch: run.target_batch };
        let seconds = completion_seconds(&world.apps[&run.app], fixed, 60.0, 1 << 20).expect("the run ends");
        (seconds / run.completion_s - 1.0).abs()
    };
    let worst = runs.iter().map(error).fold(0.0, f64::max);
    println!("conformance: {} single-job runs, largest difference {:.4} % (at most 1 %)", runs.len(), worst * 100.0);
    assert!(worst <= CONFORMANCE, "the simulator does not behave as Sia's does; no score counts");
}

fn suite(world: &World, options: &Options) {
    let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>();
    let gate = named(&["sia_philly_1", "sia_philly_2", "sia_rate10_1", "sia_saturn_1"]);
    println!("\n== heterogeneous cluster, traces on which Sia was measured (B1)");
    section(world, options, &gate);
    println!("\n== heterogeneous cluster, families (B1)");
    section(world, options, &named(&["sia_philly", "sia_saturn", "sia_newtrace"]));
    println!("\n== higher load (no peer measured beyond rate10_1)");
    section(world, options, &named(&["sia_rate10", "sia_rate20", "sia_rate30", "sia_rate40", "sia_rate50"]));
    println!("\n== 16 nodes of 4 T4 (B1h)");
    section(world, &Options { homogeneous: true, ..options.clone() }, &named(&["sia_philly"]));
    println!("\n== 16 nodes of 4 T4, Pollux's own simulator semantics (B2)");
    pollux::run(world, options);
    println!("\n== rigid jobs, against Gavel with tuned jobs (B1r)");
    section(world, &Options { rigid: true, ..options.clone() }, &gate);
}

#[derive(Debug, Clone, Deserialize)]
struct PeerRow {
    trace: String,
    policy: String,
    avg_jct_h: f64,
    p99_jct_h: f64,
    makespan_h: f64,
    gpuh_per_job: f64,
}

impl PeerRow {
    fn numbers(&self) -> [f64; 4] {
        [self.avg_jct_h, self.p99_jct_h, self.makespan_h, self.gpuh_per_job]
    }
}

fn numbers(summary: &Summary) -> [f64; 4] {
    [summary.jct_mean_hours, summary.jct_p99_hours, summary.makespan_hours, summary.gpu_hours_per_job]
}

/// Runs traces and prints a row for each, and one for each family of which all traces ran.
fn section(world: &World, options: &Options, wanted: &[String]) {
    let peers: Vec<PeerRow> = rows("reference/sia_simulator_measured.csv");
    let peer_policy = if options.rigid { "gavel" } else { "sia" };
    println!(
        "{:16} {:>7} {:>7} {:>7} {:>8} {:>7} {:>8} {:>5} {:>5} {:>6} {:>12}  vs {peer_policy} (avg p99 makespan GPU-h)",
        "trace", "avg h", "p50 h", "p99 h", "makesp h", "GPU-h/j", "restarts", "wait", "util", "FTF", "ms med/p95"
    );
    for name in wanted {
        let mut reports = Vec::new();
        for trace in traces(name, world) {
            let report = run(world, options, &trace);
            let comparable = !options.homogeneous && options.scale == 1;
            let peer = peers.iter().find(|peer| comparable && peer.trace == trace.name && peer.policy == peer_policy);
            print_row(world, options, &report, peer);
            reports.push(report);
        }
        if name == family(name) {
            print_family(name, &reports, options);
        }
    }
}

fn run(world: &World, options: &Options, trace: &Trace) -> SimulationReport {
    let scaled = trace.repeated(options.scale);
    let trace = if options.scale > 1 { &scaled } else { trace };
    let settings = RunSettings { rigid: options.rigid, ..RunSettings::default() };
    let mut policy = options.policy();
    let done = simulate(world, &options.cluster(), trace, policy.as_mut(), settings, &mut Clock);
    done.unwrap_or_else(|error| panic!("{}: {error}", trace.name))
}

struct Clock;

impl DecisionTimer for Clock {
    fn time(&mut self, decide: &mut dyn FnMut()) -> f64 {
        let started = Instant::now();
        decide();
        started.elapsed().as_secs_f64()
    }
}

fn print_row(world: &World, options: &Options, report: &SimulationReport, peer: Option<&PeerRow>) {
    let summary = report.summary();
    let fairness = if options.scale == 1 { report.worst_fairness(world) } else { f64::NAN };
    print!(
        "{:16} {:7.4} {:7.3} {:7.3} {:8.3} {:7.3} {:8.2} {:5.2} {:5.2} {:6.2} {:>12}",
        report.trace,
        summary.jct_mean_hours,
        summary.jct_p50_hours,
        summary.jct_p99_hours,
        summary.makespan_hours,
        summary.gpu_hours_per_job,
        summary.restarts_per_job,
        summary.wait_mean_hours,
        summary.utilisation,
        fairness,
        format!("{:.2}/{:.2}", summary.decision_median_seconds * 1e3, summary.decision_p95_seconds * 1e3),
    );
    match peer {
        Some(peer) => println!("  {}", verdict(numbers(&summary), peer.numbers(), AVERAGE_GATE)),
        None => println!(),
    }
    if options.json {
        println!("{}", json(report, &summary, fairness));
    }
}

/// Our numbers relative to a peer's, and whether all are good enough.
fn verdict(ours: [f64; 4], peer: [f64; 4], average_gate: f64) -> String {
    let ratios: Vec<f64> = ours.iter().zip(peer).map(|(ours, peer)| ours / peer).collect();
    let pass = ratios[0] <= average_gate && ratios[1..].iter().all(|ratio| *ratio <= 1.0);
    let ratios: Vec<String> = ratios.iter().map(|ratio| format!("{ratio:.3}")).collect();
    format!("{} {}", ratios.join(" "), if pass { "pass" } else { "MISS" })
}

fn print_family(name: &str, reports: &[SimulationReport], options: &Options) {
    let summaries: Vec<[f64; 4]> = reports.iter().map(|report| numbers(&report.summary())).collect();
    let mean = |column: usize| summaries.iter().map(|row| row[column]).sum::<f64>() / summaries.len() as f64;
    let spread = |column: usize| {
        let squares = summaries.iter().map(|row| (row[column] - mean(column)).powi(2)).sum::<f64>();
        (squares / (summaries.len().max(2) - 1) as f64).sqrt()
    };
    let mut pooled: Vec<f64> = reports.iter().flat_map(SimulationReport::completion_seconds).collect();
    pooled.sort_by(f64::total_cmp);
    let ours = [mean(0), at_share(&pooled, 0.99) / 3600.0, mean(2), mean(3)];
    print!(
        "{name:16} mean of {}: avg {:.3}±{:.3} p99 (pooled) {:.2} makespan {:.2}±{:.2} GPU-h/job {:.2}±{:.2}",
        summaries.len(),
        ours[0],
        spread(0),
        ours[1],
        ours[2],
        spread(2),
        ours[3],
        spread(3),
    );
    let published = match (options.homogeneous, options.rigid || options.scale > 1) {
        (_, true) => None,
        (true, _) => Some(PUBLISHED_SIA_HOMOGENEOUS),
        _ => PUBLISHED_SIA.iter().find(|known| known.0 == name).map(|known| known.1),
    };
    match published {
        Some(sia) => println!("  published Sia {sia:?}: {}", verdict(ours, sia, 1.0)),
        None => println!(),
    }
}

fn json(report: &SimulationReport, summary: &Summary, fairness: f64) -> serde_json::Value {
    let types = report.gpu_types.iter().map(|gpu| gpu.name.clone());
    let gpu_hours: BTreeMap<String, f64> = types.zip(summary.gpu_hours.iter().copied()).collect();
    serde_json::json!({
        "trace": report.trace, "policy": report.policy, "jobs": summary.jobs,
        "avg_jct_h": summary.jct_mean_hours, "p50_jct_h": summary.jct_p50_hours, "p99_jct_h": summary.jct_p99_hours,
        "makespan_h": summary.makespan_hours, "gpuh_per_job": summary.gpu_hours_per_job, "gpu_hours": gpu_hours,
        "restarts_per_job": summary.restarts_per_job, "wait_mean_h": summary.wait_mean_hours,
        "utilisation": summary.utilisation, "worst_ftf": fairness, "rounds": report.use_over_time.len(),
        "policy_ms_median": summary.decision_median_seconds * 1e3, "policy_ms_p95": summary.decision_p95_seconds * 1e3,
    })
}
