//! What do the policies make of recorded jobs on a fixed cluster, and how fast are they decided?
//!
//! Replays the Alibaba 2023 GPU pods (openb: 8,152 pods on 1,213 nodes) and one virtual cluster of Philly (723 jobs on 24
//! nodes of 8) under each policy, with exact estimates for those that use them. Bound: a plain replay makes a decision
//! after each submission and each end, 16,304 for openb.
//!
//! Then Shockwave's jobs in rounds of 120 s, every job static. Its peers reach, on 120 jobs and 32 V100, makespan and mean completion
//! of 24,197 s and 9,958 s (Shockwave), 24,205 and 19,807 (OSSP), 31,909 and 9,655 (MST), 32,489 and 9,926 (AlloX). No
//! schedule ends before 22,230 s: all work on all GPUs from the start.
//!
//! Prints one JSON line a replay; `-- philly` or `-- shockwave` runs only those.
//!
//! The traces are read from `../shared/bench/scheduling` beside the workspace, or from `NEAP_BENCH_DATA`; without them it says so and
//! measures nothing.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on stops")]
#![allow(
    clippy::disallowed_methods,
    reason = "a bench reads the clock, files and its own arguments; the library never does"
)]

use std::time::Instant;

use neap_scheduler::model::{MicroUsdPerHour, Millis};
use neap_scheduler::policy::{POLICY_NAMES, Policy};
use neap_scheduler::sim::cluster::{
    Estimate, FixedNode, Report, Settings, SimJob, World, gpu_cluster, openb_nodes, openb_pods, philly_jobs,
    shockwave_jobs, simulate,
};

#[path = "recorded.rs"]
mod recorded;

/// Shockwave's traces (NSDI'23), GPUs, and how many of them are on a node: 32 as published for 120 jobs, and 128 for 460. As
/// one pool, and with nodes of 4 on one of which each job must find all its GPUs.
const SHOCKWAVE: [(&str, usize, u32); 4] =
    [("shockwave_120", 32, 1), ("shockwave_460", 128, 1), ("shockwave_120", 32, 4), ("shockwave_460", 128, 4)];
const SHOCKWAVE_ROUND: Millis = Millis::from_secs(120);

fn main() {
    let read = |file: &str| recorded::read(file).inspect_err(|error| println!("SKIPPED: {error}")).ok();
    let only = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let pods = "job_traces/alibaba2023_openb_pod_default.csv";
    let nodes = "clusters/alibaba2023_openb_nodes.csv";
    if "openb".contains(&only)
        && let (Some(pod_text), Some(node_text)) = (read(pods), read(nodes))
    {
        let nodes = openb_nodes(nodes, &node_text, MicroUsdPerHour::new(0)).unwrap();
        replay("openb", Millis::ZERO, openb_pods(pods, &pod_text, &nodes).unwrap(), nodes);
    }
    let file = "job_traces/philly_raw.csv";
    if "philly".contains(&only)
        && let Some(text) = read(file)
    {
        let jobs = philly_jobs(file, &text, Some("7f04ca"), 8).unwrap();
        replay("philly_7f04ca", Millis::ZERO, jobs, gpu_cluster(24, 8, MicroUsdPerHour::new(8_000_000)));
    }
    for (name, gpus, on_node) in SHOCKWAVE {
        let file = format!("job_traces/{name}.tsv");
        if name.contains(&only)
            && let Some(text) = read(&file)
        {
            let jobs = shockwave_jobs(&file, &text, on_node).unwrap();
            let nodes = gpu_cluster(gpus / on_node as usize, on_node, MicroUsdPerHour::new(8_000_000));
            replay(&format!("{name}_nodes_of_{on_node}"), SHOCKWAVE_ROUND, jobs, nodes);
        }
    }
}

fn replay(name: &str, round: Millis, mut jobs: Vec<SimJob>, nodes: Vec<FixedNode>) {
    jobs.iter_mut().for_each(|job| job.estimate = Some(Estimate::EXACT));
    let world = World { jobs, nodes, providers: Vec::new(), settings: Settings { round, ..Settings::default() } };
    for policy in POLICY_NAMES {
        let start = Instant::now();
        let report = simulate(&world, &*<dyn Policy>::by_name(policy).unwrap());
        let seconds = start.elapsed().as_secs_f64();
        println!(
            r#"{{"replay":"{name}","policy":"{policy}","jobs":{},"unfinished":{},"mean_wait_s":{:.1},"mean_completion_s":{:.1},"makespan_s":{:.0},"preempted":{},"rounds":{},"wall_s":{seconds:.1},"ms_per_round":{:.3}}}"#,
            report.jobs.len(),
            report.unfinished(),
            report.mean_wait_s(),
            report.mean_completion_s(),
            makespan_s(&report),
            report.jobs.iter().filter(|job| job.preemptions > 0).count(),
            report.rounds,
            seconds * 1e3 / report.rounds as f64,
        );
    }
}

/// From the first submission to the last end.
fn makespan_s(report: &Report) -> f64 {
    let first = report.jobs.iter().map(|job| job.submitted).min().unwrap_or_default();
    let last = report.jobs.iter().filter_map(|job| job.ended).max().unwrap_or_default();
    last.since(first).as_secs_f64()
}
