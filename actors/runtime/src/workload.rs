//! The worker process: one per job and node, started by the node's agent.
//!
//! ```text
//! neap agent ──stdin: WorkerLaunch──▶ run_worker
//!                                      ├─ Node            QUIC endpoint under the job's identity
//!                                      ├─ CommandInbox    actor `worker`, from the agent
//!                                      ├─ report pump     to the agent, which passes reports on
//!                                      └─ Workload        whatever the job is: registered by name
//! ```
//!
//! Engines register a [`Workload`]; control plane and agent know only its name. The worker ends when its workload ends,
//! or when standard input closes: the agent holds the other end, so its death cannot leave a worker behind.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use neap_scheduler::model::{JobId, WorkerId};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;

use crate::codec;
use crate::identity::Role;
use crate::node::{Node, NodeConfig, Peer};
use crate::remote::{Access, Inbound, RemoteRef};
use crate::wire::worker::{
    WORKER_ACTOR, WORKER_HOST_ACTOR, WorkerCommand, WorkerHello, WorkerHostProtocol, WorkerHostRequest, WorkerLaunch,
    WorkerProtocol, WorkerReport,
};

/// The version of the launch frame and of what workers say to agents and to each other. A program of one's own is linked
/// with one version and may be run by agents of another: both sides compare it before anything else. It grows whenever one
/// of these messages changes in a way that is not only more at its end.
pub const LAUNCH_VERSION: u32 = 2;

/// The argument that makes a program which links Neap play the node agent.
pub const AGENT_ARGUMENT: &str = "neap-agent";

/// The argument that makes a program which links Neap play the control plane.
pub const CONTROL_ARGUMENT: &str = "neap-control";

/// The argument that makes a program which links Neap play the worker.
pub const WORKER_ARGUMENT: &str = "neap-worker";

/// The argument that makes a program which links Neap print what it can train.
pub const ENTRIES_ARGUMENT: &str = "neap-entries";

/// The argument that makes a program which links Neap measure how fast it trains the job on its standard input.
pub const MEASURE_ARGUMENT: &str = "neap-measure";

/// The argument that makes a program which links Neap print what this machine can compute on, for the node agent.
pub const DEVICES_ARGUMENT: &str = "neap-devices";

/// With [`DEVICES_ARGUMENT`]: only what is read without waking a driver for graphics.
pub const READINGS_FLAG: &str = "--readings";

/// The exit code of a program that was built with another [`LAUNCH_VERSION`] than its agent: EX_CONFIG of sysexits(3).
pub const OTHER_VERSION_EXIT: i32 = 78;

/// Marks programs that link Neap and can be workers: [`MARK_PREFIX`] and the launch version in decimal, `;` at the end. It
/// is found in the file of a program without running it.
pub static MARK: &str = "neap worker program, launch version 2;";

/// How the mark of every version begins.
pub const MARK_PREFIX: &str = "neap worker program, launch version ";

/// The largest launch frame: an identity, and what the workload is started with.
pub const LAUNCH_BYTES_MAX: usize = 1 << 20;

/// Commands that may wait for the workload. Beyond it the agent's credit runs out and the agent waits.
const COMMANDS_MAX: usize = 64;

/// Reports that may wait for the agent. Beyond it the workload waits: reports count, so none is dropped.
const REPORTS_MAX: usize = 256;

/// How long the agent has to answer a worker's first word.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause before the next try to reach the agent. The agent is on the same machine; while its pipe is open it lives.
const RECONNECT_PAUSE: Duration = Duration::from_millis(250);

/// Names the folder of the node's cache.
pub const CACHE_VARIABLE: &str = "NEAP_CACHE_DIR";

/// A future that can be kept in a table.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a job runs in its worker processes.
pub trait Workload: Send + Sync + 'static {
    /// The name job launches use.
    fn name(&self) -> &'static str;

    /// Runs until the work is done or a [`WorkerCommand::Stop`] was obeyed.
    fn start(self: Arc<Self>, context: WorkerContext) -> BoxFuture<'static, Result<(), WorkloadError>>;
}

