//! Training over actors: the workload `train` of a worker process.
//!
//! ```text
//! session            obeys the control plane; starts and connects the rest          [`workload`]
//!   loader           batches ahead of time, data for other workers                  [`loader`], [`data`]
//!   trainer          gradients of the logical shards this worker carries            [`model`], [`reduction`]
//!   server           parameters, optimiser, sample ledger; one commit a step        [`state`], [`update`], [`ledger`]
//!                    … or every gradient when it comes in, within a bound           [`relaxed`]
//!     keeper         evaluation, checkpoints, the trained model
//!   collective       in place of trainer and server, under `strategy: allreduce`
//! ```
//!
//! The core ([`state`], [`relaxed`], [`reduction`], [`update`], [`optimiser`], [`ledger`], [`schedule`]) knows neither actors
//! nor wire; the result of [`state`] does not depend on how many workers carried the logical shards. Actors take messages from
//! the wire and hand them to threads; nothing is computed on a thread that serves the network. What is not here: who carries
//! what, and when that changes; the control plane decides it and says so with a membership.

#![forbid(unsafe_code)]

mod workload;

pub mod entry;

mod session;

mod job;

mod links;

mod trainer;

mod server;

mod collective;

mod replica;

pub mod loader;

mod books;

mod wide;

pub mod segment;

pub mod segments;

pub mod state;

pub mod relaxed;

pub mod reduction;

pub mod compress;

pub mod parameters;

pub mod optimiser;

pub mod update;

pub mod ledger;

pub mod finite;

pub mod schedule;

pub mod device;

pub mod model;

pub mod init;

pub mod data;

pub mod measure;

pub use entry::Entries;
pub use workload::workload;
