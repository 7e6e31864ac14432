//! `mlp`: two hidden layers with ReLU over the flattened sample.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

use schemars::JsonSchema;
use serde::Deserialize;

use super::Model;
use crate::data::SampleShape;
use crate::entry::EntryError;

/// The hyper-parameters of `mlp`. Wider layers than these bounds allow are a typing error.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MlpParams {
    /// Width of the first hidden layer.
    #[schemars(range(min = 1, max = 65_536))]
    pub hidden1: usize,
    /// Width of the second hidden layer.
    #[schemars(range(min = 1, max = 65_536))]
    pub hidden2: usize,
}

impl Default for MlpParams {
    fn default() -> Self {
        Self { hidden1: 256, hidden2: 128 }
    }
}

/// The built-in entry `mlp`.
#[derive(Module, Debug)]
pub struct Mlp {
    layer1: Linear,
    layer2: Linear,
    layer3: Linear,
}

impl Model for Mlp {
    const NAME: &'static str = "mlp";
    type Params = MlpParams;

    fn build(shape: SampleShape, outputs: usize, params: &MlpParams, device: &Device) -> Result<Self, EntryError> {
        let &MlpParams { hidden1, hidden2 } = params;
        Ok(Self {
            layer1: LinearConfig::new(shape.len(), hidden1).init(device),
            layer2: LinearConfig::new(hidden1, hidden2).init(device),
            layer3: LinearConfig::new(hidden2, outputs).init(device),
        })
    }

    fn forward(&self, samples: Tensor<4>) -> Tensor<2> {
        let flat: Tensor<2> = samples.flatten(1, 3);
        let hidden = relu(self.layer1.forward(flat));
        let hidden = relu(self.layer2.forward(hidden));
        self.layer3.forward(hidden)
    }
}
