//! `neap budget`: what the organisation and projects may spend, and what is left of it.

use neap_scheduler::model::{MicroUsd, MicroUsdPerHour};
use neap_scheduler::pricing::budget::Scope;

use crate::http::body::{ScopeBudgetBody, SetBudgetBody};

use super::Shell;
use super::args::{Format, Period, SetBudgetArgs};
use super::exit::{CliError, Exit};
use super::output::{Listing, Tone, fields, instant};

pub(super) fn set(shell: &Shell, args: &SetBudgetArgs) -> Result<Exit, CliError> {
    let of_period = |period| args.max_cost.filter(|_| args.period == period);
    let change = SetBudgetBody {
        max_cost_micro_usd: of_period(Period::Total),
        max_cost_micro_usd_per_month: of_period(Period::Month),
        max_cost_micro_usd_per_hour: args.max_cost_per_hour,
        warn_at: args.warn_at,
        remove: args.none,
    };
    if change == SetBudgetBody::default() {
        let why = "nothing to set: give --max-cost, --max-cost-per-hour or --warn-at, or --none to remove the budget";
        return Err(CliError::Usage(why.to_owned()));
    }
    Scope::parse_shared(&args.scope).map_err(|error| CliError::Usage(error.to_string()))?;
    let budget = shell.client()?.set_budget(&args.scope, &change)?;
    shell.output.document(&budget, &budget.scope, || text(&budget))?;
    Ok(Exit::Ok)
}

pub(super) fn show(shell: &Shell, scope: &str) -> Result<Exit, CliError> {
    let budget = shell.client()?.budget(scope)?;
    shell.output.document(&budget, &budget.scope, || text(&budget))?;
    Ok(Exit::Ok)
}

pub(super) fn list(shell: &Shell) -> Result<Exit, CliError> {
    let budgets = shell.client()?.budgets()?;
    let mut listing =
        Listing::new(&["SCOPE", "NAME", "TOTAL", "A MONTH", "AN HOUR", "SPENT", "THIS MONTH", "RESERVED", "LEFT"]);
    budgets.iter().for_each(|budget| listing.row(row(budget)));
    if budgets.is_empty() && shell.output.format == Format::Table {
        shell.output.remark("no budgets; `neap budget set organisation --max-cost 500 --period month` sets one");
        return Ok(Exit::Ok);
    }
    shell.output.list(&budgets, &listing)?;
    Ok(Exit::Ok)
}

fn row(budget: &ScopeBudgetBody) -> Vec<(String, Tone)> {
    let money = |amount: Option<MicroUsd>| amount.map_or_else(|| "-".to_owned(), |amount| amount.to_string());
    let rate = budget.max_cost_micro_usd_per_hour.map_or_else(|| "-".to_owned(), |rate| rate.to_string());
    let tone = match (budget.left_micro_usd, budget.warned.is_empty()) {
        (Some(MicroUsd::ZERO), _) => Tone::Bad,
        (_, false) => Tone::Busy,
        _ => Tone::Plain,
    };
    let cells = [
        budget.scope.clone(),
        budget.name.clone().unwrap_or_else(|| "-".to_owned()),
        money(budget.max_cost_micro_usd),
        money(budget.max_cost_micro_usd_per_month),
        rate,
        budget.spent_micro_usd.to_string(),
        budget.spent_this_month_micro_usd.to_string(),
        budget.reserved_micro_usd.to_string(),
    ];
    let left = (money(budget.left_micro_usd), tone);
    cells.into_iter().map(|text| (text, Tone::Plain)).chain([left]).collect()
}

fn text(budget: &ScopeBudgetBody) -> String {
    let total = budget.max_cost_micro_usd.map(|limit| format!("{limit} in total"));
    let month = budget.max_cost_micro_usd_per_month.map(|limit| format!("{limit} a month"));
    let rate = budget.max_cost_micro_usd_per_hour.map(|limit| limit.to_string());
    let limits: Vec<String> = [total, month, rate].into_iter().flatten().collect();
    let limits = if limits.is_empty() { "none".to_owned() } else { limits.join(", ") };
    let name = budget.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
    let spent = format!("{} in all, {} in {}", budget.spent_micro_usd, budget.spent_this_month_micro_usd, budget.month);
    let warned = (!budget.warned.is_empty()).then(|| {
        let limits = budget.warned.join(" and ");
        format!("{} % of the limit {limits} is spent", budget.warn_at * 100.0)
    });
    let runs = budget.rate_micro_usd_per_hour > MicroUsdPerHour::default();
    fields(&[
        ("budget of", Some(format!("{}{name}", budget.scope))),
        ("limit", Some(limits)),
        ("since", budget.set_ms.map(instant)),
        ("spent", Some(spent)),
        ("set aside", Some(format!("{} until its nodes can be gone", budget.reserved_micro_usd))),
        ("left", budget.left_micro_usd.map(|left| left.to_string())),
        ("runs at", runs.then(|| budget.rate_micro_usd_per_hour.to_string())),
        ("warning", warned),
    ])
}
