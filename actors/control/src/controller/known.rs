//! What is known about the work of jobs and about offers, for decisions: how much is left, how fast it goes, how long
//! nodes take to come and how often they are taken back.

use std::collections::BTreeMap;

use neap_runtime::wire::worker::Progress;
use neap_scheduler::autoscale::Pace;
use neap_scheduler::elastic::{COST_ASSUMED, between_losses, checkpoint_interval};
use neap_scheduler::model::{JobId, MembershipEpoch, MicroUsd, Millis, NodeId, NodeState, Offer};
use neap_scheduler::policy::{Account, Accounts, JobTerms, NodeTerms, RentAgain, WorkLeft};
use neap_scheduler::spec::CheckpointEvery;

use super::Controller;
use super::api::terms_of;
use crate::clock;
use crate::state::{JobEntry, NodeEntry};

/// From a ready node to the first step: a worker process starts, reads its data and connects. Measured on small machines:
/// 0.25 to 0.7 s for small data, 1.8 s for 60,000 images.
pub const RESTART: Millis = Millis::from_secs(2);

/// Billed time of nodes that still run, by the name of their offer.
pub(super) type RunningTimes<'a> = BTreeMap<&'a str, Millis>;

/// How a job comes along, as its workers report it.
#[derive(Debug, Default)]
pub(super) struct Advance {
    pace: Pace,
    last: Option<Report>,
}

/// The last report that counted.
#[derive(Debug, Clone, Copy)]
struct Report {
    membership: MembershipEpoch,
    at: Millis,
    samples: u64,
    total: u64,
}

impl Advance {
    /// Takes in a report of a membership with so many trainers. Two reports of one membership say how fast it is.
    pub(super) fn note(&mut self, progress: &Progress, trainers: u32, now: Millis) {
        if let Some(last) = self.last.filter(|last| last.membership == progress.membership) {
            self.pace.saw(trainers, progress.samples.saturating_sub(last.samples), now.since(last.at));
        }
        let per_step = progress.samples / progress.step.max(1);
        let total = progress.samples + per_step * progress.steps_total.saturating_sub(progress.step);
        let (membership, samples) = (progress.membership, progress.samples);
        self.last = Some(Report { membership, at: now, samples, total });
    }

    /// What is left, as estimated.
    pub(super) fn work_left(&self) -> Option<WorkLeft> {
        let last = self.last?;
        self.pace.work_left(last.total.saturating_sub(last.samples))
    }

    /// All of the job's work at its present pace, and what part of it is left.
    pub(super) fn whole(&self) -> Option<(WorkLeft, f64)> {
        let last = self.last.filter(|last| last.total > 0)?;
        let left = last.total.saturating_sub(last.samples) as f64 / last.total as f64;
        Some((self.pace.work_left(last.total)?, left))
    }
}

impl Controller {
    pub(super) fn note_pace(&mut self, job: JobId, progress: &Progress) {
        let trainers = self
            .state
            .jobs
            .get(&job)
            .and_then(|job| job.membership.as_ref())
            .map(|group| group.members.iter().filter(|member| member.shards.0 < member.shards.1).count() as u32);
        if let Some(trainers) = trainers {
            self.live.advance.entry(job).or_default().note(progress, trainers, clock::now());
        }
    }

    /// What the job asks for beyond workers, what is known about its work, and what losing it would cost.
    pub(super) fn job_terms(&self, job: &JobEntry, running: &RunningTimes<'_>) -> JobTerms {
        JobTerms {
            market_now: self.market_now(job.id),
            work: self.live.advance.get(&job.id).and_then(Advance::work_left),
            since_checkpoint: job.since_checkpoint(clock::now()),
            checkpoint_every: self.checkpoint_every(job, running),
            restart: RESTART,
            ..terms_of(&job.spec, job.submitted)
        }
    }

