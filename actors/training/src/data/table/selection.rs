//! Which columns of a table are features, which is the label, and which decide on which side of a cut a row lies.

use std::collections::BTreeSet;

use neap_scheduler::spec::{DataFormat, DataPart, DataSpec, TargetKind};

use super::super::split::{Cut, RowHash};
use super::super::{Fault, TargetInfo};
use super::{Chunk, Column, NO_WORD, Request, position};

/// What a table's columns are for. The columns of a chunk are the features, then the label, then those that are only hashed.
#[derive(Debug, Clone)]
pub(in super::super) struct Selection {
    pub(super) request: Request,
    features: usize,
    /// Of the request's columns, those that are hashed, sorted by name.
    hashed: Vec<usize>,
    cut: Cut,
}

/// The columns of a table that a model was fitted on, for tables that are to be read like it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct TableColumns {
    /// The names of the features.
    pub(in super::super) features: Vec<String>,
    /// Those of them that are categories.
    pub(in super::super) categories: BTreeSet<String>,
    /// The name of the label.
    pub(in super::super) label: String,
}

impl Selection {
    /// What a job file says of a table with this header.
    pub(in super::super) fn of_training(header: &[String], spec: &DataSpec) -> Result<Self, Fault> {
        let label = label(header, spec, None)?;
        let named = &spec.columns;
        for name in named.only.iter().chain(&named.ignore).chain(&named.categories) {
            position(header, name)?;
        }
        let is_feature = |name: &&String| {
            **name != label && (named.only.is_empty() || named.only.contains(name)) && !named.ignore.contains(name)
        };
        let features: Vec<String> = header.iter().filter(is_feature).cloned().collect();
        if features.is_empty() {
            let help = "leave some column to the model, beside the label";
            return Err(Fault::new("no column is left as a feature", help));
        }
        let categories: BTreeSet<String> = named.categories.iter().cloned().collect();
        // Text formats do not say whether a label such as `1` is a number; it is decided when all are known.
        let is_text = matches!(spec.format, DataFormat::Csv | DataFormat::Jsonl);
        let label_is_words = match spec.target {
            Some(TargetKind::Class) => true,
            Some(TargetKind::Value) => false,
            None => is_text,
        };
        Self::build(header, spec, TableColumns { features, categories, label }, label_is_words)
    }

    /// The same columns in another table.
    pub(in super::super) fn like(
        header: &[String],
        spec: &DataSpec,
        fitted: &TableColumns,
        target: &TargetInfo,
    ) -> Result<Self, Fault> {
        let label = label(header, spec, Some(&fitted.label))?;
        for name in &fitted.features {
            position(header, name)?;
        }
        let label_is_words = matches!(target, TargetInfo::Classes(_));
        Self::build(header, spec, TableColumns { label, ..fitted.clone() }, label_is_words)
    }

    fn build(header: &[String], spec: &DataSpec, columns: TableColumns, label_is_words: bool) -> Result<Self, Fault> {
        let TableColumns { features, categories, label } = columns;
        let count = features.len();
        let mut words = categories;
        if label_is_words {
            words.insert(label.clone());
        }
        let mut names = features;
        names.push(label);
        let mut hashed_names = match &spec.part {
            DataPart::Hash(split) => match &split.by {
                Some(name) => vec![header[position(header, name)?].clone()],
                None => header.to_vec(),
            },
            _ => Vec::new(),
        };
        hashed_names.sort_unstable();
        for name in &hashed_names {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        let hashed = hashed_names.iter().map(|name| position(&names, name)).collect::<Result<_, _>>()?;
        Ok(Self { request: Request { columns: names, words }, features: count, hashed, cut: Cut::of(&spec.part) })
    }

    /// The names of the features.
    pub(in super::super) fn features(&self) -> &[String] {
        &self.request.columns[..self.features]
    }

    /// The name of the label.
    pub(in super::super) fn label(&self) -> &str {
        &self.request.columns[self.features]
    }

    /// What to read.
    pub(in super::super) fn request(&self) -> &Request {
        &self.request
    }

    /// Whether no row after this chunk is meant.
    pub(in super::super) fn ends_after(&self, chunk: &Chunk) -> bool {
        self.cut.ends_before(chunk.first_row + chunk.rows as u64)
    }

    /// The rows of a chunk that are meant.
    pub(in super::super) fn rows(&self, chunk: &Chunk) -> Vec<u32> {
        let mut hash = RowHash::default();
        let taken = |row: &u32| {
            self.cut.takes(chunk.first_row + u64::from(*row), || {
                hash.begin();
                for &column in &self.hashed {
                    take_in(&mut hash, &chunk.columns[column], *row as usize);
                }
                hash.finish()
            })
        };
        let mut taken = taken;
        (0..chunk.rows as u32).filter(|row| taken(row)).collect()
    }
}

fn label(header: &[String], spec: &DataSpec, fitted: Option<&str>) -> Result<String, Fault> {
    let name = spec.label.as_deref().or(fitted).or_else(|| header.last().map(String::as_str)).unwrap_or_default();
    Ok(header[position(header, name)?].clone())
}

fn take_in(hash: &mut RowHash, column: &Column, row: usize) {
    match column {
        Column::Missing => hash.missing(),
        Column::Numbers { values, .. } if values[row].is_nan() => hash.missing(),
        Column::Numbers { values, .. } => hash.number(values[row]),
        Column::Words { codes, .. } if codes[row] == NO_WORD => hash.missing(),
        Column::Words { codes, words } => hash.text(&words[codes[row] as usize]),
    }
}
