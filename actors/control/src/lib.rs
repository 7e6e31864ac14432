//! The control plane: what the cluster is, what was promised, what happens next.
//!
//! ```text
//! ControlPlane                      opens the home folder, wires everything, owns shutdown
//!  ├─ Controller (actor)            the only writer: event → records → journal → state → reconcile
//!  │    ├─ ClusterState             everything the journal says, rebuilt from it at start
//!  │    ├─ neap_scheduler::decide   what to do next, and why
//!  │    └─ NodeProvider             rents nodes; here: `neap agent` processes of this machine
//!  ├─ Node (QUIC)                   agents call the actor `control`; we call their actor `agent`
//!  └─ JoinServer                    a node's first contact, with a one-time token
//! ```
//!
//! After a crash the journal is replayed, agents that are still there register again, and only then is anything decided.
//! Nothing here runs on the path of a training step.

#![forbid(unsafe_code)]

mod handle;

pub mod views;

mod controller;

mod state;

mod show;

mod outlook;

mod provider;

mod store;

mod artifacts;

mod rounds;

mod settings;

mod home;

mod plane;

mod clock;

pub use controller::{RESTART, spec_hash};
pub use handle::ARTIFACTS_BYTES_MAX;
pub use handle::{BudgetChange, ControlError, ControlHandle, JobFile, Stop, Submission, Which};
pub use home::Home;
pub use plane::{ControlPlane, StartError};
pub use settings::{Config, ConfigError, LocalConfig, LocalOffer, PreemptionConfig, Settings};
