//! What a simulation shows: plain numbers, from which tables and pictures can be made.

use super::cluster::ClusterSpec;
use super::single::best_run_seconds;
use super::trace::Trace;
use super::world::World;
use crate::model::JobId;
use crate::policy::adaptive::GpuTypeView;

/// Everything that was recorded of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct SimulationReport {
    /// The trace.
    pub trace: String,
    /// The policy.
    pub policy: String,
    /// The cluster; the vectors by type below count along it.
    pub gpu_types: Vec<GpuTypeView>,
    /// The first submission, seconds.
    pub first_submit: f64,
    /// The jobs, in order of their end.
    pub jobs: Vec<JobOutcome>,
    /// One point for each round in which there was a job.
    pub use_over_time: Vec<UsePoint>,
    /// How long a round was, seconds.
    pub round_seconds: f64,
    /// GPU-seconds held, by type; a round counts whole.
    pub gpu_seconds: Vec<f64>,
    /// Seconds in which something of a node was held, by type and node.
    pub node_seconds: Vec<Vec<f64>>,
    /// Seconds each decision took, by the caller's clock.
    pub decision_seconds: Vec<f64>,
}

/// How one job fared. Times are seconds from the start of the trace.
#[derive(Debug, Clone, PartialEq)]
pub struct JobOutcome {
    /// Its number.
    pub job: JobId,
    /// Its name in the trace.
    pub name: String,
    /// What it ran.
    pub app: String,
    /// Submitted.
    pub submit: f64,
    /// First given GPUs.
    pub start: f64,
    /// Ended.
    pub end: f64,
    /// GPU-seconds held.
    pub gpu_seconds: f64,
    /// Restarts after the first start.
    pub restarts: u32,
    /// Jobs in the cluster, itself included, on average over its life.
    pub contention: f64,
}

/// The cluster in one round.
#[derive(Debug, Clone, PartialEq)]
pub struct UsePoint {
    /// The round's start, seconds.
    pub at: f64,
    /// Jobs that had not ended.
    pub jobs: u32,
    /// Those of them without GPUs.
    pub waiting: u32,
    /// GPUs held, by type.
    pub held: Vec<u32>,
    /// Nodes of which something was held.
    pub nodes: u32,
}

/// The numbers that policies are compared by.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Jobs that ended.
    pub jobs: usize,
    /// Mean time from submission to end, hours.
    pub jct_mean_hours: f64,
    /// Half of the jobs took at most this long, hours.
    pub jct_p50_hours: f64,
    /// The job at position 0.99 n in ascending order, hours.
    pub jct_p99_hours: f64,
    /// From the first submission to the last end, hours.
    pub makespan_hours: f64,
    /// GPU-hours held by an average job.
    pub gpu_hours_per_job: f64,
    /// GPU-hours held, by type.
    pub gpu_hours: Vec<f64>,
    /// Restarts of an average job.
    pub restarts_per_job: f64,
    /// Mean wait for the first GPUs, hours.
    pub wait_mean_hours: f64,
    /// GPUs held between the first submission and the last end, as a share of all.
    pub utilisation: f64,
    /// Seconds of the median decision.
    pub decision_median_seconds: f64,
    /// Seconds of the decision at position 0.95 n.
    pub decision_p95_seconds: f64,
}

const HOUR: f64 = 3600.0;

impl SimulationReport {
    pub(super) fn new(trace: &Trace, policy: &str, cluster: &ClusterSpec, round_seconds: f64) -> Self {
        Self {
            trace: trace.name.clone(),
            policy: policy.to_owned(),
            gpu_types: cluster.gpu_types.clone(),
            first_submit: trace.jobs.first().map_or(0.0, |job| job.submit),
            jobs: Vec::new(),
            use_over_time: Vec::new(),
            round_seconds,
            gpu_seconds: vec![0.0; cluster.gpu_types.len()],
            node_seconds: cluster.gpu_types.iter().map(|gpu| vec![0.0; gpu.nodes as usize]).collect(),
            decision_seconds: Vec::new(),
        }
    }

