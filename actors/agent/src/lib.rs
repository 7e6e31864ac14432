//! The node agent: one process a node. It joins with a one-time token, holds a lease, starts one worker process a job,
//! and reports what becomes of them.
//!
//! ```text
//! run                        joins, opens the endpoint, waits for the end
//!  ├─ inventory (task)       asks children what the node can compute on, and how much that is used
//!  ├─ ControlLink (task)     connects and registers, renews the lease, delivers reports in order until answered
//!  └─ Agent (actor)          commands from the control plane, words of workers
//!       ├─ Artifacts         programs that jobs bring along, fetched from the control plane at first use
//!       └─ process (task)    one a worker: starts it, ships its output, reports its exit
//! ```
//!
//! An agent decides nothing: what to run is the control plane's business, and what cannot be delivered to it waits. An
//! agent without contact for the dead-man time ends all work and itself, so that a lost control plane costs no money for
//! ever. Workers end with their agent: it holds the other end of their standard input.

#![forbid(unsafe_code)]

mod agent;

mod link;

mod process;

mod artifacts;

mod inventory;

pub mod devices;

mod logs;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use neap_runtime::identity::Role;
use neap_runtime::join::{self, JoinError, JoinToken};
use neap_runtime::node::{Node, NodeConfig, NodeError};
use neap_runtime::remote::Access;
use neap_runtime::wire::agent::{AGENT_ACTOR, AgentProtocol};
use neap_runtime::wire::artifact::NODE_ARTIFACTS;
use neap_runtime::wire::worker::{WORKER_HOST_ACTOR, WorkerHostProtocol};
use neap_scheduler::model::{NodeId, NodeSize};
use neap_storage::{ArtifactError, ArtifactStore};
use ractor::Actor;
use tokio::sync::{mpsc, watch};

use agent::{Agent, AgentMsg, AgentParts};
use artifacts::{Artifacts, CACHE_BYTES_MAX};
use link::{ControlLink, Outgoing};

/// What an agent is started with.
#[derive(Debug, Clone)]
pub struct AgentSettings {
    /// The node it is.
    pub node: NodeId,
    /// What the node has to give.
    pub size: NodeSize,
    /// Where the control plane listens for agents.
    pub control: SocketAddr,
    /// Where nodes join.
    pub join: SocketAddr,
    /// Lets it in, once.
    pub token: JoinToken,
    /// Its folder.
    pub folder: PathBuf,
    /// The binary workers are started from.
    pub worker_binary: PathBuf,
}

/// Why an agent ended other than on request.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Not let in.
    #[error("failed to join the cluster")]
    Join(#[from] JoinError),
    /// No endpoint.
    #[error("failed to start the agent's endpoint")]
    Endpoint(#[from] NodeError),
    /// Its actor did not start.
    #[error("failed to start the agent's actor")]
    Actor(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Its cache of programs.
    #[error("failed to open the cache of artifacts")]
    Artifacts(#[from] ArtifactError),
    /// The control plane does not want this node.
    #[error("the control plane refuses this node: {reason}")]
    Refused {
        /// Its reason.
        reason: String,
    },
    /// The control plane was not heard for the dead-man time.
    #[error("no contact with the control plane for {seconds} s")]
    DeadMan {
        /// How long.
        seconds: u64,
    },
}

/// Runs an agent until it is told to shut down (`Ok`), refused, or without contact for too long.
///
/// # Errors
///
/// [`AgentError`].
pub async fn run(settings: AgentSettings) -> Result<(), AgentError> {
    let identity = join::join(settings.join, &settings.token, settings.node).await?;
    let node = Node::start(&identity, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), NodeConfig::default())?;
    let boxed = |error| AgentError::Actor(error);
    let cache = ArtifactStore::open_cache(settings.folder.join(NODE_ARTIFACTS), CACHE_BYTES_MAX)?;
    let artifacts = Artifacts::start(cache, node.clone()).await.map_err(boxed)?;
    let (devices, found) = watch::channel(Vec::new());
    let inventory = tokio::spawn(inventory::run(settings.worker_binary.clone(), devices, inventory::READ_PAUSE));
    let (outgoing, to_send) = mpsc::channel(link::OUTGOING_MAX);
    let (ending, mut ended) = mpsc::channel(1);
    let parts = AgentParts {
        node: settings.node,
        addr: node.local_addr(),
        worker_binary: settings.worker_binary,
        folder: settings.folder,
        artifacts,
        endpoint: node.clone(),
        outgoing: Outgoing::new(outgoing),
        ending,
    };
    let boxed = |error| AgentError::Actor(Box::new(error));
    let (agent, running) = Actor::spawn(None, Agent, parts).await.map_err(boxed)?;
    let boxed = |error| AgentError::Actor(Box::new(error));
    let control_only = Access::only(|role| *role == Role::Control);
    node.register::<AgentProtocol, AgentMsg>(AGENT_ACTOR, agent.clone(), control_only).map_err(boxed)?;
    let workers_only = Access::only(|role| matches!(role, Role::Worker { .. }));
    node.register::<WorkerHostProtocol, AgentMsg>(WORKER_HOST_ACTOR, agent.clone(), workers_only).map_err(boxed)?;
    let link = ControlLink::new(node.clone(), settings.control, settings.node, settings.size, agent.clone(), found);
    let outcome = tokio::select! {
        outcome = link.run(to_send) => outcome,
        _ = ended.recv() => Ok(()),
        () = terminated() => Ok(()),
    };
    inventory.abort();
    // Stopping the actor drops the workers' standard inputs and kills what does not end by itself.
    agent.stop(None);
    let _ = running.await;
    node.shutdown().await;
    outcome
}

/// Returns on SIGTERM or SIGINT.
async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        _ => std::future::pending().await,
    }
}
