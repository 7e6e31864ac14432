//! The saver: writes checkpoints on a thread of its own, so that a store that is slow or away holds nobody up.
//!
//! It has one place for a snapshot that waits. While a checkpoint is being written, a newer snapshot takes the place of
//! one that waits: what a job can lose grows with the time a checkpoint takes, and memory does not.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use neap_runtime::wire::worker::{CheckpointPublished, CheckpointRef, WorkerReport};
use neap_scheduler::model::{MembershipEpoch, Millis};
use neap_storage::checkpoint::{CheckpointError, CheckpointStore, Published};
use tokio::sync::oneshot;

use super::checkpoint;
use super::keeper::chain;
use crate::job::TrainJob;
use crate::links::{Outbox, PanicGuard};
use crate::schedule::Schedule;
use crate::state::Snapshot;

/// The way to the saver's thread, which ends with it.
pub(super) struct Saver {
    shared: Arc<Shared>,
}

/// How long the last checkpoint took to write. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub(super) struct CheckpointCost(Arc<AtomicU64>);

impl CheckpointCost {
    /// `None` before the first one.
    pub(super) fn get(&self) -> Option<Millis> {
        // 0 is none: a write that took less than a millisecond counts as one.
        Some(self.0.load(Ordering::Relaxed)).filter(|cost| *cost > 0).map(Millis::new)
    }

    fn set(&self, took: Duration) {
        self.0.store(Millis::from(took).get().max(1), Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Shared {
    orders: Mutex<Orders>,
    changed: Condvar,
}

/// What the thread is to do next.
#[derive(Default)]
struct Orders {
    fence: Option<MembershipEpoch>,
    snapshot: Option<(MembershipEpoch, Snapshot)>,
    /// Who wants to know when there is nothing left to do.
    waiting: Vec<oneshot::Sender<()>>,
    closed: bool,
}

struct SaverThread {
    job: Arc<TrainJob>,
    schedule: Schedule,
    outbox: Outbox,
    store: Option<CheckpointStore>,
    cost: CheckpointCost,
}

impl Saver {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// Where that fails.
    pub(super) fn start(
        job: Arc<TrainJob>,
        schedule: Schedule,
        outbox: Outbox,
        cost: CheckpointCost,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let guard = PanicGuard { thread: "saver", session: outbox.session.clone() };
        let (theirs, mut saver) = (shared.clone(), SaverThread { job, schedule, outbox, store: None, cost });
        let run = move || {
            let _guard = guard;
            saver.run(&theirs);
        };
        std::thread::Builder::new().name("saver".to_owned()).spawn(run)?;
        Ok(Self { shared })
    }

    /// From now on only this membership may publish.
    pub(super) fn fence(&self, epoch: MembershipEpoch) {
        self.shared.order(|orders| orders.fence = Some(epoch));
    }

    /// Publishes this snapshot as soon as the one before is done, unless a newer one comes before that.
    pub(super) fn save(&self, membership: MembershipEpoch, snapshot: Snapshot) {
        self.shared.order(|orders| {
            if let Some((_, passed)) = orders.snapshot.replace((membership, snapshot)) {
                tracing::warn!(step = passed.step, "no checkpoint of this step: the one before it takes too long");
            }
        });
    }

    /// Answers when all that was ordered before is done.
    pub(super) fn flush(&self, done: oneshot::Sender<()>) {
        self.shared.order(|orders| orders.waiting.push(done));
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        self.shared.order(|orders| orders.closed = true);
    }
}

impl Shared {
    fn order(&self, change: impl FnOnce(&mut Orders)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// The orders are whole whoever panicked: no change of them can stop halfway.
    fn lock(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for something to do; `None` when nothing will come.
    fn next(&self) -> Option<(Option<MembershipEpoch>, Option<(MembershipEpoch, Snapshot)>)> {
        let mut orders = self.lock();
        loop {
            if orders.fence.is_some() || orders.snapshot.is_some() {
                return Some((orders.fence.take(), orders.snapshot.take()));
            }
            for done in orders.waiting.drain(..) {
                // Whoever asked may be gone.
                let _ = done.send(());
            }
            if orders.closed {
                return None;
            }
            orders = self.changed.wait(orders).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl SaverThread {
    fn run(&mut self, shared: &Shared) {
        while let Some((fence, snapshot)) = shared.next() {
            if let Some(epoch) = fence {
                self.fence(epoch);
            }
            if let Some((membership, snapshot)) = snapshot {
                self.save(membership, &snapshot);
            }
        }
    }

    fn fence(&mut self, epoch: MembershipEpoch) {
        if let Err(error) = self.store().and_then(|store| store.fence(epoch)) {
            tracing::error!(error = chain(&error), "the checkpoint store is not fenced; training goes on");
        }
    }

    /// A checkpoint that cannot be written does not end the job: the next one may be.
    fn save(&mut self, membership: MembershipEpoch, snapshot: &Snapshot) {
        let started = Instant::now();
        let published = self.store().and_then(|store| {
            let published = checkpoint::publish(&store, &self.job, &self.schedule, membership, snapshot)?;
            if let Err(error) = store.keep(self.job.checkpoint_keep) {
                tracing::warn!(error = chain(&error), "old checkpoints were not removed");
            }
            Ok(published)
        });
        match published {
            Ok(published) => {
                self.cost.set(started.elapsed());
                self.report(membership, snapshot, published);
            }
            Err(error) => {
                tracing::error!(error = chain(&error), step = snapshot.step, "no checkpoint; training goes on");
            }
        }
    }

    /// The store, opened when it is first needed, and again after it could not be.
    fn store(&mut self) -> Result<CheckpointStore, CheckpointError> {
        if let Some(store) = &self.store {
            return Ok(store.clone());
        }
        let store = CheckpointStore::open_at(&self.job.checkpoint_place)?;
        self.store = Some(store.clone());
        Ok(store)
    }

    fn report(&self, membership: MembershipEpoch, snapshot: &Snapshot, published: Published) {
        let mut digest = [0; 32];
        if hex::decode_to_slice(&published.digest, &mut digest).is_err() {
            tracing::error!(digest = published.digest, "the digest of a checkpoint is none");
        }
        self.outbox.report(WorkerReport::Checkpoint(CheckpointPublished {
            membership,
            checkpoint: CheckpointRef { name: published.name, step: snapshot.step },
            epoch: self.schedule.place(snapshot.step).0,
            digest,
            bytes: published.bytes,
        }));
    }
}
