//! Which GPUs of which node are free, and turning sizes into GPUs while moving as few running jobs as possible.
//!
//! [`Seats`] is the free GPUs; [`seat_all`] seats many jobs at once. Larger jobs are seated first and prefer nodes that no
//! smaller job wants to keep. Sizes that are powers of two within a node, or whole nodes, then always fit; other gangs may
//! be spread over more nodes, or wait.

use std::cmp::Reverse;

use super::view::{GpuTypeIndex, GpuTypeView, Placement, Shape};

/// The free GPUs of every node.
#[derive(Debug, Clone)]
pub(super) struct Seats<'a> {
    gpu_types: &'a [GpuTypeView],
    nodes: Vec<Vec<Node>>,
}

#[derive(Debug, Clone)]
struct Node {
    free: u32,
    /// GPUs that running jobs not yet seated would like to keep.
    wanted: u32,
}

impl<'a> Seats<'a> {
    /// An empty cluster.
    pub(super) fn all(gpu_types: &'a [GpuTypeView]) -> Self {
        let empty = |gpu: &GpuTypeView| (0..gpu.nodes).map(|_| Node { free: gpu.gpus_per_node, wanted: 0 }).collect();
        Self { gpu_types, nodes: gpu_types.iter().map(empty).collect() }
    }

    /// The free GPUs of a type.
    pub(super) fn free(&self, gpu_type: GpuTypeIndex) -> u32 {
        self.nodes[gpu_type.0].iter().map(|node| node.free).sum()
    }

    /// Takes exactly these, if all of them are free.
    pub(super) fn take(&mut self, placement: &Placement) -> bool {
        let Some(nodes) = self.nodes.get_mut(placement.gpu_type.0) else { return false };
        let free = |(node, gpus): &(u32, u32)| nodes.get(*node as usize).is_some_and(|node| node.free >= *gpus);
        let fits = placement.nodes.iter().all(free);
        if fits {
            for (node, gpus) in &placement.nodes {
                nodes[*node as usize].free -= gpus;
            }
        }
        fits
    }

    /// Takes so many GPUs on as few nodes as possible, disturbing as little as possible: whole nodes that nobody wants,
    /// the rest where it fits tightest. Where the fewest nodes are not free, more are used, emptiest first.
    pub(super) fn find(&mut self, gpu_type: GpuTypeIndex, gpus: u32) -> Option<Placement> {
        let gpu = self.gpu_types.get(gpu_type.0)?;
        let nodes = self.packed(gpu_type, gpus).or_else(|| self.scattered(gpu_type, gpus))?;
        let placement = Placement { gpu_type, nodes };
        let spans = placement.nodes.len() <= gpu.nodes_per_job_max as usize;
        (spans && self.take(&placement)).then_some(placement)
    }

    fn packed(&self, gpu_type: GpuTypeIndex, gpus: u32) -> Option<Vec<(u32, u32)>> {
        let per_node = self.gpu_types[gpu_type.0].gpus_per_node.max(1);
        let nodes = &self.nodes[gpu_type.0];
        let (whole, rest) = ((gpus / per_node) as usize, gpus % per_node);
        let mut empty: Vec<(u32, u32)> =
            (0..).zip(nodes).filter(|(_, node)| node.free == per_node).map(|(n, node)| (node.wanted, n)).collect();
        if empty.len() < whole || gpus == 0 {
            return None;
        }
        empty.sort_unstable();
        let mut found: Vec<(u32, u32)> = empty.iter().take(whole).map(|node| (node.1, per_node)).collect();
        if rest > 0 {
            let used = |number: u32| found.iter().any(|node| node.0 == number);
            let disturbs = |node: &Node| rest.saturating_sub(node.free.saturating_sub(node.wanted));
            let fits = (0..).zip(nodes).filter(|(number, node)| node.free >= rest && !used(*number));
            let (number, _) = fits.min_by_key(|(number, node)| (disturbs(node), node.free, *number))?;
            found.push((number, rest));
        }
        found.sort_unstable();
        Some(found)
    }

    fn scattered(&self, gpu_type: GpuTypeIndex, gpus: u32) -> Option<Vec<(u32, u32)>> {
        let mut order: Vec<(u32, u32)> = (0..).zip(&self.nodes[gpu_type.0]).map(|(n, node)| (n, node.free)).collect();
        order.sort_by_key(|(number, free)| (Reverse(*free), *number));
        let mut left = gpus;
        let mut found = Vec::new();
        for (number, free) in order {
            let taken = free.min(left);
            if taken > 0 {
                found.push((number, taken));
                left -= taken;
            }
        }
        found.sort_unstable();
        (left == 0 && gpus > 0).then_some(found)
    }

