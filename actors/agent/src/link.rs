//! The way to the control plane: register, renew, report; over a new connection whenever the old one is lost.

use std::net::SocketAddr;
use std::time::Duration;

use neap_runtime::identity::Role;
use neap_runtime::node::{Node, Peer};
use neap_runtime::remote::{RemoteError, RemoteRef};
use neap_runtime::wire::agent::{
    AgentReply, AgentReport, AgentRequest, CONTROL_ACTOR, ControlProtocol, LogLines, Register,
};
use neap_runtime::wire::device::Device;
use neap_runtime::wire::worker::WorkerReport;
use neap_scheduler::model::{NodeId, NodeSize};
use ractor::ActorRef;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::AgentError;
use crate::agent::AgentMsg;

/// Reports and log lines that may wait for the control plane. Reports beyond it make workers wait; log lines are counted
/// and dropped.
pub(crate) const OUTGOING_MAX: usize = 1_024;

/// How long the control plane has to answer. It answers a report after one `fdatasync`.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause before the next try to reach the control plane.
const RECONNECT_PAUSE: Duration = Duration::from_millis(250);

/// Until the first lease says otherwise.
const DEAD_MAN_FIRST: Duration = Duration::from_secs(60);

/// Something for the control plane.
pub(crate) enum Item {
    Report(AgentReport),
    Log(LogLines),
}

/// The sending end of the queue to the control plane.
#[derive(Clone)]
pub(crate) struct Outgoing(mpsc::Sender<Item>);

impl Outgoing {
    pub(crate) fn new(sender: mpsc::Sender<Item>) -> Self {
        Self(sender)
    }

    /// Queues a report; waits while the queue is full. What the next report of its kind says again does not wait.
    pub(crate) async fn report(&self, report: AgentReport) {
        if let AgentReport::Worker { report: WorkerReport::Progress(_) | WorkerReport::DataUsed(_), .. } = report {
            let _ = self.0.try_send(Item::Report(report));
            return;
        }
        if self.0.send(Item::Report(report)).await.is_err() {
            tracing::debug!("report after the end of the link");
        }
    }

    /// Queues log lines; gives them back if there is no room.
    pub(crate) fn try_log(&self, lines: LogLines) -> Result<(), LogLines> {
        self.0.try_send(Item::Log(lines)).map_err(|error| match error.into_inner() {
            Item::Log(lines) => lines,
            Item::Report(_) => unreachable!("log lines were sent"),
        })
    }
}

/// The lease as last granted.
#[derive(Clone, Copy)]
struct Lease {
    renew: Duration,
    dead_man: Duration,
}

pub(crate) struct ControlLink {
    node: Node,
    control: SocketAddr,
    id: NodeId,
    size: NodeSize,
    agent: ActorRef<AgentMsg>,
    devices: watch::Receiver<Vec<Device>>,
    heard: Instant,
    lease: Lease,
}

impl ControlLink {
    pub(crate) fn new(
        node: Node,
        control: SocketAddr,
        id: NodeId,
        size: NodeSize,
        agent: ActorRef<AgentMsg>,
        devices: watch::Receiver<Vec<Device>>,
    ) -> Self {
        let lease = Lease { renew: ANSWER_TIMEOUT, dead_man: DEAD_MAN_FIRST };
        Self { node, control, id, size, agent, devices, heard: Instant::now(), lease }
    }

    /// Runs until the control plane refuses the node, or is not heard for the dead-man time.
    pub(crate) async fn run(mut self, mut queue: mpsc::Receiver<Item>) -> Result<(), AgentError> {
        // What was taken from the queue and not yet answered is kept over connections.
        let mut unanswered = None;
        loop {
            let (peer, control) = self.register().await?;
            if let Some(refused) = self.serve(&peer, &control, &mut queue, &mut unanswered).await {
                return Err(refused);
            }
            tracing::warn!("connection to the control plane lost; work goes on, connecting again");
        }
    }

