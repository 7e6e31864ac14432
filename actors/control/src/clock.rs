//! The wall clock, read in one place.

use std::time::{SystemTime, UNIX_EPOCH};

use neap_scheduler::model::Millis;

/// Now. A clock set before 1970 reads as the epoch.
pub(crate) fn now() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().into()
}