    /// Notes that a running job would like to keep these.
    pub(super) fn want(&mut self, placement: &Placement) {
        for (node, gpus) in &placement.nodes {
            if let Some(node) = self.nodes.get_mut(placement.gpu_type.0).and_then(|of| of.get_mut(*node as usize)) {
                node.wanted += gpus;
            }
        }
    }

    /// Forgets that again: the job is seated now.
    pub(super) fn stop_wanting(&mut self, placement: &Placement) {
        for (node, gpus) in &placement.nodes {
            if let Some(node) = self.nodes.get_mut(placement.gpu_type.0).and_then(|of| of.get_mut(*node as usize)) {
                node.wanted -= gpus;
            }
        }
    }
}

/// A job to seat.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Wish<'a> {
    /// The size it is to have.
    pub(super) shape: Shape,
    /// What it holds now.
    pub(super) held: Option<&'a Placement>,
}

impl<'a> Wish<'a> {
    /// What it holds, if that has the size it is to have.
    fn keeps(&self) -> Option<&'a Placement> {
        let same = |held: &&Placement| (held.gpu_type, held.gpus()) == (self.shape.gpu_type, self.shape.gpus);
        self.held.filter(same)
    }
}

/// Seats every wish, in the order given among equals; `None` for those that do not fit.
pub(super) fn seat_all(gpu_types: &[GpuTypeView], wishes: &[Wish<'_>]) -> Vec<Option<Placement>> {
    let mut seats = Seats::all(gpu_types);
    for kept in wishes.iter().filter_map(Wish::keeps) {
        seats.want(kept);
    }
    let mut order: Vec<usize> = (0..wishes.len()).collect();
    order.sort_by_key(|index| (Reverse(wishes[*index].shape.gpus), wishes[*index].keeps().is_none()));
    let mut seated = vec![None; wishes.len()];
    for index in order {
        let wish = &wishes[index];
        if let Some(kept) = wish.keeps() {
            seats.stop_wanting(kept);
            if seats.take(kept) {
                seated[index] = Some(kept.clone());
                continue;
            }
        }
        seated[index] = seats.find(wish.shape.gpu_type, wish.shape.gpus);
    }
    seated
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types() -> Vec<GpuTypeView> {
        vec![GpuTypeView { name: "t".into(), nodes: 3, gpus_per_node: 4, nodes_per_job_max: 3 }]
    }

    fn shape(gpus: u32) -> Shape {
        Shape { gpu_type: GpuTypeIndex(0), nodes: gpus.div_ceil(4), gpus }
    }

    fn on(nodes: &[(u32, u32)]) -> Placement {
        Placement { gpu_type: GpuTypeIndex(0), nodes: nodes.to_vec() }
    }

    #[test]
    fn whole_nodes_first_and_the_rest_where_it_fits_tightest() {
        let types = types();
        let mut seats = Seats::all(&types);
        assert!(seats.take(&on(&[(0, 2)])));
        assert_eq!(seats.find(GpuTypeIndex(0), 2), Some(on(&[(0, 2)])));
        assert_eq!(seats.find(GpuTypeIndex(0), 6), Some(on(&[(1, 4), (2, 2)])));
        assert_eq!((seats.find(GpuTypeIndex(0), 3), seats.free(GpuTypeIndex(0))), (None, 2));
    }

    #[test]
    fn a_new_job_does_not_disturb_a_running_one_if_it_need_not() {
        let held = on(&[(0, 1)]);
        let wishes = [Wish { shape: shape(1), held: Some(&held) }, Wish { shape: shape(8), held: None }];
        let seated = seat_all(&types(), &wishes);
        assert_eq!(seated, [Some(held.clone()), Some(on(&[(1, 4), (2, 4)]))]);
    }

    #[test]
    fn a_small_job_moves_when_a_large_one_needs_its_node() {
        let held = [on(&[(0, 1)]), on(&[(1, 1)]), on(&[(2, 1)])];
        let mut wishes: Vec<Wish<'_>> = held.iter().map(|held| Wish { shape: shape(1), held: Some(held) }).collect();
        wishes.push(Wish { shape: shape(8), held: None });
        let seated = seat_all(&types(), &wishes);
        assert_eq!(seated[3], Some(on(&[(0, 4), (1, 4)])));
        assert!(seated.iter().all(Option::is_some), "{seated:?}");
    }
}
