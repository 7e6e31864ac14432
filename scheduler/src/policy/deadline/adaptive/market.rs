//! Models of a spot market: how long capacity stays and how long it stays away, each exponential, and a belief over a
//! grid of them.
//!
//! The belief is Bayes' rule over what was seen, with evidence fading towards the prior at the pace at which markets
//! change their ways.

/// After this many hours a market may have become another one: a day, the period of its demand.
pub(super) const REGIME_HOURS: f64 = 24.0;

/// Mean stays between 24 minutes, below which a restart eats most of the stay, and about four days, beyond which a job
/// sees only one. Five values each, a factor of four apart: finer grids did not lower the cost.
const MEAN_HOURS: [f64; 5] = [0.4, 1.6, 6.4, 25.6, 102.4];

/// How many models there are.
pub(super) const MODELS: usize = MEAN_HOURS.len() * MEAN_HOURS.len();

/// One model.
#[derive(Debug, Clone, Copy)]
pub(super) struct Market {
    /// Mean hours for which capacity stays.
    pub up: f64,
    /// Mean hours for which it stays away.
    pub down: f64,
}

/// Every model, in a fixed order.
pub(super) fn markets() -> [Market; MODELS] {
    std::array::from_fn(|index| Market {
        up: MEAN_HOURS[index / MEAN_HOURS.len()],
        down: MEAN_HOURS[index % MEAN_HOURS.len()],
    })
}

impl Market {
    /// The share of time with capacity.
    fn availability(self) -> f64 {
        self.up / (self.up + self.down)
    }

    /// The chance of seeing `now` after `hours` from `before`.
    fn transition(self, before: bool, now: bool, hours: f64) -> f64 {
        let up = self.availability();
        let memory = (-hours * (1.0 / self.up + 1.0 / self.down)).exp();
        let up_now = up + (f64::from(before) - up) * memory;
        if now { up_now } else { 1.0 - up_now }
    }
}

/// How likely each model is, from what was seen.
#[derive(Debug, Clone, Default)]
pub(super) struct Belief {
    /// Log-likelihoods; the prior, all models alike, is zero.
    log_likelihood: [f64; MODELS],
    last: Option<(f64, bool)>,
}

impl Belief {
    /// Takes in what was seen at `hours`.
    pub fn see(&mut self, hours: f64, available: bool) {
        let fade = self.last.map_or(1.0, |(before, _)| (-(hours - before) / REGIME_HOURS).exp());
        for (market, log) in markets().into_iter().zip(&mut self.log_likelihood) {
            let likelihood = match self.last {
                Some((before, was)) => market.transition(was, available, hours - before),
                None if available => market.availability(),
                None => 1.0 - market.availability(),
            };
            *log = *log * fade + likelihood.max(f64::MIN_POSITIVE).ln();
        }
        self.last = Some((hours, available));
    }

    /// Expected hours with capacity in the next `hours`, from what was seen last.
    pub fn hours_up(&self, hours: f64) -> f64 {
        let of = |market: Market| {
            let up = market.availability();
            let now = self.last.map_or(up, |(_, was)| f64::from(was));
            let pace = 1.0 / market.up + 1.0 / market.down;
            up * hours + (now - up) * (1.0 - (-hours * pace).exp()) / pace
        };
        let markets = markets();
        self.weights().into_iter().map(|(index, weight)| weight * of(markets[index])).sum()
    }

    /// The models that matter, with weights that sum to 1. Those a hundred times less likely than the best are left out.
    pub fn weights(&self) -> Vec<(usize, f64)> {
        let best = self.log_likelihood.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let relative = self.log_likelihood.iter().map(|log| (log - best).exp());
        let mut weights: Vec<(usize, f64)> = relative.enumerate().filter(|&(_, weight)| weight >= 0.01).collect();
        let total: f64 = weights.iter().map(|&(_, weight)| weight).sum();
        weights.iter_mut().for_each(|(_, weight)| *weight /= total);
        weights
    }
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    #[test]
    fn long_stays_are_believed_after_they_were_seen() {
        let mut belief = Belief::default();
        (0..200).for_each(|tick| belief.see(f64::from(tick) * 0.1, true));
        let mean_up: f64 = belief.weights().iter().map(|&(index, weight)| weight * markets()[index].up).sum();
        assert!(mean_up > 20.0, "{mean_up}");
        belief.see(20.0, false);
        belief.see(20.1, true);
        belief.see(20.2, false);
        let after: f64 = belief.weights().iter().map(|&(index, weight)| weight * markets()[index].up).sum();
        assert!(after < mean_up, "{after} {mean_up}");
    }
}
