//! `neap simulate`: a recorded trace under a policy, two policies on one trace, and rounds of a control plane decided again.
//!
//! Offline. The simulation is the scheduler crate's; here files become worlds and reports become tables.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use neap_scheduler::model::{MicroUsd, MicroUsdPerHour, Millis};
use neap_scheduler::policy::Policy;
use neap_scheduler::replay::RoundRecord;
use neap_scheduler::sim::DataError;
use neap_scheduler::sim::adaptive::at_share;
use neap_scheduler::sim::cluster::{
    FixedNode, JobOutcome, Report, Settings, SimJob, World, diff as changes, gpu_cluster, openb_nodes, openb_pods,
    philly_jobs, shockwave_jobs, simulate as run_world,
};
use serde_json::{Value, json};

use super::Shell;
use super::args::{DiffArgs, ReplayArgs, SimulateArgs, WorldArgs};
use super::exit::{CliError, Exit};
use super::output::fields;

/// Jobs listed by `diff`, those with the largest change.
const CHANGES_SHOWN: usize = 10;

pub(super) fn run(shell: &Shell, args: &SimulateArgs) -> Result<Exit, CliError> {
    let world = world(&args.world)?;
    let policy = policy(&args.policy)?;
    let summary = Summary::of(&run_world(&world, policy.as_ref()));
    shell.output.document(&summary.json(policy.name()), policy.name(), || summary.text(policy.name()))?;
    Ok(Exit::Ok)
}

/// What would change with another policy.
pub(super) fn diff(shell: &Shell, args: &DiffArgs) -> Result<Exit, CliError> {
    let [before, after] = args.policy.as_slice() else {
        return Err(CliError::Usage("give two policies: --policy A --policy B".to_owned()));
    };
    let world = world(&args.world)?;
    let (first, second) = (policy(before)?, policy(after)?);
    let reports = [run_world(&world, first.as_ref()), run_world(&world, second.as_ref())];
    let [old, new] = [Summary::of(&reports[0]), Summary::of(&reports[1])];
    let mut jobs = changes(&reports[0], &reports[1]);
    let size = |change: Option<f64>| change.unwrap_or_default().abs();
    jobs.sort_by(|left, right| size(right.completion_s).total_cmp(&size(left.completion_s)));
    let listed = jobs.iter().map(|job| {
        json!({ "job": job.name, "wait_s": job.wait_s, "completion_s": job.completion_s, "cost_usd": job.cost_usd })
    });
    let document = json!({
        "before": old.json(first.name()),
        "after": new.json(second.name()),
        "jobs": listed.collect::<Vec<Value>>(),
    });
    let text = || {
        let mut text = format!("{}\n{}\n", old.text(first.name()), new.text(second.name()));
        text.push_str(&format!("{} of {} jobs fared differently\n", jobs.len(), world.jobs.len()));
        for job in jobs.iter().take(CHANGES_SHOWN) {
            let seconds = |change: Option<f64>| change.map_or("-".to_owned(), |seconds| format!("{seconds:+.0} s"));
            let (wait, done) = (seconds(job.wait_s), seconds(job.completion_s));
            text.push_str(&format!("  {}: wait {wait}, completion {done}, cost {:+.2} $\n", job.name, job.cost_usd));
        }
        text
    };
    shell.output.document(&document, second.name(), text)?;
    Ok(Exit::Ok)
}

/// Decides recorded rounds again: each must give the plan that was carried out.
pub(super) fn replay(shell: &Shell, args: &ReplayArgs) -> Result<Exit, CliError> {
    let text = read(&args.file)?;
    let name = args.file.display();
    let mut differing = Vec::new();
    let mut rounds = 0u64;
    for (line, number) in text.lines().zip(1u64..) {
        let broken = |error: &dyn std::error::Error| CliError::Usage(format!("{name}:{number}: {error}"));
        let round = RoundRecord::parse(line).map_err(|error| broken(&error))?;
        let replayed = round.replay().map_err(|error| broken(&error))?;
        rounds += 1;
        if !replayed.identical {
            differing.push(number);
        }
    }
    let document = json!({ "rounds": rounds, "differing_lines": differing });
    shell.output.document(&document, &name.to_string(), || match differing.as_slice() {
        [] => format!("{rounds} rounds, every plan the same byte for byte\n"),
        lines => format!("{rounds} rounds; another plan in lines {lines:?}\n"),
    })?;
    Ok(if differing.is_empty() { Exit::Ok } else { Exit::Conflict })
}

