//! Batches of one assignment, prepared ahead of time on threads of their own.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use neap_runtime::wire::training::DataSet;
use neap_scheduler::elastic::{SampleOrder, ShardRange};

use super::{FetchError, JobData};
use crate::model::Batch;
use crate::schedule::Schedule;

/// Memory for steps prepared ahead; a step that alone needs more is still prepared, one a thread.
const AHEAD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Epochs whose order is kept: the one that is prepared, the next for the thread that is ahead, and the one after it, which is
/// made meanwhile.
const ORDERS_KEPT: usize = 3;

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

/// The batches of one assignment, in order. Dropping it ends its threads.
pub struct Feed {
    data: Arc<JobData>,
    /// One a thread; thread `t` of `n` prepares the steps `first + t`, `first + t + n` and so on.
    batches: Vec<Receiver<Result<StepBatch, FetchError>>>,
    /// Whose turn it is.
    turn: Mutex<usize>,
}

impl Feed {
    /// Starts to prepare the batches of `block` from `step` on.
    ///
    /// # Errors
    ///
    /// Where a thread cannot be started.
    pub fn start(data: Arc<JobData>, schedule: Schedule, block: ShardRange, step: u64) -> std::io::Result<Self> {
        let samples = schedule.global_batch as usize * block.len() as usize / schedule.logical_shards as usize;
        let bytes = samples * data.facts().shape.len() * size_of::<f32>();
        let ahead = (AHEAD_BYTES_MAX / bytes.max(1)).clamp(1, data.settings().steps_ahead.max(1) as usize);
        let threads = (data.settings().threads.max(1) as usize).min(ahead);
        let orders = Arc::new(Orders::new(schedule));
        let mut batches = Vec::new();
        for thread in 0..threads {
            // One step waits in the thread's hands, the others in its queue.
            let (sender, receiver) = sync_channel(ahead / threads);
            batches.push(receiver);
            let (data, orders) = (data.clone(), orders.clone());
            let steps = Steps { first: step + thread as u64, every: threads };
            let prepare = move || prepare(&data, &orders, block, steps, &sender);
            std::thread::Builder::new().name("data-loader".to_owned()).spawn(prepare)?;
        }
        Ok(Self { data, batches, turn: Mutex::new(0) })
    }

    /// The next step's batches; waits for them.
    ///
    /// # Errors
    ///
    /// [`FeedError`] where there are none.
    pub fn next(&self) -> Result<StepBatch, FeedError> {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = Instant::now();
        let batch = self.batches[*turn].recv().map_err(|_| FeedError::Ended)?;
        self.data.usage().waited(waited.elapsed());
        *turn = (*turn + 1) % self.batches.len();
        Ok(batch?)
    }
}

/// The steps of one thread.
#[derive(Clone, Copy)]
struct Steps {
    first: u64,
    every: usize,
}

/// The orders of epochs, each made once for all threads, and the next one before it is asked for: with many samples it takes
/// longer than the steps that are prepared ahead.
struct Orders {
    schedule: Schedule,
    known: Mutex<Vec<(u32, Made)>>,
}

/// An order that is there, is being made, or will be made by whoever needs it first.
type Made = Arc<OnceLock<Arc<SampleOrder>>>;

impl Orders {
    fn new(schedule: Schedule) -> Self {
        Self { schedule, known: Mutex::new(Vec::new()) }
    }

    fn of(self: &Arc<Self>, epoch: u32) -> Arc<SampleOrder> {
        let order = self.make(&self.known(epoch).0, epoch);
        let (next, is_new) = self.known(epoch + 1);
        if is_new && epoch + 1 < self.schedule.epochs_total() {
            let orders = self.clone();
            let make = move || drop(orders.make(&next, epoch + 1));
            // Where no thread can be had, it is made when it is asked for.
            let _ = std::thread::Builder::new().name("data-order".to_owned()).spawn(make);
        }
        order
    }

    fn make(&self, order: &Made, epoch: u32) -> Arc<SampleOrder> {
        order.get_or_init(|| Arc::new(self.schedule.order(epoch))).clone()
    }

    /// The place of an epoch's order, and whether it was just made.
    fn known(&self, epoch: u32) -> (Made, bool) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, order)) = known.iter().find(|(number, _)| *number == epoch) {
            return (order.clone(), false);
        }
        if known.len() >= ORDERS_KEPT {
            known.remove(0);
        }
        known.push((epoch, Made::default()));
        (known[known.len() - 1].1.clone(), true)
    }
}

