//! Quantities with their unit in the type. Money is whole micro-dollars; nothing here is a float.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Milliseconds: a length of time, or an instant counted from the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(u64);

impl Millis {
    /// No time at all, or the Unix epoch.
    pub const ZERO: Self = Self(0);

    /// This many milliseconds.
    pub const fn new(millis: u64) -> Self {
        Self(millis)
    }

    /// This many seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds * 1_000)
    }

    /// The number of milliseconds.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Seconds, for display.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1_000.0
    }

    /// The time from `earlier` to here, zero if the clock went back.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }
}

impl Add for Millis {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl From<std::time::Duration> for Millis {
    fn from(duration: std::time::Duration) -> Self {
        Self(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }
}

impl From<Millis> for std::time::Duration {
    fn from(millis: Millis) -> Self {
        Self::from_millis(millis.0)
    }
}

/// Shown as people write durations: `350ms`, `4.2s`, `3m05s`, `2h07m`.
impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (millis, seconds) = (self.0, self.0 / 1_000);
        let text = match seconds {
            0 => format!("{millis}ms"),
            1..60 => format!("{}.{}s", seconds, millis % 1_000 / 100),
            60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
            _ => format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
        };
        f.pad(&text)
    }
}

/// Money in whole millionths of a US dollar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MicroUsd(u64);

impl MicroUsd {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// This many millionths of a dollar.
    pub const fn new(micro_usd: u64) -> Self {
        Self(micro_usd)
    }

    /// The number of millionths of a dollar.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Dollars, for display only.
    pub fn as_dollars(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// Splits the amount over `weights` so that the parts sum to it exactly: each part is rounded down, and what is
    /// left goes, one micro-dollar each, to the largest remainders (ties to the earlier part). All-zero weights count
    /// as equal ones.
    ///
    /// # Panics
    ///
    /// If `weights` is empty: an amount that belongs to nobody would be lost.
    #[must_use]
    pub fn split(self, weights: &[u64]) -> Vec<Self> {
        assert!(!weights.is_empty(), "an amount is split over at least one part");
        let equal = vec![1; weights.len()];
        let weights = if weights.iter().all(|&weight| weight == 0) { &equal } else { weights };
        let total: u128 = weights.iter().map(|&weight| u128::from(weight)).sum();
        let share = |weight: u64| u128::from(self.0) * u128::from(weight);
        let mut parts: Vec<u64> = weights.iter().map(|&weight| (share(weight) / total) as u64).collect();
        let mut by_remainder: Vec<usize> = (0..weights.len()).collect();
        by_remainder.sort_by_key(|&part| (std::cmp::Reverse(share(weights[part]) % total), part));
        let left = self.0 - parts.iter().sum::<u64>();
        for &part in by_remainder.iter().take(left as usize) {
            parts[part] += 1;
        }
        parts.into_iter().map(Self).collect()
    }
}

impl Add for MicroUsd {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for MicroUsd {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for MicroUsd {
    type Output = Self;

    /// Saturates at zero.
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Sum for MicroUsd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

/// Dollars with as many decimals as the size asks for: `$12.35`, `$0.0421`, `$0.000038`.
impl fmt::Display for MicroUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = match self.0 {
            0 | 1_000_000.. => 2,
            10_000..1_000_000 => 4,
            1..10_000 => 6,
        };
        f.pad(&format!("${:.decimals$}", self.as_dollars()))
    }
}

/// A price: millionths of a dollar for one hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MicroUsdPerHour(u64);

const MILLIS_PER_HOUR: u128 = 3_600_000;

impl MicroUsdPerHour {
    /// This many millionths of a dollar for one hour.
    pub const fn new(micro_usd_per_hour: u64) -> Self {
        Self(micro_usd_per_hour)
    }

