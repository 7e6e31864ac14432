//! `mlp`: two hidden layers with ReLU over the flattened sample.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

use super::Model;
use crate::data::SampleShape;
use crate::entry::{EntryError, Params};

/// The built-in entry `mlp`.
#[derive(Module, Debug)]
pub struct Mlp {
    layer1: Linear,
    layer2: Linear,
    layer3: Linear,
}

impl Model for Mlp {
    fn build(shape: SampleShape, classes: usize, params: &Params, device: &Device) -> Result<Self, EntryError> {
        let (hidden1, hidden2) = (params.count("hidden1")?, params.count("hidden2")?);
        Ok(Self {
            layer1: LinearConfig::new(shape.len(), hidden1).init(device),
            layer2: LinearConfig::new(hidden1, hidden2).init(device),
            layer3: LinearConfig::new(hidden2, classes).init(device),
        })
    }

    fn forward(&self, samples: Tensor<4>) -> Tensor<2> {
        let flat: Tensor<2> = samples.flatten(1, 3);
        let hidden = relu(self.layer1.forward(flat));
        let hidden = relu(self.layer2.forward(hidden));
        self.layer3.forward(hidden)
    }
}
