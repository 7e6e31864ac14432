//! One authenticated connection to another node.
//!
//! ```text
//! drive (a task each connection; the first of these to end ends it)
//! ├─ Dispatcher::read   frames in
//! ├─ Writer::run        frames out
//! └─ accept_bulk        a task each transfer
//! ```

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use bytes::BytesMut;
use quinn::{Connection, ConnectionError};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use crate::codec::{self, CodecError};
use crate::dispatch::{Dispatcher, Violation};
use crate::frame::{self, FRAME_BYTES_MAX, FrameCutter, tag};
use crate::handshake::Agreed;
use crate::identity::Role;
use crate::node::Shared;
use crate::outbound::Outgoing;
use crate::remote::{Protocol, RemoteError, RemoteRef};
use crate::transfer::{self, ReceiveError};
use crate::transport::{CloseCode, close};
use crate::watch::{ExitReason, ExitWatch, PeerDown};
use crate::writer::{PushError, Urgency, Writer};

/// Distinguishes connections within this process; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u64);

/// A peer has come or gone.
#[derive(Debug, Clone)]
pub enum PeerEvent {
    /// Connected and past the version handshake.
    Up(Peer),
    /// Gone; every sender and watcher of it has been told.
    Down {
        /// Which connection.
        id: PeerId,
        /// Who it was.
        role: Role,
        /// Why it ended.
        reason: PeerDown,
    },
}

/// An authenticated connection to another node. Cheap to clone.
#[derive(Clone)]
pub struct Peer(Arc<PeerInner>);

struct PeerInner {
    id: PeerId,
    role: Role,
    build: String,
    connection: Connection,
    writer: Arc<Writer>,
    outgoing: Arc<Outgoing>,
    down: watch::Sender<Option<PeerDown>>,
    /// What this side said when it closed the connection.
    closed_here: OnceLock<String>,
}

impl Peer {
    /// Starts everything that serves a connection both sides have agreed on.
    pub(crate) fn start(shared: &Arc<Shared>, connection: Connection, role: Role, agreed: Agreed) -> Self {
        let writer = Arc::new(Writer::new(connection.clone(), agreed.send));
        let outgoing = Arc::new(Outgoing::new(writer.clone()));
        let dispatcher = Arc::new(Dispatcher::new(
            role,
            shared.registry.clone(),
            writer.clone(),
            outgoing.clone(),
            shared.config.bulk_bytes_per_peer,
        ));
        let peer = Self(Arc::new(PeerInner {
            id: shared.next_peer_id(),
            role,
            build: agreed.hello.build,
            connection,
            writer,
            outgoing,
            down: watch::Sender::new(None),
            closed_here: OnceLock::new(),
        }));
        shared.up(&peer);
        tokio::spawn(peer.clone().drive(shared.clone(), dispatcher, agreed.receive));
        peer
    }

    /// Which connection this is.
    pub fn id(&self) -> PeerId {
        self.0.id
    }

    /// Who is at the other end, as its certificate says.
    pub fn role(&self) -> Role {
        self.0.role
    }

    /// What the other end calls its build.
    pub fn build(&self) -> &str {
        &self.0.build
    }

    /// Where the other end is.
    pub fn remote_addr(&self) -> SocketAddr {
        self.0.connection.remote_address()
    }

    /// Whether the connection still stands.
    pub fn is_alive(&self) -> bool {
        self.0.connection.close_reason().is_none()
    }

    /// A reference to the actor registered there under `name`. Asks nobody: a wrong name shows with the first message.
    pub fn actor<P: Protocol>(&self, name: &str) -> RemoteRef<P> {
        RemoteRef::new(self.clone(), self.0.outgoing.slot(name, P::NAME))
    }

    /// Starts an actor there, by the name of a factory. The actor lives on when this connection ends.
    ///
    /// # Errors
    ///
    /// [`RemoteError`] where there is no such factory, this role may not use it, or it refuses the arguments.
    pub async fn spawn<P: Protocol>(&self, factory: &str, args: Vec<u8>) -> Result<RemoteRef<P>, RemoteError> {
        let (factory_name, protocol) = (factory.to_owned(), P::NAME.to_owned());
        let (_, answer) = self
            .ask(factory, P::NAME, |buffer, call| {
                let spawn = frame::Spawn { call, factory: factory_name, protocol, args };
                frame::put_struct(buffer, tag::SPAWN, &spawn)
            })
            .await?;
        let name: String = codec::decode::<_, FRAME_BYTES_MAX>(&answer)?;
        Ok(self.actor(&name))
    }

    /// Watches an actor there.
    ///
    /// # Errors
    ///
    /// [`RemoteError`] where there is no such actor, or this role may not watch it.
    pub async fn watch(&self, actor_name: &str) -> Result<ExitWatch, RemoteError> {
        let actor = actor_name.to_owned();
        let mut watch = None;
        self.ask(actor_name, "", |buffer, call| {
            watch = Some(ExitWatch::new(call, self.0.outgoing.clone()));
            frame::put_struct(buffer, tag::WATCH, &frame::Watch { call, actor })
        })
        .await?;
        watch.ok_or_else(|| self.down_error())
    }

    /// Watches an actor there and calls `hook` when it has ended.
    ///
    /// # Errors
    ///
    /// As [`Self::watch`].
    pub async fn on_actor_exit(
        &self,
        actor_name: &str,
        hook: impl FnOnce(ExitReason) + Send + 'static,
    ) -> Result<(), RemoteError> {
        let watch = self.watch(actor_name).await?;
        tokio::spawn(async move { hook(watch.exited().await) });
        Ok(())
    }

