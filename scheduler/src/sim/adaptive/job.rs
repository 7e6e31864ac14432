//! One simulated job: how it progresses on what it holds.
//!
//! The semantics are those of the simulator of Sia (SOSP'23), to the second: progress advances by goodput; where an
//! epoch ends within a round, its time is rounded to a whole second, and the batch is chosen anew.

use super::world::App;
use crate::policy::adaptive::{Batch, GradientStats, Placement};

/// The state of a running or waiting job.
#[derive(Debug, Clone, PartialEq)]
pub struct JobProgress {
    /// What it holds.
    pub placement: Option<Placement>,
    /// Its batch there.
    pub batch: Batch,
    /// Seconds until it makes progress there.
    pub restart_left: f64,
    /// Epochs completed.
    pub epoch: u32,
    /// Progress, in iterations at the initial batch.
    pub progress: f64,
    /// The latest gradient statistics.
    pub gradient: Option<GradientStats>,
    /// Starts so far.
    pub starts: u32,
}

/// How an iteration went.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// The batch on one GPU.
    pub local_batch: u32,
    /// A whole iteration without accumulation, seconds.
    pub step: f64,
    /// The all-reduce in it, seconds.
    pub sync: f64,
}

/// What a job asks of its surroundings while it runs.
pub trait Surroundings {
    /// The batch from now on.
    fn choose_batch(&mut self, job: &JobProgress) -> Batch;
    /// It ran with this step time.
    fn measured(&mut self, job: &JobProgress, measured: Measured);
}

impl JobProgress {
    /// A job that was just submitted.
    pub fn new() -> Self {
        Self {
            placement: None,
            batch: Batch { local: 1, accumulation: 0 },
            restart_left: 0.0,
            epoch: 0,
            progress: 0.0,
            gradient: None,
            starts: 0,
        }
    }

    /// Puts the job on other GPUs, or takes them away. The same GPUs again cost nothing.
    pub fn place(&mut self, placement: Option<&Placement>, app: &App, gpu_name: &str, around: &mut dyn Surroundings) {
        if self.placement.as_ref() == placement {
            return;
        }
        self.placement = placement.cloned();
        if self.placement.is_some() {
            self.restart_left = app.restart_seconds;
            self.starts += 1;
            self.choose_batch(app, gpu_name, around);
        }
    }

    /// Lets `seconds` pass; returns how many of them had passed when the job ended, if it did.
    pub fn step(&mut self, app: &App, gpu_name: &str, seconds: f64, around: &mut dyn Surroundings) -> Option<f64> {
        let placement = self.placement.clone()?;
        let gpus_per_node: Vec<u32> = placement.nodes.iter().map(|node| node.1).collect();
        let delay = self.restart_left.min(seconds);
        self.restart_left -= delay;
        let mut passed = delay;
        while passed < seconds {
            let goodput = self.goodput(app, gpu_name, &gpus_per_node, around)?;
            let epoch_end = app.efficiency.progress_at_end(self.epoch + 1);
            let left = seconds - passed;
            if self.progress + goodput * left < epoch_end {
                self.progress += goodput * left;
                self.choose_batch(app, gpu_name, around);
                return None;
            }
            passed += ((epoch_end - self.progress) / goodput).round_ties_even();
            self.progress = epoch_end;
            self.epoch += 1;
            if self.epoch >= app.epochs_max {
                return Some(passed);
            }
            self.choose_batch(app, gpu_name, around);
        }
        None
    }

    /// Progress per second now; leaves what a running system would have measured.
    fn goodput(
        &mut self,
        app: &App,
        gpu_name: &str,
        gpus_per_node: &[u32],
        around: &mut dyn Surroundings,
    ) -> Option<f64> {
        let replicas = gpus_per_node.iter().sum();
        let total = self.batch.total(replicas);
        let time = app.on.get(gpu_name)?.throughput.step_time(gpus_per_node, self.batch.local)?;
        let gradient = app.efficiency.gradient(total, self.epoch)?;
        self.gradient = Some(gradient);
        around.measured(self, Measured { local_batch: self.batch.local, step: time.step, sync: time.sync });
        let gain = gradient.gain(f64::from(total) / f64::from(app.batch_initial));
        Some(gain / time.iteration(self.batch.accumulation) / app.slowdown)
    }

    /// Asks for a batch and makes it fit: into memory, and below the application's largest.
    fn choose_batch(&mut self, app: &App, gpu_name: &str, around: &mut dyn Surroundings) {
        let Some(placement) = &self.placement else { return };
        let gpus_per_node: Vec<u32> = placement.nodes.iter().map(|node| node.1).collect();
        let replicas: u32 = gpus_per_node.iter().sum();
        let chosen = around.choose_batch(self);
        let fits = app.on.get(gpu_name).map_or(u32::MAX, |on| on.throughput.largest_local_batch(&gpus_per_node));
        let passes = chosen.accumulation + 1;
        let largest = app.batch_max / (replicas * passes).max(1);
        self.batch = Batch { local: chosen.local.min(fits).min(largest).max(1), accumulation: chosen.accumulation };
    }
}

impl Default for JobProgress {
    fn default() -> Self {
        Self::new()
    }
}
