//! Tables: rows with named columns, from any format.
//!
//! [`read`] goes through the files of a table chunk by chunk, as [`Chunk`]s of columns; [`csv`], [`jsonl`] and [`arrow`]
//! know one format each. [`Selection`] says which columns are meant, [`Fit`] learns from the training data what their values
//! become, [`Encoder`] makes stored rows of them. Chunks bound the memory, whatever the files hold.

mod arrow;
mod builder;
mod csv;
mod encode;
mod fit;
mod jsonl;
mod selection;

use std::collections::BTreeSet;

use neap_scheduler::spec::DataFormat;

pub(super) use encode::{EncodeError, Encoder};
pub(super) use fit::Fit;
pub(super) use selection::{Selection, TableColumns};

use super::files::{DataFile, Source};
use super::{DATA_BYTES_MAX, DataError, Fault};

/// Rows decoded at once.
const CHUNK_ROWS: usize = 4_096;

/// Columns of a file, read or not.
const COLUMNS_MAX: usize = 65_536;

/// Instead of the code of a word: nothing there.
pub(super) const NO_WORD: u32 = u32::MAX;

/// Some rows of a table.
#[derive(Debug, Clone)]
pub(super) struct Chunk {
    /// The columns asked for, in that order.
    pub(super) columns: Vec<Column>,
    /// How many rows.
    pub(super) rows: usize,
    /// How many rows of the table come before.
    pub(super) first_row: u64,
}

/// Some values of a column.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Column {
    /// Nothing in any row.
    Missing,
    /// Numbers; NaN where there is none.
    Numbers {
        /// One a row.
        values: Vec<f64>,
        /// Whether they are stored as floating-point numbers. A text format does not say; its numbers are not.
        real: bool,
    },
    /// Texts.
    Words {
        /// One a row, into `words`; [`NO_WORD`] where there is none.
        codes: Vec<u32>,
        /// The texts, each once.
        words: Vec<String>,
    },
}

impl Chunk {
    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> u64 {
        let bytes = |column: &Column| match column {
            Column::Missing => 0,
            Column::Numbers { values, .. } => values.len() * size_of::<f64>(),
            Column::Words { codes, words } => {
                codes.len() * size_of::<u32>()
                    + words.iter().map(|word| word.len() + size_of::<String>()).sum::<usize>()
            }
        };
        self.columns.iter().map(|column| bytes(column) as u64).sum()
    }
}

/// Which columns to read, and how.
#[derive(Debug, Clone)]
pub(super) struct Request {
    /// Their names.
    pub(super) columns: Vec<String>,
    /// Those of them that are texts even where they look like numbers.
    pub(super) words: BTreeSet<String>,
}

impl Request {
    fn is_words(&self, at: usize) -> bool {
        self.words.contains(&self.columns[at])
    }

    /// Where the columns are in a file with this header.
    fn find_in(&self, header: &[String]) -> Result<Vec<usize>, Fault> {
        self.columns.iter().map(|name| position(header, name)).collect()
    }
}

/// Whether to go on reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// With the next chunk.
    Go,
    /// No further row is meant.
    Stop,
}

/// Takes chunks one after the other.
type Visit<'a> = dyn FnMut(Chunk) -> Result<Next, Fault> + 'a;

/// The suffixes of a format's files.
pub(super) fn suffixes(format: DataFormat) -> &'static [&'static str] {
    match format {
        DataFormat::Csv => &[".csv"],
        DataFormat::Jsonl => &[".jsonl", ".ndjson"],
        DataFormat::Parquet => &[".parquet"],
        DataFormat::Arrow => &[".arrow", ".feather", ".ipc"],
        DataFormat::Idx => &[],
    }
}

/// The names of a file's columns.
pub(super) fn header(file: &DataFile, format: DataFormat) -> Result<Vec<String>, DataError> {
    let names = match format {
        DataFormat::Csv | DataFormat::Idx => csv::header(Source::open(file)?.content),
        DataFormat::Jsonl => jsonl::header(Source::open(file)?.content),
        DataFormat::Parquet | DataFormat::Arrow => arrow::header(file.open()?, format),
    };
    let names = names.map_err(|fault| fault.at(file.shown()))?;
    let mut seen = BTreeSet::new();
    if let Some(twice) = names.iter().find(|name| !seen.insert(name.as_str())) {
        let what = format!("the column `{twice}` is there twice");
        return Err(Fault::new(what, "give every column a name of its own").at(file.shown()));
    }
    if names.len() > COLUMNS_MAX {
        let what = format!("has {} columns, at most {COLUMNS_MAX} are possible", names.len());
        return Err(Fault::new(what, "split it, or store images as IDX").at(file.shown()));
    }
    Ok(names)
}

/// Goes through the rows of all files, until the end or until `visit` has seen enough. Returns how many rows were read.
pub(super) fn read(
    files: &[DataFile],
    format: DataFormat,
    request: &Request,
    visit: &mut Visit<'_>,
) -> Result<u64, DataError> {
    let mut rows = 0;
    for file in files {
        let mut next = Next::Go;
        let mut count = |mut chunk: Chunk| {
            chunk.first_row = rows;
            rows += chunk.rows as u64;
            next = visit(chunk)?;
            Ok(next)
        };
        let source = || Source::open(file).map(|source| std::io::Read::take(source.content, DATA_BYTES_MAX));
        let outcome = match format {
            DataFormat::Csv | DataFormat::Idx => csv::read(source()?, request, &mut count),
            DataFormat::Jsonl => jsonl::read(source()?, request, &mut count),
            DataFormat::Parquet | DataFormat::Arrow => arrow::read(file.open()?, format, request, &mut count),
        };
        outcome.map_err(|fault| fault.at(file.shown()))?;
        if next == Next::Stop {
            break;
        }
    }
    Ok(rows)
}

/// Where a column is in a header.
fn position(header: &[String], name: &str) -> Result<usize, Fault> {
    header.iter().position(|known| known == name).ok_or_else(|| {
        let known = header.iter().take(8).cloned().collect::<Vec<_>>().join(", ");
        let what = format!("no column `{name}`; the header starts with {known}");
        Fault::new(what, "check the names in `data.*`: `label`, `columns`, `ignore`, `categories`, `by`")
    })
}

/// A number as a word: whole ones without a point.
fn number_word(number: f64) -> String {
    if number.fract() == 0.0 && number.abs() < 1e15 { format!("{}", number as i64) } else { format!("{number}") }
}

/// A cell for messages.
fn shown(text: &str) -> String {
    let short: String = text.chars().take(40).collect();
    if short.len() < text.len() { short + "…" } else { short }
}
