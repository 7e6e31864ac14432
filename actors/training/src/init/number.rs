//! Numbers of a file as the f32 that everything here computes with.
//!
//! F16 and BF16 are exact: every one of them is an f32. F64 is rounded to the nearest f32, ties to the even one; one that is
//! too large for any is refused.

use half::{bf16, f16};

/// How a number is stored, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    F32,
    F16,
    Bf16,
    F64,
}

/// The numbers; what is wrong with one, and where.
pub(super) fn to_f32(kind: Kind, bytes: &[u8]) -> Result<Vec<f32>, String> {
    Ok(match kind {
        Kind::F32 => numbers(bytes, f32::from_le_bytes),
        Kind::F16 => numbers(bytes, |bytes| f16::from_le_bytes(bytes).to_f32()),
        Kind::Bf16 => numbers(bytes, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        Kind::F64 => {
            let wide = numbers(bytes, f64::from_le_bytes);
            if let Some(at) = wide.iter().position(|&value| value.is_finite() && !(value as f32).is_finite()) {
                return Err(format!("has {} at position {at}, which is too large for F32", wide[at]));
            }
            wide.into_iter().map(|value| value as f32).collect()
        }
    })
}

fn numbers<T, const BYTES: usize>(bytes: &[u8], number: impl Fn([u8; BYTES]) -> T) -> Vec<T> {
    bytes.as_chunks::<BYTES>().0.iter().map(|&bytes| number(bytes)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn narrow_numbers_are_exact() {
        let halves: Vec<u8> =
            [0x3c00u16, 0xc000, 0x0001, 0x7bff, 0x8000].iter().flat_map(|bits| bits.to_le_bytes()).collect();
        assert_eq!(to_f32(Kind::F16, &halves).unwrap(), [1.0, -2.0, 5.960_464_5e-8, 65_504.0, -0.0]);
        let bits = [0x3f80u16, 0xc000, 0x0001, 0x7f7f].map(u16::to_le_bytes).concat();
        let wanted = [1.0, -2.0, f32::from_bits(0x1_0000), f32::from_bits(0x7f7f_0000)];
        assert_eq!(to_f32(Kind::Bf16, &bits).unwrap(), wanted);
    }

    #[test]
    fn one_that_is_too_large_is_named() {
        let bytes = [0.5f64, -1e39].map(f64::to_le_bytes).concat();
        let error = to_f32(Kind::F64, &bytes).unwrap_err();
        assert!(error.ends_with("at position 1, which is too large for F32"), "{error}");
        let infinite = f64::INFINITY.to_le_bytes();
        assert_eq!(to_f32(Kind::F64, &infinite).unwrap(), [f32::INFINITY], "the caller names what is no number");
    }

    proptest! {
        #[test]
        fn every_f32_survives_as_f64(bits in any::<u32>()) {
            let value = f32::from_bits(bits);
            let wide = to_f32(Kind::F64, &f64::from(value).to_le_bytes()).unwrap()[0];
            prop_assert!(wide == value || (wide.is_nan() && value.is_nan()));
            prop_assert_eq!(to_f32(Kind::F32, &bits.to_le_bytes()).unwrap()[0].to_bits(), bits);
        }

        #[test]
        fn wide_numbers_go_to_the_nearest(value in -1e38f64..1e38) {
            let narrow = to_f32(Kind::F64, &value.to_le_bytes()).unwrap()[0];
            let distance = |other: f32| (f64::from(other) - value).abs();
            prop_assert!(distance(narrow) <= distance(narrow.next_up()) && distance(narrow) <= distance(narrow.next_down()));
        }
    }
}
