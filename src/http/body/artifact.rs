//! Bodies about programs of one's own. The first is also what such a program prints about itself.

use std::fmt;

use neap_scheduler::model::ContentHash;
use neap_scheduler::spec::{EntryInfo, ParamInfo, ParamKind, ParamValue};
use neap_training::measure::Measured;
use serde::{Deserialize, Serialize};

/// Entries, and main functions, of one program, at most.
const ENTRIES_MAX: usize = 256;

/// Settings of one entry, at most.
const PARAMS_MAX: usize = 256;

/// Words that a setting takes, at most.
const CHOICES_MAX: usize = 256;

/// The longest name of an entry or a setting, and the longest word.
const NAME_BYTES_MAX: usize = 128;

/// What a program can do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramBody {
    /// The version of Neap that it links.
    pub neap: String,
    /// The version of the launch that it reads.
    pub launch_version: u32,
    /// What it can train.
    pub entries: Vec<EntryBody>,
    /// The main functions of its own actors, as in `actors.main`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mains: Vec<String>,
}

/// How fast a program trains a job.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasuredBody {
    /// Samples of the whole job, all epochs together.
    pub samples: u64,
    /// Samples a second on one thread.
    pub samples_per_second: f64,
    /// Samples between two checkpoints, where it writes them regularly.
    pub samples_per_checkpoint: Option<u64>,
}

impl From<Measured> for MeasuredBody {
    fn from(measured: Measured) -> Self {
        let Measured { samples, samples_per_second, samples_per_checkpoint } = measured;
        Self { samples, samples_per_second, samples_per_checkpoint }
    }
}

impl From<MeasuredBody> for Measured {
    fn from(measured: MeasuredBody) -> Self {
        let MeasuredBody { samples, samples_per_second, samples_per_checkpoint } = measured;
        Self { samples, samples_per_second, samples_per_checkpoint }
    }
}

/// A program that the control plane keeps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArtifactBody {
    /// Its content.
    pub hash: ContentHash,
    /// Its size.
    pub bytes: u64,
    /// What it can train, once somebody has said so.
    pub program: Option<ProgramBody>,
}

/// Something that can be trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntryBody {
    /// As in `train.entry`.
    pub name: String,
    /// The batch where a job names none.
    pub default_batch: u32,
    /// As in `train.params`.
    pub params: Vec<ParamBody>,
}

/// A setting of an entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParamBody {
    /// Its name.
    pub name: String,
    /// What it takes.
    pub takes: KindBody,
    /// What it is where a job says nothing.
    #[serde(default)]
    pub default: Option<ValueBody>,
}

/// What a setting takes. Bounds are part of the range.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[expect(missing_docs, reason = "the names say it")]
pub enum KindBody {
    /// A whole number.
    Int { min: i64, max: i64 },
    /// A number.
    Float { min: f64, max: f64 },
    /// One of these words; any text where there are none.
    Text { choices: Vec<String> },
    /// A switch.
    Bool,
}

/// A value of a setting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ValueBody {
    /// A switch.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// A text.
    Text(String),
}

/// A description that no program of ours gives.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the program's description of itself {0}")]
pub struct ProgramFault(String);

impl ProgramBody {
    /// What this build says about itself, with these entries and main functions.
    pub fn of(entries: &[EntryInfo], mains: Vec<String>) -> Self {
        Self {
            neap: env!("CARGO_PKG_VERSION").to_owned(),
            launch_version: neap_runtime::workload::LAUNCH_VERSION,
            entries: entries.iter().map(EntryBody::from).collect(),
            mains,
        }
    }

    /// Its entries, for the parser of job files.
    ///
    /// # Errors
    ///
    /// [`ProgramFault`] beyond the limits, and for names that could steer a terminal.
    pub fn infos(&self) -> Result<Vec<EntryInfo>, ProgramFault> {
        at_most(self.entries.len(), ENTRIES_MAX, "entries")?;
        at_most(self.mains.len(), ENTRIES_MAX, "main functions")?;
        self.mains.iter().try_for_each(|main| name(main))?;
        for entry in &self.entries {
            name(&entry.name)?;
            at_most(entry.params.len(), PARAMS_MAX, "settings of an entry")?;
            for param in &entry.params {
                name(&param.name)?;
                if let KindBody::Text { choices } = &param.takes {
                    at_most(choices.len(), CHOICES_MAX, "words of a setting")?;
                    choices.iter().try_for_each(|word| name(word))?;
                }
            }
            if entry.default_batch == 0 {
                return Err(ProgramFault(format!("has an entry `{}` with steps of no samples", entry.name)));
            }
        }
        Ok(self.entries.iter().map(EntryInfo::from).collect())
    }
}

fn at_most(count: usize, limit: usize, what: &str) -> Result<(), ProgramFault> {
    match count <= limit {
        true => Ok(()),
        false => Err(ProgramFault(format!("has {count} {what}; {limit} are taken"))),
    }
}

