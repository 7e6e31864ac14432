//! Reading: nothing is handed out before every hash was checked.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use super::manifest::{FORMAT, MANIFEST_BYTES_MAX, MANIFEST_FILE, Manifest, Name, Part, check_part_names, chunk_file};
use super::{CHUNK_BYTES, CheckpointError, CheckpointStore, Meta, failed};

/// A checkpoint in memory, verified.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// Its name.
    pub name: String,
    /// blake3 of its manifest, as [`CheckpointStore::publish`] returned it.
    pub digest: String,
    /// What it is of.
    pub meta: Meta,
    /// Its parts by name.
    pub parts: BTreeMap<String, Vec<u8>>,
}

impl CheckpointStore {
    /// The newest checkpoint that is undamaged, or nothing where there never was one. A damaged one is reported and
    /// passed over.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::NoneUsable`] where there are checkpoints, but none is undamaged.
    pub fn load_latest(&self) -> Result<Option<Loaded>, CheckpointError> {
        let mut tried = Vec::new();
        for listed in self.list()?.iter().rev() {
            match self.load(&listed.name) {
                Ok(loaded) => return Ok(Some(loaded)),
                Err(error) => {
                    let folder = self.folder.display();
                    tracing::warn!(%folder, checkpoint = %listed.name, %error, "checkpoint passed over");
                    tried.push(error.to_string());
                }
            }
        }
        if tried.is_empty() {
            Ok(None)
        } else {
            Err(CheckpointError::NoneUsable { folder: self.folder.clone(), tried })
        }
    }

    /// The checkpoint of this name.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::NotFound`], [`CheckpointError::Damaged`], [`CheckpointError::TooNew`],
    /// [`CheckpointError::Io`].
    pub fn load(&self, name: &str) -> Result<Loaded, CheckpointError> {
        let not_found = || CheckpointError::NotFound { folder: self.folder.clone(), name: name.to_owned() };
        let parsed = Name::parse(name).ok_or_else(not_found)?;
        let folder = self.folder.join(name);
        if !folder.is_dir() {
            return Err(not_found());
        }
        let damaged = |why: String| CheckpointError::Damaged { name: name.to_owned(), why };
        let bytes = read_file(&folder, MANIFEST_FILE, MANIFEST_BYTES_MAX).map_err(|fault| fault.of(name, &folder))?;
        let digest = blake3::hash(&bytes).to_hex().to_string();
        if !parsed.matches(&digest) {
            return Err(damaged(format!("{MANIFEST_FILE} does not have the digest of the checkpoint's name")));
        }
        check_format(name, &bytes)?;
        let manifest: Manifest = serde_json::from_slice(&bytes)
            .map_err(|error| damaged(format!("{MANIFEST_FILE} does not read: {error}")))?;
        check_part_names(manifest.parts.iter().map(|part| part.name.as_str()))?;
        let mut parts = BTreeMap::new();
        for part in manifest.parts {
            let bytes = read_part(&folder, &part).map_err(|fault| fault.of(name, &folder))?;
            parts.insert(part.name, bytes);
        }
        Ok(Loaded { name: name.to_owned(), digest, meta: manifest.meta, parts })
    }
}

/// Why a file of a checkpoint could not be used.
enum Fault {
    Damaged(String),
    Io(String, io::Error),
}

impl Fault {
    fn of(self, name: &str, folder: &Path) -> CheckpointError {
        match self {
            Self::Damaged(why) => CheckpointError::Damaged { name: name.to_owned(), why },
            Self::Io(file, source) => failed("read", &folder.join(file), source),
        }
    }
}

fn check_format(name: &str, manifest: &[u8]) -> Result<(), CheckpointError> {
    #[derive(serde::Deserialize)]
    struct Format {
        format: u32,
    }

    match serde_json::from_slice(manifest) {
        Ok(Format { format }) if format > FORMAT => {
            Err(CheckpointError::TooNew { name: name.to_owned(), version: format, known: FORMAT })
        }
        // A manifest that does not read at all is reported by whoever reads the whole of it.
        _ => Ok(()),
    }
}

fn read_part(folder: &Path, part: &Part) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    for (index, chunk) in part.chunks.iter().enumerate() {
        let file = chunk_file(&part.name, index);
        let read = read_file(folder, &file, CHUNK_BYTES as u64)?;
        if read.len() as u64 != chunk.bytes || blake3::hash(&read).to_hex().as_str() != chunk.blake3 {
            return Err(Fault::Damaged(format!("{file} is not what was written")));
        }
        bytes.extend_from_slice(&read);
    }
    Ok(bytes)
}

/// Reads a whole file that may have at most `bytes_max`.
fn read_file(folder: &Path, file: &str, bytes_max: u64) -> Result<Vec<u8>, Fault> {
    let path = folder.join(file);
    let length = match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Fault::Damaged(format!("{file} is missing")));
        }
        metadata => metadata.map_err(|error| Fault::Io(file.to_owned(), error))?.len(),
    };
    if length > bytes_max {
        return Err(Fault::Damaged(format!("{file} is larger than it can be")));
    }
    fs::read(&path).map_err(|error| Fault::Io(file.to_owned(), error))
}
