//! One layer in one pass: 3×3 convolution with padding 1, bias, maximum over squares of 2×2, ReLU.
//!
//! burn's CPU backend unrolls images into matrices, writes every intermediate result to memory and walks over it again; for the
//! small images of the built-in models that is most of the work. Here a register holds a piece of an image's row, sums stay in
//! registers until they are pooled, and the backward pass visits only what was pooled. Other backends run burn's own operations.
//!
//! Every sum has one order, whatever the width of the processor's registers: results are the same bits on all processors.
//!
//! ```text
//! planes    images with a margin of zeros; the convolution of a piece of two rows
//! forward   images → pooled values, and which of four values each one was
//! backward  slopes of pooled values → slopes of images, weights and bias
//! ```

mod backward;
mod forward;
mod planes;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, DispatchDevice, Flex, TensorMetadata, backend_extension};
use burn::nn::conv::Conv2d;
use burn::nn::pool::MaxPool2d;
use burn::tensor::activation::relu;
use burn::tensor::{Shape, Tensor, TensorData};
use burn_flex::FlexTensor;

use backward::{Slopes, backward};
use forward::{Pooled, forward};

/// Positions of the kernel.
const TAPS: usize = 9;

/// Channels of the input and the output, and the size of the images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sizes {
    inputs: usize,
    outputs: usize,
    height: usize,
    width: usize,
}

impl Sizes {
    fn of(images: &FlexTensor, weights: &FlexTensor) -> Self {
        let ([_, inputs, height, width], [outputs, ..]) = (images.shape().dims(), weights.shape().dims::<4>());
        Self { inputs, outputs, height, width }
    }

    /// Values of one image.
    fn image(self) -> usize {
        self.inputs * self.height * self.width
    }

    /// Pooled values of one image.
    fn pooled(self) -> usize {
        self.outputs * (self.height / 2) * (self.width / 2)
    }

    fn weights(self) -> usize {
        self.outputs * self.inputs * TAPS
    }
}

/// `pool(relu(conv(images)))` for a 3×3 convolution with padding 1 and a pool of 2×2.
///
/// Shapes: `[count, inputs, height, width]` → `[count, outputs, height / 2, width / 2]`.
pub(super) fn conv_pool(images: Tensor<4>, conv: &Conv2d, pool: &MaxPool2d) -> Tensor<4> {
    let on_cpu = matches!(images.device().inner().as_dispatch(), DispatchDevice::Flex(_));
    match (&conv.bias, on_cpu) {
        (Some(bias), true) => {
            let (weights, bias) = (conv.weight.val().into_dispatch(), bias.val().into_dispatch());
            Tensor::from_dispatch(<Dispatch as ConvPool>::conv_pool(images.into_dispatch(), weights, bias))
        }
        _ => pool.forward(relu(conv.forward(images))),
    }
}

#[backend_extension(Flex, Autodiff)]
trait ConvPool: Backend {
    fn conv_pool(images: FloatTensor<Self>, weights: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl ConvPool for Flex {
    fn conv_pool(images: FlexTensor, weights: FlexTensor, bias: FlexTensor) -> FlexTensor {
        pooled(&images.to_contiguous(), &weights.to_contiguous(), &bias.to_contiguous()).0
    }
}

impl<C: CheckpointStrategy> ConvPool for Autodiff<Flex, C> {
    fn conv_pool(images: FloatTensor<Self>, weights: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        let (images, images_node) = images.into_parts();
        let (weights, weights_node) = weights.into_parts();
        let (bias, bias_node) = bias.into_parts();
        let (images, weights) = (images.to_contiguous(), weights.to_contiguous());
        let (pooled, winners) = pooled(&images, &weights, &bias.to_contiguous());
        match ConvPoolStep.prepare::<C>([images_node, weights_node, bias_node]).compute_bound().stateful() {
            OpsKind::Tracked(step) => step.finish(Inputs { images, weights, winners: winners.into() }, pooled),
            OpsKind::UnTracked(step) => step.finish(pooled),
        }
    }
}

/// What the backward pass needs of the forward pass.
#[derive(Debug, Clone)]
struct Inputs {
    images: FlexTensor,
    weights: FlexTensor,
    winners: Arc<[u8]>,
}

#[derive(Debug)]
struct ConvPoolStep;

impl Backward<Flex, 3> for ConvPoolStep {
    type State = Inputs;

    fn backward(self, ops: Ops<Inputs, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let slopes = gradients.consume::<Flex>(&ops.node).to_contiguous();
        let Inputs { images, weights, winners } = ops.state;
        let sizes = Sizes::of(&images, &weights);
        let [by_images, by_weights, by_bias] = ops.parents;
        let of = backward(sizes, values(&images), values(&weights), &winners, values(&slopes), by_images.is_some());
        let Slopes { images: image_slopes, weights: weight_slopes, bias: bias_slopes } = of;
        if let (Some(node), Some(slopes)) = (by_images, image_slopes) {
            gradients.register::<Flex>(node.id, tensor(slopes, images.shape()));
        }
        if let Some(node) = by_weights {
            gradients.register::<Flex>(node.id, tensor(weight_slopes, weights.shape()));
        }
        if let Some(node) = by_bias {
            gradients.register::<Flex>(node.id, tensor(bias_slopes, Shape::new([sizes.outputs])));
        }
    }
}

fn pooled(images: &FlexTensor, weights: &FlexTensor, bias: &FlexTensor) -> (FlexTensor, Vec<u8>) {
    let sizes = Sizes::of(images, weights);
    let Pooled { values: pooled, winners } = forward(sizes, values(images), values(weights), values(bias));
    let [count, ..] = images.shape().dims::<4>();
    (tensor(pooled, Shape::new([count, sizes.outputs, sizes.height / 2, sizes.width / 2])), winners)
}

fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("contiguous floats of 32 bits: the models of this crate have no others")
}

fn tensor(values: Vec<f32>, shape: Shape) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}
