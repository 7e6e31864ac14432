//! How the threads and actors of one worker process, and those of others, reach each other.
//!
//! ```text
//!            parameters                                     gradients
//! server ──TrainerLink::Local──▶ trainer        trainer ──ServerLink::Local──▶ server      same process: shared memory
//! server ──TrainerLink::Remote─▶ task ─QUIC─▶   trainer ──ServerLink::Remote─▶ task ─QUIC─▶ other process
//! ```
//!
//! Every queue is bounded. A step has one message in each direction, so the queues between threads do not fill up;
//! where one does, its receiver hangs and counts as lost.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use neap_runtime::wire::training::{GradientHeader, ParametersHeader, SegmentHeader, SegmentMessage};
use neap_runtime::wire::worker::{FailureKind, WorkerReport};
use neap_runtime::{BulkBuffer, BulkSlice};
use neap_scheduler::elastic::TreeNode;
use neap_scheduler::model::{MembershipEpoch, WorkerId};
use tokio::sync::{mpsc, watch};

use crate::reduction::{Floats, Part};
use crate::server::ServerHandle;
use crate::trainer::TrainerEvent;

/// Messages that may wait for a thread.
pub(crate) const THREAD_QUEUE_MAX: usize = 256;

/// Gradients that may wait to be sent to a server in another process: the current step's, and those of a step that was
/// abandoned meanwhile.
pub(crate) const GRADIENTS_QUEUE_MAX: usize = 2;

/// Messages that may wait to be sent to another server of the job, or to a replica. A step has one in each direction, and
/// beside it at most a segment that was asked for, or the buffers of a state.
pub(crate) const SEGMENT_QUEUE_MAX: usize = 16;

/// Messages that may wait for the session.
pub(crate) const SESSION_QUEUE_MAX: usize = 256;

/// A trainer's way to the parameter server.
#[derive(Clone)]
pub(crate) enum ServerLink {
    /// In this process. The trainer's thread commits the step itself where its gradients are the last: handing them to
    /// another thread and waiting for it costs two switches a step.
    Local(ServerHandle),
    /// In another one, through a task that sends.
    Remote(mpsc::Sender<OutgoingGradients>),
}

/// Gradients on their way to another process.
pub(crate) struct OutgoingGradients {
    pub(crate) header: GradientHeader,
    pub(crate) gradients: Vec<BulkSlice>,
    pub(crate) samples: Vec<u32>,
}

/// The gradients of one trainer for one step.
pub(crate) struct Gradients {
    pub(crate) membership: MembershipEpoch,
    pub(crate) worker: WorkerId,
    pub(crate) step: u64,
    pub(crate) parts: Vec<(TreeNode, Part<Box<dyn Floats>>)>,
}

/// The parameter server's way to a trainer.
pub(crate) enum TrainerLink {
    /// In this process.
    Local(SyncSender<TrainerEvent>),
    /// In another one, through a task that sends. Only the newest parameters count.
    Remote(watch::Sender<Option<OutgoingParameters>>),
}

/// Parameters on their way to another process.
#[derive(Clone)]
pub(crate) struct OutgoingParameters {
    pub(crate) header: ParametersHeader,
    pub(crate) parameters: Arc<Vec<f32>>,
}

impl TrainerLink {
    /// Hands parameters on; `false` where nobody takes them any more.
    pub(crate) fn send(&self, header: ParametersHeader, parameters: &Arc<Vec<f32>>) -> bool {
        match self {
            Self::Local(trainer) => {
                let values = ParameterValues::Shared(parameters.clone());
                trainer.try_send(TrainerEvent::Parameters { header, values }).is_ok()
            }
            Self::Remote(latest) => {
                latest.send(Some(OutgoingParameters { header, parameters: parameters.clone() })).is_ok()
            }
        }
    }
}

/// A server's way to another server of the job, or between a server and its replica, through a task that sends.
#[derive(Clone)]
pub(crate) struct SegmentLink(pub(crate) mpsc::Sender<ToServer>);

/// What goes from one server to another.
pub(crate) enum ToServer {
    /// A message.
    Message(SegmentMessage),
    /// Floats, and what comes along.
    Bulk(SegmentHeader, Vec<BulkSlice>),
}

impl SegmentLink {
    /// Hands something on without waiting; `false` where nobody takes it any more.
    pub(crate) fn send(&self, message: ToServer) -> bool {
        self.0.try_send(message).is_ok()
    }
}

/// Parameters, wherever they came from.
pub(crate) enum ParameterValues {
    /// Those of the server in this process.
    Shared(Arc<Vec<f32>>),
    /// Received from another process.
    Received(BulkBuffer),
    /// Put together from the segments of several servers.
    Joined(Vec<f32>),
}

impl ParameterValues {
    /// The values; nothing where the payload is no floats.
    pub(crate) fn values(&self) -> &[f32] {
        match self {
            Self::Shared(values) => values,
            Self::Received(buffer) => buffer.as_f32().unwrap_or_default(),
            Self::Joined(values) => values,
        }
    }
}

/// What threads and tasks tell the session.
pub(crate) enum SessionEvent {
    /// The job cannot go on.
    Failed { kind: FailureKind, message: String },
    /// A worker does not answer.
    PeerLost { membership: MembershipEpoch, worker: WorkerId },
    /// A thread panicked.
    Panicked { thread: &'static str },
}

/// The way out for reports and failures, for threads.
#[derive(Clone)]
pub(crate) struct Outbox {
    pub(crate) reports: mpsc::Sender<WorkerReport>,
    pub(crate) session: mpsc::Sender<SessionEvent>,
}

impl Outbox {
    /// Sends a report that counts; waits while the agent is away. For threads only.
    pub(crate) fn report(&self, report: WorkerReport) {
        // Where nobody listens any more, the process is ending.
        let _ = self.reports.blocking_send(report);
    }

    /// Sends a report that the next one makes obsolete; drops it where the queue is half full, so that there is room
    /// for those that count.
    pub(crate) fn report_latest(&self, report: WorkerReport) {
        if self.reports.capacity() > SESSION_QUEUE_MAX / 2 {
            let _ = self.reports.try_send(report);
        }
    }

    /// Ends the job.
    pub(crate) fn fail(&self, kind: FailureKind, message: String) {
        let _ = self.session.blocking_send(SessionEvent::Failed { kind, message });
    }

    /// Says that a worker does not answer. A hint, dropped where there is no room.
    pub(crate) fn peer_lost(&self, membership: MembershipEpoch, worker: WorkerId) {
        let _ = self.session.try_send(SessionEvent::PeerLost { membership, worker });
    }
}

/// Tells the session when the thread that holds it panics.
pub(crate) struct PanicGuard {
    pub(crate) thread: &'static str,
    pub(crate) session: mpsc::Sender<SessionEvent>,
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.session.try_send(SessionEvent::Panicked { thread: self.thread });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn parameters_for_a_trainer_of_the_same_process_are_shared() {
        let (trainer, events) = sync_channel(1);
        let parameters = Arc::new(vec![1.0, 2.0]);
        let membership = MembershipEpoch(1);
        let header = ParametersHeader { membership, step: 0, segment: 0, shard_start: 0, shard_end: 1 };
        assert!(TrainerLink::Local(trainer).send(header, &parameters));
        let Ok(TrainerEvent::Parameters { values, .. }) = events.recv() else { panic!("parameters were sent") };
        assert_eq!(values.values().as_ptr(), parameters.as_ptr());
    }
}
