//! What finishing the job costs from any point on, in each model of the market, if every choice from there is the best.
//!
//! Solved backwards from the deadline on a grid of hours left and work left. Between two points of the grid a model keeps
//! its ways or, once a day on average, becomes a random other one; that is why a market without spot for hours does not
//! make slack worthless. Cost is counted in hours on demand. Every table serves all decisions of a job and all jobs with
//! the same terms.

use super::market::{MODELS, Market, REGIME_HOURS, markets};

/// Steps from start to deadline. Twice as many change the cost of a job by less than 0.1 %.
const STEPS: f64 = 128.0;

/// What the tables are solved for, in hours and hours on demand.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Terms {
    pub(super) work: f64,
    pub(super) deadline: f64,
    pub(super) restart: f64,
    pub(super) round: f64,
    /// The price of spot over the price on demand.
    pub(super) spot: f64,
}

/// What is held, and whether there is spot capacity, at the start of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    NothingWhileDown,
    OnDemandWhileDown,
    NothingWhileUp,
    OnDemandWhileUp,
    OnSpot,
}

const STATES: usize = 5;

use State::{NothingWhileDown, NothingWhileUp, OnDemandWhileDown, OnDemandWhileUp, OnSpot};

/// What each choice costs while there is no spot capacity.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct DownCosts {
    pub(super) wait: f64,
    pub(super) start_on_demand: f64,
    pub(super) stay_on_demand: f64,
}

/// The tables of all models.
#[derive(Debug)]
pub(super) struct Tables {
    terms: Terms,
    /// Hours between two points of the grid.
    step: f64,
    /// One over `step`.
    per_step: f64,
    works: usize,
    times: usize,
    models: Vec<Model>,
}

/// What one model does within a step.
#[derive(Debug)]
struct Model {
    /// Chance that capacity which is there stays for the step.
    stays_up: f64,
    /// Chance that capacity which is away stays away for the step.
    stays_down: f64,
    /// Mean hours on spot if it is lost within the step.
    until_lost: f64,
    /// The same, less the restart that comes first.
    useful_until_lost: f64,
    /// Mean hours until capacity comes if it comes within the step.
    until_back: f64,
    cost: Vec<f32>,
}

impl Tables {
    /// Solves all models together, from the deadline backwards.
    pub(super) fn solve(terms: Terms) -> Self {
        let step = (terms.deadline / STEPS / terms.round).ceil().max(1.0) * terms.round;
        let works = (terms.work / step).ceil() as usize + 2;
        let times = (terms.deadline / step).ceil() as usize + 2;
        let cells = times * STATES * works;
        let models = markets().map(|market| Model::new(market, step, terms.restart, cells)).into();
        let mut tables = Self { terms, step, per_step: step.recip(), works, times, models };
        for time in 0..times {
            tables.solve_layer(time);
            tables.mix_layer(time);
        }
        tables
    }

    /// The expected cost of `work` hours with `hours` left in `state` under a weighted choice of models.
    pub(super) fn cost(&self, weights: &[(usize, f64)], state: State, work: f64, hours: f64) -> f64 {
        if work <= 0.0 {
            return 0.0;
        }
        if hours < work + self.terms.restart {
            let held = matches!(state, OnDemandWhileDown | OnDemandWhileUp);
            return if held { work } else { work + self.terms.restart };
        }
        let (time, part) = self.place(hours);
        let at = |model, time| self.lookup(model, time, state, work);
        let between = |model| at(model, time) * (1.0 - part) + at(model, time + 1) * part;
        weights.iter().map(|&(model, weight)| weight * between(model)).sum()
    }

    /// What each choice costs while there is no capacity, if the best is done afterwards. `held` is the work left with
    /// what is left of the restart of the instance held.
    pub(super) fn down_costs(&self, weights: &[(usize, f64)], work: f64, held: f64, hours: f64) -> DownCosts {
        let (time, part) = self.place((hours - self.step).max(0.0));
        let mut costs = DownCosts::default();
        for &(model, weight) in weights {
            for (time, share) in [(time, weight * (1.0 - part)), (time + 1, weight * part)] {
                costs.wait += share * self.wait_while_down(model, time, work);
                costs.start_on_demand += share * self.demand_while_down(model, time, work + self.terms.restart);
                costs.stay_on_demand += share * self.demand_while_down(model, time, held);
            }
        }
        costs
    }

