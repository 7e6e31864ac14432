//! The exchange of parameters without a barrier after every step: `consistency: ssp` and `async`.
//!
//! The unit that has a clock is the logical shard, not the worker: a shard goes through the job's steps in order, with the
//! samples that the job's order gives it, whoever carries it. A worker's gradient is applied when it comes in, and moves the
//! clocks of the shards it was computed for. A shard begins a step only while it is at most `staleness` steps ahead of the
//! slowest one (stale synchronous parallel: Ho et al., *More Effective Distributed ML via a Stale Synchronous Parallel
//! Parameter Server*, NIPS 2013), so the parameters it computes with hold every gradient of every earlier step but the last
//! `staleness`. `async` has no bound but that of memory.
//!
//! What a shard has computed and the server has not applied is done again by whoever carries the shard next, so a sample
//! counts once an epoch here too. Order and rounding depend on who was faster: the result is not bit-identical.
//!
//! [`Clocks`] says who may do what; [`RelaxedState`] is the training state around it. See `docs/adr/0015-bounded-staleness.md`.

mod clocks;
mod state;

pub use clocks::{Clocks, EPOCHS_AHEAD_MAX, Next, Order};
pub use state::RelaxedState;
