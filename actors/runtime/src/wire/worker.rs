//! Between a node agent and the worker processes it started, and what a worker has to say to the control plane.
//!
//! A worker reaches only its own agent; the agent checks that the worker speaks of its own job, and passes its reports
//! on under the node's lease.

use std::net::SocketAddr;

use neap_scheduler::model::{JobId, MembershipEpoch, NodeId, WorkerId};
use serde::{Deserialize, Serialize};

use crate::identity::Identity;
use crate::remote::Protocol;

/// What an agent writes to a new worker's standard input: one frame, after which the pipe stays open. Its end tells the
/// worker that the agent is gone.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkerLaunch {
    /// The job.
    pub job: JobId,
    /// This worker.
    pub worker: WorkerId,
    /// Proves to the job's other workers, and to the agent, who this is.
    pub identity: Identity,
    /// The node it runs on.
    pub node: NodeId,
    /// Where the node's agent listens.
    pub agent: SocketAddr,
    /// Where to listen for the job's other workers; port 0 takes any.
    pub bind: SocketAddr,
    /// How many threads may compute at once.
    pub compute_threads: u32,
    /// Which registered workload runs.
    pub workload: String,
    /// What it is started with; only the workload reads it.
    pub args: Vec<u8>,
}

/// Agent → worker. The worker registers the actor `worker` for it.
#[derive(Debug)]
pub struct WorkerProtocol;

/// The name under which a worker registers the actor of [`WorkerProtocol`].
pub const WORKER_ACTOR: &str = "worker";

impl Protocol for WorkerProtocol {
    const NAME: &'static str = "worker";
    type Cast = WorkerCommand;
    type Request = ();
    type Reply = ();
    type BulkHeader = ();
}

/// What a worker is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum WorkerCommand {
    /// Who carries the job from now on. Older epochs are ignored.
    Membership(Membership),
    /// The job's nodes are about to change or to be taken back: save the state at the next step's end if this worker
    /// is the parameter server, and report [`WorkerReport::Checkpoint`].
    SaveNow {
        /// The membership the request was made for.
        epoch: MembershipEpoch,
    },
    /// End cleanly: save the state if this worker is the parameter server and `save` is set, report
    /// [`WorkerReport::Stopped`], and exit.
    Stop {
        /// Whether a checkpoint is wanted.
        save: bool,
    },
    /// Where the job's workers run, and which of them have to go. Told to jobs of own actors before each membership, and when
    /// a worker has to go.
    Nodes(Vec<WorkerNode>),
}

/// Where a worker runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerNode {
    /// The worker.
    pub worker: WorkerId,
    /// Its node.
    pub node: NodeId,
    /// In how many milliseconds it has to be gone, where it has to.
    pub leaves_in_ms: Option<u64>,
}

/// Who carries a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The fencing epoch that every effect under this membership carries.
    pub epoch: MembershipEpoch,
    /// The workers, each with its block of logical shards.
    pub members: Vec<Member>,
    /// Whose process hosts the parameter server; of several servers the first one, which leads the others.
    pub server: WorkerId,
    /// Whose processes hold the parameters, a segment each, in the order of the segments; the first is `server`.
    pub servers: Vec<WorkerId>,
    /// From which step on the server must know the state: `None` lets a server that is already running go on, or starts
    /// the job from its initial parameters; a server that is new here loads this checkpoint. In an all-reduce it is the
    /// newest checkpoint there is, and loaded by the lead where no worker has a state as new.
    pub restore: Option<CheckpointRef>,
    /// How often nodes such as the server's were lost, in 1,000 hours; 0 where none was seen.
    pub losses_per_1000_h: u32,
    /// Whose processes hold a replica of the server's state. A server that was a replica before goes on from that, unless
    /// `restore` is of a later step.
    pub replicas: Vec<WorkerId>,
}

impl Membership {
    /// The member that is this worker.
    pub fn member(&self, worker: WorkerId) -> Option<&Member> {
        self.members.iter().find(|member| member.worker == worker)
    }

    /// Which segment of the parameters a worker holds, if any.
    pub fn segment_of(&self, worker: WorkerId) -> Option<usize> {
        self.servers.iter().position(|server| *server == worker)
    }
}

/// One worker of a membership.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The worker.
    pub worker: WorkerId,
    /// Where it listens.
    pub addr: SocketAddr,
    /// First logical shard it carries.
    pub shard_start: u32,
    /// One past the last; equal to the first for a worker that only hosts the parameter server.
    pub shard_end: u32,
}

/// A checkpoint that was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointRef {
    /// Its name in the job's checkpoint folder; with that of its folder before it and a `/` between them for the checkpoint
    /// of another job that this one begins with.
    pub name: String,
    /// The step after which it was taken.
    pub step: u64,
}

/// Worker → agent → control plane. The agent registers the actor `worker-host` for it.
#[derive(Debug)]
pub struct WorkerHostProtocol;

/// The name under which an agent registers the actor of [`WorkerHostProtocol`].
pub const WORKER_HOST_ACTOR: &str = "worker-host";

impl Protocol for WorkerHostProtocol {
    const NAME: &'static str = "worker-host";
    type Cast = ();
    type Request = WorkerHostRequest;
    type Reply = ();
    type BulkHeader = ();
}

/// What a worker says to its agent. An answer means that the agent has it, and will pass it on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum WorkerHostRequest {
    /// First word on every new connection.
    Hello(WorkerHello),
    /// A report, numbered from 1 in the life of the worker: one that is sent again over a new connection is known by
    /// its number.
    Report(u64, WorkerReport),
}

/// A worker's first word: it is up and listens here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerHello {
    /// The worker.
    pub worker: WorkerId,
    /// Where other workers reach it.
    pub addr: SocketAddr,
}

