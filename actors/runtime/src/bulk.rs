//! Payloads of bulk transfers: slices of shared memory to send, pooled aligned buffers to receive into.
//!
//! A payload is read into its buffer in the order its packets arrive, and copied once on the way (out of the packet).
//! Floats travel in memory order; both ends must be little-endian, which every machine we rent is.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::inbound::BulkRoom;
use crate::lock;

#[cfg(target_endian = "big")]
compile_error!("bulk payloads are little-endian in memory and on the wire");

/// The largest payload of one transfer, whatever an actor's limits say.
pub const BULK_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Bytes of unused buffers that one connection keeps for the next payloads; more are freed. A fresh buffer costs a page
/// fault every 4 KiB, which is a third of the time of receiving it.
const POOL_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Unused buffers that one connection keeps.
const POOL_BUFFERS_MAX: usize = 8;

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
        assert!(range.start <= range.end && range.end <= floats.len(), "{range:?} is not within {}", floats.len());
        Self { bytes: Bytes::from_owner(Floats { floats, range }) }
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
        assert!(range.start <= range.end && range.end <= floats.len(), "{range:?} is not within {}", floats.len());
        Self { bytes: Bytes::from_owner(Floats { floats, range }) }
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }
}

impl From<Bytes> for BulkSlice {
    fn from(bytes: Bytes) -> Self {
        Self { bytes }
    }
}

struct Floats<T> {
    floats: T,
    range: Range<usize>,
}

impl AsRef<[u8]> for Floats<Arc<[f32]>> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.floats[self.range.clone()])
    }
}

impl AsRef<[u8]> for Floats<Arc<Vec<f32>>> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.floats[self.range.clone()])
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
pub struct BulkBuffer {
    /// At least as long as the payload; a pooled buffer may be longer.
    floats: Vec<f32>,
    bytes: usize,
    pool: Option<Arc<BufferPool>>,
    room: Option<BulkRoom>,
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
        self.count().map(|count| &self.floats[..count])
    }

    /// The payload as floats that may be changed in place.
    ///
    /// # Errors
    ///
    /// As [`Self::as_f32`].
    pub fn as_f32_mut(&mut self) -> Result<&mut [f32], NotFloats> {
        self.count().map(|count| &mut self.floats[..count])
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether the payload is empty.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// An empty buffer from `pool` for a payload of this length.
    pub(crate) fn take(pool: &Arc<BufferPool>, bytes: usize, room: BulkRoom) -> Self {
        Self { floats: pool.take(bytes.div_ceil(4)), bytes, pool: Some(pool.clone()), room: Some(room) }
    }

    /// The whole payload, to be filled.
    pub(crate) fn as_bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.floats)[..self.bytes]
    }

    fn count(&self) -> Result<usize, NotFloats> {
        if self.bytes.is_multiple_of(4) { Ok(self.bytes / 4) } else { Err(NotFloats { bytes: self.bytes }) }
    }
}

/// A payload that came from nowhere, for messages an actor sends itself.
impl From<Vec<f32>> for BulkBuffer {
    fn from(floats: Vec<f32>) -> Self {
        let bytes = floats.len() * 4;
        Self { floats, bytes, pool: None, room: None }
    }
}

impl fmt::Debug for BulkBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BulkBuffer({} bytes)", self.bytes)
    }
}

impl Drop for BulkBuffer {
    fn drop(&mut self) {
        // The buffer first, so that the sender's next payload finds it.
        if let Some(pool) = self.pool.take() {
            pool.put(std::mem::take(&mut self.floats));
        }
        drop(self.room.take());
    }
}

/// Buffers that one connection keeps between payloads.
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    unused: Mutex<Vec<Vec<f32>>>,
}

impl BufferPool {
    /// The smallest unused buffer that is large enough and not wastefully large, or a new one.
    fn take(&self, floats: usize) -> Vec<f32> {
        {
            let mut unused = lock(&self.unused);
            let fits = |buffer: &Vec<f32>| buffer.len() >= floats && buffer.len() / 4 <= floats;
            let best = (0..unused.len()).filter(|&at| fits(&unused[at])).min_by_key(|&at| unused[at].len());
            if let Some(at) = best {
                return unused.remove(at);
            }
        }
        vec![0.0; floats]
    }

    /// Keeps a buffer, and frees the oldest ones where that is too many.
    fn put(&self, buffer: Vec<f32>) {
        let mut unused = lock(&self.unused);
        unused.push(buffer);
        while unused.len() > POOL_BUFFERS_MAX || unused.iter().map(Vec::len).sum::<usize>() * 4 > POOL_BYTES_MAX {
            unused.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_show_the_floats_they_were_made_from() {
        let floats: Arc<Vec<f32>> = Arc::new(vec![1.0, 2.0, 3.0, 4.0]);
        let part = BulkSlice::from_vec_range(floats.clone(), 1..3);
        assert_eq!(bytemuck::cast_slice::<u8, f32>(&part.bytes()), &[2.0, 3.0]);
        assert_eq!(part.bytes().as_ptr().cast(), floats[1..].as_ptr());
        assert_eq!(BulkSlice::from_f32(Arc::from(vec![1.0f32; 3])).len(), 12);
        assert!(BulkSlice::from_vec_range(floats, 2..2).is_empty());
    }

    #[test]
    #[should_panic(expected = "is not within 4")]
    fn a_range_outside_is_refused_where_it_is_made() {
        let _ = BulkSlice::from_vec_range(Arc::new(vec![0.0; 4]), 2..5);
    }

    #[test]
    fn a_payload_that_is_no_floats_says_so() {
        let mut buffer = BulkBuffer::from(vec![1.0, 2.0]);
        assert_eq!(buffer.as_f32().unwrap(), &[1.0, 2.0]);
        buffer.bytes = 7;
        assert_eq!(buffer.as_f32(), Err(NotFloats { bytes: 7 }));
        assert_eq!(buffer.as_bytes().len(), 7);
    }

    #[test]
    fn the_pool_gives_back_what_fits_and_keeps_little() {
        let pool = BufferPool::default();
        pool.put(vec![0.0; 1000]);
        assert_eq!(pool.take(100).len(), 100, "ten times too large is a waste");
        assert_eq!(pool.take(900).len(), 1000);
        assert_eq!(pool.take(900).len(), 900);
        for _ in 0..20 {
            pool.put(vec![0.0; 10]);
        }
        assert_eq!(pool.unused.lock().unwrap().len(), POOL_BUFFERS_MAX);
        pool.put(vec![0.0; POOL_BYTES_MAX / 4 + 1]);
        assert!(pool.unused.lock().unwrap().is_empty());
    }
}
