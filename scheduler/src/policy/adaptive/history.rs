//! What jobs of one application have in common: how much work they are, and how their gradient changes as they train.

use std::collections::BTreeMap;

use super::view::{AppView, GradientStats, JobView};

/// What was learnt of one application from the jobs that ran it.
#[derive(Debug, Clone, Default)]
pub(super) struct AppHistory {
    /// Jobs that ended, and the sum of their progress.
    finished: (f64, f64),
    /// The most progress per epoch that a running job showed.
    per_epoch: Option<f64>,
    /// The gradient that was last seen in each epoch.
    gradients: BTreeMap<u32, GradientStats>,
}

impl AppHistory {
    /// Learns from a running job.
    pub(super) fn see(&mut self, job: &JobView) {
        if let Some(gradient) = job.gradient {
            self.gradients.insert(job.epochs_done, gradient);
        }
        if job.epochs_done > 0 {
            let per_epoch = job.progress / (f64::from(job.epochs_done) + 0.5);
            self.per_epoch = Some(self.per_epoch.map_or(per_epoch, |known| known.max(per_epoch)));
        }
    }

    /// Learns from a job that ended.
    pub(super) fn finished(&mut self, progress: f64) {
        self.finished = (self.finished.0 + 1.0, self.finished.1 + progress);
    }

    /// The progress a job still has to make, as far as anything of its application is known: first from jobs that
    /// ended, then from its own epochs, then from those of others.
    pub(super) fn remaining(&self, app: &AppView, job: &JobView) -> Option<f64> {
        let epochs_left = f64::from(app.epochs_max.saturating_sub(job.epochs_done));
        if self.finished.0 > 0.0 {
            let whole = self.finished.1 / self.finished.0;
            // A job that runs past what others needed is taken to be in its last epoch.
            return Some((whole - job.progress).max(whole / f64::from(app.epochs_max.max(1)) * 0.5));
        }
        self.per_epoch.map(|per_epoch| per_epoch * epochs_left)
    }

    /// The gradient of a job: its own, else that of others in the same epoch or the latest before, else noise as large
    /// as the signal, with which a doubled batch is worth a third more.
    pub(super) fn gradient(&self, job: &JobView) -> GradientStats {
        let of_others = || self.gradients.range(..=job.epochs_done).next_back().map(|known| *known.1);
        job.gradient.or_else(of_others).unwrap_or(GradientStats { squared: 1.0, variance: 1.0 })
    }
}