    /// The time between two checkpoints, where the job's pace is known.
    fn checkpoint_every(&self, job: &JobEntry, running: &RunningTimes<'_>) -> Option<Millis> {
        let every = job.spec.checkpoint.every;
        let by_clock = match every {
            CheckpointEvery::Time(time) => Some(time),
            CheckpointEvery::Auto => between_losses(self.losses_per_1000_h(job, running))
                .map(|between| checkpoint_interval(COST_ASSUMED, between)),
            _ => None,
        };
        if by_clock.is_some() {
            return by_clock;
        }
        let progress = self.live.progress.get(&job.id)?;
        let rate = Some(progress.samples_per_second).filter(|rate| *rate > 0.0)?;
        let per_step = progress.samples as f64 / progress.step.max(1) as f64;
        let steps_per_epoch = progress.steps_total as f64 / f64::from(progress.epochs_total.max(1));
        let steps = match every {
            CheckpointEvery::Auto => steps_per_epoch,
            CheckpointEvery::Epochs(epochs) => steps_per_epoch * f64::from(epochs),
            CheckpointEvery::Steps(steps) => steps as f64,
            CheckpointEvery::Time(_) | CheckpointEvery::Never => return None,
        };
        Some(Millis::new((steps * per_step / rate * 1_000.0) as u64))
    }

    /// How often nodes such as the one with the job's state were taken back, in 1,000 hours: the parameter server's. What
    /// is lost with another node is no more than a step.
    pub(super) fn losses_per_1000_h(&self, job: &JobEntry, running: &RunningTimes<'_>) -> u32 {
        let server = job.membership.as_ref().and_then(|group| job.workers.get(&group.server));
        let node = server.and_then(|server| self.state.nodes.get(&server.node));
        node.map_or(0, |node| self.interruptions(&node.offer, running))
    }

    /// What projects have used and are entitled to.
    pub(super) fn accounts(&self) -> Accounts {
        let shares = |project: &String| self.parts.config.shares.get(project).copied().unwrap_or(1);
        let used = self.state.usage.iter().map(|(project, used)| {
            let account = Account { shares: shares(project), ..*used };
            (project.clone(), account)
        });
        let unused = self.parts.config.shares.iter().map(|(project, shares)| {
            (project.clone(), Account { shares: *shares, used: MicroUsd::ZERO, at: Millis::ZERO })
        });
        Accounts { projects: unused.chain(used).collect() }
    }

    /// What could be rented, with what was seen of it.
    pub(crate) fn offers(&self) -> Vec<Offer> {
        let live: Vec<&str> = self.state.live_nodes().map(|node| node.offer.as_str()).collect();
        let running = self.running_times();
        let mut offers = self.parts.provider.offers(&live);
        for offer in &mut offers {
            offer.terms.interruptions_per_1000_h = self.interruptions(&offer.name, &running);
            offer.terms.hold_until = self.live.launches.get(&offer.name).and_then(|launches| launches.hold_until());
            if let Some(boot) = self.state.observed.of(&offer.name).and_then(|seen| seen.boot()) {
                offer.boot = boot;
            }
        }
        offers
    }

    fn interruptions(&self, offer: &str, running: &RunningTimes<'_>) -> u32 {
        let seen = self.state.observed.of(offer);
        seen.map_or(0, |seen| seen.interruptions_per_1000_h(running.get(offer).copied().unwrap_or_default()))
    }

    /// Billed time of the nodes of each offer that still run.
    pub(super) fn running_times(&self) -> RunningTimes<'_> {
        let now = clock::now();
        let mut running = RunningTimes::new();
        for node in self.state.live_nodes() {
            let time = running.entry(&node.offer).or_default();
            *time = *time + node.time(now);
        }
        running
    }

    pub(super) fn node_terms(&self, node: &NodeEntry, running: &RunningTimes<'_>) -> NodeTerms {
        let boot = self.state.observed.of(&node.offer).and_then(|seen| seen.boot());
        NodeTerms {
            again: boot.map(|boot| RentAgain { boot, billing_min: Millis::ZERO }),
            interruptions_per_1000_h: self.interruptions(&node.offer, running),
            ..NodeTerms::default()
        }
    }

    /// A node has come or failed to: an offer that fails is left alone for a while.
    pub(super) fn note_launch(&mut self, node: NodeId, state: NodeState) {
        let Some(node) = self.state.nodes.get(&node) else { return };
        let launches = self.live.launches.entry(node.offer.clone()).or_default();
        *launches = match state {
            NodeState::Ready => launches.succeeded(),
            NodeState::Failed => launches.failed(node.requested, clock::now()),
            _ => return,
        };
    }
}
