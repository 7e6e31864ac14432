//! What the outside has to tell so that a job file can be checked without looking at anything.

use super::job::ParamValue;

/// The surroundings of a job file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ParseContext {
    /// The absolute folder that relative paths start at; usually the one of the job file.
    pub base_dir: String,
    /// The train entries there are.
    pub entries: Vec<EntryInfo>,
    /// The main functions of own actors there are; `None` where they are not known, and any name is taken.
    pub mains: Option<Vec<String>>,
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
