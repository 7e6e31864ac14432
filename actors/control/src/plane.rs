//! A running control plane: opens the home folder, replays the journal, wires actors, endpoint and provider.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use neap_runtime::identity::IdentityError;
use neap_runtime::join::JoinServer;
use neap_runtime::node::{NodeConfig, NodeError};
use neap_runtime::remote::Access;
use neap_runtime::wire::agent::{CONTROL_ACTOR, ControlProtocol};
use neap_runtime::wire::artifact::{ARTIFACT_ACTOR, ArtifactProtocol};
use neap_runtime::{CertificateAuthority, Node, PeerEvent, Role};
use neap_storage::record::Record;
use neap_storage::{ArtifactError, ArtifactStore};
use ractor::{Actor, ActorRef};
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;

use crate::artifacts::{self, ArtifactMsg, ArtifactSource};
use crate::clock;
use crate::controller::{Addresses, ControllerActor, ControllerMsg, Parts};
use crate::handle::{ARTIFACTS_BYTES_MAX, ControlError, ControlHandle};
use crate::home::{Home, random_hex};
use crate::provider::{LocalProvider, ProviderEvent};
use crate::rounds::RoundLog;
use crate::settings::Settings;
use crate::state::{ClusterState, ReplayError};
use crate::store::{Store, StoreError};

