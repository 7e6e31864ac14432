//! What a server and the other servers of its job have to do with each other; nothing of it where there is only one.

use std::collections::BTreeMap;

use neap_runtime::BulkBuffer;
use neap_runtime::wire::training::{SegmentContent, SegmentHeader, SegmentMessage};
use neap_runtime::wire::worker::{FailureKind, Membership};
use neap_scheduler::elastic::ReductionTree;
use neap_scheduler::model::{MembershipEpoch, WorkerId};

use super::checkpoint::RestoreError;
use super::collect::{Collecting, Purpose};
use super::holder::{Holder, OutOfStep};
use super::keeper::KeeperJob;
use super::others::committed;
use super::replicate::Stands;
use super::thread::Server;
use crate::links::SegmentLink;
use crate::optimiser::Scale;
use crate::segment::{Prepared, Segment};

impl Server {
    /// Holds a segment under another server's lead.
    pub(super) fn hold(&mut self, membership: Membership, place: usize, mut links: BTreeMap<WorkerId, SegmentLink>) {
        (self.serving, self.held) = (None, None);
        let Some(lead) = links.remove(&membership.server) else {
            tracing::error!(lead = %membership.server, "no way to the lead of the parameter servers");
            return;
        };
        let stays =
            |holder: &&mut Holder| membership.restore.is_none() && holder.membership.servers == membership.servers;
        match self.holding.as_mut().filter(stays) {
            Some(holder) => holder.go_on(membership, lead),
            None => {
                let (job, buffers) = (self.setup.job.clone(), self.setup.buffers.clone());
                let tree = ReductionTree::new(self.setup.schedule.logical_shards);
                let range = self.cut().segments(membership.servers.len()).swap_remove(place);
                let restored = self.setup.restore(&membership).and_then(|(name, whole)| {
                    let segment = Segment::new(tree, self.cut(), range, &job.update, whole);
                    segment.ok_or_else(|| RestoreError::of_another_model(name))
                });
                let Some(segment) = self.or_fail(restored) else { return };
                let segment = segment.with_buffers(buffers);
                self.holding = Some(Holder::new(membership, place as u32, segment, lead));
            }
        }
        let Some(holder) = &self.holding else { return };
        self.links.retain(|_, (membership, _)| *membership >= holder.membership.epoch);
        if !holder.report() {
            self.setup.outbox.peer_lost(holder.membership.epoch, holder.lead());
        }
    }

    /// Another server of the job has said something.
    pub(super) fn told(&mut self, from: WorkerId, message: SegmentMessage) {
        match message {
            SegmentMessage::Ready { membership, step } => {
                let known = self.ready.get(&from).map(|(known, _)| *known);
                if known.is_none_or(|known| known <= membership) {
                    self.ready.insert(from, (membership, step));
                    self.join_ready();
                }
            }
            SegmentMessage::Prepared { membership, step, squares, not_finite } => {
                let not_finite = not_finite.map(|at| at as usize);
                self.note_prepared(from, membership, step, Prepared { squares, not_finite });
            }
            SegmentMessage::Committed { membership, step, rate, gradient } => {
                let Some(holder) = self.held_under(from, membership) else { return };
                match holder.committed(step, Scale { rate, gradient }) {
                    Ok(()) => self.send_parameters(None),
                    Err(error) => self.out_of_step(&error),
                }
            }
            SegmentMessage::Replicated { membership, state } => {
                let stands = Stands { replica: from, membership, state };
                if self.stands.as_ref().is_none_or(|known| known.membership <= membership) {
                    self.stands = Some(stands);
                    self.meet_replica();
                }
            }
            SegmentMessage::Collect { membership, step } => {
                let Some(holder) = self.held_under(from, membership) else { return };
                if !holder.send_state(step) {
                    self.setup.outbox.peer_lost(membership, from);
                }
            }
        }
    }

    /// The segment held here, where `from` is its lead in this membership.
    fn held_under(&mut self, from: WorkerId, membership: MembershipEpoch) -> Option<&mut Holder> {
        let holder = self.holding.as_mut();
        holder.filter(|holder| holder.membership.epoch == membership && holder.lead() == from)
    }

    /// Lets those into the membership that have said where they stand, and asks them for what is missing.
    pub(super) fn join_ready(&mut self) {
        let Some(serving) = &mut self.serving else { return };
        let (epoch, step) = (serving.membership.epoch, serving.own.state.step());
        self.ready.retain(|_, (membership, _)| *membership >= epoch);
        let here: Vec<(WorkerId, u64)> = self
            .ready
            .iter()
            .filter(|(_, (membership, _))| *membership == epoch)
            .map(|(who, (_, at))| (*who, *at))
            .collect();
        for (worker, made) in here {
            self.ready.remove(&worker);
            if made != step && (made + 1 != step || serving.last_scale.is_none()) {
                return self.out_of_step(&OutOfStep { made, committed: step });
            }
            serving.others.join(worker);
            let told = committed(epoch, step, serving.last_scale.unwrap_or(Scale::ONE));
            let mut heard = serving.others.tell_one(worker, told);
            if serving.collecting.is_some() {
                heard &= serving.others.tell_one(worker, SegmentMessage::Collect { membership: epoch, step });
            }
            if !heard {
                self.setup.outbox.peer_lost(epoch, worker);
            }
        }
    }

