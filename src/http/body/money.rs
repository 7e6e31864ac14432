//! The bodies about money: budgets of scopes.

use neap_scheduler::model::{MicroUsd, MicroUsdPerHour, Millis};
use serde::{Deserialize, Serialize};

/// A change of what the organisation or a project may spend. What is left out stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SetBudgetBody {
    /// In all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_cost_micro_usd: Option<MicroUsd>,
    /// In a calendar month (UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_cost_micro_usd_per_month: Option<MicroUsd>,
    /// All nodes together, at any moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_cost_micro_usd_per_hour: Option<MicroUsdPerHour>,
    /// The share of a limit, 0 to 1, whose spending is worth a warning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warn_at: Option<f64>,
    /// Whether the whole budget is removed; nothing else is given then.
    pub remove: bool,
}

/// What a scope may spend, and what it has spent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScopeBudgetBody {
    /// `organisation`, `project/NAME` or `job/ID`.
    pub scope: String,
    /// The job's name, where it is a job's.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// In all.
    pub max_cost_micro_usd: Option<MicroUsd>,
    /// In a calendar month (UTC).
    pub max_cost_micro_usd_per_month: Option<MicroUsd>,
    /// All nodes together, at any moment.
    pub max_cost_micro_usd_per_hour: Option<MicroUsdPerHour>,
    /// The share of a limit, 0 to 1, whose spending is worth a warning.
    pub warn_at: f64,
    /// Since when these limits hold.
    pub set_ms: Option<Millis>,
    /// This month (UTC), as in `2026-11`.
    pub month: String,
    /// What was spent in all.
    pub spent_micro_usd: MicroUsd,
    /// What was spent this month.
    pub spent_this_month_micro_usd: MicroUsd,
    /// What is set aside beyond that, until the nodes that run can be gone.
    pub reserved_micro_usd: MicroUsd,
    /// What could still be set aside for new nodes; nothing where money is not limited.
    pub left_micro_usd: Option<MicroUsd>,
    /// The price of what runs now.
    pub rate_micro_usd_per_hour: MicroUsdPerHour,
    /// The limits of which the share that is worth a warning is spent.
    pub warned: Vec<String>,
}
