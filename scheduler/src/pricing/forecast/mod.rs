//! What will be spent until a day, with a range; the chance that a budget is broken; the day on which it runs out.
//!
//! Start at [`forecast`]. History comes in hours, ends now, and is cut into days that end now. A weekly pattern is taken
//! out where there is one, a moving level is fitted ([`level`]), and a thousand futures are drawn from it. What is known
//! to come (running nodes, queued jobs) is not added to that, because history already holds such work: each day costs
//! what history says or what is known, whichever is more. Without a week of history only what is known counts.
//!
//! What it assumes: that the coming days scatter around their level as the past ones did, independently of each other;
//! that no day is unlike all days seen so far; and, for a queued job, that its cost is log-normal between its P50 and P95.
//! It does not know of budgets that stop work: it says what would be spent without them.

mod history;
mod level;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::model::{MicroUsd, MicroUsdPerHour, Millis};
use level::Level;

pub use history::hourly;

/// How many futures are drawn. The P10 of 1,000 draws is off by about one percentage point (√(0.1 × 0.9 / 1000)).
const PATHS: usize = 1_000;

/// Days of history below which nothing is learned from it.
pub const HISTORY_DAYS_MIN: usize = 7;

/// Days of history below which no weekly pattern is looked for: three of each weekday.
const WEEKLY_DAYS_MIN: usize = 21;

/// How far ahead the day is looked for on which a budget runs out.
pub const LOOK_AHEAD_DAYS: u64 = 92;

const DAY: Millis = Millis::new(24 * 3_600_000);

/// A node that runs now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunningSpend {
    /// What it costs an hour.
    pub price: MicroUsdPerHour,
    /// How much longer it is needed; `None` where nobody knows.
    pub left: Option<Millis>,
}

/// A job that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueuedSpend {
    /// What it will cost, as likely more as less.
    pub p50: MicroUsd,
    /// What it will cost at most, 19 times of 20.
    pub p95: MicroUsd,
    /// How long until it starts.
    pub starts_in: Millis,
    /// How long it then takes.
    pub lasts: Millis,
}

/// What a forecast is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForecastInput<'a> {
    /// Now.
    pub now: Millis,
    /// What was spent in each hour, the oldest first; the last hour ends now.
    pub hourly: &'a [MicroUsd],
    /// What runs.
    pub running: &'a [RunningSpend],
    /// What waits.
    pub queued: &'a [QueuedSpend],
    /// Until when money is forecast.
    pub until: Millis,
    /// What may still be spent, if that is limited.
    pub budget_left: Option<MicroUsd>,
    /// Draws the futures.
    pub seed: u64,
}

/// What a forecast rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// So many days of history, and what is known to come.
    History {
        /// How many.
        days: usize,
    },
    /// Only what is known to come: there is less than a week of history.
    KnownOnly,
}

/// Three points of a distribution: one in ten is below the first, nine in ten below the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range<T> {
    /// One in ten.
    pub p10: T,
    /// Half.
    pub p50: T,
    /// Nine in ten.
    pub p90: T,
}

/// What will be spent.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    /// From now until the horizon.
    pub spend: Range<MicroUsd>,
    /// The chance that it is more than what is left of the budget.
    pub overspend_chance: Option<f64>,
    /// When the budget runs out; a point is `None` where that is not within [`LOOK_AHEAD_DAYS`].
    pub exhausted: Option<Range<Option<Millis>>>,
    /// What this rests on.
    pub basis: Basis,
}

/// Forecasts the spending. The same input gives the same forecast.
pub fn forecast(input: &ForecastInput<'_>) -> Forecast {
    let days = (input.until.since(input.now)).get() as f64 / DAY.get() as f64;
    let look_ahead = if input.budget_left.is_some() { LOOK_AHEAD_DAYS as usize } else { 1 };
    let ahead = look_ahead.max(days.ceil() as usize);
    let history = History::of(input.hourly);
    let mut rng = ChaCha8Rng::seed_from_u64(input.seed);
    let mut totals = Vec::with_capacity(PATHS);
    let mut ends = Vec::with_capacity(PATHS);
    for _ in 0..PATHS {
        let future = one_future(input, history.as_ref(), ahead, &mut rng);
        totals.push(MicroUsd::new((spent_in(&future, days) * 1e6) as u64));
        ends.push(input.budget_left.map_or(f64::INFINITY, |left| runs_out(&future, left.as_dollars())));
    }
    totals.sort_unstable();
    ends.sort_by(f64::total_cmp);
    let over = |left: MicroUsd| totals.iter().filter(|total| **total > left).count() as f64 / PATHS as f64;
    let instant = |days: f64| days.is_finite().then(|| input.now + Millis::new((days * DAY.get() as f64) as u64));
    Forecast {
        spend: range(&totals, |total| total),
        overspend_chance: input.budget_left.map(over),
        exhausted: input.budget_left.map(|_| range(&ends, instant)),
        basis: history.map_or(Basis::KnownOnly, |history| Basis::History { days: history.days }),
    }
}

fn range<T: Copy, U>(sorted: &[T], show: impl Fn(T) -> U) -> Range<U> {
    let at = |share: f64| show(sorted[((sorted.len() - 1) as f64 * share).round() as usize]);
    Range { p10: at(0.1), p50: at(0.5), p90: at(0.9) }
}

