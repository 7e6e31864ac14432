//! Moving a worker of a complete job to a node where the job costs less, one worker a round. [`crate::autoscale::moving`]
//! has the rule; here is where to look: nodes that are free, nodes already on their way for it, and offers.
//!
//! A worker only moves to where it would be placed afresh (cheaper per useful hour with a choice of markets; onto a node
//! that others keep rented), so the next round does not move it back. Moves come after everything else: a worker that left
//! its place in the last round gets the one it left for before another can go there.

use super::decide::Round;
use super::plan::{AcquireReason, Action, KeepReason, RetireReason};
use super::snapshot::{JobDemand, NodeSupply, Placed, PlacedRole};
use super::terms::MarketNow;
use super::wanted::could_carry;
use crate::autoscale::{self, Saving};
use crate::model::{Market, MicroUsdPerHour, Millis, NodeId};

impl Round<'_> {
    pub(super) fn move_to_cheaper(&mut self) {
        for job in std::mem::take(&mut self.complete) {
            self.move_one(job);
        }
    }

    fn move_one(&mut self, job: &JobDemand) {
        let settled = |placed: &Placed| self.takes_work(placed.node) && !self.retired.contains(&placed.worker);
        let settled = job.started && job.leaving.is_empty() && job.placed.iter().all(settled);
        if job.terms.work.is_none() || !settled {
            return;
        }
        if let Some(MarketNow::Only(market)) = job.terms.market_now {
            self.move_to_market(job, market);
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

    /// Moves every worker on a node of the other market at once: a job restarts once, and its deadline's policy has counted
    /// that already. Nothing leaves before all the new nodes are there.
    fn move_to_market(&mut self, job: &JobDemand, market: Market) {
        let node_of = |placed: &Placed| self.nodes.get(&placed.node).copied();
        let elsewhere = job.placed.iter().filter_map(|placed| Some((*placed, node_of(placed)?)));
        let elsewhere: Vec<(Placed, &NodeSupply)> = elsewhere.filter(|(_, node)| node.market != market).collect();
        let Some(from) = elsewhere.iter().map(|(_, node)| node.price).max() else { return };
        let (ready, coming) = self.moving_to(job, elsewhere.len());
        if ready.len() < elsewhere.len() {
            self.rent_to_move(job, from, elsewhere.len() - ready.len() - coming);
            return;
        }
        for ((placed, from), to) in elsewhere.into_iter().zip(ready) {
            let price = self.nodes.get(&to).map(|node| node.price).unwrap_or_default();
            let Saving { saved, moving } = self.saving_by_moving(job, from.price, price, Millis::ZERO);
            self.retire_worker(job.id, placed.worker, RetireReason::Moves { to, saved, moving });
        }
    }

    /// Keeps the nodes that were rented for the job to move to, up to `most`: those that are there, and how many come.
    fn moving_to(&mut self, job: &JobDemand, most: usize) -> (Vec<NodeId>, usize) {
        let mine = |node: NodeId| job.placed.iter().any(|placed| placed.node == node);
        let rented = |node: NodeId| self.nodes.get(&node).is_some_and(|node| node.rented_for == Some(job.id));
        let fits = |node: NodeId| self.nodes.get(&node).is_some_and(|node| could_carry(job, node));
        let ready = self.free.fitting(job, most, |node| !mine(node) && rented(node) && fits(node));
        let coming = self.coming.get(&Some(job.id)).into_iter().flatten().filter_map(|node| self.nodes.get(node));
        let coming = coming.filter(|node| could_carry(job, node)).take(most - ready.len());
        let coming: Vec<NodeId> = coming.map(|node| node.id).collect();
        self.used.extend(ready.iter().map(|node| (*node, KeepReason::GangOf(job.id))));
        self.used.extend(coming.iter().map(|node| (*node, KeepReason::ComingFor(job.id))));
        ready.iter().for_each(|node| self.free.remove(*node));
        (ready, coming.len())
    }

    fn rent_to_move(&mut self, job: &JobDemand, from: MicroUsdPerHour, nodes: usize) {
        for _ in 0..nodes {
            let Some(offer) = autoscale::cheapest(job, self.offers.iter().filter(|offer| offer.available > 0)) else {
                return;
            };
            let (name, price, boot) = (offer.name.clone(), offer.price, offer.boot);
            let Saving { saved, moving } = self.saving_by_moving(job, from, price, boot);
            self.take_offer(&name);
            let reason = AcquireReason::Cheaper { price, saved, moving };
            self.plan.actions.push(Action::Acquire { job: job.id, offer: name, reason });
        }
    }

    /// What one worker's move is worth, whether or not that is more than it costs.
    fn saving_by_moving(&self, job: &JobDemand, from: MicroUsdPerHour, to: MicroUsdPerHour, boot: Millis) -> Saving {
        autoscale::saving(job, self.rate_of(job), from, to, boot).unwrap_or_default()
    }

    /// One node less of this offer can be had by those who come later.
    pub(super) fn take_offer(&mut self, name: &str) {
        for offer in self.offers.iter_mut().filter(|offer| offer.name == name) {
            offer.available -= 1;
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
        self.take_offer(&name);
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
        let nothing = MicroUsdPerHour::new(0);
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
