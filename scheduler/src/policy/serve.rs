//! Serving one job: nodes that are free, nodes on their way, nodes to rent, and why it still waits.
//!
//! A limit on what all its nodes may cost in an hour is looked at first, over all three kinds: it decides how many of
//! each are taken. A node that several jobs share counts in full for each: each must be able to go on when the others
//! end.

use std::collections::BTreeSet;

use super::decide::{Round, cheapest_fit};
use super::plan::{AcquireReason, Action, KeepReason, StartReason, WaitReason};
use super::reservation::{Reservation, Running};
use super::rule::Behind;
use super::snapshot::{JobDemand, NodeSupply, PlacedRole};
use super::terms::MarketNow;
use super::wanted::{Shopping, Wanted, could_carry, suits};
use crate::autoscale;
use crate::model::{MicroUsdPerHour, NodeId, Offer};

/// What a job may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// Whatever is left.
    All,
    /// Whatever is left, and what is held for the blocked job: it will be gone by then.
    HeldToo,
    /// What the blocked job cannot use, and this many nodes that it can use and does not need.
    Spare(u32),
}

/// What was found for a job.
#[derive(Debug, Clone, Copy, Default)]
struct Found {
    homes: u32,
    coming: u32,
    rented: u32,
}

impl<'a> Round<'a> {
    pub(super) fn serve(&mut self, job: &'a JobDemand, goal: u32) {
        if let Some(MarketNow::Wait { slack }) = job.terms.market_now {
            self.plan.waiting.insert(job.id, WaitReason::ForSpot { slack });
            return;
        }
        let wanted = Wanted::new(job, goal, |node| self.takes_work(node));
        if wanted.missing() == 0 {
            // Behind a job that waits, a worker that left its place might not get another.
            if self.blocked.is_none() {
                self.complete.push(job);
            }
            return;
        }
        let Some(scope) = self.scope(job, &wanted) else { return };
        if let Some(until) = job.hold_until.filter(|&until| until > self.snapshot.now) {
            self.plan.waiting.insert(job.id, WaitReason::Backoff { until });
            return;
        }
        let Some(list) = self.shopping(job, &wanted, scope) else { return };
        let homes = self.homes(job, wanted.missing().min(list.homes), scope);
        let coming = self.coming_for(job, (wanted.missing() - count(&homes)).min(list.coming));
        self.used.extend(coming.iter().map(|node| (*node, KeepReason::ComingFor(job.id))));
        let can_start = job.started || wanted.has + count(&homes) >= wanted.least;
        if can_start {
            self.start(job, &wanted, &homes);
        }
        let short = (wanted.missing() - count(&homes) - count(&coming)).min(list.rented);
        let rented = self.acquire(job, &wanted, count(&homes) + count(&coming), short, scope);
        let found = Found { homes: count(&homes), coming: count(&coming), rented };
        if can_start {
            self.after_start(job, scope, &homes, &found);
        } else {
            self.wait(job, &wanted, scope, &homes, &found);
        }
    }

    /// How many nodes of each kind the job may take within its limit; nothing if its gang costs more than that.
    fn shopping(&mut self, job: &JobDemand, wanted: &Wanted, scope: Scope) -> Option<Shopping> {
        let Some(limit) = job.terms.rate_max else { return Some(Shopping::UNLIMITED) };
        let left = limit.get().saturating_sub(self.rate_of(job).get());
        let price = |node: &NodeId| self.nodes.get(node).map(|node| node.price);
        let homes: Vec<_> = self.homes(job, u32::MAX, scope).iter().filter_map(price).collect();
        let coming: Vec<_> = self.coming_fitting(job, u32::MAX).iter().filter_map(price).collect();
        let accepted = || self.offers.iter().filter(|offer| autoscale::accepts(job, offer));
        let times = |offer: &Offer, most: u32| std::iter::repeat_n(offer.price, most as usize);
        let gang = if job.started { 0 } else { wanted.least.saturating_sub(wanted.has) };
        let ever: Vec<_> = accepted().flat_map(|offer| times(offer, gang)).collect();
        let at_best = Shopping::within(left, gang, gang, [&homes, &coming, &ever]).count();
        if at_best < gang && homes.len() + coming.len() + ever.len() >= gang as usize {
            let reason = WaitReason::Rate { have: wanted.has + at_best, need: wanted.least, limit };
            self.plan.waiting.insert(job.id, reason);
            return None;
        }
        let now: Vec<_> = accepted().flat_map(|offer| times(offer, offer.available.min(wanted.missing()))).collect();
        Some(Shopping::within(left, wanted.missing(), gang, [&homes, &coming, &now]))
    }

