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
//! Read in this order: [`program`] (a program of your own), [`cli`] (what there is to type), [`home`] (where things lie),
//! [`http`] (the API).

#![forbid(unsafe_code)]

mod program;

mod cluster;

mod artifact;

#[cfg(feature = "wgpu")]
mod adapters;

pub mod cli;

pub mod home;

pub mod http;

mod chain;

mod snapshots;

pub use cluster::{Cluster, ClusterError};
pub use program::{Program, main, worker_main};

pub use neap_training::Entries;

/// What a program with a model of its own needs: `use neap::prelude::*`, and `burn`, `serde` and `schemars` as dependencies.
///
/// ```no_run
/// use burn::module::Module;
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{Device, Tensor};
/// use neap::prelude::*;
///
/// /// What a job file may say under `train.params`.
/// #[derive(serde::Deserialize, schemars::JsonSchema)]
/// struct Size {
///     /// Width of the hidden layer.
///     #[schemars(range(min = 1, max = 4096))]
///     #[serde(default = "usual")]
///     hidden: usize,
/// }
///
/// fn usual() -> usize {
///     64
/// }
///
/// /// Two layers. The loss and the metrics follow from the data; an [`Entry`] has its own.
/// #[derive(Module, Debug)]
/// struct Small {
///     hidden: Linear,
///     scores: Linear,
/// }
///
/// impl Model for Small {
///     const NAME: &'static str = "my_crate::Small";
///     type Params = Size;
///
///     fn build(sample: SampleShape, outputs: usize, size: &Size, device: &Device) -> Result<Self, EntryError> {
///         Ok(Self {
///             hidden: LinearConfig::new(sample.len(), size.hidden).init(device),
///             scores: LinearConfig::new(size.hidden, outputs).init(device),
///         })
///     }
///
///     fn forward(&self, samples: Tensor<4>) -> Tensor<2> {
///         self.scores.forward(burn::tensor::activation::relu(self.hidden.forward(samples.flatten::<2>(1, 3))))
///     }
/// }
///
/// fn main() -> std::process::ExitCode {
///     neap::main(Entries::builtin().with_model::<Small>())
/// }
/// ```
///
/// Built, it is a `neap` that trains `my_crate::Small` too. It is also an artifact: with `train: {artifact: target/release/my_crate,
/// entry: my_crate::Small, epochs: 5}` in a job file, any `neap run` brings it along.
pub mod prelude {
    pub use neap_training::Entries;
    pub use neap_training::data::{SampleShape, Target, TargetInfo};
    pub use neap_training::entry::EntryError;
    pub use neap_training::model::{DataShape, Entry, Evaluation, Model, NoParams, Sample};
}

pub use neap_agent as agent;
pub use neap_control as control;
pub use neap_runtime as runtime;
pub use neap_scheduler as scheduler;
pub use neap_storage as storage;
pub use neap_training as training;
