//! Makes columns of the cells of a text format, in which types are not declared: the first cell that is there decides.

use std::collections::HashMap;

use super::{Column, Fault, NO_WORD, shown};

const FIX_CELL: &str =
    "put a number there, or take the row out; a column of texts has a text in its first row, or stands in `categories`";

/// What a missing value is written as, beside nothing at all: R, pandas, SQL.
const MISSING: [&str; 6] = ["NA", "N/A", "NaN", "nan", "null", "NULL"];

/// One column that is being read.
#[derive(Debug)]
pub(super) struct Builder {
    name: String,
    /// Texts even where they look like numbers.
    words_only: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    /// So many rows of this chunk, and nothing in any row so far.
    Undecided(usize),
    Numbers(Vec<f64>),
    Words {
        codes: Vec<u32>,
        words: Vec<String>,
        known: HashMap<String, u32>,
    },
}

impl Builder {
    pub(super) fn new(name: &str, words_only: bool) -> Self {
        Self { name: name.to_owned(), words_only, state: State::Undecided(0) }
    }

    /// A cell of a format that has only texts; empty ones and the usual words for nothing are missing.
    pub(super) fn push_cell(&mut self, cell: &str, line: u64) -> Result<(), Fault> {
        let cell = cell.trim();
        if cell.is_empty() || MISSING.contains(&cell) {
            self.push_missing();
            return Ok(());
        }
        if self.words_only || matches!(self.state, State::Words { .. }) {
            return self.push_text(cell, line);
        }
        match (cell.parse::<f64>(), &self.state) {
            (Ok(number), _) if (number as f32).is_finite() => self.push_number(number, line),
            (Err(_), State::Undecided(_)) => self.push_text(cell, line),
            _ => Err(self.fault(line, &format!("`{}` is not a finite number", shown(cell)))),
        }
    }

    /// A row without a value.
    pub(super) fn push_missing(&mut self) {
        match &mut self.state {
            State::Undecided(rows) => *rows += 1,
            State::Numbers(values) => values.push(f64::NAN),
            State::Words { codes, .. } => codes.push(NO_WORD),
        }
    }

    /// A number.
    pub(super) fn push_number(&mut self, number: f64, line: u64) -> Result<(), Fault> {
        if self.words_only {
            return self.push_text(&super::number_word(number), line);
        }
        if let State::Undecided(rows) = self.state {
            self.state = State::Numbers(vec![f64::NAN; rows]);
        }
        match &mut self.state {
            State::Numbers(values) => {
                values.push(number);
                Ok(())
            }
            _ => Err(self.fault(line, &format!("`{number}` is a number, the rows before hold texts"))),
        }
    }

    /// A text.
    pub(super) fn push_text(&mut self, text: &str, line: u64) -> Result<(), Fault> {
        if let State::Undecided(rows) = self.state {
            self.state = State::Words { codes: vec![NO_WORD; rows], words: Vec::new(), known: HashMap::new() };
        }
        let State::Words { codes, words, known } = &mut self.state else {
            return Err(self.fault(line, &format!("`{}` is not a finite number", shown(text))));
        };
        let code = match known.get(text) {
            Some(&code) => code,
            None => {
                let code = words.len() as u32;
                words.push(text.to_owned());
                known.insert(text.to_owned(), code);
                code
            }
        };
        codes.push(code);
        Ok(())
    }

    /// The rows so far. What the column holds stays decided.
    pub(super) fn take(&mut self) -> Column {
        match &mut self.state {
            State::Undecided(rows) => {
                *rows = 0;
                Column::Missing
            }
            State::Numbers(values) => Column::Numbers { values: std::mem::take(values), real: false },
            State::Words { codes, words, known } => {
                known.clear();
                Column::Words { codes: std::mem::take(codes), words: std::mem::take(words) }
            }
        }
    }

    pub(super) fn fault(&self, line: u64, what: &str) -> Fault {
        Fault::new(format!("line {line}, column `{}`: {what}", self.name), FIX_CELL)
    }
}
