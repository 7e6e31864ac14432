//! The anchor: how far the journal must reach at least, in a file of its own that is replaced as a whole.
//!
//! ```text
//! magic 8 | seq u64 | hash 32 | crc32c u32 of the 48 bytes before it
//! ```

use std::path::Path;

use super::{ChainHash, JournalError, Seq, read_if_there};

pub(super) const ANCHOR_BYTES: usize = 52;
const MAGIC: &[u8; 8] = b"NEAPHED1";

/// A record that the journal must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Anchor {
    pub(super) seq: Seq,
    pub(super) hash: ChainHash,
}

impl Anchor {
    pub(super) fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(ANCHOR_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.seq.0.to_le_bytes());
        bytes.extend_from_slice(&self.hash.0);
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the anchor where there is one.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, JournalError> {
        let Some(bytes) = read_if_there(path)? else { return Ok(None) };
        Self::decode(&bytes).map(Some).ok_or_else(|| JournalError::Damaged {
            path: path.to_owned(),
            seq: Seq::ZERO,
            offset: 0,
            why: "the anchor is not as it was written".to_owned(),
        })
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; ANCHOR_BYTES] = bytes.try_into().ok()?;
        let (body, crc) = bytes.split_at(ANCHOR_BYTES - 4);
        let whole = body.starts_with(MAGIC) && crc32c::crc32c(body).to_le_bytes() == crc;
        let anchor = Self {
            seq: Seq(u64::from_le_bytes(*body[8..].first_chunk()?)),
            hash: ChainHash(*body[16..].first_chunk()?),
        };
        whole.then_some(anchor)
    }
}