fn policy(name: &str) -> Result<Box<dyn Policy>, CliError> {
    <dyn Policy>::by_name(name).map_err(|error| CliError::Usage(error.to_string()))
}

fn read(path: &Path) -> Result<String, CliError> {
    fs::read_to_string(path).map_err(|source| CliError::ReadFile { path: path.to_owned(), source })
}

fn world(args: &WorldArgs) -> Result<World, CliError> {
    let refused = |error: DataError| CliError::Usage(error.to_string());
    let price = MicroUsdPerHour::new(args.price.get());
    let nodes: Vec<FixedNode> = match &args.cluster {
        Some(path) => openb_nodes(&path.display().to_string(), &read(path)?).map_err(refused)?,
        None => gpu_cluster(args.nodes, args.gpus_per_node, price),
    };
    let mut jobs = jobs(args)?;
    jobs.truncate(args.limit.unwrap_or(usize::MAX));
    let settings = Settings { round: Millis::from_secs(args.round_seconds), seed: args.seed, ..Settings::default() };
    Ok(World { jobs, nodes, providers: Vec::new(), settings })
}

/// The jobs of a trace; which kind it is, its first line says.
fn jobs(args: &WorldArgs) -> Result<Vec<SimJob>, CliError> {
    let (name, text) = (args.trace.display().to_string(), read(&args.trace)?);
    let first = text.lines().next().unwrap_or_default();
    let read = if first.starts_with("vc,submit_s") {
        philly_jobs(&name, &text, args.virtual_cluster.as_deref(), args.gpus_per_node)
    } else if first.starts_with("name,cpu_milli") {
        openb_pods(&name, &text)
    } else if first.contains('\t') {
        shockwave_jobs(&name, &text, args.gpus_per_node)
    } else {
        let known = "a table of Philly (vc,submit_s,...), openb (name,cpu_milli,...) or Shockwave (separated by tabs)";
        return Err(CliError::Usage(format!("{name}:1: not a trace that can be simulated; give {known}")));
    };
    read.map_err(|error| CliError::Usage(error.to_string()))
}

/// The figures of one simulation.
struct Summary {
    jobs: usize,
    unfinished: usize,
    completion_s: BTreeMap<&'static str, f64>,
    wait_s: f64,
    end: Millis,
    cost: MicroUsd,
    preemptions: u64,
    rounds: u64,
}

impl Summary {
    fn of(report: &Report) -> Self {
        let mut times: Vec<f64> =
            report.jobs.iter().filter_map(JobOutcome::completion).map(Millis::as_secs_f64).collect();
        times.sort_by(f64::total_cmp);
        Self {
            jobs: report.jobs.len(),
            unfinished: report.unfinished(),
            completion_s: [
                ("mean", report.mean_completion_s()),
                ("p50", at_share(&times, 0.5)),
                ("p99", at_share(&times, 0.99)),
            ]
            .into(),
            wait_s: report.mean_wait_s(),
            end: report.end,
            cost: report.cost(),
            preemptions: report.jobs.iter().map(|job| u64::from(job.preemptions)).sum(),
            rounds: report.rounds,
        }
    }

    fn text(&self, policy: &str) -> String {
        let hours = |seconds: f64| format!("{:.2} h", seconds / 3_600.0);
        let [mean, p50, p99] = ["mean", "p50", "p99"].map(|name| hours(self.completion_s[name]));
        fields(&[
            ("policy", Some(policy.to_owned())),
            ("jobs", Some(format!("{} ({} did not end)", self.jobs, self.unfinished))),
            ("completion", Some(format!("mean {mean}, p50 {p50}, p99 {p99}"))),
            ("mean wait", Some(hours(self.wait_s))),
            ("makespan", Some(hours(self.end.as_secs_f64()))),
            ("cost", Some(self.cost.to_string())),
            ("preemptions", Some(self.preemptions.to_string())),
            ("decisions", Some(self.rounds.to_string())),
        ])
    }

    fn json(&self, policy: &str) -> Value {
        json!({
            "policy": policy,
            "jobs": self.jobs,
            "unfinished": self.unfinished,
            "completion_s": self.completion_s,
            "mean_wait_s": self.wait_s,
            "makespan_s": self.end.as_secs_f64(),
            "cost_micro_usd": self.cost,
            "preemptions": self.preemptions,
            "decisions": self.rounds,
        })
    }
}
