//! A model of the time of an iteration, fitted online to what was seen.
//!
//! Jobs of one declared application share what they see. Compute time comes from the first profile on one GPU; the time
//! of the gradient exchange comes from observed iterations. The two overlap: an iteration takes `sqrt(compute² +
//! exchange²)`, Pollux's (OSDI'21) model with its overlap exponent held at 2, at which one exchange time explains all
//! local batches of a placement best. Where a shape was never seen, its exchange time is extended from shapes that were:
//! the same kind of link on the same GPU type, then on other GPU types, then the optimist's guess that drives exploration.

use std::collections::BTreeMap;

use super::view::{AppOnType, AppView, Shape};

/// How much longer an exchange between nodes is taken to be than one within a node, before any was seen.
const UNSEEN_LINK_FACTOR: f64 = 2.0;

/// What is known of one application's iterations.
#[derive(Debug, Clone, Default)]
pub(super) struct StepTimeModel {
    seen: BTreeMap<Shape, BTreeMap<u32, f64>>,
    /// Grows with everything new that is learnt.
    version: u64,
}

/// Which wires gradients are exchanged over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    None,
    InNode,
    BetweenNodes,
}

impl Link {
    fn of(shape: Shape) -> Self {
        match (shape.nodes, shape.gpus) {
            (_, 0 | 1) => Self::None,
            (0 | 1, _) => Self::InNode,
            _ => Self::BetweenNodes,
        }
    }
}

impl StepTimeModel {
    /// Learns the time of an iteration.
    pub(super) fn see(&mut self, shape: Shape, local_batch: u32, step_seconds: f64) {
        if step_seconds > 0.0
            && step_seconds.is_finite()
            && self.seen.entry(shape).or_default().insert(local_batch, step_seconds) != Some(step_seconds)
        {
            self.version += 1;
        }
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// The most GPUs any job of this application was seen on.
    pub(super) fn gpus_seen_max(&self) -> u32 {
        self.seen.keys().map(|shape| shape.gpus).max().unwrap_or(0)
    }

    /// Predictions for one shape.
    pub(super) fn on<'a>(&'a self, app: &'a AppView, shape: Shape) -> Option<StepTimes<'a>> {
        let on = app.by_type.get(shape.gpu_type.0)?.as_ref()?;
        let exchange = match self.seen.get(&shape) {
            _ if shape.gpus == 1 => Vec::new(),
            Some(seen) => exchanges(on, seen),
            None => vec![(0, self.unseen_exchange(app, shape))],
        };
        Some(StepTimes { on, exchange, seen: self.seen.get(&shape) })
    }

    fn unseen_exchange(&self, app: &AppView, shape: Shape) -> f64 {
        let link = Link::of(shape);
        let same_type = self.line(app, link, |seen| seen.gpu_type == shape.gpu_type);
        let any_type = || self.line(app, link, |_| true);
        let in_node = || {
            let guess = self.line(app, Link::InNode, |seen| seen.gpu_type == shape.gpu_type);
            guess.or_else(|| self.line(app, Link::InNode, |_| true)).map(|line| line.scaled(UNSEEN_LINK_FACTOR))
        };
        same_type.or_else(any_type).or_else(in_node).map_or(0.0, |line| line.at(shape.gpus))
    }

    /// Exchange time over the number of GPUs, by least squares over the shapes seen with such a link.
    fn line(&self, app: &AppView, link: Link, takes: impl Fn(&Shape) -> bool) -> Option<Line> {
        let points: Vec<(f64, f64)> = self
            .seen
            .iter()
            .filter(|(shape, _)| Link::of(**shape) == link && takes(shape))
            .filter_map(|(shape, seen)| {
                let on = app.by_type.get(shape.gpu_type.0)?.as_ref()?;
                let exchanges = exchanges(on, seen);
                let mean = exchanges.iter().map(|point| point.1).sum::<f64>() / exchanges.len() as f64;
                Some((f64::from(shape.gpus), mean))
            })
            .collect();
        Line::through(&points)
    }
}

/// Exchange time by local batch, as the observed iterations of one shape imply it.
fn exchanges(on: &AppOnType, seen: &BTreeMap<u32, f64>) -> Vec<(u32, f64)> {
    let exchange = |(local, step): (&u32, &f64)| {
        let compute = profiled(&on.profile, *local);
        (*local, (step * step - compute * compute).max(0.0).sqrt())
    };
    seen.iter().map(exchange).collect()
}

/// A straight line that never falls.
#[derive(Debug, Clone, Copy)]
struct Line {
    at_zero: f64,
    slope: f64,
}

impl Line {
    fn through(points: &[(f64, f64)]) -> Option<Self> {
        let count = points.len() as f64;
        if points.is_empty() {
            return None;
        }
        let mean_x = points.iter().map(|point| point.0).sum::<f64>() / count;
        let mean_y = points.iter().map(|point| point.1).sum::<f64>() / count;
        let spread: f64 = points.iter().map(|point| (point.0 - mean_x).powi(2)).sum();
        let common: f64 = points.iter().map(|point| (point.0 - mean_x) * (point.1 - mean_y)).sum();
        let slope = if spread > 0.0 { (common / spread).max(0.0) } else { 0.0 };
        Some(Self { at_zero: mean_y - slope * mean_x, slope })
    }

