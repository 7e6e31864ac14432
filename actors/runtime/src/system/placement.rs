//! On which worker an actor runs: a pure choice.

use neap_scheduler::model::{NodeId, WorkerId};
use serde::{Deserialize, Serialize};

/// On which worker of the job an actor runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Placement {
    /// Where the fewest actors are that this worker's actors started; of equals, the oldest worker.
    #[default]
    Any,
    /// Where the fewest actors of the same kind are, then as [`Self::Any`]: losing a worker costs few of them.
    Spread,
    /// On this worker and no other: where it is lost, the actor is gone.
    On(WorkerId),
    /// On this node and no other: where it is lost, or has to go, the actor is gone once no worker of the job runs there.
    Node(NodeId),
}

/// A worker that an actor can run on, and its node where that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) worker: WorkerId,
    pub(crate) node: Option<NodeId>,
}

/// Why nothing can be started on a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeFault {
    /// It never carried a worker of the job; those that do now.
    #[error("no worker of the job runs there; the job has workers on {0}")]
    Unknown(String),
    /// It did, and does no more, or is cut off.
    #[error("the job's worker there is lost")]
    Lost,
    /// It is about to be taken back or given up.
    #[error("it has to go")]
    Leaves,
}

/// What runs on a worker, as far as it is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) seat: Seat,
    /// Actors.
    pub(crate) actors: u32,
    /// Of those, actors of the kind that is to be placed.
    pub(crate) of_kind: u32,
}

/// The worker to start on; `None` where there is none.
pub(crate) fn place(placement: Placement, loads: &[Load]) -> Option<WorkerId> {
    let chosen = match placement {
        Placement::Any => loads.iter().min_by_key(|load| (load.actors, load.seat.worker)),
        Placement::Spread => loads.iter().min_by_key(|load| (load.of_kind, load.actors, load.seat.worker)),
        Placement::On(worker) => loads.iter().find(|load| load.seat.worker == worker),
        Placement::Node(node) => {
            let there = loads.iter().filter(|load| load.seat.node == Some(node));
            there.min_by_key(|load| (load.actors, load.seat.worker))
        }
    };
    chosen.map(|load| load.seat.worker)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn loads(counts: &[(u32, u32)]) -> Vec<Load> {
        let load = |(at, &(actors, of_kind)): (usize, &(u32, u32))| Load {
            // Two workers a node.
            seat: Seat { worker: WorkerId::new(at as u64 + 1), node: Some(NodeId::new(at as u64 / 2 + 1)) },
            actors,
            of_kind: of_kind.min(actors),
        };
        counts.iter().enumerate().map(load).collect()
    }

    #[test]
    fn a_named_worker_is_used_or_nothing() {
        let loads = loads(&[(0, 0), (9, 0)]);
        assert_eq!(place(Placement::On(WorkerId::new(2)), &loads), Some(WorkerId::new(2)));
        assert_eq!(place(Placement::On(WorkerId::new(3)), &loads), None);
        assert_eq!(place(Placement::Any, &[]), None);
    }

    #[test]
    fn a_named_node_is_used_or_nothing() {
        let loads = loads(&[(0, 0), (0, 0), (9, 0), (3, 0)]);
        assert_eq!(place(Placement::Node(NodeId::new(2)), &loads), Some(WorkerId::new(4)));
        assert_eq!(place(Placement::Node(NodeId::new(3)), &loads), None);
        let nowhere: Vec<Load> =
            loads.iter().map(|load| Load { seat: Seat { node: None, ..load.seat }, ..*load }).collect();
        assert_eq!(place(Placement::Node(NodeId::new(2)), &nowhere), None);
    }

    proptest! {
        #[test]
        fn actors_of_a_kind_are_spread_evenly(workers in 1usize..9, actors in 1usize..60) {
            let mut counts = vec![(0, 0); workers];
            for _ in 0..actors {
                let worker = place(Placement::Spread, &loads(&counts)).unwrap();
                let at = worker.number() as usize - 1;
                counts[at] = (counts[at].0 + 1, counts[at].1 + 1);
            }
            let (least, most) = (counts.iter().min().unwrap().0, counts.iter().max().unwrap().0);
            prop_assert!(most - least <= 1, "{counts:?}");
        }

        #[test]
        fn nobody_with_less_to_do_is_passed_over(counts in prop::collection::vec((0u32..20, 0u32..20), 1..12)) {
            let loads = loads(&counts);
            let chosen = place(Placement::Any, &loads).unwrap();
            let actors = |worker| loads.iter().find(|load| load.seat.worker == worker).unwrap().actors;
            prop_assert!(loads.iter().all(|load| load.actors >= actors(chosen)));
        }
    }
}
