//! The agent's actor: commands of the control plane, words of the workers, and the table of worker processes.
//!
//! Supervision: started by [`crate::run`]. If it panics the agent ends, its workers with it, and the control plane sees a
//! lost node; nothing of its state is worth more than that.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use neap_runtime::identity::Role;
use neap_runtime::node::{Node, Peer};
use neap_runtime::remote::{Inbound, ReplyTo};
use neap_runtime::wire::agent::{AgentCommand, AgentProtocol, AgentReport, RunningWorker, StartWorker, WorkerExit};
use neap_runtime::wire::worker::{
    WORKER_ACTOR, WorkerCommand, WorkerHostProtocol, WorkerHostRequest, WorkerLaunch, WorkerProtocol,
};
use neap_scheduler::model::{JobId, NodeId, WorkerId};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::sync::mpsc;

use crate::artifacts::Artifacts;
use crate::link::Outgoing;
use crate::process::{Program, Running, WorkerProcess};

/// Messages to the [`Agent`].
pub(crate) enum AgentMsg {
    /// Command: from the control plane.
    Control(Inbound<AgentProtocol>),
    /// Event: from a worker.
    Worker(Inbound<WorkerHostProtocol>),
    /// Event: a worker's process ended, or never started.
    Exited(WorkerId, WorkerExit),
    /// Query: the workers that run here.
    Running(RpcReplyPort<Vec<RunningWorker>>),
}

impl From<Inbound<AgentProtocol>> for AgentMsg {
    fn from(inbound: Inbound<AgentProtocol>) -> Self {
        Self::Control(inbound)
    }
}

impl From<Inbound<WorkerHostProtocol>> for AgentMsg {
    fn from(inbound: Inbound<WorkerHostProtocol>) -> Self {
        Self::Worker(inbound)
    }
}

/// What the agent works with.
pub(crate) struct AgentParts {
    pub(crate) node: NodeId,
    pub(crate) addr: SocketAddr,
    pub(crate) worker_binary: PathBuf,
    pub(crate) folder: PathBuf,
    pub(crate) artifacts: Artifacts,
    pub(crate) endpoint: Node,
    pub(crate) outgoing: Outgoing,
    pub(crate) ending: mpsc::Sender<()>,
}

/// A worker of this node.
struct Hosted {
    job: JobId,
    process: Running,
    addr: Option<SocketAddr>,
    /// The last report that was passed on; a smaller number is a repetition.
    last_report: u64,
    /// What it is told as soon as it is reached: the newest membership counts, earlier ones are void.
    waiting: Vec<WorkerCommand>,
}

/// Commands that may wait for a worker that is not up yet: beyond it the oldest are void anyway.
const WAITING_MAX: usize = 16;

pub(crate) struct Agent;

pub(crate) struct AgentState {
    parts: AgentParts,
    workers: BTreeMap<WorkerId, Hosted>,
}

impl Actor for Agent {
    type Msg = AgentMsg;
    type State = AgentState;
    type Arguments = AgentParts;

    async fn pre_start(&self, _: ActorRef<AgentMsg>, parts: AgentParts) -> Result<AgentState, ActorProcessingErr> {
        Ok(AgentState { parts, workers: BTreeMap::new() })
    }

    async fn handle(
        &self,
        myself: ActorRef<AgentMsg>,
        message: AgentMsg,
        state: &mut AgentState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            AgentMsg::Control(Inbound::Cast { message, credit: _credit, .. }) => state.command(&myself, message),
            AgentMsg::Worker(Inbound::Call { from: Role::Worker { job, worker }, request, reply, credit: _credit }) => {
                state.worker_says(job, worker, request, reply);
            }
            AgentMsg::Exited(worker, exit) => state.exited(worker, exit),
            AgentMsg::Running(reply) => {
                let _ = reply.send(state.running());
            }
            AgentMsg::Control(_) | AgentMsg::Worker(_) => {}
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<AgentMsg>, state: &mut AgentState) -> Result<(), ActorProcessingErr> {
        for hosted in state.workers.values() {
            hosted.process.end(END_GRACE);
        }
        for hosted in std::mem::take(&mut state.workers).into_values() {
            hosted.process.ended().await;
        }
        Ok(())
    }
}

/// How long workers may take to exit when their agent ends.
const END_GRACE: Duration = Duration::from_secs(2);

impl AgentState {
    fn command(&mut self, myself: &ActorRef<AgentMsg>, command: AgentCommand) {
        match command {
            AgentCommand::StartWorker(start) => {
                let program = Program::Own(self.parts.worker_binary.clone());
                self.start(myself, program, start);
            }
            AgentCommand::StartArtifact { artifact, start } => {
                let program = Program::Artifact(artifact, self.parts.artifacts.clone());
                self.start(myself, program, start);
            }
            AgentCommand::Worker { worker, command } => self.tell(worker, command),
            AgentCommand::EndWorker { worker, grace_ms } => match self.workers.get(&worker) {
                Some(hosted) => hosted.process.end(Duration::from_millis(grace_ms)),
                None => tracing::debug!(%worker, "asked to end a worker that is not here"),
            },
            AgentCommand::Shutdown => {
                let _ = self.parts.ending.try_send(());
            }
        }
    }

