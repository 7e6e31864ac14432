//! Hands out the programs that jobs bring along: piece by piece, to nodes that have a worker of such a job.
//!
//! The actor only decides who waits: a piece is read and sent by a task of its own, with the request's credit in its
//! hand, so that a node asks for no more than a few at a time. Nothing here runs a program; they are bytes.
//!
//! The way to a node's agent is kept as long as its connection lives, so that a piece costs no channel of its own.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use neap_runtime::remote::{Inbound, RemoteRef, ReplyTo};
use neap_runtime::wire::artifact::{
    ArtifactProtocol, PIECE_ACTOR, PIECE_BYTES_MAX, Piece, PieceProtocol, PieceReply, PieceRequest,
};
use neap_runtime::{Access, BulkSlice, MailboxLimits, Node, Role};
use neap_scheduler::model::NodeId;
use neap_storage::ArtifactStore;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::Semaphore;

use crate::controller::ControllerMsg;

/// Pieces that are read and sent at once, to all nodes together: what bounds the memory that they take.
const SENDING_MAX: usize = 8;

/// Requests of one node that may wait.
const WAITING_MAX: u32 = 8;

/// Who may ask for pieces, and how many at a time.
pub(crate) fn access() -> Access {
    Access::nodes().with_limits(MailboxLimits { messages: WAITING_MAX, bulk_bytes: 0 })
}

/// Serves [`ArtifactProtocol`].
pub(crate) struct ArtifactSource {
    pub(crate) store: ArtifactStore,
    pub(crate) node: Node,
    pub(crate) controller: ActorRef<ControllerMsg>,
}

/// A message to [`ArtifactSource`].
pub(crate) struct ArtifactMsg(Inbound<ArtifactProtocol>);

impl From<Inbound<ArtifactProtocol>> for ArtifactMsg {
    fn from(inbound: Inbound<ArtifactProtocol>) -> Self {
        Self(inbound)
    }
}

impl Actor for ArtifactSource {
    type Msg = ArtifactMsg;
    type State = SourceState;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<ArtifactMsg>, (): ()) -> Result<SourceState, ActorProcessingErr> {
        Ok(SourceState { places: Arc::new(Semaphore::new(SENDING_MAX)), ways: BTreeMap::new() })
    }

    async fn handle(
        &self,
        _: ActorRef<ArtifactMsg>,
        message: ArtifactMsg,
        state: &mut SourceState,
    ) -> Result<(), ActorProcessingErr> {
        let Inbound::Call { from: Role::Node(to), request, reply, credit } = message.0 else { return Ok(()) };
        let sending = Sending {
            store: self.store.clone(),
            way: self.way_to(to, state),
            controller: self.controller.clone(),
            to,
            request,
        };
        let places = state.places.clone();
        tokio::spawn(async move {
            let _credit = credit;
            let _place = places.acquire().await;
            sending.answer(reply).await;
        });
        Ok(())
    }
}

/// The state of [`ArtifactSource`].
pub(crate) struct SourceState {
    places: Arc<Semaphore>,
    /// The ways to agents that have asked, at most one a connection.
    ways: BTreeMap<NodeId, RemoteRef<PieceProtocol>>,
}

impl ArtifactSource {
    /// The way to a node over its newest connection; nothing where it has none.
    fn way_to(&self, to: NodeId, state: &mut SourceState) -> Option<RemoteRef<PieceProtocol>> {
        state.ways.retain(|_, way| way.peer().is_alive());
        if let Some(way) = state.ways.get(&to) {
            return Some(way.clone());
        }
        let role = Role::Node(to);
        let peer = self.node.peers().into_iter().rev().find(|peer| peer.role() == role && peer.is_alive())?;
        let way = peer.actor::<PieceProtocol>(PIECE_ACTOR);
        state.ways.insert(to, way.clone());
        Some(way)
    }
}

/// One piece on its way.
struct Sending {
    store: ArtifactStore,
    way: Option<RemoteRef<PieceProtocol>>,
    controller: ActorRef<ControllerMsg>,
    to: NodeId,
    request: PieceRequest,
}

impl Sending {
    async fn answer(self, reply: ReplyTo<ArtifactProtocol>) {
        let PieceRequest { artifact, .. } = self.request;
        let answer = match self.send().await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(%error, %artifact, node = %self.to, "piece of an artifact not sent");
                PieceReply::Failed { reason: error.to_string() }
            }
        };
        reply.send(answer);
    }

    async fn send(&self) -> Result<PieceReply, Box<dyn std::error::Error + Send + Sync>> {
        let PieceRequest { artifact, offset } = self.request;
        let refused = |reason: String| Ok(PieceReply::Refused { reason });
        if !ractor::call!(self.controller, ControllerMsg::MayFetch, self.to, artifact)? {
            return refused(format!("{} has no worker of a job with {artifact}", self.to));
        }
        let store = self.store.clone();
        let read = move || -> Result<_, Box<dyn std::error::Error + Send + Sync>> {
            let Some(stored) = store.find(artifact)? else { return Ok(None) };
            Ok(Some((piece(&stored.path, offset, stored.bytes)?, stored.bytes)))
        };
        let Some((bytes, total)) = tokio::task::spawn_blocking(read).await?? else {
            return refused(format!("the control plane does not have {artifact} any more; hand the job in again"));
        };
        if offset > total {
            return refused(format!("{artifact} has {total} bytes, and a piece from {offset} on was asked for"));
        }
        let way = self.way.as_ref().ok_or("the node is not connected")?;
        way.send_bulk(Piece { artifact, offset }, &[BulkSlice::from(bytes::Bytes::from(bytes))]).await?;
        Ok(PieceReply::Sent { total })
    }
}

/// At most [`PIECE_BYTES_MAX`] bytes from `offset` on.
fn piece(path: &PathBuf, offset: u64, total: u64) -> io::Result<Vec<u8>> {
    let length = total.saturating_sub(offset).min(PIECE_BYTES_MAX);
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    File::open(path)?.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}
