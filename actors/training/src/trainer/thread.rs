//! The trainer's thread: waits for parameters, computes, sends gradients.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use neap_runtime::wire::training::ParametersHeader;
use neap_runtime::wire::worker::{DataUsed, FailureKind, WorkerReport};
use neap_scheduler::elastic::{ReductionTree, ShardRange};
use neap_scheduler::model::{MembershipEpoch, WorkerId};

use super::crew::compute_alone;
use super::gather::Gather;
use super::send::{Coder, Sender};
use super::{Crew, TrainerEvent};
use crate::compress::{Compression, Residuals};
use crate::links::{Outbox, PanicGuard, ParameterValues, ServerLink, THREAD_QUEUE_MAX};
use crate::loader::{Feed, FeedError, FetchError, JobData, Totals};
use crate::reduction::Buffers;
use crate::schedule::Schedule;
use crate::segments::Cut;

/// What the thread needs to train.
pub(crate) struct TrainerSetup {
    pub(crate) worker: WorkerId,
    pub(crate) data: Arc<JobData>,
    pub(crate) schedule: Schedule,
    /// How gradients are made smaller on their way to a server in another process.
    pub(crate) compression: Option<Compression>,
    pub(crate) buffers: Buffers,
    pub(crate) outbox: Outbox,
}

/// How often a trainer says what its data cost.
const DATA_USED_EVERY: Duration = Duration::from_millis(500);

/// The state of the trainer's thread.
pub(crate) struct TrainerThread {
    setup: TrainerSetup,
    crew: Crew,
    assignment: Option<Assignment>,
    /// When it last said what the data cost.
    told: Option<Instant>,
}

struct Assignment {
    membership: MembershipEpoch,
    block: ShardRange,
    /// In the order of their segments.
    servers: Vec<ServerLink>,
    parameters: Gather,
    /// What compression left out; another membership's parts are other gradients.
    residuals: Residuals,
    /// The batches of these shards from this step on.
    feed: Option<(ShardRange, u64, Feed)>,
}

impl TrainerThread {
    /// Starts the thread; it ends when the last sender of its events is dropped.
    ///
    /// # Errors
    ///
    /// Where the thread cannot be started.
    pub(crate) fn start(setup: TrainerSetup, crew: Crew, events: Receiver<TrainerEvent>) -> std::io::Result<()> {
        let guard = PanicGuard { thread: "trainer", session: setup.outbox.session.clone() };
        let mut trainer = Self { setup, crew, assignment: None, told: None };
        let run = move || {
            let _guard = guard;
            compute_alone();
            for event in events {
                trainer.handle(event);
            }
        };
        std::thread::Builder::new().name("trainer".to_owned()).spawn(run).map(drop)
    }

    /// The queue of the thread's events.
    pub(crate) fn queue() -> (SyncSender<TrainerEvent>, Receiver<TrainerEvent>) {
        sync_channel(THREAD_QUEUE_MAX)
    }

    fn handle(&mut self, event: TrainerEvent) {
        match event {
            TrainerEvent::Release => self.assignment = None,
            TrainerEvent::Assign { membership, block, servers } => {
                // A feed for the same shards goes on: batches do not depend on the membership.
                let feed = self.assignment.take().and_then(|old| old.feed);
                let parameters = Gather::new(self.cut(), servers.len());
                let residuals = Residuals::default();
                self.assignment = Some(Assignment { membership, block, servers, parameters, residuals, feed });
            }
            TrainerEvent::Parameters { header, values } => self.train(&header, values),
        }
    }

    fn cut(&self) -> Cut {
        Cut::new(self.crew.parameters())
    }

    fn train(&mut self, header: &ParametersHeader, values: ParameterValues) {
        let cut = self.cut();
        let Some(assignment) = self.assignment.as_mut().filter(|now| now.membership == header.membership) else {
            return;
        };
        let Some(values) = assignment.parameters.take(header, values) else { return };
        let shards = ShardRange { start: header.shard_start, end: header.shard_end };
        let block = assignment.block;
        if shards.is_empty() || shards.start < block.start || block.end < shards.end {
            tracing::error!(?shards, ?block, "parameters for shards that are not carried here ignored");
            return;
        }
        let step = match assignment.next_batch(&self.setup.data, &self.setup.schedule, shards, header.step) {
            Ok(step) => step,
            Err(error) => return self.fail(error),
        };
        let tree = ReductionTree::new(self.setup.schedule.logical_shards);
        let parts = self.crew.compute(tree, shards, values, step);
        let sender = Sender { worker: self.setup.worker, membership: header.membership, step: header.step };
        let coder =
            self.setup.compression.map(|compression| Coder { compression, residuals: &mut assignment.residuals });
        sender.send(&assignment.servers, cut, parts, coder, &self.setup.buffers);
        self.tell_data_used(header.membership);
    }

    /// Says what the data cost so far, now and then.
    fn tell_data_used(&mut self, membership: MembershipEpoch) {
        if self.told.is_some_and(|told| told.elapsed() < DATA_USED_EVERY) {
            return;
        }
        self.told = Some(Instant::now());
        let Totals { time, waited, local_bytes, remote_bytes, store_bytes } = self.setup.data.usage().totals();
        self.setup.outbox.report_latest(WorkerReport::DataUsed(DataUsed {
            membership,
            millis: time.as_millis() as u64,
            waited_millis: waited.as_millis() as u64,
            local_bytes,
            remote_bytes,
            store_bytes,
        }));
    }

    fn fail(&mut self, error: FeedError) {
        self.assignment = None;
        match error {
            FeedError::Fetch(error @ (FetchError::Data(_) | FetchError::Unavailable(_))) => {
                self.setup.outbox.fail(FailureKind::Invalid, error.to_string());
            }
            FeedError::Ended => self.setup.outbox.fail(FailureKind::Invalid, error.to_string()),
        }
    }
}

impl Assignment {
    fn next_batch(
        &mut self,
        data: &Arc<JobData>,
        schedule: &Schedule,
        shards: ShardRange,
        step: u64,
    ) -> Result<crate::loader::StepBatch, FeedError> {
        let feed = match self.feed.take().filter(|(fed, next, _)| (*fed, *next) == (shards, step)) {
            Some((_, _, feed)) => feed,
            None => Feed::start(data.clone(), *schedule, shards, step).map_err(|_| FeedError::Ended)?,
        };
        let batch = feed.next()?;
        debug_assert_eq!(batch.step, step);
        self.feed = Some((shards, step + 1, feed));
        Ok(batch)
    }
}
