//! Views about money as bodies.

use neap_control::views::ScopeBudgetView;
use neap_scheduler::model::MicroUsd;

use crate::http::body::ScopeBudgetBody;

impl From<ScopeBudgetView> for ScopeBudgetBody {
    fn from(view: ScopeBudgetView) -> Self {
        let limit = view.limit;
        let left = |limit: MicroUsd, spent: MicroUsd| limit - spent - view.reserved;
        let total = limit.total.map(|limit| left(limit, view.spent));
        let of_month = limit.per_month.map(|limit| left(limit, view.spent_in_month));
        Self {
            scope: view.scope.id(),
            name: view.job_name,
            max_cost_micro_usd: limit.total,
            max_cost_micro_usd_per_month: limit.per_month,
            max_cost_micro_usd_per_hour: limit.per_hour,
            warn_at: f64::from(limit.warn_at_permille) / 1_000.0,
            set_ms: view.set_at,
            month: view.month.to_string(),
            spent_micro_usd: view.spent,
            spent_this_month_micro_usd: view.spent_in_month,
            reserved_micro_usd: view.reserved,
            left_micro_usd: total.into_iter().chain(of_month).min(),
            rate_micro_usd_per_hour: view.rate,
            warned: view.warned.iter().map(ToString::to_string).collect(),
        }
    }
}