    fn scaled(self, factor: f64) -> Self {
        Self { at_zero: self.at_zero * factor, slope: self.slope * factor }
    }

    fn at(self, gpus: u32) -> f64 {
        (self.at_zero + self.slope * f64::from(gpus)).max(0.0)
    }
}

/// The times of iterations on one shape, by local batch.
pub(super) struct StepTimes<'a> {
    on: &'a AppOnType,
    exchange: Vec<(u32, f64)>,
    seen: Option<&'a BTreeMap<u32, f64>>,
}

impl StepTimes<'_> {
    /// Seconds of an iteration with this batch on every GPU and `accumulation` further passes.
    pub(super) fn iteration(&self, local: u32, accumulation: u32) -> f64 {
        let compute = profiled(&self.on.profile, local);
        let step = self.seen.and_then(|seen| seen.get(&local)).copied();
        let step = step.unwrap_or_else(|| compute.hypot(profiled(&self.exchange, local)));
        step + f64::from(accumulation) * compute.min(step)
    }
}

/// Linear between points; proportional to the nearest one's value beyond the ends is not needed, so constant there.
fn profiled(points: &[(u32, f64)], at: u32) -> f64 {
    let after = points.partition_point(|point| point.0 < at);
    match (after.checked_sub(1).and_then(|before| points.get(before)), points.get(after)) {
        (Some(low), Some(high)) => low.1 + (high.1 - low.1) * f64::from(at - low.0) / f64::from(high.0 - low.0),
        (one, other) => one.or(other).map_or(0.0, |point| point.1),
    }
}

#[cfg(test)]
mod tests {
    use super::super::view::GpuTypeIndex;
    use super::*;

    fn app() -> AppView {
        let on = |profile: Vec<(u32, f64)>| Some(AppOnType { local_batch_min: 10, local_batch_max: 100, profile });
        AppView {
            name: "app".to_owned(),
            batch_initial: 10,
            batch_max: 1_000,
            epochs_max: 1,
            restart_seconds: 1.0,
            by_type: vec![on(vec![(10, 3.0), (20, 6.0)]), on(vec![(10, 1.5)]), None],
        }
    }

    fn shape(gpu_type: usize, nodes: u32, gpus: u32) -> Shape {
        Shape { gpu_type: GpuTypeIndex(gpu_type), nodes, gpus }
    }

    fn close(actual: f64, expected: f64) {
        assert!((actual - expected).abs() < 1e-9, "{actual} instead of {expected}");
    }

    #[test]
    fn one_gpu_is_as_profiled_and_accumulation_repeats_the_compute() {
        let (app, model) = (app(), StepTimeModel::default());
        let times = model.on(&app, shape(0, 1, 1)).unwrap();
        close(times.iteration(15, 0), 4.5);
        close(times.iteration(10, 2), 9.0);
        assert!(model.on(&app, shape(2, 1, 1)).is_none(), "it does not run there");
    }

    #[test]
    fn what_was_seen_once_explains_other_batches_and_other_sizes() {
        let app = app();
        let mut model = StepTimeModel::default();
        model.see(shape(0, 1, 2), 10, 5.0);
        close(model.on(&app, shape(0, 1, 2)).unwrap().iteration(10, 0), 5.0);
        close(model.on(&app, shape(0, 1, 2)).unwrap().iteration(20, 0), 6.0_f64.hypot(4.0));
        close(model.on(&app, shape(0, 1, 4)).unwrap().iteration(10, 0), 5.0);
        close(model.on(&app, shape(1, 1, 2)).unwrap().iteration(10, 0), 1.5_f64.hypot(4.0));
        close(model.on(&app, shape(0, 2, 8)).unwrap().iteration(10, 0), 3.0_f64.hypot(8.0));
        assert_eq!(model.gpus_seen_max(), 2);
    }

    #[test]
    fn the_same_again_is_nothing_new() {
        let mut model = StepTimeModel::default();
        model.see(shape(0, 1, 2), 10, 5.0);
        let version = model.version();
        model.see(shape(0, 1, 2), 10, 5.0);
        model.see(shape(0, 1, 2), 10, f64::NAN);
        assert_eq!(model.version(), version);
    }
}
