//! The life of one simulated node and what it costs, by what it is doing.

use super::outcome::NodeOutcome;
use crate::model::{Gpus, JobId, Market, MicroUsd, MicroUsdPerHour, Millis, NodeId, NodeSize, NodeState};
use crate::policy::{NodeSupply, NodeTerms, RentAgain};

/// A node and what it has cost.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) supply: NodeSupply,
    /// The provider it comes from; nothing for one that is always there.
    pub(super) provider: Option<usize>,
    pub(super) jobs: Vec<JobId>,
    pub(super) outcome: NodeOutcome,
    requested: Millis,
    /// Its time is counted up to here.
    at: Millis,
    billing_min: Millis,
}

/// What a node is made from.
pub(super) struct Kind<'a> {
    pub(super) offer: &'a str,
    pub(super) size: NodeSize,
    pub(super) gpus: &'a Gpus,
    pub(super) market: Market,
    pub(super) price: MicroUsdPerHour,
}

impl Host {
    pub(super) fn fixed(id: NodeId, kind: &Kind<'_>) -> Self {
        let mut host = Self::new(id, kind, Millis::ZERO);
        host.supply.state = NodeState::Ready;
        host
    }

    pub(super) fn rented(
        id: NodeId,
        kind: &Kind<'_>,
        provider: usize,
        job: JobId,
        again: RentAgain,
        now: Millis,
    ) -> Self {
        let mut host = Self::new(id, kind, now);
        host.provider = Some(provider);
        host.billing_min = again.billing_min;
        host.supply.rented_for = Some(job);
        host.supply.terms.again = Some(again);
        host
    }

    fn new(id: NodeId, kind: &Kind<'_>, now: Millis) -> Self {
        let supply = NodeSupply {
            id,
            size: kind.size,
            market: kind.market,
            price: kind.price,
            state: NodeState::Booting,
            rented_for: None,
            notice_until: None,
            answers: true,
            idle_since: None,
            terms: NodeTerms { gpus: kind.gpus.clone(), ..NodeTerms::default() },
        };
        let outcome = NodeOutcome { offer: kind.offer.to_owned(), ..NodeOutcome::default() };
        Self { supply, provider: None, jobs: Vec::new(), outcome, requested: now, at: now, billing_min: Millis::ZERO }
    }

    /// Counts the time until `now`; gives back what each of its jobs pays for it.
    pub(super) fn count(&mut self, now: Millis) -> Vec<(JobId, MicroUsd)> {
        let (passed, spent) = (now.since(self.at), self.spent(now) - self.spent(self.at));
        self.at = now;
        let outcome = &mut self.outcome;
        let category = match (self.supply.state, self.supply.notice_until, self.jobs.is_empty()) {
            (NodeState::Booting, ..) => &mut outcome.boot,
            (_, Some(_), _) => &mut outcome.leaving,
            (.., false) => &mut outcome.busy,
            (.., true) => &mut outcome.idle,
        };
        *category = *category + passed;
        if self.jobs.is_empty() || spent == MicroUsd::ZERO {
            return Vec::new();
        }
        self.jobs.iter().copied().zip(spent.split(&vec![1; self.jobs.len()])).collect()
    }

    /// What it has cost until `now`, whatever is billed at least.
    pub(super) fn spent(&self, now: Millis) -> MicroUsd {
        self.supply.price.cost_of(now.since(self.requested))
    }

    /// Ready for work.
    pub(super) fn arrive(&mut self, now: Millis) {
        self.supply.state = NodeState::Ready;
        self.supply.idle_since = Some(now);
    }

    pub(super) fn take(&mut self, job: JobId) {
        self.jobs.push(job);
        self.supply.idle_since = None;
    }

    pub(super) fn leave(&mut self, job: JobId, now: Millis) {
        self.jobs.retain(|one| *one != job);
        if self.jobs.is_empty() && self.provider.is_some() {
            self.supply.idle_since = Some(now);
        }
    }

    /// The bill, once it is gone: at least the shortest time that is billed.
    pub(super) fn close(mut self, now: Millis, lost: bool) -> NodeOutcome {
        let billed = now.since(self.requested).max(self.billing_min);
        self.outcome.cost = self.supply.price.cost_of(billed);
        self.outcome.lost = lost;
        self.outcome
    }
}
