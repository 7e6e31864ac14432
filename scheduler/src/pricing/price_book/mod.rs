//! A dated price book: what a node of each kind costs where, with the source of every figure.
//!
//! Text comes in ([`PriceBook::read`]); nothing here opens a file. A book is kept whole or not at all: one bad row and
//! all faults are reported. What a node costs is asked with [`PriceBook::offers`]; the [`Quote`] in the answer is stored
//! with every charge, so that a bill can be checked against the book it was made from.
//!
//! The format is described in `ops/prices/README.md`.

mod code;
mod place;
mod quote;
mod read;

pub use code::PriceCode;
pub use place::{Place, PlacePattern, PlacePatternError};
pub use quote::{Quote, SPOT_CEILING_FACTOR};
pub use read::{HOURLY_PRICE_USD_MAX, PriceFault, PriceFaults};

use jiff::civil::Date;

use crate::model::{Market, MicroUsdPerHour, NodeSize};

/// Accelerators of one machine, or what a job wants of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accelerators {
    /// The model, for example `H100`.
    pub model: String,
    /// How many.
    pub count: u32,
}

/// One row: a kind of machine at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceRow {
    /// Where.
    pub place: Place,
    /// The provider's name of the machine.
    pub instance: String,
    /// Its accelerators, if it has any.
    pub accelerators: Option<Accelerators>,
    /// Its processors and memory.
    pub size: NodeSize,
    /// What an hour costs until it is released, where it is offered.
    pub on_demand: Option<MicroUsdPerHour>,
    /// What an hour costs on the spot market, where it is offered.
    pub spot: Option<MicroUsdPerHour>,
    /// Where the figures can be read.
    pub source: String,
}

impl PriceRow {
    /// The price on a market.
    pub fn price(&self, market: Market) -> Option<MicroUsdPerHour> {
        match market {
            Market::OnDemand => self.on_demand,
            Market::Spot => self.spot,
        }
    }
}

/// What a node must be and may cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceQuery {
    /// The accelerators it must have at least; `None` takes any machine, with or without.
    pub accelerators: Option<Accelerators>,
    /// The processors and memory it must have at least.
    pub size: NodeSize,
    /// How it is rented.
    pub market: Market,
    /// Where it may stand; empty allows every place.
    pub places: Vec<PlacePattern>,
    /// The most an hour may cost.
    pub max_price: Option<MicroUsdPerHour>,
}

/// A row that answers a query, and its price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PricedOffer<'book> {
    /// The machine.
    pub row: &'book PriceRow,
    /// The price, as it is stored with a charge.
    pub quote: Quote,
}

/// No machine in the book has this accelerator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown gpu \"{asked}\"{}", nearest.as_ref().map(|name| format!(", did you mean {name}?")).unwrap_or_default())]
pub struct UnknownAccelerator {
    /// What was asked for.
    pub asked: String,
    /// The model whose name is most like it.
    pub nearest: Option<String>,
}

/// How alike two names must be, from 0 to 1, to ask "did you mean". Keys of job files use the same measure.
const ALIKE_MIN: f64 = 0.7;

/// All rows of one file and their date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceBook {
    date: Date,
    rows: Vec<PriceRow>,
}

impl PriceBook {
    /// Reads a book. `file` is only used to name the place of a fault.
    ///
    /// # Errors
    ///
    /// All faults of the text, each with file, line, column, value and code.
    pub fn read(file: &str, text: &str) -> Result<Self, PriceFaults> {
        read::book(file, text).map(|(date, rows)| Self { date, rows })
    }

    /// The day the book stands for.
    pub fn date(&self) -> Date {
        self.date
    }

    /// Every row, in the order of the file.
    pub fn rows(&self) -> &[PriceRow] {
        &self.rows
    }

    /// The machines that answer `query`, the cheapest first; equal prices in the order of the file.
    ///
    /// # Errors
    ///
    /// An accelerator that no row has, whatever the place: most likely a slip of the pen.
    pub fn offers(&self, query: &PriceQuery) -> Result<Vec<PricedOffer<'_>>, UnknownAccelerator> {
        if let Some(wanted) = &query.accelerators {
            self.check_known(&wanted.model)?;
        }
        let mut offers: Vec<PricedOffer<'_>> = self.rows.iter().filter_map(|row| self.offer(row, query)).collect();
        offers.sort_by_key(|offer| offer.quote.price);
        Ok(offers)
    }

    fn offer<'book>(&self, row: &'book PriceRow, query: &PriceQuery) -> Option<PricedOffer<'book>> {
        let quote = Quote::of(row, query.market, query.max_price, self.date)?;
        let place = query.places.is_empty() || query.places.iter().any(|pattern| pattern.matches(&row.place));
        let fits = query.accelerators.as_ref().is_none_or(|wanted| has(row, wanted)) && row.size.fits(query.size);
        (place && fits).then_some(PricedOffer { row, quote })
    }

    fn check_known(&self, model: &str) -> Result<(), UnknownAccelerator> {
        let models = || self.rows.iter().filter_map(|row| row.accelerators.as_ref()).map(|has| &has.model);
        if models().any(|known| known.eq_ignore_ascii_case(model)) {
            return Ok(());
        }
        let alike = |known: &str| strsim::jaro_winkler(&known.to_lowercase(), &model.to_lowercase());
        let nearest = models().map(|known| (alike(known), known)).max_by(|a, b| a.0.total_cmp(&b.0));
        let nearest = nearest.filter(|(likeness, _)| *likeness >= ALIKE_MIN).map(|(_, known)| known.clone());
        Err(UnknownAccelerator { asked: model.to_owned(), nearest })
    }
}

fn has(row: &PriceRow, wanted: &Accelerators) -> bool {
    let enough = |has: &Accelerators| has.model.eq_ignore_ascii_case(&wanted.model) && has.count >= wanted.count;
    row.accelerators.as_ref().is_some_and(enough)
}

#[cfg(test)]
mod tests;
