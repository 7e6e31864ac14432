//! Jobs with a deadline: which market those with a choice use for now, and the end of one that is late.
//!
//! The decision is that of [`DeadlinePolicy`], the same object that `plan` and the simulator ask; here is what it sees: one
//! zone, whose spot capacity is there if a gang could be rented now. It is asked once a round, and when the job has lost
//! or found its nodes. Before a job's pace is known nobody can say what its deadline needs: until then it takes
//! whichever market costs less per hour of progress.

use std::collections::BTreeMap;

use neap_scheduler::autoscale;
use neap_scheduler::model::{FailReason, JobId, JobState, Market, MarketChoice, MicroUsd, Millis, Offer};
use neap_scheduler::policy::deadline::{
    Action, Adaptive, DeadlinePolicy, Decision, Held, Reason, Sighting, SpotSeen, View, ZoneView, round_for,
};
use neap_scheduler::policy::{JobDemand, MarketNow};

use super::Controller;
use super::known::{Advance, RESTART};
use crate::clock;
use crate::handle::Stop;
use crate::state::{JobEntry, NodeEntry};

/// The work a policy plans with is only changed when the estimate has moved by this part of it: its tables are solved
/// anew for each other amount.
const WORK_MOVED: f64 = 0.1;

/// The deadlines that are watched.
#[derive(Default)]
pub(crate) struct Deadlines(BTreeMap<JobId, Watch>);

/// One job's policy and what it said last.
struct Watch {
    policy: Box<dyn DeadlinePolicy>,
    /// All the work, as it is planned with.
    work: Millis,
    asked: Millis,
    held: Option<Held>,
    spot: SpotSeen,
    decision: Decision,
}

/// What one job's policy sees, as far as it does not depend on when.
struct Sight {
    deadline: Millis,
    work: Millis,
    left: f64,
    restart: Millis,
    warmup_left: Millis,
    held: Option<Held>,
    zone: ZoneView,
}

impl Controller {
    /// Asks the policies of jobs with a choice of markets, and ends jobs whose deadline has passed.
    pub(super) async fn keep_deadlines(&mut self) {
        let now = clock::now();
        let jobs: Vec<JobId> =
            self.state.live_jobs().filter(|job| job.spec.deadline.is_some()).map(|job| job.id).collect();
        self.live.deadlines.0.retain(|job, _| jobs.contains(job));
        let steers = self.state.live_jobs().any(|job| job.spec.deadline.is_some() && leaves_choice(job));
        let offers = if steers { self.offers() } else { Vec::new() };
        for job in jobs {
            if self.is_late(job, now) {
                self.stop_late(job).await;
            } else if let Some(sight) = self.sight(job, &offers) {
                self.ask_policy(job, &sight, now);
            }
        }
    }

    fn deadline_of(&self, job: JobId) -> Option<Millis> {
        let entry = self.state.jobs.get(&job)?;
        entry.spec.deadline.map(|deadline| deadline.moment(entry.submitted))
    }

    fn is_late(&self, job: JobId, now: Millis) -> bool {
        self.deadline_of(job).is_some_and(|deadline| deadline <= now)
    }

    /// What a job's policy would see; nothing if the job leaves no choice, or its pace is not known.
    fn sight(&self, job: JobId, offers: &[Offer]) -> Option<Sight> {
        let entry = self.state.jobs.get(&job).filter(|job| leaves_choice(job))?;
        let (work, left) = self.live.advance.get(&job).and_then(Advance::whole)?;
        let demand = JobDemand {
            terms: super::api::terms_of(&entry.spec, entry.submitted),
            ..self.demand(entry, &self.running_times())
        };
        let on = |market| {
            let accepted = |offer: &&Offer| offer.market == market && autoscale::accepts(&demand, offer);
            offers.iter().filter(accepted).collect::<Vec<_>>()
        };
        let price = |offers: &[&Offer]| offers.iter().map(|offer| offer.price).min();
        let (spot, on_demand) = (on(Market::Spot), on(Market::OnDemand));
        let boot = on_demand.iter().map(|offer| offer.boot).max()?;
        let held = self.held(&demand);
        let gang = entry.spec.workers.min + u32::from(demand.separate_server);
        let open = |offer: &&&Offer| offer.terms.hold_until.is_none_or(|until| until <= clock::now());
        let there: u32 = spot.iter().filter(open).map(|offer| offer.available).sum();
        let seen = held == Some(Held::spot(0)) || there >= gang;
        let zone = ZoneView {
            on_demand: price(&on_demand)?,
            spot: price(&spot)?,
            seen: if seen { SpotSeen::Available } else { SpotSeen::Gone },
            move_time: Millis::ZERO,
            move_cost: MicroUsd::ZERO,
        };
        let restart = boot + RESTART;
        Some(Sight {
            deadline: self.deadline_of(job)?,
            work: work.time_on(work.high, entry.spec.workers.target),
            left,
            restart,
            warmup_left: self.warmup_left(entry, restart),
            held,
            zone,
        })
    }

