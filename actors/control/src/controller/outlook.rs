//! What the control plane knows about money to come: what runs, what waits, and what could be rented.

use neap_scheduler::model::{JobId, JobState, MicroUsd, Millis, Offer};
use neap_scheduler::pricing::forecast::{QueuedSpend, RunningSpend};
use neap_scheduler::spec::DEFAULT_PROJECT;
use neap_storage::record::EstimateRecord;

use super::{Changed, Controller, Reply};
use crate::clock;
use crate::outlook::Outlook;
use crate::state::{JobEntry, NodeEntry};
use crate::views::{OfferView, OpenBill};

impl Controller {
    pub(super) fn answer_open_bill(&self, reply: Reply<OpenBill>) -> Changed {
        let now = clock::now();
        let names = |job: &JobEntry| (job.id, (job.name.clone(), job.project.clone()));
        let _ = reply.send(Ok(OpenBill {
            now,
            lines: self.state.live_nodes().flat_map(|node| self.state.open_attributed(node.id, now)).collect(),
            losses: self.state.jobs.values().flat_map(|job| job.losses.iter().copied()).collect(),
            jobs: self.state.jobs.values().map(names).collect(),
        }));
        Changed::No
    }

    pub(super) fn answer_outlook(&self, reply: Reply<Outlook>) -> Changed {
        let running = self.state.live_nodes().map(|node| {
            let project = node.rented_for.map(|job| self.path_of(job).project);
            let spend = RunningSpend { price: node.price, left: self.needed_for(node) };
            (project.unwrap_or_else(|| DEFAULT_PROJECT.to_owned()), spend)
        });
        let paying: Vec<JobId> = self.state.live_nodes().flat_map(|node| self.state.payers(node)).collect();
        let waiting: Vec<&JobEntry> = self.state.live_jobs().filter(|job| !paying.contains(&job.id)).collect();
        let mut outlook = Outlook {
            running: running.collect(),
            budgets: self.state.budgets.keys().map(|scope| self.scope_view(scope)).collect(),
            ..Outlook::default()
        };
        for job in waiting {
            match self.expected(job) {
                Some(EstimateRecord { cost_p50: p50, cost_p95: p95, lasts }) => {
                    // When it starts is not known; the earliest moment is the dearest one within a horizon.
                    let spend = QueuedSpend { p50, p95, starts_in: Millis::ZERO, lasts };
                    outlook.queued.push((job.project.clone(), spend));
                }
                None => outlook.unknown.push(job.id),
            }
        }
        let _ = reply.send(Ok(outlook));
        Changed::No
    }

    /// How much longer a node is needed: until the last of its jobs is done, and then as long as an idle one is kept.
    fn needed_for(&self, node: &NodeEntry) -> Option<Millis> {
        let idle = Millis::new(self.parts.config.idle_release_ms);
        let jobs = self.state.payers(node).into_iter().filter_map(|job| self.state.jobs.get(&job));
        let left = jobs.filter(|job| !job.state.is_terminal()).map(|job| self.left_of_job(job));
        left.collect::<Option<Vec<Millis>>>().map(|left| left.into_iter().max().unwrap_or_default() + idle)
    }

    /// How long a job still takes: by its progress, or as it was expected to.
    fn left_of_job(&self, job: &JobEntry) -> Option<Millis> {
        let progress = self.live.progress.get(&job.id).filter(|progress| progress.step > 0);
        let by_progress = progress.filter(|progress| progress.samples_per_second > 0.0).map(|progress| {
            let steps_left = progress.steps_total.saturating_sub(progress.step) as f64;
            let samples_left = steps_left * progress.samples as f64 / progress.step as f64;
            Millis::new((samples_left / progress.samples_per_second * 1_000.0) as u64)
        });
        by_progress.or_else(|| self.expected(job).map(|expected| expected.lasts))
    }

    /// What a job was expected to cost when it was handed in; otherwise what the same job cost before.
    fn expected(&self, job: &JobEntry) -> Option<EstimateRecord> {
        job.estimate.or_else(|| {
            let same = self
                .state
                .jobs
                .values()
                .filter(|other| other.spec_hash == job.spec_hash && other.state == JobState::Succeeded);
            let mut runs: Vec<(MicroUsd, Millis)> =
                same.filter_map(|other| Some((other.cost.total, other.ended?.since(other.submitted)))).collect();
            runs.sort_unstable();
            let (cost_p50, lasts) = *runs.get(runs.len() / 2)?;
            Some(EstimateRecord { cost_p50, cost_p95: runs.last()?.0, lasts })
        })
    }

    /// What could be rented now, with what was seen of such nodes.
    pub(super) fn answer_offers(&self, reply: Reply<Vec<OfferView>>) -> Changed {
        let running = self.running_times();
        let view = |offer: Offer| {
            let seen = self.state.observed.of(&offer.name);
            let interruptions = seen.map_or(0, |seen| u64::from(seen.interruptions));
            let observed = seen.map_or(Millis::ZERO, |seen| {
                seen.node_time(running.get(offer.name.as_str()).copied().unwrap_or_default())
            });
            OfferView { offer, interruptions, observed }
        };
        let _ = reply.send(Ok(self.offers().into_iter().map(view).collect()));
        Changed::No
    }
}
