//! The arithmetic of elasticity: which samples a step uses, who carries which logical shard, and in which order
//! gradients are added. All of it depends on the job alone, never on how many workers there are (invariants 6 and 7).

mod assignment;
mod interval;
mod membership;
mod order;
mod tree;

pub use assignment::{GAIN_PERMILLE_MIN, Load, ShardRange, assign, balance, blocks};
pub use interval::{COST_ASSUMED, INTERVAL_MAX, INTERVAL_MIN, OVERHEAD_MAX, between_losses, checkpoint_interval};
pub use membership::{Candidate, Grouping, group};
pub use order::{SampleOrder, StepSlice};
pub use tree::{ReductionTree, TreeNode};