    fn start(&mut self, myself: &ActorRef<AgentMsg>, program: Program, start: StartWorker) {
        let StartWorker { job, worker, identity, compute_threads, workload, args } = start;
        if self.workers.contains_key(&worker) {
            return;
        }
        let bind = SocketAddr::new(self.parts.addr.ip(), 0);
        let launch = WorkerLaunch {
            job,
            worker,
            identity,
            node: self.parts.node,
            agent: self.parts.addr,
            bind,
            compute_threads,
            workload,
            args,
        };
        let process =
            WorkerProcess { program, folder: self.parts.folder.clone(), launch, outgoing: self.parts.outgoing.clone() };
        let agent = myself.clone();
        let process = process.start(move |exit| {
            if agent.cast(AgentMsg::Exited(worker, exit)).is_err() {
                tracing::debug!(%worker, "worker ended after its agent");
            }
        });
        self.workers.insert(worker, Hosted { job, process, addr: None, last_report: 0, waiting: Vec::new() });
    }

    /// Passes a command on to a worker, now or as soon as it is up.
    fn tell(&mut self, worker: WorkerId, command: WorkerCommand) {
        let peer = self.peer_of(worker);
        let Some(hosted) = self.workers.get_mut(&worker) else { return };
        match peer {
            Some(peer) => pass_on(worker, peer, command),
            None => {
                if hosted.waiting.len() == WAITING_MAX {
                    hosted.waiting.remove(0);
                }
                hosted.waiting.push(command);
            }
        }
    }

    fn peer_of(&self, worker: WorkerId) -> Option<Peer> {
        let hosted = self.workers.get(&worker)?;
        let role = Role::Worker { job: hosted.job, worker };
        self.parts.endpoint.peers().into_iter().rev().find(|peer| peer.role() == role && peer.is_alive())
    }

    /// Answers once the report is queued. The queue is waited for outside of the handler: it is full when the control
    /// plane is away for long, and coming back to it needs this actor.
    fn worker_says(
        &mut self,
        job: JobId,
        worker: WorkerId,
        request: WorkerHostRequest,
        reply: ReplyTo<WorkerHostProtocol>,
    ) {
        // A worker's certificate names its job and itself: it can only speak for those.
        let Some(hosted) = self.workers.get_mut(&worker).filter(|hosted| hosted.job == job) else {
            tracing::warn!(%job, %worker, "a worker that was not started here");
            return;
        };
        match request {
            WorkerHostRequest::Hello(hello) if hello.worker == worker => {
                hosted.addr = Some(hello.addr);
                let waiting = std::mem::take(&mut hosted.waiting);
                let up = RunningWorker { job, worker, pid: hosted.process.pid(), addr: hosted.addr };
                self.queue(AgentReport::WorkerUp(up), Some(reply));
                for command in waiting {
                    self.tell(worker, command);
                }
            }
            WorkerHostRequest::Hello(_) => tracing::warn!(%worker, "a worker that says it is another"),
            WorkerHostRequest::Report(number, report) => {
                let repeated = number <= hosted.last_report;
                hosted.last_report = hosted.last_report.max(number);
                match repeated {
                    true => reply.send(()),
                    false => self.queue(AgentReport::Worker { job, worker, report }, Some(reply)),
                }
            }
        }
    }

    fn exited(&mut self, worker: WorkerId, exit: WorkerExit) {
        if let Some(hosted) = self.workers.remove(&worker) {
            self.queue(AgentReport::WorkerExited { job: hosted.job, worker, exit }, None);
        }
    }

    fn queue(&self, report: AgentReport, reply: Option<ReplyTo<WorkerHostProtocol>>) {
        let outgoing = self.parts.outgoing.clone();
        tokio::spawn(async move {
            outgoing.report(report).await;
            if let Some(reply) = reply {
                reply.send(());
            }
        });
    }

    fn running(&self) -> Vec<RunningWorker> {
        let running = |(&worker, hosted): (&WorkerId, &Hosted)| RunningWorker {
            job: hosted.job,
            worker,
            pid: hosted.process.pid(),
            addr: hosted.addr,
        };
        self.workers.iter().map(running).collect()
    }
}

/// Sends without waiting: a worker that does not take its commands must not hold up the others. Commands to one worker
/// keep their order because each membership carries its epoch, and nothing else has an order.
fn pass_on(worker: WorkerId, peer: Peer, command: WorkerCommand) {
    let inbox = peer.actor::<WorkerProtocol>(WORKER_ACTOR);
    tokio::spawn(async move {
        if let Err(error) = inbox.cast(command).await {
            tracing::warn!(%error, %worker, "worker not told");
        }
    });
}