/// A workload that could not go on. It has reported why, where it could; this is what the worker prints.
#[derive(Debug, thiserror::Error)]
#[error("workload failed")]
pub struct WorkloadError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// What a workload is given.
pub struct WorkerContext {
    /// The job.
    pub job: JobId,
    /// This worker.
    pub worker: WorkerId,
    /// What it is started with.
    pub args: Vec<u8>,
    /// How many threads may compute at once.
    pub compute_threads: u32,
    /// The node's cache: what a workload keeps there, later workers of the node may find.
    pub cache: PathBuf,
    /// The process's QUIC endpoint.
    pub node: Node,
    /// What the agent says.
    pub commands: mpsc::Receiver<WorkerCommand>,
    /// What the control plane should know.
    pub reports: ReportSender,
}

/// Sends reports to the agent, in order, none dropped: it waits while the agent is slow or away.
#[derive(Debug, Clone)]
pub struct ReportSender(mpsc::Sender<WorkerReport>);

impl ReportSender {
    /// A sender and the end that receives, for tests of workloads.
    pub fn channel() -> (Self, mpsc::Receiver<WorkerReport>) {
        let (sender, receiver) = mpsc::channel(REPORTS_MAX);
        (Self(sender), receiver)
    }

    /// Sends a report.
    ///
    /// Returns at once when the process is ending: nobody is left to tell.
    pub async fn send(&self, report: WorkerReport) {
        if self.0.send(report).await.is_err() {
            tracing::debug!("report after the end of the worker");
        }
    }
}

