//! Turning sizes into GPUs: which nodes each job gets, moving as few running jobs as possible.
//!
//! Larger jobs are seated first and prefer nodes that no smaller job wants to keep. Sizes that are powers of two within a
//! node, or whole nodes, then always fit; other gangs may be spread over more nodes, or wait.

use super::view::{GpuTypeView, Placement, Shape};

/// A job to seat.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wish {
    /// The size it is to have.
    pub(super) shape: Shape,
    /// What it holds now.
    pub(super) held: Option<Placement>,
}

impl Wish {
    fn keeps(&self) -> Option<&Placement> {
        self.held.as_ref().filter(|held| {
            let shape = held.shape();
            (shape.gpu_type, shape.gpus) == (self.shape.gpu_type, self.shape.gpus)
        })
    }
}

struct Node {
    free: u32,
    /// GPUs that jobs not yet seated would like to keep.
    wanted: u32,
}

/// Seats every wish, in the order given among equals; `None` for those that do not fit.
pub(super) fn seat(gpu_types: &[GpuTypeView], wishes: &[Wish]) -> Vec<Option<Placement>> {
    let mut nodes: Vec<Vec<Node>> = gpu_types
        .iter()
        .map(|gpu| (0..gpu.nodes).map(|_| Node { free: gpu.gpus_per_node, wanted: 0 }).collect())
        .collect();
    for (node, gpus, of_type) in wishes.iter().filter_map(Wish::keeps).flat_map(seats) {
        if let Some(node) = nodes[of_type].get_mut(node) {
            node.wanted += gpus;
        }
    }
    let mut order: Vec<usize> = (0..wishes.len()).collect();
    order.sort_by_key(|index| {
        let wish = &wishes[*index];
        (std::cmp::Reverse(wish.shape.gpus), wish.keeps().is_none())
    });
    let mut seated = vec![None; wishes.len()];
    for index in order {
        let wish = &wishes[index];
        let of_type = wish.shape.gpu_type.0;
        let Some(nodes) = nodes.get_mut(of_type) else { continue };
        if let Some(kept) = wish.keeps() {
            for (node, gpus, _) in seats(kept) {
                nodes[node].wanted -= gpus;
            }
            if kept.nodes.iter().all(|(node, gpus)| nodes[*node as usize].free >= *gpus) {
                seated[index] = Some(take(nodes, kept.clone()));
                continue;
            }
        }
        seated[index] = find(&gpu_types[of_type], nodes, wish.shape).map(|placement| take(nodes, placement));
    }
    seated
}

fn seats(placement: &Placement) -> impl Iterator<Item = (usize, u32, usize)> + '_ {
    placement.nodes.iter().map(|(node, gpus)| (*node as usize, *gpus, placement.gpu_type.0))
}

fn take(nodes: &mut [Node], placement: Placement) -> Placement {
    for (node, gpus) in &placement.nodes {
        nodes[*node as usize].free -= gpus;
    }
    placement
}

/// The nodes that disturb least: whole ones that nobody wants, the rest where it fits tightest.
fn find(gpu: &GpuTypeView, nodes: &[Node], shape: Shape) -> Option<Placement> {
    let (whole, rest) = (shape.gpus / gpu.gpus_per_node, shape.gpus % gpu.gpus_per_node);
    let mut empty: Vec<(u32, u32)> =
        (0..).zip(nodes).filter(|(_, node)| node.free == gpu.gpus_per_node).map(|(n, node)| (node.wanted, n)).collect();
    empty.sort_unstable();
    if empty.len() < whole as usize {
        return scatter(gpu, nodes, shape);
    }
    let mut found: Vec<(u32, u32)> = empty.iter().take(whole as usize).map(|node| (node.1, gpu.gpus_per_node)).collect();
    if rest > 0 {
        let used = |number: u32| found.iter().any(|node| node.0 == number);
        let fits = (0..).zip(nodes).filter(|(number, node)| node.free >= rest && !used(*number));
        let disturbs = |node: &Node| rest.saturating_sub(node.free.saturating_sub(node.wanted));
        match fits.min_by_key(|(number, node)| (disturbs(node), node.free, *number)) {
            Some((number, _)) => found.push((number, rest)),
            None => return scatter(gpu, nodes, shape),
        }
    }
    found.sort_unstable();
    Some(Placement { gpu_type: shape.gpu_type, nodes: found })
}

/// Any free GPUs, fullest nodes first, if a job may span so many.
fn scatter(gpu: &GpuTypeView, nodes: &[Node], shape: Shape) -> Option<Placement> {
    let mut order: Vec<(u32, u32)> = (0..).zip(nodes).map(|(number, node)| (number, node.free)).collect();
    order.sort_by_key(|(number, free)| (std::cmp::Reverse(*free), *number));
    let mut left = shape.gpus;
    let mut found = Vec::new();
    for (number, free) in order {
        let gpus = free.min(left);
        if gpus > 0 {
            found.push((number, gpus));
            left -= gpus;
        }
    }
    found.sort_unstable();
    let fits = left == 0 && found.len() <= gpu.nodes_per_job_max as usize;
    fits.then_some(Placement { gpu_type: shape.gpu_type, nodes: found })
}
