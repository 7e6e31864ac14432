//! Our policy: compare the expected cost to the end of running on spot, running on demand and waiting.
//!
//! Three estimates work together. [`market`] holds a belief over simple models of the market, [`table`] the cost to the
//! end in each of them, and [`stays`] the chance that capacity which is there now will last, which falls with the age of
//! the present stay in all recorded markets. A choice is looked at until the present stay ends, or until a little later
//! if waiting for it to prove itself is the better choice; what comes then costs what the tables say. A restart is part
//! of every comparison, so nothing is switched for less than it costs. The safety net is exact and asked first.
//!
//! Many zones that answer only when tried are reduced to that question by [`zones`].
//!
//! Start at [`Adaptive::decide`]. The idea of one line of progress to be on is from "Can't Be Late" (NSDI'24), whose line
//! the tables replace.

mod choice;
mod market;
mod stays;
mod table;
mod zones;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use choice::Position;
use market::Belief;
use stays::Stays;
use table::{Tables, Terms};
use zones::Advice;

use super::baselines::slack;
use super::guard::last_moment;
use super::{Action, DeadlinePolicy, Decision, Held, Reason, Sighting, SpotSeen, View, cheapest_on_demand};
use crate::model::Millis;

/// Tables kept for jobs with the same terms and prices; all are dropped when there would be more. One set takes up to
/// 10 MB and some 80 ms, spent at the first decision that needs it.
const TABLES_MAX: usize = 16;

/// Prices of spot over on-demand are told apart in this many parts of one.
const PRICE_PARTS: f64 = 20.0;

type TermsKey = (Millis, Millis, Millis, Millis, u32);
type TableCache = Arc<Mutex<BTreeMap<TermsKey, Arc<Tables>>>>;

/// The policy for one job. Copies made by [`DeadlinePolicy::fresh`] share solved tables, not what was seen.
#[derive(Debug, Default)]
pub struct Adaptive {
    began: Option<Millis>,
    zones: Vec<ZoneMemory>,
    /// Whether any zone had capacity.
    anywhere: Belief,
    tables: Option<(TermsKey, Arc<Tables>)>,
    shared: TableCache,
}

/// What is remembered of one zone.
#[derive(Debug, Clone)]
struct ZoneMemory {
    belief: Belief,
    stays: Stays,
}

impl Adaptive {
    /// A policy that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    fn memory(&mut self, zone: usize) -> &mut ZoneMemory {
        if self.zones.len() <= zone {
            self.zones.resize_with(zone + 1, || ZoneMemory { belief: Belief::default(), stays: Stays::new() });
        }
        &mut self.zones[zone]
    }

    /// The tables for this job at the price of `zone`, solved now if nobody has.
    fn tables(&mut self, view: &View<'_>, zone: usize) -> Arc<Tables> {
        let whole = view.deadline.since(self.began.unwrap_or(view.now));
        let offer = view.zones[zone];
        let ratio = offer.spot.get() as f64 / offer.on_demand.get().max(1) as f64;
        let parts = (ratio * PRICE_PARTS).round().clamp(1.0, 2.0 * PRICE_PARTS);
        let key = (view.work, whole, view.restart, view.round, parts as u32);
        if let Some((solved, tables)) = &self.tables
            && *solved == key
        {
            return Arc::clone(tables);
        }
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let solve = || {
            let terms = Terms {
                work: hours(view.work),
                deadline: hours(whole),
                restart: hours(view.restart),
                round: hours(view.round),
                spot: parts / PRICE_PARTS,
            };
            Arc::new(Tables::solve(terms))
        };
        if shared.len() >= TABLES_MAX && !shared.contains_key(&key) {
            shared.clear();
        }
        let tables = Arc::clone(shared.entry(key).or_insert_with(solve));
        self.tables = Some((key, Arc::clone(&tables)));
        tables
    }
}

