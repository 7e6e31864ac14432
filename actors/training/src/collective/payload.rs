//! Payloads of the exchange: floats, then the ids and losses that come along. What arrives is cut back, and refused where
//! it does not add up.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use neap_runtime::wire::collective::{CollectiveContent, SlicePart};
use neap_runtime::{BulkBuffer, BulkSlice};
use neap_scheduler::elastic::TreeNode;
use neap_scheduler::model::WorkerId;

use crate::reduction::{Floats, Part};

/// Words of a loss: an `f64` in a payload of 4-byte words.
const LOSS_WORDS: usize = 2;

/// What is to be sent to one worker. Cheap to clone: values are shared.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    /// The receiver.
    pub(crate) to: WorkerId,
    /// What it is.
    pub(crate) content: CollectiveContent,
    /// The floats, piece after piece.
    pub(crate) pieces: Vec<Piece>,
    /// What comes after them.
    pub(crate) tail: Tail,
}

/// A part of a shared vector of floats.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    /// The vector.
    pub(crate) values: Arc<Vec<f32>>,
    /// Which of it.
    pub(crate) range: Range<usize>,
}

impl Piece {
    /// All of a vector.
    pub(crate) fn whole(values: Arc<Vec<f32>>) -> Self {
        let range = 0..values.len();
        Self { values, range }
    }

    /// The values, for the transport; they are not copied.
    pub(crate) fn slice(&self) -> BulkSlice {
        BulkSlice::from_vec_range(self.values.clone(), self.range.clone())
    }
}

/// Ids of samples and losses of shards.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Tail {
    /// The samples used.
    pub(crate) samples: Vec<u32>,
    /// The losses of the logical shards.
    pub(crate) losses: Vec<f64>,
}

impl Tail {
    fn words(&self) -> impl Iterator<Item = u32> {
        let losses = self.losses.iter().map(|loss| loss.to_bits()).flat_map(|bits| [bits as u32, (bits >> 32) as u32]);
        self.samples.iter().copied().chain(losses)
    }

    /// The words, for the transport.
    pub(crate) fn slice(&self) -> BulkSlice {
        let bytes: Vec<u8> = self.words().flat_map(u32::to_le_bytes).collect();
        Bytes::from(bytes).into()
    }

    /// Reads `samples` ids and `losses` losses from exactly these words.
    fn read(words: &[f32], samples: usize, losses: usize) -> Self {
        let (ids, bits) = words.split_at(samples);
        let loss = |pair: &[f32]| f64::from_bits(u64::from(pair[0].to_bits()) | u64::from(pair[1].to_bits()) << 32);
        let tail = Self {
            samples: ids.iter().map(|id| id.to_bits()).collect(),
            losses: bits.chunks_exact(LOSS_WORDS).map(loss).collect(),
        };
        debug_assert_eq!(tail.losses.len(), losses);
        tail
    }

    /// The part of the next `samples` ids and `losses` losses.
    fn take(&mut self, samples: usize, losses: usize) -> Self {
        let rest = Self { samples: self.samples.split_off(samples), losses: self.losses.split_off(losses) };
        std::mem::replace(self, rest)
    }
}

impl Outgoing {
    /// The payload, for the transport; floats are not copied.
    pub(crate) fn payload(&self) -> Vec<BulkSlice> {
        self.pieces.iter().map(Piece::slice).chain([self.tail.slice()]).collect()
    }
}

/// A payload that is not what its header says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a payload of {bytes} bytes for {values} values, {samples} sample ids and {losses} losses")]
pub(crate) struct PayloadError {
    bytes: usize,
    values: usize,
    samples: usize,
    losses: usize,
}

/// Where the floats of a payload end; `Err` where the payload has another length than that.
fn split(payload: &BulkBuffer, values: usize, samples: usize, losses: usize) -> Result<Tail, PayloadError> {
    let fault = || PayloadError { bytes: payload.len(), values, samples, losses };
    let words = payload.as_f32().map_err(|_| fault())?;
    let wanted = losses.checked_mul(LOSS_WORDS).and_then(|words| words.checked_add(samples)?.checked_add(values));
    match wanted == Some(words.len()) {
        true => Ok(Tail::read(&words[values..], samples, losses)),
        false => Err(fault()),
    }
}

/// Sums of gradients by the node of the reduction tree that they belong to, cut to one segment.
pub(crate) type Slices = Vec<(TreeNode, Part<Box<dyn Floats>>)>;

