//! Neap: elastic compute for machine learning. This package is the shell around the other crates: the command line, the
//! HTTP API and the wiring of the long-running roles, and the one place from which a program of yours gets all of Neap.
//!
//! ```text
//! neap up ──▶ neap control   HTTP API (http) + control plane (neap_control)
//! neap run ─▶   ▲  │
//!     (cli) ────┘  └─▶ neap agent (neap_agent) ──▶ neap worker (neap_runtime::workload + neap_training)
//! ```
//!
//! Nothing here decides anything about jobs, nodes or money; that is the pure core's work (`scheduler`).
//!
//! Read in this order: [`cli`] (what there is to type), [`home`] (where things lie), [`http`] (the API).

#![forbid(unsafe_code)]

pub mod cli;

pub mod home;

pub mod http;

mod chain;

mod snapshots;

pub use neap_agent as agent;
pub use neap_control as control;
pub use neap_runtime as runtime;
pub use neap_scheduler as scheduler;
pub use neap_storage as storage;
pub use neap_training as training;
