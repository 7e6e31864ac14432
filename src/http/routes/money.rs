//! Routes about money: budgets, forecasts, offers, parts of the bill.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::routing::get;
use axum::{Json, Router};
use neap_control::BudgetChange;
use neap_control::views::BillKey;
use neap_scheduler::model::Millis;
use neap_scheduler::pricing::breakdown::{Step, Stretch};
use neap_scheduler::pricing::budget::Scope;
use serde::Deserialize;

use super::{Answer, Api, ApiError, JsonBody, Shared};
use crate::http::body::{BillPartBody, BillPartsBody, ForecastBody, OfferBody, ScopeBudgetBody, SetBudgetBody};

/// The farthest that a forecast reaches: a year.
const HORIZON_MAX: Millis = Millis::from_secs(366 * 86_400);

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/budgets", get(budgets))
        .route("/budgets/{scope}", get(budget).post(set_budget))
        .route("/forecast", get(forecast))
        .route("/offers", get(offers))
        .route("/cost/parts", get(cost_parts))
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ForecastQuery {
    horizon_ms: Option<Millis>,
}

async fn forecast(State(api): Shared, query: Result<Query<ForecastQuery>, QueryRejection>) -> Answer<ForecastBody> {
    let horizon = query?.horizon_ms;
    if horizon.is_some_and(|horizon| horizon > HORIZON_MAX || horizon == Millis::ZERO) {
        return Err(ApiError::Body(format!("a forecast reaches {HORIZON_MAX} at most, and some time at least")));
    }
    Ok(Json(api.control.forecast(horizon).await?.into()))
}

async fn offers(State(api): Shared) -> Answer<Vec<OfferBody>> {
    Ok(Json(api.control.offers().await?.into_iter().map(OfferBody::from).collect()))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PartsQuery {
    by: By,
    #[serde(default)]
    from_ms: Millis,
    until_ms: Option<Millis>,
    step: Option<StepName>,
}

/// What a bill can be cut by.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum By {
    Project,
    Job,
    Actor,
    Node,
    Category,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StepName {
    Hour,
    Day,
}

async fn cost_parts(State(api): Shared, query: Result<Query<PartsQuery>, QueryRejection>) -> Answer<BillPartsBody> {
    let Query(PartsQuery { by, from_ms, until_ms, step }) = query?;
    let key = match by {
        By::Project => BillKey::Project,
        By::Job => BillKey::Job,
        By::Actor => BillKey::Actor,
        By::Node => BillKey::Node,
        By::Category => BillKey::Category,
    };
    let step = step.map(|step| match step {
        StepName::Hour => Step::Hour,
        StepName::Day => Step::Day,
    });
    let stretch = Stretch { from: from_ms, until: until_ms.unwrap_or(Stretch::ALL.until) };
    let parts = api.control.bill_by(key, stretch, step).await?;
    let total_micro_usd = parts.iter().map(|part| part.part.amount).sum();
    Ok(Json(BillPartsBody { total_micro_usd, parts: parts.into_iter().map(BillPartBody::from).collect() }))
}
