//! The report of a simulation with a price on its nodes, in the form of the other simulator, so that both are shown alike.

use super::report::{JobOutcome, SimulationReport, UsePoint};
use crate::model::{MicroUsd, MicroUsdPerHour, Millis};
use crate::policy::adaptive::GpuTypeView;
use crate::sim::cluster::{JobOutcome as ClusterJob, NodeOutcome, Report, UseSample};

impl SimulationReport {
    /// The same with every node at `price` from the start of the trace to its last end, as fixed nodes cost.
    ///
    /// A job pays for its GPU time at the mean price of a GPU. Its restarts stand for preemptions, and each of its GPUs
    /// for a worker. Times are rounded to milliseconds; a round counts whole, so use may reach past the last end.
    pub fn billed(&self, price: MicroUsdPerHour) -> Report {
        let ends = self.jobs.iter().map(|job| job.end);
        let end = millis(ends.fold(self.first_submit, f64::max));
        Report {
            jobs: self.jobs.iter().map(|job| self.billed_job(job, price)).collect(),
            nodes: self.billed_nodes(end, price),
            timeline: self.billed_timeline(end, price),
            rounds: self.decision_seconds.len() as u64,
            end,
        }
    }

    fn node_count(&self) -> u32 {
        self.gpu_types.iter().map(|gpu| gpu.nodes).sum()
    }

    fn gpu_count(&self) -> u32 {
        self.gpu_types.iter().map(GpuTypeView::gpus).sum()
    }

    fn billed_job(&self, job: &JobOutcome, price: MicroUsdPerHour) -> ClusterJob {
        let gpu_time = millis(job.gpu_seconds);
        let all = u128::from(price.cost_of(gpu_time).get()) * u128::from(self.node_count());
        let cost = all / u128::from(self.gpu_count().max(1));
        ClusterJob {
            name: job.name.clone(),
            submitted: millis(job.submit),
            started: Some(millis(job.start)),
            ended: Some(millis(job.end)),
            cost: MicroUsd::new(u64::try_from(cost).unwrap_or(u64::MAX)),
            preemptions: job.restarts,
            lost: Millis::ZERO,
            worker_time: gpu_time,
            gpu_time,
        }
    }

    fn billed_nodes(&self, end: Millis, price: MicroUsdPerHour) -> Vec<NodeOutcome> {
        let of_type = self.gpu_types.iter().zip(&self.node_seconds);
        let nodes = of_type.flat_map(|(gpu, nodes)| nodes.iter().map(|seconds| (gpu.name.clone(), millis(*seconds))));
        let outcome = |(offer, busy): (String, Millis)| NodeOutcome {
            offer,
            busy,
            idle: end.since(busy),
            cost: price.cost_of(end),
            ..NodeOutcome::default()
        };
        nodes.map(outcome).collect()
    }

    fn billed_timeline(&self, end: Millis, price: MicroUsdPerHour) -> Vec<UseSample> {
        let (nodes, gpus) = (self.node_count(), self.gpu_count());
        let cost = |at: Millis| MicroUsd::new(price.cost_of(at.min(end)).get().saturating_mul(u64::from(nodes)));
        let empty = |at: Millis| UseSample { at, nodes, gpus, cost: cost(at), ..UseSample::default() };
        let sample = |point: &UsePoint| {
            let held = point.held.iter().sum();
            let at = millis(point.at);
            UseSample { nodes_held: point.nodes, gpus_held: held, workers: held, waiting: point.waiting, ..empty(at) }
        };
        let mut timeline: Vec<UseSample> = Vec::new();
        for (at, point) in self.use_over_time.iter().enumerate() {
            timeline.push(sample(point));
            let round_end = point.at + self.round_seconds;
            if self.use_over_time.get(at + 1).is_none_or(|next| next.at > round_end) {
                timeline.push(empty(millis(round_end)));
            }
        }
        timeline
    }
}

fn millis(seconds: f64) -> Millis {
    Millis::new((seconds * 1_000.0).round() as u64)
}
