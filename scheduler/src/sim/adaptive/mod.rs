//! The simulator of a cluster of GPUs shared by elastic training jobs.
//!
//! Read in this order: [`World`] (how applications really behave: ground truth that no policy sees), [`ClusterSpec`],
//! [`Trace`], [`JobProgress`] (one job), [`simulate`] (the rounds), [`SimulationReport`]. Semantics and data are those of
//! the simulator of Sia (SOSP'23), which grew out of that of Pollux (OSDI'21); [`completion_seconds`] reproduces its runs
//! of single jobs. The policies are in [`crate::policy::adaptive`], the same objects as in production.

mod billed;
mod cluster;
mod job;
mod profile;
mod report;
mod run;
mod single;
mod statistics;
mod trace;
mod world;

pub use cluster::{ClusterSpec, ClusterSpecError};
pub use job::{JobProgress, Measured, Surroundings};
pub use profile::{StepTime, ThroughputTable};
pub use report::{JobOutcome, SimulationReport, Summary, UsePoint, at_share};
pub use run::{DecisionTimer, RunError, RunSettings, Untimed, simulate};
pub use single::{FixedRun, best_run_seconds, completion_seconds};
pub use statistics::{EfficiencyTable, EpochPoint};
pub use trace::{Trace, TraceJob, read_traces};
pub use world::{App, OnType, Table, World};