fn name(text: &str) -> Result<(), ProgramFault> {
    match !text.is_empty() && text.len() <= NAME_BYTES_MAX && !text.chars().any(char::is_control) {
        true => Ok(()),
        false => Err(ProgramFault(format!("has a name that is none: {:?}", text.chars().take(40).collect::<String>()))),
    }
}

impl From<&EntryInfo> for EntryBody {
    fn from(entry: &EntryInfo) -> Self {
        let params = entry.params.iter().map(|param| ParamBody {
            name: param.name.clone(),
            takes: match &param.kind {
                &ParamKind::Int { min, max } => KindBody::Int { min, max },
                &ParamKind::Float { min, max } => KindBody::Float { min, max },
                ParamKind::Text { choices } => KindBody::Text { choices: choices.clone() },
                ParamKind::Bool => KindBody::Bool,
            },
            default: param.default.as_ref().map(|value| match value {
                &ParamValue::Int(value) => ValueBody::Int(value),
                &ParamValue::Float(value) => ValueBody::Float(value),
                ParamValue::Text(value) => ValueBody::Text(value.clone()),
                &ParamValue::Bool(value) => ValueBody::Bool(value),
            }),
        });
        Self { name: entry.name.clone(), default_batch: entry.default_batch, params: params.collect() }
    }
}

impl From<&EntryBody> for EntryInfo {
    fn from(entry: &EntryBody) -> Self {
        let params = entry.params.iter().map(|param| ParamInfo {
            name: param.name.clone(),
            kind: match &param.takes {
                &KindBody::Int { min, max } => ParamKind::Int { min, max },
                &KindBody::Float { min, max } => ParamKind::Float { min, max },
                KindBody::Text { choices } => ParamKind::Text { choices: choices.clone() },
                KindBody::Bool => ParamKind::Bool,
            },
            default: param.default.as_ref().map(|value| match value {
                &ValueBody::Int(value) => ParamValue::Int(value),
                &ValueBody::Float(value) => ParamValue::Float(value),
                ValueBody::Text(value) => ParamValue::Text(value.clone()),
                &ValueBody::Bool(value) => ParamValue::Bool(value),
            }),
        });
        Self { name: entry.name.clone(), default_batch: entry.default_batch, params: params.collect() }
    }
}

/// As in a job file.
impl fmt::Display for ValueBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Float(value) => value.fmt(f),
            Self::Text(value) => value.fmt(f),
        }
    }
}

/// In words.
impl fmt::Display for KindBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int { min: i64::MIN, max: i64::MAX } => f.write_str("a whole number"),
            Self::Int { min, max: i64::MAX } => write!(f, "a whole number from {min}"),
            Self::Int { min, max } => write!(f, "a whole number from {min} to {max}"),
            Self::Float { min: f64::MIN, max: f64::MAX } => f.write_str("a number"),
            Self::Float { min, max: f64::MAX } => write!(f, "a number from {min}"),
            Self::Float { min, max } => write!(f, "a number from {min} to {max}"),
            Self::Text { choices } if choices.is_empty() => f.write_str("a text"),
            Self::Text { choices } => f.write_str(&choices.join(", ")),
            Self::Bool => f.write_str("true or false"),
        }
    }
}

#[cfg(test)]
mod tests {
    use neap_training::Entries;

    use super::*;

    #[test]
    fn what_a_program_says_reads_back_the_same() {
        let infos = Entries::builtin().infos();
        let text = serde_json::to_string(&ProgramBody::of(&infos, vec!["word-count".to_owned()])).unwrap();
        let read: ProgramBody = serde_json::from_str(&text).unwrap();
        assert_eq!(read.infos().unwrap(), infos);
        assert_eq!(read.mains, ["word-count"]);
    }

    #[test]
    fn a_description_beyond_the_limits_is_refused() {
        let entry = EntryBody { name: "mine".to_owned(), default_batch: 8, params: Vec::new() };
        let program = |entries| ProgramBody { neap: "0.1.0".to_owned(), launch_version: 1, entries, mains: Vec::new() };
        assert!(program(vec![entry.clone()]).infos().is_ok());
        assert!(program(vec![entry.clone(); ENTRIES_MAX + 1]).infos().unwrap_err().to_string().contains("257 entries"));
        let steering = EntryBody { name: "mine\u{1b}[2J".to_owned(), ..entry.clone() };
        assert!(program(vec![steering]).infos().is_err());
        let mains = |mains| ProgramBody { mains, ..program(Vec::new()) };
        assert!(mains(vec!["word-count".to_owned()]).infos().is_ok());
        assert!(mains(vec!["main".to_owned(); ENTRIES_MAX + 1]).infos().is_err());
        assert!(mains(vec!["main\r".to_owned()]).infos().is_err());
        assert!(program(vec![EntryBody { default_batch: 0, ..entry }]).infos().is_err());
    }
}
