//! Budgets in force: what a node may cost until it can be gone is set aside before it is rented, and a job whose budget, or
//! that of its project or the organisation, cannot carry its nodes on is stopped in time.
//!
//! The arithmetic is [`Budgets`]'s; here live nodes and bills become its commands. What is set aside needs no record of its
//! own: limits come from job files and [`Record::BudgetSet`](neap_storage::record::Record::BudgetSet), spending from the
//! bill, and the rest from the nodes that are there, so a new control plane sets the same money aside again before it
//! decides anything ([`Controller::take_over_money`]). What a plan may rent is decided in `afford`, how budgets are set and
//! shown in `budgets`.

use std::collections::{BTreeMap, BTreeSet};

use neap_runtime::wire::worker::WorkerCommand;
use neap_scheduler::model::{
    CancelReason, FailReason, JobId, JobState, MicroUsd, MicroUsdPerHour, Millis, NodeId, NodeState,
};
use neap_scheduler::pricing::budget::{
    BudgetCommand, BudgetError, BudgetEvent, Budgets, Exposure, Limit, Month, Refusal, ReservationId, Scope, ScopePath,
};
use neap_scheduler::pricing::cut;
use neap_scheduler::spec::{BudgetSpec, DEFAULT_PROJECT, OnExceed};

use super::Controller;
use super::api::STOP_WAIT;
use crate::clock;
use crate::state::JobEntry;

/// How long it may be until budgets are looked at again. They are at every tick of a quarter second; this is what a busy
/// machine may take.
const LOOK_AGAIN: Millis = Millis::from_secs(5);

/// How long the jobs of a shared budget that is nearly spent wait for the money of the one that makes way: its last
/// checkpoint ([`STOP_WAIT`]) and the end of its nodes.
const MAKE_WAY: Millis = Millis::from_secs(15);

/// How long the provider may take to end a node: a process of this machine is killed within a second.
const RELEASE: Millis = Millis::from_secs(10);

/// What is set aside, as long as this control plane runs.
#[derive(Debug, Default)]
pub(crate) struct Money {
    pub(super) budgets: Budgets,
    /// The open reservation of a job for a node.
    pub(super) held: BTreeMap<(JobId, NodeId), Held>,
    /// The number of the last reservation.
    pub(super) last: u64,
    /// Why a job could not have what it wanted in the last round.
    pub(super) refused: BTreeMap<JobId, Refusal>,
    /// Jobs that were stopped because a budget cannot carry them on.
    pub(super) exhausted: BTreeMap<JobId, Refusal>,
}

/// An open reservation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    id: ReservationId,
    /// What the job had spent on the node before.
    since: MicroUsd,
}

/// A live node that a job pays for.
#[derive(Debug, Clone, Copy)]
struct Paid {
    job: JobId,
    node: NodeId,
    price: MicroUsdPerHour,
    spent: MicroUsd,
}

/// A job that cannot have the next look at its nodes paid.
struct Short {
    job: JobId,
    refusal: Refusal,
    /// What is set aside still covers its end, but not another look.
    now_or_never: bool,
}

impl Controller {
    /// What a node at this price may cost until it can be gone, whatever happens to this control plane: another look, the
    /// time in which others make way, a last checkpoint, the time an idle node is kept, the dead-man time of an agent nobody
    /// talks to, and the end of the process.
    pub(super) fn worst_case(&self, price: MicroUsdPerHour) -> MicroUsd {
        let shared = if self.state.budgets.is_empty() { Millis::ZERO } else { MAKE_WAY };
        self.exposure(price, LOOK_AGAIN + shared)
    }

    fn exposure(&self, ceiling: MicroUsdPerHour, tick: Millis) -> MicroUsd {
        let config = &self.parts.config;
        let kept = Millis::new(config.idle_release_ms) + Millis::new(config.dead_man_ms);
        Exposure { ceiling, tick, delete_within: STOP_WAIT + kept + RELEASE }.worst_case()
    }

    /// Who pays for a job.
    pub(super) fn path_of(&self, job: JobId) -> ScopePath {
        let project = self.state.jobs.get(&job).map_or(DEFAULT_PROJECT, |job| &job.project).to_owned();
        ScopePath { project, sweep: None, job: Some(job) }
    }

