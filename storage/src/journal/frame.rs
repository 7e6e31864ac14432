//! The bytes of the journal: a header, then frames. All integers are little-endian.
//!
//! ```text
//! header  magic 8 | version u16 | reserved u16 | created_ms u64 | crc32c u32 of the 20 bytes before it
//! frame   len u32 | crc32c u32 | seq u64 | version u16 | at_ms u64 | append_first u64 | append_last u64 | prev 32
//!         | payload
//! ```
//!
//! `len` counts the payload. The checksum covers everything in the frame but itself. `prev` is the blake3 of the whole
//! frame before, or of the header. `append_first` and `append_last` name the records that were written by the same
//! append: a damaged frame that a later append follows had been acknowledged, one that only its own append follows had
//! not.

use neap_scheduler::model::Millis;

use super::{ChainHash, Seq};

/// The most bytes one payload may have. A job file is at most 64 KiB, and nothing larger belongs here.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// The newest format this code reads, and the one it writes.
pub(super) const VERSION: u16 = 1;
pub(super) const HEADER_BYTES: usize = 24;
pub(super) const FRAME_BYTES: usize = 74;
const MAGIC: &[u8; 8] = b"NEAPJRNL";
const CHECKED_FROM: usize = 8;

/// A new journal's header. Its time makes two journals differ in every hash.
pub(super) fn header(created: Millis) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&[0; 2]);
    bytes.extend_from_slice(&created.get().to_le_bytes());
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// Why bytes are not what this code wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// They are not whole, with the reason.
    Broken(&'static str),
    /// They are whole and of a newer format.
    TooNew(u16),
}

/// Checks the header at the start of `bytes` and returns its hash, which the first frame goes on from.
pub(super) fn check_header(bytes: &[u8]) -> Result<ChainHash, Fault> {
    let bytes = bytes.get(..HEADER_BYTES).ok_or(Fault::Broken("the header is cut short"))?;
    if &bytes[..8] != MAGIC {
        return Err(Fault::Broken("it does not start with the mark of a neap journal"));
    }
    let (body, crc) = bytes.split_at(HEADER_BYTES - 4);
    if crc32c::crc32c(body).to_le_bytes() != crc {
        return Err(Fault::Broken("the checksum of the header does not match"));
    }
    match u16::from_le_bytes(array(&bytes[8..])) {
        VERSION => Ok(ChainHash(*blake3::hash(bytes).as_bytes())),
        newer => Err(Fault::TooNew(newer)),
    }
}

/// One record as it lies in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) seq: Seq,
    /// First and last record of the append that wrote this one.
    pub(super) append: (Seq, Seq),
    pub(super) at: Millis,
    pub(super) prev: ChainHash,
    pub(super) payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Adds the frame to `bytes` and returns its hash.
    pub(super) fn encode_into(&self, bytes: &mut Vec<u8>) -> ChainHash {
        let start = bytes.len();
        bytes.extend_from_slice(&(self.payload.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.seq.0.to_le_bytes());
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.at.get().to_le_bytes());
        bytes.extend_from_slice(&self.append.0.0.to_le_bytes());
        bytes.extend_from_slice(&self.append.1.0.to_le_bytes());
        bytes.extend_from_slice(&self.prev.0);
        bytes.extend_from_slice(self.payload);
        let frame = &mut bytes[start..];
        let crc = checksum(frame);
        frame[4..CHECKED_FROM].copy_from_slice(&crc.to_le_bytes());
        ChainHash(*blake3::hash(frame).as_bytes())
    }

    /// Reads the frame at the start of `bytes`; returns it with its hash and its length in the file.
    pub(super) fn decode(bytes: &'a [u8]) -> Result<(Self, ChainHash, usize), Fault> {
        let total = FRAME_BYTES + payload_len(bytes)?;
        let frame = bytes.get(..total).ok_or(Fault::Broken("the record is cut short"))?;
        if checksum(frame).to_le_bytes() != frame[4..CHECKED_FROM] {
            return Err(Fault::Broken("the checksum of the record does not match"));
        }
        match u16::from_le_bytes(array(&frame[16..])) {
            VERSION => {}
            newer => return Err(Fault::TooNew(newer)),
        }
        let number = |at: usize| u64::from_le_bytes(array(&frame[at..]));
        let decoded = Self {
            seq: Seq(number(8)),
            append: (Seq(number(26)), Seq(number(34))),
            at: Millis::new(number(18)),
            prev: ChainHash(array(&frame[42..])),
            payload: &frame[FRAME_BYTES..],
        };
        Ok((decoded, ChainHash(*blake3::hash(frame).as_bytes()), total))
    }
}

/// The length of the payload of the frame that starts `bytes`, if it can be one.
pub(super) fn payload_len(bytes: &[u8]) -> Result<usize, Fault> {
    if bytes.len() < FRAME_BYTES {
        return Err(Fault::Broken("the record is cut short"));
    }
    let len = u32::from_le_bytes(array(bytes)) as usize;
    if len > PAYLOAD_BYTES_MAX {
        return Err(Fault::Broken("the length of the record is over the limit"));
    }
    Ok(len)
}

fn checksum(frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&frame[..4]), &frame[CHECKED_FROM..])
}

/// The first `N` bytes of `bytes`, which has them: callers check the length of the whole frame or header first.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    *bytes.first_chunk().expect("the length of the frame was checked")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_reads_back() {
        let prev = ChainHash([7; 32]);
        let frame = Frame { seq: Seq(3), append: (Seq(2), Seq(4)), at: Millis::new(9), prev, payload: b"abc" };
        let mut bytes = Vec::new();
        let hash = frame.encode_into(&mut bytes);
        assert_eq!(bytes.len(), FRAME_BYTES + 3);
        assert_eq!(Frame::decode(&bytes), Ok((frame, hash, bytes.len())));
    }

    #[test]
    fn every_flipped_bit_of_a_frame_is_noticed() {
        let frame = Frame {
            seq: Seq(1),
            append: (Seq(1), Seq(1)),
            at: Millis::new(1),
            prev: ChainHash([0; 32]),
            payload: b"x",
        };
        let mut bytes = Vec::new();
        frame.encode_into(&mut bytes);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Frame::decode(&bytes).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_newer_format_is_told_from_damage() {
        let mut bytes = header(Millis::new(5));
        assert!(check_header(&bytes).is_ok());
        bytes[8] = 2;
        assert!(matches!(check_header(&bytes), Err(Fault::Broken(_))));
        let crc = crc32c::crc32c(&bytes[..HEADER_BYTES - 4]);
        bytes[HEADER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(check_header(&bytes), Err(Fault::TooNew(2)));
    }
}