    /// Times from submission to end, seconds, in ascending order.
    pub fn completion_seconds(&self) -> Vec<f64> {
        sorted(self.jobs.iter().map(|job| job.end - job.submit))
    }

    /// The numbers to compare by.
    pub fn summary(&self) -> Summary {
        let completion = self.completion_seconds();
        let count = self.jobs.len().max(1) as f64;
        let last_end = self.jobs.iter().map(|job| job.end).fold(self.first_submit, f64::max);
        let makespan = last_end - self.first_submit;
        let gpus: u32 = self.gpu_types.iter().map(GpuTypeView::gpus).sum();
        let gpu_seconds: f64 = self.gpu_seconds.iter().sum();
        let decisions = sorted(self.decision_seconds.iter().copied());
        Summary {
            jobs: self.jobs.len(),
            jct_mean_hours: completion.iter().sum::<f64>() / count / HOUR,
            jct_p50_hours: at_share(&completion, 0.5) / HOUR,
            jct_p99_hours: at_share(&completion, 0.99) / HOUR,
            makespan_hours: makespan / HOUR,
            gpu_hours_per_job: gpu_seconds / count / HOUR,
            gpu_hours: self.gpu_seconds.iter().map(|seconds| seconds / HOUR).collect(),
            restarts_per_job: self.jobs.iter().map(|job| f64::from(job.restarts)).sum::<f64>() / count,
            wait_mean_hours: self.jobs.iter().map(|job| job.start - job.submit).sum::<f64>() / count / HOUR,
            utilisation: gpu_seconds / (f64::from(gpus) * makespan).max(1.0),
            decision_median_seconds: at_share(&decisions, 0.5),
            decision_p95_seconds: at_share(&decisions, 0.95),
        }
    }

    /// The worst finish-time fairness (Themis, NSDI'20): how much longer a job took than alone, from its submission, on
    /// its share of the cluster. The share is its GPUs divided by the mean number of jobs over its life, at least one
    /// GPU, of the type where that is fastest.
    pub fn worst_fairness(&self, world: &World) -> f64 {
        let mut known = std::collections::BTreeMap::new();
        let mut ratio = |job: &JobOutcome| {
            let share = |gpu: &GpuTypeView| (f64::from(gpu.gpus()) / job.contention).floor().max(1.0) as u32;
            let shares: Vec<u32> = self.gpu_types.iter().map(share).collect();
            let alone = *known.entry((job.app.clone(), shares.clone())).or_insert_with(|| {
                let app = world.apps.get(&job.app)?;
                let on = |(gpu, share): (&GpuTypeView, &u32)| best_on_share(app, gpu, *share);
                let best = self.gpu_types.iter().zip(&shares).filter_map(on).fold(f64::INFINITY, f64::min);
                Some(best + app.restart_seconds)
            });
            alone.map_or(0.0, |alone| (job.end - job.submit) / alone)
        };
        self.jobs.iter().map(&mut ratio).fold(0.0, f64::max)
    }
}

/// The least time on at most `share` GPUs of a type, among one node's powers of two and whole nodes.
fn best_on_share(app: &super::world::App, gpu: &GpuTypeView, share: u32) -> Option<f64> {
    let within = (0..).map(|power| 1 << power).take_while(|gpus| *gpus < gpu.gpus_per_node).map(|gpus| vec![gpus]);
    let whole = (1..=gpu.nodes_per_job_max).map(|nodes| vec![gpu.gpus_per_node; nodes as usize]);
    let sizes = within.chain(whole).filter(|sizes| sizes.iter().sum::<u32>() <= share);
    sizes.filter_map(|sizes| best_run_seconds(app, &gpu.name, &sizes)).min_by(f64::total_cmp)
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The value at position `share · n`, counted from zero, of an ascending list; zero for an empty one.
pub fn at_share(ascending: &[f64], share: f64) -> f64 {
    let position = (share * ascending.len() as f64) as usize;
    ascending.get(position.min(ascending.len().saturating_sub(1))).copied().unwrap_or(0.0)
}