    /// What the job may use; nothing behind a job that holds everyone back.
    fn scope(&mut self, job: &JobDemand, wanted: &Wanted) -> Option<Scope> {
        let Some(blocked) = &self.blocked else { return Some(Scope::All) };
        if self.policy.behind() == Behind::Waits {
            self.plan.waiting.insert(job.id, WaitReason::Behind(blocked.job.id));
            return None;
        }
        let workers = if job.started { wanted.has.max(1) } else { wanted.least };
        let ends_in_time = blocked.outlives(job, workers, self.snapshot.now);
        Some(if ends_in_time { Scope::HeldToo } else { Scope::Spare(blocked.spare()) })
    }

    /// Free nodes for workers of the job, at most one worker of a job on a node; the fullest fitting first, so that
    /// whole nodes stay free. With a choice of markets or a limit on the rate, the cheapest first.
    fn homes(&self, job: &JobDemand, most: u32, scope: Scope) -> Vec<NodeId> {
        let taken: BTreeSet<NodeId> = job.all_placed().map(|placed| placed.node).collect();
        let allowed =
            |node: NodeId| !taken.contains(&node) && self.nodes.get(&node).is_some_and(|node| suits(job, node));
        let by_price = job.terms.either_market || job.terms.rate_max.is_some();
        let look_at = if by_price { usize::MAX } else { most as usize };
        let mut fitting = match scope {
            Scope::All => self.free.fitting(job, look_at, allowed),
            Scope::HeldToo => {
                let mut both = self.free.fitting(job, look_at, allowed);
                both.extend(self.held.fitting(job, look_at, allowed));
                both
            }
            Scope::Spare(spare) => {
                let blocked_could = |node| {
                    let node = self.nodes.get(&node);
                    node.zip(self.blocked.as_ref()).is_some_and(|(node, blocked)| blocked.could_use(node))
                };
                let mut fitting = self.free.fitting(job, look_at, |node| allowed(node) && !blocked_could(node));
                let spare = look_at.min(spare as usize);
                fitting.extend(self.free.fitting(job, spare, |node| allowed(node) && blocked_could(node)));
                fitting
            }
        };
        if by_price {
            fitting.sort_by_key(|node| self.nodes.get(node).map(|node| autoscale::node_cost(job, node)));
        }
        fitting.truncate(most as usize);
        fitting
    }

    fn coming_for(&mut self, job: &JobDemand, most: u32) -> Vec<NodeId> {
        let found = self.coming_fitting(job, most);
        for node in &found {
            let rented_for = self.nodes.get(node).and_then(|node| node.rented_for);
            if let Some(nodes) = self.coming.get_mut(&rented_for) {
                nodes.remove(node);
            }
        }
        found
    }

    /// Nodes on their way for this job or for nobody, up to `most`.
    fn coming_fitting(&self, job: &JobDemand, most: u32) -> Vec<NodeId> {
        let mut found: Vec<&NodeSupply> = Vec::new();
        for rented_for in [Some(job.id), None].into_iter().filter(|_| most > 0) {
            let nodes = self.coming.get(&rented_for).into_iter().flatten().filter_map(|node| self.nodes.get(node));
            let most = if job.terms.rate_max.is_some() { usize::MAX } else { most as usize };
            found.extend(nodes.filter(|node| could_carry(job, node)).take(most));
        }
        found.sort_unstable_by_key(|node| (job.terms.rate_max.map(|_| node.price), node.id));
        found.truncate(most as usize);
        found.into_iter().map(|node| node.id).collect()
    }

    fn start(&mut self, job: &JobDemand, wanted: &Wanted, homes: &[NodeId]) {
        let mut servers = wanted.servers_missing;
        for &node in homes {
            let role = if servers > 0 { PlacedRole::Server } else { PlacedRole::Trainer };
            servers = servers.saturating_sub(1);
            let reason = if job.started { StartReason::Growth } else { StartReason::Gang };
            self.plan.actions.push(Action::Start { job: job.id, node, role, reason });
            let here = self.occupants.entry(node).or_default();
            here.insert(job.id);
            self.used.insert(node, KeepReason::Carries(here.iter().copied().collect()));
            self.free.take(node, job);
            self.held.take(node, job);
        }
    }

