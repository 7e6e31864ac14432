//! Files of weights, read whole and checked.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use pytorch_reader::{DType, PytorchError, PytorchReader};
use safetensors::{Dtype, SafeTensors};

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
    /// The file's tensors.
    pub(super) fn read(&self) -> Result<Contents, InitError> {
        let failed = |source| InitError::Read { path: self.path.clone(), source };
        let bytes = fs::metadata(&self.path).map_err(failed)?.len();
        if bytes > FILE_BYTES_MAX {
            return Err(self.foreign(format!("it has {bytes} bytes, more than the {FILE_BYTES_MAX} that are read")));
        }
        let bytes = fs::read(&self.path).map_err(failed)?;
        let digest = blake3::hash(&bytes).to_hex();
        if self.digest.as_ref().is_some_and(|accepted| accepted != digest.as_str()) {
            return Err(InitError::Changed { path: self.path.clone() });
        }
        match self.path.extension().and_then(|extension| extension.to_str()) {
            Some("safetensors") => self.read_safetensors(&bytes),
            Some("pt" | "pth" | "bin") => {
                drop(bytes);
                self.read_pytorch()
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
            if view.dtype() != Dtype::F32 {
                return Err(self.not_f32(&name, &format!("{:?}", view.dtype())));
            }
            let values = bytemuck::pod_collect_to_vec(view.data());
            tensors.insert(name, Stored { shape: view.shape().to_vec(), values });
        }
        Ok(Contents { tensors, of_pytorch })
    }

    fn read_pytorch(&self) -> Result<Contents, InitError> {
        let reader = PytorchReader::new(&self.path).map_err(|error| match error {
            PytorchError::Io(source) if source.kind() != io::ErrorKind::InvalidData => {
                InitError::Read { path: self.path.clone(), source }
            }
            error => self.foreign(error.to_string()),
        })?;
        let mut tensors = BTreeMap::new();
        for (name, tensor) in reader.into_tensors() {
            // Counters and the like are not weights; a job that ignores them need not know their type.
            if self.ignore.iter().any(|prefix| begins(&name, prefix)) {
                continue;
            }
            if tensor.dtype() != DType::F32 {
                return Err(self.not_f32(&name, &format!("{:?}", tensor.dtype())));
            }
            let bytes = tensor.read().map_err(|error| self.foreign(error.to_string()))?;
            tensors
                .insert(name, Stored { shape: tensor.shape().to_vec(), values: bytemuck::pod_collect_to_vec(&bytes) });
        }
        if tensors.is_empty() {
            return Err(self.foreign("there is no tensor in it".to_owned()));
        }
        Ok(Contents { tensors, of_pytorch: true })
    }

    fn not_f32(&self, name: &str, dtype: &str) -> InitError {
        self.foreign(format!("{name} is {dtype}, and weights are read as F32 only (`tensor.float()` makes it that)"))
    }

    fn foreign(&self, why: String) -> InitError {
        InitError::Foreign { path: self.path.clone(), why }
    }
}

/// The digest of a file of weights, in hex, as a job is accepted with it.
///
/// # Errors
///
/// Where it cannot be read.
pub fn weights_digest(path: &Path) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    io::copy(&mut fs::File::open(path)?, &mut hasher)?;
    Ok(hasher.finalize().to_hex().to_string())
}
