//! A price as it is stored with a charge: how much, by which book, and how high it may become.

use jiff::civil::Date;

use super::PriceRow;
use crate::model::{Market, MicroUsdPerHour};

/// How many times its quoted price a spot node may cost where nothing else bounds it: no `max_price`, and no on-demand
/// price of the same machine. The widest ratio of on-demand to spot in the book of 2025-10-22 is 10.8 (`c3-highcpu-88`),
/// the next 7.2 (`p5.48xlarge`).
pub const SPOT_CEILING_FACTOR: u64 = 16;

/// What one hour of a node costs, and on whose word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quote {
    /// The price now.
    pub price: MicroUsdPerHour,
    /// The most that the provider may charge for an hour while this quote is the newest one: what budgets reserve.
    pub ceiling: MicroUsdPerHour,
    /// The date of the book.
    pub date: Date,
    /// Where the figure can be read.
    pub source: String,
}

impl Quote {
    /// The quote for a machine on a market; `None` where it is not offered there or costs more than `max_price`.
    ///
    /// An on-demand price stands until the book changes. A spot price moves; it is bounded by `max_price`, above which
    /// the node is given back, and by the on-demand price, which is what AWS takes as the limit of a spot request that
    /// names none (EC2 user guide, "Spot Instances: maximum price") and what GCP promises to stay below (Compute Engine
    /// documentation, "Spot VMs: pricing").
    pub(super) fn of(row: &PriceRow, market: Market, max_price: Option<MicroUsdPerHour>, date: Date) -> Option<Self> {
        let price = row.price(market).filter(|price| max_price.is_none_or(|limit| *price <= limit))?;
        let ceiling = match market {
            Market::OnDemand => price,
            Market::Spot => spot_ceiling(price, row.on_demand, max_price),
        };
        Some(Self { price, ceiling, date, source: row.source.clone() })
    }
}

fn spot_ceiling(
    price: MicroUsdPerHour,
    on_demand: Option<MicroUsdPerHour>,
    max_price: Option<MicroUsdPerHour>,
) -> MicroUsdPerHour {
    let unbounded = || MicroUsdPerHour::new(price.get().saturating_mul(SPOT_CEILING_FACTOR));
    let bound = on_demand.into_iter().chain(max_price).min();
    bound.unwrap_or_else(unbounded).max(price)
}
