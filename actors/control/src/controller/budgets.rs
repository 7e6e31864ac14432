//! Budgets of the organisation and of projects as callers set and see them, and what a new job may ask of them.

use neap_scheduler::pricing::budget::{Account, BudgetCommand, Limit, LimitKind, Month, Scope};
use neap_scheduler::spec::{Code, JobSpec};
use neap_storage::record::{BudgetScope, Record};

use super::{Changed, Controller, Reply};
use crate::clock;
use crate::handle::{BudgetChange, ControlError};
use crate::state::JobEntry;
use crate::views::{BudgetView, ScopeBudgetView};

impl Controller {
    pub(super) async fn set_budget(
        &mut self,
        scope: Scope,
        change: BudgetChange,
        reply: Reply<ScopeBudgetView>,
    ) -> Changed {
        let answer = self.change_budget(scope, change).await;
        let changed = if answer.is_ok() { Changed::Yes } else { Changed::No };
        let _ = reply.send(answer);
        changed
    }

    /// Writes the new limits down and puts them in force. They may be below what is spent: then nothing new is granted, and
    /// what runs is stopped in time.
    async fn change_budget(&mut self, scope: Scope, change: BudgetChange) -> Result<ScopeBudgetView, ControlError> {
        let stored = match &scope {
            Scope::Organisation => BudgetScope::Organisation,
            Scope::Project(name) => BudgetScope::Project(name.clone()),
            Scope::Sweep(_) | Scope::Job(_) => {
                let why = format!("the budget of {scope} is in its job file");
                return Err(ControlError::Conflict { why });
            }
        };
        let old = self.state.budgets.get(&scope).map(|(limit, _)| *limit).unwrap_or_default();
        let limit = changed_limit(old, change);
        if limit.has_zero() || limit.warn_at_permille > 1_000 {
            let why = format!("a limit of {scope} must be above 0, and warn_at from 0 to 1");
            return Err(ControlError::Refused { code: Code::Budget, why });
        }
        let record = Record::BudgetSet {
            scope: stored,
            max_cost: limit.total,
            max_cost_per_month: limit.per_month,
            max_cost_per_hour: limit.per_hour,
            warn_at_permille: limit.warn_at_permille,
            at: clock::now(),
        };
        self.commit(vec![record]).await?;
        tracing::info!(%scope, ?limit, "budget set");
        self.carry_out_command(&BudgetCommand::SetLimit { scope: scope.clone(), limit }, clock::now());
        Ok(self.scope_view(&scope))
    }

    /// The budgets that are set, the organisation's first, and those of jobs that have not ended.
    pub(super) fn answer_budgets(&self, reply: Reply<Vec<ScopeBudgetView>>) -> Changed {
        let shared = self.state.budgets.keys().map(|scope| self.scope_view(scope));
        let jobs = self.state.live_jobs().filter(|job| job.spec.budget.is_some());
        let _ = reply.send(Ok(shared.chain(jobs.map(|job| self.job_budget(job))).collect()));
        Changed::No
    }

    /// The budget of `organisation`, `project/NAME`, or of a job by name or id; without limits where none is set.
    pub(super) fn answer_budget(&self, name: &str, reply: Reply<ScopeBudgetView>) -> Changed {
        let job = name.strip_prefix("job/").unwrap_or(name);
        let view = match (Scope::parse_shared(name), self.state.find_job(job)) {
            (Ok(scope), _) => Ok(self.scope_view(&scope)),
            (Err(_), Some(job)) => Ok(self.job_budget(job)),
            (Err(why), None) => Err(ControlError::NotFound { what: format!("budget or job {name:?}: {why}") }),
        };
        let _ = reply.send(view);
        Changed::No
    }

    pub(super) fn scope_view(&self, scope: &Scope) -> ScopeBudgetView {
        let month = Month::of(clock::now());
        let account = self.live.money.budgets.account(scope).cloned().unwrap_or_default();
        let set = self.state.budgets.get(scope);
        ScopeBudgetView {
            scope: scope.clone(),
            job_name: None,
            limit: set.map(|(limit, _)| *limit).unwrap_or_default(),
            set_at: set.map(|(_, at)| *at),
            month,
            spent: account.settled(),
            spent_in_month: account.settled_in(month),
            reserved: account.reserved(),
            rate: account.rate(),
            warned: account.warned(month).collect(),
        }
    }

    fn job_budget(&self, job: &JobEntry) -> ScopeBudgetView {
        let view = self.scope_view(&Scope::Job(job.id));
        let limit = job.spec.budget.as_ref().map(super::money::limit_of).unwrap_or_default();
        // The account knows only what was spent on nodes that are still there, once the job is over.
        ScopeBudgetView {
            job_name: Some(job.name.clone()),
            limit,
            set_at: job.spec.budget.map(|_| job.submitted),
            spent: self.cost_of(job).total,
            ..view
        }
    }

    /// A job's own budget and how much is set aside of it.
    pub(crate) fn budget_view(&self, job: &JobEntry) -> Option<BudgetView> {
        let budget = job.spec.budget?;
        let account = self.live.money.budgets.account(&Scope::Job(job.id));
        Some(BudgetView {
            max_cost: budget.max_cost,
            max_cost_per_hour: budget.max_cost_per_hour,
            reserved: account.map(Account::reserved).unwrap_or_default(),
        })
    }

    /// E022: a new job must not be promised more than its project and the organisation have left.
    pub(super) fn check_shared_budgets(&self, spec: &JobSpec) -> Result<(), ControlError> {
        let Some(max_cost) = spec.budget.and_then(|budget| budget.max_cost) else { return Ok(()) };
        let month = Month::of(clock::now());
        for scope in [Scope::Project(spec.project.clone()), Scope::Organisation] {
            let account = self.live.money.budgets.account(&scope);
            let Some((left, kind)) = account.and_then(|account| account.left(month)) else { continue };
            if max_cost > left {
                let when = if kind == LimitKind::Month { format!(" for {month}") } else { String::new() };
                let why = format!("budget.max_cost {max_cost} is more than the {left} that {scope} has left{when}");
                return Err(ControlError::Refused { code: Code::OverSharedBudget, why });
            }
        }
        Ok(())
    }
}

/// The limits after a change: what it does not name stays.
fn changed_limit(old: Limit, change: BudgetChange) -> Limit {
    match change {
        BudgetChange::Remove => Limit::default(),
        BudgetChange::Set { total, per_month, per_hour, warn_at_permille } => Limit {
            total: total.or(old.total),
            per_month: per_month.or(old.per_month),
            per_hour: per_hour.or(old.per_hour),
            warn_at_permille: warn_at_permille.unwrap_or(old.warn_at_permille),
        },
    }
}
