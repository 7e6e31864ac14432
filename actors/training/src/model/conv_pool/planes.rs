//! Images with a margin of zeros, and their convolution.

use pulp::Simd;

use super::TAPS;

/// Lanes of the widest register. Rows are padded to a multiple of it, and what is summed over positions is summed in so many
/// lanes on every processor.
pub(super) const LANES: usize = 16;

/// One image's channels: row `y` and column `x` of the image are row `y + 1` and column `x + 1` here. A piece of a row, of
/// any register's width, can be read at every position of the kernel.
pub(super) struct Planes {
    pub(super) values: Vec<f32>,
    pub(super) rows: usize,
    pub(super) stride: usize,
}

impl Planes {
    pub(super) fn new(channels: usize, height: usize, width: usize) -> Self {
        let stride = width.next_multiple_of(LANES) + 2;
        let rows = height + 2;
        Self { values: vec![0.0; channels * rows * stride], rows, stride }
    }

    #[inline(always)]
    pub(super) fn plane(&self, channel: usize) -> &[f32] {
        let len = self.rows * self.stride;
        &self.values[channel * len..(channel + 1) * len]
    }

    /// Takes over an image of the size these planes were made for.
    #[inline(always)]
    pub(super) fn fill(&mut self, image: &[f32], width: usize) {
        let height = self.rows - 2;
        let planes = self.values.chunks_exact_mut(self.rows * self.stride);
        for (plane, image) in planes.zip(image.chunks_exact(height * width)) {
            let rows = plane.chunks_exact_mut(self.stride).skip(1);
            for (row, from) in rows.zip(image.chunks_exact(width)) {
                row[1..=width].copy_from_slice(from);
            }
        }
    }
}

/// Weights in blocks of `C` output channels, for [`convolve`]: block, input channel, tap, channel of the block. What the last
/// block lacks is zero. `weight` is given an output channel, an input channel and a tap.
pub(super) fn packed<const C: usize>(
    outputs: usize,
    inputs: usize,
    weight: impl Fn(usize, usize, usize) -> f32,
) -> Vec<f32> {
    let mut packed = Vec::with_capacity(outputs.next_multiple_of(C) * inputs * TAPS);
    for block in (0..outputs).step_by(C) {
        for input in 0..inputs {
            for tap in 0..TAPS {
                let of = |output| if output < outputs { weight(output, input, tap) } else { 0.0 };
                packed.extend((block..block + C).map(of));
            }
        }
    }
    packed
}

/// The values of the convolution in one register's columns of two rows, for one block of output channels.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "iterators' closures are compiled without the wide instructions")]
pub(super) fn convolve<S: Simd, const C: usize>(
    simd: S,
    planes: &Planes,
    weights: &[f32],
    row: usize,
    column: usize,
) -> [[S::f32s; C]; 2] {
    let mut sums = [[simd.splat_f32s(0.0); C]; 2];
    let stride = planes.stride;
    let inputs = planes.values.chunks_exact(planes.rows * stride);
    for (plane, taps) in inputs.zip(weights.chunks_exact(TAPS * C)) {
        let (rows, taps) = (&plane[row * stride..(row + 4) * stride], taps.as_chunks::<C>().0);
        for tap in 0..TAPS {
            let (y, x) = (tap / 3, tap % 3);
            let upper = load::<S>(rows, y * stride + column + x);
            let lower = load::<S>(rows, (y + 1) * stride + column + x);
            for channel in 0..C {
                let weight = simd.splat_f32s(taps[tap][channel]);
                sums[0][channel] = simd.mul_add_f32s(upper, weight, sums[0][channel]);
                sums[1][channel] = simd.mul_add_f32s(lower, weight, sums[1][channel]);
            }
        }
    }
    sums
}

#[inline(always)]
pub(super) fn load<S: Simd>(from: &[f32], at: usize) -> S::f32s {
    S::as_simd_f32s(&from[at..at + S::F32_LANES]).0[0]
}

#[inline(always)]
pub(super) fn store<S: Simd>(to: &mut [f32], at: usize, value: S::f32s) {
    S::as_mut_simd_f32s(&mut to[at..at + S::F32_LANES]).0[0] = value;
}
