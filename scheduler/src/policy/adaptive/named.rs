//! The policies by their names.

use super::allocation::AllocationPolicy;
use super::goodput::Goodput;
use super::queue::{Fifo, LeastService};
use crate::policy::UnknownPolicy;

/// The names of all policies that divide GPUs among jobs, the plainest first.
pub const ADAPTIVE_POLICY_NAMES: [&str; 3] = ["fifo", "least_service", "goodput"];

impl dyn AllocationPolicy {
    /// The policy of this name, with its default settings and nothing seen yet.
    ///
    /// # Errors
    ///
    /// [`UnknownPolicy`] where there is none; it lists the names.
    pub fn by_name(name: &str) -> Result<Box<dyn AllocationPolicy>, UnknownPolicy> {
        Ok(match name {
            "fifo" => Box::new(Fifo),
            "least_service" => Box::new(LeastService),
            "goodput" => Box::new(Goodput::default()),
            _ => return Err(UnknownPolicy { name: name.to_owned(), known: &ADAPTIVE_POLICY_NAMES }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_policy_and_another_lists_them() {
        for name in ADAPTIVE_POLICY_NAMES {
            assert_eq!(<dyn AllocationPolicy>::by_name(name).unwrap().name(), name);
        }
        let error = <dyn AllocationPolicy>::by_name("backfill").map(|_| ()).unwrap_err().to_string();
        assert_eq!(error, "no policy is named `backfill`; there are fifo, least_service, goodput");
    }
}
