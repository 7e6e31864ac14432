//! Payloads of bulk transfers: slices of shared memory to send, pooled aligned buffers to receive into.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

/// A part of shared memory that is sent without being copied. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BulkSlice {
    bytes: Bytes,
}

impl BulkSlice {
    /// All of a shared slice of floats.
    pub fn from_f32(floats: Arc<[f32]>) -> Self {
        let range = 0..floats.len();
        Self::from_f32_range(floats, range)
    }

    /// A part of a shared slice of floats.
    ///
    /// # Panics
    ///
    /// If the range is not within the slice.
    pub fn from_f32_range(floats: Arc<[f32]>, range: Range<usize>) -> Self {
        let _ = (floats, range);
        unimplemented!()
    }

    /// All of a shared vector of floats.
    pub fn from_vec(floats: Arc<Vec<f32>>) -> Self {
        let range = 0..floats.len();
        Self::from_vec_range(floats, range)
    }

    /// A part of a shared vector of floats.
    ///
    /// # Panics
    ///
    /// If the range is not within the vector.
    pub fn from_vec_range(floats: Arc<Vec<f32>>, range: Range<usize>) -> Self {
        let _ = (floats, range);
        unimplemented!()
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl From<Bytes> for BulkSlice {
    fn from(bytes: Bytes) -> Self {
        Self { bytes }
    }
}

/// A payload that is not a whole number of floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes are not a whole number of 4-byte floats")]
pub struct NotFloats {
    /// The payload's length.
    pub bytes: usize,
}

/// A received payload, aligned for floats. Its room is given back to the sender when it is dropped.
#[derive(Debug)]
pub struct BulkBuffer {
    floats: Vec<f32>,
    bytes: usize,
}

impl BulkBuffer {
    /// The payload.
    pub fn as_bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.floats)[..self.bytes]
    }

    /// The payload as floats, without a copy.
    ///
    /// # Errors
    ///
    /// [`NotFloats`] where its length is not a multiple of four.
    pub fn as_f32(&self) -> Result<&[f32], NotFloats> {
        unimplemented!()
    }

    /// The payload as floats that may be changed in place.
    ///
    /// # Errors
    ///
    /// As [`Self::as_f32`].
    pub fn as_f32_mut(&mut self) -> Result<&mut [f32], NotFloats> {
        unimplemented!()
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether the payload is empty.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }
}

/// A payload that came from nowhere, for messages an actor sends itself.
impl From<Vec<f32>> for BulkBuffer {
    fn from(floats: Vec<f32>) -> Self {
        let bytes = floats.len() * 4;
        Self { floats, bytes }
    }
}