    /// What the job has: the market of its nodes and of those on their way. One node on demand makes all of it on demand.
    fn held(&self, demand: &JobDemand) -> Option<Held> {
        let carries = |node| demand.placed.iter().any(|placed| placed.node == node);
        let wanted = self.live.deadlines.0.get(&demand.id).map(|watch| watch.decision.action);
        // A node without a worker is held if it was rented to get one; else it is about to be given back.
        let waits = |node: &NodeEntry| match wanted {
            Some(Action::Run(Held { market, .. })) => market == node.market,
            Some(_) => false,
            None => true,
        };
        let nodes = self.state.live_nodes().filter(|node| node.notice_until.is_none());
        let mine = nodes.filter(|node| carries(node.id) || node.rented_for == Some(demand.id) && waits(node));
        let markets: Vec<Market> = mine.map(|node| node.market).collect();
        match markets.as_slice() {
            [] => None,
            all if all.contains(&Market::OnDemand) => Some(Held::on_demand(0)),
            _ => Some(Held::spot(0)),
        }
    }

    /// How long its newest worker still needs until its first step.
    fn warmup_left(&self, entry: &JobEntry, restart: Millis) -> Millis {
        let newest = entry.workers.values().map(|worker| worker.started).max();
        let trains = entry.state == JobState::Running;
        newest.filter(|_| !trains).map_or(Millis::ZERO, |started| restart.since(clock::now().since(started)))
    }

    fn ask_policy(&mut self, job: JobId, sight: &Sight, now: Millis) {
        let watch = self.live.deadlines.0.entry(job).or_insert_with(|| Watch::new(sight));
        let before = watch.decision.action;
        if !watch.ask(sight, now) || watch.decision.action == before {
            return;
        }
        let Decision { action, reason } = watch.decision;
        let what = match action {
            Action::Run(Held { market, .. }) => format!("runs on {market} for now: {reason}"),
            Action::Wait | Action::Probe { .. } => reason.to_string(),
        };
        tracing::info!(%job, what, "the deadline's policy decided");
        if let Some(entry) = self.state.jobs.get_mut(&job) {
            entry.history.push(now, what);
        }
    }

    /// Where a job with a choice of markets goes for now.
    pub(super) fn market_now(&self, job: JobId) -> Option<MarketNow> {
        let watch = self.live.deadlines.0.get(&job)?;
        match watch.decision.action {
            Action::Run(Held { market, .. }) => Some(MarketNow::Only(market)),
            Action::Wait | Action::Probe { .. } => Some(MarketNow::Wait { slack: slack_of(watch.decision.reason) }),
        }
    }

    /// Ends a job that is not done at its deadline; its state is saved, so that it can be gone on with.
    async fn stop_late(&mut self, job: JobId) {
        self.stop_because(job, FailReason::DeadlineMissed, LATE.to_owned(), Stop::Save).await;
    }

    /// The state in which a job that is stopped after its deadline ends.
    pub(super) fn late_state(&self, job: JobId) -> Option<(JobState, String)> {
        let late = self.is_late(job, clock::now());
        late.then(|| (JobState::Failed(FailReason::DeadlineMissed), LATE.to_owned()))
    }
}

fn leaves_choice(job: &JobEntry) -> bool {
    job.spec.market == MarketChoice::Auto
}

const LATE: &str = "its deadline has passed";

impl Watch {
    fn new(sight: &Sight) -> Self {
        Self {
            policy: Box::new(Adaptive::new()),
            work: sight.work,
            asked: Millis::ZERO,
            held: sight.held,
            spot: sight.zone.seen,
            decision: Decision::wait(Reason::Planned),
        }
    }

    /// Asks the policy if it is time to, or something has changed; whether it was asked.
    fn ask(&mut self, sight: &Sight, now: Millis) -> bool {
        let round = round_for(self.work);
        let changed = sight.held != self.held || sight.zone.seen != self.spot;
        if self.asked != Millis::ZERO && !changed && now < self.asked + round {
            return false;
        }
        let moved = sight.work.get().abs_diff(self.work.get()) as f64 / self.work.get().max(1) as f64;
        if moved > WORK_MOVED {
            self.work = sight.work;
        }
        (self.asked, self.held, self.spot) = (now, sight.held, sight.zone.seen);
        let available = sight.zone.seen == SpotSeen::Available;
        self.policy.observe(Sighting { at: now, zone: 0, available });
        let work_left = Millis::new((self.work.get() as f64 * sight.left).ceil() as u64);
        self.decision = self.policy.decide(&View {
            now,
            deadline: sight.deadline,
            work: self.work,
            work_left,
            restart: sight.restart,
            warmup_left: sight.warmup_left,
            round,
            held: sight.held,
            checkpoint_in: Some(0),
            zones: std::slice::from_ref(&sight.zone),
        });
        true
    }
}

fn slack_of(reason: Reason) -> Millis {
    match reason {
        Reason::WaitingCostsLeast { slack } | Reason::SlackAllowsWaiting { slack } => slack,
        _ => Millis::ZERO,
    }
}
