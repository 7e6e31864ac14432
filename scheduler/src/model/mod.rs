//! The vocabulary every crate shares: ids, units of measure, and the states of jobs and nodes.

mod content;
mod ids;
mod location;
mod node;
mod states;
mod units;

pub use content::{ContentHash, ContentHashParseError};
pub use ids::{Generation, IdParseError, JobId, MembershipEpoch, NodeId, WorkerId};
pub use location::{Location, REMOTE_SCHEMES, RemoteObjects, RemoteUri, UriError};
pub use node::{GpuNeed, Gpus, Market, MarketChoice, NodeSize, Offer, OfferTerms};
pub use states::{CancelReason, FailReason, IllegalTransition, JobState, NodeState, PendingReason, RecoverReason};
pub use units::{CpuMillis, GpuCount, MemoryMib, MicroUsd, MicroUsdPerHour, Millis, MoneyParseError};
