//! Training over actors.

#![forbid(unsafe_code)]

pub mod data;
pub mod entry;
pub mod ledger;
pub mod model;
pub mod optimiser;
pub mod reduction;
pub mod schedule;
pub mod state;
