//! The workers of a membership as the exchange sees them: who carries which logical shards, and who adds up which part of
//! the gradient. Pure arithmetic over the membership; every worker comes to the same.

use std::ops::Range;

use neap_runtime::wire::worker::Membership;
use neap_scheduler::elastic::{ReductionTree, ShardRange};
use neap_scheduler::model::WorkerId;

/// The workers of one membership, in the order of the shards they carry.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    carriers: Vec<(WorkerId, ShardRange)>,
    me: usize,
    tree: ReductionTree,
    length: usize,
}

impl Group {
    /// The group of a membership, for a flat gradient of `length` values; `None` where this worker carries no shard.
    pub(crate) fn new(membership: &Membership, me: WorkerId, tree: ReductionTree, length: usize) -> Option<Self> {
        let mut carriers: Vec<_> = membership
            .members
            .iter()
            .map(|member| (member.worker, ShardRange { start: member.shard_start, end: member.shard_end }))
            .filter(|(_, block)| !block.is_empty())
            .collect();
        carriers.sort_by_key(|(worker, block)| (block.start, *worker));
        let me = carriers.iter().position(|(worker, _)| *worker == me)?;
        Some(Self { carriers, me, tree, length })
    }

    /// How many workers there are.
    pub(crate) fn len(&self) -> usize {
        self.carriers.len()
    }

    /// This worker's position.
    pub(crate) fn me(&self) -> usize {
        self.me
    }

    /// The worker at a position.
    pub(crate) fn worker(&self, at: usize) -> WorkerId {
        self.carriers[at].0
    }

    /// The logical shards that the worker at a position carries.
    pub(crate) fn block(&self, at: usize) -> ShardRange {
        self.carriers[at].1
    }

    /// The position of a worker; `None` for one that carries nothing.
    pub(crate) fn position(&self, worker: WorkerId) -> Option<usize> {
        self.carriers.iter().position(|(carrier, _)| *carrier == worker)
    }

    /// All workers.
    pub(crate) fn workers(&self) -> impl Iterator<Item = WorkerId> {
        self.carriers.iter().map(|(worker, _)| *worker)
    }

    /// The positions of all workers but this one.
    pub(crate) fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let me = self.me;
        (0..self.len()).filter(move |&at| at != me)
    }

    /// The tree in which gradients are added.
    pub(crate) fn tree(&self) -> ReductionTree {
        self.tree
    }

    /// Values of the whole gradient.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// The part of the gradient that the worker at a position adds up. Segments differ by at most one value; where the cuts
    /// are leaves no trace in the sum, because every value is added for itself.
    pub(crate) fn segment(&self, at: usize) -> Range<usize> {
        let cut = |at: usize| (self.length as u128 * at as u128 / self.len() as u128) as usize;
        cut(at)..cut(at + 1)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use neap_runtime::wire::worker::Member;
    use neap_scheduler::elastic::assign;
    use neap_scheduler::model::MembershipEpoch;
    use proptest::prelude::*;

    use super::*;

    /// A membership of workers 1, 2, …; worker `lead` leads.
    pub(in crate::collective) fn membership(epoch: u64, workers: u32, shards: u32, lead: u64) -> Membership {
        let members = assign(shards, workers).into_iter().zip(1..).map(|(block, number)| Member {
            worker: WorkerId::new(number),
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
            shard_start: block.start,
            shard_end: block.end,
        });
        Membership {
            epoch: MembershipEpoch(epoch),
            members: members.collect(),
            server: WorkerId::new(lead),
            servers: vec![WorkerId::new(lead)],
            restore: None,
            losses_per_1000_h: 0,
            replicas: Vec::new(),
        }
    }

    proptest! {
        #[test]
        fn segments_are_the_whole_gradient_once(length in 0usize..2_000, workers in 1u32..40) {
            let membership = membership(1, workers, 64, 1);
            let group = Group::new(&membership, WorkerId::new(1), ReductionTree::new(64), length).unwrap();
            let cut: Vec<usize> = (0..group.len()).flat_map(|at| group.segment(at)).collect();
            prop_assert_eq!(cut, (0..length).collect::<Vec<_>>());
            let lengths = (0..group.len()).map(|at| group.segment(at).len());
            prop_assert!(lengths.clone().max().unwrap() - lengths.min().unwrap() <= 1);
        }
    }

    #[test]
    fn workers_stand_in_the_order_of_their_shards_and_those_without_are_left_out() {
        let mut membership = membership(1, 3, 6, 1);
        membership.members.rotate_left(1);
        membership.members.push(Member {
            worker: WorkerId::new(9),
            shard_start: 0,
            shard_end: 0,
            ..membership.members[0]
        });
        let group = |me| Group::new(&membership, WorkerId::new(me), ReductionTree::new(6), 10);
        let second = group(2).unwrap();
        assert_eq!((second.me(), second.len(), second.position(WorkerId::new(3))), (1, 3, Some(2)));
        assert_eq!(second.others().collect::<Vec<_>>(), [0, 2]);
        assert!(group(9).is_none() && group(4).is_none());
    }
}
