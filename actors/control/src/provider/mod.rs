//! Where nodes come from. A provider is told what to do and says later, by events, what happened; nothing here decides.

mod local;
mod process;

use std::net::SocketAddr;

use neap_runtime::join::JoinToken;
use neap_scheduler::model::{Market, Millis, NodeId, NodeSize, Offer};

pub(crate) use local::LocalProvider;

/// A node to start.
pub(crate) struct StartNode {
    pub(crate) node: NodeId,
    pub(crate) offer: String,
    pub(crate) size: NodeSize,
    pub(crate) market: Market,
    pub(crate) token: JoinToken,
    /// Where the node joins.
    pub(crate) join: SocketAddr,
    /// Where it then reports.
    pub(crate) control: SocketAddr,
}

/// What happened at a provider.
#[derive(Debug)]
pub(crate) enum ProviderEvent {
    /// The node is being started; it bills from now.
    Started(NodeId),
    /// The node could not be started; it never billed.
    StartFailed(NodeId, String),
    /// The node will be taken back.
    Notice {
        /// Which.
        node: NodeId,
        /// Then.
        deadline: Millis,
    },
    /// The node was seen to be gone.
    Gone(NodeId, String),
}

/// A source of nodes. Calls return at once; what comes of them arrives as [`ProviderEvent`]s. Starting or ending the
/// same node twice does nothing the second time.
pub(crate) trait NodeProvider: Send + Sync {
    /// What could be rented now, given the offers that live nodes came from.
    fn offers(&self, live: &[&str]) -> Vec<Offer>;

    /// Starts a node.
    fn start(&self, request: StartNode);

    /// Ends a node.
    fn end(&self, node: NodeId);

    /// Announces that a node will be taken back, and takes it back when `notice` has passed.
    fn preempt(&self, node: NodeId, notice: Millis);

    /// Looks which of these nodes, started by an earlier control plane, still exist; the others are reported gone.
    fn adopt(&self, nodes: &[NodeId]);
}
