//! The ledger's arithmetic: how the time of a node becomes lines of a bill that sum to what the node cost.

mod meter;

pub use meter::{Category, LedgerLine, NodeMeter, Use};
