//! Between control plane and node agent: narrow, and every message is authorised by the sender's role and its lease.

use std::net::SocketAddr;

use neap_scheduler::model::{ContentHash, JobId, NodeId, NodeSize, WorkerId};
use serde::{Deserialize, Serialize};

use super::device::Device;
use super::worker::{WorkerCommand, WorkerReport};
use crate::identity::Identity;
use crate::remote::Protocol;

/// Agent → control plane. The control plane registers the actor `control` for it.
#[derive(Debug)]
pub struct ControlProtocol;

/// The name under which the control plane registers the actor of [`ControlProtocol`].
pub const CONTROL_ACTOR: &str = "control";

impl Protocol for ControlProtocol {
    const NAME: &'static str = "control";
    type Cast = LogLines;
    type Request = AgentRequest;
    type Reply = AgentReply;
    type BulkHeader = ();
}

/// What an agent asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum AgentRequest {
    /// First word on every new connection: who I am and what still runs here.
    Register(Register),
    /// Extends the node's lease.
    Renew,
    /// Something happened. The answer means that it is written down. A report may come twice, over two connections;
    /// the second has no effect.
    Report(AgentReport),
}

/// An agent's first word on a connection.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Register {
    /// The node.
    pub node: NodeId,
    /// What it has to give.
    pub size: NodeSize,
    /// The agent's process.
    pub pid: u32,
    /// Workers that run here, for a control plane that was away.
    pub workers: Vec<RunningWorker>,
}

/// A worker process that is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningWorker {
    /// Its job.
    pub job: JobId,
    /// The worker.
    pub worker: WorkerId,
    /// Its process.
    pub pid: u32,
    /// Where it listens, once it has said so.
    pub addr: Option<SocketAddr>,
}

/// The answer to an [`AgentRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentReply {
    /// The node's lease runs for `ttl_ms` from now.
    Granted {
        /// How long the lease runs.
        ttl_ms: u64,
        /// Renew this often.
        renew_ms: u64,
        /// Without any contact for this long, end all work and shut down.
        dead_man_ms: u64,
    },
    /// This node is not wanted (any more): end all work and shut down.
    Refused {
        /// Why.
        reason: String,
    },
    /// The report is written down.
    Noted,
}

/// Lines a worker printed. Logs may be lost with a connection; nothing else depends on them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLines {
    /// The worker's job.
    pub job: JobId,
    /// The worker.
    pub worker: WorkerId,
    /// Whole lines, UTF-8 with replacement characters where it was not.
    pub text: String,
    /// Bytes left out before this text because the node's buffer was full.
    pub dropped_bytes: u64,
}

/// What an agent reports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum AgentReport {
    /// A worker process said that it is up.
    WorkerUp(RunningWorker),
    /// A worker process ended, or could not be started.
    WorkerExited {
        /// Its job.
        job: JobId,
        /// The worker.
        worker: WorkerId,
        /// How.
        exit: WorkerExit,
    },
    /// A worker's own report.
    Worker {
        /// Its job.
        job: JobId,
        /// The worker.
        worker: WorkerId,
        /// What it says.
        report: WorkerReport,
    },
    /// What the node can compute on, with the readings of now. Said anew on every connection and whenever something was read;
    /// nothing is written down.
    Devices(Vec<Device>),
}

/// How a worker process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkerExit {
    /// Exit code.
    Code(i32),
    /// Killed by this signal.
    Signal(i32),
    /// Never started.
    NotStarted(String),
    /// The job's artifact cannot be run, here or elsewhere.
    NotRunnable(String),
}

/// Control plane → agent. The agent registers the actor `agent` for it.
#[derive(Debug)]
pub struct AgentProtocol;

/// The name under which an agent registers the actor of [`AgentProtocol`].
pub const AGENT_ACTOR: &str = "agent";

impl Protocol for AgentProtocol {
    const NAME: &'static str = "agent";
    type Cast = AgentCommand;
    type Request = ();
    type Reply = ();
    type BulkHeader = ();
}

/// What an agent is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum AgentCommand {
    /// Starts a worker process; nothing happens if this worker is already there.
    StartWorker(StartWorker),
    /// For one worker here.
    Worker {
        /// The worker.
        worker: WorkerId,
        /// What it is told.
        command: WorkerCommand,
    },
    /// Ends a worker process: SIGTERM, then SIGKILL after the grace time.
    EndWorker {
        /// The worker.
        worker: WorkerId,
        /// The grace time.
        grace_ms: u64,
    },
    /// Ends all work and shuts the node down.
    Shutdown,
    /// As [`Self::StartWorker`], from the program that the job brings along.
    StartArtifact {
        /// The program.
        artifact: ContentHash,
        /// The worker.
        start: StartWorker,
    },
}

/// A worker to start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StartWorker {
    /// Its job.
    pub job: JobId,
    /// The worker.
    pub worker: WorkerId,
    /// Its identity towards the job's other workers.
    pub identity: Identity,
    /// How many threads may compute at once.
    pub compute_threads: u32,
    /// Which registered workload runs.
    pub workload: String,
    /// What it is started with.
    pub args: Vec<u8>,
}