    /// Ends the connection at once; the peer is told `reason`. What was sent and not yet answered may be lost.
    pub fn close(&self, reason: &str) {
        self.close_with(CloseCode::Goodbye, reason);
    }

    /// Waits for the end of the connection.
    pub async fn closed(&self) -> PeerDown {
        let mut down = self.0.down.subscribe();
        match down.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(reason)) => reason.clone(),
            _ => PeerDown::Broken("the connection's task is gone".to_owned()),
        }
    }

    pub(crate) fn writer(&self) -> &Arc<Writer> {
        &self.0.writer
    }

    pub(crate) fn outgoing(&self) -> &Arc<Outgoing> {
        &self.0.outgoing
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.0.connection
    }

    /// What a sender is told once the connection is gone.
    pub(crate) fn down_error(&self) -> RemoteError {
        let reason = self.0.connection.close_reason().map(|error| self.down_reason(error).to_string());
        RemoteError::PeerDown(reason.unwrap_or_else(|| "the connection is being closed".to_owned()))
    }

    pub(crate) fn close_with(&self, code: CloseCode, reason: &str) {
        let _ = self.0.closed_here.set(reason.to_owned());
        close(&self.0.connection, code, reason);
    }

    /// Sends a request that is for the peer itself, and waits for its answer.
    async fn ask(
        &self,
        target: &str,
        protocol: &'static str,
        fill: impl FnOnce(&mut BytesMut, u64) -> Result<(), CodecError>,
    ) -> Result<(u64, bytes::Bytes), RemoteError> {
        let mut pending = self.0.outgoing.begin_call(&self.0.outgoing.slot(target, protocol))?;
        let id = pending.id;
        match self.0.writer.push(Urgency::Now, |buffer| fill(buffer, id)) {
            Ok(()) => Ok((id, pending.answer().await?)),
            Err(PushError::Full) => Err(RemoteError::Busy { actor: target.to_owned() }),
            Err(PushError::Closed) => Err(self.down_error()),
            Err(PushError::Codec(error)) => Err(error.into()),
        }
    }

    async fn drive(self, shared: Arc<Shared>, dispatcher: Arc<Dispatcher>, receive: quinn::RecvStream) {
        let mut tasks = JoinSet::new();
        {
            let dispatcher = dispatcher.clone();
            tasks.spawn(async move { dispatcher.read(receive, FrameCutter::default()).await });
        }
        {
            let writer = self.0.writer.clone();
            tasks.spawn(async move {
                writer.run().await;
                Ok(())
            });
        }
        tasks.spawn(accept_bulk(self.0.connection.clone(), dispatcher.clone()));
        let error = tokio::select! {
            error = self.0.connection.closed() => error,
            Some(ended) = tasks.join_next() => {
                self.task_ended(ended);
                self.0.connection.closed().await
            }
        };
        tasks.shutdown().await;
        let reason = self.down_reason(error);
        self.0.writer.shut();
        dispatcher.down();
        self.0.outgoing.down(&reason.to_string());
        shared.down(&self, &reason);
        self.0.down.send_replace(Some(reason));
    }

    /// One of the tasks is done, so the connection is, too. Does nothing where it was the connection that ended first.
    fn task_ended(&self, ended: Result<Result<(), Violation>, JoinError>) {
        match ended {
            Ok(Ok(())) if self.0.connection.close_reason().is_some() => {}
            Ok(Ok(())) => self.close_with(CloseCode::Malformed, "the control stream ended"),
            Ok(Err(violation)) => {
                tracing::warn!(peer = %self.0.role, %violation, "a peer broke the protocol");
                self.close_with(violation.code(), &frame::short(&violation.to_string()));
            }
            Err(error) => {
                tracing::error!(peer = %self.0.role, %error, "a connection's task failed");
                self.close_with(CloseCode::Internal, "an internal error at this side");
            }
        }
    }

    fn down_reason(&self, error: ConnectionError) -> PeerDown {
        match error {
            ConnectionError::TimedOut => PeerDown::Silent,
            ConnectionError::LocallyClosed => {
                PeerDown::ClosedHere(self.0.closed_here.get().cloned().unwrap_or_else(|| "shutting down".to_owned()))
            }
            ConnectionError::ApplicationClosed(close) => {
                PeerDown::ClosedByPeer(String::from_utf8_lossy(&close.reason).into_owned())
            }
            ConnectionError::ConnectionClosed(close) => PeerDown::ClosedByPeer(close.to_string()),
            other => PeerDown::Broken(other.to_string()),
        }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({} at {}, connection {})", self.0.role, self.remote_addr(), self.0.id.0)
    }
}

/// Receives bulk transfers, each in a task of its own; QUIC limits how many there are at a time.
async fn accept_bulk(connection: Connection, dispatcher: Arc<Dispatcher>) -> Result<(), Violation> {
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            stream = connection.accept_uni() => match stream {
                Ok(stream) => {
                    running.spawn(transfer::receive(stream, dispatcher.clone()));
                }
                Err(_) => return Ok(()),
            },
            Some(done) = running.join_next() => match done {
                Ok(Ok(())) => {}
                Ok(Err(ReceiveError::Violation(violation))) => return Err(violation),
                Ok(Err(ReceiveError::Ended)) => tracing::debug!("a bulk transfer ended early"),
                Err(error) => tracing::error!(%error, "the receiver of a bulk transfer failed"),
            },
        }
    }
}
