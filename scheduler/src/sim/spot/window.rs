//! The part of the recordings that one run sees, and the rules it is charged by.

use super::trace::ZoneTrace;
use crate::model::{MicroUsd, MicroUsdPerHour, Millis};
use crate::policy::deadline::{SpotSeen, ZoneView};

/// What is asked of one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobTerms {
    /// The work, as time on one instance.
    pub work: Millis,
    /// How long after its start it must be done.
    pub deadline: Millis,
    /// How long a new instance is held and paid before it makes progress.
    pub restart: Millis,
}

/// What it takes to move a job's checkpoint from one zone to another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MoveCost {
    /// Added to the restart.
    pub time: Millis,
    /// Charged once.
    pub money: MicroUsd,
}

/// Who learns when that a zone has spot capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// Every round shows every zone.
    Shown,
    /// A launch that fails is free; a probe that succeeds is charged as this much time on spot.
    ByTrying {
        /// The shortest time that is charged.
        probe: Millis,
    },
}

/// How runs are charged and what they are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Who learns when that a zone has spot capacity.
    pub visibility: Visibility,
    /// Whether the tick in which the job ends is charged. It is in truth; the published runs of SkyNomad's artifact
    /// leave it out, and are only comparable with runs that do so too.
    pub last_tick_charged: bool,
}

/// A stretch of recorded time over one or more zones of the same tick.
#[derive(Debug, Clone)]
pub struct Window<'a> {
    zones: Vec<&'a ZoneTrace>,
    start: usize,
    moves: Vec<MoveCost>,
    rules: Rules,
}

impl<'a> Window<'a> {
    /// One zone from tick `start` on, whose availability is shown every tick.
    pub fn one_zone(zone: &'a ZoneTrace, start: usize) -> Self {
        let rules = Rules { visibility: Visibility::Shown, last_tick_charged: true };
        Self::new(vec![zone], start, |_, _| MoveCost::default(), rules)
    }

    /// Several zones from tick `start` on. `move_cost` is asked for each pair of zones, by their places in `zones`.
    ///
    /// # Panics
    ///
    /// If there is no zone, or their ticks differ in length.
    pub fn new(
        zones: Vec<&'a ZoneTrace>,
        start: usize,
        move_cost: impl Fn(usize, usize) -> MoveCost,
        rules: Rules,
    ) -> Self {
        let tick = zones.first().expect("a window has at least one zone").tick;
        assert!(zones.iter().all(|zone| zone.tick == tick), "all zones of a window have the same tick");
        let count = zones.len();
        let pair = |index: usize| (index / count, index % count);
        let cost = |(from, to)| if from == to { MoveCost::default() } else { move_cost(from, to) };
        let moves = (0..count * count).map(pair).map(cost).collect();
        Self { zones, start, moves, rules }
    }

    /// How many zones.
    pub fn zones(&self) -> usize {
        self.zones.len()
    }

    /// The length of a tick.
    pub fn tick(&self) -> Millis {
        self.zones[0].tick
    }

    /// The rules.
    pub fn rules(&self) -> Rules {
        self.rules
    }

    /// Ticks until the first recording ends.
    pub fn ticks(&self) -> usize {
        self.zones.iter().map(|zone| zone.ticks()).min().unwrap_or(0).saturating_sub(self.start)
    }

    /// Whether spot is to be had in `zone` in `tick` of this window.
    pub fn available(&self, zone: usize, tick: usize) -> bool {
        self.zones[zone].available(self.start + tick)
    }

    /// The spot price in `zone` in `tick`; the last one known after the end of the recording, on-demand if there is none.
    pub fn spot_price(&self, zone: usize, tick: usize) -> MicroUsdPerHour {
        let prices = &self.zones[zone].spot;
        let price = prices.get(self.start + tick).or(prices.last());
        price.copied().unwrap_or_else(|| self.on_demand_price(zone))
    }

    /// The price on demand in `zone`; nothing where none was recorded.
    pub fn on_demand_price(&self, zone: usize) -> MicroUsdPerHour {
        self.zones[zone].on_demand.unwrap_or_default()
    }

    /// What it takes to move a checkpoint; nothing for a job that has none yet.
    pub fn move_cost(&self, from: Option<usize>, to: usize) -> MoveCost {
        from.map_or(MoveCost::default(), |from| self.moves[from * self.zones.len() + to])
    }

    /// What a policy may know of `zone` at the start of `tick`, for a job whose checkpoint lies in `from`.
    pub(super) fn zone_view(&self, zone: usize, tick: usize, from: Option<usize>) -> ZoneView {
        let moving = self.move_cost(from, zone);
        let seen = match (self.rules.visibility, self.available(zone, tick)) {
            (Visibility::ByTrying { .. }, _) => SpotSeen::Unknown,
            (Visibility::Shown, true) => SpotSeen::Available,
            (Visibility::Shown, false) => SpotSeen::Gone,
        };
        ZoneView {
            on_demand: self.on_demand_price(zone),
            spot: self.spot_price(zone, tick),
            seen,
            move_time: moving.time,
            move_cost: moving.money,
        }
    }
}
