//! A node of the actor network: one QUIC endpoint of this process that both listens and dials.
//!
//! Nothing is decided here: who may talk to whom is said at [`Node::register`], what a lost peer means is up to whoever
//! listens to [`Node::peer_events`]. The main flow: [`Node::start`] → `accept_peers` or [`Node::connect`] → handshake →
//! [`Peer`].

use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quinn::{Connection, ConnectionError, Endpoint, Incoming};
use ractor::{Actor, ActorCell, ActorRef, ActorStatus};
use tokio::sync::{Semaphore, broadcast};

use crate::frame::{self, Refusal};
use crate::handshake::{self, HandshakeError};
use crate::identity::{Identity, IdentityError, Role};
use crate::inbound::ActorReceiver;
use crate::lock;
pub use crate::peer::Peer;
use crate::peer::{PeerEvent, PeerId};
use crate::registry::{Access, Factory, RegisterError, Registration, Registry, Supervisor};
use crate::remote::{Inbound, Protocol};
use crate::transport::{self, CloseCode, close};
use crate::watch::PeerDown;

/// How long a handshake may take, from the first packet to the version agreed.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Handshakes of dialling peers that may be under way at a time; more are refused and may try again.
const HANDSHAKES_MAX: usize = 64;

/// From this many handshakes on, a dialling peer must first show that it can receive at its address.
const HANDSHAKES_TRUSTING: usize = 32;

/// Events that a receiver of [`Node::peer_events`] may fall behind before it misses some.
const PEER_EVENTS_MAX: usize = 1024;

