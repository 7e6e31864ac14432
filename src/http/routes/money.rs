//! Routes about money: budgets.

use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use neap_control::BudgetChange;
use neap_scheduler::pricing::budget::Scope;

use super::{Answer, Api, ApiError, JsonBody, Shared};
use crate::http::body::{ScopeBudgetBody, SetBudgetBody};

pub(super) fn routes() -> Router<std::sync::Arc<Api>> {
    Router::new().route("/budgets", get(budgets)).route("/budgets/{scope}", get(budget).post(set_budget))
}

async fn budgets(State(api): Shared) -> Answer<Vec<ScopeBudgetBody>> {
    Ok(Json(api.control.budgets().await?.into_iter().map(ScopeBudgetBody::from).collect()))
}

async fn budget(State(api): Shared, Path(scope): Path<String>) -> Answer<ScopeBudgetBody> {
    Ok(Json(api.control.budget(&scope).await?.into()))
}

async fn set_budget(
    State(api): Shared,
    Path(scope): Path<String>,
    JsonBody(body): JsonBody<SetBudgetBody>,
) -> Answer<ScopeBudgetBody> {
    let scope = Scope::parse_shared(&scope).map_err(|error| ApiError::Body(error.to_string()))?;
    Ok(Json(api.control.set_budget(scope, change(body)?).await?.into()))
}

fn change(body: SetBudgetBody) -> Result<BudgetChange, ApiError> {
    if body.remove {
        let alone = body == SetBudgetBody { remove: true, ..SetBudgetBody::default() };
        let mixed = || ApiError::Body("`remove` goes with no limit".to_owned());
        return alone.then_some(BudgetChange::Remove).ok_or_else(mixed);
    }
    let part = |part: f64| match part {
        0.0..=1.0 => Ok((part * 1_000.0).round() as u16),
        _ => Err(ApiError::Body(format!("error[E021] warn_at is a part from 0 to 1, not {part}"))),
    };
    Ok(BudgetChange::Set {
        total: body.max_cost_micro_usd,
        per_month: body.max_cost_micro_usd_per_month,
        per_hour: body.max_cost_micro_usd_per_hour,
        warn_at_permille: body.warn_at.map(part).transpose()?,
    })
}
