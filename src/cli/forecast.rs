//! `neap forecast`: what will be spent, with its range, and what that means for the budgets.

use neap_scheduler::model::Millis;
use neap_scheduler::pricing::forecast::HISTORY_DAYS_MIN;

use crate::http::body::{ForecastBody, ScopeForecastBody};

use super::Shell;
use super::args::ForecastArgs;
use super::exit::{CliError, Exit};
use super::output::{Listing, Tone, coarse, fields, instant, percent};

pub(super) fn forecast(shell: &Shell, args: &ForecastArgs) -> Result<Exit, CliError> {
    let forecast = shell.client()?.forecast(args.horizon.map(Millis::from))?;
    shell.output.document(&forecast, "", || text(shell, &forecast))?;
    Ok(Exit::Ok)
}

fn text(shell: &Shell, forecast: &ForecastBody) -> String {
    let whole = forecast.scopes.first();
    let mut text = fields(&[
        ("until", Some(instant(forecast.until_ms))),
        ("rests on", Some(basis(forecast))),
        (
            "spend",
            whole.map(|scope| {
                let range = scope.spend_p90_micro_usd - scope.spend_p10_micro_usd;
                format!(
                    "P10 {}, P50 {}, P90 {} (a range of {range})",
                    scope.spend_p10_micro_usd, scope.spend_p50_micro_usd, scope.spend_p90_micro_usd
                )
            }),
        ),
        (
            "not in it",
            (!forecast.unknown_jobs.is_empty())
                .then(|| format!("what {} will cost: nobody has planned it", forecast.unknown_jobs.join(", "))),
        ),
    ]);
    let limited: Vec<&ScopeForecastBody> = forecast.scopes.iter().filter(|scope| scope.limit.is_some()).collect();
    if limited.is_empty() {
        return text;
    }
    let mut listing =
        Listing::new(&["BUDGET", "LIMIT", "UNTIL", "P10", "P50", "P90", "LEFT", "OVERSPENT", "RUNS OUT (P50)"]);
    limited.into_iter().for_each(|scope| listing.row(row(scope)));
    text.push('\n');
    text.push_str(&shell.output.table(&listing));
    text
}

fn basis(forecast: &ForecastBody) -> String {
    let end = match forecast.running_nodes_without_end {
        0 => String::new(),
        nodes => format!(", {nodes} of them to the end of the forecast, because nobody knows theirs"),
    };
    let known = format!("{} node(s) that run{end}, {} job(s) that wait", forecast.running_nodes, forecast.queued_jobs);
    match forecast.history_days {
        Some(days) => format!("{days} days of history, {known}"),
        None => format!(
            "{known}; there is too little history to learn from ({}; {HISTORY_DAYS_MIN} days are needed), so later jobs are not \
             in it",
            coarse(forecast.history_ms)
        ),
    }
}

fn row(scope: &ScopeForecastBody) -> Vec<(String, Tone)> {
    let dash = || "-".to_owned();
    let tone = match scope.overspend_chance {
        Some(0.5..) => Tone::Bad,
        Some(0.1..) => Tone::Busy,
        _ => Tone::Plain,
    };
    let plain = |text: String| (text, Tone::Plain);
    vec![
        plain(scope.scope.clone()),
        plain(scope.limit.clone().unwrap_or_else(dash)),
        plain(instant(scope.until_ms)),
        plain(scope.spend_p10_micro_usd.to_string()),
        plain(scope.spend_p50_micro_usd.to_string()),
        plain(scope.spend_p90_micro_usd.to_string()),
        plain(scope.left_micro_usd.map_or_else(dash, |left| left.to_string())),
        (scope.overspend_chance.map_or_else(dash, percent), tone),
        plain(scope.exhausted_p50_ms.map_or_else(|| "not in sight".to_owned(), instant)),
    ]
}