/// The workloads this binary can run.
#[derive(Clone, Default)]
pub struct Workloads(BTreeMap<&'static str, Arc<dyn Workload>>);

impl Workloads {
    /// Adds a workload; a later one replaces an earlier one of the same name.
    #[must_use]
    pub fn with(mut self, workload: impl Workload) -> Self {
        self.0.insert(workload.name(), Arc::new(workload));
        self
    }

    fn find(&self, name: &str) -> Result<Arc<dyn Workload>, WorkerError> {
        let missing = || WorkerError::UnknownWorkload {
            name: name.to_owned(),
            known: self.0.keys().copied().collect::<Vec<_>>().join(", "),
        };
        self.0.get(name).cloned().ok_or_else(missing)
    }
}

/// Why a worker process ended other than by the end of its work.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// Standard input did not carry a launch frame.
    #[error("failed to read the launch from standard input; a worker is started by a node agent, not by hand")]
    Launch(#[source] std::io::Error),
    /// The launch frame is not one.
    #[error("the launch frame does not decode")]
    LaunchFrame(#[source] codec::CodecError),
    /// The agent is of another version.
    #[error(
        "this program was built with launch version {LAUNCH_VERSION} of Neap, and the node's agent has version {theirs}; \
         build it again with the version of Neap that runs the cluster"
    )]
    LaunchVersion {
        /// The agent's version.
        theirs: u32,
    },
    /// This binary does not have the workload.
    #[error("this binary has no workload `{name}`; it has: {known}")]
    UnknownWorkload {
        /// The name asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// No endpoint.
    #[error("failed to start the worker's endpoint")]
    Node(#[source] crate::node::NodeError),
    /// The endpoint does not take the worker's command actor.
    #[error("failed to start the worker's command inbox")]
    Inbox(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The agent closed its end of the pipe.
    #[error("the node agent is gone")]
    AgentGone,
    /// The workload failed.
    #[error(transparent)]
    Workload(#[from] WorkloadError),
}

/// Runs the worker process: reads the launch from `input`, joins the job, runs its workload to the end.
///
/// # Errors
///
/// [`WorkerError`] when the launch is unusable, the agent goes away, or the workload fails.
pub async fn run_worker(workloads: Workloads, mut input: impl AsyncRead + Unpin) -> Result<(), WorkerError> {
    // Keeps the mark in the program.
    std::hint::black_box(MARK);
    let launch = read_launch(&mut input).await?;
    let workload = workloads.find(&launch.workload)?;
    let node = Node::start(&launch.identity, launch.bind, NodeConfig::default()).map_err(WorkerError::Node)?;
    let commands = open_inbox(&node, &launch).await?;
    let (reports, outgoing) = ReportSender::channel();
    let pump = tokio::spawn(pump_reports(node.clone(), AgentLink::new(&launch, &node), outgoing));
    let context = WorkerContext {
        job: launch.job,
        worker: launch.worker,
        args: launch.args,
        compute_threads: launch.compute_threads,
        cache: cache_folder(),
        node: node.clone(),
        commands,
        reports,
    };
    let ended = tokio::select! {
        outcome = workload.start(context) => outcome.map_err(WorkerError::from),
        () = end_of(&mut input) => Err(WorkerError::AgentGone),
    };
    if !matches!(ended, Err(WorkerError::AgentGone)) {
        // The workload has dropped its sender: the pump ends when the last report is out.
        let _ = tokio::time::timeout(HELLO_TIMEOUT, pump).await;
    }
    node.shutdown().await;
    ended
}

/// Writes a launch the way [`run_worker`] reads it.
///
/// # Errors
///
/// [`codec::CodecError`] if it is larger than [`LAUNCH_BYTES_MAX`].
pub fn launch_frame(launch: &WorkerLaunch) -> Result<Vec<u8>, codec::CodecError> {
    let body = codec::encode::<_, LAUNCH_BYTES_MAX>(launch)?;
    let mut frame = LAUNCH_VERSION.to_le_bytes().to_vec();
    frame.extend_from_slice(&(body.len() as u32).to_le_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}

async fn read_launch(input: &mut (impl AsyncRead + Unpin)) -> Result<WorkerLaunch, WorkerError> {
    let version = input.read_u32_le().await.map_err(WorkerError::Launch)?;
    if version != LAUNCH_VERSION {
        return Err(WorkerError::LaunchVersion { theirs: version });
    }
    let length = input.read_u32_le().await.map_err(WorkerError::Launch)? as usize;
    if length > LAUNCH_BYTES_MAX {
        let text = format!("a launch of {length} bytes, more than {LAUNCH_BYTES_MAX}");
        return Err(WorkerError::Launch(std::io::Error::new(std::io::ErrorKind::InvalidData, text)));
    }
    let mut body = vec![0; length];
    input.read_exact(&mut body).await.map_err(WorkerError::Launch)?;
    codec::decode::<_, LAUNCH_BYTES_MAX>(&body).map_err(WorkerError::LaunchFrame)
}

/// Returns when the other end of the pipe is closed. What comes through it meanwhile means nothing.
async fn end_of(input: &mut (impl AsyncRead + Unpin)) {
    let mut ignored = [0; 64];
    while matches!(input.read(&mut ignored).await, Ok(1..)) {}
}

/// Hands commands from the agent to the workload.
struct CommandInbox(mpsc::Sender<WorkerCommand>);

impl From<Inbound<WorkerProtocol>> for InboxMsg {
    fn from(inbound: Inbound<WorkerProtocol>) -> Self {
        Self(inbound)
    }
}

/// A message to [`CommandInbox`], with the credit that bounds how many can wait.
struct InboxMsg(Inbound<WorkerProtocol>);

impl Actor for CommandInbox {
    type Msg = InboxMsg;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Self::Msg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(&self, _: ActorRef<Self::Msg>, message: InboxMsg, (): &mut ()) -> Result<(), ActorProcessingErr> {
        if let Inbound::Cast { message, .. } = message.0
            && self.0.send(message).await.is_err()
        {
            tracing::debug!("command after the end of the workload");
        }
        Ok(())
    }
}

async fn open_inbox(node: &Node, launch: &WorkerLaunch) -> Result<mpsc::Receiver<WorkerCommand>, WorkerError> {
    let (sender, receiver) = mpsc::channel(COMMANDS_MAX);
    let (actor, _) =
        Actor::spawn(None, CommandInbox(sender), ()).await.map_err(|error| WorkerError::Inbox(Box::new(error)))?;
    let agent = Role::Node(launch.node);
    node.register::<WorkerProtocol, InboxMsg>(WORKER_ACTOR, actor, Access::only(move |role| *role == agent))
        .map_err(|error| WorkerError::Inbox(Box::new(error)))?;
    Ok(receiver)
}

/// The cache of the node: the agent starts its workers in its own folder. [`CACHE_VARIABLE`] names another, which the
/// agents of one machine may share.
fn cache_folder() -> PathBuf {
    let folder = std::env::var_os(CACHE_VARIABLE).map_or_else(|| PathBuf::from("cache"), PathBuf::from);
    std::path::absolute(&folder).unwrap_or(folder)
}

/// The way to the agent.
struct AgentLink {
    addr: std::net::SocketAddr,
    role: Role,
    hello: WorkerHello,
}

impl AgentLink {
    fn new(launch: &WorkerLaunch, node: &Node) -> Self {
        Self {
            addr: launch.agent,
            role: Role::Node(launch.node),
            hello: WorkerHello { worker: launch.worker, addr: node.local_addr() },
        }
    }

    /// Tries until the agent answers. The worker ends with the agent's pipe, so this cannot go on for ever.
    async fn connect(&self, node: &Node) -> (Peer, RemoteRef<WorkerHostProtocol>) {
        loop {
            match self.try_connect(node).await {
                Ok(link) => return link,
                Err(error) => tracing::warn!(%error, addr = %self.addr, "agent not reached, trying again"),
            }
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
    }

    async fn try_connect(
        &self,
        node: &Node,
    ) -> Result<(Peer, RemoteRef<WorkerHostProtocol>), Box<dyn std::error::Error + Send + Sync>> {
        let peer = node.connect(self.addr, self.role).await?;
        let host = peer.actor::<WorkerHostProtocol>(WORKER_HOST_ACTOR);
        host.call(WorkerHostRequest::Hello(self.hello.clone()), HELLO_TIMEOUT).await?;
        Ok((peer, host))
    }
}

/// Carries reports to the agent, each until it is answered, over a new connection where the old one is lost.
async fn pump_reports(node: Node, link: AgentLink, mut outgoing: mpsc::Receiver<WorkerReport>) {
    let (mut peer, mut host) = link.connect(&node).await;
    let mut number = 0;
    loop {
        let report = tokio::select! {
            report = outgoing.recv() => report,
            _ = peer.closed() => {
                (peer, host) = link.connect(&node).await;
                continue;
            }
        };
        let Some(report) = report else { break };
        number += 1;
        while let Err(error) = host.call(WorkerHostRequest::Report(number, report.clone()), HELLO_TIMEOUT).await {
            tracing::warn!(%error, number, "report not answered, sending it again");
            (peer, host) = link.connect(&node).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use neap_scheduler::model::NodeId;

    use super::*;
    use crate::identity::CertificateAuthority;

    fn launch() -> WorkerLaunch {
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (job, worker) = (JobId::new(1), WorkerId::new(2));
        let folder = tempfile::tempdir().unwrap();
        let authority = CertificateAuthority::load_or_create(&folder.path().join("ca")).unwrap();
        WorkerLaunch {
            job,
            worker,
            identity: authority.issue(Role::Worker { job, worker }).unwrap(),
            node: NodeId::new(3),
            agent: here,
            bind: here,
            compute_threads: 1,
            workload: "train".to_owned(),
            args: vec![1, 2, 3],
        }
    }

    #[tokio::test]
    async fn a_launch_reads_back_and_one_of_another_version_says_so() {
        let frame = launch_frame(&launch()).unwrap();
        let read = read_launch(&mut frame.as_slice()).await.unwrap();
        assert_eq!((read.worker, read.args), (WorkerId::new(2), vec![1, 2, 3]));
        let mut other = frame;
        other[..4].copy_from_slice(&7u32.to_le_bytes());
        let error = read_launch(&mut other.as_slice()).await.unwrap_err();
        assert!(matches!(error, WorkerError::LaunchVersion { theirs: 7 }), "{error}");
    }

    #[test]
    fn the_mark_names_the_version() {
        assert_eq!(MARK, format!("{MARK_PREFIX}{LAUNCH_VERSION};"));
    }
}
