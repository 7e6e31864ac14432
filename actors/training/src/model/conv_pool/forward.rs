//! From images to pooled values.

use pulp::{Arch, Simd, WithSimd};

use super::planes::{LANES, Planes, convolve, packed, store};
use super::{Sizes, TAPS};

/// A pooled value that the ReLU cut off. The other winners are 0 to 3: upper left, upper right, lower left, lower right.
pub(super) const CUT: u8 = 4;

/// The pooled values of a batch, and where each one came from.
#[derive(Debug, PartialEq)]
pub(super) struct Pooled {
    pub(super) values: Vec<f32>,
    pub(super) winners: Vec<u8>,
}

/// Convolution, bias, maximum and ReLU of a batch of images.
pub(super) fn forward(sizes: Sizes, images: &[f32], weights: &[f32], bias: &[f32]) -> Pooled {
    Arch::new().dispatch(Forward { sizes, images, weights, bias })
}

pub(super) struct Forward<'a> {
    pub(super) sizes: Sizes,
    pub(super) images: &'a [f32],
    pub(super) weights: &'a [f32],
    pub(super) bias: &'a [f32],
}

impl WithSimd for Forward<'_> {
    type Output = Pooled;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Pooled {
        // As many sums as there are registers for.
        if S::F32_LANES >= LANES { self.run::<S, 8>(simd) } else { self.run::<S, 4>(simd) }
    }
}

impl Forward<'_> {
    #[inline(always)]
    fn run<S: Simd, const C: usize>(self, simd: S) -> Pooled {
        let Sizes { inputs, outputs, height, width } = self.sizes;
        let per_image = self.sizes.pooled();
        let count = self.images.len() / self.sizes.image();
        let mut pooled = Pooled { values: vec![0.0; count * per_image], winners: vec![CUT; count * per_image] };
        let weights =
            packed::<C>(outputs, inputs, |output, input, tap| self.weights[(output * inputs + input) * TAPS + tap]);
        let mut planes = Planes::new(inputs, height, width);
        let mut rows = Rows { values: vec![0.0; 2 * C * width.next_multiple_of(LANES)], channels: C };
        let results = pooled.values.chunks_exact_mut(per_image).zip(pooled.winners.chunks_exact_mut(per_image));
        for (image, (values, winners)) in self.images.chunks_exact(self.sizes.image()).zip(results) {
            planes.fill(image, width);
            for (block, weights) in weights.chunks_exact(inputs * TAPS * C).enumerate() {
                for y in 0..height / 2 {
                    for column in (0..width).step_by(S::F32_LANES) {
                        rows.set(column, convolve::<S, C>(simd, &planes, weights, 2 * y, column), simd);
                    }
                    rows.pool(self.sizes, block * C, y, self.bias, values, winners);
                }
            }
        }
        pooled
    }
}

/// Two rows of the convolution of some output channels.
struct Rows {
    values: Vec<f32>,
    channels: usize,
}

impl Rows {
    #[inline(always)]
    fn set<S: Simd, const C: usize>(&mut self, column: usize, [upper, lower]: [[S::f32s; C]; 2], _: S) {
        let padded = self.values.len() / (2 * C);
        for channel in 0..C {
            store::<S>(&mut self.values, 2 * channel * padded + column, upper[channel]);
            store::<S>(&mut self.values, (2 * channel + 1) * padded + column, lower[channel]);
        }
    }

    /// Writes row `y` of the pooled channels from `first` on.
    #[inline(always)]
    fn pool(&self, sizes: Sizes, first: usize, y: usize, bias: &[f32], values: &mut [f32], winners: &mut [u8]) {
        let (half_height, half_width) = (sizes.height / 2, sizes.width / 2);
        let padded = self.values.len() / (2 * self.channels);
        for ((channel, &bias), rows) in bias.iter().enumerate().skip(first).zip(self.values.chunks_exact(2 * padded)) {
            let at = (channel * half_height + y) * half_width;
            let (upper, lower) = rows.split_at(padded);
            let (values, winners) = (&mut values[at..at + half_width], &mut winners[at..at + half_width]);
            pool(upper, lower, bias, values, winners);
        }
    }
}

/// The first of the greatest in each square of two by two, with the bias, where that is above zero. What is not a number stays so.
#[inline(always)]
fn pool(upper: &[f32], lower: &[f32], bias: f32, values: &mut [f32], winners: &mut [u8]) {
    let squares = upper.as_chunks::<2>().0.iter().zip(lower.as_chunks::<2>().0);
    for ((&[a, b], &[c, d]), (value, winner)) in squares.zip(values.iter_mut().zip(winners)) {
        let (first, which_first) = if b > a { (b, 1) } else { (a, 0) };
        let (second, which_second) = if d > c { (d, 3) } else { (c, 2) };
        let (best, which) = if second > first { (second, which_second) } else { (first, which_first) };
        let best = best + bias;
        (*value, *winner) = if best <= 0.0 { (0.0, CUT) } else { (best, which) };
    }
}
