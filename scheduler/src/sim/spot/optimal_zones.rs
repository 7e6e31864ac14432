//! The plan for many zones by who knows the future, counted in whole ticks.
//!
//! Dynamic programming over ticks, what is held, ticks of restart left and ticks of work done. Restarts and moves are
//! rounded up to whole ticks, as SkyNomad's "Optimal" does it, so the plan is a little pessimistic: run it with
//! [`Planned`] to get what it costs. It is the published yardstick for many zones rather than an exact bound.

use super::window::{JobTerms, Window};
use crate::model::Millis;
use crate::policy::deadline::{DeadlinePolicy, Decision, Held, Reason, Sighting, View};

/// What is held in a tick of a plan; where nothing is, the zone of the checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Start,
    Waiting(usize),
    Holding(Held),
}

impl Mode {
    fn zone(self) -> Option<usize> {
        match self {
            Self::Start => None,
            Self::Waiting(zone) => Some(zone),
            Self::Holding(held) => Some(held.zone),
        }
    }

    /// Every mode, the start first.
    fn all(zones: usize) -> Vec<Self> {
        let zones = 0..zones;
        let waiting = zones.clone().map(Self::Waiting);
        let demand = zones.clone().map(|zone| Self::Holding(Held::on_demand(zone)));
        let spot = zones.map(|zone| Self::Holding(Held::spot(zone)));
        std::iter::once(Self::Start).chain(waiting).chain(demand).chain(spot).collect()
    }
}

/// What is held in each tick of the cheapest plan; nothing if no plan meets the deadline.
pub fn plan_zones(terms: JobTerms, window: &Window<'_>) -> Option<Vec<Option<Held>>> {
    let search = Search::new(terms, window);
    let mut layer = vec![f64::INFINITY; search.states()];
    layer[search.state(0, 0, 0)] = 0.0;
    let mut origins = Vec::with_capacity(search.ticks);
    for tick in 0..search.ticks {
        let (next, origin) = search.next_layer(&layer, tick);
        layer = next;
        origins.push(origin);
    }
    let last = (0..layer.len()).filter(|&state| state % (search.work + 1) == search.work);
    let mut state = last.min_by(|&a, &b| layer[a].total_cmp(&layer[b])).filter(|&state| layer[state].is_finite())?;
    let mut plan = vec![None; search.ticks];
    for (tick, origin) in origins.iter().enumerate().rev() {
        plan[tick] = match search.modes[search.mode_of(state)] {
            Mode::Holding(held) => Some(held),
            Mode::Start | Mode::Waiting(_) => None,
        };
        state = origin[state] as usize;
    }
    Some(plan)
}

struct Search<'w> {
    window: &'w Window<'w>,
    modes: Vec<Mode>,
    /// Ticks until the deadline.
    ticks: usize,
    /// Ticks of work.
    work: usize,
    /// Ticks of restart, at most, and none.
    warmups: usize,
    restart: Millis,
    /// A plan that costs more than on demand alone is not looked at.
    cost_max: f64,
}

impl<'w> Search<'w> {
    fn new(terms: JobTerms, window: &'w Window<'w>) -> Self {
        let tick = window.tick().get();
        let zones = window.zones();
        let longest = (0..zones * zones).map(|pair| window.move_cost(Some(pair / zones), pair % zones).time).max();
        let warmups = (terms.restart + longest.unwrap_or_default()).get().div_ceil(tick) as usize + 1;
        let work = terms.work.get().div_ceil(tick) as usize;
        let cheapest = (0..zones).map(|zone| window.on_demand_price(zone).get()).min().unwrap_or(0);
        let rounds = work as u64 + terms.restart.get().div_ceil(tick);
        Self {
            window,
            modes: Mode::all(zones),
            ticks: ((terms.deadline.get() / tick) as usize).min(window.ticks()),
            work,
            warmups,
            restart: terms.restart,
            cost_max: cheapest as f64 * tick as f64 / 3.6e6 * rounds as f64,
        }
    }

