//! Gradients in fewer bytes, with error feedback: what one step's message leaves out is added to the next one's (Seide et
//! al. 2014; Karimireddy et al. 2019). So nothing is lost for good, it only comes later.
//!
//! - [`Compression::Bf16`]: the upper half of every value, rounded to the nearest; a half of the bytes.
//! - [`Compression::TopK`]: the values that are largest without their sign, with their places (Aji and Heafield 2017; Lin et
//!   al. 2018); `2 · share` of the bytes.
//!
//! A codec over words of 4 bytes, as the rest of a payload; it knows neither actors nor wire. What was left out so far is
//! kept a node of the reduction tree and segment, and forgotten with the membership: another worker's part is another gradient.

use std::collections::BTreeMap;

use neap_scheduler::elastic::TreeNode;

/// How gradients are made smaller on their way to a parameter server in another process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Compression {
    /// The upper half of every value.
    Bf16,
    /// The largest values.
    TopK {
        /// Which share of them, above 0 and up to 1.
        share: f64,
    },
}

/// Words that are not the code of a gradient of the expected length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{words} words are no compressed gradient of {length} values")]
pub struct CodeError {
    /// How many words.
    words: usize,
    /// The expected length.
    length: usize,
}

impl Compression {
    /// How many words the code of a gradient of `length` values has.
    pub fn words(self, length: usize) -> usize {
        match self {
            Self::Bf16 => length.div_ceil(2),
            Self::TopK { share } => 2 * kept(share, length),
        }
    }

    /// Writes the code of `values` into `code`, and leaves in `values` what it does not say.
    fn encode(self, values: &mut [f32], code: &mut Vec<f32>) {
        code.clear();
        match self {
            Self::Bf16 => {
                for pair in values.chunks_mut(2) {
                    let mut word = 0;
                    for (value, shift) in pair.iter_mut().zip([0, 16]) {
                        let half = to_bf16(*value);
                        leave(value, from_bf16(half));
                        word |= u32::from(half) << shift;
                    }
                    code.push(f32::from_bits(word));
                }
            }
            Self::TopK { share } => {
                let places = largest(values, kept(share, values.len()));
                code.extend(places.iter().map(|&place| f32::from_bits(place)));
                code.extend(places.iter().map(|&place| std::mem::take(&mut values[place as usize])));
            }
        }
    }

    /// The gradient of `length` values that `code` stands for, into `values`.
    ///
    /// # Errors
    ///
    /// [`CodeError`] where it is no such code.
    pub fn decode(self, code: &[f32], length: usize, values: &mut Vec<f32>) -> Result<(), CodeError> {
        let fault = CodeError { words: code.len(), length };
        if code.len() != self.words(length) {
            return Err(fault);
        }
        values.clear();
        match self {
            Self::Bf16 => {
                let halves = code.iter().map(|word| word.to_bits()).flat_map(|word| [word as u16, (word >> 16) as u16]);
                values.extend(halves.map(from_bf16).take(length));
            }
            Self::TopK { .. } => {
                values.resize(length, 0.0);
                let (places, kept) = code.split_at(code.len() / 2);
                for (place, &value) in places.iter().zip(kept) {
                    *values.get_mut(place.to_bits() as usize).ok_or(fault)? = value;
                }
            }
        }
        Ok(())
    }
}

/// Which values a code is of: a node of the reduction tree, and where in the flat buffer they begin.
pub type CodeOf = (TreeNode, usize);

/// What was left out so far.
#[derive(Debug, Default)]
pub struct Residuals(BTreeMap<CodeOf, Vec<f32>>);

impl Residuals {
    /// The code of a gradient and of what was left out of those before, into `code`.
    pub fn encode(&mut self, compression: Compression, of: CodeOf, gradient: &[f32], code: &mut Vec<f32>) {
        let rest = self.0.entry(of).or_default();
        rest.resize(gradient.len(), 0.0);
        rest.iter_mut().zip(gradient).for_each(|(rest, value)| *rest += value);
        compression.encode(rest, code);
    }
}

/// How many values are sent: at least one, where there is any.
fn kept(share: f64, length: usize) -> usize {
    ((length as f64 * share).ceil() as usize).clamp(length.min(1), length)
}

/// The places of the `count` values that are largest without their sign, in order. Of equal ones the first; one that is no
/// number counts as the largest, so that it is seen.
fn largest(values: &[f32], count: usize) -> Vec<u32> {
    let mut places: Vec<u32> = (0..values.len() as u32).collect();
    if count < places.len() && count > 0 {
        let size = |place: u32| values[place as usize].abs();
        places.select_nth_unstable_by(count - 1, |&one, &other| {
            size(other).total_cmp(&size(one)).then_with(|| one.cmp(&other))
        });
    }
    places.truncate(count);
    places.sort_unstable();
    places
}

/// Takes what was sent off a value. What is not finite is sent once and not kept.
fn leave(value: &mut f32, sent: f32) {
    *value = if sent.is_finite() { *value - sent } else { 0.0 };
}

