//! `neap cost --by …`: the bill of a stretch of time, cut by project, job, actor, node or category, by hour or day.

use neap_scheduler::model::{MicroUsd, Millis};
use neap_scheduler::pricing::breakdown::Stretch;

use crate::http::body::{BillPartBody, BillPartsBody};

use super::Shell;
use super::args::{CostArgs, CostBy, Format, Resolution};
use super::exit::{CliError, Exit};
use super::output::{Listing, Tone, coarse, now};
use super::stretch::stretch;

pub(super) fn parts(shell: &Shell, args: &CostArgs) -> Result<Exit, CliError> {
    let by = args.by.unwrap_or(CostBy::Job);
    let within = match &args.stretch {
        Some(text) => stretch(text, now()).map_err(CliError::Usage)?,
        None => Stretch::ALL,
    };
    let bill = shell.client()?.cost_parts(by.name(), within, args.resolution.map(Resolution::name))?;
    let mut output = shell.output;
    output.format = match (args.csv, args.json) {
        (true, _) => Format::Csv,
        (_, true) => Format::Json,
        _ => output.format,
    };
    let listing = listing(&bill, by, args.resolution, output.format);
    match output.format {
        Format::Csv | Format::Name | Format::Jsonl => output.list(&bill.parts, &listing)?,
        _ => output.document(&bill, "", || {
            format!("{}\ntotal  {}\n", output.table(&listing).trim_end(), bill.total_micro_usd)
        })?,
    }
    Ok(Exit::Ok)
}

fn listing(bill: &BillPartsBody, by: CostBy, resolution: Option<Resolution>, format: Format) -> Listing {
    let mut listing = Listing::new(match by {
        CostBy::Project => &["PROJECT", "BEGINS", "NAME", "NODE TIME", "COST"],
        CostBy::Job => &["JOB", "BEGINS", "NAME", "NODE TIME", "COST"],
        CostBy::Actor => &["ACTOR", "BEGINS", "NAME", "NODE TIME", "COST"],
        CostBy::Node => &["NODE", "BEGINS", "NAME", "NODE TIME", "COST"],
        CostBy::Category => &["CATEGORY", "BEGINS", "NAME", "NODE TIME", "COST"],
    });
    for part in &bill.parts {
        listing.row(row(part, resolution, format).map(|text| (text, Tone::Plain)));
    }
    listing
}

fn row(part: &BillPartBody, resolution: Option<Resolution>, format: Format) -> [String; 5] {
    let dash = || "-".to_owned();
    let begins = part.begins_ms.map_or_else(dash, |begins| utc(begins, resolution));
    let (time, cost) = match format {
        // For programs: whole seconds with their fraction, and exact dollars.
        Format::Csv => (format!("{:.3}", part.time_ms.as_secs_f64()), exact(part.amount_micro_usd)),
        _ => (coarse(part.time_ms), part.amount_micro_usd.to_string()),
    };
    let key = part.key.clone().unwrap_or_else(dash);
    [key, begins, part.name.clone().unwrap_or_else(dash), time, cost]
}

/// Dollars with all six decimals.
fn exact(amount: MicroUsd) -> String {
    format!("{}.{:06}", amount.get() / 1_000_000, amount.get() % 1_000_000)
}

fn utc(at: Millis, resolution: Option<Resolution>) -> String {
    let format = if resolution == Some(Resolution::Day) { "%Y-%m-%d" } else { "%Y-%m-%dT%H:%MZ" };
    let moment = i64::try_from(at.get()).ok().and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok());
    moment.map_or_else(|| at.get().to_string(), |moment| moment.strftime(format).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_for_programs_are_exact() {
        assert_eq!(exact(MicroUsd::new(12_000_038)), "12.000038");
        assert_eq!(exact(MicroUsd::ZERO), "0.000000");
    }
}
