//! The stored form of an artifact: its content, and what its owner said that it can do.

use neap_scheduler::model::ContentHash;
use neap_scheduler::spec::{ArtifactInfo, EntryInfo, ParamInfo, ParamKind, ParamValue};
use serde::{Deserialize, Serialize};

/// A program that a job brings along.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArtifactRecord {
    /// Its content.
    pub hash: ContentHash,
    /// The version of the launch that it reads.
    pub launch_version: u32,
    /// What it can train.
    pub entries: Vec<EntryRecord>,
    /// The main functions of its own actors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mains: Vec<String>,
}

/// Something that a program can train.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EntryRecord {
    /// Its name.
    pub name: String,
    /// The batch where a job names none.
    pub default_batch: u32,
    /// Its settings.
    pub params: Vec<ParamRecord>,
}

/// A setting of an entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ParamRecord {
    /// Its name.
    pub name: String,
    /// What it takes.
    pub kind: KindRecord,
    /// What it is where a job says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<ValueRecord>,
}

/// What a setting takes. Bounds are part of the range.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum KindRecord {
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

/// A value of a setting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ValueRecord {
    /// A switch.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// A text.
    Text(String),
}

impl ArtifactRecord {
    /// As job files are checked against it.
    pub fn info(&self) -> ArtifactInfo {
        let entries = self.entries.iter().map(EntryInfo::from).collect();
        ArtifactInfo { hash: self.hash, entries, mains: self.mains.clone() }
    }
}

impl From<&EntryInfo> for EntryRecord {
    fn from(entry: &EntryInfo) -> Self {
        let params = entry.params.iter().map(|param| ParamRecord {
            name: param.name.clone(),
            kind: match &param.kind {
                &ParamKind::Int { min, max } => KindRecord::Int { min, max },
                &ParamKind::Float { min, max } => KindRecord::Float { min, max },
                ParamKind::Text { choices } => KindRecord::Text { choices: choices.clone() },
                ParamKind::Bool => KindRecord::Bool,
            },
            default: param.default.as_ref().map(|value| match value {
                &ParamValue::Int(value) => ValueRecord::Int(value),
                &ParamValue::Float(value) => ValueRecord::Float(value),
                ParamValue::Text(value) => ValueRecord::Text(value.clone()),
                &ParamValue::Bool(value) => ValueRecord::Bool(value),
            }),
        });
        Self { name: entry.name.clone(), default_batch: entry.default_batch, params: params.collect() }
    }
}

impl From<&EntryRecord> for EntryInfo {
    fn from(entry: &EntryRecord) -> Self {
        let params = entry.params.iter().map(|param| ParamInfo {
            name: param.name.clone(),
            kind: match &param.kind {
                &KindRecord::Int { min, max } => ParamKind::Int { min, max },
                &KindRecord::Float { min, max } => ParamKind::Float { min, max },
                KindRecord::Text { choices } => ParamKind::Text { choices: choices.clone() },
                KindRecord::Bool => ParamKind::Bool,
            },
            default: param.default.as_ref().map(|value| match value {
                &ValueRecord::Int(value) => ParamValue::Int(value),
                &ValueRecord::Float(value) => ParamValue::Float(value),
                ValueRecord::Text(value) => ParamValue::Text(value.clone()),
                &ValueRecord::Bool(value) => ParamValue::Bool(value),
            }),
        });
        Self { name: entry.name.clone(), default_batch: entry.default_batch, params: params.collect() }
    }
}
