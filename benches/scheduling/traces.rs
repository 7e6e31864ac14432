//! What do the policies make of recorded jobs on a fixed cluster, and how fast are they decided?
//!
//! Replays the Alibaba 2023 GPU pods (openb: 8,152 pods on 1,213 nodes) and one virtual cluster of Philly (723 jobs on 24
//! nodes of 8) under each policy, with exact estimates for the one that uses them. Bound: a plain replay makes a decision
//! after each submission and each end, 16,304 for openb. Prints one JSON line a replay; `-- philly` runs only those.
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
    Estimate, FixedNode, Settings, SimJob, World, gpu_cluster, openb_nodes, openb_pods, philly_jobs, simulate,
};

#[path = "recorded.rs"]
mod recorded;

fn main() {
    let read = |file: &str| recorded::read(file).inspect_err(|error| println!("SKIPPED: {error}")).ok();
    let only = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let pods = "job_traces/alibaba2023_openb_pod_default.csv";
    let nodes = "clusters/alibaba2023_openb_nodes.csv";
    if "openb".contains(&only)
        && let (Some(pod_text), Some(node_text)) = (read(pods), read(nodes))
    {
        let nodes = openb_nodes(nodes, &node_text, MicroUsdPerHour::new(0)).unwrap();
        replay("openb", openb_pods(pods, &pod_text, &nodes).unwrap(), nodes);
    }
    let file = "job_traces/philly_raw.csv";
    if "philly".contains(&only)
        && let Some(text) = read(file)
    {
        let jobs = philly_jobs(file, &text, Some("7f04ca"), 8).unwrap();
        replay("philly_7f04ca", jobs, gpu_cluster(24, 8, MicroUsdPerHour::new(8_000_000)));
    }
}

fn replay(name: &str, mut jobs: Vec<SimJob>, nodes: Vec<FixedNode>) {
    jobs.iter_mut().for_each(|job| job.estimate = Some(Estimate::EXACT));
    let world =
        World { jobs, nodes, providers: Vec::new(), settings: Settings { round: Millis::ZERO, ..Settings::default() } };
    for policy in POLICY_NAMES {
        let start = Instant::now();
        let report = simulate(&world, &*<dyn Policy>::by_name(policy).unwrap());
        let seconds = start.elapsed().as_secs_f64();
        println!(
            r#"{{"replay":"{name}","policy":"{policy}","jobs":{},"unfinished":{},"mean_wait_s":{:.1},"mean_completion_s":{:.1},"preempted":{},"rounds":{},"wall_s":{seconds:.1},"ms_per_round":{:.3}}}"#,
            report.jobs.len(),
            report.unfinished(),
            report.mean_wait_s(),
            report.mean_completion_s(),
            report.jobs.iter().filter(|job| job.preemptions > 0).count(),
            report.rounds,
            seconds * 1e3 / report.rounds as f64,
        );
    }
}
