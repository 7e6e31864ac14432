//! First come, first served, in strict order: a job that cannot start yet holds back every later one, so that it is never
//! starved by smaller jobs. The default.

use super::rule::Policy;

/// Strict order of acceptance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fifo;

impl Policy for Fifo {
    fn name(&self) -> &'static str {
        "fifo"
    }
}
