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
    /// Gradients by epoch and total batch, as last seen.
    gradients: BTreeMap<u32, BTreeMap<u32, GradientStats>>,
}

/// The gradient noise of a job in its present epoch, by total batch.
///
/// Noise relative to signal is larger when measured at a larger batch, so what other jobs saw in this epoch at other
/// batches tells more about those than the job's own measurement does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Noise<'a> {
    seen: Option<&'a BTreeMap<u32, GradientStats>>,
    own: GradientStats,
}

/// Noise as large as the signal: a doubled batch is worth a third more. Taken where nothing was ever measured.
const UNKNOWN: GradientStats = GradientStats { squared: 1.0, variance: 1.0 };

impl Noise<'_> {
    /// The statistics at a total batch: between batches that were seen by the logarithm of the batch, the nearest one
    /// beyond them.
    pub(super) fn at(&self, batch: u32) -> GradientStats {
        let Some(seen) = self.seen else { return self.own };
        let low = seen.range(..=batch).next_back();
        let high = seen.range(batch..).next();
        match (low, high) {
            (Some((from, low)), Some((to, high))) if from < to => {
                let part = (f64::from(batch) / f64::from(*from)).ln() / (f64::from(*to) / f64::from(*from)).ln();
                GradientStats {
                    squared: low.squared + (high.squared - low.squared) * part,
                    variance: low.variance + (high.variance - low.variance) * part,
                }
            }
            (one, other) => one.or(other).map_or(self.own, |known| *known.1),
        }
    }
}

impl AppHistory {
    /// Learns how far a running job has come.
    pub(super) fn see(&mut self, job: &JobView) {
        if job.epochs_done > 0 {
            // Half an epoch more than it has completed is what it has come, on average.
            let per_epoch = job.progress / (f64::from(job.epochs_done) + 0.5);
            self.per_epoch = Some(self.per_epoch.map_or(per_epoch, |known| known.max(per_epoch)));
        }
    }

    /// Learns a gradient.
    pub(super) fn gradient_seen(&mut self, epoch: u32, batch: u32, gradient: GradientStats) {
        self.gradients.entry(epoch).or_default().insert(batch, gradient);
    }

    /// Learns from a job that ended.
    pub(super) fn finished(&mut self, progress: f64) {
        self.finished = (self.finished.0 + 1.0, self.finished.1 + progress);
    }

    /// The progress a job still has to make, as far as anything of its application is known: first from jobs that
    /// ended, then from its own epochs, then from those of others.
    pub(super) fn remaining(&self, app: &AppView, job: &JobView) -> Option<f64> {
        if self.finished.0 > 0.0 {
            let whole = self.finished.1 / self.finished.0;
            // A job that runs past what others needed is taken to be in its last epoch.
            return Some((whole - job.progress).max(whole / f64::from(app.epochs_max.max(1)) * 0.5));
        }
        let epochs_left = f64::from(app.epochs_max.saturating_sub(job.epochs_done));
        self.per_epoch.map(|per_epoch| per_epoch * epochs_left)
    }

    /// The noise of a job: as seen in its epoch, else its own of the epoch before, else that of others in the latest
    /// epoch before.
    pub(super) fn noise(&self, job: &JobView) -> Noise<'_> {
        let seen = self.gradients.get(&job.epochs_done);
        let before = || self.gradients.range(..=job.epochs_done).next_back().map(|known| known.1);
        match job.gradient {
            Some(own) => Noise { seen, own },
            None => Noise { seen: seen.or_else(before), own: UNKNOWN },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_taken_from_what_was_seen_at_other_batches() {
        let mut history = AppHistory::default();
        history.gradient_seen(0, 100, GradientStats { squared: 1.0, variance: 1.0 });
        history.gradient_seen(0, 400, GradientStats { squared: 1.0, variance: 3.0 });
        let noise = Noise { seen: history.gradients.get(&0), own: UNKNOWN };
        let at = |batch| noise.at(batch).variance;
        assert!((at(200) - 2.0).abs() < 1e-12, "{}", at(200));
        assert_eq!((at(10), at(999)), (1.0, 3.0));
        assert_eq!(Noise { seen: None, own: UNKNOWN }.at(5), UNKNOWN);
    }
}
