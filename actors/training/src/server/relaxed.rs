//! The parameter server of a job whose workers do not wait for each other after every step.
//!
//! Each worker has at most one order: a step of some of its logical shards. Its gradient is applied when it comes in; then
//! everybody who may go on gets the newest parameters with a new order. What an older membership or an order that is not the
//! worker's brings is refused. Everything else (checkpoints, evaluation, the end) goes by the slowest logical shard and is
//! what it is in [`super::thread`].

use std::collections::BTreeMap;
use std::time::Instant;

use neap_runtime::wire::training::{ParametersHeader, TrainerHello};
use neap_runtime::wire::worker::{FailureKind, Member, Membership, Paces, WorkerReport};
use neap_scheduler::elastic::{ReductionTree, ShardRange, TreeNode};
use neap_scheduler::model::{MembershipEpoch, WorkerId};

use super::aftermath::tell_of;
use super::checkpoint::RestoreError;
use super::due::Due;
use super::keeper::KeeperJob;
use super::meter::Meter;
use super::paces::PaceMeter;
use super::thread::{Refusal, Serve, ServerSetup};
use super::{Keeper, ServerEvent};
use crate::links::{Gradients, TrainerLink};
use crate::reduction::{Floats, Part};
use crate::relaxed::{Next, Order, RelaxedState};
use crate::state::{Commit, PartError, Snapshot};

/// See the module.
pub(super) struct RelaxedServer {
    setup: ServerSetup,
    keeper: Keeper,
    /// Trainers that wait for parameters, each with the membership it knows; it may be ahead of the server's.
    links: BTreeMap<WorkerId, (MembershipEpoch, TrainerLink)>,
    serving: Option<Serving>,
    due: Due,
}

struct Serving {
    membership: Membership,
    state: RelaxedState,
    /// What each worker computes now.
    orders: BTreeMap<WorkerId, Order>,
    meter: Meter,
    paces: PaceMeter,
}

impl Serve for RelaxedServer {
    fn handle(&mut self, event: ServerEvent) {
        match event {
            // A job whose workers do not wait for each other has one server, and no replica of it.
            ServerEvent::Serve { membership, .. } => self.serve(membership),
            ServerEvent::Told { .. } | ServerEvent::Bulk { .. } => {}
            ServerEvent::Retire | ServerEvent::Replicate { .. } => self.serving = None,
            ServerEvent::Attach { hello, link } => self.attach(&hello, link),
            ServerEvent::Gradients(gradients) => self.take_gradients(gradients),
            ServerEvent::Coded(coded) => {
                let length = self.setup.layout.len();
                self.setup.decoded(coded, length).into_iter().for_each(|gradients| self.take_gradients(gradients));
            }
            ServerEvent::Save => self.save(),
            ServerEvent::Stop { save, done } => {
                if save {
                    self.save();
                }
                self.serving = None;
                self.keeper.submit(KeeperJob::Flush(done));
            }
        }
    }
}

impl RelaxedServer {
    pub(super) fn new(setup: ServerSetup, keeper: Keeper) -> Self {
        Self { setup, keeper, links: BTreeMap::new(), serving: None, due: Due::new(Instant::now()) }
    }

    fn serve(&mut self, membership: Membership) {
        self.keeper.submit(KeeperJob::Fence(membership.epoch));
        self.due.note_losses(membership.losses_per_1000_h);
        // The control plane names a checkpoint to a server that is new to it; what such a one still holds is stale.
        match self.serving.as_mut().filter(|_| membership.restore.is_none()) {
            Some(serving) => serving.regroup(membership),
            None => match self.restore(&membership) {
                Ok(state) => self.serving = Some(Serving::new(membership, state)),
                Err(error) => return self.setup.outbox.fail(FailureKind::Invalid, error.text()),
            },
        }
        self.links.retain(|_, (epoch, _)| self.serving.as_ref().is_some_and(|now| *epoch >= now.membership.epoch));
        self.go_on();
        self.finish_if_done();
    }

    fn restore(&self, membership: &Membership) -> Result<RelaxedState, RestoreError> {
        let ServerSetup { job, schedule, layout, buffers, .. } = &self.setup;
        let state = match self.setup.saved(membership)? {
            None => RelaxedState::new(*schedule, job.consistency, job.update, self.setup.initial()?),
            Some((name, snapshot)) => {
                let why = "its buffers or clocks are of another job".to_owned();
                RelaxedState::restore(*schedule, job.consistency, job.update, layout.len(), snapshot)
                    .ok_or(RestoreError::Foreign { name, why })?
            }
        };
        Ok(state.with_buffers(buffers.clone()))
    }

    fn attach(&mut self, hello: &TrainerHello, link: TrainerLink) {
        if !self.setup.same_data(hello) {
            return;
        }
        let known = self.links.get(&hello.worker).map(|(membership, _)| *membership);
        if known.is_some_and(|known| known > hello.membership) {
            return;
        }
        self.links.insert(hello.worker, (hello.membership, link));
        if let Some(serving) = self.serving.as_mut().filter(|serving| serving.membership.epoch == hello.membership) {
            // Over a new connection the order is given again; a gradient that comes twice is refused the second time.
            serving.orders.remove(&hello.worker);
            self.go_on();
        }
    }