/// What each coming day costs, in dollars.
fn one_future(input: &ForecastInput<'_>, history: Option<&History>, days: usize, rng: &mut ChaCha8Rng) -> Vec<f64> {
    let mut future = history.map_or_else(|| vec![0.0; days], |history| history.path(days, rng));
    for (day, known) in known(input, days, rng).into_iter().enumerate() {
        future[day] = future[day].max(known);
    }
    future
}

fn known(input: &ForecastInput<'_>, days: usize, rng: &mut ChaCha8Rng) -> Vec<f64> {
    let mut known = vec![0.0; days];
    let day = DAY.get() as f64;
    for node in input.running {
        let until = node.left.map_or(days as f64, |left| left.get() as f64 / day);
        spread(&mut known, 0.0, until, node.price.cost_of(DAY).as_dollars() * until);
    }
    for job in input.queued {
        let start = job.starts_in.get() as f64 / day;
        spread(&mut known, start, start + job.lasts.get() as f64 / day, log_normal(job, rng));
    }
    known
}

/// Adds an amount to the days from `start` to `end`, evenly. What lies beyond the last day is left out.
fn spread(days: &mut [f64], start: f64, end: f64, amount: f64) {
    let length = (end - start).max(1e-9);
    for (day, known) in days.iter_mut().enumerate() {
        let overlap = (end.min(day as f64 + 1.0) - start.max(day as f64)).max(0.0);
        *known += amount * overlap / length;
    }
}

/// A draw whose median is the P50 and whose 95th percentile is the P95 (1.645 standard deviations above).
fn log_normal(job: &QueuedSpend, rng: &mut ChaCha8Rng) -> f64 {
    let (p50, p95) = (job.p50.as_dollars(), job.p95.max(job.p50).as_dollars());
    if p50 <= 0.0 {
        return 0.0;
    }
    // Box and Muller, 1958; one of the pair.
    let (u, v) = (1.0 - rng.random::<f64>(), rng.random::<f64>());
    let normal = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
    p50 * (normal * (p95 / p50).ln() / 1.645).exp()
}

fn spent_in(future: &[f64], days: f64) -> f64 {
    let whole = days.floor() as usize;
    let part = future.get(whole).copied().unwrap_or_default() * days.fract();
    future.iter().take(whole).sum::<f64>() + part
}

/// After how many days `left` is spent.
fn runs_out(future: &[f64], left: f64) -> f64 {
    let mut spent = 0.0;
    for (day, amount) in future.iter().enumerate() {
        if spent + amount > left {
            return day as f64 + (left - spent).max(0.0) / amount;
        }
        spent += amount;
    }
    f64::INFINITY
}

/// What is learned from the past.
struct History {
    level: Level,
    /// The factor of each day of a week, the first is that of the first day ahead.
    week: [f64; 7],
    days: usize,
}

impl History {
    /// `None` if there is less than a week of it.
    fn of(hourly: &[MicroUsd]) -> Option<Self> {
        let dollars = |hours: &[MicroUsd]| hours.iter().map(|amount| amount.as_dollars()).sum::<f64>();
        let mut daily: Vec<f64> = hourly.rchunks_exact(24).map(dollars).collect();
        daily.reverse();
        let days = daily.len();
        if days < HISTORY_DAYS_MIN {
            return None;
        }
        let week = week(&daily);
        let flat: Vec<f64> = daily.iter().enumerate().map(|(day, amount)| amount / week[phase(day, days)]).collect();
        Level::fit(&flat).map(|level| Self { level, week, days })
    }

    fn path(&self, days: usize, rng: &mut ChaCha8Rng) -> Vec<f64> {
        let path = self.level.path(days, rng);
        path.into_iter().enumerate().map(|(day, amount)| amount * self.week[day % 7]).collect()
    }
}

/// The place in the week of a day of the past, where the first day ahead has place 0.
fn phase(day: usize, days: usize) -> usize {
    (7 - (days - day) % 7) % 7
}

/// The factors of the days of a week; all 1 unless days a week apart are alike beyond chance (the autocorrelation at lag
/// 7 is above Bartlett's bound, 2/√n).
fn week(daily: &[f64]) -> [f64; 7] {
    let n = daily.len();
    let mean = daily.iter().sum::<f64>() / n as f64;
    let off = |day: usize| daily[day] - mean;
    let variance: f64 = (0..n).map(|day| off(day) * off(day)).sum();
    let weekly: f64 = (7..n).map(|day| off(day) * off(day - 7)).sum();
    if n < WEEKLY_DAYS_MIN || mean <= 0.0 || weekly <= variance * 2.0 / (n as f64).sqrt() {
        return [1.0; 7];
    }
    let mut factors = [0.0; 7];
    let mut counts = [0.0; 7];
    for (day, amount) in daily.iter().enumerate() {
        factors[phase(day, n)] += amount / mean;
        counts[phase(day, n)] += 1.0;
    }
    // A weekday on which nothing was ever spent keeps a small factor, so that it can be divided by.
    std::array::from_fn(|place| (factors[place] / counts[place]).max(0.01))
}

#[cfg(test)]
mod tests;
