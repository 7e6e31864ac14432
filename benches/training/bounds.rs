//! What the figures are held against.

use std::fmt;

use crate::plan::{self, Mode, ModelRow, SIZES, Size};
use crate::results::{Part, Results, figure};

/// A ratio beside a row, and what it has to be.
pub(crate) struct Bound {
    pub(crate) row: String,
    text: String,
    /// Nothing where one of its figures is missing.
    value: Option<f64>,
    limit: Limit,
}

#[derive(Clone, Copy)]
enum Limit {
    AtLeast(f64),
    AtMost(f64),
    /// Only shown.
    None,
}

impl Bound {
    fn new(row: impl fmt::Display, text: impl Into<String>, value: Option<f64>, limit: Limit) -> Self {
        Self { row: row.to_string(), text: text.into(), value, limit }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(value) = self.value else { return write!(f, "{}: **NOT MEASURED**", self.text) };
        write!(f, "{} {}", figure(value), self.text)?;
        let (sign, limit, holds) = match self.limit {
            Limit::AtLeast(least) => ("≥", least, value >= least),
            Limit::AtMost(most) => ("≤", most, value <= most),
            Limit::None => return Ok(()),
        };
        write!(f, " ({sign} {limit}: **{}**)", if holds { "met" } else { "missed" })
    }
}

/// The bounds of a part. What is only shown is left out where a figure for it is missing.
pub(crate) fn of(part: Part, results: &Results) -> Vec<Bound> {
    let mut bounds = match part {
        Part::Mlp | Part::Cnn => of_model(part, results),
        Part::Rounds => SIZES.iter().flat_map(|size| of_rounds(size, results)).collect(),
        Part::Quinn => of_quinn(results),
        // They lie with the measurement, which fails above them.
        Part::Memory => Vec::new(),
    };
    bounds.retain(|bound| bound.value.is_some() || !matches!(bound.limit, Limit::None));
    bounds
}

fn ratio(value: Option<f64>, to: Option<f64>) -> Option<f64> {
    Some(value? / to?)
}

fn of_model(part: Part, results: &Results) -> Vec<Bound> {
    use Limit::{AtLeast, None};
    use ModelRow::{Alone, Ddp, Half, One, Separate, Shards8, Threads2, Torch, TorchHalf};
    let cpu = |row: ModelRow| results.per_cpu_second(part, row.name());
    let rate = |row: ModelRow| results.rate(part, row.name());
    let share_of_two = |both: ModelRow, one: ModelRow| ratio(rate(both), rate(one)).map(|ratio| ratio / 2.0);
    let mut bounds = vec![
        Bound::new(One, "× burn alone a CPU-second", ratio(cpu(One), cpu(Alone)), AtLeast(0.9)),
        Bound::new(One, "× the same, goal", ratio(cpu(One), cpu(Alone)), AtLeast(0.95)),
        Bound::new(Shards8, "× one shard a CPU-second", ratio(cpu(Shards8), cpu(One)), None),
    ];
    let against_torch = ratio(cpu(One), cpu(Torch));
    let efficiency = share_of_two(Separate, Half);
    let of_gloo = share_of_two(Ddp, TorchHalf);
    if part == Part::Mlp {
        bounds.extend([
            Bound::new(One, "× PyTorch a CPU-second", against_torch, AtLeast(0.9)),
            Bound::new(One, "× the same, goal", against_torch, AtLeast(1.0)),
            Bound::new(Threads2, "of twice one thread", share_of_two(Threads2, One), AtLeast(0.85)),
            Bound::new(Separate, "× gloo's samples/s", ratio(rate(Separate), rate(Ddp)), AtLeast(1.0)),
            Bound::new(Separate, "of twice one process", efficiency, None),
            Bound::new(Ddp, "of twice one process", of_gloo, None),
        ]);
    } else {
        bounds.extend([
            Bound::new(One, "× PyTorch a CPU-second", against_torch, None),
            Bound::new(Threads2, "of twice one thread", share_of_two(Threads2, One), AtLeast(0.9)),
            Bound::new(Separate, "of twice one process", efficiency, None),
            Bound::new(Separate, "× gloo's share", ratio(efficiency, of_gloo), AtLeast(1.0)),
            Bound::new(Ddp, "of twice one process", of_gloo, None),
        ]);
    }
    bounds
}

fn of_rounds(size: &Size, results: &Results) -> Vec<Bound> {
    let part = Part::Rounds;
    let beyond = |row: &str, alone: String| Some(results.cpu_ms(part, row)? - results.cpu_ms(part, &alone)?);
    // Parameters go one way and a gradient the other.
    let plain = results.cpu_ms(Part::Quinn, plan::PLAIN).map(|payload| 2.0 * payload);
    let plain = plain.filter(|_| size.gradient_fills_cores);
    let of_mode = |mode: Mode| {
        let (ours, rays) = (size.ours(mode), size.rays(mode));
        let times = ratio(results.rate(part, &ours), results.rate(part, &rays));
        let own = beyond(&ours, size.our_gradient());
        let peers = beyond(&rays, size.rays_gradient());
        let half = if size.gradient_fills_cores { Limit::AtMost(0.5) } else { Limit::None };
        [
            Bound::new(&ours, "× Ray's rounds/s", times, Limit::AtLeast(size.least_against_ray)),
            Bound::new(&ours, "CPU ms beyond the gradient", own, Limit::None),
            Bound::new(&ours, "× Ray's CPU beyond the gradient", ratio(own, peers), half),
            Bound::new(&ours, "× what plain quinn takes for these bytes", ratio(own, plain), Limit::None),
            Bound::new(&rays, "CPU ms beyond the gradient", peers, Limit::None),
        ]
    };
    [Mode::Sync, Mode::Async].into_iter().flat_map(of_mode).collect()
}

fn of_quinn(results: &Results) -> Vec<Bound> {
    let rate = |row| results.rate(Part::Quinn, row);
    let ratio = ratio(rate(plan::PUSH_PULL), rate(plan::PLAIN));
    vec![Bound::new(plan::PUSH_PULL, "× plain quinn", ratio, Limit::AtLeast(0.85))]
}
