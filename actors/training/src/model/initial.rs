//! Initial parameters: a function of the layout and the seed, of nothing else.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::{Layout, TensorPlace};

/// Which stream of the job's seed the initial parameters come from; sample orders use the streams of the epochs.
const STREAM: u64 = u64::MAX;

impl Layout {
    /// Uniform in `±1/√fan_in` (He et al. 2015 with gain 1/√3, the usual choice for linear and convolution layers); a
    /// bias has the fan-in of the weight before it.
    pub fn initial(&self, seed: u64) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(STREAM);
        let mut values = Vec::with_capacity(self.len());
        let mut fan_in = 1;
        for place in self.places() {
            fan_in = fan_in_of(place).unwrap_or(fan_in);
            let bound = 1.0 / (fan_in as f32).sqrt();
            values.extend((0..place.len()).map(|_| uniform(&mut rng, bound)));
        }
        values
    }
}

/// How many values flow into one output: the rows of a matrix `[in, out]`, all but the outputs of a convolution
/// `[out, in, height, width]`. Nothing for a bias.
fn fan_in_of(place: &TensorPlace) -> Option<usize> {
    match place.shape[..] {
        [] | [_] => None,
        [inputs, _] => Some(inputs.max(1)),
        [_, ref kernel @ ..] => Some(kernel.iter().product::<usize>().max(1)),
    }
}

/// 24 random bits: every value a float can tell apart in `0..1`.
fn uniform(rng: &mut ChaCha8Rng, bound: f32) -> f32 {
    let unit = (rng.next_u32() >> 8) as f32 / (1u32 << 24) as f32;
    (2.0 * unit - 1.0) * bound
}

#[cfg(test)]
mod tests {
    use burn::nn::LinearConfig;
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn the_seed_decides_and_the_bound_holds() {
        let layout = Layout::of(&LinearConfig::new(16, 4).init(&Device::flex()));
        assert_eq!(layout.len(), 16 * 4 + 4);
        let values = layout.initial(7);
        assert_eq!(values, layout.initial(7));
        assert_ne!(values, layout.initial(8));
        assert!(values.iter().all(|value| value.abs() <= 0.25));
        assert!(values.iter().any(|value| value.abs() > 0.2));
    }
}
