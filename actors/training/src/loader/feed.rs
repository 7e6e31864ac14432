//! Batches of one assignment, prepared ahead of time on a thread of its own.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use neap_runtime::wire::training::DataSet;
use neap_scheduler::elastic::ShardRange;

use super::{FetchError, JobData};
use crate::model::Batch;
use crate::schedule::Schedule;

/// Steps prepared ahead at most.
const STEPS_AHEAD_MAX: usize = 4;

/// Memory for steps prepared ahead; a step that alone needs more is still prepared, one at a time.
const AHEAD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// One step's batches for a block of logical shards.
pub struct StepBatch {
    /// The step, counted from 0 since the start of the job.
    pub step: u64,
    /// Samples of the whole step, over all shards.
    pub step_samples: usize,
    /// The block's shards in order.
    pub shards: Vec<ShardBatch>,
}

/// One logical shard's part of a step; it may be empty in the last step of an epoch.
pub struct ShardBatch {
    /// The ids of the samples.
    pub ids: Vec<u32>,
    /// The samples, in the pieces that are computed one after the other; none where there is no sample.
    pub pieces: Vec<Batch>,
}

/// Why there is no next batch.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// Samples could not be had.
    #[error("failed to load a batch")]
    Fetch(#[from] FetchError),
    /// The thread ended without a word.
    #[error("the data loader's thread has ended")]
    Ended,
}

/// The batches of one assignment, in order. Dropping it ends the thread.
pub struct Feed {
    batches: Receiver<Result<StepBatch, FetchError>>,
}

impl Feed {
    /// Starts to prepare the batches of `block` from `step` on.
    ///
    /// # Errors
    ///
    /// Where the thread cannot be started.
    pub fn start(data: Arc<JobData>, schedule: Schedule, block: ShardRange, step: u64) -> std::io::Result<Self> {
        let samples = schedule.global_batch as usize * block.len() as usize / schedule.logical_shards as usize;
        let bytes = samples * data.facts().shape.len() * size_of::<f32>();
        let ahead = (AHEAD_BYTES_MAX / bytes.max(1)).clamp(1, STEPS_AHEAD_MAX);
        let (sender, batches) = sync_channel(ahead);
        let prepare = move || prepare(&data, &schedule, block, step, &sender);
        std::thread::Builder::new().name("data-loader".to_owned()).spawn(prepare)?;
        Ok(Self { batches })
    }

    /// The next step's batches; waits for them.
    ///
    /// # Errors
    ///
    /// [`FeedError`] where there are none.
    pub fn next(&self) -> Result<StepBatch, FeedError> {
        Ok(self.batches.recv().map_err(|_| FeedError::Ended)??)
    }
}

type Prepared = SyncSender<Result<StepBatch, FetchError>>;

fn prepare(data: &JobData, schedule: &Schedule, block: ShardRange, first: u64, sender: &Prepared) {
    let mut order = schedule.order(schedule.place(first).0);
    for step in first..schedule.steps_total() {
        let (epoch, cursor) = schedule.place(step);
        if cursor == 0 {
            order = schedule.order(epoch);
        }
        let shards = block.iter().map(|shard| {
            let ids = order.ids(order.shard(cursor, shard)).to_vec();
            let pieces = schedule.pieces(&ids).map(|piece| data.batch(DataSet::Train, piece));
            pieces.collect::<Result<Vec<_>, _>>().map(|pieces| ShardBatch { ids, pieces })
        });
        let prepared = shards.collect::<Result<Vec<_>, _>>().map(|shards| StepBatch {
            step,
            step_samples: order.step(cursor).len(),
            shards,
        });
        let failed = prepared.is_err();
        if sender.send(prepared).is_err() || failed {
            return;
        }
    }
}
