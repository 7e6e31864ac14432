//! Moving a worker of a complete job to a node where the job costs less, one worker a round. [`crate::autoscale::moving`]
//! has the rule; here is where to look: nodes that are free, nodes already on their way for it, and offers.
//!
//! A worker only moves to where it would be placed afresh (cheaper per useful hour with a choice of markets; onto a node
//! that others keep rented), so the next round does not move it back. Moves come after everything else: a worker that left
//! its place in the last round gets the one it left for before another can go there.

use super::decide::Round;
use super::plan::{AcquireReason, Action, KeepReason, RetireReason};
use super::snapshot::{JobDemand, NodeSupply, Placed, PlacedRole};
use super::wanted::could_carry;
use crate::autoscale::{self, Saving};
use crate::model::{Millis, NodeId};

impl Round<'_> {
    pub(super) fn move_to_cheaper(&mut self) {
        for job in std::mem::take(&mut self.complete) {
            self.move_one(job);
        }
    }

    fn move_one(&mut self, job: &JobDemand) {
        let settled = |placed: &Placed| self.takes_work(placed.node) && !self.retired.contains(&placed.worker);
        if job.terms.work.is_none() || !job.started || !job.placed.iter().all(settled) {
            return;
        }
        let trainers = job.placed.iter().filter(|placed| placed.role == PlacedRole::Trainer);
        let cost = |placed: &&Placed| self.nodes.get(&placed.node).map(|node| autoscale::node_cost(job, node));
        let Some((placed, from)) =
            trainers.max_by_key(cost).and_then(|placed| self.nodes.get(&placed.node).map(|from| (*placed, *from)))
        else {
            return;
        };
        if job.terms.either_market {
            self.move_to_other_market(job, placed, from);
        } else if job.terms.rate_max.is_none() {
            // With a limit on its rate a job is placed by price, not by what is left on nodes.
            self.share_a_node(job);
        }
    }

    fn move_to_other_market(&mut self, job: &JobDemand, placed: Placed, from: &NodeSupply) {
        let rate = self.rate_of(job);
        let mine = |node: NodeId| job.placed.iter().any(|placed| placed.node == node);
        let old = autoscale::node_cost(job, from);
        let saving =
            |node: &NodeSupply| autoscale::moving(job, rate, old, autoscale::node_cost(job, node), Millis::ZERO);
        // Only to a node that was rented for it: two jobs after the same node would chase each other.
        let allowed = |node: NodeId| {
            !mine(node)
                && self.nodes.get(&node).is_some_and(|node| node.rented_for == Some(job.id) && could_carry(job, node))
        };
        let free = self.free.fitting(job, usize::MAX, allowed).into_iter().filter_map(|node| self.nodes.get(&node));
        let cheapest = free.min_by_key(|node| (autoscale::node_cost(job, node), node.id));
        if let Some((to, Saving { saved, moving })) =
            cheapest.and_then(|node| saving(node).map(|saving| (node.id, saving)))
        {
            self.used.insert(to, KeepReason::GangOf(job.id));
            self.free.remove(to);
            self.retire_worker(job.id, placed.worker, RetireReason::Moves { to, saved, moving });
            return;
        }
        let mut coming = self.coming.get(&Some(job.id)).into_iter().flatten().filter_map(|node| self.nodes.get(node));
        if let Some(node) = coming.find(|node| could_carry(job, node) && saving(node).is_some()) {
            self.used.insert(node.id, KeepReason::ComingFor(job.id));
            return;
        }
        let Some(offer) = autoscale::cheapest(job, self.offers.iter().filter(|offer| offer.available > 0)) else {
            return;
        };
        let to = autoscale::useful_price(job, offer.price, offer.terms.interruptions_per_1000_h);
        let Some(Saving { saved, moving }) = autoscale::moving(job, rate, old, to, offer.boot) else { return };
        let (name, price) = (offer.name.clone(), offer.price);
        for offer in self.offers.iter_mut().filter(|offer| offer.name == name) {
            offer.available -= 1;
        }
        let reason = AcquireReason::Cheaper { price, saved, moving };
        self.plan.actions.push(Action::Acquire { job: job.id, offer: name, reason });
    }

    /// Moves a worker that alone keeps a node rented onto one that others keep rented.
    fn share_a_node(&mut self, job: &JobDemand) {
        let rate = self.rate_of(job);
        let mine = |node: NodeId| job.placed.iter().any(|placed| placed.node == node);
        let accepts = |node: NodeId| self.nodes.get(&node).is_some_and(|node| could_carry(job, node));
        let trainers = job.placed.iter().filter(|placed| placed.role == PlacedRole::Trainer);
        let mut alone = trainers.filter(|placed| self.occupants.get(&placed.node).is_some_and(|jobs| jobs.len() == 1));
        let Some(placed) = alone.next().copied() else { return };
        let Some(to) = self.free.fitting(job, 1, |node| !mine(node) && accepts(node)).first().copied() else { return };
        let Some(from) = self.nodes.get(&placed.node) else { return };
        // Only a node that can be rented again is given back; leaving another one saves nothing.
        let rented = from.terms.again.is_some();
        let shared = self.occupants.get(&to).is_some_and(|jobs| !jobs.is_empty());
        if !rented || !shared || !self.free.is_fuller(to, from) {
            return;
        }
        let nothing = crate::model::MicroUsdPerHour::new(0);
        let Some(Saving { saved, moving }) = autoscale::moving(job, rate, from.price, nothing, Millis::ZERO) else {
            return;
        };
        // Others look at where everybody will be.
        self.free.remove(to);
        self.occupants.entry(from.id).or_default().remove(&job.id);
        self.occupants.entry(to).or_default().insert(job.id);
        self.retire_worker(job.id, placed.worker, RetireReason::Moves { to, saved, moving });
    }
}
