//! The way to a parameter server in another process: connects, says hello, sends gradients; again and again until the
//! membership changes.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use neap_runtime::wire::training::{SERVER_ACTOR, ServerProtocol, TrainerHello};
use neap_runtime::{BulkSlice, ConnectError, Node, Peer, RemoteError, RemoteRef, Role};
use neap_scheduler::model::WorkerId;
use tokio::sync::mpsc;

use crate::links::{Outbox, OutgoingGradients};

/// How long the server has to answer a hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(3);

/// Pause between two tries.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Tries after which a server that was never reached counts as lost. It listens before the membership names it.
const TRIES_MAX: u32 = 10;

/// Where the server is.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServerAddress {
    pub(super) worker: WorkerId,
    pub(super) role: Role,
    pub(super) addr: SocketAddr,
}

#[derive(Debug, thiserror::Error)]
enum FollowError {
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

async fn attach(
    node: &Node,
    server: ServerAddress,
    hello: &TrainerHello,
) -> Result<RemoteRef<ServerProtocol>, FollowError> {
    let peer = connect(node, server.addr, server.role).await?;
    let actor = peer.actor::<ServerProtocol>(SERVER_ACTOR);
    actor.call(hello.clone(), HELLO_TIMEOUT).await?;
    Ok(actor)
}

/// The connection to another worker: the one there is, or a new one.
pub(crate) async fn connect(node: &Node, addr: SocketAddr, role: Role) -> Result<Peer, ConnectError> {
    match node.peers().into_iter().find(|peer| peer.role() == role && peer.is_alive()) {
        Some(peer) => Ok(peer),
        None => node.connect(addr, role).await,
    }
}

/// `Ok` when there will be no more gradients.
async fn forward(
    server: &RemoteRef<ServerProtocol>,
    gradients: &mut mpsc::Receiver<OutgoingGradients>,
) -> Result<(), FollowError> {
    loop {
        let next = tokio::select! {
            next = gradients.recv() => next,
            _ = server.peer().closed() => return Err(FollowError::Ended),
        };
        let Some(OutgoingGradients { header, gradients, samples }) = next else { return Ok(()) };
        let ids: Vec<u8> = bytemuck::cast_slice(&samples).to_vec();
        let mut payload: Vec<BulkSlice> = gradients.into_iter().map(BulkSlice::from_vec).collect();
        payload.push(Bytes::from(ids).into());
        server.send_bulk(header, &payload).await?;
    }
}