    fn states(&self) -> usize {
        self.modes.len() * self.warmups * (self.work + 1)
    }

    fn state(&self, mode: usize, warmup: usize, work: usize) -> usize {
        (mode * self.warmups + warmup) * (self.work + 1) + work
    }

    fn mode_of(&self, state: usize) -> usize {
        state / (self.work + 1) / self.warmups
    }

    fn next_layer(&self, layer: &[f64], tick: usize) -> (Vec<f64>, Vec<u32>) {
        let (mut next, mut origin) = (vec![f64::INFINITY; layer.len()], vec![0u32; layer.len()]);
        let mut reach = |state: usize, cost: f64, from: usize| {
            if cost < next[state] {
                (next[state], origin[state]) = (cost, from as u32);
            }
        };
        // Whoever has less work done than this cannot finish any more.
        let work_min = self.work.saturating_sub(self.ticks - tick - 1);
        for from in 0..self.modes.len() {
            for to in 0..self.modes.len() {
                let Some((price, once, start)) = self.transition(from, to, tick) else { continue };
                for warmup in 0..self.warmups {
                    for done in 0..=self.work {
                        let state = self.state(from, warmup, done);
                        let cost = layer[state] + price + once;
                        if cost > self.cost_max {
                            continue;
                        }
                        let left = start.unwrap_or(warmup);
                        let works = left == 0 && matches!(self.modes[to], Mode::Holding(_));
                        let done = (done + usize::from(works)).min(self.work);
                        if done >= work_min {
                            reach(self.state(to, left.saturating_sub(1), done), cost, state);
                        }
                    }
                }
            }
        }
        (next, origin)
    }

    /// The price of the tick, what is charged once, and the ticks of restart if there is one; nothing if it cannot be.
    fn transition(&self, from: usize, to: usize, tick: usize) -> Option<(f64, f64, Option<usize>)> {
        let (before, after) = (self.modes[from], self.modes[to]);
        let price = match after {
            Mode::Holding(held) => self.price(held, tick)?,
            Mode::Waiting(zone) if before.zone() != Some(zone) => return None,
            Mode::Start if before != Mode::Start => return None,
            Mode::Start | Mode::Waiting(_) => 0.0,
        };
        if before == after {
            return Some((price, 0.0, None));
        }
        let Mode::Holding(held) = after else { return Some((price, 0.0, Some(0))) };
        let moving = self.window.move_cost(before.zone(), held.zone);
        let start = (self.restart + moving.time).get().div_ceil(self.window.tick().get()) as usize;
        Some((price, moving.money.get() as f64, Some(start)))
    }

    fn price(&self, held: Held, tick: usize) -> Option<f64> {
        let hours = self.window.tick().get() as f64 / 3.6e6;
        match held.market {
            crate::model::Market::OnDemand => Some(self.window.on_demand_price(held.zone).get() as f64 * hours),
            crate::model::Market::Spot => {
                let there = self.window.available(held.zone, tick);
                there.then(|| self.window.spot_price(held.zone, tick).get() as f64 * hours)
            }
        }
    }
}

/// Follows a plan made with the future known.
#[derive(Debug, Clone)]
pub struct Planned {
    plan: Vec<Option<Held>>,
}

impl Planned {
    /// Follows `plan`, one entry a tick.
    pub fn new(plan: Vec<Option<Held>>) -> Self {
        Self { plan }
    }
}

impl DeadlinePolicy for Planned {
    fn name(&self) -> &'static str {
        "optimal"
    }

    fn fresh(&self) -> Box<dyn DeadlinePolicy> {
        Box::new(self.clone())
    }

    fn observe(&mut self, _: Sighting) {}

    fn decide(&mut self, view: &View<'_>) -> Decision {
        let tick = (view.now.get() / view.round.get()) as usize;
        match self.plan.get(tick).copied().flatten() {
            Some(held) => Decision::run(held, Reason::Planned),
            None => Decision::wait(Reason::Planned),
        }
    }
}