type Prepared = SyncSender<Result<StepBatch, FetchError>>;

fn prepare(data: &JobData, orders: &Arc<Orders>, block: ShardRange, steps: Steps, sender: &Prepared) {
    let schedule = &orders.schedule;
    let mut order: Option<(u32, Arc<SampleOrder>)> = None;
    for step in (steps.first..schedule.steps_total()).step_by(steps.every) {
        let (epoch, cursor) = schedule.place(step);
        let current = match order.take().filter(|(number, _)| *number == epoch) {
            Some((_, current)) => current,
            None => orders.of(epoch),
        };
        let shards = block.iter().map(|shard| {
            let ids = current.ids(current.shard(cursor, shard)).to_vec();
            let pieces = schedule.pieces(&ids).map(|piece| data.batch(DataSet::Train, piece));
            pieces.collect::<Result<Vec<_>, _>>().map(|pieces| ShardBatch { ids, pieces })
        });
        let prepared = shards.collect::<Result<Vec<_>, _>>().map(|shards| StepBatch {
            step,
            step_samples: current.step(cursor).len(),
            shards,
        });
        let failed = prepared.is_err();
        if sender.send(prepared).is_err() || failed {
            return;
        }
        order = Some((epoch, current));
    }
}

#[cfg(test)]
mod tests {
    use neap_scheduler::spec::{DataFormat, DataPart, DataSpec, Locality, OrderSpec, TrainLength};

    use super::*;
    use crate::data::{Storage, synthetic};
    use crate::loader::{LoaderSettings, LocalData};

    const ORDER: OrderSpec = OrderSpec { seed: Some(3), window: Some(64), micro_shard: 8 };

    fn spec(folder: &std::path::Path) -> DataSpec {
        DataSpec {
            path: folder.display().to_string(),
            format: DataFormat::Idx,
            part: DataPart::All,
            label: None,
            target: None,
            columns: neap_scheduler::spec::ColumnSpec::default(),
            order: ORDER,
            prefetch: 4,
            locality: Locality::Prefer,
        }
    }

    /// All steps' ids and features, as they come.
    fn steps(storage: &Storage, folder: &std::path::Path, settings: LoaderSettings) -> Vec<(u64, Vec<u32>, Vec<f32>)> {
        let local = Arc::new(LocalData::open(&spec(folder), None, storage).unwrap());
        let data = Arc::new(JobData::local(local, settings));
        let schedule = Schedule {
            samples: 300,
            global_batch: 32,
            logical_shards: 4,
            micro_batch: 3,
            order: ORDER,
            length: TrainLength::Epochs(3),
        };
        let feed = Feed::start(data.clone(), schedule, ShardRange { start: 1, end: 3 }, 4).unwrap();
        let mut steps = Vec::new();
        while let Ok(batch) = feed.next() {
            let ids: Vec<u32> = batch.shards.iter().flat_map(|shard| shard.ids.clone()).collect();
            let features =
                batch.shards.into_iter().flat_map(|shard| shard.pieces).flat_map(|piece| piece.features).collect();
            steps.push((batch.step, ids, features));
        }
        let bytes = data.usage().totals().local_bytes;
        assert_eq!(bytes, steps.iter().map(|(_, ids, _)| ids.len() as u64 * 64).sum::<u64>());
        steps
    }

    #[test]
    fn threads_and_disks_change_nothing_in_what_comes_and_in_which_order() {
        let folder = tempfile::tempdir().unwrap();
        synthetic::write_idx(folder.path(), "train", 300, false);
        let alone = steps(&Storage::default(), folder.path(), LoaderSettings { steps_ahead: 1, threads: 1 });
        assert_eq!(alone.iter().map(|(step, ..)| *step).collect::<Vec<_>>(), (4..30).collect::<Vec<_>>());
        for (steps_ahead, threads) in [(4, 3), (2, 8), (9, 2)] {
            let settings = LoaderSettings { steps_ahead, threads };
            assert!(steps(&Storage::default(), folder.path(), settings) == alone, "{settings:?}");
            for memory_max in [1_000, 15_000] {
                let storage = Storage { memory_max, ..Storage::default() };
                assert!(steps(&storage, folder.path(), settings) == alone, "{settings:?} {memory_max}");
            }
        }
    }
}
