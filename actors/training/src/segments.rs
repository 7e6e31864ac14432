//! How the flat buffer is cut into the segments of several parameter servers.
//!
//! Segments consist of whole chunks, and chunks depend on the length of the buffer alone. What is summed over the whole buffer,
//! the square of the gradient's norm, is a sum of one sum a chunk in the chunks' order: the same bits for any number of
//! servers.

use std::ops::Range;

/// Values of a chunk at least. Small, so that small models can be cut too.
const CHUNK_VALUES_MIN: usize = 256;

/// Chunks at most, so that one sum for each of them fits a message (64 KiB); larger models have larger chunks.
const CHUNKS_MAX: usize = 8_192;

/// Sums that are kept side by side within a chunk, so that the sum is quick; their number is part of the result's last bits.
const LANES: usize = 8;

/// The chunks of a flat buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    length: usize,
    chunk: usize,
}

impl Cut {
    /// The chunks of a buffer of `length` values.
    pub fn new(length: usize) -> Self {
        let chunk = length.div_ceil(CHUNKS_MAX).next_multiple_of(LANES).max(CHUNK_VALUES_MIN);
        Self { length, chunk }
    }

    /// Values of the whole buffer.
    pub fn length(self) -> usize {
        self.length
    }

    /// How many chunks lie in a segment.
    pub fn chunks_in(self, segment: &Range<usize>) -> usize {
        segment.len().div_ceil(self.chunk)
    }

    /// So many contiguous segments, as even as whole chunks allow; a small buffer may leave some of them empty.
    pub fn segments(self, count: usize) -> Vec<Range<usize>> {
        let chunks = self.length.div_ceil(self.chunk);
        let border = |at: usize| (chunks * at / count * self.chunk).min(self.length);
        (0..count).map(|at| border(at)..border(at + 1)).collect()
    }

    /// The sum of squares of each chunk of a segment's values, in order.
    pub fn squares(self, segment: &[f32]) -> impl Iterator<Item = f64> {
        segment.chunks(self.chunk).map(square_sum)
    }
}

fn square_sum(values: &[f32]) -> f64 {
    let mut sums = [0.0_f64; LANES];
    let (whole, rest) = values.as_chunks::<LANES>();
    for chunk in whole {
        for (sum, &value) in sums.iter_mut().zip(chunk) {
            *sum += f64::from(value) * f64::from(value);
        }
    }
    for (sum, &value) in sums.iter_mut().zip(rest) {
        *sum += f64::from(value) * f64::from(value);
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn segments_cover_the_buffer_in_whole_chunks(length in 0usize..5_000_000, count in 1usize..9) {
            let cut = Cut::new(length);
            let segments = cut.segments(count);
            prop_assert_eq!(segments.len(), count);
            prop_assert_eq!((segments[0].start, segments[count - 1].end), (0, length));
            prop_assert!(segments.windows(2).all(|pair| pair[0].end == pair[1].start));
            prop_assert!(segments.iter().all(|segment| segment.start.is_multiple_of(cut.chunk) || segment.is_empty()));
            let chunks = segments.iter().map(|segment| cut.chunks_in(segment));
            prop_assert!(chunks.clone().max().unwrap() - chunks.clone().min().unwrap() <= 1);
            prop_assert!(chunks.sum::<usize>() <= CHUNKS_MAX);
        }

        #[test]
        fn squares_are_the_same_bits_for_any_number_of_segments(
            values in prop::collection::vec(-1.0e3f32..1.0e3, 0..3_000),
            count in 1usize..6,
        ) {
            let cut = Cut::new(values.len());
            let bits = |squares: Vec<f64>| squares.into_iter().map(f64::to_bits).collect::<Vec<_>>();
            let whole = bits(cut.squares(&values).collect());
            let segments = cut.segments(count).into_iter();
            let parts = bits(segments.flat_map(|segment| cut.squares(&values[segment]).collect::<Vec<_>>()).collect());
            prop_assert_eq!(parts, whole);
        }
    }
}