    fn note_prepared(&mut self, from: WorkerId, membership: MembershipEpoch, step: u64, prepared: Prepared) {
        let cut = self.cut();
        let Some(serving) = self.serving.as_mut() else { return };
        if serving.membership.epoch != membership || serving.own.state.step() != step {
            tracing::debug!(%from, "a prepared step of another membership refused");
            return;
        }
        let segment = serving.others.segments().find(|(worker, _)| *worker == from).map(|(_, segment)| segment.clone());
        let chunks = segment.map(|segment| cut.chunks_in(&segment));
        let expected = self.setup.job.update.clip_norm.and(chunks).unwrap_or(0);
        if chunks.is_none() || prepared.squares.len() != expected {
            tracing::warn!(%from, "what a parameter server says of its gradient is of another model");
            return;
        }
        serving.others.prepare(from, prepared);
        self.try_commit();
    }

    /// Tells the other servers; one that does not take it is lost.
    pub(super) fn tell_others(&self, message: &SegmentMessage) {
        let Some(serving) = &self.serving else { return };
        for worker in serving.others.tell(message) {
            self.setup.outbox.peer_lost(serving.membership.epoch, worker);
        }
    }

    fn out_of_step(&mut self, error: &OutOfStep) {
        (self.serving, self.holding) = (None, None);
        self.setup.outbox.fail(FailureKind::Invalid, error.to_string());
    }

    /// Gives the keeper the state as it is now, for this.
    pub(super) fn collect(&mut self, purpose: Purpose) {
        let Some(serving) = &mut self.serving else { return };
        let membership = serving.membership.epoch;
        if serving.others.is_empty() {
            return self.keeper.submit(purpose.job(membership, serving.own.state.snapshot()));
        }
        if let Some(collecting) = &mut serving.collecting {
            return collecting.want(purpose);
        }
        let mut collecting = Collecting::new(serving.own.state.snapshot());
        collecting.want(purpose);
        let step = collecting.step();
        serving.collecting = Some(collecting);
        self.tell_others(&SegmentMessage::Collect { membership, step });
    }

    /// Something has come from another server.
    pub(super) fn take_bulk(&mut self, from: WorkerId, header: SegmentHeader, payload: BulkBuffer) {
        match header.content {
            SegmentContent::Segment => self.take_state(from, &header, payload),
            SegmentContent::Step(_) | SegmentContent::Replica(_) => self.follow(from, header, payload),
        }
    }

    /// Another server has sent its part of the state that is being collected.
    fn take_state(&mut self, from: WorkerId, header: &SegmentHeader, payload: BulkBuffer) {
        let Some(serving) = self.serving.as_mut().filter(|serving| serving.membership.epoch == header.membership)
        else {
            return;
        };
        let Some(collecting) = serving.collecting.as_mut().filter(|collecting| collecting.step() == header.step) else {
            return;
        };
        let Some((_, segment)) = serving.others.segments().find(|(worker, _)| *worker == from) else { return };
        if !collecting.take(from, segment, payload) {
            tracing::warn!(%from, "a segment of another model refused");
            return;
        }
        if collecting.has_all(serving.others.segments().map(|(worker, _)| worker)) {
            self.hand_over();
        }
    }

    /// The collected state is complete: it goes to the keeper, and steps may be committed again.
    fn hand_over(&mut self) {
        let cut = self.cut();
        let Some(serving) = &mut self.serving else { return };
        let membership = serving.membership.epoch;
        let Some(collecting) = serving.collecting.take() else { return };
        let (snapshot, purposes) = collecting.join(cut, serving.others.segments().map(|(worker, _)| worker));
        for purpose in purposes {
            self.keeper.submit(purpose.job(membership, snapshot.clone()));
        }
        self.stop_when_collected();
        self.try_commit();
    }

    /// Ends the serving where that was asked for and no state is on its way to the keeper.
    pub(super) fn stop_when_collected(&mut self) {
        if self.serving.as_ref().is_some_and(|serving| serving.collecting.is_some()) {
            return;
        }
        if let Some(done) = self.stopping.take() {
            (self.serving, self.holding) = (None, None);
            self.keeper.submit(KeeperJob::Flush(done));
        }
    }
}
