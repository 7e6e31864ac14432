//! Adding up gradients along the fixed tree, wherever its parts come from.
//!
//! A trainer adds what lies below each node of its cover ([`reduce_block`]); the parameter server goes on from these
//! nodes to the root ([`Reducer`]). Both add the right child to the left one, so the bits of the sum depend on the tree
//! alone (invariant 6).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use neap_scheduler::elastic::{ReductionTree, ShardRange, TreeNode};

use crate::wide::wide;

/// Memory that holds floats, whoever owns it: a vector of this process, or a received payload.
pub trait Floats: Send {
    /// The values.
    fn values(&self) -> &[f32];
    /// The values, to be changed in place.
    fn values_mut(&mut self) -> &mut [f32];
    /// The vector behind it, where there is one that can be used again.
    fn into_vec(self: Box<Self>) -> Option<Vec<f32>>;
}

impl Floats for Vec<f32> {
    fn values(&self) -> &[f32] {
        self
    }

    fn values_mut(&mut self) -> &mut [f32] {
        self
    }

    fn into_vec(self: Box<Self>) -> Option<Vec<f32>> {
        Some(*self)
    }
}

/// The sum of the gradients of one node, with the losses and the sample ids below it in shard order.
pub struct Part<F> {
    /// Sum of gradients.
    pub gradient: F,
    /// Sum of losses of each shard.
    pub losses: Vec<f64>,
    /// The samples used.
    pub samples: Vec<u32>,
}

/// Buffers that are used again, so that a step asks the system for no memory. Trainer and parameter server of one
/// process share them.
#[derive(Debug, Clone, Default)]
pub struct Buffers(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    free: Vec<Vec<f32>>,
    /// In the hands of the transport until it drops its reference.
    lent: Vec<Arc<Vec<f32>>>,
}

/// Buffers that wait to be used again; more are given back to the system.
const BUFFERS_MAX: usize = 16;

impl Buffers {
    /// A buffer of `length` values, whatever they are.
    pub fn take(&self, length: usize) -> Vec<f32> {
        let mut buffer = self.kept().reuse().unwrap_or_default();
        buffer.resize(length, 0.0);
        buffer
    }

    /// Gives a buffer back.
    pub fn put(&self, buffer: Vec<f32>) {
        let mut kept = self.kept();
        if kept.free.len() < BUFFERS_MAX {
            kept.free.push(buffer);
        }
    }

    /// Shares a buffer; it is used again once nobody else holds it.
    pub fn lend(&self, buffer: Vec<f32>) -> Arc<Vec<f32>> {
        let shared = Arc::new(buffer);
        let mut kept = self.kept();
        if kept.lent.len() < BUFFERS_MAX {
            kept.lent.push(shared.clone());
        }
        shared
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn reuse(&mut self) -> Option<Vec<f32>> {
        self.free.pop().or_else(|| {
            let at = self.lent.iter().position(|shared| Arc::strong_count(shared) == 1)?;
            Arc::into_inner(self.lent.swap_remove(at))
        })
    }
}

/// Where the gradients of logical shards come from.
pub trait Leaves {
    /// The gradient of one shard. Shards are asked for in order, each once.
    fn make(&mut self, shard: u32, buffers: &Buffers) -> Part<Vec<f32>>;

    /// Adds the gradient of one shard to the sum of those before it; may save the way through a buffer of its own.
    fn add(&mut self, shard: u32, buffers: &Buffers, sum: &mut Part<Vec<f32>>) {
        let part = self.make(shard, buffers);
        add_part(sum, part, buffers);
    }
}

/// Adds up the shards of `block` as far as the tree allows.
pub fn reduce_block(
    tree: ReductionTree,
    block: ShardRange,
    buffers: &Buffers,
    leaves: &mut dyn Leaves,
) -> Vec<(TreeNode, Part<Vec<f32>>)> {
    let nodes = tree.cover(block).into_iter();
    nodes.map(|node| (node, reduce_node(tree, node, buffers, leaves))).collect()
}

fn reduce_node(tree: ReductionTree, node: TreeNode, buffers: &Buffers, leaves: &mut dyn Leaves) -> Part<Vec<f32>> {
    let Some((left, right)) = tree.children(node) else { return leaves.make(node.index, buffers) };
    let mut sum = reduce_node(tree, left, buffers, leaves);
    match right {
        Some(TreeNode { level: 0, index }) => leaves.add(index, buffers, &mut sum),
        Some(right) => {
            let part = reduce_node(tree, right, buffers, leaves);
            add_part(&mut sum, part, buffers);
        }
        None => {}
    }
    sum
}

fn add_part(sum: &mut Part<Vec<f32>>, part: Part<Vec<f32>>, buffers: &Buffers) {
    add(&mut sum.gradient, &part.gradient);
    sum.losses.extend(part.losses);
    sum.samples.extend(part.samples);
    buffers.put(part.gradient);
}

/// The parts of one step that have come in, added up as far as they go.
pub struct Reducer {
    tree: ReductionTree,
    parts: BTreeMap<TreeNode, Part<Box<dyn Floats>>>,
}

impl Reducer {
    /// Nothing has come in yet.
    pub fn new(tree: ReductionTree) -> Self {
        Self { tree, parts: BTreeMap::new() }
    }

