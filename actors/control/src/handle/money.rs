//! Questions and commands about money.

use neap_scheduler::pricing::budget::Scope;

use super::{BudgetChange, ControlError, ControlHandle};
use crate::controller::ControllerMsg;
use crate::views::ScopeBudgetView;

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
}
