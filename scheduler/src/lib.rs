//! The pure core of Neap: what to run where, what to rent, what it costs, and why.
//!
//! Nothing in this crate reads a clock, opens a file or a socket, starts a thread or draws from global randomness;
//! `clippy.toml` beside this crate bans them. Time and random generators come in as arguments, so that production,
//! `explain`, the simulator and the tests run the same code.
//!
//! Read in this order: [`model`] (ids, units, states), [`codes`] (of faults), [`spec`] (job files), [`elastic`] (logical shards, sample order,
//! reduction tree), [`pricing`] (the ledger's arithmetic), [`policy`] (`decide`), [`autoscale`] (when a node pays for
//! itself), [`explain`] (why, and what would change it), [`replay`] (a round written down and decided again), [`sim`] (the
//! same policies over a virtual clock), [`estimate`] (what a job will cost before it runs).

#![forbid(unsafe_code)]

pub mod model;

pub mod codes;

pub mod spec;

pub mod elastic;

pub mod pricing;

pub mod autoscale;

pub mod policy;

pub mod explain;

pub mod replay;

pub mod sim;

pub mod estimate;
