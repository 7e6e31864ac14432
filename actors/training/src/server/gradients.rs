//! Gradients from the wire: a payload cut into its parts, refused where it does not add up.

use neap_runtime::BulkBuffer;
use neap_runtime::wire::training::GradientHeader;
use neap_scheduler::elastic::TreeNode;
use neap_scheduler::model::WorkerId;

use crate::compress::{CodeError, Compression};
use crate::links::Gradients;
use crate::reduction::{Buffers, Floats, Part};

/// A payload that is not what its header says.
#[derive(Debug, thiserror::Error)]
#[error("a payload of {bytes} bytes for {parts} gradients and {samples} sample ids")]
pub(super) struct PayloadError {
    bytes: usize,
    parts: usize,
    samples: usize,
}

/// Cuts a payload into its parts. The only part of a payload stays where it was received; several are copied.
pub(super) fn received(
    header: GradientHeader,
    payload: BulkBuffer,
    worker: WorkerId,
) -> Result<Gradients, PayloadError> {
    let parts = header.parts.len();
    let samples = header.parts.iter().map(|part| part.samples as usize).fold(0usize, usize::saturating_add);
    let fault = PayloadError { bytes: payload.len(), parts, samples };
    let Ok(floats) = payload.as_f32() else { return Err(fault) };
    let Some(length) = floats.len().checked_sub(samples).filter(|values| parts > 0 && values.is_multiple_of(parts))
    else {
        return Err(fault);
    };
    let length = length / parts;
    let ids: Vec<u32> = floats[length * parts..].iter().map(|id| id.to_bits()).collect();
    let mut ids = ids.as_slice();
    let mut cut = Vec::with_capacity(parts);
    for (at, part) in header.parts.into_iter().enumerate() {
        let (own, rest) = ids.split_at(part.samples as usize);
        ids = rest;
        let node = TreeNode { level: part.level, index: part.index };
        cut.push((node, floats[..].get(at * length..(at + 1) * length), part.shard_losses, own.to_vec()));
    }
    let several = |(node, values, losses, samples): (TreeNode, Option<&[f32]>, Vec<f64>, Vec<u32>)| {
        let gradient: Box<dyn Floats> = Box::new(values.unwrap_or_default().to_vec());
        (node, Part { gradient, losses, samples })
    };
    let parts = match <[_; 1]>::try_from(cut) {
        Ok([(node, _, losses, samples)]) => {
            let gradient: Box<dyn Floats> = Box::new(Received { buffer: payload, length });
            vec![(node, Part { gradient, losses, samples })]
        }
        Err(cut) => cut.into_iter().map(several).collect(),
    };
    Ok(Gradients { membership: header.membership, worker, step: header.step, parts })
}

/// Gradients that came in a code, as they were meant.
pub(super) fn decoded(
    coded: Gradients,
    compression: Compression,
    length: usize,
    buffers: &Buffers,
) -> Result<Gradients, CodeError> {
    let decode = |(node, part): (TreeNode, Part<Box<dyn Floats>>)| {
        let mut values = buffers.take(length);
        compression.decode(part.gradient.values(), length, &mut values)?;
        Ok((node, Part { gradient: Box::new(values) as Box<dyn Floats>, losses: part.losses, samples: part.samples }))
    };
    let parts = coded.parts.into_iter().map(decode).collect::<Result<_, _>>()?;
    Ok(Gradients { parts, ..coded })
}

/// A gradient in the buffer it was received into.
struct Received {
    buffer: BulkBuffer,
    length: usize,
}

impl Floats for Received {
    fn values(&self) -> &[f32] {
        &self.buffer.as_f32().expect("checked when it was received")[..self.length]
    }

    fn values_mut(&mut self) -> &mut [f32] {
        &mut self.buffer.as_f32_mut().expect("checked when it was received")[..self.length]
    }

    fn into_vec(self: Box<Self>) -> Option<Vec<f32>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use neap_runtime::wire::training::GradientPart;
    use neap_scheduler::model::MembershipEpoch;

    use super::*;

    fn header(samples: &[u32]) -> GradientHeader {
        let part = |(index, &samples): (usize, &u32)| GradientPart {
            level: 0,
            index: index as u32,
            shard_losses: vec![index as f64],
            samples,
        };
        GradientHeader {
            membership: MembershipEpoch(1),
            step: 3,
            parts: samples.iter().enumerate().map(part).collect(),
        }
    }

    fn cut(samples: &[u32], floats: &[f32]) -> Option<Vec<(Vec<f32>, Vec<u32>)>> {
        let gradients = received(header(samples), floats.to_vec().into(), WorkerId::new(1)).ok()?;
        let parts = gradients.parts.into_iter();
        Some(parts.map(|(_, part)| (part.gradient.values().to_vec(), part.samples)).collect())
    }

    #[test]
    fn a_payload_is_cut_into_its_parts() {
        let id = f32::from_bits;
        assert_eq!(cut(&[1], &[1.0, 2.0, id(7)]), Some(vec![(vec![1.0, 2.0], vec![7])]));
        let two = vec![(vec![1.0], vec![7, 8]), (vec![2.0], vec![])];
        assert_eq!(cut(&[2, 0], &[1.0, 2.0, id(7), id(8)]), Some(two));
    }

    #[test]
    fn a_payload_that_does_not_add_up_is_refused() {
        assert!(cut(&[], &[1.0]).is_none());
        assert!(cut(&[3], &[1.0, 2.0]).is_none());
        assert!(cut(&[0, 0], &[1.0, 2.0, 3.0]).is_none());
        assert!(cut(&[u32::MAX, u32::MAX], &[1.0]).is_none());
    }
}
