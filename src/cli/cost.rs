//! `neap cost`: what was spent, on what.

use neap_scheduler::pricing::Category;

use crate::http::body::{BillBody, CostBody, JobBillBody};

use super::Shell;
use super::args::Format;
use super::exit::{CliError, Exit};
use super::output::{Listing, Tone, coarse, fields, percent};

pub(super) fn cost(shell: &Shell, job: Option<&str>) -> Result<Exit, CliError> {
    let bill = shell.client()?.cost(job)?;
    match shell.output.format {
        Format::Csv | Format::Name => shell.output.list(&bill.by_job, &by_job(&bill.by_job))?,
        _ => shell.output.document(&bill, "", || text(shell, &bill))?,
    }
    Ok(Exit::Ok)
}

fn text(shell: &Shell, bill: &BillBody) -> String {
    let mut text = fields(&[
        ("total", Some(bill.total.total_micro_usd.to_string())),
        ("idle share", Some(percent(bill.total.idle_share))),
    ]);
    for listing in [by_job(&bill.by_job), by_node(bill)] {
        text.push('\n');
        text.push_str(&shell.output.table(&listing));
    }
    text
}

fn by_job(bills: &[JobBillBody]) -> Listing {
    let mut listing =
        Listing::new(&["JOB", "NAME", "BOOT", "BUSY", "IDLE", "DRAIN", "LOST", "ORPHAN", "COST", "IDLE SHARE"]);
    for bill in bills {
        let mut cells = vec![bill.job.clone().unwrap_or_else(|| "-".to_owned()), bill.name.clone()];
        cells.extend(Category::ALL.iter().map(|category| of_category(&bill.cost, *category)));
        cells.push(bill.cost.total_micro_usd.to_string());
        cells.push(percent(bill.cost.idle_share));
        listing.row(cells.into_iter().map(|text| (text, Tone::Plain)));
    }
    listing
}

fn by_node(bill: &BillBody) -> Listing {
    let mut listing = Listing::new(&["NODE", "OFFER", "PRICE", "TIME", "COST"]);
    for node in &bill.by_node {
        let cells = [
            node.node.clone(),
            node.offer.clone(),
            node.price_micro_usd_per_hour.to_string(),
            coarse(node.time_ms),
            node.cost_micro_usd.to_string(),
        ];
        listing.row(cells.map(|text| (text, Tone::Plain)));
    }
    listing
}

fn of_category(cost: &CostBody, category: Category) -> String {
    cost.by_category_micro_usd.get(category.name()).copied().unwrap_or_default().to_string()
}