/// Why a control plane does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its folder.
    #[error("failed to open the home folder {folder}; choose another with --home or make it writable")]
    Home {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its certificates.
    #[error("failed to open the certificate authority")]
    Authority(#[from] IdentityError),
    /// Its past.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its programs.
    #[error(transparent)]
    Artifacts(#[from] ArtifactError),
    /// Its past, as it reads.
    #[error("failed to replay the journal")]
    Replay(#[from] ReplayError),
    /// The journal cannot be written.
    #[error("failed to write the journal")]
    Journal(#[from] neap_storage::journal::JournalError),
    /// Its endpoint.
    #[error("failed to listen for agents")]
    Endpoint(#[from] NodeError),
    /// Its actors.
    #[error("failed to start the controller")]
    Actor(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The ports agents know; a control plane that comes back listens on the same ones.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
struct Ports {
    quic: u16,
    join: u16,
}

/// A running control plane.
pub struct ControlPlane {
    handle: ControlHandle,
    token: String,
    node: Node,
    join: JoinServer,
    controller: JoinHandle<()>,
}

impl ControlPlane {
    /// Starts a control plane in its home folder: from nothing, or where an earlier one stopped or was killed.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing is left running.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        let home = Home::at(settings.home);
        let in_home = |source| StartError::Home { folder: home.path().to_owned(), source };
        home.create().map_err(in_home)?;
        let token = home.token().map_err(in_home)?;
        let authority = Arc::new(CertificateAuthority::load_or_create(&home.ca())?);
        let artifacts = ArtifactStore::open(home.artifacts(), ARTIFACTS_BYTES_MAX)?;
        let (store, records) = Store::open(&home)?;
        let mut state = ClusterState::replay(&records, settings.entries)?;
        for record in first_records(&state).map_err(in_home)? {
            store.append(std::slice::from_ref(&record)).await?;
            state.apply(&record)?;
        }
        let ports = read_ports(&home);
        let node = Node::start(
            &authority.issue(Role::Control)?,
            with_port(settings.quic_bind, ports.quic),
            NodeConfig::default(),
        )?;
        let (mailbox, admissions) = mpsc::channel(ADMISSIONS_MAX);
        let join = start_join(with_port(settings.quic_bind, ports.join), authority.clone(), mailbox)?;
        let addresses = Addresses { control: node.local_addr(), join: join.local_addr() };
        write_ports(&home, &addresses).map_err(in_home)?;
        let (events, provider_events) = mpsc::unbounded_channel();
        let provider = LocalProvider::new(home.clone(), settings.agent_binary, settings.config.local.clone(), events);
        let (changed, changes) = watch::channel(0);
        let parts = Parts {
            home: home.clone(),
            store: store.clone(),
            node: node.clone(),
            provider: Arc::new(provider),
            authority,
            policy: settings.config.policy(),
            rounds: RoundLog::new(home.rounds()),
            config: settings.config,
            addresses,
            changes: changed,
        };
        let peer_events = node.peer_events();
        let (actor, controller) = Actor::spawn(None, ControllerActor, (state, parts))
            .await
            .map_err(|error| StartError::Actor(Box::new(error)))?;
        node.register::<ControlProtocol, ControllerMsg>(CONTROL_ACTOR, actor.clone(), Access::only(is_node))
            .map_err(|error| StartError::Actor(Box::new(error)))?;
        let source = ArtifactSource { store: artifacts.clone(), node: node.clone(), controller: actor.clone() };
        let (source, _) = Actor::spawn_linked(None, source, (), actor.get_cell())
            .await
            .map_err(|error| StartError::Actor(Box::new(error)))?;
        node.register::<ArtifactProtocol, ArtifactMsg>(ARTIFACT_ACTOR, source, artifacts::access())
            .map_err(|error| StartError::Actor(Box::new(error)))?;
        tokio::spawn(forward_peers(actor.clone(), peer_events));
        tokio::spawn(forward_provider(actor.clone(), provider_events));
        tokio::spawn(forward_admissions(actor.clone(), admissions));
        let handle = ControlHandle { controller: actor, changes, home, store, artifacts };
        Ok(Self { handle, token, node, join, controller })
    }

    /// For callers of the API.
    pub fn handle(&self) -> ControlHandle {
        self.handle.clone()
    }

    /// The bearer token of the HTTP API.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Where agents connect.
    pub fn quic_addr(&self) -> SocketAddr {
        self.node.local_addr()
    }

    /// Where nodes join.
    pub fn join_addr(&self) -> SocketAddr {
        self.join.local_addr()
    }

    /// Stops. With `end_nodes`, running jobs are saved and every node is given back first; without, nodes go on working
    /// for the control plane that comes next.
    pub async fn shutdown(self, end_nodes: bool) {
        if end_nodes && let Err(error) = self.handle.end_nodes().await {
            tracing::warn!(%error, "not every node was seen to end");
        }
        self.handle.controller.stop(None);
        if let Err(error) = self.controller.await {
            tracing::warn!(%error, "controller did not stop cleanly");
        }
        self.join.shutdown().await;
        self.node.shutdown().await;
    }
}

impl ControlPlane {
    /// Returns when the controller has ended by itself, which it never should: whoever runs the control plane then
    /// exits, and starts again from the journal.
    pub async fn failed(&mut self) -> ControlError {
        let _ = (&mut self.controller).await;
        ControlError::Stopped
    }
}

/// Nodes that may wait at the door at once.
const ADMISSIONS_MAX: usize = 64;

struct AdmissionAsked {
    node: neap_scheduler::model::NodeId,
    hash: [u8; 32],
    answer: tokio::sync::oneshot::Sender<Result<(), String>>,
}

fn is_node(role: &Role) -> bool {
    matches!(role, Role::Node(_))
}

fn first_records(state: &ClusterState) -> io::Result<Vec<Record>> {
    let at = clock::now();
    let started = Record::ControlStarted { version: env!("CARGO_PKG_VERSION").to_owned(), at };
    if state.cluster.is_empty() {
        let cluster = random_hex()?[..16].to_owned();
        return Ok(vec![Record::ClusterCreated { cluster, at }, started]);
    }
    Ok(vec![started])
}

fn start_join(
    bind: SocketAddr,
    authority: Arc<CertificateAuthority>,
    door: mpsc::Sender<AdmissionAsked>,
) -> Result<JoinServer, NodeError> {
    JoinServer::start(bind, authority, move |node, hash| {
        let door = door.clone();
        Box::pin(async move {
            let (answer, admitted) = tokio::sync::oneshot::channel();
            let gone = |_| "the control plane is shutting down".to_owned();
            door.send(AdmissionAsked { node, hash, answer }).await.map_err(|error| gone(error.to_string()))?;
            admitted.await.map_err(|error| gone(error.to_string()))?
        })
    })
}

fn with_port(bind: SocketAddr, known: u16) -> SocketAddr {
    if bind.port() == 0 { SocketAddr::new(bind.ip(), known) } else { bind }
}

fn read_ports(home: &Home) -> Ports {
    fs::read(home.ports_file()).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

fn write_ports(home: &Home, addresses: &Addresses) -> io::Result<()> {
    let ports = Ports { quic: addresses.control.port(), join: addresses.join.port() };
    fs::write(home.ports_file(), serde_json::to_vec(&ports)?)
}

async fn forward_peers(controller: ActorRef<ControllerMsg>, mut events: broadcast::Receiver<PeerEvent>) {
    loop {
        let message = match events.recv().await {
            Ok(PeerEvent::Down { role, reason, .. }) => ControllerMsg::PeerDown(role, reason.to_string()),
            Ok(PeerEvent::Up(_)) => continue,
            // Leases and the next tick catch what was missed.
            Err(broadcast::error::RecvError::Lagged(_)) => ControllerMsg::Tick,
            Err(broadcast::error::RecvError::Closed) => return,
        };
        if controller.cast(message).is_err() {
            return;
        }
    }
}

async fn forward_provider(controller: ActorRef<ControllerMsg>, mut events: mpsc::UnboundedReceiver<ProviderEvent>) {
    while let Some(event) = events.recv().await {
        if controller.cast(ControllerMsg::Provider(event)).is_err() {
            return;
        }
    }
}

async fn forward_admissions(controller: ActorRef<ControllerMsg>, mut asked: mpsc::Receiver<AdmissionAsked>) {
    while let Some(AdmissionAsked { node, hash, answer }) = asked.recv().await {
        let admitted = controller.call(|reply| ControllerMsg::Admit(node, hash, reply), None).await;
        let admitted = match admitted {
            Ok(ractor::rpc::CallResult::Success(admitted)) => admitted,
            _ => Err("the control plane is shutting down".to_owned()),
        };
        let _ = answer.send(admitted);
    }
}