    /// The number of millionths of a dollar for one hour.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// What `time` costs at this price, rounded down to a whole micro-dollar. This is the only place where money is
    /// rounded; bills take differences of it from one start, so that their lines sum to it exactly.
    #[must_use]
    pub fn cost_of(self, time: Millis) -> MicroUsd {
        let exact = u128::from(self.0) * u128::from(time.get()) / MILLIS_PER_HOUR;
        MicroUsd::new(u64::try_from(exact).unwrap_or(u64::MAX))
    }
}

impl Sum for MicroUsdPerHour {
    fn sum<I: Iterator<Item = Self>>(prices: I) -> Self {
        Self(prices.map(|price| price.0).sum())
    }
}

/// `$0.04/h`.
impl fmt::Display for MicroUsdPerHour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/h", MicroUsd(self.0)))
    }
}

/// A text that is not an amount of dollars.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoneyParseError {
    /// Not digits with at most one point.
    #[error("`{0}` is not an amount in dollars; write one like 0.35")]
    NotAnAmount(String),
    /// Finer than a micro-dollar.
    #[error("`{0}` has more than six decimals; the smallest amount is 0.000001")]
    TooFine(String),
    /// More than the type holds.
    #[error("`{0}` dollars is more than can be counted")]
    TooLarge(String),
}

/// Reads plain dollars (`1.80`) exactly, without going through a float.
impl FromStr for MicroUsd {
    type Err = MoneyParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) || text.ends_with('.') {
            return Err(MoneyParseError::NotAnAmount(text.to_owned()));
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > 6 {
            return Err(MoneyParseError::TooFine(text.to_owned()));
        }
        let too_large = || MoneyParseError::TooLarge(text.to_owned());
        let dollars: u64 = whole.parse().map_err(|_| too_large())?;
        let micros: u64 = format!("{fraction:0<6}").parse().map_err(|_| too_large())?;
        dollars.checked_mul(1_000_000).and_then(|usd| usd.checked_add(micros)).map(Self).ok_or_else(too_large)
    }
}

/// Thousandths of a processor core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CpuMillis(pub u32);

impl CpuMillis {
    /// This many whole cores.
    pub const fn from_cores(cores: u32) -> Self {
        Self(cores * 1_000)
    }

    /// Whole cores, rounded up: the number of compute threads that can be kept busy.
    pub const fn cores_ceil(self) -> u32 {
        self.0.div_ceil(1_000)
    }
}

/// `2` or `0.5`.
impl fmt::Display for CpuMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}", f64::from(self.0) / 1_000.0))
    }
}

/// Memory in mebibytes (2²⁰ bytes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MemoryMib(pub u64);

/// `512MiB` or `2GiB`.
impl fmt::Display for MemoryMib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 >= 1024 && self.0.is_multiple_of(1024) {
            f.pad(&format!("{}GiB", self.0 / 1024))
        } else {
            f.pad(&format!("{}MiB", self.0))
        }
    }
}

/// Whole accelerators. A share of one counts as one: it cannot be used by two jobs at once here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GpuCount(pub u32);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dollars_are_read_exactly() {
        for (text, micros) in [("1.80", 1_800_000), ("0.000001", 1), ("3", 3_000_000), ("0.1000000", 100_000)] {
            assert_eq!(text.parse::<MicroUsd>().unwrap(), MicroUsd::new(micros), "{text}");
        }
        for text in ["", ".", "1.", ".5", "-1", "1e3", "0.0000001", "99999999999999999999", "1,5"] {
            assert!(text.parse::<MicroUsd>().is_err(), "{text}");
        }
    }

    #[test]
    fn durations_read_well() {
        for (millis, text) in [(350, "350ms"), (4_210, "4.2s"), (185_000, "3m05s"), (7_620_000, "2h07m")] {
            assert_eq!(Millis::new(millis).to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn a_split_loses_nothing(amount in 0u64..u64::MAX / 2, weights in prop::collection::vec(0u64..1_000_000, 1..9)) {
            let parts = MicroUsd::new(amount).split(&weights);
            prop_assert_eq!(parts.len(), weights.len());
            prop_assert_eq!(parts.into_iter().sum::<MicroUsd>(), MicroUsd::new(amount));
        }

        #[test]
        fn an_hour_costs_its_price(price in 0u64..1_000_000_000_000) {
            let price = MicroUsdPerHour::new(price);
            prop_assert_eq!(price.cost_of(Millis::from_secs(3_600)).get(), price.get());
        }
    }
}