impl DeadlinePolicy for Adaptive {
    fn name(&self) -> &'static str {
        "adaptive"
    }

    fn fresh(&self) -> Box<dyn DeadlinePolicy> {
        Box::new(Self { shared: Arc::clone(&self.shared), ..Self::default() })
    }

    fn observe(&mut self, sighting: Sighting) {
        let at = hours(sighting.at);
        let memory = self.memory(sighting.zone);
        memory.belief.see(at, sighting.available);
        memory.stays.see(at, sighting.available);
    }

    fn decide(&mut self, view: &View<'_>) -> Decision {
        self.began.get_or_insert(view.now);
        if let Some(decision) = last_moment(view) {
            return decision;
        }
        if view.zones.len() > 1 || view.zones[0].seen == SpotSeen::Unknown {
            return self.decide_among_zones(view);
        }
        if view.spot_held().is_some() {
            return Decision::run(Held::spot(0), Reason::SpotStillRuns);
        }
        let tables = self.tables(view, 0);
        let memory = self.memory(0);
        let weights = memory.belief.weights();
        let position = position(view, 0, &tables, &weights);
        match view.zones[0].seen {
            SpotSeen::Gone | SpotSeen::Unknown => while_down(view, &position),
            SpotSeen::Available => while_up(view, 0, &position, &memory.stays),
        }
    }
}

impl Adaptive {
    /// The zones say which of them to try; whether to leave on demand, or to wait without any, is the question of one
    /// zone again, asked of the market of all zones together.
    fn decide_among_zones(&mut self, view: &View<'_>) -> Decision {
        self.memory(view.zones.len() - 1);
        let advice = zones::advise(view, &self.zones);
        let found = match advice {
            Advice::MayLeaveFor(zone) if view.zones[zone].seen == SpotSeen::Unknown => {
                return Decision { action: Action::Probe { zone }, reason: Reason::ProbingForTheWayBack };
            }
            Advice::MayLeaveFor(_) => Some(true),
            Advice::NothingToBeHad => Some(false),
            Advice::Spot(_) | Advice::WaitForCheaper => view.spot_held().map(|_| true),
        };
        if let Some(found) = found {
            self.anywhere.see(hours(view.now), found);
        }
        let zone = match advice {
            Advice::Spot(zone) if view.spot_held() == Some(zone) => {
                return Decision::run(Held::spot(zone), Reason::SpotStillRuns);
            }
            Advice::Spot(zone) => return Decision::run(Held::spot(zone), Reason::SpotCostsLeast),
            Advice::WaitForCheaper => return Decision::wait(Reason::WaitingCostsLeast { slack: slack(view) }),
            Advice::MayLeaveFor(zone) => zone,
            Advice::NothingToBeHad => zones::cheapest_spot(view),
        };
        let tables = self.tables(view, zone);
        let weights = self.anywhere.weights();
        let position = position(view, zone, &tables, &weights);
        match advice {
            Advice::MayLeaveFor(_) => while_up(view, zone, &position, &self.zones[zone].stays),
            _ => while_down(view, &position),
        }
    }
}

fn while_up(view: &View<'_>, zone: usize, position: &Position<'_>, stays: &Stays) -> Decision {
    let costs = position.up_costs(stays);
    if costs.spot <= costs.on_demand {
        return Decision::run(Held::spot(zone), Reason::SpotCostsLeast);
    }
    on_demand(view)
}

fn while_down(view: &View<'_>, position: &Position<'_>) -> Decision {
    let held = position.held.unwrap_or(position.work);
    let costs = position.tables.down_costs(position.weights, position.work, held, position.left);
    let running = if position.held.is_some() { costs.stay_on_demand } else { costs.start_on_demand };
    if running < costs.wait {
        return on_demand(view);
    }
    Decision::wait(Reason::WaitingCostsLeast { slack: slack(view) })
}

fn on_demand(view: &View<'_>) -> Decision {
    let zone = view.on_demand_held().unwrap_or_else(|| cheapest_on_demand(view));
    Decision::run(Held::on_demand(zone), Reason::OnDemandCostsLeast)
}

fn position<'a>(view: &View<'_>, zone: usize, tables: &'a Tables, weights: &'a [(usize, f64)]) -> Position<'a> {
    let offer = view.zones[zone];
    let (round, work) = (hours(view.round), hours(view.work_left));
    // Half a round less than the whole rounds left: what is begun within a round is on average half a round late.
    let left = ((view.time_left().get() / view.round.get()) as f64 - 0.5) * round;
    Position {
        tables,
        weights,
        spot: offer.spot.get() as f64 / offer.on_demand.get().max(1) as f64,
        restart: hours(view.restart),
        round,
        left,
        work,
        held: view.on_demand_held().map(|_| work + hours(view.warmup_left)),
    }
}

fn hours(time: Millis) -> f64 {
    time.as_secs_f64() / 3_600.0
}
