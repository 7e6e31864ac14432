//! From the slopes of pooled values to the slopes of all that went into them.

use pulp::{Arch, Simd, WithSimd};

use super::forward::CUT;
use super::planes::{LANES, Planes, convolve, load, packed, store};
use super::{Sizes, TAPS};

/// Images whose slopes by the weights are summed before the sums go back to memory; all of them fit into the second cache.
const GROUP: usize = 4;

/// What the slopes of the pooled values are by the layer's images, where asked for, weights and bias.
#[derive(Debug, PartialEq)]
pub(super) struct Slopes {
    pub(super) images: Option<Vec<f32>>,
    pub(super) weights: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

/// The gradient of a layer. `winners` are those of the forward pass.
pub(super) fn backward(
    sizes: Sizes,
    images: &[f32],
    weights: &[f32],
    winners: &[u8],
    slopes: &[f32],
    by_images: bool,
) -> Slopes {
    Arch::new().dispatch(Backward { sizes, images, weights, winners, slopes, by_images })
}

pub(super) struct Backward<'a> {
    pub(super) sizes: Sizes,
    pub(super) images: &'a [f32],
    pub(super) weights: &'a [f32],
    pub(super) winners: &'a [u8],
    pub(super) slopes: &'a [f32],
    pub(super) by_images: bool,
}

impl WithSimd for Backward<'_> {
    type Output = Slopes;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Slopes {
        // As many sums as there are registers for.
        if S::F32_LANES >= LANES { self.run::<S, 8, 2>(simd) } else { self.run::<S, 4, 1>(simd) }
    }
}

/// One image of a group: what went into the layer, and the slopes of the convolution's values.
struct Image {
    input: Planes,
    slopes: Planes,
}

impl Backward<'_> {
    #[inline(always)]
    fn run<S: Simd, const C: usize, const D: usize>(self, simd: S) -> Slopes {
        let Sizes { inputs, outputs, height, width } = self.sizes;
        let (per_image, pooled) = (self.sizes.image(), self.sizes.pooled());
        let padded_outputs = outputs.next_multiple_of(D);
        let mut group: Vec<Image> = (0..GROUP)
            .map(|_| Image {
                input: Planes::new(inputs, height, width),
                slopes: Planes::new(padded_outputs, height, width),
            })
            .collect();
        let turned = packed::<C>(inputs, outputs, |input, output, tap| {
            self.weights[(output * inputs + input) * TAPS + TAPS - 1 - tap]
        });
        let mut weight_lanes = vec![0.0; padded_outputs * inputs * TAPS * LANES];
        let mut bias_lanes = vec![0.0; outputs * LANES];
        let mut by_images = self.by_images.then(|| vec![0.0; self.images.len()]);
        let mut by_image = by_images.as_mut().map(|all| all.chunks_exact_mut(per_image));
        let given = self.slopes.chunks(GROUP * pooled).zip(self.winners.chunks(GROUP * pooled));
        for (images, (slopes, winners)) in self.images.chunks(GROUP * per_image).zip(given) {
            let group = &mut group[..images.len() / per_image];
            let given = slopes.chunks_exact(pooled).zip(winners.chunks_exact(pooled));
            for (image, (input, (slopes, winners))) in group.iter_mut().zip(images.chunks_exact(per_image).zip(given)) {
                image.input.fill(input, width);
                unpool(self.sizes, slopes, winners, &mut image.slopes);
            }
            by_weights::<S, D>(simd, self.sizes, group, &mut weight_lanes);
            by_bias::<S>(simd, self.sizes, group, &mut bias_lanes);
            if let Some(by_image) = &mut by_image {
                for (image, to) in group.iter().zip(by_image) {
                    by_input::<S, C>(simd, self.sizes, &image.slopes, &turned, to);
                }
            }
        }
        weight_lanes.truncate(self.sizes.weights() * LANES);
        Slopes { images: by_images, weights: sums(&weight_lanes), bias: sums(&bias_lanes) }
    }
}

/// Adds up the lanes of each sum, in a tree.
fn sums(lanes: &[f32]) -> Vec<f32> {
    let sum = |mut lanes: [f32; LANES]| {
        let mut half = LANES / 2;
        while half > 0 {
            for lane in 0..half {
                lanes[lane] += lanes[lane + half];
            }
            half /= 2;
        }
        lanes[0]
    };
    lanes.as_chunks::<LANES>().0.iter().copied().map(sum).collect()
}

