//! The batches of a block of logical shards, step after step, whatever the membership.

use std::sync::Arc;

use neap_scheduler::elastic::ShardRange;

use crate::loader::{Feed, FeedError, JobData, StepBatch};
use crate::schedule::Schedule;

/// Batches prepared ahead, as long as the steps follow each other.
pub(crate) struct Batches {
    block: ShardRange,
    /// The batches from `next_step` on.
    feed: Option<Feed>,
    next_step: u64,
}

impl Batches {
    /// Batches of these shards; nothing is prepared before the first one is asked for.
    pub(crate) fn new(block: ShardRange) -> Self {
        Self { block, feed: None, next_step: 0 }
    }

    /// The shards.
    pub(crate) fn block(&self) -> ShardRange {
        self.block
    }

    /// The batches of a step.
    ///
    /// # Errors
    ///
    /// [`FeedError`] where they cannot be had.
    pub(crate) fn next(&mut self, data: &Arc<JobData>, schedule: &Schedule, step: u64) -> Result<StepBatch, FeedError> {
        let feed = match self.feed.take().filter(|_| self.next_step == step) {
            Some(feed) => feed,
            None => Feed::start(data.clone(), *schedule, self.block, step).map_err(|_| FeedError::Ended)?,
        };
        let batch = feed.next()?;
        debug_assert_eq!(batch.step, step);
        self.feed = Some(feed);
        self.next_step = step + 1;
        Ok(batch)
    }
}