/// What a worker reports. Everything that counts carries the membership epoch that allows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum WorkerReport {
    /// The parameter server's position, a few times a second and after the first step.
    Progress(Progress),
    /// What the worker's data cost it so far, about twice a second while it computes.
    DataUsed(DataUsed),
    /// All samples of an epoch are committed.
    EpochFinished(EpochFinished),
    /// A checkpoint is on disk and verified.
    Checkpoint(CheckpointPublished),
    /// Another member does not answer any more. A hint: the control plane decides.
    PeerLost {
        /// The membership in which it was seen.
        epoch: MembershipEpoch,
        /// Who is missing.
        worker: WorkerId,
    },
    /// The training is done and the model is on disk.
    Finished(Finished),
    /// Asked to stop, and stopping.
    Stopped {
        /// The membership.
        epoch: MembershipEpoch,
    },
    /// The job cannot go on, whoever carries it.
    Failed {
        /// The membership.
        epoch: MembershipEpoch,
        /// Whose fault it is.
        kind: FailureKind,
        /// What happened, where, and what to do.
        message: String,
    },
    /// How fast the workers are, every few seconds.
    Paces(Paces),
    /// The lead of a job of own actors has taken in a membership, and its actors run.
    ActorsRunning {
        /// The membership.
        epoch: MembershipEpoch,
        /// Own actors in the lead's process.
        actors: u32,
    },
    /// The main function of a job of own actors has returned.
    ActorsFinished {
        /// The membership.
        epoch: MembershipEpoch,
        /// What it returned, as JSON.
        result: String,
    },
    /// This worker has to go, and is ready to: its own actors have heard of it, and those that could move have moved.
    Vacated {
        /// The membership.
        epoch: MembershipEpoch,
    },
}

/// How long each worker of a membership takes for a logical shard, as its parameter server sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paces {
    /// The membership.
    pub membership: MembershipEpoch,
    /// Every worker that carries shards.
    pub workers: Vec<WorkerPace>,
}

/// How fast one worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerPace {
    /// The worker.
    pub worker: WorkerId,
    /// Microseconds from parameters sent to gradients in, for each logical shard of a step.
    pub shard_us: u64,
}

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// The job's parameters or code.
    User,
    /// The data or the disk did not turn out as the job file says.
    Invalid,
    /// A sample was used twice or not at all.
    DataLedger,
}

/// Where a training stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The membership.
    pub membership: MembershipEpoch,
    /// Steps committed since the start of the job.
    pub step: u64,
    /// Steps in the whole job.
    pub steps_total: u64,
    /// The epoch the next step belongs to, counted from 0.
    pub epoch: u32,
    /// Epochs in the whole job.
    pub epochs_total: u32,
    /// Samples committed since the start of the job.
    pub samples: u64,
    /// Mean training loss per sample since the last report.
    pub loss: f64,
    /// Samples committed per second since the last report.
    pub samples_per_second: f64,
    /// The longest time between two commits since the last report, in milliseconds.
    pub pause_millis: u64,
}

/// What a worker's data cost it since it has had the data. The newest report counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataUsed {
    /// The membership.
    pub membership: MembershipEpoch,
    /// How long it has had the data, in milliseconds.
    pub millis: u64,
    /// How long training waited for samples, in milliseconds.
    pub waited_millis: u64,
    /// Bytes of samples, as they are stored, from the worker's own node.
    pub local_bytes: u64,
    /// Bytes of samples that other workers sent.
    pub remote_bytes: u64,
    /// Bytes of files that the worker fetched from object stores.
    pub store_bytes: u64,
}

/// The outcome of one epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochFinished {
    /// The membership.
    pub membership: MembershipEpoch,
    /// The epoch, counted from 0.
    pub epoch: u32,
    /// Steps committed since the start of the job.
    pub step: u64,
    /// Samples committed in this epoch: exactly the size of the data set.
    pub samples: u64,
    /// Digest (blake3) of the sample ids in the order they were committed.
    pub sample_digest: [u8; 32],
    /// Mean training loss per sample.
    pub train_loss: f64,
    /// Outcome on the evaluation data, where the job names any.
    pub eval: Option<EvalMetrics>,
}

/// The metric of classifiers: the share of samples whose class was predicted, 0 to 1.
pub const ACCURACY: &str = "accuracy";

/// Outcome on the evaluation data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvalMetrics {
    /// Mean loss per sample.
    pub loss: f64,
    /// Means over the samples by name, in the entry's order; `accuracy` is the share of samples whose class was predicted.
    pub metrics: Vec<(String, f64)>,
    /// How many samples.
    pub samples: u64,
}

impl EvalMetrics {
    /// One metric.
    pub fn metric(&self, name: &str) -> Option<f64> {
        self.metrics.iter().find(|(known, _)| known == name).map(|&(_, value)| value)
    }
}

/// A checkpoint that was published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckpointPublished {
    /// The membership under which it was written.
    pub membership: MembershipEpoch,
    /// Its name and step.
    pub checkpoint: CheckpointRef,
    /// The epoch it lies in.
    pub epoch: u32,
    /// Digest (blake3) of its manifest.
    pub digest: [u8; 32],
    /// Bytes on disk.
    pub bytes: u64,
}

/// The end of a training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    /// The membership.
    pub membership: MembershipEpoch,
    /// Steps committed.
    pub steps: u64,
    /// Epochs completed.
    pub epochs: u32,
    /// Mean training loss of the last epoch.
    pub train_loss: f64,
    /// Outcome on the evaluation data.
    pub eval: Option<EvalMetrics>,
    /// The model file (safetensors).
    pub model_path: String,
    /// The model card (JSON).
    pub card_path: String,
    /// Digest (blake3) of the model file.
    pub model_digest: [u8; 32],
}
