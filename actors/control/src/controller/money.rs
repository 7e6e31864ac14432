//! Budgets in force: what a node may cost until it can be gone is set aside before it is rented, and a job whose budget
//! cannot carry its nodes on is stopped in time.
//!
//! The arithmetic is [`Budgets`]'s; here live nodes and bills become its commands. Nothing of it needs a record of its
//! own: limits come from job files, spending from the bill, and what is set aside from the nodes that are there, so a new
//! control plane sets the same money aside again before it decides anything.

use std::collections::{BTreeMap, BTreeSet};

use neap_runtime::wire::worker::WorkerCommand;
use neap_scheduler::model::{CancelReason, FailReason, JobId, JobState, MicroUsd, MicroUsdPerHour, Millis, NodeId};
use neap_scheduler::policy::{Action, Plan};
use neap_scheduler::pricing::budget::{
    Account, BudgetCommand, BudgetError, BudgetEvent, Budgets, Exposure, Limit, Refusal, ReservationId, Scope,
    ScopePath,
};
use neap_scheduler::spec::{BudgetSpec, OnExceed, ServerPlacement};

use super::Controller;
use super::api::STOP_WAIT;
use crate::clock;
use crate::state::JobEntry;
use crate::views::BudgetView;

/// How long it may be until budgets are looked at again. They are at every tick of a quarter second; this is what a busy
/// machine may take.
const LOOK_AGAIN: Millis = Millis::from_secs(5);

/// How long the provider may take to end a node: a process of this machine is killed within a second.
const RELEASE: Millis = Millis::from_secs(10);

/// What is set aside, as long as this control plane runs.
#[derive(Debug, Default)]
pub(crate) struct Money {
    budgets: Budgets,
    /// The open reservation of a job for a node.
    reservations: BTreeMap<(JobId, NodeId), ReservationId>,
    last: u64,
    /// Jobs whose limits are known to `budgets`.
    limited: BTreeSet<JobId>,
    /// Why a job could not have what it wanted in the last round.
    pub(super) refused: BTreeMap<JobId, Refusal>,
    /// Jobs that were stopped because their budget cannot carry them on.
    pub(super) exhausted: BTreeMap<JobId, Refusal>,
}

impl Controller {
    /// What a node at this price may cost until it can be gone, whatever happens to this control plane: another look, a
    /// last checkpoint, the time an idle node is kept, the dead-man time of an agent nobody talks to, and the end of the
    /// process.
    pub(super) fn worst_case(&self, price: MicroUsdPerHour) -> MicroUsd {
        let config = &self.parts.config;
        let kept = Millis::new(config.idle_release_ms) + Millis::new(config.dead_man_ms);
        let delete_within = STOP_WAIT + kept + RELEASE;
        Exposure { ceiling: price, tick: LOOK_AGAIN, delete_within }.worst_case()
    }

    /// Books what was spent, sets aside what may be spent until the next look, and stops the jobs that cannot have it.
    pub(super) async fn keep_budgets(&mut self) {
        let now = clock::now();
        let spends = |job: &&JobEntry| {
            let open = self.live.money.reservations.keys().any(|(of, _)| *of == job.id);
            job.spec.budget.is_some() && (open || !job.state.is_terminal())
        };
        let jobs: Vec<JobId> = self.state.jobs.values().filter(spends).map(|job| job.id).collect();
        for job in jobs {
            if self.live.money.limited.insert(job) {
                self.limit(job, now);
            }
            if let Err(refusal) = self.keep_nodes(job, now) {
                self.stop_exhausted(job, refusal).await;
            }
        }
    }

    /// Takes in a job's limits, and what it spent on nodes that were gone before this control plane started.
    fn limit(&mut self, job: JobId, now: Millis) {
        let Some(entry) = self.state.jobs.get(&job) else { return };
        let Some(budget) = entry.spec.budget else { return };
        let paid: Vec<NodeId> = self.state.paid_by(entry).into_iter().map(|node| node.id).collect();
        let gone = entry.cost_by_node.iter().filter(|(node, _)| !paid.contains(node));
        let spent: MicroUsd = gone.map(|(_, amount)| *amount).sum();
        self.live.money.last += 1;
        let (id, rate) = (ReservationId(self.live.money.last), MicroUsdPerHour::default());
        let commands = [
            BudgetCommand::SetLimit { scope: Scope::Job(job), limit: limit_of(&budget) },
            BudgetCommand::Reserve { id, path: path_of(job), granted: spent, rate },
            BudgetCommand::Settle { id, settled: spent },
            BudgetCommand::Release { id },
        ];
        for command in commands {
            self.carry_out_command(&command, now);
        }
    }

