//! Measured times of one training iteration: what an application really achieves on a placement.
//!
//! This is ground truth of the simulator: a policy never sees it. An application has one [`ThroughputTable`] for each
//! GPU type. A placement that was measured is interpolated linearly over the local batch; any other one is interpolated
//! between measured numbers of nodes and replicas, along the same number of replicas per node. Source of semantics and
//! data: the simulator of Sia (SOSP'23), which uses a Delaunay interpolation for the second case; ours agrees with it
//! where the two meet measured points.

use std::collections::BTreeMap;

/// What one iteration costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepTime {
    /// A whole iteration with its all-reduce, seconds.
    pub step: f64,
    /// The part that is all-reduce, seconds.
    pub sync: f64,
}

impl StepTime {
    /// The seconds of one iteration with `accumulation` further passes that do not synchronise.
    pub fn iteration(self, accumulation: u32) -> f64 {
        self.step + f64::from(accumulation) * (self.step - self.sync)
    }

    fn between(self, other: Self, part: f64) -> Self {
        Self { step: lerp(self.step, other.step, part), sync: lerp(self.sync, other.sync, part) }
    }
}

fn lerp(from: f64, to: f64, part: f64) -> f64 {
    from + (to - from) * part
}

/// Step times over the local batch, in ascending order of it.
#[derive(Debug, Clone, Default, PartialEq)]
struct Curve(Vec<(u32, StepTime)>);

impl Curve {
    fn insert(&mut self, local_batch: u32, time: StepTime) {
        match self.0.binary_search_by_key(&local_batch, |point| point.0) {
            Ok(found) => self.0[found].1 = time,
            Err(at) => self.0.insert(at, (local_batch, time)),
        }
    }

    fn largest(&self) -> u32 {
        self.0.last().map_or(0, |point| point.0)
    }

    /// Linear between points, and the nearest point beyond the ends.
    fn at(&self, local_batch: u32) -> Option<StepTime> {
        let after = self.0.partition_point(|point| point.0 < local_batch);
        match (after.checked_sub(1).and_then(|before| self.0.get(before)), self.0.get(after)) {
            (Some(low), Some(high)) => {
                Some(low.1.between(high.1, f64::from(local_batch - low.0) / f64::from(high.0 - low.0)))
            }
            (one, other) => one.or(other).map(|point| point.1),
        }
    }
}

/// The measured iterations of one application on one GPU type.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ThroughputTable {
    /// Exact placements: GPUs per node, in the smallest rotation.
    placements: BTreeMap<Vec<u32>, Curve>,
    /// Means over placements of equal nodes and replicas, and the measurements of whole nodes.
    groups: BTreeMap<u32, BTreeMap<u32, Curve>>,
    /// Sums of which `groups` holds the means.
    sums: BTreeMap<(u32, u32, u32), (f64, f64, f64)>,
}

/// The most nodes that were measured; larger placements are looked up as if they had as many.
const NODES_MAX: u32 = 16;

impl ThroughputTable {
    /// Adds a measurement of an exact placement.
    pub fn add_placement(&mut self, gpus_per_node: &[u32], local_batch: u32, time: StepTime) {
        self.placements.entry(smallest_rotation(gpus_per_node)).or_default().insert(local_batch, time);
        let (nodes, replicas) = size(gpus_per_node);
        let sum = self.sums.entry((nodes, replicas, local_batch)).or_insert((0.0, 0.0, 0.0));
        *sum = (sum.0 + 1.0, sum.1 + time.step, sum.2 + time.sync);
        let mean = StepTime { step: sum.1 / sum.0, sync: sum.2 / sum.0 };
        self.groups.entry(nodes).or_default().entry(replicas).or_default().insert(local_batch, mean);
    }

    /// Adds a measurement known only by its numbers of nodes and replicas; means of placements go before it.
    pub fn add_group(&mut self, nodes: u32, replicas: u32, local_batch: u32, time: StepTime) {
        if !self.sums.contains_key(&(nodes, replicas, local_batch)) {
            self.groups.entry(nodes).or_default().entry(replicas).or_default().insert(local_batch, time);
        }
    }

    /// The largest local batch measured on a placement: what fits into memory there. Zero where nothing is known.
    pub fn largest_local_batch(&self, gpus_per_node: &[u32]) -> u32 {
        if let Some(curve) = self.placements.get(&smallest_rotation(gpus_per_node)) {
            return curve.largest();
        }
        let (nodes, replicas) = size(gpus_per_node);
        let larger = self.groups.range(nodes..).flat_map(|(_, group)| group.range(replicas..));
        let largest = larger.map(|(_, curve)| curve.largest()).max();
        largest.or_else(|| self.groups.values().flat_map(BTreeMap::values).map(Curve::largest).max()).unwrap_or(0)
    }

