//! Between a node agent and the control plane: the programs that jobs bring along, by their content.
//!
//! The agent asks for one piece after the other; each comes as a bulk transfer to the agent's own actor, so that a
//! program of some hundred megabytes delays neither leases nor commands. The answer to the request follows its piece.

use neap_scheduler::model::ContentHash;
use serde::{Deserialize, Serialize};

use crate::remote::Protocol;

/// The largest piece: small enough to be sent again, large enough that the way there and back does not count.
pub const PIECE_BYTES_MAX: u64 = 4 << 20;

/// The folder below a node's own in which its agent keeps programs.
pub const NODE_ARTIFACTS: &str = "artifacts";

/// Agent → control plane. The control plane registers the actor `artifacts` for it.
#[derive(Debug)]
pub struct ArtifactProtocol;

/// The name under which the control plane registers the actor of [`ArtifactProtocol`].
pub const ARTIFACT_ACTOR: &str = "artifacts";

impl Protocol for ArtifactProtocol {
    const NAME: &'static str = "artifacts";
    type Cast = ();
    type Request = PieceRequest;
    type Reply = PieceReply;
    type BulkHeader = ();
}

/// Asks for a piece of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PieceRequest {
    /// The program.
    pub artifact: ContentHash,
    /// Where the piece starts.
    pub offset: u64,
}

/// What becomes of a [`PieceRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PieceReply {
    /// The piece is on its way.
    Sent {
        /// How long the whole program is.
        total: u64,
    },
    /// It will not come, however often it is asked for.
    Refused {
        /// Why.
        reason: String,
    },
    /// It could not be sent now.
    Failed {
        /// Why.
        reason: String,
    },
}

/// Control plane → agent: pieces, as bulk transfers. The agent registers the actor `artifact-pieces` for it.
#[derive(Debug)]
pub struct PieceProtocol;

/// The name under which an agent registers the actor of [`PieceProtocol`].
pub const PIECE_ACTOR: &str = "artifact-pieces";

impl Protocol for PieceProtocol {
    const NAME: &'static str = "artifact-pieces";
    type Cast = ();
    type Request = ();
    type Reply = ();
    type BulkHeader = Piece;
}

/// Which piece it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// The program.
    pub artifact: ContentHash,
    /// Where the piece starts.
    pub offset: u64,
}
