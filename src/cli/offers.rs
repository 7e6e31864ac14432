//! `neap offers`: what could be rented now and how such nodes fared, or (`--book`) what the dated price book says, offline.

use neap_scheduler::model::{CpuMillis, Market, MemoryMib, NodeSize};
use neap_scheduler::pricing::price_book::{Accelerators, PriceBook, PriceQuery, PriceRow, UnknownAccelerator};
use serde_json::json;

use crate::http::body::OfferBody;

use super::Shell;
use super::args::{Format, MarketName, OffersArgs};
use super::exit::{CliError, Exit};
use super::output::{Listing, Tone, coarse, now};

/// The newest book, as it was when this binary was built.
const BOOK: (&str, &str) = ("ops/prices/2025-catalog.csv", include_str!("../../ops/prices/2025-catalog.csv"));

pub(super) fn offers(shell: &Shell, args: &OffersArgs) -> Result<Exit, CliError> {
    if args.book {
        return book(shell, args);
    }
    let mut offers = shell.client()?.offers()?;
    let market = args.market.map(|market| market.market().to_string());
    offers.retain(|offer| market.as_ref().is_none_or(|market| *market == offer.market));
    offers.retain(|offer| args.gpu.as_ref().is_none_or(|gpu| has_gpu(offer, gpu)));
    offers.sort_by_key(|offer| offer.price_micro_usd_per_hour);
    let mut listing = Listing::new(&[
        "OFFER",
        "CPUS",
        "MEMORY",
        "GPU",
        "MARKET",
        "PRICE",
        "BOOT",
        "FREE",
        "INTERRUPTIONS",
        "LAUNCHES",
    ]);
    offers.iter().for_each(|offer| listing.row(row(offer).map(|text| (text, Tone::Plain))));
    if offers.is_empty() && shell.output.format == Format::Table {
        shell.output.remark("no such offers; `neap offers --book` shows what others charge");
        return Ok(Exit::Ok);
    }
    shell.output.list(&offers, &listing)?;
    Ok(Exit::Ok)
}

fn has_gpu(offer: &OfferBody, wanted: &str) -> bool {
    offer.gpu.as_ref().is_some_and(|model| model.eq_ignore_ascii_case(wanted))
}

fn row(offer: &OfferBody) -> [String; 10] {
    let gpu = offer.gpu.as_ref().map_or_else(|| "-".to_owned(), |model| format!("{}x {model}", offer.gpu_count));
    let hold = offer.hold_until_ms.filter(|until| *until > now());
    [
        offer.name.clone(),
        offer.cpu_millis.to_string(),
        offer.memory_mib.to_string(),
        gpu,
        offer.market.clone(),
        offer.price_micro_usd_per_hour.to_string(),
        coarse(offer.boot_ms),
        offer.available.to_string(),
        interruptions(offer),
        hold.map_or_else(|| "at once".to_owned(), |until| format!("failed; again in {}", coarse(until.since(now())))),
    ]
}

/// The observed rate, with what it was observed over: a rate without that says nothing.
fn interruptions(offer: &OfferBody) -> String {
    match offer.interruptions_per_1000_h() {
        _ if offer.market != Market::Spot.to_string() => "none".to_owned(),
        None => "not observed yet".to_owned(),
        Some(rate) => {
            let hours = offer.observed_ms.as_secs_f64() / 3_600.0;
            format!("{rate:.1} per 1,000 h ({} in {hours:.2} node-hours)", offer.interruptions)
        }
    }
}

fn book(shell: &Shell, args: &OffersArgs) -> Result<Exit, CliError> {
    let (file, text) = BOOK;
    let book = PriceBook::read(file, text).map_err(|faults| CliError::Usage(faults.to_string()))?;
    let rows = rows(&book, args)?;
    let mut listing = Listing::new(&["INSTANCE", "PLACE", "CPUS", "MEMORY", "GPU", "ON DEMAND", "SPOT", "SOURCE"]);
    rows.iter().for_each(|row| listing.row(book_row(row).map(|text| (text, Tone::Plain))));
    let document: Vec<_> = rows.iter().map(|row| book_json(row, &book)).collect();
    shell.output.remark(&format!("the price book of {} ({file}), not today's prices", book.date()));
    shell.output.list(&document, &listing)?;
    Ok(Exit::Ok)
}

/// The rows that are asked for, the cheapest first where a market is.
fn rows<'a>(book: &'a PriceBook, args: &OffersArgs) -> Result<Vec<&'a PriceRow>, CliError> {
    let accelerators = args.gpu.clone().map(|model| Accelerators { model, count: 1 });
    let unknown = |error: UnknownAccelerator| CliError::Usage(error.to_string());
    let ask = |market| {
        let query = PriceQuery {
            accelerators: accelerators.clone(),
            size: NodeSize { cpus: CpuMillis(0), memory: MemoryMib(0) },
            market,
            places: Vec::new(),
            max_price: None,
        };
        book.offers(&query).map_err(unknown)
    };
    if let Some(market) = args.market.map(MarketName::market) {
        return Ok(ask(market)?.into_iter().map(|offer| offer.row).collect());
    }
    let (on_demand, spot) = (ask(Market::OnDemand)?, ask(Market::Spot)?);
    let asked = |row: &&PriceRow| on_demand.iter().chain(&spot).any(|offer| std::ptr::eq(offer.row, *row));
    Ok(book.rows().iter().filter(asked).collect())
}

fn book_row(row: &PriceRow) -> [String; 8] {
    let price = |market| row.price(market).map_or_else(|| "-".to_owned(), |price| price.to_string());
    let gpu = row.accelerators.as_ref().map_or_else(|| "-".to_owned(), |gpu| format!("{}x {}", gpu.count, gpu.model));
    [
        row.instance.clone(),
        row.place.to_string(),
        row.size.cpus.to_string(),
        row.size.memory.to_string(),
        gpu,
        price(Market::OnDemand),
        price(Market::Spot),
        row.source.clone(),
    ]
}

fn book_json(row: &PriceRow, book: &PriceBook) -> serde_json::Value {
    json!({
        "instance": row.instance,
        "place": row.place.to_string(),
        "cpu_millis": row.size.cpus,
        "memory_mib": row.size.memory,
        "gpu": row.accelerators.as_ref().map(|gpu| &gpu.model),
        "gpu_count": row.accelerators.as_ref().map_or(0, |gpu| gpu.count),
        "on_demand_micro_usd_per_hour": row.on_demand,
        "spot_micro_usd_per_hour": row.spot,
        "book_date": book.date().to_string(),
        "source": row.source,
    })
}