/// Puts each pooled value's slope where the value came from, and zero elsewhere.
#[inline(always)]
fn unpool(sizes: Sizes, slopes: &[f32], winners: &[u8], planes: &mut Planes) {
    let (half_height, half_width) = (sizes.height / 2, sizes.width / 2);
    let stride = planes.stride;
    let places = [0, 1, stride, stride + 1, 0];
    planes.values.fill(0.0);
    let channels = slopes.chunks_exact(half_height * half_width).zip(winners.chunks_exact(half_height * half_width));
    for (plane, (slopes, winners)) in planes.values.chunks_exact_mut(planes.rows * stride).zip(channels) {
        let rows = plane[stride + 1..].chunks_mut(2 * stride);
        for (rows, (slopes, winners)) in rows.zip(slopes.chunks_exact(half_width).zip(winners.chunks_exact(half_width)))
        {
            for (at, (&slope, &winner)) in slopes.iter().zip(winners).enumerate() {
                rows[2 * at + places[usize::from(winner)]] = if winner == CUT { 0.0 } else { slope };
            }
        }
    }
}

/// Adds a group's slopes by the weights to their lanes: output, input, tap, lane.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "iterators' closures are compiled without the wide instructions")]
fn by_weights<S: Simd, const D: usize>(simd: S, sizes: Sizes, group: &[Image], lanes: &mut [f32]) {
    let per_output = sizes.inputs * TAPS * LANES;
    for output in (0..sizes.outputs).step_by(D) {
        for input in 0..sizes.inputs {
            for lane in (0..LANES).step_by(S::F32_LANES) {
                let first = output * per_output + input * TAPS * LANES + lane;
                let mut sums = [[simd.splat_f32s(0.0); TAPS]; D];
                for of in 0..D {
                    for tap in 0..TAPS {
                        sums[of][tap] = load::<S>(lanes, first + of * per_output + tap * LANES);
                    }
                }
                for image in group {
                    add_products(simd, sizes, image, (input, output, lane), &mut sums);
                }
                for of in 0..D {
                    for tap in 0..TAPS {
                        store::<S>(lanes, first + of * per_output + tap * LANES, sums[of][tap]);
                    }
                }
            }
        }
    }
}

/// Adds, over all positions of an image, the products of an input channel at each tap and the slopes of `D` output channels.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "iterators' closures are compiled without the wide instructions")]
fn add_products<S: Simd, const D: usize>(
    simd: S,
    sizes: Sizes,
    image: &Image,
    (input, output, lane): (usize, usize, usize),
    sums: &mut [[S::f32s; TAPS]; D],
) {
    let values = image.input.plane(input);
    let mut slopes = [image.slopes.plane(output); D];
    for of in 1..D {
        slopes[of] = image.slopes.plane(output + of);
    }
    let stride = image.input.stride;
    for y in 0..sizes.height {
        let rows = &values[y * stride..(y + 3) * stride];
        for column in (lane..sizes.width).step_by(LANES) {
            let mut slope = [simd.splat_f32s(0.0); D];
            for of in 0..D {
                slope[of] = load::<S>(slopes[of], (y + 1) * stride + column + 1);
            }
            for tap in 0..TAPS {
                let value = load::<S>(rows, (tap / 3) * stride + column + tap % 3);
                for of in 0..D {
                    sums[of][tap] = simd.mul_add_f32s(value, slope[of], sums[of][tap]);
                }
            }
        }
    }
}

/// Adds a group's slopes by the bias to their lanes: output, lane.
#[inline(always)]
fn by_bias<S: Simd>(simd: S, sizes: Sizes, group: &[Image], lanes: &mut [f32]) {
    for output in 0..sizes.outputs {
        for lane in (0..LANES).step_by(S::F32_LANES) {
            let mut sum = load::<S>(lanes, output * LANES + lane);
            for image in group {
                let slopes = image.slopes.plane(output);
                for row in 1..=sizes.height {
                    for column in (lane..sizes.width).step_by(LANES) {
                        sum = simd.add_f32s(sum, load::<S>(slopes, row * image.slopes.stride + column + 1));
                    }
                }
            }
            store::<S>(lanes, output * LANES + lane, sum);
        }
    }
}

/// An image's slopes: the convolution of the layer's slopes with the weights turned round.
#[inline(always)]
fn by_input<S: Simd, const C: usize>(simd: S, sizes: Sizes, slopes: &Planes, turned: &[f32], to: &mut [f32]) {
    let Sizes { inputs, outputs, height, width } = sizes;
    let mut piece = [0.0; LANES];
    for (block, weights) in turned.chunks_exact(outputs * TAPS * C).enumerate() {
        for y in (0..height).step_by(2) {
            let row = y.min(height - 2);
            for column in (0..width).step_by(S::F32_LANES) {
                let sums = convolve::<S, C>(simd, slopes, weights, row, column);
                let len = S::F32_LANES.min(width - column);
                for (below, sums) in sums.iter().enumerate() {
                    for (channel, &sum) in (block * C..inputs).zip(sums) {
                        store::<S>(&mut piece, 0, sum);
                        let at = (channel * height + row + below) * width + column;
                        to[at..at + len].copy_from_slice(&piece[..len]);
                    }
                }
            }
        }
    }
}
