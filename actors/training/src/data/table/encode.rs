//! Rows of a table as they are stored: a number a column, the code of its category, or nothing.

use std::collections::HashMap;

use super::super::rows::RowsBuilder;
use super::super::{ColumnKind, DataError, Fault, Input, Target, TargetInfo};
use super::fit::not_finite;
use super::{Chunk, Column, NO_WORD, Selection};

const FIX_LABEL: &str = "take the row out, or name another column with `label`; rows are counted from 0";

/// Makes stored rows of chunks.
pub(in super::super) struct Encoder<'a> {
    names: Vec<String>,
    label: String,
    /// The codes of each category column, by text.
    codes: Vec<Option<HashMap<&'a str, f32>>>,
    /// The numbers of the classes, by name; nothing where values are predicted.
    classes: Option<HashMap<&'a str, u16>>,
    buffer: Vec<f32>,
}

/// Why rows were not stored.
pub(in super::super) enum EncodeError {
    /// They cannot be.
    Fault(Fault),
    /// The disk did not take them.
    Store(DataError),
}

impl From<Fault> for EncodeError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl<'a> Encoder<'a> {
    pub(in super::super) fn new(selection: &Selection, input: &'a Input, target: &'a TargetInfo) -> Self {
        let names = selection.features().to_vec();
        let codes = |column: &'a super::super::InputColumn| match &column.kind {
            ColumnKind::Number { .. } => None,
            ColumnKind::Category(values) => {
                Some(values.iter().zip(0u32..).map(|(value, code)| (value.as_str(), code as f32)).collect())
            }
        };
        let codes = match input {
            Input::Uniform { .. } => vec![None; names.len()],
            Input::Columns(columns) => columns.iter().map(codes).collect(),
        };
        let classes = match target {
            TargetInfo::Classes(names) => {
                Some(names.iter().zip(0u16..).map(|(name, at)| (name.as_str(), at)).collect())
            }
            TargetInfo::Value => None,
        };
        Self { names, label: selection.label().to_owned(), codes, classes, buffer: Vec::new() }
    }

    /// Stores these rows of a chunk.
    pub(in super::super) fn store(
        &mut self,
        chunk: &Chunk,
        rows: &[u32],
        out: &mut RowsBuilder,
    ) -> Result<(), EncodeError> {
        let width = self.names.len();
        self.buffer.clear();
        self.buffer.resize(width * rows.len(), f32::NAN);
        for at in 0..width {
            self.column(at, chunk, rows)?;
        }
        self.targets(chunk, rows, out)?;
        out.push_floats(&self.buffer).map_err(EncodeError::Store)
    }

    fn column(&mut self, at: usize, chunk: &Chunk, rows: &[u32]) -> Result<(), Fault> {
        let width = self.names.len();
        let samples = self.buffer.chunks_exact_mut(width).zip(rows);
        let cells = samples.map(|(sample, &row)| (&mut sample[at], row as usize));
        match (&self.codes[at], &chunk.columns[at]) {
            (None, Column::Missing) => {}
            (None, Column::Numbers { values, .. }) => {
                for (cell, row) in cells {
                    let number = values[row];
                    *cell = number as f32;
                    if cell.is_infinite() {
                        return Err(not_finite(&self.names[at], chunk.first_row + row as u64, number));
                    }
                }
            }
            (Some(codes), Column::Words { codes: found, words }) => {
                let unknown = codes.len() as f32;
                let code = |word: &str| codes.get(word).copied().unwrap_or(unknown);
                let known: Vec<f32> = words.iter().map(|word| code(word)).collect();
                let nothing = code("");
                for (cell, row) in cells {
                    *cell = if found[row] == NO_WORD { nothing } else { known[found[row] as usize] };
                }
            }
            (Some(codes), Column::Missing) => {
                let nothing = codes.get("").copied().unwrap_or(codes.len() as f32);
                cells.for_each(|(cell, _)| *cell = nothing);
            }
            (None, Column::Words { .. }) => return Err(self.other_type(at, "texts", "numbers")),
            (Some(_), Column::Numbers { .. }) => return Err(self.other_type(at, "numbers", "texts")),
        }
        Ok(())
    }

    fn other_type(&self, at: usize, found: &str, expected: &str) -> Fault {
        let what = format!("column `{}` holds {found}, the training data {expected}", self.names[at]);
        Fault::new(what, "store it the same way in every file, or name it in `data.train.categories`")
    }

    fn targets(&self, chunk: &Chunk, rows: &[u32], out: &mut RowsBuilder) -> Result<(), Fault> {
        let fault = |row: u32, what: String| {
            let row = chunk.first_row + u64::from(row);
            Fault::new(format!("row {row}, column `{}`: {what}", self.label), FIX_LABEL)
        };
        let missing = |row| fault(row, "there is no label".to_owned());
        match &chunk.columns[self.names.len()] {
            Column::Missing => rows.first().map_or(Ok(()), |&row| Err(missing(row))),
            Column::Numbers { values, .. } => {
                let mut last = None;
                for &row in rows {
                    let number = values[row as usize];
                    let target = match last {
                        Some((known, target)) if known == number => target,
                        _ if number.is_nan() => return Err(missing(row)),
                        _ => self.target_of_number(number).map_err(|what| fault(row, what))?,
                    };
                    last = Some((number, target));
                    out.push_target(target);
                }
                Ok(())
            }
            Column::Words { codes, words } => {
                let known: Vec<Result<Target, String>> = words.iter().map(|word| self.target_of_word(word)).collect();
                for &row in rows {
                    let target = known.get(codes[row as usize] as usize).ok_or_else(|| missing(row))?;
                    out.push_target(target.clone().map_err(|what| fault(row, what))?);
                }
                Ok(())
            }
        }
    }

    fn target_of_number(&self, number: f64) -> Result<Target, String> {
        match &self.classes {
            Some(_) => self.target_of_word(&super::number_word(number)),
            None => value(number).ok_or_else(|| format!("`{number}` is not a finite number")),
        }
    }

    fn target_of_word(&self, word: &str) -> Result<Target, String> {
        match &self.classes {
            Some(classes) => {
                let class = classes.get(word).map(|&class| Target::Class(class));
                class.ok_or_else(|| format!("its class `{}` does not occur in the training data", super::shown(word)))
            }
            None => {
                let number = word.parse::<f64>().ok().and_then(value);
                number.ok_or_else(|| format!("`{}` is not a finite number", super::shown(word)))
            }
        }
    }
}

fn value(number: f64) -> Option<Target> {
    (number as f32).is_finite().then_some(Target::Value(number as f32))
}