/// How long [`Node::shutdown`] waits for the peers to hear of it.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// Settings of a [`Node`].
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// What this side calls itself in the version handshake.
    pub build: String,
    /// How many bytes of bulk payloads one peer may have in this process at a time, over all actors.
    pub bulk_bytes_per_peer: u64,
    /// How many peers may be connected at a time; more are refused.
    pub peers_max: usize,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self { build: env!("CARGO_PKG_VERSION").to_owned(), bulk_bytes_per_peer: 1024 * 1024 * 1024, peers_max: 1024 }
    }
}

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The address is not to be had.
    #[error("failed to listen on {addr}; choose another port, or stop what uses it")]
    Bind {
        /// The address asked for.
        addr: SocketAddr,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The identity is of no use.
    #[error("failed to use this process's identity")]
    Identity(#[from] IdentityError),
    /// The node's own supervisor could not start.
    #[error("failed to start the supervisor of remotely started actors: {0}")]
    Supervisor(String),
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answered in time.
    #[error("no answer from {addr}")]
    Unreachable {
        /// The address dialled.
        addr: SocketAddr,
    },
    /// The peer is signed by our authority but has another role.
    #[error("the process at {addr} is not {expected}: {reason}")]
    WrongRole {
        /// The address dialled.
        addr: SocketAddr,
        /// The role asked for.
        expected: Role,
        /// What the TLS library says.
        reason: String,
    },
    /// The peer's certificate is not signed by our authority, or has expired.
    #[error("the process at {addr} cannot be trusted: {reason}")]
    Untrusted {
        /// The address dialled.
        addr: SocketAddr,
        /// What the TLS library says.
        reason: String,
    },
    /// The peer refuses us.
    #[error("{addr} refuses this process: {reason}")]
    Refused {
        /// The address dialled.
        addr: SocketAddr,
        /// The peer's reason.
        reason: String,
    },
    /// No version of the protocol is spoken by both.
    #[error("{addr} speaks another version of the protocol: {reason}")]
    Version {
        /// The address dialled.
        addr: SocketAddr,
        /// Both ranges.
        reason: String,
    },
    /// The connection broke while it was being made.
    #[error("failed to connect to {addr}: {reason}")]
    Broken {
        /// The address dialled.
        addr: SocketAddr,
        /// The cause.
        reason: String,
    },
}

/// Called when a peer is gone.
type DownHook = Box<dyn Fn(&Peer, &PeerDown) + Send + Sync>;

/// What every connection of a node shares.
pub(crate) struct Shared {
    pub(crate) registry: Arc<Registry>,
    pub(crate) config: NodeConfig,
    peers: Mutex<HashMap<PeerId, Peer>>,
    events: broadcast::Sender<PeerEvent>,
    down_hooks: Mutex<Vec<Arc<DownHook>>>,
    last_peer: AtomicU64,
}

impl Shared {
    pub(crate) fn next_peer_id(&self) -> PeerId {
        PeerId(self.last_peer.fetch_add(1, Ordering::Relaxed) + 1)
    }

    pub(crate) fn up(&self, peer: &Peer) {
        tracing::debug!(peer = %peer.role(), addr = %peer.remote_addr(), "peer up");
        lock(&self.peers).insert(peer.id(), peer.clone());
        let _ = self.events.send(PeerEvent::Up(peer.clone()));
    }

    pub(crate) fn down(&self, peer: &Peer, reason: &PeerDown) {
        tracing::debug!(peer = %peer.role(), %reason, "peer down");
        lock(&self.peers).remove(&peer.id());
        let hooks: Vec<_> = lock(&self.down_hooks).clone();
        for hook in hooks {
            hook(peer, reason);
        }
        let _ = self.events.send(PeerEvent::Down { id: peer.id(), role: peer.role(), reason: reason.clone() });
    }
}

/// One QUIC endpoint of this process. Cheap to clone; [`Node::shutdown`] ends it.
#[derive(Clone)]
pub struct Node(Arc<NodeInner>);

struct NodeInner {
    identity: Identity,
    role: Role,
    local_addr: SocketAddr,
    endpoint: Endpoint,
    supervisor: ActorCell,
    shared: Arc<Shared>,
}

impl Node {
    /// Starts listening on `bind` (port 0: any). Call it inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`NodeError`].
    pub fn start(identity: &Identity, bind: SocketAddr, config: NodeConfig) -> Result<Self, NodeError> {
        let role = identity.role()?;
        let server = transport::server_config(identity, bind)?;
        let (endpoint, local_addr) = transport::endpoint(bind, Some(server))
            .and_then(|endpoint| endpoint.local_addr().map(|addr| (endpoint, addr)))
            .map_err(|source| NodeError::Bind { addr: bind, source })?;
        let registry: Arc<Registry> = Arc::default();
        let (supervisor, _) = ractor::ActorRuntime::spawn_instant(None, Supervisor, registry.clone())
            .map_err(|error| NodeError::Supervisor(error.to_string()))?;
        let shared = Arc::new(Shared {
            registry,
            config,
            peers: Mutex::default(),
            events: broadcast::Sender::new(PEER_EVENTS_MAX),
            down_hooks: Mutex::default(),
            last_peer: AtomicU64::new(0),
        });
        tokio::spawn(accept_peers(endpoint.clone(), identity.clone(), shared.clone()));
        let supervisor = supervisor.get_cell();
        Ok(Self(Arc::new(NodeInner { identity: identity.clone(), role, local_addr, endpoint, supervisor, shared })))
    }

    /// Who this node is.
    pub fn role(&self) -> Role {
        self.0.role
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.0.local_addr
    }

    /// Makes a new connection to the process with this role. Every call makes one: callers that want one keep it.
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    pub async fn connect(&self, addr: SocketAddr, expect: Role) -> Result<Peer, ConnectError> {
        let connected = tokio::time::timeout(HANDSHAKE_TIMEOUT, self.dial(addr, expect)).await;
        connected.unwrap_or(Err(ConnectError::Unreachable { addr }))
    }

    /// Lets peers reach `actor` under `name`, as long as it lives.
    ///
    /// # Errors
    ///
    /// [`RegisterError`] where the name is taken or too long.
    pub fn register<P, M>(&self, name: &str, actor: ActorRef<M>, access: Access) -> Result<Registration, RegisterError>
    where
        P: Protocol,
        M: From<Inbound<P>> + ractor::Message,
    {
        let cell = actor.get_cell();
        // Before it is registered, so that its end cannot be missed.
        self.0.supervisor.monitor(cell.clone());
        let receiver = Box::new(ActorReceiver::<P, M> { actor, protocol: PhantomData });
        let registration = self.0.shared.registry.add(name, P::NAME, access, cell.clone(), receiver)?;
        if cell.get_status() >= ActorStatus::Stopping {
            registration.unregister();
            return Err(RegisterError::Ended(name.to_owned()));
        }
        Ok(registration)
    }

    /// Lets peers start actors here by name. `make` builds an actor and its arguments from what the peer sent; the actor
    /// is supervised by this node, and reachable for whoever `access` lets in. It lives until it stops by itself or the
    /// node shuts down; the peer that started it may go.
    ///
    /// # Errors
    ///
    /// [`RegisterError`] where the name is taken or too long.
    pub fn register_factory<P, A, F>(&self, name: &str, access: Access, make: F) -> Result<(), RegisterError>
    where
        P: Protocol,
        A: Actor,
        A::Msg: From<Inbound<P>>,
        F: Fn(Role, Vec<u8>) -> Result<(A, A::Arguments), String> + Send + Sync + 'static,
    {
        let spawner = Arc::new(Spawner {
            factory: name.to_owned(),
            access: access.clone(),
            registry: Arc::downgrade(&self.0.shared.registry),
            supervisor: self.0.supervisor.clone(),
            protocol: PhantomData::<fn() -> P>,
        });
        let start = move |from, args| -> crate::registry::Starting {
            let made = make(from, args);
            let spawner = spawner.clone();
            Box::pin(async move {
                let (actor, arguments) = made.map_err(|reason| Refusal::SpawnRefused(frame::short(&reason)))?;
                spawner.spawn(actor, arguments).await
            })
        };
        self.0.shared.registry.add_factory(name, Factory { protocol: P::NAME, access, start: Box::new(start) })
    }

    /// Peers as they come and go. A receiver that falls behind by more than a thousand events misses some; take
    /// [`Self::peers`] then.
    pub fn peer_events(&self) -> broadcast::Receiver<PeerEvent> {
        self.0.shared.events.subscribe()
    }

    /// Calls `hook` whenever a peer is gone, from the connection's own task: it must not block.
    pub fn on_peer_down(&self, hook: impl Fn(&Peer, &PeerDown) + Send + Sync + 'static) {
        lock(&self.0.shared.down_hooks).push(Arc::new(Box::new(hook)));
    }

    /// The peers connected now.
    pub fn peers(&self) -> Vec<Peer> {
        lock(&self.0.shared.peers).values().cloned().collect()
    }

    /// Closes every connection and stops listening; stops the actors that peers started here.
    pub async fn shutdown(&self) {
        for peer in self.peers() {
            peer.close("shutting down");
        }
        self.0.endpoint.close((CloseCode::Goodbye as u32).into(), b"shutting down");
        self.0.supervisor.stop_children(Some("the node shuts down".to_owned()));
        self.0.supervisor.stop(None);
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, self.0.endpoint.wait_idle()).await.is_err() {
            tracing::debug!("some peers were not told of the shutdown");
        }
    }

    async fn dial(&self, addr: SocketAddr, expect: Role) -> Result<Peer, ConnectError> {
        let broken = |reason: String| ConnectError::Broken { addr, reason };
        let config = transport::client_config(&self.0.identity, addr).map_err(|error| broken(error.to_string()))?;
        let connecting = self.0.endpoint.connect_with(config, addr, &expect.to_string());
        let connection = connecting
            .map_err(|error| broken(error.to_string()))?
            .await
            .map_err(|error| connect_error(addr, expect, error))?;
        let role = handshake::peer_role(&connection).map_err(|error| broken(error.to_string()))?;
        if role != expect {
            close(&connection, CloseCode::NoRole, "not the role that was dialled");
            return Err(ConnectError::WrongRole { addr, expected: expect, reason: format!("it is {role}") });
        }
        match handshake::dial(&connection, &self.0.shared.config.build).await {
            Ok(agreed) => Ok(Peer::start(&self.0.shared, connection, role, agreed)),
            Err(HandshakeError::Connection(error)) => Err(connect_error(addr, expect, error)),
            Err(HandshakeError::Version(reason)) => Err(ConnectError::Version { addr, reason }),
            Err(error) => Err(broken(error.to_string())),
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({} at {})", self.0.role, self.0.local_addr)
    }
}

/// What a factory needs to start an actor.
struct Spawner<P> {
    factory: String,
    access: Access,
    registry: std::sync::Weak<Registry>,
    supervisor: ActorCell,
    protocol: PhantomData<fn() -> P>,
}

impl<P: Protocol> Spawner<P> {
    async fn spawn<A>(&self, actor: A, arguments: A::Arguments) -> Result<String, Refusal>
    where
        A: Actor,
        A::Msg: From<Inbound<P>>,
    {
        let refused = |reason: String| Refusal::SpawnRefused(frame::short(&reason));
        let registry = self.registry.upgrade().ok_or_else(|| refused("the node shuts down".to_owned()))?;
        let spawned = A::spawn_linked(None, actor, arguments, self.supervisor.clone()).await;
        let (actor, _) = spawned.map_err(|error| refused(error.to_string()))?;
        let name = registry.fresh_name(&self.factory);
        let cell = actor.get_cell();
        let receiver = Box::new(ActorReceiver::<P, A::Msg> { actor, protocol: PhantomData });
        let registration = registry
            .add(&name, P::NAME, self.access.clone(), cell.clone(), receiver)
            .map_err(|error| refused(error.to_string()))?;
        if cell.get_status() >= ActorStatus::Stopping {
            registration.unregister();
            return Err(refused("the actor ended as soon as it was started".to_owned()));
        }
        Ok(name)
    }
}

/// Lets peers in until the endpoint is closed.
async fn accept_peers(endpoint: Endpoint, identity: Identity, shared: Arc<Shared>) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    while let Some(incoming) = endpoint.accept().await {
        let under_way = HANDSHAKES_MAX - handshakes.available_permits();
        if under_way >= HANDSHAKES_TRUSTING && !incoming.remote_address_validated() && incoming.may_retry() {
            let _ = incoming.retry();
            continue;
        }
        let Ok(permit) = handshakes.clone().try_acquire_owned() else {
            tracing::warn!(addr = %incoming.remote_address(), "a peer was refused: too many handshakes under way");
            incoming.refuse();
            continue;
        };
        let (identity, shared) = (identity.clone(), shared.clone());
        tokio::spawn(async move {
            let addr = incoming.remote_address();
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, accept_peer(incoming, &identity, &shared)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%addr, error = %chain(&error), "a peer was not let in"),
                Err(_) => tracing::warn!(%addr, "a peer did not finish its handshake"),
            }
            drop(permit);
        });
    }
}

