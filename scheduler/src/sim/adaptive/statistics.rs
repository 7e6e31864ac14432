//! Statistical efficiency: how much progress an iteration makes, by total batch and epoch.
//!
//! Ground truth of the simulator. Progress is counted in scale-invariant iterations (Pollux, OSDI'21): one iteration at
//! the initial batch is worth one, a larger batch is worth its gain. [`EfficiencyTable`] holds gradient statistics measured
//! at some total batches, interpolated linearly between them.

use std::collections::BTreeMap;

use crate::policy::adaptive::GradientStats;

/// What was measured at one total batch in one epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EpochPoint {
    /// Scale-invariant iterations since the start, at the end of the epoch.
    pub progress: f64,
    /// Statistics of the gradient.
    pub gradient: GradientStats,
}

/// The statistics of one application.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EfficiencyTable {
    by_batch: BTreeMap<u32, Vec<EpochPoint>>,
    progress: Vec<f64>,
}

impl EfficiencyTable {
    /// Adds the next epoch measured at a total batch.
    pub fn push(&mut self, batch: u32, point: EpochPoint) {
        let epochs = self.by_batch.entry(batch).or_default();
        epochs.push(point);
        let epoch = epochs.len() - 1;
        match self.progress.get_mut(epoch) {
            Some(least) => *least = least.min(point.progress),
            None => self.progress.push(point.progress),
        }
    }

    /// How many epochs were measured at each batch, the least of them.
    pub fn epochs(&self) -> usize {
        self.by_batch.values().map(Vec::len).min().unwrap_or(0)
    }

    /// How many epochs were measured at this batch so far.
    pub fn epochs_at(&self, batch: u32) -> usize {
        self.by_batch.get(&batch).map_or(0, Vec::len)
    }

    /// The smallest and the largest batch measured.
    pub fn batches(&self) -> Option<(u32, u32)> {
        Some((*self.by_batch.first_key_value()?.0, *self.by_batch.last_key_value()?.0))
    }

    /// The progress at which epoch number `epoch` (from 1) is complete; zero for 0, the last one beyond the end.
    pub fn progress_at_end(&self, epoch: u32) -> f64 {
        let Some(index) = (epoch as usize).checked_sub(1) else { return 0.0 };
        self.progress.get(index).or(self.progress.last()).copied().unwrap_or(0.0)
    }

    /// The statistics of a total batch in epoch number `epoch` (from 0).
    pub fn gradient(&self, batch: u32, epoch: u32) -> Option<GradientStats> {
        let at = |(measured, epochs): (&u32, &Vec<EpochPoint>)| {
            let point = epochs.get(epoch as usize).or(epochs.last())?;
            Some((*measured, point.gradient))
        };
        let low = self.by_batch.range(..=batch).next_back().and_then(at);
        let high = self.by_batch.range(batch..).next().and_then(at);
        match (low, high) {
            (Some(low), Some(high)) if low.0 < high.0 => {
                let part = f64::from(batch - low.0) / f64::from(high.0 - low.0);
                Some(GradientStats {
                    squared: low.1.squared + (high.1.squared - low.1.squared) * part,
                    variance: low.1.variance + (high.1.variance - low.1.variance) * part,
                })
            }
            (one, other) => one.or(other).map(|point| point.1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(progress: f64, squared: f64) -> EpochPoint {
        EpochPoint { progress, gradient: GradientStats { squared, variance: 1.0 } }
    }

    fn table() -> EfficiencyTable {
        let mut table = EfficiencyTable::default();
        for (batch, progress, squared) in [(100, 10.0, 4.0), (100, 20.0, 2.0), (200, 9.0, 2.0), (200, 21.0, 1.0)] {
            table.push(batch, point(progress, squared));
        }
        table
    }

    #[test]
    fn an_epoch_ends_at_the_least_progress_over_batches() {
        let table = table();
        assert_eq!([0, 1, 2, 3].map(|epoch| table.progress_at_end(epoch)), [0.0, 9.0, 20.0, 20.0]);
        assert_eq!((table.epochs(), table.batches()), (2, Some((100, 200))));
    }

    #[test]
    fn gradients_are_linear_between_batches() {
        let table = table();
        assert_eq!(table.gradient(150, 0).unwrap().squared, 3.0);
        assert_eq!(table.gradient(150, 1).unwrap().squared, 1.5);
        assert_eq!(table.gradient(50, 0).unwrap().squared, 4.0, "the nearest beyond the ends");
        assert_eq!(EfficiencyTable::default().gradient(1, 0), None);
    }
}
