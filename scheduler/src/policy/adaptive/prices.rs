//! What GPUs cost over time, in job-seconds of waiting: as the last decisions found it, on average, and as expected later.
//!
//! A decision at the moment of the last one sees the same prices as that one did, so deciding again changes nothing.

use super::goodput::GoodputSettings;

/// Prices by GPU type.
#[derive(Debug, Clone, Default)]
pub(super) struct Prices {
    /// The moment of the last decision.
    at: Option<f64>,
    /// As the last decision found them.
    pub(super) now: Vec<f64>,
    /// Their average over time, before that decision.
    average: Vec<f64>,
    /// As the decision before found them: what decisions at the same moment start from.
    pub(super) before: Vec<f64>,
}

impl Prices {
    /// Moves on to a new moment; at the same moment again, nothing changes.
    pub(super) fn advance(&mut self, now: f64, types: usize, settings: &GoodputSettings) {
        if self.at == Some(now) && self.before.len() == types {
            return;
        }
        if self.now.len() != types {
            self.now = vec![settings.price_floor; types];
            self.average = self.now.clone();
        }
        let passed = self.at.map_or(0.0, |at| (now - at).max(0.0));
        let share = 1.0 - (-passed / settings.price_average_seconds).exp();
        for (average, price) in self.average.iter_mut().zip(&self.now) {
            *average += (price - *average) * share;
        }
        self.before = self.now.clone();
        self.at = Some(now);
    }

    /// The price so many seconds from now.
    pub(super) fn expected(&self, gpu_type: usize, seconds: f64, settings: &GoodputSettings) -> f64 {
        let far = (self.average[gpu_type] * settings.price_far_share).max(settings.price_floor);
        let near = self.before[gpu_type];
        far + (near - far) * (-seconds / settings.price_memory_seconds).exp()
    }
}
