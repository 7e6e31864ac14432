//! Pollux's workloads (OSDI'21) beside what the artifact of its paper published for them.

use neap_scheduler::sim::adaptive::World;
use serde::Deserialize;

use crate::{Options, rows, traces};

#[derive(Debug, Deserialize)]
struct PolluxRow {
    trace: String,
    policy: String,
    avg_jct_s: f64,
}

/// Pollux's workloads as its own simulator runs them: no slowdown beyond the tables, and every restart takes 30 s.
pub(crate) fn run(world: &World, options: &Options) {
    const RESTART_SECONDS: f64 = 30.0;
    let published: Vec<PolluxRow> = rows("reference/pollux_osdi21_artifact_results.csv");
    let mut world = world.clone();
    for app in world.apps.values_mut() {
        (app.slowdown, app.restart_seconds) = (1.0, RESTART_SECONDS);
    }
    let options = Options { homogeneous: true, ..options.clone() };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for trace in traces("pollux_osdi21_workloads", &world) {
        let summary = super::run(&world, &options, &trace).summary();
        let peer = |name: &str| {
            let row = published.iter().find(|row| row.trace == trace.name && row.policy == name);
            row.map_or(f64::NAN, |row| row.avg_jct_s)
        };
        ours.push(summary.jct_mean_hours * 3_600.0);
        theirs.push(peer("pollux"));
        println!(
            "{:20} avg {:6.0} s p99 {:6.0} s  Pollux {:6.0} Tiresias {:6.0} Optimus {:6.0}  {:.3} of Pollux",
            trace.name,
            summary.jct_mean_hours * 3_600.0,
            summary.jct_p99_hours * 3_600.0,
            peer("pollux"),
            peer("tiresias"),
            peer("optimus"),
            summary.jct_mean_hours * 3_600.0 / peer("pollux"),
        );
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    println!(
        "mean of {}: {:.0} s, Pollux on the same {:.0} s (2,751 s over 8)",
        ours.len(),
        mean(&ours),
        mean(&theirs)
    );
}
