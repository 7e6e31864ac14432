use burn::nn::PaddingConfig2d;
use burn::nn::conv::Conv2dConfig;
use burn::nn::pool::MaxPool2dConfig;
use burn::tensor::Device;
use proptest::prelude::*;
use pulp::{Arch, Scalar, WithSimd};

use super::backward::Backward;
use super::forward::Forward;
use super::*;

/// A layer with images, weights, bias and slopes that follow from `seed`.
#[derive(Debug)]
struct Case {
    sizes: Sizes,
    images: Vec<f32>,
    weights: Vec<f32>,
    bias: Vec<f32>,
    slopes: Vec<f32>,
}

impl Case {
    fn new(count: usize, inputs: usize, outputs: usize, height: usize, width: usize, seed: u32) -> Self {
        let sizes = Sizes { inputs, outputs, height, width };
        let mut state = seed;
        let mut values = |len: usize| -> Vec<f32> {
            let next = |_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            };
            (0..len).map(next).collect()
        };
        Self {
            sizes,
            images: values(count * sizes.image()),
            weights: values(sizes.weights()),
            bias: values(outputs),
            slopes: values(count * sizes.pooled()),
        }
    }

    fn forward(&self) -> Forward<'_> {
        Forward { sizes: self.sizes, images: &self.images, weights: &self.weights, bias: &self.bias }
    }

    fn backward<'a>(&'a self, winners: &'a [u8]) -> Backward<'a> {
        let Self { sizes, images, weights, slopes, .. } = self;
        Backward { sizes: *sizes, images, weights, winners, slopes, by_images: true }
    }
}

fn cases() -> impl Strategy<Value = Case> {
    (1..7usize, 1..6usize, 1..20usize, 2..36usize, 2..36usize, any::<u32>()).prop_map(
        |(count, inputs, outputs, height, width, seed)| Case::new(count, inputs, outputs, height, width, seed),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_width_of_the_registers_changes_no_bit(case in cases()) {
        let wide = Arch::new().dispatch(case.forward());
        prop_assert_eq!(&case.forward().with_simd(Scalar::new()), &wide);
        let slopes = Arch::new().dispatch(case.backward(&wide.winners));
        prop_assert_eq!(case.backward(&wide.winners).with_simd(Scalar::new()), slopes);
    }

    #[test]
    fn values_and_slopes_are_those_of_burns_own_layers(case in cases()) {
        let Case { sizes, .. } = case;
        let count = case.images.len() / sizes.image();
        let device = Device::flex().autodiff();
        let tensor = |values: &[f32], shape: [usize; 4]| Tensor::<4>::from_data(TensorData::new(values.to_vec(), shape), &device);
        let mut conv = Conv2dConfig::new([sizes.inputs, sizes.outputs], [3, 3])
            .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
            .init(&device);
        conv.weight = conv.weight.map(|_| tensor(&case.weights, [sizes.outputs, sizes.inputs, 3, 3]).require_grad());
        conv.bias = conv.bias.map(|bias| {
            bias.map(|_| Tensor::from_data(TensorData::new(case.bias.clone(), [sizes.outputs]), &device).require_grad())
        });
        let pool = MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init();
        let slopes = tensor(&case.slopes, [count, sizes.outputs, sizes.height / 2, sizes.width / 2]);
        let results = [true, false].map(|ours| {
            let images = tensor(&case.images, [count, sizes.inputs, sizes.height, sizes.width]).require_grad();
            let pooled = match ours {
                true => conv_pool(images.clone(), &conv, &pool),
                false => pool.forward(relu(conv.forward(images.clone()))),
            };
            let gradients = (pooled.clone() * slopes.clone()).sum().backward();
            let bias = conv.bias.as_ref().unwrap().val();
            [
                pooled.inner().into_data(),
                images.grad(&gradients).unwrap().into_data(),
                conv.weight.val().grad(&gradients).unwrap().into_data(),
                bias.grad(&gradients).unwrap().into_data(),
            ]
        });
        let [ours, theirs] = &results;
        for (what, (ours, theirs)) in ["values", "by images", "by weights", "by bias"].iter().zip(ours.iter().zip(theirs)) {
            prop_assert_eq!(ours.shape(), theirs.shape());
            for (ours, theirs) in ours.as_slice::<f32>().unwrap().iter().zip(theirs.as_slice::<f32>().unwrap()) {
                prop_assert!((ours - theirs).abs() <= 2e-4 * (1.0 + theirs.abs()), "{}: {} {}", what, ours, theirs);
            }
        }
    }
}

#[test]
fn what_is_not_a_number_is_not_lost() {
    for (row, column) in [(0, 0), (4, 4), (2, 3), (1, 4)] {
        let mut case = Case::new(1, 1, 2, 5, 5, 7);
        case.images[row * 5 + column] = f32::NAN;
        let pooled = Arch::new().dispatch(case.forward());
        assert!(pooled.values.iter().any(|value| value.is_nan()) || row.max(column) == 4, "{row} {column}");
    }
}
