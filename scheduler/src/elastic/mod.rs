//! The arithmetic of elasticity: which samples a step uses, who carries which logical shard, and in which order
//! gradients are added. All of it depends on the job alone, never on how many workers there are (invariants 6 and 7).

mod assignment;
mod membership;
mod order;
mod tree;

pub use assignment::{ShardRange, assign};
pub use membership::{Candidate, Grouping, ServerRule, group};
pub use order::{SampleOrder, StepSlice};
pub use tree::{ReductionTree, TreeNode};
