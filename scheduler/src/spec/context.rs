//! What the outside has to tell so that a job file can be checked without looking at anything.

use super::job::ParamValue;
use crate::model::ContentHash;

/// The surroundings of a job file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ParseContext {
    /// The absolute folder that relative paths start at; usually the one of the job file.
    pub base_dir: String,
    /// The train entries there are where the job names no artifact.
    pub entries: Vec<EntryInfo>,
    /// The main functions of own actors there are; `None` where they are not known, and any name is taken.
    pub mains: Option<Vec<String>>,
    /// What was found out about the artifact that the job names (see [`super::artifact`]); `None` where nobody looked.
    pub artifact: Option<Result<ArtifactInfo, ArtifactFault>>,
}

/// A program that a job brings along, as far as job files are checked against it.
#[derive(Debug, Clone, PartialEq)]
pub struct ArtifactInfo {
    /// Its content.
    pub hash: ContentHash,
    /// What it can train.
    pub entries: Vec<EntryInfo>,
    /// The main functions of its own actors.
    pub mains: Vec<String>,
}

/// Where an artifact is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArtifactPlace {
    /// An absolute path.
    Path(String),
    /// Wherever the control plane keeps it.
    Content(ContentHash),
}

/// Why an artifact cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactFault {
    /// What is wrong with it.
    pub message: String,
    /// What to do about it.
    pub help: String,
}

/// A train entry: something that can be trained.
#[derive(Debug, Clone, PartialEq)]
pub struct EntryInfo {
    /// As in `train.entry`.
    pub name: String,
    /// The batch where the job names none.
    pub default_batch: u32,
    /// The entry's own settings.
    pub params: Vec<ParamInfo>,
}

/// A setting of an entry.
#[derive(Debug, Clone, PartialEq)]
pub struct ParamInfo {
    /// As in `train.params`.
    pub name: String,
    /// What it takes.
    pub kind: ParamKind,
    /// What it is where the job says nothing; it is written into the job, so that the job's canonical text tells it.
    /// `None` leaves the setting out.
    pub default: Option<ParamValue>,
}

/// What a setting takes. Bounds are part of the range.
#[derive(Debug, Clone, PartialEq)]
pub enum ParamKind {
    /// A whole number.
    Int {
        /// The least.
        min: i64,
        /// The most.
        max: i64,
    },
    /// A number.
    Float {
        /// The least.
        min: f64,
        /// The most.
        max: f64,
    },
    /// One of these words; any text where there are none.
    Text {
        /// The words.
        choices: Vec<String>,
    },
    /// A switch.
    Bool,
}
