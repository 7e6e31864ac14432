//! The trainer's thread: waits for parameters, computes, sends gradients.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use neap_runtime::wire::training::{GradientHeader, GradientPart, ParametersHeader};
use neap_runtime::wire::worker::FailureKind;
use neap_scheduler::elastic::{ReductionTree, ShardRange, TreeNode};
use neap_scheduler::model::{MembershipEpoch, WorkerId};

use super::crew::compute_alone;
use super::{Crew, TrainerEvent};
use crate::links::{Gradients, Outbox, OutgoingGradients, PanicGuard, ParameterValues, ServerLink, THREAD_QUEUE_MAX};
use crate::loader::{Feed, FeedError, FetchError, JobData};
use crate::reduction::{Buffers, Floats, Part};
use crate::schedule::Schedule;
use crate::server::ServerEvent;

/// The state of the trainer's thread.
pub(crate) struct TrainerThread {
    worker: WorkerId,
    data: Arc<JobData>,
    schedule: Schedule,
    crew: Crew,
    buffers: Buffers,
    outbox: Outbox,
    assignment: Option<Assignment>,
}

struct Assignment {
    membership: MembershipEpoch,
    block: ShardRange,
    server: ServerLink,
    /// The batches of these shards from this step on.
    feed: Option<(ShardRange, u64, Feed)>,
}

impl TrainerThread {
    /// Starts the thread; it ends when the last sender of its events is dropped.
    ///
    /// # Errors
    ///
    /// Where the thread cannot be started.
    pub(crate) fn start(
        worker: WorkerId,
        data: Arc<JobData>,
        schedule: Schedule,
        crew: Crew,
        buffers: Buffers,
        outbox: Outbox,
        events: Receiver<TrainerEvent>,
    ) -> std::io::Result<()> {
        let guard = PanicGuard { thread: "trainer", session: outbox.session.clone() };
        let mut trainer = Self { worker, data, schedule, crew, buffers, outbox, assignment: None };
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
            TrainerEvent::Assign { membership, block, server } => {
                // A feed for the same shards goes on: batches do not depend on the membership.
                let feed = self.assignment.take().and_then(|old| old.feed);
                self.assignment = Some(Assignment { membership, block, server, feed });
            }
            TrainerEvent::Parameters { header, values } => self.train(&header, values),
        }
    }

    fn train(&mut self, header: &ParametersHeader, values: ParameterValues) {
        let Some(assignment) = self.assignment.as_mut().filter(|now| now.membership == header.membership) else {
            return;
        };
        if values.values().len() != self.crew.parameters() {
            let (found, expected) = (values.values().len(), self.crew.parameters());
            tracing::error!(found, expected, "parameters of another model ignored");
            return;
        }
        let shards = ShardRange { start: header.shard_start, end: header.shard_end };
        let block = assignment.block;
        if shards.is_empty() || shards.start < block.start || block.end < shards.end {
            tracing::error!(?shards, ?block, "parameters for shards that are not carried here ignored");
            return;
        }
        let step = match assignment.next_batch(&self.data, &self.schedule, shards, header.step) {
            Ok(step) => step,
            Err(error) => return self.fail(error),
        };
        let tree = ReductionTree::new(self.schedule.logical_shards);
        let parts = self.crew.compute(tree, shards, values, step);
        let (membership, step) = (header.membership, header.step);
        match &assignment.server {
            ServerLink::Local(server) => {
                let parts = parts.into_iter().map(|(node, part)| (node, boxed(part))).collect();
                let gradients = Gradients { membership, worker: self.worker, step, parts };
                server.handle(ServerEvent::Gradients(gradients));
            }
            ServerLink::Remote(server) => {
                // A task that has ended has told the session why.
                let _ = server.blocking_send(outgoing(membership, step, parts, &self.buffers));
            }
        }
    }

    fn fail(&mut self, error: FeedError) {
        self.assignment = None;
        match error {
            FeedError::Fetch(error @ (FetchError::Data(_) | FetchError::Unavailable(_))) => {
                self.outbox.fail(FailureKind::Invalid, error.to_string());
            }
            FeedError::Ended => self.outbox.fail(FailureKind::Invalid, error.to_string()),
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

fn boxed(part: Part<Vec<f32>>) -> Part<Box<dyn Floats>> {
    Part { gradient: Box::new(part.gradient), losses: part.losses, samples: part.samples }
}

fn outgoing(
    membership: MembershipEpoch,
    step: u64,
    parts: Vec<(TreeNode, Part<Vec<f32>>)>,
    buffers: &Buffers,
) -> OutgoingGradients {
    let mut header = GradientHeader { membership, step, parts: Vec::new() };
    let (mut gradients, mut samples) = (Vec::new(), Vec::new());
    for (node, part) in parts {
        header.parts.push(GradientPart {
            level: node.level,
            index: node.index,
            shard_losses: part.losses,
            samples: part.samples.len() as u32,
        });
        gradients.push(buffers.lend(part.gradient));
        samples.extend(part.samples);
    }
    OutgoingGradients { header, gradients, samples }
}
