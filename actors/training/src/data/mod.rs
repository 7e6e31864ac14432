//! The data sets a training reads: images and tables with one class a sample.
//!
//! [`open`] finds and reads the files of a data set, [`idx`] and [`csv`] know one format each, [`normalise`] brings
//! features to mean 0 and deviation 1. A data set is held in memory as a whole, in bytes where its source is bytes.
//! Whatever a file says about its own size is checked against its real size before memory is asked for.

mod csv;
mod idx;
mod normalise;
mod open;

#[cfg(test)]
pub(crate) mod synthetic;

pub use normalise::Normalisation;
pub use open::open;

/// How large one data set may be once it is decompressed.
pub const DATA_BYTES_MAX: u64 = 8 << 30;

/// How many classes a data set may have.
pub const CLASSES_MAX: usize = 1 << 16;

/// Why a data set cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file is not there, or may not be read, on this machine. Another worker may be able to.
    #[error("failed to read {path}; check `data.*.uri`, and that this node sees the file")]
    Unreadable {
        /// The file or folder.
        path: String,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The file is there, but is not what the job file says.
    #[error("{path}: {fault}; {help}")]
    Malformed {
        /// The file or folder.
        path: String,
        /// What is wrong, and where.
        fault: String,
        /// What to do.
        help: String,
    },
}

impl DataError {
    /// Whether another machine may be able to read what this one cannot.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Unreadable { .. })
    }
}

/// A fault in the content of a file; the caller adds which file.
#[derive(Debug)]
pub(crate) struct Fault {
    what: String,
    help: &'static str,
}

impl Fault {
    pub(crate) fn new(what: impl Into<String>, help: &'static str) -> Self {
        Self { what: what.into(), help }
    }

    pub(crate) fn at(self, path: &std::path::Path) -> DataError {
        DataError::Malformed { path: path.display().to_string(), fault: self.what, help: self.help.to_owned() }
    }
}

/// Height, width and channels of one sample. A table's row is one line: height 1, as wide as it has feature columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleShape {
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
    /// Values a pixel.
    pub channels: u32,
}

impl SampleShape {
    /// How many values one sample has.
    pub fn len(self) -> usize {
        self.height as usize * self.width as usize * self.channels as usize
    }

    /// Whether a sample has no value at all.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// The features of all samples, sample after sample.
#[derive(Debug, Clone, PartialEq)]
pub enum Features {
    /// One byte a value, where the source is bytes.
    Bytes(Vec<u8>),
    /// Any finite value.
    Floats(Vec<f32>),
}

/// What is to be predicted of each sample.
#[derive(Debug, Clone, PartialEq)]
pub enum Targets {
    /// The number of its class.
    Classes(Vec<u16>),
    /// A value.
    Values(Vec<f32>),
}

impl Default for Targets {
    fn default() -> Self {
        Self::Classes(Vec::new())
    }
}

impl Targets {
    /// How many samples.
    pub fn len(&self) -> usize {
        match self {
            Self::Classes(classes) => classes.len(),
            Self::Values(values) => values.len(),
        }
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The target of one sample.
    ///
    /// # Panics
    ///
    /// If `at` is not below [`Self::len`].
    pub fn get(&self, at: usize) -> Target {
        match self {
            Self::Classes(classes) => Target::Class(classes[at]),
            Self::Values(values) => Target::Value(values[at]),
        }
    }

    /// The targets of these samples.
    ///
    /// # Panics
    ///
    /// If an id is not below [`Self::len`].
    pub fn pick(&self, ids: &[u32]) -> Self {
        match self {
            Self::Classes(classes) => Self::Classes(ids.iter().map(|&id| classes[id as usize]).collect()),
            Self::Values(values) => Self::Values(ids.iter().map(|&id| values[id as usize]).collect()),
        }
    }

    /// Their bytes: little-endian, two a class and four a value.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Classes(classes) => bytemuck::cast_slice(classes),
            Self::Values(values) => bytemuck::cast_slice(values),
        }
    }

    /// The part `from..to`.
    fn rows(&self, from: usize, to: usize) -> Self {
        match self {
            Self::Classes(classes) => Self::Classes(classes[from..to].to_vec()),
            Self::Values(values) => Self::Values(values[from..to].to_vec()),
        }
    }
}

/// What is to be predicted of one sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// The number of its class.
    Class(u16),
    /// A value.
    Value(f32),
}

/// What there is to predict in a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetInfo {
    /// One of these classes, in the order of their numbers.
    Classes(Vec<String>),
    /// A value.
    Value,
}

impl TargetInfo {
    /// How many scores a model gives a sample: one a class, or one.
    pub fn outputs(&self) -> usize {
        match self {
            Self::Classes(names) => names.len(),
            Self::Value => 1,
        }
    }

