//! A server that is not the lead: holds a segment of the parameters, and makes a step when the lead has committed it.

use std::collections::BTreeSet;
use std::sync::Arc;

use neap_runtime::BulkSlice;
use neap_runtime::wire::training::{SegmentContent, SegmentHeader, SegmentMessage};
use neap_runtime::wire::worker::Membership;
use neap_scheduler::elastic::ReductionTree;
use neap_scheduler::model::{MembershipEpoch, WorkerId};

use super::thread::{Refusal, check_parts};
use crate::links::{Gradients, SegmentLink, ToServer};
use crate::optimiser::Scale;
use crate::segment::Segment;

/// One segment under one membership.
pub(super) struct Holder {
    pub(super) membership: Membership,
    /// Its place among the segments.
    pub(super) place: u32,
    pub(super) segment: Segment,
    /// Who has sent the gradients of the current step.
    received: BTreeSet<WorkerId>,
    /// Whether the lead has said what is committed. Before, the segment may be a step behind.
    settled: bool,
    lead: SegmentLink,
}

/// A commit that this segment cannot follow.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error(
    "a parameter server has made {made} steps and its lead {committed}; stop the job and start it again from its checkpoint"
)]
pub(super) struct OutOfStep {
    pub(super) made: u64,
    pub(super) committed: u64,
}

impl Holder {
    /// Holds a segment from now on.
    pub(super) fn new(membership: Membership, place: u32, segment: Segment, lead: SegmentLink) -> Self {
        Self { membership, place, segment, received: BTreeSet::new(), settled: false, lead }
    }

    /// Goes on under another membership with the same servers. A prepared step stays: its commit may be on the way.
    pub(super) fn go_on(&mut self, membership: Membership, lead: SegmentLink) {
        self.segment.abandon_parts();
        self.received.clear();
        self.settled = false;
        (self.membership, self.lead) = (membership, lead);
    }

    /// The lead of the membership.
    pub(super) fn lead(&self) -> WorkerId {
        self.membership.server
    }

    /// Whether its parameters are those of the step to be computed.
    pub(super) fn is_settled(&self) -> bool {
        self.settled
    }

    /// Says that it serves, and where it stands. `false` where the lead does not take it.
    pub(super) fn report(&self) -> bool {
        let (membership, step) = (self.epoch(), self.segment.step());
        self.tell(SegmentMessage::Ready { membership, step })
    }

    /// Takes one trainer's gradients in, and tells the lead once they are complete. `false` where it does not take that.
    pub(super) fn accept(&mut self, gradients: Gradients, shards: u32) -> Result<bool, Refusal> {
        let current = gradients.membership == self.epoch() && gradients.step == self.segment.step();
        if !current || !self.settled || self.segment.sum().is_some() || self.received.contains(&gradients.worker) {
            return Err(Refusal::Late);
        }
        check_parts(&self.membership, ReductionTree::new(shards), &gradients)?;
        let expected = self.segment.range().len();
        let mut lengths = gradients.parts.iter().map(|(_, part)| part.gradient.values().len());
        if let Some(found) = lengths.find(|found| *found != expected) {
            let text = format!("{} sent {found} values for a segment of {expected}", gradients.worker);
            return Err(Refusal::Wrong(text));
        }
        self.received.insert(gradients.worker);
        for (node, part) in gradients.parts {
            self.segment.insert(node, part);
        }
        let Some(prepared) = self.segment.prepared() else { return Ok(true) };
        Ok(self.tell(SegmentMessage::Prepared {
            membership: self.epoch(),
            step: self.segment.step(),
            squares: prepared.squares,
            not_finite: prepared.not_finite.map(|at| at as u64),
        }))
    }

    /// The lead has committed so many steps, the last of them with this scale.
    pub(super) fn committed(&mut self, step: u64, scale: Scale) -> Result<(), OutOfStep> {
        let made = self.segment.step();
        if made == step {
            self.segment.abandon_step();
        } else if made + 1 != step || self.segment.apply(scale).is_none() {
            return Err(OutOfStep { made, committed: step });
        }
        self.received.clear();
        self.settled = true;
        Ok(())
    }

    /// Sends the state after `step` steps to the lead. `false` where it does not take it.
    pub(super) fn send_state(&self, step: u64) -> bool {
        if !self.settled || step != self.segment.step() {
            // The lead asks again under the next membership.
            return true;
        }
        let moments = self.segment.optimiser().moments().iter().map(|moment| Arc::new(moment.clone()));
        let buffers = std::iter::once(self.segment.parameters().clone()).chain(moments);
        let header = SegmentHeader { membership: self.epoch(), step, content: SegmentContent::Segment };
        self.lead.send(ToServer::Bulk(header, buffers.map(BulkSlice::from_vec).collect()))
    }

    fn epoch(&self) -> MembershipEpoch {
        self.membership.epoch
    }

    fn tell(&self, message: SegmentMessage) -> bool {
        self.lead.send(ToServer::Message(message))
    }
}
