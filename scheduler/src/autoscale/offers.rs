//! Which offer: the one whose hour of useful work costs least.
//!
//! A node that is taken back λ times an hour loses, each time, the restart and on average half the time between two
//! checkpoints. Of an hour 1 − λ · (restart + interval ∕ 2) is left for progress, and an hour of progress costs
//! price ∕ (1 − λ · (restart + interval ∕ 2)): the first-order loss of Young (CACM 17(9), 1974). The one rule picks between
//! types, between spot and on-demand where the job leaves the choice (`market: auto`), and goes back when prices or
//! interruptions change. Without observed interruptions it is the price.

use crate::model::{MicroUsdPerHour, Offer};
use crate::policy::{JobDemand, MarketNow, NodeSupply};

const MILLIS_PER_1000_H: u128 = 1_000 * 3_600_000;

/// Parts of an hour, so that the useful share needs no float.
const WHOLE: u128 = 1_000_000_000;

/// The price of an hour of progress on a node that is taken back this often in 1,000 hours. A node on which a job makes no
/// progress on average costs more than any other. A job with a limit on its rate compares what counts against the limit:
/// prices.
pub fn useful_price(job: &JobDemand, price: MicroUsdPerHour, interruptions_per_1000_h: u32) -> MicroUsdPerHour {
    if job.terms.rate_max.is_some() {
        return price;
    }
    let half_interval = job.terms.checkpoint_every.map_or(job.terms.since_checkpoint.get(), |every| every.get() / 2);
    let lost = u128::from(job.terms.restart.get()) + u128::from(half_interval);
    let lost_share = (u128::from(interruptions_per_1000_h) * lost).saturating_mul(WHOLE) / MILLIS_PER_1000_H;
    let useful = WHOLE.saturating_sub(lost_share);
    if useful == 0 {
        return MicroUsdPerHour::new(u64::MAX);
    }
    MicroUsdPerHour::new(u64::try_from((u128::from(price.get()) * WHOLE).div_ceil(useful)).unwrap_or(u64::MAX))
}

/// The order in which nodes are preferred where markets or budgets leave a choice.
pub fn node_cost(job: &JobDemand, node: &NodeSupply) -> MicroUsdPerHour {
    useful_price(job, node.price, node.terms.interruptions_per_1000_h)
}

/// Whether one worker of the job may run on nodes of the offer.
pub fn accepts(job: &JobDemand, offer: &Offer) -> bool {
    job.takes(offer.market)
        && offer.size.fits(job.need)
        && offer.terms.gpus.fits(&job.terms.gpus)
        && job.max_price.is_none_or(|most| offer.price <= most)
}

/// The cheapest of these offers that one worker of the job accepts.
pub fn cheapest<'a>(job: &JobDemand, offers: impl Iterator<Item = &'a Offer>) -> Option<&'a Offer> {
    let cost = |offer: &Offer| useful_price(job, offer.price, offer.terms.interruptions_per_1000_h);
    offers.filter(|offer| accepts(job, offer)).min_by_key(|offer| (cost(offer), offer.price, offer.name.as_str()))
}

/// Why no offer carries a worker of the job.
pub(crate) fn infeasible(job: &JobDemand, offers: &[Offer]) -> String {
    let named = match job.terms.market_now {
        Some(MarketNow::Only(market)) => market.to_string(),
        _ if job.terms.either_market => "either".to_owned(),
        _ => job.market.to_string(),
    };
    let gpus = match (job.terms.gpus.models.join(" or "), job.terms.gpus.count.0) {
        (_, 0) => String::new(),
        (any, count) if any.is_empty() => format!(", {count} gpu(s)"),
        (models, count) => format!(", {count} {models} gpu(s)"),
    };
    let need = format!("{} cpus and {} of memory{gpus}", job.need.cpus, job.need.memory);
    let size = |offer: &&Offer| (offer.terms.gpus.fits(&job.terms.gpus), offer.size.cpus, offer.size.memory);
    match offers.iter().filter(|offer| job.takes(offer.market)).max_by_key(size) {
        Some(largest) => format!(
            "no {named} offer carries a worker of {need}; the largest is {} with {} cpus and {} at {}",
            largest.name, largest.size.cpus, largest.size.memory, largest.price
        ),
        None => format!("no offer on the {named} market"),
    }
}
