//! The expected cost to the end of each choice, in hours on demand.

use super::stays::{Outlook, Stays};
use super::table::{State, Tables};

/// Everything a comparison needs, in hours and hours on demand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position<'a> {
    pub(super) tables: &'a Tables,
    /// Models and their weights.
    pub(super) weights: &'a [(usize, f64)],
    /// The price of spot over the price on demand.
    pub(super) spot: f64,
    pub(super) restart: f64,
    pub(super) round: f64,
    /// Hours left that can be used in whole rounds.
    pub(super) left: f64,
    /// The work left.
    pub(super) work: f64,
    /// The same with what is left of the restart of the on-demand instance, if one is held.
    pub(super) held: Option<f64>,
}

/// What the choices cost while there is spot capacity.
#[derive(Debug, Clone, Copy)]
pub(super) struct UpCosts {
    /// Launch on spot now.
    pub(super) spot: f64,
    /// Be on demand: until the stay ends, or only until it has proved itself.
    pub(super) on_demand: f64,
}

impl Position<'_> {
    /// What the choices cost while there is spot capacity, for a job that holds none.
    pub(super) fn up_costs(&self, stays: &Stays) -> UpCosts {
        let now = stays.outlook(0.0);
        let spot = self.spot_until_lost(&now, self.work, self.left);
        let Some(held) = self.held else {
            return UpCosts { spot, on_demand: self.on_demand_until_lost(&now, self.work + self.restart) };
        };
        let proved = |later: f64| {
            let (work, left) = ((held - later).max(0.0), self.left - later);
            let survives = now.survives(later);
            let lost = self.tables.cost(self.weights, State::OnDemandWhileDown, work, left);
            later + survives * self.spot_until_lost(&stays.outlook(later), work, left) + (1.0 - survives) * lost
        };
        let waits = [self.round, 3.0 * self.round, (3.0 * self.restart).max(6.0 * self.round)];
        let on_demand = waits.into_iter().map(proved).fold(self.on_demand_until_lost(&now, held), f64::min);
        UpCosts { spot, on_demand }
    }

    /// Launch on spot and keep it until the stay ends or the work is done. The present round is sure.
    fn spot_until_lost(&self, outlook: &Outlook, work: f64, left: f64) -> f64 {
        outlook.mean(|hours| {
            let stay = self.round + hours;
            if stay >= work + self.restart {
                return self.spot * (work + self.restart);
            }
            let work = work - (stay - self.restart).max(0.0);
            self.spot * stay + self.tables.cost(self.weights, State::NothingWhileDown, work, left - stay)
        })
    }

    /// Hold on demand until the stay ends or the work is done.
    fn on_demand_until_lost(&self, outlook: &Outlook, work: f64) -> f64 {
        outlook.mean(|hours| {
            let stay = self.round + hours;
            if stay >= work {
                return work;
            }
            stay + self.tables.cost(self.weights, State::OnDemandWhileDown, work - stay, self.left - stay)
        })
    }
}
