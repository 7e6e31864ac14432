//! A scheduling policy of one's own, run by the simulator beside two that are built in.
//!
//!     cargo run --example custom_policy
//!
//! The policy is *highest response ratio next* (Brinch Hansen 1971): the job goes first whose wait is largest beside what it
//! still has to run. Short jobs hardly wait, and a long one is not passed for ever. The same object decides in the simulator
//! and would decide in a control plane: it sees nothing but a snapshot.

use neap::scheduler::model::{GpuCount, GpuNeed, MicroUsdPerHour, Millis};
use neap::scheduler::policy::{Behind, JobDemand, Policy, Snapshot};
use neap::scheduler::sim::cluster::{Estimate, Report, Settings, SimJob, World, gpu_cluster, simulate};

/// Highest response ratio next.
#[derive(Debug)]
struct ResponseRatio;

impl ResponseRatio {
    /// How long the job has waited and still takes, beside what it still takes. Nothing is known of a job without an
    /// estimate; it counts as one that takes an hour.
    fn ratio(job: &JobDemand, now: Millis) -> f64 {
        let rest = job.terms.work.map(|work| work.time_on(work.likely, job.workers.target.max(1)).as_secs_f64());
        let rest = rest.unwrap_or(3_600.0).max(1.0);
        (now.since(job.submitted).as_secs_f64() + rest) / rest
    }
}

impl Policy for ResponseRatio {
    fn name(&self) -> &'static str {
        "response_ratio"
    }

    fn order<'a>(&self, snapshot: &'a Snapshot) -> Vec<&'a JobDemand> {
        let mut queue: Vec<&JobDemand> = snapshot.jobs.iter().collect();
        // Jobs that stand equal are served in the order of their numbers, so that one snapshot gives one plan.
        queue.sort_by(|one, other| {
            let by_ratio = Self::ratio(other, snapshot.now).total_cmp(&Self::ratio(one, snapshot.now));
            by_ratio.then_with(|| one.id.cmp(&other.id))
        });
        queue
    }

    fn behind(&self) -> Behind {
        Behind::Backfills
    }
}

/// Four nodes for two days: every sixth job is long, the others are short, and more comes than fits at once.
fn world() -> World {
    let job = |number: u64| {
        let minutes = if number.is_multiple_of(6) { 240 + number } else { 6 + number % 9 };
        let workers = 1 + u32::from(number.is_multiple_of(4));
        let submitted = Millis::from_secs(number * 600);
        let run = Millis::from_secs(minutes * 60);
        let gpus = GpuNeed { count: GpuCount(1), models: Vec::new() };
        let rigid = SimJob::rigid(format!("job-{number}"), submitted, workers, run);
        SimJob { estimate: Some(Estimate::EXACT), gpus, ..rigid }
    };
    World {
        jobs: (0..200).map(job).collect(),
        nodes: gpu_cluster(4, 1, MicroUsdPerHour::new(500_000)),
        providers: Vec::new(),
        settings: Settings::default(),
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let world = world();
    let built_in = |name: &str| <dyn Policy>::by_name(name);
    let policies: [Box<dyn Policy>; 3] = [built_in("fifo")?, built_in("turnaround")?, Box::new(ResponseRatio)];
    println!("{:16} {:>16} {:>16} {:>12}", "policy", "mean wait", "mean completion", "makespan");
    for policy in policies {
        let report: Report = simulate(&world, &*policy);
        println!(
            "{:16} {:>14.0} s {:>14.0} s {:>10.1} h",
            policy.name(),
            report.mean_wait_s(),
            report.mean_completion_s(),
            report.makespan().as_secs_f64() / 3_600.0
        );
    }
    Ok(())
}
