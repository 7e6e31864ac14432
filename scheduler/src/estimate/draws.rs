//! Many runs, and what is read off them: quantiles, chances, causes.

use crate::model::{MicroUsd, Millis};

use super::run::{Cause, RunOutcome};

/// At which shares of the drawn costs the P50 and the P95 are read.
///
/// A model that is fitted to a few weeks is too sure of itself, or off to one side; how much, is measured by planning
/// jobs of the past with what was known before them, and taking the shares below which half and 95 % of the true costs
/// lay (Kuleshov, Fenner and Ermon, "Accurate uncertainties for deep learning using calibrated regression", ICML 2018).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Calibration {
    /// Where the P50 is read, from 0 to 2; see [`Draws::cost_at`].
    pub p50: f64,
    /// Where the P95 is read.
    pub p95: f64,
}

impl Default for Calibration {
    fn default() -> Self {
        Self { p50: 0.5, p95: 0.95 }
    }
}

impl Calibration {
    /// The shares that would have been right for jobs whose true cost lay at these places ([`Draws::place_of`]).
    /// Half and 95 % of them, rounded up, lie at or below (the quantile of split conformal prediction: Vovk, Gammerman
    /// and Shafer, "Algorithmic Learning in a Random World", 2005). Without any, nothing is corrected.
    pub fn fit(mut places: Vec<f64>) -> Self {
        places.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let rank = ((places.len() + 1) as f64 * share).ceil() as usize;
            places[rank.clamp(1, places.len()) - 1]
        };
        if places.is_empty() { Self::default() } else { Self { p50: at(0.5), p95: at(0.95) } }
    }
}

/// By how much of itself a drawn cost is spread to both sides. Boots and restarts scatter, and bills are cut at other
/// moments than the ticks of recordings; without it, all futures without an interruption would cost the same to the
/// micro-dollar, and a P50 among them would say nothing about which side of it the truth falls on.
const SPREAD: f64 = 0.005;

/// The outcomes of many runs.
#[derive(Debug, Clone)]
pub struct Draws {
    costs: Vec<f64>,
    finishes: Vec<Option<Millis>>,
    by_cause: [f64; 4],
    worst: f64,
}

impl Draws {
    /// Reads the runs. `worst` is what the job would cost if nothing but on-demand could be had, with a start too many:
    /// what a cost above all drawn ones is measured against.
    ///
    /// # Panics
    ///
    /// If there is no run.
    pub fn of(runs: &[RunOutcome], worst: MicroUsd) -> Self {
        assert!(!runs.is_empty(), "a plan draws at least one future");
        let spread = |number: usize| 1.0 + SPREAD * 2.0 * evenly(number);
        let cost = |(number, run): (usize, &RunOutcome)| run.cost().as_dollars() * spread(number);
        let mut costs: Vec<f64> = runs.iter().enumerate().map(cost).collect();
        costs.sort_by(f64::total_cmp);
        let mut finishes: Vec<Option<Millis>> = runs.iter().map(|run| run.finished).collect();
        finishes.sort_by_key(|finish| finish.unwrap_or(Millis::new(u64::MAX)));
        let count = runs.len() as f64;
        let mean = |cause: usize| runs.iter().map(|run| run.by_cause[cause].as_dollars()).sum::<f64>() / count;
        let highest = costs.last().copied().unwrap_or_default();
        Self { costs, finishes, by_cause: std::array::from_fn(mean), worst: worst.as_dollars().max(highest) }
    }

    /// The cost at a place: from 0 (the least drawn) to 1 (the most drawn), and from there to 2 (the worst case).
    pub fn cost_at(&self, place: f64) -> MicroUsd {
        let last = self.costs.len() - 1;
        let dollars = if place > 1.0 {
            self.costs[last] + (place - 1.0).min(1.0) * (self.worst - self.costs[last])
        } else {
            let rank = place.max(0.0) * last as f64;
            let (below, above) = (self.costs[rank.floor() as usize], self.costs[rank.ceil() as usize]);
            below + rank.fract() * (above - below)
        };
        MicroUsd::new((dollars * 1e6).round() as u64)
    }

    /// The place at which a cost lies: the inverse of [`Self::cost_at`].
    pub fn place_of(&self, cost: MicroUsd) -> f64 {
        let dollars = cost.as_dollars();
        let last = self.costs.len() - 1;
        if dollars > self.costs[last] {
            let beyond = self.worst - self.costs[last];
            return if beyond > 0.0 { 1.0 + ((dollars - self.costs[last]) / beyond).min(1.0) } else { 2.0 };
        }
        let above = self.costs.partition_point(|drawn| *drawn < dollars);
        let Some(below) = above.checked_sub(1) else { return 0.0 };
        let step = self.costs[above] - self.costs[below];
        (below as f64 + (dollars - self.costs[below]) / step) / last as f64
    }

    /// When it is done, at a share of the runs; `None` where it was not.
    pub fn finish_at(&self, share: f64) -> Option<Millis> {
        self.finishes[((self.finishes.len() - 1) as f64 * share).round() as usize]
    }

    /// The share of runs that were done within a time.
    pub fn done_within(&self, time: Millis) -> f64 {
        let done = self.finishes.iter().filter(|finish| finish.is_some_and(|finish| finish <= time)).count();
        done as f64 / self.finishes.len() as f64
    }

    /// The share of runs that cost no more than a budget.
    pub fn within_budget(&self, budget: MicroUsd) -> f64 {
        let kept = self.costs.iter().filter(|cost| **cost <= budget.as_dollars()).count();
        kept as f64 / self.costs.len() as f64
    }

    /// The mean cost of each cause, the dearest first; causes that cost nothing are left out.
    pub fn causes(&self) -> Vec<(Cause, MicroUsd)> {
        let mut causes: Vec<(Cause, f64)> = Cause::ALL.into_iter().zip(self.by_cause).collect();
        causes.sort_by(|a, b| b.1.total_cmp(&a.1));
        let paid = causes.into_iter().filter(|(_, dollars)| *dollars > 0.0);
        paid.map(|(cause, dollars)| (cause, MicroUsd::new((dollars * 1e6) as u64))).collect()
    }
}

/// Numbers from -0.5 to 0.5 that fill the range evenly however many are taken (Weyl's sequence with the golden ratio);
/// the first is 0.
fn evenly(number: usize) -> f64 {
    (number as f64 * 0.618_033_988_749_895 + 0.5).fract() - 0.5
}
