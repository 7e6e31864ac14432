//! What is trained: burn models behind small traits, and their parameters as one flat buffer.
//!
//! ```text
//! Model   a network that gives scores; the loss follows from what is to be predicted        standard::StandardNetwork
//! Entry   a network with data items, batches, loss and metrics of its own                   own::OwnNetwork
//!                                                                                             └─▶ Network
//! ```
//!
//! The parameter server, the wire and the checkpoints know only the flat buffer; [`Layout`] says what lies where in it.
//! Trainers know only [`Network`], which both kinds become.

mod cnn;
mod conv_pool;
mod export;
mod flat;
mod initial;
mod layout;
mod linear;
mod mlp;
mod own;
mod standard;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

pub use cnn::Cnn;
pub use export::to_safetensors;
pub use layout::{Layout, TensorPlace};
pub use linear::{LinearRegression, LogisticRegression};
pub use mlp::{Mlp, MlpParams};
pub use own::OwnNetwork;
pub use standard::StandardNetwork;

use crate::data::{SampleShape, Target, TargetInfo, Targets};
use crate::entry::EntryError;

/// Samples a step where neither the job nor the entry names a number.
pub const DEFAULT_BATCH: u32 = 128;

/// Hyper-parameters of an entry: a struct with the derives of serde and schemars. Job files are checked against its
/// schema, so `#[schemars(range(min = 1))]`, `#[serde(default = "…")]` and enums of words are all understood; the fields
/// must be whole numbers, numbers, words or switches.
///
/// The names of the optimiser's settings (`lr`, `momentum`, …) may be used too: the optimiser then has the same value.
pub trait Hyper: DeserializeOwned + JsonSchema + Send + Sync + 'static {}

impl<T: DeserializeOwned + JsonSchema + Send + Sync + 'static> Hyper for T {}

/// An entry without hyper-parameters of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, JsonSchema)]
pub struct NoParams {}

/// A network that gives scores. The loss and the metrics follow from what the data asks for: cross-entropy and
/// `accuracy` for classes, the squared error and `mae` (mean absolute error) for values.
pub trait Model: Module + 'static {
    /// The name in job files.
    const NAME: &'static str;
    /// Samples a step where the job names no number.
    const BATCH: u32 = DEFAULT_BATCH;
    /// Its hyper-parameters.
    type Params: Hyper;

    /// Builds the network for samples of `shape`, with so many scores a sample. Its initial values do not matter: they are
    /// drawn from the job's seed afterwards.
    ///
    /// # Errors
    ///
    /// [`EntryError`] where the samples or the parameters do not fit the model.
    fn build(shape: SampleShape, outputs: usize, params: &Self::Params, device: &Device) -> Result<Self, EntryError>;

    /// Scores, one row a sample (`[sample, output]`), from samples as `[sample, channel, row, column]`.
    fn forward(&self, samples: Tensor<4>) -> Tensor<2>;
}

/// A network with everything of its own: what a data item is, how items become a batch, the loss, the metrics.
///
/// [`Self::losses`] gives one loss a sample, and the step's gradient is that of their mean over the whole step. So the
/// result does not depend on how the step was cut into shards; a loss over several samples at once has no place here.
pub trait Entry: Module + 'static {
    /// The name in job files, for example `my_crate::Forecaster`.
    const NAME: &'static str;
    /// Samples a step where the job names no number.
    const BATCH: u32 = DEFAULT_BATCH;
    /// The names of the metrics, in the order of [`Evaluation::metrics`].
    const METRICS: &'static [&'static str] = &[];
    /// Its hyper-parameters.
    type Params: Hyper;
    /// One data item.
    type Item: Send;
    /// Items as tensors.
    type Batch;

    /// Builds the network for this data. Its initial values do not matter: they are drawn from the job's seed afterwards.
    ///
    /// # Errors
    ///
    /// [`EntryError`] where the data or the parameters do not fit.
    fn build(data: &DataShape, params: &Self::Params, device: &Device) -> Result<Self, EntryError>;

    /// Makes an item of a stored sample.
    fn item(sample: Sample<'_>) -> Self::Item;

    /// Puts items together on a device.
    fn batch(items: Vec<Self::Item>, device: &Device) -> Self::Batch;

    /// The loss of each sample of a batch, in order (`[sample]`).
    fn losses(&self, batch: &Self::Batch) -> Tensor<1>;

    /// Losses and metrics on evaluation data. Without metrics of its own an entry need not say more than [`Self::losses`].
    fn evaluate(&self, batch: &Self::Batch) -> Evaluation {
        Evaluation { losses: self.losses(batch), metrics: Vec::new() }
    }
}

/// How a network did on a batch; each tensor has one value a sample (`[sample]`), and their means are reported.
pub struct Evaluation {
    /// The losses.
    pub losses: Tensor<1>,
    /// One tensor a metric, in the order of [`Entry::METRICS`].
    pub metrics: Vec<Tensor<1>>,
}

/// What an entry has to know about the data to build its network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataShape {
    /// The shape of one sample.
    pub sample: SampleShape,
    /// What there is to predict.
    pub target: TargetInfo,
}

/// One stored sample.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// Its normalised features, row by row; the values of one pixel stand together.
    pub features: &'a [f32],
    /// Their shape.
    pub shape: SampleShape,
    /// What is to be predicted.
    pub target: Target,
}

/// Samples with their targets, ready for computing.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Normalised features, sample after sample.
    pub features: Vec<f32>,
    /// What is to be predicted of each.
    pub targets: Targets,
}

impl Batch {
    /// Adds the targets of further samples. Where there is none yet, these say whether targets are classes or values.
    pub(crate) fn append_targets(&mut self, more: Targets) {
        match (&mut self.targets, more) {
            (Targets::Classes(classes), Targets::Classes(more)) => classes.extend(more),
            (Targets::Values(values), Targets::Values(more)) => values.extend(more),
            (targets, more) => {
                debug_assert!(targets.is_empty(), "one data set has one kind of targets");
                *targets = more;
            }
        }
    }
}

/// How well a batch was predicted: sums over its samples.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Score {
    /// Of the losses.
    pub loss: f64,
    /// Of each metric, in the order of [`Network::metrics`].
    pub metrics: Vec<f64>,
}

impl Score {
    /// Adds the score of further samples.
    pub fn add(&mut self, more: &Self) {
        self.loss += more.loss;
        self.metrics.resize(more.metrics.len(), 0.0);
        self.metrics.iter_mut().zip(&more.metrics).for_each(|(sum, value)| *sum += value);
    }
}

/// What becomes of the values that a buffer already has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// They are replaced.
    Replace,
    /// The new ones are added to them, one by one.
    Add,
}

/// A model with its parameters as one flat buffer. One thread uses it at a time.
pub trait Network: Send {
    /// What lies where in the flat buffer.
    fn layout(&self) -> &Layout;

    /// The names of the metrics.
    fn metrics(&self) -> &[&'static str];

    /// Takes over parameters.
    fn load(&mut self, parameters: &[f32]);

    /// Puts the gradient of `weight × Σ loss` over the batch into `gradient`; returns the sum of the losses.
    fn gradient(&mut self, batch: Batch, weight: f32, gradient: &mut [f32], how: Write) -> f64;

    /// Predicts a batch.
    fn score(&self, batch: Batch) -> Score;
}
