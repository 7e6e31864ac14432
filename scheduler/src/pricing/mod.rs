//! What things cost: the ledger's arithmetic and the price book that it is fed from.
//!
//! Read in this order: [`NodeMeter`] (how the time of a node becomes lines of a bill that sum to what the node cost),
//! [`price_book`] (what a node costs where, with sources), [`budget`] (limits that hold).

mod meter;
pub mod budget;
pub mod price_book;

pub use meter::{Category, LedgerLine, NodeMeter, Use};