async fn accept_peer(incoming: Incoming, identity: &Identity, shared: &Arc<Shared>) -> Result<(), HandshakeError> {
    let config = transport::server_config(identity, incoming.remote_address())?;
    let connection = incoming
        .accept_with(Arc::new(config))
        .map_err(HandshakeError::Connection)?
        .await
        .map_err(HandshakeError::Connection)?;
    // Dropped on the way out, however that is, it leaves no half-open connection behind.
    let guard = CloseUnlessAgreed(Some(connection.clone()));
    let role = handshake::peer_role(&connection)?;
    if lock(&shared.peers).len() >= shared.config.peers_max {
        close(&connection, CloseCode::PeersMax, "no room for another peer");
        return Err(HandshakeError::Connection(ConnectionError::LocallyClosed));
    }
    let agreed = handshake::accept(&connection, &shared.config.build).await?;
    guard.agreed();
    Peer::start(shared, connection, role, agreed);
    Ok(())
}

/// Closes a connection whose handshake is given up.
struct CloseUnlessAgreed(Option<Connection>);

impl CloseUnlessAgreed {
    fn agreed(mut self) {
        self.0 = None;
    }
}

impl Drop for CloseUnlessAgreed {
    fn drop(&mut self) {
        if let Some(connection) = &self.0 {
            close(connection, CloseCode::Handshake, "the handshake was not finished");
        }
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// TLS alerts as QUIC carries them: 0x100 and the alert's number.
const ALERTS: u64 = 0x100;
const ALERT_BAD_CERTIFICATE: u64 = ALERTS + 42;

/// What a failed dial means to the caller.
fn connect_error(addr: SocketAddr, expected: Role, error: ConnectionError) -> ConnectError {
    match error {
        ConnectionError::TimedOut => ConnectError::Unreachable { addr },
        ConnectionError::TransportError(error) => match u64::from(error.code) {
            ALERT_BAD_CERTIFICATE => ConnectError::WrongRole { addr, expected, reason: error.reason },
            code if code >= ALERTS => ConnectError::Untrusted { addr, reason: error.reason },
            _ => ConnectError::Broken { addr, reason: error.to_string() },
        },
        ConnectionError::ConnectionClosed(close) => ConnectError::Refused { addr, reason: close.to_string() },
        ConnectionError::ApplicationClosed(close) => {
            let reason = String::from_utf8_lossy(&close.reason).into_owned();
            match close.error_code.into_inner() {
                code if code == CloseCode::Version as u64 => ConnectError::Version { addr, reason },
                _ => ConnectError::Refused { addr, reason },
            }
        }
        other => ConnectError::Broken { addr, reason: other.to_string() },
    }
}