/// Slices of `length` values each, one a part. A slice that is alone stays where it was received; several are copied.
pub(crate) fn cut_slices(parts: &[SlicePart], payload: BulkBuffer, length: usize) -> Result<Slices, PayloadError> {
    let count = |of: fn(&SlicePart) -> u32| parts.iter().map(|part| of(part) as usize).sum::<usize>();
    let (samples, losses) = (count(|part| part.samples), count(|part| part.losses));
    let values = parts.len().saturating_mul(length);
    let mut tail = split(&payload, values, samples, losses)?;
    let gradients: Vec<Box<dyn Floats>> = match parts {
        [_] => vec![Box::new(Received { buffer: payload, length })],
        _ => {
            let values = floats(&payload);
            (0..parts.len()).map(|at| Box::new(values[at * length..(at + 1) * length].to_vec()) as Box<_>).collect()
        }
    };
    let part = |(part, gradient): (&SlicePart, _)| {
        let Tail { samples, losses } = tail.take(part.samples as usize, part.losses as usize);
        (TreeNode { level: part.level, index: part.index }, Part { gradient, losses, samples })
    };
    Ok(parts.iter().zip(gradients).map(part).collect())
}

/// What came along with a segment of `length` values, which stay where they are: see [`floats`].
pub(crate) fn cut_segment(
    payload: &BulkBuffer,
    length: usize,
    samples: u32,
    losses: u32,
) -> Result<Tail, PayloadError> {
    split(payload, length, samples as usize, losses as usize)
}

/// The words of a payload that was looked at before.
pub(crate) fn floats(payload: &BulkBuffer) -> &[f32] {
    payload.as_f32().expect("checked when it was received")
}

/// A slice in the buffer it was received into.
struct Received {
    buffer: BulkBuffer,
    length: usize,
}

impl Floats for Received {
    fn values(&self) -> &[f32] {
        &floats(&self.buffer)[..self.length]
    }

    fn values_mut(&mut self) -> &mut [f32] {
        &mut self.buffer.as_f32_mut().expect("checked when it was received")[..self.length]
    }

    fn into_vec(self: Box<Self>) -> Option<Vec<f32>> {
        None
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The payload as it arrives at the other side.
    pub(in crate::collective) fn carried(outgoing: &Outgoing) -> BulkBuffer {
        let pieces = outgoing.pieces.iter().flat_map(|piece| piece.values[piece.range.clone()].iter().copied());
        pieces.chain(outgoing.tail.words().map(f32::from_bits)).collect::<Vec<f32>>().into()
    }

    fn outgoing(slices: &[Vec<f32>], tail: Tail) -> Outgoing {
        Outgoing {
            to: WorkerId::new(1),
            content: CollectiveContent::Sum { step: 0 },
            pieces: slices.iter().map(|slice| Piece::whole(Arc::new(slice.clone()))).collect(),
            tail,
        }
    }

    proptest! {
        #[test]
        fn what_is_packed_is_cut_back(
            parts in prop::collection::vec((prop::collection::vec(any::<u32>(), 0..4), prop::collection::vec(any::<u64>(), 0..4)), 0..5),
            length in 0usize..6,
            forged in prop::option::of(0usize..3),
        ) {
            let slice = |at: usize| (0..length).map(|value| (at * 10 + value) as f32).collect::<Vec<_>>();
            let slices: Vec<_> = (0..parts.len()).map(slice).collect();
            let losses = |bits: &[u64]| bits.iter().map(|&bits| f64::from_bits(bits)).collect::<Vec<_>>();
            let tail = Tail {
                samples: parts.iter().flat_map(|(samples, _)| samples.clone()).collect(),
                losses: parts.iter().flat_map(|(_, bits)| losses(bits)).collect(),
            };
            let mut announced: Vec<_> = parts
                .iter()
                .zip(0..)
                .map(|((samples, losses), index)| SlicePart {
                    level: 0,
                    index,
                    samples: samples.len() as u32,
                    losses: losses.len() as u32,
                })
                .collect();
            let payload = carried(&outgoing(&slices, tail));
            if let (Some(forged), Some(first)) = (forged, announced.first_mut()) {
                match forged {
                    0 => first.samples += 1,
                    1 => first.losses = u32::MAX,
                    _ => first.samples = u32::MAX,
                }
                prop_assert!(cut_slices(&announced, payload, length).is_err());
                return Ok(());
            }
            let cut = cut_slices(&announced, payload, length).unwrap();
            prop_assert_eq!(cut.len(), parts.len());
            for (at, (node, part)) in cut.into_iter().enumerate() {
                prop_assert_eq!(node.index as usize, at);
                prop_assert_eq!(part.gradient.values(), &slices[at][..]);
                prop_assert_eq!(&part.samples, &parts[at].0);
                // As bits: a loss may be no number.
                let bits: Vec<u64> = part.losses.iter().map(|loss| loss.to_bits()).collect();
                prop_assert_eq!(&bits, &parts[at].1);
            }
        }
    }

    #[test]
    fn a_segment_of_another_length_is_refused() {
        let payload = carried(&outgoing(&[vec![1.0, 2.0]], Tail { samples: vec![7], losses: vec![0.5] }));
        assert_eq!(cut_segment(&payload, 2, 1, 1), Ok(Tail { samples: vec![7], losses: vec![0.5] }));
        assert!(cut_segment(&payload, 3, 1, 1).is_err());
        assert!(cut_segment(&payload, 2, 1, 0).is_err());
    }
}
