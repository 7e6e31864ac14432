//! The other servers as the lead sees them: who has joined the membership, who is prepared, whose state has come in.
//!
//! Nothing here decides when a step is made; the lead does, once [`Others::prepared`] says that all are. A server joins by
//! saying how many steps it has made: it is at the lead's step or, where the last commit did not reach it, one behind with
//! that step prepared. Nobody is ever ahead of the lead.

use std::ops::Range;

use neap_runtime::wire::training::SegmentMessage;
use neap_scheduler::model::{MembershipEpoch, WorkerId};

use crate::links::{SegmentLink, ToServer};
use crate::optimiser::Scale;
use crate::segment::Prepared;

/// The other servers of a membership, in the order of their segments.
#[derive(Default)]
pub(super) struct Others(Vec<Other>);

struct Other {
    worker: WorkerId,
    segment: Range<usize>,
    link: SegmentLink,
    joined: bool,
    prepared: Option<Prepared>,
}

impl Others {
    /// The servers after the first, each with its segment and the way to it. None of them has joined.
    pub(super) fn new(others: impl IntoIterator<Item = (WorkerId, Range<usize>, SegmentLink)>) -> Self {
        let other = |(worker, segment, link)| Other { worker, segment, link, joined: false, prepared: None };
        Self(others.into_iter().map(other).collect())
    }

    /// Whether the lead holds all parameters itself.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The servers with their segments.
    pub(super) fn segments(&self) -> impl Iterator<Item = (WorkerId, &Range<usize>)> {
        self.0.iter().map(|other| (other.worker, &other.segment))
    }

    /// A server has joined; it is told from now on what all are told.
    pub(super) fn join(&mut self, worker: WorkerId) {
        self.0.iter_mut().filter(|other| other.worker == worker).for_each(|other| other.joined = true);
    }

    /// A server has prepared the current step.
    pub(super) fn prepare(&mut self, worker: WorkerId, prepared: Prepared) {
        if let Some(other) = self.0.iter_mut().find(|other| other.worker == worker && other.joined) {
            other.prepared = Some(prepared);
        }
    }

    /// What all of them prepared, in order; nothing while one of them has not.
    pub(super) fn prepared(&self) -> Option<Vec<&Prepared>> {
        self.0.iter().map(|other| other.prepared.as_ref()).collect()
    }

    /// The step is committed; the next one begins.
    pub(super) fn next_step(&mut self) {
        self.0.iter_mut().for_each(|other| other.prepared = None);
    }

    /// Tells one of them. `false` where it does not take that.
    pub(super) fn tell_one(&self, worker: WorkerId, message: SegmentMessage) -> bool {
        let other = self.0.iter().find(|other| other.worker == worker && other.joined);
        other.is_none_or(|other| other.link.send(ToServer::Message(message)))
    }

    /// Tells everybody who has joined. Returns who does not take it.
    pub(super) fn tell(&self, message: &SegmentMessage) -> Vec<WorkerId> {
        let joined = self.0.iter().filter(|other| other.joined);
        let deaf = joined.filter(|other| !other.link.send(ToServer::Message(message.clone())));
        deaf.map(|other| other.worker).collect()
    }
}

/// What servers are told of a commit.
pub(super) fn committed(membership: MembershipEpoch, step: u64, scale: Scale) -> SegmentMessage {
    SegmentMessage::Committed { membership, step, rate: scale.rate, gradient: scale.gradient }
}
