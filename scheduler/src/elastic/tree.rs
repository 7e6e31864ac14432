//! The fixed tree in which the gradients of the logical shards are added.
//!
//! Float addition is not associative, so the tree decides the last bits of the result. It is the complete binary tree
//! over the logical shards: node `(level, index)` covers shards `index·2^level .. (index+1)·2^level`, cut at the number
//! of shards, and is the sum of its left and right child in that order. A node whose right half lies beyond the last
//! shard is its left child, unchanged.

use super::assignment::ShardRange;

/// A node of the tree: level 0 are the logical shards themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreeNode {
    /// Height above the shards.
    pub level: u32,
    /// Position among the nodes of the level.
    pub index: u32,
}

/// The tree over a number of logical shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReductionTree {
    shards: u32,
}

impl ReductionTree {
    /// The tree over `shards` logical shards.
    ///
    /// # Panics
    ///
    /// If there is no shard; a valid job has at least one.
    pub fn new(shards: u32) -> Self {
        assert!(shards > 0, "a valid job has a logical shard");
        Self { shards }
    }

    /// The node whose value is the sum of everything.
    pub fn root(self) -> TreeNode {
        TreeNode { level: self.shards.next_power_of_two().trailing_zeros(), index: 0 }
    }

    /// The shards that a node covers; empty for a node beyond the last shard.
    pub fn covers(self, node: TreeNode) -> ShardRange {
        let width = 1u64 << node.level.min(32);
        let start = (u64::from(node.index) * width).min(u64::from(self.shards)) as u32;
        let end = (u64::from(start) + width).min(u64::from(self.shards)) as u32;
        ShardRange { start, end }
    }

    /// The two nodes that a node is the sum of, in order; the right one is `None` where it covers nothing. `None` for a
    /// leaf.
    pub fn children(self, node: TreeNode) -> Option<(TreeNode, Option<TreeNode>)> {
        let level = node.level.checked_sub(1)?;
        let left = TreeNode { level, index: node.index * 2 };
        let right = TreeNode { level, index: node.index * 2 + 1 };
        Some((left, Some(right).filter(|&right| !self.covers(right).is_empty())))
    }

    /// The node that this one is a part of.
    pub fn parent(self, node: TreeNode) -> TreeNode {
        TreeNode { level: node.level + 1, index: node.index / 2 }
    }

    /// The fewest nodes that together cover exactly a block of shards, left to right: what a worker that carries the
    /// block can add up by itself and has to send.
    pub fn cover(self, block: ShardRange) -> Vec<TreeNode> {
        let mut nodes = Vec::new();
        if !block.is_empty() {
            self.cover_from(self.root(), block, &mut nodes);
        }
        nodes
    }

    fn cover_from(self, node: TreeNode, block: ShardRange, nodes: &mut Vec<TreeNode>) {
        let covers = self.covers(node);
        if covers.is_empty() || covers.end <= block.start || block.end <= covers.start {
            return;
        }
        if block.start <= covers.start && covers.end <= block.end {
            nodes.push(node);
            return;
        }
        if let Some((left, right)) = self.children(node) {
            self.cover_from(left, block, nodes);
            right.into_iter().for_each(|right| self.cover_from(right, block, nodes));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::assignment::assign;
    use super::*;

    /// Adds floats along the tree, starting from whatever nodes are given.
    fn reduce(tree: ReductionTree, node: TreeNode, have: &std::collections::BTreeMap<TreeNode, f32>) -> f32 {
        if let Some(&value) = have.get(&node) {
            return value;
        }
        let (left, right) = tree.children(node).expect("every leaf is covered");
        let left = reduce(tree, left, have);
        right.map_or(left, |right| left + reduce(tree, right, have))
    }

    proptest! {
        #[test]
        fn the_sum_is_the_same_bits_whoever_carries_the_shards(
            values in prop::collection::vec(-1.0e3f32..1.0e3, 1..40),
            workers in 1u32..12,
        ) {
            let tree = ReductionTree::new(values.len() as u32);
            let leaves = values.iter().zip(0..).map(|(&value, index)| (TreeNode { level: 0, index }, value)).collect();
            let alone = reduce(tree, tree.root(), &leaves);
            let mut sent = std::collections::BTreeMap::new();
            for block in assign(values.len() as u32, workers) {
                for node in tree.cover(block) {
                    sent.insert(node, reduce(tree, node, &leaves));
                }
            }
            prop_assert_eq!(reduce(tree, tree.root(), &sent).to_bits(), alone.to_bits());
        }

        #[test]
        fn a_cover_is_exact_and_in_order(shards in 1u32..100, start in 0u32..100, len in 0u32..100) {
            let tree = ReductionTree::new(shards);
            let block = ShardRange { start: start.min(shards), end: (start + len).min(shards) };
            let covered: Vec<u32> = tree.cover(block).into_iter().flat_map(|node| tree.covers(node).iter()).collect();
            prop_assert_eq!(covered, block.iter().collect::<Vec<_>>());
        }
    }
}
