//! The replica of a server's state in another worker: is given the state once, then makes every step from the same gradient
//! with the same optimiser, which leads to the same bits. Where the server is lost the control plane names this worker, and
//! it serves from what it has.

use std::time::Instant;

use neap_runtime::BulkBuffer;
use neap_runtime::wire::collective::{SlicePart, StateMark, StatePart};
use neap_runtime::wire::training::{SegmentContent, SegmentHeader, SegmentMessage};
use neap_runtime::wire::worker::{FailureKind, Membership};
use neap_scheduler::elastic::{ReductionTree, TreeNode};
use neap_scheduler::model::{MembershipEpoch, WorkerId};

use super::mirror::Heard;
use super::thread::{Server, ServerSetup, Serving};
use crate::collective::{PayloadError, cut_slices};
use crate::links::{SegmentLink, ToServer};
use crate::replica::{Incoming, Replica, StateError};
use crate::state::{PartError, StepError};

/// A replica under one membership.
pub(super) struct Held {
    membership: Membership,
    server: SegmentLink,
    replica: Option<Replica>,
    /// When it made its last step, which is about when the server did.
    last_step: Option<Instant>,
    /// Buffers of the server's state on their way to this one.
    incoming: Incoming,
}

/// Which state a replica has, by its own word.
pub(super) struct Stands {
    pub(super) replica: WorkerId,
    pub(super) membership: MembershipEpoch,
    pub(super) state: Option<StateMark>,
}

/// What a replica was sent does not lead from its state to the server's.
#[derive(Debug, thiserror::Error)]
enum StrayError {
    #[error("a step that does not follow its state")]
    Step,
    #[error("a step with {found} losses")]
    Losses { found: usize },
    #[error("a buffer that no state of this job has")]
    Buffer,
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Payload(#[from] PayloadError),
    #[error(transparent)]
    Part(#[from] PartError),
    #[error(transparent)]
    Made(#[from] StepError),
}

impl Held {
    /// What this worker serves from when it becomes the server; nothing where it has no state, or the membership names a
    /// checkpoint of a later step.
    pub(super) fn go_on_as_server(self, membership: &Membership) -> Option<Replica> {
        let one_server = membership.servers.len() == 1;
        let saved = membership.restore.as_ref().map_or(0, |checkpoint| checkpoint.step);
        self.replica.filter(|replica| one_server && replica.state.step() >= saved)
    }

    /// When the last step was made, where this replica made one.
    pub(super) fn last_step(&self) -> Option<Instant> {
        self.last_step
    }

    /// Says which state it has. `false` where the server does not take it.
    fn report(&self) -> bool {
        let (membership, state) = (self.membership.epoch, self.replica.as_ref().map(Replica::mark));
        self.server.send(ToServer::Message(SegmentMessage::Replicated { membership, state }))
    }

    /// Takes in what the server has sent; whether the state is another one by it.
    fn take(&mut self, header: SegmentHeader, payload: BulkBuffer, setup: &ServerSetup) -> Result<bool, StrayError> {
        match header.content {
            SegmentContent::Step(part) => self.make_step(header.step, part, payload).map(|()| true),
            SegmentContent::Replica(part) => self.take_buffer(part, payload, setup),
            SegmentContent::Segment => Ok(false),
        }
    }

    fn make_step(&mut self, step: u64, part: SlicePart, payload: BulkBuffer) -> Result<(), StrayError> {
        let replica = self.replica.as_mut().filter(|replica| replica.state.step() == step).ok_or(StrayError::Step)?;
        let shards = replica.state.schedule().logical_shards;
        let (root, length) = (ReductionTree::new(shards).root(), replica.state.range().len());
        let sum = cut_slices(&[part], payload, length)?.pop();
        let (node, sum): (TreeNode, _) = sum.filter(|(node, _)| *node == root).ok_or(StrayError::Step)?;
        if sum.losses.len() != shards as usize {
            return Err(StrayError::Losses { found: sum.losses.len() });
        }
        replica.state.check(node, sum.gradient.values().len(), &sum.samples)?;
        let commit = replica.state.insert(node, sum)?.ok_or(StrayError::Step)?;
        replica.committed(&commit, self.membership.epoch);
        self.last_step = Some(Instant::now());
        Ok(())
    }

    fn take_buffer(&mut self, part: StatePart, payload: BulkBuffer, setup: &ServerSetup) -> Result<bool, StrayError> {
        let (server, length) = (self.membership.server, setup.layout.len());
        if !self.incoming.add(server, part, payload, length) {
            return Err(StrayError::Buffer);
        }
        let Some(replica) = self.incoming.take(server, &setup.job, setup.schedule, length)? else { return Ok(false) };
        self.replica = Some(replica.with_buffers(setup.buffers.clone()));
        Ok(true)
    }
}

impl Server {
    /// Holds a replica of the server's state from now on; what this worker has itself may be that state already.
    pub(super) fn replicate(&mut self, membership: Membership, server: SegmentLink) {
        self.holding = None;
        let (mut replica, last_step) = match (self.serving.take(), self.held.take()) {
            (Some(Serving { own, meter, .. }), _) => (Some(own), meter.last()),
            (None, Some(Held { replica, last_step, .. })) => (replica, last_step),
            (None, None) => (None, None),
        };
        replica.iter_mut().for_each(|replica| replica.state.abandon_step());
        self.held = Some(Held { membership, server, replica, last_step, incoming: Incoming::default() });
        self.report_held();
    }

    /// The server has sent its replica something.
    pub(super) fn follow(&mut self, from: WorkerId, header: SegmentHeader, payload: BulkBuffer) {
        let current = |held: &&mut Held| held.membership.epoch == header.membership && held.membership.server == from;
        let Some(held) = self.held.as_mut().filter(current) else {
            return tracing::debug!(%from, membership = %header.membership, "a step of another membership refused");
        };
        match held.take(header, payload, &self.setup) {
            Ok(true) => self.report_held(),
            Ok(false) => {}
            Err(error) => {
                tracing::error!(%from, %error, "a replica cannot follow its server");
                held.replica = None;
                self.report_held();
            }
        }
    }

    fn report_held(&self) {
        if let Some(held) = self.held.as_ref().filter(|held| !held.report()) {
            self.setup.outbox.peer_lost(held.membership.epoch, held.membership.server);
        }
    }

    /// Goes by what this server's replica has last said, where that is of the membership in force.
    pub(super) fn meet_replica(&mut self) {
        let Some(serving) = &mut self.serving else { return };
        let epoch = serving.membership.epoch;
        let Some(Stands { replica, membership, state }) = self.stands.take_if(|stands| stands.membership <= epoch)
        else {
            return;
        };
        if membership != epoch {
            return;
        }
        match serving.mirror.heard(replica, state, &serving.own, epoch) {
            Heard::InStep => {
                self.count();
                self.finish_if_done();
                self.try_commit();
            }
            Heard::Sent => {}
            Heard::Deaf => self.setup.outbox.peer_lost(epoch, replica),
            Heard::Astray => {
                let text =
                    format!("worker {replica} does not follow the parameter server; use the same neap on all nodes");
                self.setup.outbox.fail(FailureKind::Invalid, text);
            }
        }
    }
}
