//! The data sets a training reads: images and tables, with a class or a value to predict of each sample.
//!
//! ```text
//! files ─▶ idx ────────────────────────────▶ rows (memory, or a file of the node's cache) ─▶ Dataset ─▶ batches
//!      └─▶ table: columns ─▶ fit ─▶ encode ─┘                                                   input: what the model sees
//! ```
//!
//! [`open`] finds and reads the files of a data set. [`idx`] knows images; [`table`] knows rows with named columns, what
//! they mean ([`table::Selection`]), and fits over the training data what its values become ([`Input`]). Samples lie in
//! [`Rows`]: in memory, or beyond a limit in a file that [`store`] writes once per node. What lies in an object store is copied
//! to the node before ([`remote`]). Whatever a file says about its own
//! size is checked against its real size before memory is asked for.

mod dataset;
mod files;
mod idx;
mod input;
mod open;
mod remote;
mod rows;
mod split;
mod store;
mod table;

#[cfg(test)]
pub(crate) mod synthetic;

use neap_storage::object::ObjectError;

pub use dataset::Dataset;
pub use input::{ColumnKind, Input, InputColumn};
pub use open::{find_in_store, open};
pub use remote::Stores;
pub use rows::{Row, Rows};
pub use store::Storage;

/// How large one data set may be once it is decompressed: what a node's disk holds is reached before.
pub const DATA_BYTES_MAX: u64 = 1 << 40;

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
    /// The node's disk did not take data that does not fit into memory. Another worker may have room.
    #[error(
        "failed to store data that does not fit into memory in {path}; free some space there, or give each worker more `resources.memory`"
    )]
    Cache {
        /// The folder.
        path: String,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The object store did not give what was asked of it. Another worker may have it, or be let in.
    #[error("failed to read {uri}")]
    Store {
        /// The URI of the job file.
        uri: String,
        /// What became of it, with the object.
        #[source]
        source: Box<ObjectError>,
    },
    /// The data in an object store are more than is fetched for this.
    #[error("{uri} has {bytes} bytes, and at most {bytes_max} are fetched only to measure")]
    NotFetched {
        /// The URI of the job file.
        uri: String,
        /// What is there.
        bytes: u64,
        /// The most that is fetched.
        bytes_max: u64,
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
        match self {
            Self::Unreadable { .. } | Self::Cache { .. } => true,
            // One that has another content by now may not be mixed with what others have read.
            Self::Store { source, .. } => !matches!(**source, ObjectError::Changed { .. }),
            Self::Malformed { .. } | Self::NotFetched { .. } => false,
        }
    }

    /// What happened, with all causes.
    pub fn text(&self) -> String {
        let causes = std::iter::successors(Some(self as &dyn std::error::Error), |&error| error.source());
        causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
    }
}

/// A fault in the content of a file; the caller adds which file.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    what: String,
    help: &'static str,
}

impl Fault {
    pub(crate) fn new(what: impl Into<String>, help: &'static str) -> Self {
        Self { what: what.into(), help }
    }

    /// The fault with the file, folder or URI that has it.
    pub(crate) fn at(self, place: impl std::fmt::Display) -> DataError {
        DataError::Malformed { path: place.to_string(), fault: self.what, help: self.help.to_owned() }
    }
}

/// Height, width and channels of one sample as the model sees it. A table's row is one line: height 1, as wide as its
/// columns become.
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
