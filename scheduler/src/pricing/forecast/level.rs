//! A level that moves: the model of daily spending, fitted to history, and paths into the future drawn from it.
//!
//! In innovations form, `y = μ + d + e` and the next `d` is `φ·d + α·e`: with `α = 0` spending scatters around a constant,
//! with `φ = 1` it is simple exponential smoothing (its level drifts), between them it returns to its mean. Which of these,
//! is chosen by BIC over a grid (Schwarz, "Estimating the dimension of a model", 1978). Paths are drawn by the residual
//! bootstrap (Hyndman and Athanasopoulos, "Forecasting: Principles and Practice", 3rd edition, §5.5 and §8.7), and each
//! path also draws the error of the fitted mean, which matters where the horizon is as long as the history.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// How fast the level may follow, and how strongly it may return to its mean: the grid that is searched.
const ALPHAS: [f64; 11] = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];
const PHIS: [f64; 6] = [1.0, 0.9, 0.8, 0.7, 0.5, 0.3];

/// A fitted model.
#[derive(Debug, Clone)]
pub(super) struct Level {
    alpha: f64,
    phi: f64,
    mean: f64,
    deviation: f64,
    residuals: Vec<f64>,
    unit: Filtered,
}

/// One pass over a series: its one-step errors and the deviation at its end.
#[derive(Debug, Clone)]
struct Filtered {
    errors: Vec<f64>,
    deviation: f64,
}

fn filter(series: impl Iterator<Item = f64>, mean: f64, alpha: f64, phi: f64) -> Filtered {
    let mut deviation = 0.0;
    let errors = series.map(|value| {
        let error = value - mean - deviation;
        deviation = phi * deviation + alpha * error;
        error
    });
    let errors = errors.collect();
    Filtered { errors, deviation }
}

impl Level {
    /// Fits the model to a series. `None` if it is empty.
    pub(super) fn fit(series: &[f64]) -> Option<Self> {
        let candidates = ALPHAS.iter().flat_map(|alpha| PHIS.iter().map(move |phi| (*alpha, *phi)));
        // Without following, the level stays where it is whatever φ.
        let candidates = candidates.filter(|(alpha, phi)| *alpha > 0.0 || *phi == 1.0);
        let scored = candidates.map(|(alpha, phi)| {
            let level = Self::with(series, alpha, phi);
            (level.bic(), level)
        });
        scored.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, level)| level).filter(|_| !series.is_empty())
    }

    /// The mean by least squares: the errors are linear in it.
    fn with(series: &[f64], alpha: f64, phi: f64) -> Self {
        let zero = filter(series.iter().copied(), 0.0, alpha, phi);
        let unit = filter(series.iter().map(|_| 0.0), 1.0, alpha, phi);
        let product: f64 = zero.errors.iter().zip(&unit.errors).map(|(a, b)| a * b).sum();
        let mean = -product / squares(&unit.errors).max(f64::MIN_POSITIVE);
        let fitted = filter(series.iter().copied(), mean, alpha, phi);
        Self { alpha, phi, mean, deviation: fitted.deviation, residuals: fitted.errors, unit }
    }

    /// Parameters beyond the mean.
    fn parameters(&self) -> f64 {
        f64::from(u8::from(self.alpha > 0.0) + u8::from(self.phi < 1.0))
    }

    fn bic(&self) -> f64 {
        let n = self.residuals.len() as f64;
        n * (squares(&self.residuals) / n).max(f64::MIN_POSITIVE).ln() + self.parameters() * n.ln()
    }

    /// One possible future of `length` values, each at least zero.
    pub(super) fn path(&self, length: usize, rng: &mut ChaCha8Rng) -> Vec<f64> {
        let n = self.residuals.len();
        // Residuals are smaller than errors, because the parameters were fitted to them.
        let lost = (1.0 + self.parameters()).min(n as f64 - 1.0);
        let widen = (n as f64 / (n as f64 - lost).max(1.0)).sqrt();
        let mut draw = || self.residuals[rng.random_range(0..n)] * widen;
        let noise: f64 = self.unit.errors.iter().map(|unit| unit * draw()).sum();
        let off = -noise / squares(&self.unit.errors).max(f64::MIN_POSITIVE);
        let mean = self.mean + off;
        let mut deviation = self.deviation + off * self.unit.deviation;
        let step = |_| {
            let error = draw();
            let value = mean + deviation + error;
            deviation = self.phi * deviation + self.alpha * error;
            value.max(0.0)
        };
        (0..length).map(step).collect()
    }
}

fn squares(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum()
}
