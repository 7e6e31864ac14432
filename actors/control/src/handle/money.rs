//! Questions and commands about money.

use neap_scheduler::model::Millis;
use neap_scheduler::pricing::attribution::{ActorName, AttributedLine};
use neap_scheduler::pricing::breakdown::{Step, Stretch, break_down};
use neap_scheduler::pricing::budget::{Month, Scope};

use super::{BudgetChange, ControlError, ControlHandle};
use crate::controller::ControllerMsg;
use crate::outlook::{foresee, whole_bill};
use crate::views::{BillKey, BillPart, ForecastView, OfferView, OpenBill, ScopeBudgetView};

impl ControlHandle {
    /// Changes what the organisation or a project may spend. When this returns it is on disk and in force.
    ///
    /// # Errors
    ///
    /// [`ControlError::Refused`] for a limit that cannot be used, [`ControlError::Conflict`] for a job's budget.
    pub async fn set_budget(&self, scope: Scope, change: BudgetChange) -> Result<ScopeBudgetView, ControlError> {
        self.ask(|reply| ControllerMsg::SetBudget(scope, change, reply)).await
    }

    /// The budgets that are set, and those of jobs that have not ended.
    ///
    /// # Errors
    ///
    /// [`ControlError::Stopped`].
    pub async fn budgets(&self) -> Result<Vec<ScopeBudgetView>, ControlError> {
        self.ask(ControllerMsg::Budgets).await
    }

    /// The budget of `organisation`, `project/NAME`, or of a job by its name or id.
    ///
    /// # Errors
    ///
    /// [`ControlError::NotFound`].
    pub async fn budget(&self, name: &str) -> Result<ScopeBudgetView, ControlError> {
        self.ask(|reply| ControllerMsg::Budget(name.to_owned(), reply)).await
    }

    /// What is expected to be spent from now on, for `horizon` or to the end of the month.
    ///
    /// # Errors
    ///
    /// [`ControlError::Ledger`].
    pub async fn forecast(&self, horizon: Option<Millis>) -> Result<ForecastView, ControlError> {
        let outlook = self.ask(ControllerMsg::Outlook).await?;
        let (open, bill) = self.whole_bill().await?;
        let until = horizon.map_or_else(|| Month::end_after(open.now), |horizon| open.now + horizon);
        // A thousand futures for each limit are some milliseconds of computing.
        let work = move || foresee(&outlook, &open, &bill, until);
        tokio::task::spawn_blocking(work).await.map_err(|_| ControlError::Stopped)
    }

    /// The bill of a stretch of time, cut by `key` and by time. The parts sum to what the stretch cost.
    ///
    /// # Errors
    ///
    /// [`ControlError::Ledger`].
    pub async fn bill_by(
        &self,
        key: BillKey,
        stretch: Stretch,
        step: Option<Step>,
    ) -> Result<Vec<BillPart>, ControlError> {
        let (open, bill) = self.whole_bill().await?;
        let parts = break_down(&bill, stretch, step, |line| key_of(key, line, &open));
        let part = |((begins, (key, name)), part)| BillPart { begins, key, name, part };
        Ok(parts.into_iter().map(part).collect())
    }

    /// What could be rented now, and how such nodes fared.
    ///
    /// # Errors
    ///
    /// [`ControlError::Stopped`].
    pub async fn offers(&self) -> Result<Vec<OfferView>, ControlError> {
        self.ask(ControllerMsg::Offers).await
    }

    async fn whole_bill(&self) -> Result<(OpenBill, Vec<AttributedLine>), ControlError> {
        let open = self.ask(ControllerMsg::OpenBill).await?;
        let bill = whole_bill(self.store.attributed_lines().await?, &open);
        Ok((open, bill))
    }
}

/// What a line is booked under, and a name for it.
fn key_of(key: BillKey, line: &AttributedLine, open: &OpenBill) -> (Option<String>, Option<String>) {
    let job = line.line.job.and_then(|job| open.jobs.get(&job).map(|names| (job, names)));
    match key {
        BillKey::Project => (job.map(|(_, (_, project))| project.clone()), None),
        BillKey::Job => (job.map(|(job, _)| job.to_string()), job.map(|(_, (name, _))| name.clone())),
        BillKey::Actor => {
            let actor = line.actor.as_ref().map_or("no actor", |ActorName(name)| name);
            let name = job.map(|(_, (name, _))| name.clone());
            (Some(job.map_or_else(|| actor.to_owned(), |(job, _)| format!("{job}/{actor}"))), name)
        }
        BillKey::Node => (Some(line.line.node.to_string()), None),
        BillKey::Category => (Some(line.line.category.to_string()), None),
    }
}
