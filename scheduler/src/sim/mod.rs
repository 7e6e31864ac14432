//! The simulator: the same policies as in production, over a virtual clock and recorded or generated worlds.
//!
//! Ground truth (throughput tables, gradient statistics, availability of spot nodes, prices to come) lives here and
//! nowhere else; a policy sees what a running system would have seen. Nothing here opens a file: readers take text.

pub mod adaptive;
mod fault;
mod table;

pub mod cluster;
pub mod spot;

pub use fault::{FaultCode, WorldError};
pub use table::{DataError, Row, read_rows, read_tabbed};