    /// Rents up to `short` nodes beside the `found` ones; gives back how many could be had.
    fn acquire(&mut self, job: &JobDemand, wanted: &Wanted, found: u32, short: u32, scope: Scope) -> u32 {
        for rented in 0..short {
            let allowed = |offer: &&Offer| {
                scope == Scope::All || self.blocked.as_ref().is_none_or(|blocked| !blocked.could_rent(offer))
            };
            let open = self.offers.iter().filter(|offer| offer.available > 0).filter(allowed);
            let Some(offer) = autoscale::cheapest(job, open) else { return rented };
            let name = offer.name.clone();
            let reason = self.acquire_reason(job, wanted, found + rented, offer);
            self.take_offer(&name);
            self.plan.actions.push(Action::Acquire { job: job.id, offer: name, reason });
        }
        short
    }

    /// Why one more node beside the job's workers and `found` ones is rented.
    fn acquire_reason(&self, job: &JobDemand, wanted: &Wanted, found: u32, offer: &Offer) -> AcquireReason {
        let price = offer.price;
        if wanted.has + found < wanted.least && !job.started {
            return AcquireReason::Gang { price };
        }
        autoscale::growth_reason(job, wanted.has + found, offer, self.snapshot.now)
    }

    fn after_start(&mut self, job: &JobDemand, scope: Scope, homes: &[NodeId], found: &Found) {
        if let (Scope::Spare(_), Some(blocked)) = (scope, &mut self.blocked) {
            let used = homes.iter().filter_map(|node| self.nodes.get(node)).filter(|node| blocked.could_use(node));
            let used = u32::try_from(used.count()).unwrap_or(u32::MAX);
            blocked.take_spare(used);
        }
        if found.coming + found.rented > 0 {
            self.plan.waiting.insert(job.id, WaitReason::Booting { coming: found.coming + found.rented });
        }
    }

    fn wait(&mut self, job: &'a JobDemand, wanted: &Wanted, scope: Scope, homes: &[NodeId], found: &Found) {
        let (have, on_the_way) = (wanted.has + found.homes, found.coming + found.rented);
        let complete = have + on_the_way >= wanted.least;
        let behind = self.blocked.as_ref().map(|blocked| blocked.job.id);
        // Only a gang that is on its way, or that holds everyone back, keeps what it found; else it may help others start.
        let reason = if complete {
            if scope != Scope::HeldToo {
                self.hold(job, homes);
                homes.iter().for_each(|node| self.free.remove(*node));
            }
            WaitReason::Gang { have, need: wanted.least, coming: on_the_way }
        } else if let Some(first) = behind {
            WaitReason::Behind(first)
        } else if let Some(offer) = cheapest_fit(job, &self.snapshot.offers, true) {
            let name = offer.name.clone();
            if self.policy.lets_pass(job, self.snapshot.now) {
                self.plan.waiting.insert(job.id, WaitReason::NoCapacity { offer: name });
                return;
            }
            self.hold(job, homes);
            homes.iter().for_each(|node| self.free.hand_over(*node, &mut self.held));
            self.block(job, wanted.least - have - on_the_way, homes);
            self.make_way(job, wanted.least - have - on_the_way, homes)
                .unwrap_or(WaitReason::NoCapacity { offer: name })
        } else {
            WaitReason::Infeasible(autoscale::infeasible(job, &self.snapshot.offers))
        };
        self.plan.waiting.insert(job.id, reason);
    }

    /// Keeps free nodes for the rest of the job's gang.
    fn hold(&mut self, job: &JobDemand, homes: &[NodeId]) {
        for &node in homes {
            self.used.entry(node).or_insert(KeepReason::GangOf(job.id));
        }
    }

    /// Later jobs are behind this one from now on.
    fn block(&mut self, job: &'a JobDemand, short: u32, homes: &[NodeId]) {
        let mine = job.placed.iter().map(|placed| placed.node).chain(homes.iter().copied()).collect();
        let running = Running::new(&self.jobs, &self.occupants, self.snapshot.now);
        self.blocked = Some(Reservation::new(job, short, &mine, self.snapshot.now, &self.nodes, &running));
    }

    pub(super) fn rate_of(&self, job: &JobDemand) -> MicroUsdPerHour {
        super::priority::total(
            job.placed.iter().filter_map(|placed| self.nodes.get(&placed.node)).map(|node| node.price),
        )
    }
}

fn count(nodes: &[NodeId]) -> u32 {
    u32::try_from(nodes.len()).unwrap_or(u32::MAX)
}
