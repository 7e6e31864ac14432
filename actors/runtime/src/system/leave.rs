//! When a node has to go: whoever runs there, or is supervised from there, hears of it in time and moves before it goes.
//!
//! ```text
//! control plane ──Nodes──▶ every worker of the job
//!   host of an actor's supervisor ──Leave──▶ worker that has to go: shell ──▶ Actor::notice, between two messages
//!                                              no new messages · what waits is handled · children end · Actor::notice
//!   host ◀──Left── shell gone                 the next incarnation starts elsewhere
//! worker that has to go ──Vacated──▶ control plane, which changes the membership
//! ```
//!
//! An actor that can run nowhere else, and one whose supervisor's worker goes, only hears of it: it ends with the node or
//! its supervisor.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use neap_scheduler::model::{NodeId, WorkerId};
use tokio::time::Instant;

use super::host::HostMsg;
use super::node::System;
use super::placement::{NodeFault, Seat};
use super::shell::ShellMsg;
use crate::lock;
use crate::wire::actors::Incarnation;
use crate::wire::worker::WorkerNode;

/// No notice is longer.
const LONGEST: Duration = Duration::from_secs(24 * 3_600);

/// Where the workers of the job run or ran, and which of them have to go.
#[derive(Debug, Default)]
pub(super) struct Standing {
    nodes: BTreeMap<WorkerId, NodeId>,
    leaving: BTreeMap<WorkerId, Instant>,
}

/// What a worker that has to go still waits for.
#[derive(Debug, Clone, Default)]
pub(super) struct Holds(Arc<AtomicUsize>);

impl Holds {
    fn hold(&self) -> Held {
        self.0.fetch_add(1, Ordering::SeqCst);
        Held(self.0.clone())
    }
}

/// As long as there is one, the worker is not done.
#[derive(Debug)]
pub(super) struct Held(Arc<AtomicUsize>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The node of this process has to go. The job's work is moved once this value is dropped, or when there is no time left:
/// keep it while you save.
pub struct Notice {
    deadline: Instant,
    _held: Held,
}

impl Notice {
    /// How long the node is still there, at most.
    pub fn left(&self) -> Duration {
        left_until(self.deadline)
    }
}

impl fmt::Debug for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notice").field("left", &self.left()).finish_non_exhaustive()
    }
}

/// The moment after so many milliseconds, or after [`LONGEST`]: where a peer says nonsense, the clock does not overflow.
pub(super) fn after_millis(ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(ms).min(LONGEST)
}

pub(super) fn left_until(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

impl System {
    /// Waits until the node of this process has to go: the provider takes it back, or the job has no use for it any more.
    /// Forever, where that does not happen; for `tokio::select!` beside what there is to do.
    pub async fn notice(&self) -> Notice {
        // From the first moment on, so that nobody goes ahead between the notice and whoever waits for it.
        let held = self.hold();
        let mut going = self.0.going.subscribe();
        let deadline = going.wait_for(Option::is_some).await.ok().and_then(|deadline| *deadline);
        match deadline {
            Some(deadline) => Notice { deadline, _held: held },
            // The sender is part of this system.
            None => std::future::pending().await,
        }
    }

    /// The node that a worker of the job runs or ran on, where that is known.
    pub fn node_of(&self, worker: WorkerId) -> Option<NodeId> {
        lock(&self.0.standing).nodes.get(&worker).copied()
    }

    /// Takes in where the job's workers run and which of them have to go. Whether this one has to.
    pub(super) fn learn(&self, workers: &[WorkerNode]) -> bool {
        let mut newly = Vec::new();
        {
            let mut standing = lock(&self.0.standing);
            for worker in workers {
                standing.nodes.insert(worker.worker, worker.node);
                if let Some(ms) = worker.leaves_in_ms
                    && standing.leaving.insert(worker.worker, after_millis(ms)).is_none()
                {
                    newly.push(worker.worker);
                }
            }
        }
        let deadline = self.leaves(self.worker());
        self.0.going.send_replace(deadline);
        for worker in newly {
            tracing::info!(%worker, "a worker of the job has to go");
            self.tell_host(HostMsg::Leaves { worker, held: self.hold() });
        }
        deadline.is_some()
    }

    /// When a worker goes, if it has to.
    pub(super) fn leaves(&self, worker: WorkerId) -> Option<Instant> {
        lock(&self.0.standing).leaving.get(&worker).copied()
    }

    /// Where an actor can be started: the members that are not cut off and stay.
    pub(super) fn staying_seats(&self) -> Vec<Seat> {
        let standing = lock(&self.0.standing);
        let seat = |worker: WorkerId| Seat { worker, node: standing.nodes.get(&worker).copied() };
        self.usable_workers().into_iter().filter(|worker| !standing.leaving.contains_key(worker)).map(seat).collect()
    }

    /// As [`Self::staying_seats`]; where all have to go, on those.
    pub(super) fn seats(&self) -> Vec<Seat> {
        let staying = self.staying_seats();
        if !staying.is_empty() {
            return staying;
        }
        self.usable_workers().into_iter().map(|worker| Seat { worker, node: self.node_of(worker) }).collect()
    }

    /// Why nothing can be started on a node.
    pub(super) fn fault_of(&self, node: NodeId) -> NodeFault {
        let workers = self.workers();
        let standing = lock(&self.0.standing);
        let there = |worker: &WorkerId| standing.nodes.get(worker) == Some(&node);
        if workers.iter().any(|worker| there(worker) && standing.leaving.contains_key(worker)) {
            return NodeFault::Leaves;
        }
        if standing.nodes.values().any(|known| *known == node) {
            return NodeFault::Lost;
        }
        let known: Vec<_> =
            workers.iter().filter_map(|worker| standing.nodes.get(worker)).map(NodeId::to_string).collect();
        NodeFault::Unknown(known.join(", "))
    }

    pub(super) fn hold(&self) -> Held {
        self.0.holds.hold()
    }

    /// Waits until everything that runs here has heard that this worker has to go, and what can move has moved.
    pub(super) async fn vacated(&self) {
        while !self.is_vacated() {
            self.pause().await;
        }
    }

    fn is_vacated(&self) -> bool {
        // In this order: what still runs is not forgotten between the two looks.
        let ready = self.all_running().iter().all(|running| running.is_ready_to_go());
        ready && self.0.holds.0.load(Ordering::SeqCst) == 0
    }

    /// Has an actor of this process hear that a node has to go; unless it `stays`, it ends once nobody sends to it any more
    /// and what waits is handled. Returns when that is done, at the latest at the deadline.
    pub(super) async fn leave_here(&self, of: Incarnation, stays: bool, deadline: Instant) {
        let Some(running) = self.incarnation(of) else { return };
        if stays {
            running.tell_notice(deadline);
            self.wait_until(deadline, || running.has_heard()).await;
            return;
        }
        running.close();
        running.tell_notice(deadline);
        // Half of the time for messages under way, the other half for what the actor does last.
        let half = Instant::now() + left_until(deadline) / 2;
        self.wait_until(half, || running.is_quiet()).await;
        if running.send(ShellMsg::Leave(deadline)).is_ok() {
            self.wait_until(deadline, || !running.is_alive()).await;
        }
    }

    async fn wait_until(&self, deadline: Instant, is_so: impl Fn() -> bool) {
        while !is_so() && Instant::now() < deadline {
            self.pause().await;
        }
    }
}