    /// The time of an iteration, or `None` where nothing at all was measured.
    pub fn step_time(&self, gpus_per_node: &[u32], local_batch: u32) -> Option<StepTime> {
        if let Some(curve) = self.placements.get(&smallest_rotation(gpus_per_node)) {
            return curve.at(local_batch);
        }
        let (nodes, replicas) = size(gpus_per_node);
        let per_node = f64::from(replicas) / f64::from(nodes);
        let nodes = nodes.min(NODES_MAX);
        let low = self.groups.range(..=nodes).next_back();
        let high = self.groups.range(nodes..).next();
        let at = |(count, group): (&u32, &BTreeMap<u32, Curve>)| {
            Some((*count, over_replicas(group, per_node * f64::from(*count), local_batch)?))
        };
        match (low.and_then(at), high.and_then(at)) {
            (Some(low), Some(high)) if low.0 < high.0 => {
                Some(low.1.between(high.1, f64::from(nodes - low.0) / f64::from(high.0 - low.0)))
            }
            (one, other) => one.or(other).map(|point| point.1),
        }
    }

    /// The measurements on one GPU: what a job's own first profile would show.
    pub fn one_gpu(&self) -> Vec<(u32, StepTime)> {
        self.placements.get([1].as_slice()).map(|curve| curve.0.clone()).unwrap_or_default()
    }
}

fn over_replicas(group: &BTreeMap<u32, Curve>, replicas: f64, local_batch: u32) -> Option<StepTime> {
    let low = group.iter().rev().find(|(count, _)| f64::from(**count) <= replicas);
    let high = group.iter().find(|(count, _)| f64::from(**count) >= replicas);
    let at = |(count, curve): (&u32, &Curve)| Some((f64::from(*count), curve.at(local_batch)?));
    match (low.and_then(at), high.and_then(at)) {
        (Some(low), Some(high)) if low.0 < high.0 => Some(low.1.between(high.1, (replicas - low.0) / (high.0 - low.0))),
        (one, other) => one.or(other).map(|point| point.1),
    }
}

/// Nodes and replicas of a placement.
pub(super) fn size(gpus_per_node: &[u32]) -> (u32, u32) {
    let nodes = u32::try_from(gpus_per_node.len()).unwrap_or(u32::MAX);
    (nodes, gpus_per_node.iter().sum())
}

fn smallest_rotation(gpus_per_node: &[u32]) -> Vec<u32> {
    let rotations = (0..gpus_per_node.len()).map(|start| {
        let mut rotated = gpus_per_node.to_vec();
        rotated.rotate_left(start);
        rotated
    });
    rotations.min().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(step: f64) -> StepTime {
        StepTime { step, sync: step / 2.0 }
    }

    fn table() -> ThroughputTable {
        let mut table = ThroughputTable::default();
        table.add_placement(&[1], 10, time(1.0));
        table.add_placement(&[1], 20, time(2.0));
        table.add_placement(&[1, 2], 10, time(3.0));
        table.add_placement(&[4, 4, 4, 4], 10, time(4.0));
        table.add_group(6, 24, 10, time(6.0));
        table
    }

    #[test]
    fn a_measured_placement_is_linear_over_the_local_batch() {
        let table = table();
        assert_eq!(table.step_time(&[1], 15), Some(time(1.5)));
        assert_eq!(table.step_time(&[1], 99), Some(time(2.0)));
        assert_eq!(table.step_time(&[2, 1], 10), Some(time(3.0)), "rotations are one placement");
        assert_eq!((table.largest_local_batch(&[1]), table.largest_local_batch(&[2, 1])), (20, 10));
    }

    #[test]
    fn other_placements_lie_between_measured_sizes() {
        let table = table();
        assert_eq!(table.step_time(&[4; 5], 10), Some(time(5.0)));
        assert_eq!(table.step_time(&[4; 6], 10), Some(time(6.0)));
        assert_eq!(table.step_time(&[4; 40], 10), Some(time(6.0)), "beyond what was measured: the largest");
        assert_eq!(ThroughputTable::default().step_time(&[1], 1), None);
    }

    #[test]
    fn accumulation_repeats_the_part_without_synchronisation() {
        assert_eq!(time(2.0).iteration(3), 5.0);
    }
}
