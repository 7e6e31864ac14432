//! Programs that jobs bring along, fetched from the control plane at first use and kept for the next worker.
//!
//! One is fetched at a time, piece by piece: a request over the control stream, the piece as a bulk transfer, written and
//! hashed on a thread for files. A connection that is lost meanwhile only costs the piece under way. What came is run
//! only if it is, byte for byte, what the control plane named.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use neap_runtime::remote::Inbound;
use neap_runtime::wire::artifact::{
    ARTIFACT_ACTOR, ArtifactProtocol, PIECE_ACTOR, PIECE_BYTES_MAX, Piece, PieceProtocol, PieceReply, PieceRequest,
};
use neap_runtime::{Access, BulkBuffer, MailboxLimits, Node, RegisterError, Role};
use neap_scheduler::model::ContentHash;
use neap_storage::ArtifactStore;
use neap_storage::artifact::{ArtifactError, Incoming, Stored};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// What a node keeps at most; beyond it the program that was longest not started goes first.
pub(crate) const CACHE_BYTES_MAX: u64 = 8 << 30;

/// How long a piece may take from its request to its arrival: 4 MiB at 150 KB/s.
const PIECE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the whole program may take, with a control plane that is away for a while. Beyond it the worker is reported as
/// not started, and the control plane decides again.
const FETCH_TIMEOUT: Duration = Duration::from_secs(600);

/// Pause before a piece is asked for again.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// Why there is no program to start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoProgram {
    /// The control plane will not give it.
    #[error("the artifact {artifact} cannot be had: {reason}")]
    Refused { artifact: ContentHash, reason: String },
    /// It did not come in time.
    #[error("the artifact {artifact} did not come within {} s: {reason}", FETCH_TIMEOUT.as_secs())]
    Late { artifact: ContentHash, reason: String },
    /// This node cannot keep it.
    #[error(transparent)]
    Cache(#[from] ArtifactError),
    /// The thread that writes files ended badly.
    #[error("the artifact {artifact} could not be written")]
    Writer { artifact: ContentHash },
}

/// The programs of this node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Artifacts(Arc<Inner>);

struct Inner {
    store: ArtifactStore,
    endpoint: Node,
    /// Held by whoever fetches.
    turn: tokio::sync::Mutex<()>,
    awaited: Awaited,
}

/// The piece that was asked for, and who waits for it.
#[derive(Clone, Default)]
struct Awaited(Arc<Mutex<Option<Waiter>>>);

/// A piece, and the way to whoever asked for it.
type Waiter = (Piece, oneshot::Sender<BulkBuffer>);

impl Awaited {
    fn set(&self, piece: Piece) -> oneshot::Receiver<BulkBuffer> {
        let (sender, arrived) = oneshot::channel();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((piece, sender));
        arrived
    }

    /// Hands a piece to whoever waits for it. Any other is left over from a request that was given up.
    fn hand_over(&self, piece: Piece, payload: BulkBuffer) {
        let mut awaited = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match awaited.take_if(|(awaited, _)| *awaited == piece) {
            Some((_, waiting)) => {
                let _ = waiting.send(payload);
            }
            None => tracing::debug!(artifact = %piece.artifact, offset = piece.offset, "a piece nobody waits for"),
        }
    }
}

/// What came of asking for a piece.
enum Asked {
    Came { total: u64, payload: BulkBuffer },
    Refused(String),
    Again(String),
}

impl Artifacts {
    /// Opens the cache and takes pieces from the control plane.
    ///
    /// # Errors
    ///
    /// Where the endpoint does not take the actor.
    pub(crate) async fn start(
        store: ArtifactStore,
        endpoint: Node,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let awaited = Awaited::default();
        let (sink, _) = Actor::spawn(None, PieceSink(awaited.clone()), ()).await?;
        let limits = MailboxLimits { messages: 4, bulk_bytes: 2 * PIECE_BYTES_MAX };
        let access = Access::control().with_limits(limits);
        endpoint
            .register::<PieceProtocol, PieceMsg>(PIECE_ACTOR, sink, access)
            .map_err(|error: RegisterError| error)?;
        Ok(Self(Arc::new(Inner { store, endpoint, turn: tokio::sync::Mutex::default(), awaited })))
    }

