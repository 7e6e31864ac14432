//! What a checkpoint consists of: its name, its manifest, the names of its files.

use std::fmt;

use neap_scheduler::model::MembershipEpoch;
use serde::{Deserialize, Serialize};

use super::{CheckpointError, Meta, Published};

/// The size of a chunk on a disk. Large enough that a sync a chunk is cheap, small enough that reading one needs little memory.
pub const CHUNK_BYTES: usize = 4 << 20;

/// The size of a chunk in an object store. A request costs time and money whatever it carries; four of this size, which
/// are under way at once, are still little memory.
pub const OBJECT_CHUNK_BYTES: usize = 8 << 20;

/// The most parts a checkpoint may have.
pub const PARTS_MAX: usize = 4_096;

pub(super) const MANIFEST_FILE: &str = "manifest.json";

/// The most bytes a manifest may have: enough for 100,000 chunks, which is 400 GB.
pub(super) const MANIFEST_BYTES_MAX: u64 = 16 << 20;

/// The newest format this code reads, and the one it writes.
const FORMAT: u32 = 1;

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
    fn of(meta: &Meta, parts: &[(&str, &[u8])], chunk_bytes: usize) -> Self {
        let chunk =
            |bytes: &[u8]| Chunk { bytes: bytes.len() as u64, blake3: blake3::hash(bytes).to_hex().to_string() };
        let part = |(name, bytes): &(&str, &[u8])| Part {
            name: (*name).to_owned(),
            chunks: bytes.chunks(chunk_bytes).map(chunk).collect(),
        };
        Self { format: FORMAT, meta: meta.clone(), parts: parts.iter().map(part).collect() }
    }

    /// The manifest of the checkpoint `name` from what its file holds, with its digest.
    pub(super) fn read(name: &Name, bytes: &[u8]) -> Result<(Self, String), CheckpointError> {
        let damaged = |why: String| CheckpointError::Damaged { name: name.to_string(), why };
        let digest = blake3::hash(bytes).to_hex().to_string();
        if !name.matches(&digest) {
            return Err(damaged(format!("{MANIFEST_FILE} does not have the digest of the checkpoint's name")));
        }
        check_format(name, bytes)?;
        let manifest: Self = serde_json::from_slice(bytes)
            .map_err(|error| damaged(format!("{MANIFEST_FILE} does not read: {error}")))?;
        check_part_names(manifest.parts.iter().map(|part| part.name.as_str()))?;
        Ok((manifest, digest))
    }
}

impl Chunk {
    /// Whether `bytes` are what was written.
    pub(super) fn matches(&self, bytes: &[u8]) -> bool {
        bytes.len() as u64 == self.bytes && blake3::hash(bytes).to_hex().as_str() == self.blake3
    }
}

fn check_format(name: &Name, manifest: &[u8]) -> Result<(), CheckpointError> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }

    match serde_json::from_slice(manifest) {
        Ok(Format { format }) if format > FORMAT => {
            Err(CheckpointError::TooNew { name: name.to_string(), version: format, known: FORMAT })
        }
        // A manifest that does not read at all is reported by whoever reads the whole of it.
        _ => Ok(()),
    }
}

/// A checkpoint whose name and manifest are made, and that nobody has written yet.
pub(super) struct Prepared {
    /// The bytes of the manifest's file.
    pub(super) manifest: Vec<u8>,
    /// What it is once it is published.
    pub(super) published: Published,
}

impl Prepared {
    pub(super) fn new(meta: &Meta, parts: &[(&str, &[u8])], chunk_bytes: usize) -> Result<Self, CheckpointError> {
        check_part_names(parts.iter().map(|(name, _)| *name))?;
        let manifest = serde_json::to_vec_pretty(&Manifest::of(meta, parts, chunk_bytes))
            .map_err(|error| CheckpointError::BadPart(error.to_string()))?;
        let digest = blake3::hash(&manifest).to_hex().to_string();
        let name = Name::new(meta, &digest).to_string();
        let bytes = parts.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        Ok(Self { manifest, published: Published { name, digest, bytes } })
    }
}

/// The file of a chunk. Part names have no dot at their start and chunk numbers are digits only, so no two are equal.
pub(super) fn chunk_file(part: &str, index: usize) -> String {
    format!("{part}.{index:05}")
}

/// Part names become file names, so they are checked both when they are written and when they are read.
fn check_part_names<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), CheckpointError> {
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
