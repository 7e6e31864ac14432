//! When a node is rented, kept and given back: a node must pay for itself.
//!
//! Functions of what is known about jobs, offers and nodes; the round in [`crate::policy`] asks them. With nothing known
//! beyond prices and sizes they say what the job file says: its target of workers, the cheapest offer, idle nodes back
//! after a fixed time.
//!
//! - [`worthwhile_workers`]: how many workers a job should have (`demand`).
//! - [`cheapest`]: which offer, by the cost of an hour of useful work (`offers`); [`Launches`]: which one failed (`backoff`).
//! - [`idle`]: how long an idle node is kept (`hysteresis`).
//! - [`Pace`]: how fast a job was seen to be, and what it has left (`pace`).
//! - [`moving`]: whether a worker should change its node (`moving`).

mod backoff;
mod demand;
mod hysteresis;
mod moving;
mod offers;
mod pace;

pub use backoff::{LAUNCH_HOLD_FIRST, LAUNCH_HOLD_MAX, Launches, open_offers};
pub(crate) use demand::growth_reason;
pub use demand::{Outlook, outlook, worthwhile_workers};
pub use hysteresis::{Idle, idle};
pub use moving::{Saving, moving, saving};
pub(crate) use offers::infeasible;
pub use offers::{accepts, cheapest, node_cost, useful_price};
pub use pace::Pace;

#[cfg(test)]
mod tests;