    /// The file of a program; fetches it if it is not here.
    pub(crate) async fn executable(&self, artifact: ContentHash) -> Result<PathBuf, NoProgram> {
        let _turn = self.0.turn.lock().await;
        let store = self.0.store.clone();
        let found = tokio::task::spawn_blocking(move || store.find(artifact)).await;
        if let Some(stored) = found.map_err(|_| NoProgram::Writer { artifact })?? {
            return Ok(stored.path);
        }
        let begun = Instant::now();
        let stored = self.fetch(artifact, begun + FETCH_TIMEOUT).await?;
        let ms = begun.elapsed().as_millis();
        tracing::info!(%artifact, bytes = stored.bytes, ms, "artifact fetched");
        Ok(stored.path)
    }

    async fn fetch(&self, artifact: ContentHash, deadline: Instant) -> Result<Stored, NoProgram> {
        let mut incoming: Option<Incoming> = None;
        loop {
            let offset = incoming.as_ref().map_or(0, Incoming::bytes);
            match self.ask(Piece { artifact, offset }).await {
                Asked::Came { total, payload } => {
                    let writing = Writing { store: self.0.store.clone(), artifact, total, incoming };
                    let written = tokio::task::spawn_blocking(move || writing.write(&payload)).await;
                    match written.map_err(|_| NoProgram::Writer { artifact })?? {
                        Written::Whole(stored) => return Ok(stored),
                        Written::Part(more) => incoming = Some(*more),
                    }
                }
                Asked::Refused(reason) => return Err(NoProgram::Refused { artifact, reason }),
                Asked::Again(reason) if Instant::now() >= deadline => return Err(NoProgram::Late { artifact, reason }),
                Asked::Again(reason) => {
                    tracing::info!(%artifact, offset, reason, "piece of an artifact did not come, asking again");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    async fn ask(&self, piece: Piece) -> Asked {
        let peers = self.0.endpoint.peers();
        let control = peers.into_iter().rev().find(|peer| peer.role() == Role::Control && peer.is_alive());
        let Some(control) = control else { return Asked::Again("the control plane is away".to_owned()) };
        let arrived = self.0.awaited.set(piece);
        let source = control.actor::<ArtifactProtocol>(ARTIFACT_ACTOR);
        let request = PieceRequest { artifact: piece.artifact, offset: piece.offset };
        let total = match source.call(request, PIECE_TIMEOUT).await {
            Ok(PieceReply::Sent { total }) => total,
            Ok(PieceReply::Refused { reason }) => return Asked::Refused(reason),
            Ok(PieceReply::Failed { reason }) => return Asked::Again(reason),
            Err(error) => return Asked::Again(error.to_string()),
        };
        match tokio::time::timeout(PIECE_TIMEOUT, arrived).await {
            Ok(Ok(payload)) if piece.offset + payload.len() as u64 <= total => Asked::Came { total, payload },
            Ok(Ok(_)) => Asked::Again("a piece beyond the end of the program".to_owned()),
            Ok(Err(_)) | Err(_) => Asked::Again("the piece was lost on the way".to_owned()),
        }
    }
}

/// A piece that is to be written, and what was written before it.
struct Writing {
    store: ArtifactStore,
    artifact: ContentHash,
    total: u64,
    incoming: Option<Incoming>,
}

enum Written {
    Part(Box<Incoming>),
    Whole(Stored),
}

impl Writing {
    fn write(self, payload: &BulkBuffer) -> Result<Written, ArtifactError> {
        let mut incoming = match self.incoming {
            Some(incoming) => incoming,
            // Programs that run stay alive when their file goes, so none is kept for them.
            None => self.store.begin(self.artifact, self.total, &BTreeSet::new())?,
        };
        incoming.write(payload.as_bytes())?;
        match incoming.bytes() >= self.total {
            true => incoming.finish().map(Written::Whole),
            false => Ok(Written::Part(Box::new(incoming))),
        }
    }
}

/// Takes pieces in.
struct PieceSink(Awaited);

struct PieceMsg(Inbound<PieceProtocol>);

impl From<Inbound<PieceProtocol>> for PieceMsg {
    fn from(inbound: Inbound<PieceProtocol>) -> Self {
        Self(inbound)
    }
}

impl Actor for PieceSink {
    type Msg = PieceMsg;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<PieceMsg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(&self, _: ActorRef<PieceMsg>, message: PieceMsg, (): &mut ()) -> Result<(), ActorProcessingErr> {
        if let Inbound::Bulk { header, payload, credit: _credit, .. } = message.0 {
            self.0.hand_over(header, payload);
        }
        Ok(())
    }
}