    /// The point of the grid at or before `hours` left, and how far it is to the next.
    fn place(&self, hours: f64) -> (usize, f64) {
        let exact = (hours / self.step).clamp(0.0, (self.times - 2) as f64);
        (exact as usize, exact.fract())
    }

    fn index(&self, time: usize, state: State, work: usize) -> usize {
        (time * STATES + state as usize) * self.works + work
    }

    /// Between two points of work the cost is a straight line; beyond the last, one hour costs one hour on demand.
    fn lookup(&self, model: usize, time: usize, state: State, work: f64) -> f64 {
        if work <= 0.0 {
            return 0.0;
        }
        let first = self.index(time, state, 0);
        let costs = &self.models[model].cost[first..first + self.works];
        let exact = work * self.per_step;
        let below = exact as usize;
        let Some(&[low, high]) = costs.get(below..below + 2) else {
            let last = self.works - 1;
            return f64::from(costs[last]) + work - last as f64 * self.step;
        };
        let (low, part) = (f64::from(low), exact - below as f64);
        low + (f64::from(high) - low) * part
    }

    fn solve_layer(&mut self, time: usize) {
        for model in 0..MODELS {
            for work in 1..self.works {
                let costs = self.best(model, time, work as f64 * self.step);
                for (state, cost) in costs {
                    let index = self.index(time, state, work);
                    self.models[model].cost[index] = cost as f32;
                }
            }
        }
    }

    /// The cost of the best choice in each state.
    fn best(&self, model: usize, time: usize, work: f64) -> [(State, f64); STATES] {
        let slack = time as f64 * self.step - work;
        let restarted = work + self.terms.restart;
        if time == 0 || slack < self.terms.restart {
            let riding = if time == 0 || slack < 0.0 { restarted } else { self.spot(model, time - 1, work, false) };
            let (down, up) = ([restarted, work], [restarted, work]);
            return Self::label(down, up, riding);
        }
        let next = time - 1;
        let wait_down = self.wait_while_down(model, next, work);
        let wait_up = self.wait_while_up(model, next, work);
        let launch = self.spot(model, next, work, true);
        let idle_down = wait_down.min(self.demand_while_down(model, next, restarted));
        let held_down = wait_down.min(self.demand_while_down(model, next, work));
        let idle_up = wait_up.min(launch).min(self.demand_while_up(model, next, restarted));
        let held_up = launch.min(self.demand_while_up(model, next, work));
        let riding = idle_up.min(self.spot(model, next, work, false));
        Self::label([idle_down, held_down], [idle_up, held_up], riding)
    }

    fn label(down: [f64; 2], up: [f64; 2], riding: f64) -> [(State, f64); STATES] {
        [
            (NothingWhileDown, down[0]),
            (OnDemandWhileDown, down[1]),
            (NothingWhileUp, up[0]),
            (OnDemandWhileUp, up[1]),
            (OnSpot, riding),
        ]
    }

    /// After a step the market may have become a random other one.
    fn mix_layer(&mut self, time: usize) {
        let changed = 1.0 - (-self.step / REGIME_HOURS).exp();
        let layer = self.index(time, NothingWhileDown, 0)..self.index(time + 1, NothingWhileDown, 0);
        for index in layer {
            let mean = self.models.iter().map(|model| f64::from(model.cost[index])).sum::<f64>() / MODELS as f64;
            for model in &mut self.models {
                let own = f64::from(model.cost[index]);
                model.cost[index] = (own + (mean - own) * changed) as f32;
            }
        }
    }

    /// Holding nothing while there is no capacity; if it comes within the step it may be taken then.
    fn wait_while_down(&self, model: usize, next: usize, work: f64) -> f64 {
        let kept = &self.models[model];
        let at = |state, work| self.lookup(model, next, state, work);
        let rest = self.step - kept.until_back;
        let taken = self.terms.spot * rest + at(OnSpot, work - rest + self.terms.restart);
        let back = at(NothingWhileUp, work).min(taken);
        kept.stays_down * at(NothingWhileDown, work) + (1.0 - kept.stays_down) * back
    }