    /// Books the bill of the past and sets aside what the nodes that are there may cost, as the control plane before had it.
    pub(super) fn take_over_money(&mut self) {
        let now = clock::now();
        let past = self.past_spending(now);
        for (path, before, _) in &past {
            self.book_past(path, *before, Millis::ZERO);
        }
        for (path, _, of_month) in &past {
            self.book_past(path, *of_month, now);
        }
        for paid in self.paid_nodes(now) {
            let Paid { job, node, price, spent } = paid;
            let (id, path) = (self.next_reservation(), self.path_of(job));
            self.carry_out_command(
                &BudgetCommand::Adopt { id, path, granted: self.worst_case(price), rate: price },
                now,
            );
            self.live.money.held.insert((job, node), Held { id, since: spent });
        }
        self.set_limits(now);
    }

    /// What was spent before this month and in it, up to `now`, and who paid. Jobs that are over and have no node any more
    /// count for their project only.
    fn past_spending(&self, now: Millis) -> Vec<(ScopePath, MicroUsd, MicroUsd)> {
        let mut by_job: BTreeMap<Option<JobId>, BTreeMap<Month, MicroUsd>> =
            self.state.jobs.values().map(|job| (Some(job.id), job.cost_by_month.clone())).collect();
        by_job.insert(None, self.state.unattributed_by_month.clone());
        let open = self.state.live_nodes().flat_map(|node| self.state.open_lines(node.id, now));
        for piece in open.flat_map(|line| cut(&line, Month::end_after)) {
            *by_job.entry(piece.job).or_default().entry(Month::of(piece.from)).or_default() += piece.amount;
        }
        let paying = self.paid_nodes(now).into_iter().map(|paid| paid.job);
        let here: BTreeSet<JobId> = self.state.live_jobs().map(|job| job.id).chain(paying).collect();
        let of_project = |path: ScopePath| ScopePath { job: None, ..path };
        let path = |job: Option<JobId>| match job {
            Some(job) if here.contains(&job) => self.path_of(job),
            Some(job) => of_project(self.path_of(job)),
            // What no job caused is paid by the project of those that name none.
            None => ScopePath { project: DEFAULT_PROJECT.to_owned(), sweep: None, job: None },
        };
        let this = Month::of(now);
        let split = |months: &BTreeMap<Month, MicroUsd>| {
            let before = months.range(..this).map(|(_, amount)| *amount).sum();
            (before, months.range(this..).map(|(_, amount)| *amount).sum())
        };
        let spent = by_job.into_iter().map(|(job, months)| (path(job), split(&months)));
        spent.map(|(path, (before, of_month))| (path, before, of_month)).collect()
    }

    fn book_past(&mut self, path: &ScopePath, spent: MicroUsd, at: Millis) {
        if spent == MicroUsd::ZERO {
            return;
        }
        let (id, path, rate) = (self.next_reservation(), path.clone(), MicroUsdPerHour::default());
        for command in [
            BudgetCommand::Adopt { id, path, granted: spent, rate },
            BudgetCommand::Settle { id, settled: spent },
            BudgetCommand::Release { id },
        ] {
            self.carry_out_command(&command, at);
        }
    }

    /// Books what was spent, sets aside what may be spent until the next look, and stops the jobs that cannot have it.
    pub(super) async fn keep_budgets(&mut self) {
        let now = clock::now();
        self.set_limits(now);
        let paid = self.paid_nodes(now);
        self.give_back_left(&paid, now);
        let short = self.keep_nodes(paid, now);
        for (job, refusal) in self.to_stop(short) {
            self.stop_exhausted(job, refusal).await;
        }
        self.release_exhausted().await;
    }

    /// Takes in the limits of the organisation, the projects and the jobs; those that are known already change nothing.
    pub(super) fn set_limits(&mut self, now: Millis) {
        let shared = self.state.budgets.iter().map(|(scope, (limit, _))| (scope.clone(), *limit));
        let counts = |job: &&JobEntry| {
            !job.state.is_terminal() || self.live.money.budgets.account(&Scope::Job(job.id)).is_some()
        };
        let of_job = |job: &JobEntry| job.spec.budget.map(|budget| (Scope::Job(job.id), limit_of(&budget)));
        let of_jobs = self.state.jobs.values().filter(counts).filter_map(of_job);
        for (scope, limit) in shared.chain(of_jobs).collect::<Vec<_>>() {
            self.carry_out_command(&BudgetCommand::SetLimit { scope, limit }, now);
        }
    }

    /// Every live node with every job that pays for it: the jobs of the highest priority first, then the oldest.
    fn paid_nodes(&self, now: Millis) -> Vec<Paid> {
        let mut paid = Vec::new();
        for node in self.state.live_nodes() {
            let pays = |job| {
                let spent = self.state.spent_on(job, node.id, now);
                Paid { job, node: node.id, price: node.price, spent }
            };
            paid.extend(self.state.payers(node).into_iter().map(pays));
        }
        paid.sort_by_key(|paid| (self.standing(paid.job), paid.node));
        paid
    }