/// The upper half of a value, rounded to the nearest, half-way cases to the even one.
fn to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        // The lower half may be all that tells it from an infinity.
        return (bits >> 16) as u16 | 0x40;
    }
    let rounded = (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16;
    // The largest values would become infinities.
    if value.is_finite() && !from_bf16(rounded).is_finite() { (bits >> 16) as u16 } else { rounded }
}

fn from_bf16(half: u16) -> f32 {
    f32::from_bits(u32::from(half) << 16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OF: CodeOf = (TreeNode { level: 0, index: 3 }, 0);

    fn codecs() -> impl Strategy<Value = Compression> {
        prop_oneof![Just(Compression::Bf16), (0.001f64..=1.0).prop_map(|share| Compression::TopK { share })]
    }

    fn coded(compression: Compression, residuals: &mut Residuals, gradient: &[f32]) -> Vec<f32> {
        let (mut code, mut values) = (Vec::new(), vec![7.0]);
        residuals.encode(compression, OF, gradient, &mut code);
        assert_eq!(code.len(), compression.words(gradient.len()));
        compression.decode(&code, gradient.len(), &mut values).unwrap();
        values
    }

    proptest! {
        #[test]
        fn what_is_sent_and_what_is_left_are_the_gradient(
            compression in codecs(),
            // Whole numbers of 16 bits: sums and differences of a few are exact.
            steps in prop::collection::vec(prop::collection::vec(-32_768i32..32_768, 9), 1..6),
        ) {
            let (mut residuals, mut sent, mut wanted) = (Residuals::default(), [0.0f32; 9], [0.0f32; 9]);
            for step in &steps {
                let gradient: Vec<f32> = step.iter().map(|&value| value as f32).collect();
                let values = coded(compression, &mut residuals, &gradient);
                for at in 0..9 {
                    sent[at] += values[at];
                    wanted[at] += gradient[at];
                }
                let left = &residuals.0[&OF];
                prop_assert!((0..9).all(|at| sent[at] + left[at] == wanted[at]), "{sent:?} {left:?} {wanted:?}");
            }
        }

        #[test]
        fn bf16_is_the_nearest_and_its_own_round_trip(value in any::<f32>(), half in any::<u16>()) {
            let back = to_bf16(from_bf16(half));
            prop_assert!(back == half || from_bf16(half).is_nan() && from_bf16(back).is_nan());
            let rounded = from_bf16(to_bf16(value));
            if value.is_nan() {
                prop_assert!(rounded.is_nan());
            } else {
                let bits = value.to_bits() & 0xffff_0000;
                let (below, above) = (f32::from_bits(bits), f32::from_bits(bits.wrapping_add(0x1_0000)));
                let distance = |other: f32| (f64::from(value) - f64::from(other)).abs();
                prop_assert!(rounded == below || rounded == above);
                prop_assert_eq!(rounded.is_finite(), value.is_finite());
                prop_assert!(!above.is_finite() || distance(rounded) == distance(below).min(distance(above)));
            }
        }

        #[test]
        fn the_largest_values_are_sent(values in prop::collection::vec(-100i32..100, 1..60), share in 0.001f64..=1.0) {
            let gradient: Vec<f32> = values.iter().map(|&value| value as f32).collect();
            let sent = coded(Compression::TopK { share }, &mut Residuals::default(), &gradient);
            let places = largest(&gradient, kept(share, gradient.len()));
            prop_assert_eq!(places.len(), (gradient.len() as f64 * share).ceil() as usize);
            let is_sent = |at: usize| places.contains(&(at as u32));
            let least = places.iter().map(|&place| gradient[place as usize].abs()).fold(f32::INFINITY, f32::min);
            for (at, &value) in gradient.iter().enumerate() {
                prop_assert_eq!(sent[at], if is_sent(at) { value } else { 0.0 });
                prop_assert!(is_sent(at) || value.abs() <= least);
            }
        }

        #[test]
        fn no_words_make_the_decoder_panic(
            compression in codecs(), code in prop::collection::vec(any::<u32>(), 0..12), length in 0usize..12,
        ) {
            let code: Vec<f32> = code.into_iter().map(f32::from_bits).collect();
            let mut values = Vec::new();
            match compression.decode(&code, length, &mut values) {
                Ok(()) => prop_assert_eq!(values.len(), length),
                Err(error) => prop_assert_eq!((error.words, error.length), (code.len(), length)),
            }
        }
    }

    #[test]
    fn what_is_no_number_is_sent_and_not_kept() {
        let gradient = [1.0, f32::NAN, 2.0, f32::INFINITY];
        for compression in [Compression::Bf16, Compression::TopK { share: 0.5 }] {
            let mut residuals = Residuals::default();
            let sent = coded(compression, &mut residuals, &gradient);
            assert!(sent[1].is_nan() && sent[3] == f32::INFINITY, "{sent:?}");
            assert!(residuals.0[&OF].iter().all(|value| value.is_finite()));
        }
    }

    #[test]
    fn nothing_is_coded_as_nothing() {
        for compression in [Compression::Bf16, Compression::TopK { share: 0.5 }] {
            assert_eq!(coded(compression, &mut Residuals::default(), &[]), [] as [f32; 0]);
            assert_eq!(coded(compression, &mut Residuals::default(), &[3.0]), [3.0]);
        }
    }
}
