//! Possible futures of a spot market, drawn from its recorded past.
//!
//! A future is a stretch of the past, replayed: all zones from one instant on, so that what happens in them together
//! stays together, and as long as the recording lasts, so that the lengths of interruptions stay what they were. Where
//! the recording ends the replay goes on at another instant (a block bootstrap with the longest blocks there are:
//! Künsch, "The jackknife and the bootstrap for general stationary observations", 1989).
//!
//! Markets change their ways within weeks, so not every instant is as good: those are preferred that were like the
//! present one, in the share of the last hours in which spot was there (analogs, after Lorenz, "Atmospheric
//! predictability as revealed by naturally occurring analogues", 1969). How strongly, is a matter of [`Likeness`].

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::model::{MicroUsdPerHour, Millis};
use crate::sim::spot::ZoneTrace;

/// The instants of the past from which futures may start are this far apart: far less than what changes in a market.
const START_EVERY: Millis = Millis::new(30 * 60_000);

/// The spans over which the present is compared with the past.
const SPANS: [Millis; 3] = [Millis::new(0), Millis::new(6 * 3_600_000), Millis::new(48 * 3_600_000)];

/// How like the present an instant of the past must be: the difference in the share of time with spot, averaged over
/// the spans, that makes it e times less likely to be drawn. Large values prefer nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Likeness(pub f64);

/// Recorded zones of one tick, up to the present.
#[derive(Debug, Clone)]
pub struct MarketHistory<'a> {
    zones: Vec<&'a ZoneTrace>,
    /// Every how many-th recorded tick counts, and the first that does; all of them are before the present.
    stride: usize,
    first: usize,
    now: usize,
    /// How many of the ticks before each one had enough instances, by zone.
    had: Vec<Vec<u32>>,
    /// The count from which on a zone has enough, by zone.
    enough: Vec<u32>,
}

impl<'a> MarketHistory<'a> {
    /// What was recorded of `zones` before tick `now`, for a job that needs `workers` instances at once.
    ///
    /// Recordings that only say whether there was any (no count above 1) are taken to mean enough.
    ///
    /// # Panics
    ///
    /// If there is no zone, or their ticks differ in length.
    pub fn new(zones: Vec<&'a ZoneTrace>, now: usize, workers: u32) -> Self {
        let tick = zones.first().expect("a market has at least one zone").tick;
        assert!(zones.iter().all(|zone| zone.tick == tick), "all zones of a market have the same tick");
        let now = zones.iter().map(|zone| zone.ticks()).min().unwrap_or_default().min(now);
        let only_flags = |zone: &&ZoneTrace| zone.counts.iter().all(|&count| count <= 1);
        let enough = zones.iter().map(|zone| if only_flags(zone) { 1 } else { workers.max(1) }).collect();
        Self { zones, stride: 1, first: 0, now, had: Vec::new(), enough }.counted()
    }

    /// The same past as if it had been recorded less often: in ticks of at least `tick`.
    #[must_use]
    pub fn coarse(&self, tick: Millis) -> Self {
        let stride = tick.get().div_ceil(self.tick().get().max(1)).max(1) as usize;
        let (first, now) = (self.first + self.now % stride * self.stride, self.now / stride);
        Self { stride: self.stride * stride, first, now, had: Vec::new(), ..self.clone() }.counted()
    }

    fn counted(mut self) -> Self {
        let had = |zone: usize| {
            let running = (0..self.now).scan(0, |sum, tick| {
                *sum += u32::from(self.available(zone, tick));
                Some(*sum)
            });
            std::iter::once(0).chain(running).collect()
        };
        self.had = (0..self.zones.len()).map(had).collect();
        self
    }

    /// The length of a tick.
    pub fn tick(&self) -> Millis {
        Millis::new(self.zones[0].tick.get() * self.stride as u64)
    }

    fn recorded(&self, tick: usize) -> usize {
        self.first + tick * self.stride
    }

    /// How many zones.
    pub fn zones(&self) -> usize {
        self.zones.len()
    }

    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.now == 0
    }

    /// Whether a zone had enough instances in a tick.
    pub fn available(&self, zone: usize, tick: usize) -> bool {
        self.zones[zone].counts.get(self.recorded(tick)).is_some_and(|&count| count >= self.enough[zone])
    }

    /// The spot price in a zone in a tick; the on-demand price where none was recorded.
    pub fn spot(&self, zone: usize, tick: usize) -> MicroUsdPerHour {
        let zone = self.zones[zone];
        zone.spot.get(self.recorded(tick)).or(zone.spot.last()).copied().or(zone.on_demand).unwrap_or_default()
    }

    /// The on-demand price in a zone.
    pub fn on_demand(&self, zone: usize) -> MicroUsdPerHour {
        self.zones[zone].on_demand.unwrap_or_default()
    }

    /// The lowest spot price recorded in a zone.
    pub fn lowest_spot(&self, zone: usize) -> Option<MicroUsdPerHour> {
        (0..self.now).filter_map(|tick| self.zones[zone].spot.get(self.recorded(tick))).min().copied()
    }

    /// The share of the time before `tick` in which a zone had enough instances.
    fn share(&self, zone: usize, tick: usize, span: Millis) -> f64 {
        let ticks = (span.get() / self.tick().get()).max(1) as usize;
        let from = tick.saturating_sub(ticks);
        f64::from(self.had[zone][tick] - self.had[zone][from]) / (tick - from).max(1) as f64
    }

    fn unlikeness(&self, tick: usize) -> f64 {
        let off = |zone: usize, span: Millis| (self.share(zone, tick, span) - self.share(zone, self.now, span)).abs();
        let all = (0..self.zones()).flat_map(|zone| SPANS.map(|span| off(zone, span)));
        all.sum::<f64>() / (self.zones() * SPANS.len()) as f64
    }

    /// Prepares to draw futures.
    pub fn futures(&self, likeness: Likeness) -> Futures {
        let step = (START_EVERY.get() / self.tick().get()).max(1) as usize;
        let starts: Vec<usize> = (1..=self.now).step_by(step).collect();
        let mut total = 0.0;
        let weigh = |start: &usize| {
            total += (-self.unlikeness(*start) / likeness.0).exp();
            total
        };
        let cumulative = starts.iter().map(weigh).collect();
        Futures { starts, cumulative, end: self.now }
    }
}

/// The instants from which futures may start, and how likely each is.
#[derive(Debug, Clone)]
pub struct Futures {
    starts: Vec<usize>,
    cumulative: Vec<f64>,
    end: usize,
}

impl Futures {
    /// One future: the recorded tick that stands for each of the `length` coming ones. Empty if nothing was recorded.
    pub fn draw(&self, length: usize, rng: &mut ChaCha8Rng) -> Vec<u32> {
        let mut ticks = Vec::with_capacity(length);
        if self.starts.is_empty() || self.end == 0 {
            return ticks;
        }
        while ticks.len() < length {
            let start = self.start(rng).min(self.end - 1);
            let end = self.end.min(start + length - ticks.len());
            ticks.extend((start..end).map(|tick| tick as u32));
        }
        ticks
    }

    fn start(&self, rng: &mut ChaCha8Rng) -> usize {
        let total = self.cumulative.last().copied().unwrap_or_default();
        let drawn = rng.random::<f64>() * total;
        let place = self.cumulative.partition_point(|&sum| sum <= drawn).min(self.starts.len() - 1);
        self.starts[place]
    }
}
