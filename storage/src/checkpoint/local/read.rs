//! Reading: nothing is handed out before every hash was checked.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use super::super::manifest::{MANIFEST_BYTES_MAX, MANIFEST_FILE, Manifest, Name, Part, chunk_file};
use super::super::{CHUNK_BYTES, CheckpointError, Loaded};
use super::{LocalStore, failed};

impl LocalStore {
    /// The checkpoint of this name.
    pub(in super::super) fn load(&self, name: &str) -> Result<Loaded, CheckpointError> {
        let not_found = || CheckpointError::NotFound { store: self.shown(), name: name.to_owned() };
        let parsed = Name::parse(name).ok_or_else(not_found)?;
        let folder = self.folder.join(name);
        if !folder.is_dir() {
            return Err(not_found());
        }
        let bytes = read_file(&folder, MANIFEST_FILE, MANIFEST_BYTES_MAX).map_err(|fault| fault.of(name, &folder))?;
        let (manifest, digest) = Manifest::read(&parsed, &bytes)?;
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

fn read_part(folder: &Path, part: &Part) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    for (index, chunk) in part.chunks.iter().enumerate() {
        let file = chunk_file(&part.name, index);
        let read = read_file(folder, &file, CHUNK_BYTES as u64)?;
        if !chunk.matches(&read) {
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
