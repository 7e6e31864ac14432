//! The ways to parameter servers in other processes. A trainer's way to a server: connects, says hello, sends gradients; again and again until the
//! membership changes.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use neap_runtime::wire::training::{SEGMENT_ACTOR, SERVER_ACTOR, SegmentProtocol, ServerProtocol, TrainerHello};
use neap_runtime::{ConnectError, Node, Peer, RemoteError, RemoteRef, Role};
use neap_scheduler::model::{MembershipEpoch, WorkerId};
use tokio::sync::mpsc;

use crate::links::{Outbox, OutgoingGradients, ToServer};

/// How long another worker has to answer a hello.
pub(crate) const HELLO_TIMEOUT: Duration = Duration::from_secs(3);

/// Pause between two tries.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Tries after which a worker that was never reached counts as lost. It listens before the membership names it.
pub(crate) const TRIES_MAX: u32 = 10;

/// Where the server is.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServerAddress {
    pub(super) worker: WorkerId,
    pub(super) role: Role,
    pub(super) addr: SocketAddr,
}

/// Why another worker is not reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WayError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error("the connection ended")]
    Ended,
}

/// Sends what comes through `gradients` to the server; ends when their sender is dropped.
pub(super) async fn follow(
    node: Node,
    server: ServerAddress,
    hello: TrainerHello,
    mut gradients: mpsc::Receiver<OutgoingGradients>,
    outbox: Outbox,
) {
    let mut tries = 0;
    loop {
        let error = match attach(&node, server, &hello).await {
            Ok(actor) => match forward(&actor, &mut gradients).await {
                Ok(()) => return,
                Err(error) => {
                    tries = TRIES_MAX;
                    error
                }
            },
            Err(error) => error,
        };
        tries += 1;
        tracing::debug!(%error, server = %server.worker, "the parameter server is not reached");
        if tries >= TRIES_MAX {
            outbox.peer_lost(hello.membership, server.worker);
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// The way from one server to another, or between a server and its replica: sends what comes through `messages`, in order; ends when their sender is dropped.
/// What a lost connection swallows is made up for under the next membership, so it is not tried again.
pub(super) async fn link(
    node: Node,
    server: ServerAddress,
    membership: MembershipEpoch,
    mut messages: mpsc::Receiver<ToServer>,
    outbox: Outbox,
) {
    if let Err(error) = talk(&node, server, &mut messages).await {
        tracing::debug!(%error, server = %server.worker, "another parameter server is not reached");
        outbox.peer_lost(membership, server.worker);
    }
}

async fn talk(node: &Node, server: ServerAddress, messages: &mut mpsc::Receiver<ToServer>) -> Result<(), WayError> {
    let mut tries = 0;
    let peer = loop {
        match connect(node, server.addr, server.role).await {
            Ok(peer) => break peer,
            Err(error) if tries >= TRIES_MAX => return Err(error.into()),
            Err(_) => tries += 1,
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    };
    let actor = peer.actor::<SegmentProtocol>(SEGMENT_ACTOR);
    loop {
        let next = tokio::select! {
            next = messages.recv() => next,
            _ = peer.closed() => return Err(WayError::Ended),
        };
        match next {
            None => return Ok(()),
            Some(ToServer::Message(message)) => actor.cast(message).await?,
            Some(ToServer::Bulk(header, payload)) => actor.send_bulk(header, &payload).await?,
        }
    }
}

async fn attach(
    node: &Node,
    server: ServerAddress,
    hello: &TrainerHello,
) -> Result<RemoteRef<ServerProtocol>, WayError> {
    let peer = connect(node, server.addr, server.role).await?;
    let actor = peer.actor::<ServerProtocol>(SERVER_ACTOR);
    actor.call(hello.clone(), HELLO_TIMEOUT).await?;
    Ok(actor)
}

/// The connection to another worker: the one there is, or a new one.
pub(crate) async fn connect(node: &Node, addr: SocketAddr, role: Role) -> Result<Peer, ConnectError> {
    match node.peers().into_iter().find(|peer| peer.role() == role && peer.is_alive()) {
        Some(peer) => Ok(peer),
        None => {
            // On its own: where a new membership ends the caller's task, a connection that the other side knows already is
            // not closed under it.
            let node = node.clone();
            let dialled = tokio::spawn(async move { node.connect(addr, role).await });
            dialled.await.unwrap_or(Err(ConnectError::Unreachable { addr }))
        }
    }
}

/// `Ok` when there will be no more gradients.
async fn forward(
    server: &RemoteRef<ServerProtocol>,
    gradients: &mut mpsc::Receiver<OutgoingGradients>,
) -> Result<(), WayError> {
    loop {
        let next = tokio::select! {
            next = gradients.recv() => next,
            _ = server.peer().closed() => return Err(WayError::Ended),
        };
        let Some(OutgoingGradients { header, gradients, samples }) = next else { return Ok(()) };
        let ids: Vec<u8> = bytemuck::cast_slice(&samples).to_vec();
        let mut payload = gradients;
        payload.push(Bytes::from(ids).into());
        server.send_bulk(header, &payload).await?;
    }
}
