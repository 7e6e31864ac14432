//! What is trained: burn models behind one small trait, and their parameters as one flat buffer.
//!
//! The parameter server, the wire and the checkpoints know only the flat buffer; [`Layout`] says what lies where in it.
//! A model of one's own implements [`Model`]; [`network::BurnNetwork`] turns it into the [`Network`] that trainers use.

mod cnn;
mod export;
mod initial;
mod layout;
mod mlp;
mod network;

use burn::module::Module;
use burn::tensor::{Device, Tensor};

pub use cnn::Cnn;
pub use export::to_safetensors;
pub use layout::{Layout, TensorPlace};
pub use mlp::Mlp;
pub use network::BurnNetwork;

use crate::data::SampleShape;
use crate::entry::{EntryError, Params};

/// A model that classifies samples.
pub trait Model: Module + 'static {
    /// Builds the model for samples of `shape` and a number of classes. Its initial values do not matter: they are
    /// drawn from the job's seed afterwards.
    ///
    /// # Errors
    ///
    /// [`EntryError`] where the samples or the parameters do not fit the model.
    fn build(shape: SampleShape, classes: usize, params: &Params, device: &Device) -> Result<Self, EntryError>;

    /// Scores for each class, one row a sample, from samples as `[sample, channel, row, column]`.
    fn forward(&self, samples: Tensor<4>) -> Tensor<2>;
}

/// Samples with their classes, ready for computing.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Normalised features, sample after sample.
    pub features: Vec<f32>,
    /// The class of each sample.
    pub classes: Vec<u16>,
}

/// How well a batch was classified.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Score {
    /// Sum of the losses.
    pub loss: f64,
    /// How many samples were given their class.
    pub correct: u64,
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

    /// Takes over parameters.
    fn load(&mut self, parameters: &[f32]);

    /// Puts the gradient of `weight × Σ loss` over the batch into `gradient`; returns the sum of the losses.
    fn gradient(&mut self, batch: Batch, weight: f32, gradient: &mut [f32], how: Write) -> f64;

    /// Classifies a batch.
    fn score(&self, batch: Batch) -> Score;
}
