//! What the control plane of the simulated cluster would see: a snapshot, and its use over time.

use super::engine::Engine;
use super::outcome::UseSample;
use super::runs::Run;
use super::world::{FixedNode, Provider};
use crate::model::{Generation, Millis, Offer, OfferTerms};
use crate::policy::Snapshot;

/// Node hours after which the count of interruptions is believed; before, an offer counts as undisturbed.
const OBSERVED_HOURS_MIN: u64 = 10;

impl Engine<'_> {
    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            now: self.now,
            generation: Generation(self.rounds),
            jobs: self.live.iter().map(|&job| self.runs[job].demand(self.now)).collect(),
            nodes: self.hosts.values().map(|host| host.supply.clone()).collect(),
            offers: self.offers(),
            idle_release: self.world.settings.idle_release,
            accounts: self.accounts.clone(),
        }
    }

    /// What can be rented; nodes that are always there appear as sold out, so that a job that only they can carry waits.
    fn offers(&self) -> Vec<Offer> {
        let mut rented = vec![0_u32; self.world.providers.len()];
        for provider in self.hosts.values().filter_map(|host| host.provider) {
            rented[provider] += 1;
        }
        let open = self.world.providers.iter().enumerate().map(|(at, provider)| Offer {
            name: provider.name.clone(),
            size: provider.size,
            market: provider.market,
            price: provider.price,
            boot: middle(provider),
            available: provider.quota.saturating_sub(rented[at]),
            terms: OfferTerms {
                gpus: provider.gpus.clone(),
                billing_min: provider.billing_min,
                interruptions_per_1000_h: self.interruptions(at),
                hold_until: self.launches[at].hold_until(),
            },
        });
        let mut kinds: Vec<&FixedNode> = Vec::new();
        for node in &self.world.nodes {
            if !kinds.contains(&node) {
                kinds.push(node);
            }
        }
        let fixed = kinds.into_iter().enumerate().map(|(at, node)| Offer {
            name: format!("fixed/{at}"),
            size: node.size,
            market: node.market,
            price: node.price,
            boot: Millis::ZERO,
            available: 0,
            terms: OfferTerms { gpus: node.gpus.clone(), ..OfferTerms::default() },
        });
        open.chain(fixed).collect()
    }

    fn interruptions(&self, provider: usize) -> u32 {
        let (count, time) = self.observed[provider];
        let hours = time.get() / 3_600_000;
        if hours < OBSERVED_HOURS_MIN { 0 } else { u32::try_from(count * 1_000 / hours).unwrap_or(u32::MAX) }
    }

    /// Takes a sample, if something has changed.
    pub(super) fn sample(&mut self) {
        let sample = self.in_use();
        if !self.timeline.last().is_some_and(|last| last.is_like(&sample)) {
            self.timeline.push(sample);
        }
    }

    /// The end: what it all came to, whatever was sampled at this moment before.
    pub(super) fn sample_end(&mut self, last: UseSample) {
        self.timeline.pop_if(|sample| sample.at == last.at);
        self.timeline.push(last);
    }

    pub(super) fn in_use(&self) -> UseSample {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let hosts = self.hosts.values();
        let live = self.live.iter().map(|&job| &self.runs[job]);
        let gpus_held = |run: &Run| run.job.gpus.count.0 * count(run.placed.len());
        UseSample {
            at: self.now,
            nodes: count(hosts.len()),
            nodes_held: count(hosts.clone().filter(|host| !host.jobs.is_empty()).count()),
            gpus: hosts.clone().map(|host| host.supply.terms.gpus.count.0).sum(),
            gpus_held: live.clone().map(gpus_held).sum(),
            workers: count(live.clone().map(|run| run.placed.len()).sum()),
            waiting: count(live.filter(|run| !run.started).count()),
            cost: self.gone_cost + hosts.map(|host| host.spent(self.now)).sum(),
        }
    }
}

/// How long a node of this provider usually takes to come.
pub(super) fn middle(provider: &Provider) -> Millis {
    Millis::new(provider.boot.0.get().midpoint(provider.boot.1.get()))
}