    /// Where a job stands when there is not enough money for all: the last one makes way first.
    fn standing(&self, job: JobId) -> (std::cmp::Reverse<u16>, JobId) {
        let priority = self.state.jobs.get(&job).map_or(0, |job| job.spec.priority);
        (std::cmp::Reverse(priority), job)
    }

    /// Gives back what is left of the reservations for nodes that nobody pays for any more.
    fn give_back_left(&mut self, paid: &[Paid], now: Millis) {
        let paid: BTreeSet<(JobId, NodeId)> = paid.iter().map(|paid| (paid.job, paid.node)).collect();
        let left: Vec<_> = self.live.money.held.keys().copied().filter(|key| !paid.contains(key)).collect();
        for (job, node) in left {
            let spent = self.state.spent_on(job, node, now);
            if let Some(held) = self.live.money.held.remove(&(job, node)) {
                self.settle(held, spent, now);
                self.carry_out_command(&BudgetCommand::Release { id: held.id }, now);
            }
        }
    }

    /// Sets aside what the next look may cost, and books what was spent. Gives the jobs for which there is not enough.
    fn keep_nodes(&mut self, paid: Vec<Paid>, now: Millis) -> Vec<Short> {
        let mut short = Vec::new();
        for Paid { job, node, price, spent } in paid {
            // What was set aside for a job that is being stopped covers its end; others need the rest.
            let ending = self.live.money.exhausted.contains_key(&job);
            let refused = if ending { None } else { self.extend(job, node, price, spent, now) };
            let held = self.live.money.held.get(&(job, node)).copied();
            if let Some(refusal) = refused {
                let left = held.map(|held| self.left_of(held, spent)).unwrap_or_default();
                short.push(Short { job, refusal, now_or_never: left < self.exposure(price, LOOK_AGAIN) });
            }
            if let Some(held) = held {
                self.settle(held, spent, now);
            }
        }
        short
    }

    fn left_of(&self, held: Held, spent: MicroUsd) -> MicroUsd {
        self.live.money.budgets.granted(held.id).unwrap_or_default() - (spent - held.since)
    }

    fn settle(&mut self, held: Held, spent: MicroUsd, now: Millis) {
        self.carry_out_command(&BudgetCommand::Settle { id: held.id, settled: spent - held.since }, now);
    }

    /// Sets aside what a node may cost beyond what was spent on it; gives back why that cannot be had.
    pub(super) fn extend(
        &mut self,
        job: JobId,
        node: NodeId,
        rate: MicroUsdPerHour,
        spent: MicroUsd,
        now: Millis,
    ) -> Option<Refusal> {
        let more = self.worst_case(rate);
        if let Some(&Held { id, since }) = self.live.money.held.get(&(job, node)) {
            let granted = spent - since + more;
            return self.carry_out_command(&BudgetCommand::Extend { id, granted, rate }, now);
        }
        let (id, path) = (self.next_reservation(), self.path_of(job));
        let refused = self.carry_out_command(&BudgetCommand::Reserve { id, path, granted: more, rate }, now);
        if refused.is_none() {
            self.live.money.held.insert((job, node), Held { id, since: spent });
        }
        refused
    }

    fn next_reservation(&mut self) -> ReservationId {
        self.live.money.last += 1;
        ReservationId(self.live.money.last)
    }

    /// Carries a command out; gives back why there was not enough money for it.
    pub(super) fn carry_out_command(&mut self, command: &BudgetCommand, now: Millis) -> Option<Refusal> {
        match self.live.money.budgets.execute(command, now) {
            Ok(events) => {
                events.iter().for_each(|event| self.warn_of(event, now));
                None
            }
            Err(BudgetError::Refused(refusal)) => Some(refusal),
            Err(error) => {
                tracing::error!(%error, "a budget does not add up");
                None
            }
        }
    }

    fn warn_of(&mut self, event: &BudgetEvent, now: Millis) {
        let BudgetEvent::Warned { scope, kind } = event else { return };
        let limit = self.live.money.budgets.account(scope).map(|account| account.limit()).unwrap_or_default();
        let percent = f64::from(limit.warn_at_permille) / 10.0;
        tracing::warn!(%scope, %kind, percent, "a good part of the budget is spent");
        if let Scope::Job(job) = scope
            && let Some(entry) = self.state.jobs.get_mut(job)
        {
            entry.history.push(now, format!("{percent} % of its budget is spent"));
        }
    }