    /// Connects and registers, however long it takes within the dead-man time.
    async fn register(&mut self) -> Result<(Peer, RemoteRef<ControlProtocol>), AgentError> {
        loop {
            match self.try_register().await {
                Ok(Ok(link)) => return Ok(link),
                Ok(Err(reason)) => return Err(AgentError::Refused { reason }),
                Err(error) => tracing::info!(%error, "control plane not reached, trying again"),
            }
            if self.heard.elapsed() > self.lease.dead_man {
                return Err(AgentError::DeadMan { seconds: self.lease.dead_man.as_secs() });
            }
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
    }

    /// One try: the connection, or the control plane's refusal.
    async fn try_register(
        &mut self,
    ) -> Result<Result<(Peer, RemoteRef<ControlProtocol>), String>, Box<dyn std::error::Error + Send + Sync>> {
        let peer = self.node.connect(self.control, Role::Control).await?;
        let control = peer.actor::<ControlProtocol>(CONTROL_ACTOR);
        let workers = ractor::call!(self.agent, AgentMsg::Running)?;
        let register = Register { node: self.id, size: self.size, pid: std::process::id(), workers };
        let reply = control.call(AgentRequest::Register(register), ANSWER_TIMEOUT).await?;
        Ok(self.take_reply(reply).map(|()| (peer, control)))
    }

    fn take_reply(&mut self, reply: AgentReply) -> Result<(), String> {
        match reply {
            AgentReply::Granted { renew_ms, dead_man_ms, .. } => {
                self.lease =
                    Lease { renew: Duration::from_millis(renew_ms), dead_man: Duration::from_millis(dead_man_ms) };
            }
            AgentReply::Refused { reason } => return Err(reason),
            AgentReply::Noted => {}
        }
        self.heard = Instant::now();
        Ok(())
    }

    /// Renews and reports over one connection. `None` when the connection is lost.
    async fn serve(
        &mut self,
        peer: &Peer,
        control: &RemoteRef<ControlProtocol>,
        queue: &mut mpsc::Receiver<Item>,
        unanswered: &mut Option<AgentReport>,
    ) -> Option<AgentError> {
        let mut renew_at = Instant::now() + self.lease.renew;
        if !self.devices.borrow().is_empty() {
            self.devices.mark_changed();
        }
        loop {
            if let Some(report) = unanswered.clone() {
                match self.ask(control, AgentRequest::Report(report)).await {
                    Ok(()) => *unanswered = None,
                    Err(lost) => return lost.into_refusal(),
                }
            }
            tokio::select! {
                item = queue.recv() => match item {
                    Some(Item::Report(report)) => *unanswered = Some(report),
                    Some(Item::Log(lines)) => {
                        if let Err(error) = control.cast(lines).await {
                            tracing::debug!(%error, "log lines lost with the connection");
                        }
                    }
                    None => return None,
                },
                Ok(()) = self.devices.changed() => {
                    let devices = self.devices.borrow_and_update().clone();
                    if let Err(lost) = self.ask(control, AgentRequest::Report(AgentReport::Devices(devices))).await {
                        return lost.into_refusal();
                    }
                }
                () = tokio::time::sleep_until(renew_at) => {
                    if let Err(lost) = self.ask(control, AgentRequest::Renew).await {
                        return lost.into_refusal();
                    }
                    renew_at = Instant::now() + self.lease.renew;
                }
                _ = peer.closed() => return None,
            }
        }
    }

    async fn ask(&mut self, control: &RemoteRef<ControlProtocol>, request: AgentRequest) -> Result<(), Lost> {
        let reply = control.call(request, ANSWER_TIMEOUT).await.map_err(Lost::Connection)?;
        self.take_reply(reply).map_err(Lost::Refused)
    }
}

/// Why a connection is not used any longer.
enum Lost {
    Connection(RemoteError),
    Refused(String),
}

impl Lost {
    fn into_refusal(self) -> Option<AgentError> {
        match self {
            Self::Refused(reason) => Some(AgentError::Refused { reason }),
            Self::Connection(error) => {
                tracing::info!(%error, "no answer from the control plane");
                None
            }
        }
    }
}
