//! `cnn`: two 3×3 convolutions with ReLU and 2×2 pooling, then two linear layers. For square images.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

use super::conv_pool::conv_pool;
use super::{Model, NoParams};
use crate::data::SampleShape;
use crate::entry::EntryError;

/// Channels after the first and the second convolution, and width of the hidden linear layer.
const CHANNELS1: usize = 16;
const CHANNELS2: usize = 32;
const HIDDEN: usize = 64;

/// Two poolings halve the side twice.
const SIDE_MIN: usize = 4;

/// The built-in entry `cnn`.
#[derive(Module, Debug)]
pub struct Cnn {
    conv1: Conv2d,
    conv2: Conv2d,
    pool: MaxPool2d,
    layer1: Linear,
    layer2: Linear,
    channels: usize,
    side: usize,
}

impl Model for Cnn {
    const NAME: &'static str = "cnn";
    type Params = NoParams;

    fn build(shape: SampleShape, outputs: usize, _: &NoParams, device: &Device) -> Result<Self, EntryError> {
        let channels = shape.channels as usize;
        let side = square_side(shape)?;
        let conv = |from, to| {
            Conv2dConfig::new([from, to], [3, 3]).with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1)).init(device)
        };
        Ok(Self {
            conv1: conv(channels, CHANNELS1),
            conv2: conv(CHANNELS1, CHANNELS2),
            pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            layer1: LinearConfig::new(CHANNELS2 * (side / 4) * (side / 4), HIDDEN).init(device),
            layer2: LinearConfig::new(HIDDEN, outputs).init(device),
            channels,
            side,
        })
    }

    fn forward(&self, samples: Tensor<4>) -> Tensor<2> {
        let [count, ..] = samples.dims();
        let images = samples.reshape([count, self.channels, self.side, self.side]);
        let hidden = conv_pool(images, &self.conv1, &self.pool);
        let hidden = conv_pool(hidden, &self.conv2, &self.pool);
        let hidden = relu(self.layer1.forward(hidden.flatten(1, 3)));
        self.layer2.forward(hidden)
    }
}

/// The side of a square image; a table's row of n² columns is one.
fn square_side(shape: SampleShape) -> Result<usize, EntryError> {
    let pixels = shape.height as usize * shape.width as usize;
    let side = pixels.isqrt();
    let is_square = shape.height == shape.width || (shape.height == 1 && side * side == pixels);
    if is_square && side >= SIDE_MIN {
        return Ok(side);
    }
    Err(EntryError::Shape {
        entry: "cnn",
        found: format!("{}×{}", shape.height, shape.width),
        wanted: "square images of at least 4×4 pixels, or table rows of n² columns",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{TargetInfo, Targets};
    use crate::model::{Batch, Layout, Network, StandardNetwork, Write};

    fn build(height: u32, width: u32) -> Result<Cnn, EntryError> {
        Cnn::build(SampleShape { height, width, channels: 1 }, 10, &NoParams {}, &Device::flex())
    }

    #[test]
    fn only_square_samples_fit() {
        assert_eq!(Layout::of(&build(28, 28).unwrap()).len(), 105_866);
        assert!(build(8, 8).is_ok() && build(1, 64).is_ok());
        let error = build(1, 60).unwrap_err().to_string();
        assert!(error.contains("1×60") && error.contains("square images"), "{error}");
        assert!(build(2, 2).is_err() && build(28, 14).is_err());
    }

    #[test]
    fn a_step_along_the_gradient_lowers_the_loss() {
        let shape = SampleShape { height: 1, width: 64, channels: 1 };
        let three = TargetInfo::Classes(["a", "b", "c"].map(str::to_owned).to_vec());
        let mut network = StandardNetwork::<Cnn>::new(shape, &three, &NoParams {}).unwrap();
        let mut parameters = network.layout().initial(2);
        let features = (0..6 * 64).map(|at| ((at * 37) % 64) as f32 / 32.0 - 1.0).collect();
        let batch = Batch { features, targets: Targets::Classes(vec![0, 1, 2, 2, 1, 0]) };
        network.load(&parameters);
        let mut gradient = vec![0.0; parameters.len()];
        let before = network.gradient(batch.clone(), 1.0 / 6.0, &mut gradient, Write::Replace);
        parameters.iter_mut().zip(&gradient).for_each(|(parameter, slope)| *parameter -= 0.1 * slope);
        network.load(&parameters);
        let after = network.score(batch).loss;
        assert!(after < before, "{after} {before}");
    }
}