    /// Extends what is set aside for the nodes that the job pays, and gives back what is left of those it does not.
    fn keep_nodes(&mut self, job: JobId, now: Millis) -> Result<(), Refusal> {
        let Some(entry) = self.state.jobs.get(&job) else { return Ok(()) };
        let paid = self.state.paid_by(entry).into_iter();
        let paid: Vec<_> = paid.map(|node| (node.id, node.price, self.state.spent_on(entry, node.id, now))).collect();
        let left = self
            .live
            .money
            .reservations
            .keys()
            .filter(|(of, node)| *of == job && paid.iter().all(|(id, ..)| id != node));
        let left: Vec<_> = left.map(|&(_, node)| (node, self.state.spent_on(entry, node, now))).collect();
        for (node, spent) in left {
            self.give_back(job, node, spent, now);
        }
        let mut refused = Ok(());
        for (node, price, spent) in paid {
            let extended = self.extend(job, node, price, spent, now);
            let id = self.live.money.reservations.get(&(job, node)).copied();
            if let Some(id) = id {
                self.carry_out_command(&BudgetCommand::Settle { id, settled: spent }, now);
            }
            refused = refused.and(extended);
        }
        refused
    }

    /// Sets aside what a node may cost beyond what was spent on it.
    fn extend(
        &mut self,
        job: JobId,
        node: NodeId,
        rate: MicroUsdPerHour,
        spent: MicroUsd,
        now: Millis,
    ) -> Result<(), Refusal> {
        let granted = spent + self.worst_case(rate);
        let command = match self.live.money.reservations.get(&(job, node)) {
            Some(&id) => BudgetCommand::Extend { id, granted, rate },
            None => {
                self.live.money.last += 1;
                let id = ReservationId(self.live.money.last);
                BudgetCommand::Reserve { id, path: path_of(job), granted, rate }
            }
        };
        let refused = self.carry_out_command(&command, now);
        if let (None, BudgetCommand::Reserve { id, .. }) = (&refused, &command) {
            self.live.money.reservations.insert((job, node), *id);
        }
        refused.map_or(Ok(()), Err)
    }

    fn give_back(&mut self, job: JobId, node: NodeId, spent: MicroUsd, now: Millis) {
        if let Some(id) = self.live.money.reservations.remove(&(job, node)) {
            self.carry_out_command(&BudgetCommand::Settle { id, settled: spent }, now);
            self.carry_out_command(&BudgetCommand::Release { id }, now);
        }
    }

    /// Carries a command out; gives back why there was not enough money for it.
    fn carry_out_command(&mut self, command: &BudgetCommand, now: Millis) -> Option<Refusal> {
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
        let BudgetEvent::Warned { scope: Scope::Job(job), .. } = event else { return };
        let Some(entry) = self.state.jobs.get_mut(job) else { return };
        let Some(budget) = entry.spec.budget else { return };
        let percent = f64::from(budget.warn_at_permille) / 10.0;
        tracing::warn!(%job, percent, "a good part of the budget is spent");
        entry.history.push(now, format!("{percent} % of its budget is spent"));
    }

    /// The plan without the nodes that a job's budget cannot carry. A job that has not started gets at least what it
    /// starts with, or nothing: half a gang would only cost.
    pub(super) fn within_budgets(&mut self, plan: Plan) -> Plan {
        let mut asked: BTreeMap<JobId, Vec<MicroUsdPerHour>> = BTreeMap::new();
        for (job, price) in plan.actions.iter().filter_map(|action| self.fresh_price(action)) {
            asked.entry(job).or_default().push(price);
        }
        let now = clock::now();
        let mut refused = BTreeMap::new();
        let mut affordable = BTreeMap::new();
        for (job, prices) in asked {
            let (count, refusal) = self.affordable(job, &prices, now);
            affordable.insert(job, if count < self.needed(job) { None } else { Some(count) });
            refused.extend(refusal.map(|refusal| (job, refusal)));
        }
        let mut keep = |action: &Action| {
            let (Action::Acquire { job, .. } | Action::Start { job, .. }) = action else { return true };
            match affordable.get_mut(job) {
                Some(None) => false,
                Some(Some(left)) if self.fresh_price(action).is_some() => {
                    let one = *left > 0;
                    *left = left.saturating_sub(1);
                    one
                }
                _ => true,
            }
        };
        let actions = plan.actions.iter().filter(|action| keep(action)).cloned().collect();
        self.live.money.refused = refused;
        Plan { actions, ..plan }
    }

