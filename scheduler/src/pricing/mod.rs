//! What things cost: the ledger's arithmetic, prices, limits and forecasts. All of it is pure.
//!
//! Read in this order: [`NodeMeter`] (how the time of a node becomes lines of a bill that sum to what the node cost),
//! [`attribution`] (the same down to the actor, and what was lost), [`price_book`] (what a node costs where, with
//! sources), [`breakdown`] (a bill by time and use), [`budget`] (limits that hold), [`forecast`] (what will be spent).

mod cut;
mod meter;

pub mod attribution;
pub mod breakdown;
pub mod price_book;

pub mod budget;
pub mod forecast;

pub use cut::cut;
pub use meter::{Category, LedgerLine, NodeMeter, Use};
