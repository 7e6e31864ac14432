//! Budgets in force: what a node may cost until it can be gone is set aside before it is rented, and a job whose budget, or
//! that of its project or the organisation, cannot carry its nodes on is stopped in time.
//!
//! The arithmetic is [`Budgets`]'s; here live nodes and bills become its commands. What is set aside needs no record of its
//! own: limits come from job files and [`Record::BudgetSet`](neap_storage::record::Record::BudgetSet), spending from the
//! bill, and the rest from the nodes that are there, so a new control plane sets the same money aside again before it
//! decides anything (`take_over`). What a plan may rent is decided in `afford`, who stops where money is short in `exhausted`,
//! how budgets are set and shown in `budgets`.

use std::collections::{BTreeMap, BTreeSet};

use neap_scheduler::model::{JobId, MicroUsd, MicroUsdPerHour, Millis, NodeId};
use neap_scheduler::pricing::budget::{
    BudgetCommand, BudgetError, BudgetEvent, Budgets, Exposure, Limit, Refusal, ReservationId, Scope, ScopePath,
};
use neap_scheduler::spec::{BudgetSpec, DEFAULT_PROJECT};

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
    pub(super) id: ReservationId,
    /// What the job had spent on the node before.
    pub(super) since: MicroUsd,
}

/// A live node that a job pays for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paid {
    pub(super) job: JobId,
    pub(super) node: NodeId,
    pub(super) price: MicroUsdPerHour,
    pub(super) spent: MicroUsd,
}

/// A node for which the next look cannot be paid.
pub(super) struct Short {
    pub(super) job: JobId,
    pub(super) node: NodeId,
    pub(super) refusal: Refusal,
    /// What is set aside still covers its end, but not another look.
    pub(super) now_or_never: bool,
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

    /// Books what was spent, sets aside what may be spent until the next look, and stops the jobs that cannot have it.
    pub(super) async fn keep_budgets(&mut self) {
        let now = clock::now();
        self.set_limits(now);
        let paid = self.paid_nodes(now);
        self.give_back_left(&paid, now);
        let short = self.keep_nodes(paid, now);
        self.release_unpaid(&short).await;
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
    pub(super) fn paid_nodes(&self, now: Millis) -> Vec<Paid> {
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
    pub(super) fn standing(&self, job: JobId) -> (std::cmp::Reverse<u16>, JobId) {
        let priority = self.state.jobs.get(&job).map_or(0, |job| job.spec.priority);
        (std::cmp::Reverse(priority), job)
    }

    /// Gives back what is left of the reservations for nodes that nobody pays for any more.
    fn give_back_left(&mut self, paid: &[Paid], now: Millis) {
        let paid: BTreeSet<(JobId, NodeId)> = paid.iter().map(|paid| (paid.job, paid.node)).collect();
        let left: Vec<_> = self.live.money.held.keys().copied().filter(|key| !paid.contains(key)).collect();
        for (job, node) in left {
            self.give_back(job, node, now);
        }
    }

    pub(super) fn give_back(&mut self, job: JobId, node: NodeId, now: Millis) {
        let spent = self.state.spent_on(job, node, now);
        if let Some(held) = self.live.money.held.remove(&(job, node)) {
            self.settle(held, spent, now);
            self.carry_out_command(&BudgetCommand::Release { id: held.id }, now);
            self.live.money.budgets.forget_closed();
        }
    }

    /// Sets aside what the next look may cost, and books what was spent. Gives what there is not enough for.
    fn keep_nodes(&mut self, paid: Vec<Paid>, now: Millis) -> Vec<Short> {
        let mut short = Vec::new();
        for Paid { job, node, price, spent } in paid {
            // What was set aside for a job that is being stopped covers its end; others need the rest.
            let ending = self.live.money.exhausted.contains_key(&job);
            let refused = if ending { None } else { self.extend(job, node, price, spent, now) };
            let held = self.live.money.held.get(&(job, node)).copied();
            if let Some(refusal) = refused {
                let left = held.map(|held| self.left_of(held, spent)).unwrap_or_default();
                short.push(Short { job, node, refusal, now_or_never: left < self.exposure(price, LOOK_AGAIN) });
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

    pub(super) fn next_reservation(&mut self) -> ReservationId {
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
}

pub(super) fn limit_of(budget: &BudgetSpec) -> Limit {
    Limit {
        total: budget.max_cost,
        per_month: None,
        per_hour: budget.max_cost_per_hour,
        warn_at_permille: budget.warn_at_permille,
    }
}
