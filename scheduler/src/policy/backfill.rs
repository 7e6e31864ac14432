//! First come, first served with backfill: behind a job that cannot start yet, a later one may run if that does not delay
//! the earlier one's expected start.
//!
//! This is EASY backfill (Lifka, *The ANL/IBM SP Scheduling System*, JSSPP 1995; analysed by Mu'alem and Feitelson, IEEE
//! TPDS 12(6), 2001): only the first waiting job has a reservation. Its expected start comes from the estimates of the
//! running jobs; a job without an estimate never ends as far as a reservation is concerned, and one that has none is only
//! backfilled onto nodes that the waiting job does not need. The estimates used are the pessimistic ends of their ranges for the
//! later job, and the likely ones for the running jobs. The arithmetic is in [`super::reservation`].

use super::rule::{Behind, Policy};

/// First come, first served with EASY backfill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backfill;

impl Policy for Backfill {
    fn name(&self) -> &'static str {
        "backfill"
    }

    fn behind(&self) -> Behind {
        Behind::Backfills
    }
}
