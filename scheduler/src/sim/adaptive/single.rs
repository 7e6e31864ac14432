//! One job alone on a placement that never changes: the conformance runs, and how fast a job could be at best.

use super::job::{JobProgress, Measured, Surroundings};
use super::world::App;
use crate::policy::adaptive::{Batch, GpuTypeIndex, Placement, split_batch};

/// How finely total batches are tried, as in Pollux: so many between the smallest and the largest.
const BATCHES_TRIED: u32 = 50;

/// A configuration that is kept from start to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FixedRun<'a> {
    /// The GPU type.
    pub gpu: &'a str,
    /// GPUs of each node.
    pub gpus_per_node: &'a [u32],
    /// The total batch that is aimed at.
    pub batch: u32,
}

struct Fixed(Batch);

impl Surroundings for Fixed {
    fn choose_batch(&mut self, _: &JobProgress) -> Batch {
        self.0
    }

    fn measured(&mut self, _: &JobProgress, _: Measured) {}
}

/// Seconds from start to end of a job with a fixed configuration, in rounds of `round_seconds`. `None` where nothing
/// was measured for it, or it makes no progress within `rounds_max`.
pub fn completion_seconds(app: &App, run: FixedRun<'_>, round_seconds: f64, rounds_max: u32) -> Option<f64> {
    let replicas: u32 = run.gpus_per_node.iter().sum();
    let fits = app.on.get(run.gpu)?.throughput.largest_local_batch(run.gpus_per_node);
    let mut around = Fixed(split_batch(run.batch, replicas, fits, app.batch_initial));
    let nodes = (0..).zip(run.gpus_per_node.iter().copied()).collect();
    let placement = Placement { gpu_type: GpuTypeIndex(0), nodes };
    let mut job = JobProgress::new();
    job.place(Some(&placement), app, run.gpu, &mut around);
    for round in 0..rounds_max {
        if let Some(passed) = job.step(app, run.gpu, round_seconds, &mut around) {
            return Some(f64::from(round) * round_seconds + passed);
        }
    }
    None
}

/// The least seconds a job takes alone on a placement, without its start: every epoch with the batch that suits it best.
pub fn best_run_seconds(app: &App, gpu: &str, gpus_per_node: &[u32]) -> Option<f64> {
    let on = app.on.get(gpu)?;
    let replicas: u32 = gpus_per_node.iter().sum();
    let fits = on.throughput.largest_local_batch(gpus_per_node).min(on.local_batch_max);
    let smallest = f64::from(app.batch_initial.max(on.local_batch_min * replicas));
    let growth = (f64::from(app.batch_max) / smallest).max(1.0);
    let batches: Vec<(u32, f64)> = (0..BATCHES_TRIED)
        .filter_map(|number| {
            let total = smallest * growth.powf(f64::from(number) / f64::from(BATCHES_TRIED - 1));
            let batch = split_batch(whole(total), replicas, fits, app.batch_initial);
            let total = batch.total(replicas);
            let time = on.throughput.step_time(gpus_per_node, batch.local)?;
            let fits = batch.local >= on.local_batch_min && total <= app.batch_max;
            fits.then_some((total, time.iteration(batch.accumulation)))
        })
        .collect();
    let epoch_seconds = |epoch: u32| {
        let work = app.efficiency.progress_at_end(epoch + 1) - app.efficiency.progress_at_end(epoch);
        let goodput = batches.iter().filter_map(|(total, seconds)| {
            let gradient = app.efficiency.gradient(*total, epoch)?;
            Some(gradient.gain(f64::from(*total) / f64::from(app.batch_initial)) / seconds / app.slowdown)
        });
        let best = goodput.fold(0.0, f64::max);
        (best > 0.0).then_some(work / best)
    };
    (0..app.epochs_max).map(epoch_seconds).sum()
}

/// A number of samples, from a value between two of them.
fn whole(samples: f64) -> u32 {
    samples.round() as u32
}
