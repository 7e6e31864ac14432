//! Models that only this bench trains, registered as any program registers its own.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use neap_training::Entries;
use neap_training::data::SampleShape;
use neap_training::entry::EntryError;
use neap_training::model::{Model, NoParams};
use schemars::JsonSchema;
use serde::Deserialize;

/// All that this bench trains.
pub(crate) fn entries() -> Entries {
    Entries::builtin().with_model::<OneHiddenLayer>().with_model::<PushPull>()
}

/// 784-h-10 with ReLU: what `benches/peers/ray_rounds.py` trains.
#[derive(Module, Debug)]
pub(crate) struct OneHiddenLayer {
    layer1: Linear,
    layer2: Linear,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub(crate) struct HiddenParams {
    /// Width of the hidden layer.
    #[schemars(range(min = 1, max = 65_536))]
    pub(crate) hidden: usize,
}

impl Model for OneHiddenLayer {
    const NAME: &'static str = "one_hidden_layer";
    type Params = HiddenParams;

    fn build(shape: SampleShape, outputs: usize, params: &HiddenParams, device: &Device) -> Result<Self, EntryError> {
        Ok(Self {
            layer1: LinearConfig::new(shape.len(), params.hidden).init(device),
            layer2: LinearConfig::new(params.hidden, outputs).init(device),
        })
    }

    fn forward(&self, samples: Tensor<4>) -> Tensor<2> {
        let flat: Tensor<2> = samples.flatten(1, 3);
        self.layer2.forward(relu(self.layer1.forward(flat)))
    }
}

/// Five million parameters of which the loss depends on few: all of them travel, and the gradient costs next to nothing.
#[derive(Module, Debug)]
pub(crate) struct PushPull {
    used: Linear,
    cargo: Linear,
}

/// Outputs of the layer that only travels.
const CARGO: usize = 6_360;

impl PushPull {
    /// Bytes of all parameters, and of a gradient.
    pub(crate) const BYTES: usize = 4 * ((784 + 1) * (CARGO + 10));
}

impl Model for PushPull {
    const NAME: &'static str = "push_pull";
    type Params = NoParams;

    fn build(shape: SampleShape, outputs: usize, _: &NoParams, device: &Device) -> Result<Self, EntryError> {
        Ok(Self {
            used: LinearConfig::new(shape.len(), outputs).init(device),
            cargo: LinearConfig::new(shape.len(), CARGO).init(device),
        })
    }

    fn forward(&self, samples: Tensor<4>) -> Tensor<2> {
        self.used.forward(samples.flatten(1, 3))
    }
}