    fn wait_while_up(&self, model: usize, next: usize, work: f64) -> f64 {
        let stays = self.models[model].stays_up;
        let at = |state| self.lookup(model, next, state, work);
        stays * at(NothingWhileUp) + (1.0 - stays) * at(NothingWhileDown)
    }

    fn demand_while_down(&self, model: usize, next: usize, work: f64) -> f64 {
        let stays = self.models[model].stays_down;
        let at = |state| self.lookup(model, next, state, work - self.step);
        self.step.min(work) + stays * at(OnDemandWhileDown) + (1.0 - stays) * at(OnDemandWhileUp)
    }

    fn demand_while_up(&self, model: usize, next: usize, work: f64) -> f64 {
        let stays = self.models[model].stays_up;
        let at = |state| self.lookup(model, next, state, work - self.step);
        self.step.min(work) + stays * at(OnDemandWhileUp) + (1.0 - stays) * at(OnDemandWhileDown)
    }

    /// Holding spot, from a launch or from before; after a loss within the step either nothing or on demand.
    fn spot(&self, model: usize, next: usize, work: f64, launch: bool) -> f64 {
        let kept = &self.models[model];
        let (restart, useful) = match launch {
            true => (self.terms.restart, kept.useful_until_lost),
            false => (0.0, kept.until_lost),
        };
        let at = |state, work| self.lookup(model, next, state, work);
        let rest = self.step - kept.until_lost;
        let left = work - useful;
        let lost = at(NothingWhileDown, left).min(rest + at(OnDemandWhileDown, left - rest + self.terms.restart));
        let paid = |hours: f64| self.terms.spot * hours.min(work + restart);
        kept.stays_up * (paid(self.step) + at(OnSpot, work + restart - self.step))
            + (1.0 - kept.stays_up) * (paid(kept.until_lost) + lost)
    }
}

impl Model {
    fn new(market: Market, step: f64, restart: f64, cells: usize) -> Self {
        Self {
            stays_up: (-step / market.up).exp(),
            stays_down: (-step / market.down).exp(),
            until_lost: mean_within(market.up, step),
            useful_until_lost: mean_beyond(market.up, step, restart),
            until_back: mean_within(market.down, step),
            cost: vec![0.0; cells],
        }
    }
}

/// The mean of an exponential given that it is below `limit`.
fn mean_within(mean: f64, limit: f64) -> f64 {
    mean - limit / (limit / mean).exp_m1()
}

/// The mean of what an exponential is above `restart`, given that it is below `limit`.
fn mean_beyond(mean: f64, limit: f64, restart: f64) -> f64 {
    if restart >= limit {
        return 0.0;
    }
    let below = |hours: f64| -(-hours / mean).exp_m1();
    (below(limit) - below(restart)) / below(limit) * mean_within(mean, limit - restart)
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    fn tables() -> Tables {
        Tables::solve(Terms { work: 10.0, deadline: 20.0, restart: 0.2, round: 0.25, spot: 0.3 })
    }

    #[test]
    fn more_time_never_costs_more_and_more_work_never_less() {
        let tables = tables();
        let weights = [(12, 1.0)];
        for state in [NothingWhileDown, OnDemandWhileDown, NothingWhileUp, OnDemandWhileUp] {
            for work in 1..10 {
                let work = f64::from(work);
                let cost = |hours: f64| tables.cost(&weights, state, work, hours);
                assert!(cost(19.0) <= cost(14.0) + 1e-3, "{state:?} {work}");
                assert!(cost(19.0) <= tables.cost(&weights, state, work + 0.5, 19.0) + 1e-3, "{state:?} {work}");
            }
        }
    }

    #[test]
    fn capacity_that_stays_costs_its_price_and_none_costs_on_demand() {
        let tables = tables();
        let (stable, barren) = (super::super::market::MODELS - 5, 4);
        let cost = |model, state| tables.cost(&[(model, 1.0)], state, 10.0, 20.0);
        assert!((cost(stable, NothingWhileUp) - 0.3 * 10.2).abs() < 1.0, "{}", cost(stable, NothingWhileUp));
        assert!(cost(barren, NothingWhileDown) > 8.0, "{}", cost(barren, NothingWhileDown));
        assert_eq!(tables.cost(&[(0, 1.0)], NothingWhileDown, 10.0, 10.1), 10.2);
    }
}