    fn take_gradients(&mut self, gradients: Gradients) {
        let Some(serving) = &mut self.serving else { return };
        match serving.accept(gradients) {
            Ok(commit) => {
                // First what others wait for.
                self.go_on();
                if let Some(commit) = commit {
                    self.committed(&commit);
                }
            }
            Err(Refusal::Late) => tracing::debug!("gradients of another membership or step refused"),
            Err(Refusal::Wrong(text)) => tracing::warn!(text, "gradients refused"),
            Err(Refusal::Ledger(text)) => {
                self.serving = None;
                self.setup.outbox.fail(FailureKind::DataLedger, text);
            }
            Err(Refusal::NotFinite(fault)) => {
                self.serving = None;
                // Behind the checkpoints that are being written: they are of steps that were made.
                let message = fault.describe(&self.setup.layout);
                self.keeper.submit(KeeperJob::Fail { kind: FailureKind::User, message });
            }
        }
    }

    /// All shards have made a step.
    fn committed(&mut self, commit: &Commit) {
        let Some(serving) = &mut self.serving else { return };
        let membership = serving.membership.epoch;
        if let Some(workers) = serving.paces.due(Instant::now()) {
            self.setup.outbox.report_latest(WorkerReport::Paces(Paces { membership, workers }));
        }
        let wanted = tell_of(commit, membership, &mut serving.meter, &mut self.due, &self.setup, &self.keeper);
        if let Some(purpose) = wanted {
            self.keeper.submit(purpose.job(membership, serving.state.snapshot()));
        }
        self.finish_if_done();
    }

    /// Gives orders to everybody who may go on.
    fn go_on(&mut self) {
        let Some(serving) = &mut self.serving else { return };
        for lost in serving.hand_out(&self.links) {
            self.setup.outbox.peer_lost(serving.membership.epoch, lost);
        }
    }

    fn finish_if_done(&self) {
        let Some(serving) = self.serving.as_ref().filter(|serving| serving.state.is_finished()) else { return };
        self.keeper.submit(KeeperJob::Finish {
            membership: serving.membership.epoch,
            train_loss: serving.state.train_loss(),
            snapshot: Snapshot { moments: Vec::new(), ..serving.state.snapshot() },
        });
    }

    fn save(&mut self) {
        let Some(serving) = &self.serving else { return };
        self.due.note_saved(Instant::now());
        let (membership, snapshot) = (serving.membership.epoch, serving.state.snapshot());
        self.keeper.submit(KeeperJob::Save { membership, snapshot });
    }
}

impl Serving {
    fn new(membership: Membership, state: RelaxedState) -> Self {
        Self { membership, state, orders: BTreeMap::new(), meter: Meter::new(), paces: PaceMeter::new(Instant::now()) }
    }

    /// Goes on under another membership: shards keep their clocks, and what is being computed is computed again.
    fn regroup(&mut self, membership: Membership) {
        self.orders.clear();
        self.paces = PaceMeter::new(Instant::now());
        self.membership = membership;
    }

    /// Applies a worker's gradient. Returns the step that all shards have made by it, if there is one.
    fn accept(&mut self, gradients: Gradients) -> Result<Option<Commit>, Refusal> {
        let Gradients { membership, worker, step, parts } = gradients;
        let order = self.orders.get(&worker).copied().filter(|order| order.step == step);
        let Some(order) = order.filter(|_| membership == self.membership.epoch) else { return Err(Refusal::Late) };
        self.check(worker, order, &parts)?;
        self.orders.remove(&worker);
        self.paces.received(worker, order.shards.len(), Instant::now());
        let parts = parts.into_iter().map(|(_, part)| part).collect();
        self.state.apply(order, parts).map_err(Refusal::from)
    }

    fn check(
        &self,
        worker: WorkerId,
        order: Order,
        parts: &[(TreeNode, Part<Box<dyn Floats>>)],
    ) -> Result<(), Refusal> {
        let tree = ReductionTree::new(self.state.clocks().steps().len() as u32);
        let nodes: Vec<TreeNode> = parts.iter().map(|(node, _)| *node).collect();
        if nodes != tree.cover(order.shards) {
            return Err(Refusal::Wrong(format!("{worker} sent other parts than it was asked for")));
        }
        for (node, part) in parts {
            if part.losses.len() != tree.covers(*node).len() as usize {
                return Err(Refusal::Wrong(format!("{worker} sent {} losses", part.losses.len())));
            }
            self.state.check(order, *node, part.gradient.values().len(), &part.samples).map_err(
                |error| match error {
                    PartError::Length { .. } => Refusal::Wrong(error.to_string()),
                    PartError::Samples { .. } => Refusal::Ledger(format!("worker {worker}: {error}")),
                },
            )?;
        }
        Ok(())
    }

    /// Gives an order to everybody who has none and may go on; returns whom it did not reach.
    fn hand_out(&mut self, links: &BTreeMap<WorkerId, (MembershipEpoch, TrainerLink)>) -> Vec<WorkerId> {
        let membership = self.membership.epoch;
        let mut lost = Vec::new();
        for &Member { worker, shard_start, shard_end, .. } in &self.membership.members {
            let Some((_, link)) = links.get(&worker).filter(|(epoch, _)| *epoch == membership) else { continue };
            if self.orders.contains_key(&worker) {
                continue;
            }
            let block = ShardRange { start: shard_start, end: shard_end };
            let Next::Compute(order) = self.state.next(block) else { continue };
            let ShardRange { start: shard_start, end: shard_end } = order.shards;
            let header = ParametersHeader { membership, step: order.step, segment: 0, shard_start, shard_end };
            match link.send(header, self.state.parameters()) {
                true => {
                    self.orders.insert(worker, order);
                    self.paces.sent(worker, Instant::now());
                }
                false => lost.push(worker),
            }
        }
        lost
    }
}
