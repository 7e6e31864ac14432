//! How a gradient becomes a step: the optimiser, the schedule of its rate, and the clipping of the gradient.
//!
//! All three are functions of the step's number and of the whole gradient, and the gradient is summed in a fixed order: so
//! the result is the same bits for any workers.

use std::f64::consts::PI;

use crate::optimiser::{OptimiserSettings, Scale};

/// Sums that are kept side by side for the norm, so that the sum is quick; their number is part of the result's last bits.
const LANES: usize = 8;

/// Everything about a job's steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UpdateSettings {
    /// The optimiser.
    pub optimiser: OptimiserSettings,
    /// How its rate changes.
    pub rate: RateSchedule,
    /// The largest Euclidean norm that the gradient of all parameters together may have; longer ones are shortened to it
    /// (Pascanu, Mikolov and Bengio 2013). `None`: as it is.
    pub clip_norm: Option<f32>,
}

impl UpdateSettings {
    /// A constant rate, and gradients as they are.
    pub const fn plain(optimiser: OptimiserSettings) -> Self {
        Self { optimiser, rate: RateSchedule { warmup: 0, decay: Decay::None }, clip_norm: None }
    }

    /// How far step number `step`, from 0, of `total` goes along `gradient`.
    pub fn scale(&self, step: u64, total: u64, gradient: &[f32]) -> Scale {
        self.part_scale(step, total, gradient, 1.0)
    }

    /// As [`Self::scale`] for a part of a step: its gradient over its portion of the step stands for the whole gradient, and
    /// is clipped as the whole one is.
    pub fn part_scale(&self, step: u64, total: u64, gradient: &[f32], portion: f64) -> Scale {
        let shorter = |limit: f32| {
            let norm = norm(gradient) / portion;
            if norm > f64::from(limit) { (f64::from(limit) / norm) as f32 } else { 1.0 }
        };
        Scale { rate: self.rate.factor(step, total) as f32, gradient: self.clip_norm.map_or(1.0, shorter) }
    }
}

/// How the rate changes from step to step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateSchedule {
    /// Over so many steps it grows in proportion, to the whole rate at the last of them.
    pub warmup: u64,
    /// What follows.
    pub decay: Decay,
}

/// How the rate falls after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Decay {
    /// It does not.
    None,
    /// In proportion, to this part of it after the last step.
    Linear {
        /// The part that is left at the end.
        end: f64,
    },
    /// Along half a cosine, to this part of it after the last step (Loshchilov and Hutter 2017).
    Cosine {
        /// The part that is left at the end.
        end: f64,
    },
    /// It is multiplied by `by` after every so many steps.
    Steps {
        /// Steps between two falls, at least 1.
        every: u64,
        /// What is left of it after each.
        by: f64,
    },
}

impl RateSchedule {
    /// The part of the whole rate in step number `step`, from 0, of `total`.
    pub fn factor(&self, step: u64, total: u64) -> f64 {
        if step < self.warmup {
            return (step + 1) as f64 / self.warmup as f64;
        }
        let since = step - self.warmup;
        let part = since as f64 / total.saturating_sub(self.warmup).max(1) as f64;
        match self.decay {
            Decay::None => 1.0,
            Decay::Linear { end } => 1.0 - (1.0 - end) * part.min(1.0),
            Decay::Cosine { end } => end + (1.0 - end) * (1.0 + (PI * part.min(1.0)).cos()) / 2.0,
            Decay::Steps { every, by } => by.powi(i32::try_from(since / every.max(1)).unwrap_or(i32::MAX)),
        }
    }
}

/// The Euclidean norm.
fn norm(gradient: &[f32]) -> f64 {
    let mut sums = [0.0_f64; LANES];
    let (whole, rest) = gradient.as_chunks::<LANES>();
    for chunk in whole {
        for (sum, &slope) in sums.iter_mut().zip(chunk) {
            *sum += f64::from(slope) * f64::from(slope);
        }
    }
    for (sum, &slope) in sums.iter_mut().zip(rest) {
        *sum += f64::from(slope) * f64::from(slope);
    }
    sums.iter().sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimiser::SgdSettings;

    fn factors(warmup: u64, decay: Decay, steps: &[u64]) -> Vec<f64> {
        let schedule = RateSchedule { warmup, decay };
        steps.iter().map(|&step| (schedule.factor(step, 100) * 1e6).round() / 1e6).collect()
    }

    #[test]
    fn a_rate_warms_up_and_falls_as_it_was_asked_to() {
        assert_eq!(factors(0, Decay::None, &[0, 50, 99]), [1.0, 1.0, 1.0]);
        assert_eq!(factors(4, Decay::None, &[0, 1, 3, 4]), [0.25, 0.5, 1.0, 1.0]);
        assert_eq!(factors(0, Decay::Linear { end: 0.0 }, &[0, 25, 99, 100, 200]), [1.0, 0.75, 0.01, 0.0, 0.0]);
        assert_eq!(factors(20, Decay::Linear { end: 0.5 }, &[20, 60, 100]), [1.0, 0.75, 0.5]);
        assert_eq!(factors(0, Decay::Cosine { end: 0.1 }, &[0, 50, 100]), [1.0, 0.55, 0.1]);
        assert_eq!(factors(0, Decay::Steps { every: 30, by: 0.1 }, &[0, 29, 30, 60]), [1.0, 1.0, 0.1, 0.01]);
    }

    #[test]
    fn a_long_gradient_is_shortened_and_a_short_one_is_not() {
        let sgd = OptimiserSettings::Sgd(SgdSettings { lr: 0.1, momentum: 0.0, weight_decay: 0.0 });
        let settings = UpdateSettings { clip_norm: Some(1.0), ..UpdateSettings::plain(sgd) };
        // 12 values, so that some are left over after the lanes: the norm is 6.
        assert_eq!(settings.scale(0, 10, &[3.0_f32.sqrt(); 12]).gradient, 1.0 / 6.0);
        assert_eq!(settings.scale(0, 10, &[0.1; 4]).gradient, 1.0);
        assert_eq!(settings.scale(0, 10, &[0.0; 4]).gradient, 1.0);
        assert_eq!(UpdateSettings::plain(sgd).scale(0, 10, &[1e9; 4]), Scale::ONE);
        // A quarter of a step with this gradient stands for a step with a gradient four times as long.
        assert_eq!(settings.part_scale(0, 10, &[1.0; 4], 0.25).gradient, 1.0 / 8.0);
    }
}