    /// The jobs to stop. Where a shared budget is short, one job after the other makes way, so that the others can go on
    /// with its money; one that cannot wait for that stops too.
    fn to_stop(&self, short: Vec<Short>) -> BTreeMap<JobId, Refusal> {
        let mut stop = BTreeMap::new();
        for Short { job, refusal, now_or_never } in short {
            let own = matches!(refusal.scope, Scope::Job(_) | Scope::Sweep(_));
            let first = if own || now_or_never { Some(job) } else { self.first_to_go(&refusal.scope) };
            if let Some(first) = first {
                stop.entry(first).or_insert(refusal);
            }
        }
        stop
    }

    /// The job that makes way where a shared budget is short; none while the money of another one is still to come back.
    fn first_to_go(&self, scope: &Scope) -> Option<JobId> {
        let pays = |job: &JobId| self.path_of(*job).scopes().any(|of| of == *scope);
        let mut jobs: Vec<JobId> = self.live.money.held.keys().map(|(job, _)| *job).filter(pays).collect();
        if jobs.iter().any(|job| self.live.money.exhausted.contains_key(job)) {
            return None;
        }
        jobs.retain(|job| self.state.jobs.get(job).is_some_and(|job| !job.state.is_terminal()));
        jobs.into_iter().max_by_key(|job| self.standing(*job))
    }

    /// Ends a job whose budget cannot carry its nodes on: after a last checkpoint, if it wants one.
    async fn stop_exhausted(&mut self, job: JobId, refusal: Refusal) {
        let Some(entry) = self.state.jobs.get(&job).filter(|job| !job.state.is_terminal()) else { return };
        let server = entry.membership.as_ref().map(|group| group.server);
        let saves = entry.spec.budget.is_none_or(|budget| budget.on_exceed == OnExceed::CheckpointAndStop);
        let running = server.filter(|server| saves && self.live.workers.contains_key(server));
        let (stopping, why) = (entry.state == JobState::Stopping, exhausted_text(&refusal));
        self.live.money.exhausted.insert(job, refusal);
        match running {
            _ if stopping => {}
            Some(server) => {
                let record = self.job_record(job, JobState::Stopping, format!("{why}; saving its state"));
                if self.commit_event(record.into_iter().collect()).await {
                    self.live.stop_until.insert(job, clock::now() + STOP_WAIT);
                    self.tell_worker(job, server, WorkerCommand::Stop { save: true });
                }
            }
            None => {
                let record = self.job_record(job, JobState::Failed(FailReason::BudgetExceeded), why);
                self.commit_event(record.into_iter().collect()).await;
            }
        }
    }

    /// Gives back the nodes of jobs that made way, at once: others wait for the money.
    async fn release_exhausted(&mut self) {
        let shared = |refusal: &Refusal| matches!(refusal.scope, Scope::Organisation | Scope::Project(_));
        let made_way = |job: &JobId| self.live.money.exhausted.get(job).is_some_and(shared);
        let over = |job: &JobId| self.state.jobs.get(job).is_some_and(|job| job.state.is_terminal());
        let ready = self.state.live_nodes().filter(|node| node.state == NodeState::Ready);
        let free = ready.filter(|node| self.state.workers_on(node.id).is_empty());
        let left = free.filter(|node| node.rented_for.is_some_and(|job| made_way(&job) && over(&job)));
        for node in left.map(|node| node.id).collect::<Vec<_>>() {
            self.release(node, "the budget that paid for it is needed by others").await;
        }
    }

    /// The state that a stopped job ends in, and why.
    pub(super) fn stopped_state(&self, job: JobId, on_request: &str) -> (JobState, String) {
        match self.live.money.exhausted.get(&job) {
            Some(refusal) => (JobState::Failed(FailReason::BudgetExceeded), exhausted_text(refusal)),
            None => self.late_state(job).unwrap_or((JobState::Cancelled(CancelReason::User), on_request.to_owned())),
        }
    }
}

pub(super) fn limit_of(budget: &BudgetSpec) -> Limit {
    Limit {
        total: budget.max_cost,
        per_month: None,
        per_hour: budget.max_cost_per_hour,
        warn_at_permille: budget.warn_at_permille,
    }
}

fn exhausted_text(refusal: &Refusal) -> String {
    format!("{refusal} to keep its nodes until they can be given back")
}