    /// Forgets what has come in.
    pub fn clear(&mut self, buffers: &Buffers) {
        let parts = std::mem::take(&mut self.parts).into_values();
        parts.filter_map(|part| part.gradient.into_vec()).for_each(|buffer| buffers.put(buffer));
    }

    /// Takes a part in and adds siblings while there are any. Returns the sum of everything once it is complete.
    pub fn insert(
        &mut self,
        node: TreeNode,
        part: Part<Box<dyn Floats>>,
        buffers: &Buffers,
    ) -> Option<Part<Box<dyn Floats>>> {
        let (mut node, mut part) = (node, part);
        while node != self.tree.root() {
            let parent = self.tree.parent(node);
            let Some((left, right)) = self.tree.children(parent) else { unreachable!("a parent is no leaf") };
            match right {
                Some(right) => {
                    let sibling = if node == left { right } else { left };
                    let Some(other) = self.parts.remove(&sibling) else {
                        self.parts.insert(node, part);
                        return None;
                    };
                    let (mut sum, right) = if node == left { (part, other) } else { (other, part) };
                    add(sum.gradient.values_mut(), right.gradient.values());
                    sum.losses.extend(right.losses);
                    sum.samples.extend(right.samples);
                    right.gradient.into_vec().into_iter().for_each(|buffer| buffers.put(buffer));
                    part = sum;
                }
                // Beyond the last shard there is nothing: the parent is its left child.
                None => debug_assert_eq!(node, left),
            }
            node = parent;
        }
        Some(part)
    }
}

/// Adds `more` to `sum`, value by value.
pub(crate) fn add(sum: &mut [f32], more: &[f32]) {
    assert_eq!(sum.len(), more.len(), "gradients are checked where they come in");
    wide(|| sum.iter_mut().zip(more).for_each(|(sum, value)| *sum += value));
}

#[cfg(test)]
mod tests {
    use neap_scheduler::elastic::assign;
    use proptest::prelude::*;

    use super::*;

    struct Values<'a>(&'a [f32]);

    impl Leaves for Values<'_> {
        fn make(&mut self, shard: u32, _: &Buffers) -> Part<Vec<f32>> {
            let value = self.0[shard as usize];
            Part {
                gradient: vec![value, -value],
                losses: vec![f64::from(shard)],
                samples: vec![shard * 2, shard * 2 + 1],
            }
        }
    }

    proptest! {
        #[test]
        fn the_sum_is_the_same_bits_for_any_workers_in_any_order(
            values in prop::collection::vec(-1.0e3f32..1.0e3, 1..20),
            workers in 1u32..8,
            turn in 0usize..8,
        ) {
            let shards = values.len() as u32;
            let tree = ReductionTree::new(shards);
            let buffers = Buffers::default();
            let all = ShardRange { start: 0, end: shards };
            let alone = reduce_block(tree, all, &buffers, &mut Values(&values)).remove(0).1;
            let mut sent: Vec<_> = assign(shards, workers)
                .into_iter()
                .flat_map(|block| reduce_block(tree, block, &buffers, &mut Values(&values)))
                .collect();
            let turn = turn % sent.len();
            sent.rotate_left(turn);
            let mut reducer = Reducer::new(tree);
            let mut root = None;
            for (node, part) in sent {
                prop_assert!(root.is_none());
                let gradient: Box<dyn Floats> = Box::new(part.gradient);
                let part = Part { gradient, losses: part.losses, samples: part.samples };
                root = reducer.insert(node, part, &buffers);
            }
            let root = root.unwrap();
            prop_assert_eq!(root.gradient.values()[0].to_bits(), alone.gradient[0].to_bits());
            prop_assert_eq!(root.gradient.values()[1].to_bits(), alone.gradient[1].to_bits());
            prop_assert_eq!(root.samples, (0..shards * 2).collect::<Vec<_>>());
            prop_assert_eq!(root.losses, (0..shards).map(f64::from).collect::<Vec<_>>());
        }
    }
}
