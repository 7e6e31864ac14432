//! What is asked of the budgets, what happened to them, and why something was refused.

use crate::model::{MicroUsd, MicroUsdPerHour};

use super::scope::{Limit, LimitKind, Month, Scope, ScopePath};

/// Money set aside for one node, numbered by whoever asks: the id of the intent to rent. Asking twice is asking once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReservationId(pub u64);

/// A wish. Amounts are totals since the reservation began, never differences, so that a wish that arrives twice, or
/// late, changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BudgetCommand {
    /// Replaces the limits of a scope. They may be below what is spent and set aside already.
    SetLimit {
        /// Whose.
        scope: Scope,
        /// The limits from now on.
        limit: Limit,
    },
    /// Sets money aside before a node is rented.
    Reserve {
        /// The number of the reservation.
        id: ReservationId,
        /// Who pays.
        path: ScopePath,
        /// The worst case until the node can be gone: [`Exposure::worst_case`](super::Exposure::worst_case).
        granted: MicroUsd,
        /// The most it may cost an hour.
        rate: MicroUsdPerHour,
    },
    /// Sets money aside for a node that is there already, rented by somebody who no longer answers for it. Never refused:
    /// the money is as good as spent whatever the limits say.
    Adopt {
        /// The number of the reservation.
        id: ReservationId,
        /// Who pays.
        path: ScopePath,
        /// The worst case until the node can be gone.
        granted: MicroUsd,
        /// The most it may cost an hour.
        rate: MicroUsdPerHour,
    },
    /// Sets more aside before the next tick is spent.
    Extend {
        /// Which.
        id: ReservationId,
        /// What may have been spent on it in all, from its beginning until the node can be gone.
        granted: MicroUsd,
        /// The most it may cost an hour from now on.
        rate: MicroUsdPerHour,
    },
    /// Books what was spent.
    Settle {
        /// On which.
        id: ReservationId,
        /// What was spent on it in all, from its beginning.
        settled: MicroUsd,
    },
    /// Gives back what is left, once the node is certainly gone.
    Release {
        /// Which.
        id: ReservationId,
    },
}

/// What happened. The list of all events is the state: [`Budgets::replay`](super::Budgets::replay).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BudgetEvent {
    /// A scope has these limits now.
    LimitSet {
        /// Whose.
        scope: Scope,
        /// The limits.
        limit: Limit,
    },
    /// Money was set aside.
    Reserved {
        /// The number of the reservation.
        id: ReservationId,
        /// Who pays.
        path: ScopePath,
        /// How much.
        granted: MicroUsd,
        /// The most it may cost an hour.
        rate: MicroUsdPerHour,
    },
    /// More was set aside.
    Extended {
        /// Where.
        id: ReservationId,
        /// How much in all.
        granted: MicroUsd,
        /// The most it may cost an hour.
        rate: MicroUsdPerHour,
    },
    /// Money was spent.
    Settled {
        /// On what.
        id: ReservationId,
        /// How much in all.
        settled: MicroUsd,
        /// The month it counts to.
        month: Month,
    },
    /// What was left was given back.
    Released {
        /// Of which.
        id: ReservationId,
    },
    /// The share `warn_at` of a limit is spent. Happens once for a limit, and once a month for a monthly one.
    Warned {
        /// Whose.
        scope: Scope,
        /// Which limit.
        kind: LimitKind,
    },
}

/// Why money was not set aside: this limit would be broken. For a rate, all amounts are for one hour.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the budget of {scope} is {limit} {kind}: {settled} is spent, {reserved} reserved, {asked} more is needed")]
pub struct Refusal {
    /// Whose budget.
    pub scope: Scope,
    /// Which limit.
    pub kind: LimitKind,
    /// How much it is.
    pub limit: MicroUsd,
    /// What is spent of it.
    pub settled: MicroUsd,
    /// What is set aside of it.
    pub reserved: MicroUsd,
    /// What was asked for beyond that.
    pub asked: MicroUsd,
}

/// Why a wish was not granted. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BudgetError {
    /// There is not enough money. Rent less, or give nodes back.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A budget of zero pays for nothing: leave the limit out, or cancel the jobs.
    #[error("error[E021] a budget of zero for {0}")]
    ZeroLimit(Scope),
    /// The number names another reservation.
    #[error("reservation {} exists with another payer", .0.0)]
    Conflict(ReservationId),
    /// No such reservation.
    #[error("unknown reservation {}", .0.0)]
    Unknown(ReservationId),
    /// The reservation was given back, and now more was spent on it.
    #[error("reservation {} is given back, yet {settled} was spent on it", .id.0)]
    Closed {
        /// Which.
        id: ReservationId,
        /// What was spent in all.
        settled: MicroUsd,
    },
    /// More was spent than was set aside: the node outlived the time in which its deletion was promised, or cost more
    /// than its quote's ceiling. Raise an alarm; it cannot be hidden by booking it.
    #[error("{settled} was spent on reservation {}, but only {granted} was set aside", .id.0)]
    Overrun {
        /// Which.
        id: ReservationId,
        /// What was set aside in all.
        granted: MicroUsd,
        /// What was spent in all.
        settled: MicroUsd,
    },
}