    /// The price of a node that an action makes a job with a budget pay from now on.
    fn fresh_price(&self, action: &Action) -> Option<(JobId, MicroUsdPerHour)> {
        let (Action::Acquire { job, .. } | Action::Start { job, .. }) = action else { return None };
        self.state.jobs.get(job)?.spec.budget?;
        let price = match action {
            Action::Acquire { offer, .. } => {
                self.parts.provider.offers(&[]).into_iter().find(|one| one.name == *offer)?.price
            }
            Action::Start { node, .. } => {
                let pays = self.live.money.reservations.contains_key(&(*job, *node));
                self.state.nodes.get(node).filter(|_| !pays)?.price
            }
            Action::Retire { .. } | Action::Release { .. } => return None,
        };
        Some((*job, price))
    }

    /// How many more nodes a job must be able to pay for this plan to be of use: the rest of what it starts with.
    fn needed(&self, job: JobId) -> usize {
        let Some(entry) = self.state.jobs.get(&job).filter(|job| job.membership.is_none()) else { return 0 };
        let least = entry.spec.workers.min + u32::from(entry.spec.train.server == ServerPlacement::Separate);
        let pays = self.live.money.reservations.keys().filter(|(of, _)| *of == job).count();
        (least as usize).saturating_sub(pays)
    }

    /// How many of these nodes, in this order, could be paid beside those the job has, and why not more.
    fn affordable(&self, job: JobId, prices: &[MicroUsdPerHour], now: Millis) -> (usize, Option<Refusal>) {
        let mut budgets = self.live.money.budgets.clone();
        for (count, &rate) in prices.iter().enumerate() {
            let id = ReservationId(self.live.money.last + 1 + count as u64);
            let granted = self.worst_case(rate);
            let command = BudgetCommand::Reserve { id, path: path_of(job), granted, rate };
            if let Err(BudgetError::Refused(refusal)) = budgets.execute(&command, now) {
                return (count, Some(refusal));
            }
        }
        (prices.len(), None)
    }

    /// Sets money aside for a node that is about to be rented or used; what was checked for the whole plan is there.
    pub(super) fn set_aside(&mut self, job: JobId, node: NodeId, price: MicroUsdPerHour) -> bool {
        let Some(entry) = self.state.jobs.get(&job).filter(|job| job.spec.budget.is_some()) else { return true };
        let now = clock::now();
        let spent = self.state.spent_on(entry, node, now);
        match self.extend(job, node, price, spent, now) {
            Ok(()) => true,
            Err(refusal) => {
                self.live.money.refused.insert(job, refusal);
                false
            }
        }
    }

    /// Ends a job whose budget cannot carry its nodes on: after a last checkpoint, if it wants one.
    async fn stop_exhausted(&mut self, job: JobId, refusal: Refusal) {
        let Some(entry) = self.state.jobs.get(&job).filter(|job| !job.state.is_terminal()) else { return };
        let server = entry.membership.as_ref().map(|group| group.server);
        let saves = entry.spec.budget.is_some_and(|budget| budget.on_exceed == OnExceed::CheckpointAndStop);
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

    /// The state that a stopped job ends in, and why.
    pub(super) fn stopped_state(&self, job: JobId, on_request: &str) -> (JobState, String) {
        match self.live.money.exhausted.get(&job) {
            Some(refusal) => (JobState::Failed(FailReason::BudgetExceeded), exhausted_text(refusal)),
            None => self.late_state(job).unwrap_or((JobState::Cancelled(CancelReason::User), on_request.to_owned())),
        }
    }

    /// Why a job's budget did not carry what it wanted in the last round.
    pub(crate) fn refused(&self, job: JobId) -> Option<&Refusal> {
        self.live.money.refused.get(&job)
    }

    /// A job's budget and how much of it is spent and set aside.
    pub(crate) fn budget_view(&self, job: &JobEntry) -> Option<BudgetView> {
        let budget = job.spec.budget?;
        let account = self.live.money.budgets.account(&Scope::Job(job.id));
        Some(BudgetView {
            max_cost: budget.max_cost,
            max_cost_per_hour: budget.max_cost_per_hour,
            reserved: account.map(Account::reserved).unwrap_or_default(),
        })
    }
}

fn limit_of(budget: &BudgetSpec) -> Limit {
    Limit {
        total: budget.max_cost,
        per_month: None,
        per_hour: budget.max_cost_per_hour,
        warn_at_permille: budget.warn_at_permille,
    }
}

fn path_of(job: JobId) -> ScopePath {
    ScopePath { project: "default".to_owned(), sweep: None, job: Some(job) }
}

fn exhausted_text(refusal: &Refusal) -> String {
    format!("{refusal} to keep its nodes until they can be given back")
}
