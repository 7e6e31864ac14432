//! What a node may cost at worst before it can be gone: the amount that a reservation holds.
//!
//! The rule that keeps budgets, by induction over the ticks of a node's life. Before each tick, at `t`, the reservation
//! is extended to what is spent so far plus the ceiling of the newest quote over `tick + delete_within`. If that is
//! granted, one tick is spent, and what is left still covers `delete_within`. If it is refused, the node is given back
//! at `t`; the reservation made a tick ago still covers `delete_within` from `t` on, at the ceiling of that quote. So a
//! quote's ceiling must hold for `tick + delete_within` after it is taken, and a reservation is never too small.

use crate::model::{MicroUsd, MicroUsdPerHour, Millis};

/// How money can be lost to one node at worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exposure {
    /// The most that an hour may cost while the newest quote holds.
    pub ceiling: MicroUsdPerHour,
    /// How long it is until the reservation is looked at again.
    pub tick: Millis,
    /// From the wish to give the node back until it certainly costs nothing: the slowest delete, with its retries, or
    /// the dead-man time where the provider may not answer at all.
    pub delete_within: Millis,
}

impl Exposure {
    /// What may be spent from now on, if the node is kept for one tick and then given back.
    ///
    /// Rounded up, because the bill of a stretch is a difference of two amounts that are rounded down.
    pub fn worst_case(self) -> MicroUsd {
        self.ceiling.cost_of(self.tick + self.delete_within) + MicroUsd::new(1)
    }
}