    /// The names of the classes, where there are any.
    pub fn class_names(&self) -> &[String] {
        match self {
            Self::Classes(names) => names,
            Self::Value => &[],
        }
    }
}

/// A data set in memory.
#[derive(Debug, Clone)]
pub struct Dataset {
    shape: SampleShape,
    features: Features,
    targets: Targets,
    target_info: TargetInfo,
}

impl Dataset {
    /// Samples with their classes.
    pub(crate) fn new(shape: SampleShape, features: Features, classes: Vec<u16>, class_names: Vec<String>) -> Self {
        let values = match &features {
            Features::Bytes(bytes) => bytes.len(),
            Features::Floats(floats) => floats.len(),
        };
        assert_eq!(values, shape.len() * classes.len(), "readers return as many values as samples need");
        Self { shape, features, targets: Targets::Classes(classes), target_info: TargetInfo::Classes(class_names) }
    }

    /// How many samples.
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// The shape of one sample.
    pub fn shape(&self) -> SampleShape {
        self.shape
    }

    /// All features.
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// What there is to predict.
    pub fn target_info(&self) -> &TargetInfo {
        &self.target_info
    }

    /// What is to be predicted of each sample.
    pub fn targets(&self) -> &Targets {
        &self.targets
    }

    /// Digest (blake3) of shape, features and targets: what the model was trained on, however it was stored.
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for number in [self.shape.height, self.shape.width, self.shape.channels, self.len() as u32] {
            hasher.update(&number.to_le_bytes());
        }
        match &self.features {
            Features::Bytes(bytes) => hasher.update(b"u8").update(bytes),
            Features::Floats(floats) => hasher.update(b"f32").update(bytemuck::cast_slice(floats)),
        };
        hasher.update(self.targets.as_bytes());
        self.target_info.class_names().iter().for_each(|name| {
            hasher.update(name.as_bytes()).update(&[0]);
        });
        *hasher.finalize().as_bytes()
    }

    /// The normalised features of these samples, appended to `out`.
    ///
    /// # Panics
    ///
    /// If an id is not below [`Self::len`].
    pub fn gather(&self, ids: &[u32], normalisation: &Normalisation, out: &mut Vec<f32>) {
        let length = self.shape.len();
        for range in ids.iter().map(|&id| id as usize * length..(id as usize + 1) * length) {
            match &self.features {
                Features::Bytes(bytes) => normalisation.apply_bytes(&bytes[range], out),
                Features::Floats(floats) => normalisation.apply_floats(&floats[range], out),
            }
        }
    }

    /// The part `from..to` of the samples.
    pub(crate) fn rows(self, from: usize, to: usize) -> Self {
        let length = self.shape.len();
        let features = match self.features {
            Features::Bytes(bytes) => Features::Bytes(bytes[from * length..to * length].to_vec()),
            Features::Floats(floats) => Features::Floats(floats[from * length..to * length].to_vec()),
        };
        Self { features, targets: self.targets.rows(from, to), ..self }
    }

    /// This data set with the class numbers of `training`, for evaluation.
    ///
    /// # Errors
    ///
    /// A sentence where the two do not fit together.
    pub fn aligned_with(mut self, shape: SampleShape, training: &TargetInfo) -> Result<Self, String> {
        if self.shape != shape {
            return Err(format!(
                "its samples are {}×{}×{}, those of the training data {}×{}×{}",
                self.shape.height, self.shape.width, self.shape.channels, shape.height, shape.width, shape.channels
            ));
        }
        match (&mut self.targets, training) {
            (Targets::Classes(classes), TargetInfo::Classes(names)) => {
                renumber(classes, self.target_info.class_names(), names)?;
                self.target_info = training.clone();
                Ok(self)
            }
            (Targets::Values(_), TargetInfo::Value) => Ok(self),
            (Targets::Classes(_), TargetInfo::Value) => Err("it has classes, the training data values".to_owned()),
            (Targets::Values(_), TargetInfo::Classes(_)) => Err("it has values, the training data classes".to_owned()),
        }
    }
}

/// Gives classes the numbers that their names have in the training data.
fn renumber(classes: &mut [u16], names: &[String], training: &[String]) -> Result<(), String> {
    let position = |name: &String| training.iter().position(|known| known == name);
    let mut used = vec![false; names.len()];
    classes.iter().for_each(|&class| used[usize::from(class)] = true);
    let numbers: Vec<Option<u16>> = names.iter().map(|name| position(name).map(|at| at as u16)).collect();
    if let Some(unknown) = (0..used.len()).find(|&class| used[class] && numbers[class].is_none()) {
        return Err(format!("its class `{}` does not occur in the training data", names[unknown]));
    }
    classes.iter_mut().for_each(|class| *class = numbers[usize::from(*class)].unwrap_or_default());
    Ok(())
}
