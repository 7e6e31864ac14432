//! Files of weights, read whole and checked.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use neap_scheduler::model::{Location, RemoteUri};
use neap_storage::object::{Access, CacheError, ObjectCache, ObjectError, ObjectInfo, Objects};
use pytorch_reader::{DType, PytorchError, PytorchReader};
use safetensors::{Dtype, SafeTensors};

use super::number::{Kind, to_f32};
use super::{InitError, InitWeights, begins};

/// The largest file that is read.
const FILE_BYTES_MAX: u64 = 16 << 30;

/// A tensor of the file.
pub(super) struct Stored {
    pub(super) shape: Vec<usize>,
    pub(super) values: Vec<f32>,
}

/// The tensors of the file by their names there.
pub(super) struct Contents {
    pub(super) tensors: BTreeMap<String, Stored>,
    /// Whether linear layers are `[out, in]`.
    pub(super) of_pytorch: bool,
}

impl InitWeights {
    /// The file's tensors; an object is copied into a folder of its own first.
    pub(super) fn read(&self) -> Result<Contents, InitError> {
        match remote(&self.path) {
            None => self.read_file(&self.path, |bytes| blake3::hash(bytes).to_hex().to_string()),
            Some(uri) => {
                let failed = |source| InitError::Store { path: self.path.clone(), source: Box::new(source) };
                let (objects, object) = look_at(&uri, &Access::from_environment()).map_err(failed)?;
                self.check_size(object.bytes)?;
                let version = version(&objects, &object);
                let disk = |source| InitError::Read { path: self.path.clone(), source };
                let folder = tempfile::tempdir().map_err(disk)?;
                let copy = ObjectCache::new(folder.path().to_owned()).fetch(&objects, &object);
                let copy = copy.map_err(|error| match error {
                    CacheError::Store(source) => failed(source),
                    CacheError::Disk { source, .. } => disk(source),
                })?;
                self.read_file(&copy.path, |_| version)
            }
        }
    }

    fn check_size(&self, bytes: u64) -> Result<(), InitError> {
        match bytes > FILE_BYTES_MAX {
            true => Err(self.foreign(format!("it has {bytes} bytes, more than the {FILE_BYTES_MAX} that are read"))),
            false => Ok(()),
        }
    }

    /// `digest_of` gives what the file is known by, from its content.
    fn read_file(&self, file: &Path, digest_of: impl FnOnce(&[u8]) -> String) -> Result<Contents, InitError> {
        let failed = |source| InitError::Read { path: self.path.clone(), source };
        self.check_size(fs::metadata(file).map_err(failed)?.len())?;
        let bytes = fs::read(file).map_err(failed)?;
        let digest = digest_of(&bytes);
        if self.digest.as_ref().is_some_and(|accepted| *accepted != digest) {
            return Err(InitError::Changed { path: self.path.clone() });
        }
        match self.path.extension().and_then(|extension| extension.to_str()) {
            Some("safetensors") => self.read_safetensors(&bytes),
            Some("pt" | "pth" | "bin") => {
                drop(bytes);
                self.read_pytorch(file)
            }
            _ => Err(self.foreign("its name does not say what it is".to_owned())),
        }
    }

    fn read_safetensors(&self, bytes: &[u8]) -> Result<Contents, InitError> {
        let broken = |error: safetensors::SafeTensorError| self.foreign(error.to_string());
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(broken)?;
        let of_pytorch =
            header.metadata().as_ref().and_then(|metadata| metadata.get("format")).is_some_and(|format| format == "pt");
        let file = SafeTensors::deserialize(bytes).map_err(broken)?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.tensors() {
            if self.is_ignored(&name) {
                continue;
            }
            let kind = match view.dtype() {
                Dtype::F32 => Kind::F32,
                Dtype::F16 => Kind::F16,
                Dtype::BF16 => Kind::Bf16,
                Dtype::F64 => Kind::F64,
                other => return Err(self.not_a_float(&name, &format!("{other:?}"))),
            };
            let values = to_f32(kind, view.data()).map_err(|why| self.foreign(format!("{name} {why}")))?;
            tensors.insert(name, Stored { shape: view.shape().to_vec(), values });
        }
        Ok(Contents { tensors, of_pytorch })
    }

    fn read_pytorch(&self, file: &Path) -> Result<Contents, InitError> {
        let reader = PytorchReader::new(file).map_err(|error| match error {
            PytorchError::Io(source) if source.kind() != io::ErrorKind::InvalidData => {
                InitError::Read { path: self.path.clone(), source }
            }
            error => self.foreign(error.to_string()),
        })?;
        let mut tensors = BTreeMap::new();
        for (name, tensor) in reader.into_tensors() {
            if self.is_ignored(&name) {
                continue;
            }
            let kind = match tensor.dtype() {
                DType::F32 => Kind::F32,
                DType::F16 => Kind::F16,
                DType::BF16 => Kind::Bf16,
                DType::F64 => Kind::F64,
                other => return Err(self.not_a_float(&name, &format!("{other:?}"))),
            };
            let bytes = tensor.read().map_err(|error| self.foreign(error.to_string()))?;
            let values = to_f32(kind, &bytes).map_err(|why| self.foreign(format!("{name} {why}")))?;
            tensors.insert(name, Stored { shape: tensor.shape().to_vec(), values });
        }
        if tensors.is_empty() {
            return Err(self.foreign("there is no tensor in it".to_owned()));
        }
        Ok(Contents { tensors, of_pytorch: true })
    }

    /// Counters and the like are not weights; a job that ignores them need not know their type.
    fn is_ignored(&self, name: &str) -> bool {
        self.ignore.iter().any(|prefix| begins(name, prefix))
    }

    fn not_a_float(&self, name: &str, dtype: &str) -> InitError {
        self.foreign(format!(
            "{name} is {dtype}, and weights are F32, F16, BF16 or F64 (`tensor.float()` makes it F32; list it under \
             `train.init.ignore` if it is no weight)"
        ))
    }

    fn foreign(&self, why: String) -> InitError {
        InitError::Foreign { path: self.path.clone(), why }
    }
}

/// The place of an object, where a path is a URI of one.
fn remote(path: &Path) -> Option<RemoteUri> {
    match Location::parse(path.to_str()?).ok()? {
        Location::Remote(uri) => Some(uri),
        Location::Local(_) => None,
    }
}

fn look_at(uri: &RemoteUri, access: &Access) -> Result<(Objects, ObjectInfo), ObjectError> {
    let objects = Objects::open(uri, access)?;
    let object = objects.look_at("")?;
    Ok((objects, object))
}

/// What a version of an object is known by; its size, where the store does not say what its content is.
fn version(objects: &Objects, object: &ObjectInfo) -> String {
    objects.version(object).unwrap_or_else(|| format!("{} bytes", object.bytes))
}

/// What weights are known by when a job is accepted with them: of a file blake3 of its content, of an object that of its URI,
/// size and ETag. In hex.
///
/// # Errors
///
/// [`InitError`] where they cannot be read or looked at.
pub fn weights_digest(path: &Path, access: &Access) -> Result<String, InitError> {
    if let Some(uri) = remote(path) {
        let (objects, object) = look_at(&uri, access)
            .map_err(|source| InitError::Store { path: path.to_owned(), source: Box::new(source) })?;
        return Ok(version(&objects, &object));
    }
    let mut hasher = blake3::Hasher::new();
    let hashed = fs::File::open(path).and_then(|mut file| io::copy(&mut file, &mut hasher));
    hashed.map_err(|source| InitError::Read { path: path.to_owned(), source })?;
    Ok(hasher.finalize().to_hex().to_string())
}
