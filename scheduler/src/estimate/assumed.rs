//! A spot market of which little is recorded: stays with and without capacity of random length, as long on average as
//! those of markets that are known.
//!
//! Lengths are drawn from exponential distributions, whose one parameter is estimated from stays cut off by the end of a
//! recording without bias: time over number of ends (Cox and Oakes, "Analysis of Survival Data", 1984, chapter 3). Real stays
//! scatter more widely, so a plan made this way is surer of itself than it should be; the first days of a recording of
//! the market itself are better.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::model::{MicroUsdPerHour, Millis};
use crate::sim::spot::ZoneTrace;

/// How long spot capacity stays, and stays away, on average.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AssumedStays {
    /// With capacity.
    pub with: Millis,
    /// Without.
    pub without: Millis,
}

/// What nodes of the assumed market cost an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AssumedPrices {
    /// On spot.
    pub spot: MicroUsdPerHour,
    /// On demand.
    pub on_demand: MicroUsdPerHour,
}

impl AssumedStays {
    /// The mean stays of recorded zones, for example all others of the same machine. `None` if nothing was recorded.
    pub fn of(zones: &[ZoneTrace]) -> Option<Self> {
        let mut time = [0u64; 2];
        let mut ends = [0u64; 2];
        for zone in zones {
            for tick in 0..zone.ticks() {
                let now = usize::from(zone.available(tick));
                time[now] += zone.tick.get();
                let changes = tick + 1 < zone.ticks() && usize::from(zone.available(tick + 1)) != now;
                ends[now] += u64::from(changes);
            }
        }
        // What never ended in the recordings is assumed to end right after them.
        let mean = |state: usize| Millis::new(time[state] / ends[state].max(1));
        (time != [0, 0]).then(|| Self { with: mean(1), without: mean(0) })
    }

    /// As [`Self::zone`], drawn from a seed.
    pub fn zone_of(self, tick: Millis, ticks: usize, prices: AssumedPrices, seed: u64) -> ZoneTrace {
        self.zone(tick, ticks, prices, &mut ChaCha8Rng::seed_from_u64(seed))
    }

    /// A recording of `ticks` ticks as such a market could have made it, to be used as a history.
    pub fn zone(self, tick: Millis, ticks: usize, prices: AssumedPrices, rng: &mut ChaCha8Rng) -> ZoneTrace {
        let share = self.with.get() as f64 / (self.with + self.without).get().max(1) as f64;
        let mut available = rng.random::<f64>() < share;
        let mut count = |_| {
            let now = available;
            let mean = if now { self.with } else { self.without };
            let ends = 1.0 - (-(tick.get() as f64) / mean.get().max(1) as f64).exp();
            available ^= rng.random::<f64>() < ends;
            u32::from(now)
        };
        ZoneTrace {
            zone: "assumed".to_owned(),
            instance: String::new(),
            tick,
            counts: (0..ticks).map(&mut count).collect(),
            spot: vec![prices.spot; ticks],
            on_demand: Some(prices.on_demand),
        }
    }
}
