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
//! For a program of yours: [`prelude`] has a model on a page, [`actors`] an actor, and `docs/guide/rust-api.md` both, with a policy.
//! [`main`] makes it a whole `neap`, [`worker_main`] something that a job brings along, [`Cluster`] brings up nodes for it.
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

/// What a program with actors of its own needs: `use neap::actors::*`, and `serde` as a dependency.
///
/// ```
/// use std::time::Duration;
///
/// use neap::actors::{Actor, Context, Fault, Never, Program, Spawn};
///
/// /// Greets, and counts how often.
/// struct Greeter {
///     greeted: u64,
/// }
///
/// impl Actor for Greeter {
///     const NAME: &'static str = "greeter";
///     type Args = ();
///     type Cast = Never;
///     type Request = String;
///     type Reply = String;
///     type Item = Never;
///
///     async fn start((): (), context: &mut Context) -> Result<Self, Fault> {
///         Ok(Self { greeted: context.restored().await?.unwrap_or_default() })
///     }
///
///     async fn call(&mut self, name: String, context: &mut Context) -> Result<String, Fault> {
///         self.greeted += 1;
///         context.save(&self.greeted).await?;
///         Ok(format!("Good morning, {name}. You are number {}.", self.greeted))
///     }
/// }
///
/// /// What the job file says under `actors.params`.
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Params {
///     name: String,
/// }
///
/// /// The main function: its answer is the job's.
/// async fn greet(context: Context, params: Params) -> Result<String, Fault> {
///     let greeter = context.spawn::<Greeter>(Spawn::named("greeter"), &()).await?;
///     Ok(greeter.call(&params.name, Duration::from_secs(10)).await?)
/// }
///
/// fn main() -> Result<(), Fault> {
///     let program = Program::default().actor::<Greeter>().main("greet", greet);
///     // Started as a worker of a job, the program ends here.
///     neap::worker_main(program.clone());
///     // Without a cluster, as in a test:
///     let runtime = tokio::runtime::Runtime::new()?;
///     let answer: String = runtime.block_on(program.run_alone("greet", Params { name: "Ada".to_owned() }))?;
///     assert_eq!(answer, "Good morning, Ada. You are number 1.");
///     Ok(())
/// }
/// ```
///
/// Built, it is an artifact: with `kind: actors` and `actors: {artifact: target/release/my_crate, main: greet, params: {name: Ada}}` in a job
/// file, any `neap run` brings it along.
pub mod actors {
    #[doc(inline)]
    pub use neap_runtime::system::*;
}

pub use neap_agent as agent;
pub use neap_control as control;
pub use neap_runtime as runtime;
pub use neap_scheduler as scheduler;
pub use neap_storage as storage;
pub use neap_training as training;

/// The guide's code is compiled, and run where it can be.
#[cfg(doctest)]
#[doc = include_str!("../docs/guide/rust-api.md")]
mod guide {}
