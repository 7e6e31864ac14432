//! The replica of this server's state, as the server sees it.
//!
//! A step counts when the replica has made it too. Trainers are given its parameters before that, so they compute while the
//! replica follows; the next step is not made, and nothing is told of this one, until it has. So at most one step is lost
//! with the server, and that one did not count.

use std::sync::Arc;

use neap_runtime::wire::collective::{SlicePart, StateMark};
use neap_runtime::wire::training::{SegmentContent, SegmentHeader};
use neap_scheduler::elastic::ReductionTree;
use neap_scheduler::model::{MembershipEpoch, WorkerId};

use crate::collective::{Piece, Tail};
use crate::links::{SegmentLink, ToServer};
use crate::reduction::{Buffers, Part};
use crate::replica::{Replica, parts_of};
use crate::state::{Commit, TrainingState};

/// The replica of one membership, if it has one, and the commit that waits for it.
pub(super) struct Mirror {
    way: Option<Way>,
    pending: Option<Commit>,
}

struct Way {
    replica: WorkerId,
    link: SegmentLink,
    standing: Standing,
}

#[derive(Clone, Copy, PartialEq)]
enum Standing {
    /// It has said nothing yet under this membership.
    Unheard,
    /// It was sent something and has not said yet that it has made it.
    Awaited,
    /// It has this server's state.
    InStep,
}

/// What follows from a replica's word.
#[derive(Debug, PartialEq)]
pub(super) enum Heard {
    /// It has this server's state.
    InStep,
    /// It did not, and is on the way of being given it.
    Sent,
    /// It does not take what it is sent.
    Deaf,
    /// It has another state than the one it was given.
    Astray,
}

/// A step's gradient on its way to the replica.
pub(super) struct StepSum {
    part: SlicePart,
    gradient: Arc<Vec<f32>>,
    tail: Tail,
}

impl StepSum {
    /// A copy of the complete gradient, where there is one and a replica to send it to.
    pub(super) fn for_replica(mirror: &Mirror, state: &TrainingState, buffers: &Buffers) -> Option<Self> {
        mirror.way.as_ref()?;
        let Part { gradient, losses, samples } = state.sum()?;
        let mut copy = buffers.take(gradient.values().len());
        copy.copy_from_slice(gradient.values());
        let root = ReductionTree::new(state.schedule().logical_shards).root();
        let part = SlicePart {
            level: root.level,
            index: root.index,
            samples: samples.len() as u32,
            losses: losses.len() as u32,
        };
        let tail = Tail { samples: samples.clone(), losses: losses.clone() };
        Some(Self { part, gradient: buffers.lend(copy), tail })
    }
}

impl Mirror {
    /// A replica that has not said where it stands, or none.
    pub(super) fn new(way: Option<(WorkerId, SegmentLink)>) -> Self {
        let mut mirror = Self { way: None, pending: None };
        mirror.adopt(way);
        mirror
    }

    /// The replica of another membership. A commit that waits goes on waiting, or counts where nobody is to make it too.
    pub(super) fn adopt(&mut self, way: Option<(WorkerId, SegmentLink)>) {
        self.way = way.map(|(replica, link)| Way { replica, link, standing: Standing::Unheard });
    }

    /// Whether the next step may be made.
    pub(super) fn is_ready(&self) -> bool {
        self.way.as_ref().is_none_or(|way| way.standing == Standing::InStep)
    }

    /// Takes the commit that waited, once the replica has made it or where there is none.
    pub(super) fn counted(&mut self) -> Option<Commit> {
        if self.is_ready() { self.pending.take() } else { None }
    }

    /// The server has made a step; the replica is to make it from the same gradient.
    ///
    /// # Errors
    ///
    /// The replica, where it does not take that.
    pub(super) fn committed(
        &mut self,
        membership: MembershipEpoch,
        commit: Commit,
        sum: Option<StepSum>,
    ) -> Result<(), WorkerId> {
        let step = commit.step - 1;
        self.pending = Some(commit);
        let Some((way, StepSum { part, gradient, tail })) = self.way.as_mut().zip(sum) else { return Ok(()) };
        way.standing = Standing::Awaited;
        let header = SegmentHeader { membership, step, content: SegmentContent::Step(part) };
        let payload = vec![Piece::whole(gradient).slice(), tail.slice()];
        if way.link.send(ToServer::Bulk(header, payload)) { Ok(()) } else { Err(way.replica) }
    }

    /// A replica has said which state it has; where that is not the server's, it is sent that.
    pub(super) fn heard(
        &mut self,
        from: WorkerId,
        state: Option<StateMark>,
        own: &Replica,
        membership: MembershipEpoch,
    ) -> Heard {
        let Some(way) = self.way.as_mut().filter(|way| way.replica == from) else { return Heard::Sent };
        if state == Some(own.mark()) {
            way.standing = Standing::InStep;
            return Heard::InStep;
        }
        if way.standing != Standing::Unheard {
            return Heard::Astray;
        }
        way.standing = Standing::Awaited;
        let step = own.state.step();
        let sent = parts_of(own).into_iter().all(|(part, piece)| {
            let header = SegmentHeader { membership, step, content: SegmentContent::Replica(part) };
            way.link.send(ToServer::Bulk(header, vec![piece.slice()]))
        });
        if sent { Heard::Sent } else { Heard::Deaf }
    }
}
