//! What a checkpoint consists of: its name, its manifest, the names of its files.

use std::fmt;

use neap_scheduler::model::MembershipEpoch;
use serde::{Deserialize, Serialize};

use super::{CheckpointError, Meta};

/// The size of a chunk. Large enough that a sync a chunk is cheap, small enough that reading one needs little memory.
pub const CHUNK_BYTES: usize = 4 << 20;

/// The most parts a checkpoint may have.
pub const PARTS_MAX: usize = 4_096;

pub(super) const MANIFEST_FILE: &str = "manifest.json";

/// The most bytes a manifest may have: enough for 100,000 chunks, which is 400 GB.
pub(super) const MANIFEST_BYTES_MAX: u64 = 16 << 20;

/// The newest format this code reads, and the one it writes.
pub(super) const FORMAT: u32 = 1;

/// Eight bytes of the digest are in the name: enough to notice any damage of the manifest.
const DIGEST_CHARS: usize = 16;

const PART_NAME_CHARS_MAX: usize = 128;

/// `manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) format: u32,
    #[serde(flatten)]
    pub(super) meta: Meta,
    pub(super) parts: Vec<Part>,
}

/// A named run of bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) chunks: Vec<Chunk>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Chunk {
    pub(super) bytes: u64,
    pub(super) blake3: String,
}

impl Manifest {
    pub(super) fn of(meta: &Meta, parts: &[(&str, &[u8])]) -> Self {
        let chunk =
            |bytes: &[u8]| Chunk { bytes: bytes.len() as u64, blake3: blake3::hash(bytes).to_hex().to_string() };
        let part = |(name, bytes): &(&str, &[u8])| Part {
            name: (*name).to_owned(),
            chunks: bytes.chunks(CHUNK_BYTES).map(chunk).collect(),
        };
        Self { format: FORMAT, meta: meta.clone(), parts: parts.iter().map(part).collect() }
    }
}

/// The file of a chunk. Part names have no dot at their start and chunk numbers are digits only, so no two are equal.
pub(super) fn chunk_file(part: &str, index: usize) -> String {
    format!("{part}.{index:05}")
}

/// Part names become file names, so they are checked both when they are written and when they are read.
pub(super) fn check_part_names<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), CheckpointError> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        if name.is_empty() || name.len() > PART_NAME_CHARS_MAX || name.starts_with('.') || !name.bytes().all(plain) {
            let rule = "letters, digits, `_`, `-`, `.`, not starting with a dot, at most 128";
            return Err(CheckpointError::BadPart(format!("the name `{}` is not one ({rule})", name.escape_debug())));
        }
        if !seen.insert(name) {
            return Err(CheckpointError::BadPart(format!("the name `{name}` is there twice")));
        }
    }
    match seen.len() {
        1..=PARTS_MAX => Ok(()),
        count => Err(CheckpointError::BadPart(format!("{count} parts; there must be 1 to {PARTS_MAX}"))),
    }
}

/// A checkpoint's name. Its order is by membership epoch, then by step: a later membership knew what it went on from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) membership: MembershipEpoch,
    pub(super) step: u64,
    digest: String,
}

impl Name {
    pub(super) fn new(meta: &Meta, digest: &str) -> Self {
        Self { membership: meta.membership, step: meta.step, digest: digest[..DIGEST_CHARS].to_owned() }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut fields = text.strip_prefix("checkpoint-e")?.split('-');
        let name = Self {
            membership: MembershipEpoch(fields.next()?.parse().ok()?),
            step: fields.next()?.strip_prefix('s')?.parse().ok()?,
            digest: fields.next()?.to_owned(),
        };
        // Only names that this code makes: nothing that a path could hide in.
        (name.to_string() == text && name.digest.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(name)
    }

    pub(super) fn matches(&self, digest: &str) -> bool {
        self.digest.len() == DIGEST_CHARS && digest.starts_with(&self.digest)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "checkpoint-e{:06}-s{:012}-{}", self.membership.0, self.step, self.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_made_here_are_checkpoints() {
        let name = Name { membership: MembershipEpoch(3), step: 70, digest: "0123456789abcdef".to_owned() };
        assert_eq!(name.to_string(), "checkpoint-e000003-s000000000070-0123456789abcdef");
        assert_eq!(Name::parse(&name.to_string()), Some(name));
        for text in ["checkpoint-e3-s70-00", "checkpoint-e000003-s000000000070-../../etc", "fence", "tmp-e1-s1"] {
            assert_eq!(Name::parse(text), None, "{text}");
        }
    }

    #[test]
    fn part_names_cannot_leave_the_folder() {
        assert!(check_part_names(["dense1.weight", "adam-m", "_x"].into_iter()).is_ok());
        for name in ["", ".", "..", ".hidden", "a/b", "../x", "a\0b", "ä", &"x".repeat(129)] {
            assert!(check_part_names([name].into_iter()).is_err(), "{name:?}");
        }
        assert!(check_part_names(["a", "a"].into_iter()).is_err());
        assert!(check_part_names([].into_iter()).is_err());
    }
}
