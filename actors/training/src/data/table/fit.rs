//! What the values of a table become, learnt in one pass over the training data.

use std::collections::BTreeSet;

use neap_scheduler::spec::TargetKind;

use super::super::input::scale_of;
use super::super::{CLASSES_MAX, ColumnKind, Fault, Input, InputColumn, TargetInfo};
use super::{Chunk, Column, NO_WORD, Selection, number_word};

/// Categories of one column. Each is a feature: a column with more is most likely a name or a number of its own.
const CATEGORIES_MAX: usize = 4_096;

/// Features that the columns of a table may become.
const FEATURES_MAX: usize = 65_536;

/// The names of columns and categories together: they travel to other workers in one message.
const TEXT_BYTES_MAX: usize = 512 * 1024;

const FIX_LABEL: &str = "name the column to be predicted with `data.train.label`, or say `target: value`";

/// What has been seen so far.
pub(in super::super) struct Fit {
    names: Vec<String>,
    label: String,
    columns: Vec<ColumnFit>,
    /// How often each byte occurs, while the columns may be the pixels of an image and all values are bytes.
    bytes: Option<Box<[u64; 256]>>,
    target: TargetFit,
    rows: u64,
}

#[derive(Debug, Clone)]
enum ColumnFit {
    /// Nothing there yet in so many rows.
    Unknown {
        missing: u64,
    },
    Number {
        missing: u64,
        moments: Moments,
    },
    Words {
        values: BTreeSet<String>,
    },
}

/// Sums around the first value: exact enough for any deviation that is not tiny beside the values themselves, and cheap.
#[derive(Debug, Clone, Copy, Default)]
struct Moments {
    first: f64,
    count: u64,
    sum: f64,
    squares: f64,
}

/// The label's values.
struct TargetFit {
    kind: Option<TargetKind>,
    /// `None` where there are too many for classes.
    names: Option<BTreeSet<String>>,
    /// Whether all are numbers, and whether any has a fraction or is stored as a floating-point number.
    numeric: bool,
    real: bool,
}

impl Fit {
    pub(in super::super) fn new(selection: &Selection, target: Option<TargetKind>) -> Self {
        Self {
            names: selection.features().to_vec(),
            label: selection.label().to_owned(),
            columns: vec![ColumnFit::Unknown { missing: 0 }; selection.features().len()],
            bytes: is_series(selection.features()).then(|| Box::new([0; 256])),
            target: TargetFit { kind: target, names: Some(BTreeSet::new()), numeric: true, real: false },
            rows: 0,
        }
    }

    /// Takes in these rows of a chunk.
    pub(in super::super) fn add(&mut self, chunk: &Chunk, rows: &[u32]) -> Result<(), Fault> {
        self.rows += rows.len() as u64;
        for (at, column) in chunk.columns[..self.names.len()].iter().enumerate() {
            if let Some(value) = self.columns[at].add(column, rows, &mut self.bytes)? {
                let (row, number) = value;
                return Err(not_finite(&self.names[at], chunk.first_row + u64::from(row), number));
            }
            if let Some((found, before)) = self.columns[at].contradicts(column) {
                let what = format!("column `{}` holds {found}, the files before hold {before}", self.names[at]);
                return Err(Fault::new(what, "store it the same way in every file, or name it in `categories`"));
            }
            if let ColumnFit::Words { values } = &self.columns[at]
                && values.len() > CATEGORIES_MAX
            {
                let what = format!("column `{}` has more than {CATEGORIES_MAX} different texts", self.names[at]);
                return Err(Fault::new(what, "leave it out with `ignore`, or put fewer, broader categories there"));
            }
        }
        self.target.add(&chunk.columns[self.names.len()], rows)
    }

    /// What the columns become, and what there is to predict.
    pub(in super::super) fn finish(self) -> Result<(Input, TargetInfo), Fault> {
        if self.rows == 0 {
            return Err(Fault::new("holds no sample", "name a data set, or a part of it, with at least one"));
        }
        let target = self.target.finish(&self.label)?;
        if let Some(counts) = self.bytes {
            return Ok((Input::of_bytes(&counts), target));
        }
        let column = |(name, fit): (String, ColumnFit)| {
            let kind = match fit {
                ColumnFit::Unknown { .. } => {
                    return Err(Fault::new(format!("column `{name}` holds nothing in any row"), "name it in `ignore`"));
                }
                ColumnFit::Number { missing, moments } => {
                    let (mean, deviation) = moments.finish();
                    ColumnKind::Number { mean: mean as f32, scale: scale_of(deviation), indicator: missing > 0 }
                }
                ColumnFit::Words { values } => ColumnKind::Category(in_order(values)),
            };
            Ok(InputColumn { name, kind })
        };
        let columns = self.names.into_iter().zip(self.columns).map(column).collect::<Result<Vec<_>, _>>()?;
        let features = Input::features(&columns);
        if features > FEATURES_MAX {
            let what = format!("the columns become {features} features, at most {FEATURES_MAX} are possible");
            return Err(Fault::new(what, "leave out columns with many different texts with `ignore`"));
        }
        let bytes = columns.iter().map(|column| column.name.len() + column.kind.bytes()).sum::<usize>();
        if bytes > TEXT_BYTES_MAX {
            let what = format!(
                "the names of columns and categories take {bytes} bytes, at most {TEXT_BYTES_MAX} are possible"
            );
            return Err(Fault::new(what, "leave out columns with long texts with `ignore`"));
        }
        Ok((Input::Columns(columns), target))
    }
}

impl ColumnFit {
    /// Takes in values; gives the first number that is not finite, with its row.
    fn add(
        &mut self,
        column: &Column,
        rows: &[u32],
        bytes: &mut Option<Box<[u64; 256]>>,
    ) -> Result<Option<(u32, f64)>, Fault> {
        match (&mut *self, column) {
            (Self::Unknown { missing } | Self::Number { missing, .. }, Column::Missing) => {
                *missing += rows.len() as u64;
                *bytes = None;
            }
            (Self::Words { values }, Column::Missing) => {
                values.extend((!rows.is_empty()).then(String::new));
            }
            (&mut Self::Unknown { missing }, Column::Numbers { .. }) => {
                *self = Self::Number { missing, moments: Moments::default() };
                return self.add(column, rows, bytes);
            }
            (&mut Self::Unknown { missing }, Column::Words { .. }) => {
                let values = (missing > 0).then(String::new).into_iter().collect();
                *self = Self::Words { values };
                return self.add(column, rows, bytes);
            }
            (Self::Number { missing, moments }, Column::Numbers { values, .. }) => {
                count_bytes(rows.iter().map(|&row| values[row as usize]), bytes);
                for &row in rows {
                    let value = values[row as usize];
                    if value.is_nan() {
                        *missing += 1;
                    } else if (value as f32).is_finite() {
                        moments.add(value);
                    } else {
                        return Ok(Some((row, value)));
                    }
                }
            }
            (Self::Words { values: known }, Column::Words { codes, words }) => {
                *bytes = None;
                for word in used(codes, words, rows) {
                    // Longer than the limit stops growing: the caller refuses the column.
                    if known.len() <= CATEGORIES_MAX && !known.contains(word) {
                        known.insert(word.to_owned());
                    }
                }
            }
            // Told apart by [`Self::contradicts`].
            (Self::Number { .. }, Column::Words { .. }) | (Self::Words { .. }, Column::Numbers { .. }) => {}
        }
        Ok(None)
    }

    fn contradicts(&self, column: &Column) -> Option<(&'static str, &'static str)> {
        match (self, column) {
            (Self::Number { .. }, Column::Words { .. }) => Some(("texts", "numbers")),
            (Self::Words { .. }, Column::Numbers { .. }) => Some(("numbers", "texts")),
            _ => None,
        }
    }
}

/// Counts values while all of them are bytes.
fn count_bytes(values: impl Iterator<Item = f64>, bytes: &mut Option<Box<[u64; 256]>>) {
    let Some(counts) = bytes else { return };
    for value in values {
        // Saturates, and takes NaN for 0: only a byte comes back as it was.
        let byte = value as u8;
        if f64::from(byte) != value {
            *bytes = None;
            return;
        }
        counts[usize::from(byte)] += 1;
    }
}

/// Whether the columns are one thing cut into numbered pieces, as the pixels `p0`, `p1`, `p2` are: one name, and numbers that
/// follow each other. Only then do they share a mean and a deviation; an hour and a distance do not, small and whole as both
/// may be.
fn is_series(names: &[String]) -> bool {
    let numbered = |name: &String| {
        let stem = name.trim_end_matches(|end: char| end.is_ascii_digit());
        Some((stem.to_owned(), name[stem.len()..].parse::<u64>().ok()?))
    };
    let Some(numbered) = names.iter().map(numbered).collect::<Option<Vec<_>>>() else { return false };
    numbered.len() > 1 && numbered.windows(2).all(|pair| pair[0].0 == pair[1].0 && pair[0].1 + 1 == pair[1].1)
}

/// The words that these rows use; the empty one where one has none.
fn used<'a>(codes: &'a [u32], words: &'a [String], rows: &'a [u32]) -> impl Iterator<Item = &'a str> {
    let mut seen = vec![false; words.len() + 1];
    rows.iter().for_each(|&row| {
        let code = codes[row as usize];
        seen[if code == NO_WORD { words.len() } else { code as usize }] = true;
    });
    let word = move |at: usize| words.get(at).map_or("", String::as_str);
    seen.into_iter().enumerate().filter(|(_, seen)| *seen).map(move |(at, _)| word(at))
}

impl Moments {
    fn add(&mut self, value: f64) {
        if self.count == 0 {
            self.first = value;
        }
        let moved = value - self.first;
        self.count += 1;
        self.sum += moved;
        self.squares += moved * moved;
    }

    /// Mean and deviation.
    fn finish(self) -> (f64, f64) {
        let count = self.count.max(1) as f64;
        let variance = (self.squares - self.sum * self.sum / count) / count;
        (self.first + self.sum / count, variance.max(0.0).sqrt())
    }
}

impl TargetFit {
    fn add(&mut self, column: &Column, rows: &[u32]) -> Result<(), Fault> {
        // Values need nothing beforehand; what is wrong with one is said where it is encoded.
        if self.kind == Some(TargetKind::Value) {
            return Ok(());
        }
        match column {
            Column::Missing => {}
            Column::Numbers { values, real } => {
                self.real |= *real;
                if self.names.is_none() || (self.kind.is_none() && self.real) {
                    return Ok(());
                }
                let mut previous = f64::NAN;
                for value in rows.iter().map(|&row| values[row as usize]) {
                    if value != previous && !value.is_nan() {
                        self.real |= value.fract() != 0.0;
                        self.insert(&number_word(value));
                    }
                    previous = value;
                }
            }
            Column::Words { codes, words } => {
                for word in used(codes, words, rows).filter(|word| !word.is_empty()) {
                    match word.parse::<f64>().ok().filter(|number| number.is_finite()) {
                        Some(number) => self.real |= number.fract() != 0.0 || word.contains('.'),
                        None => self.numeric = false,
                    }
                    self.insert(word);
                }
            }
        }
        Ok(())
    }

    fn insert(&mut self, name: &str) {
        let Some(names) = &mut self.names else { return };
        if !names.contains(name) {
            names.insert(name.to_owned());
        }
        if names.len() > CLASSES_MAX {
            self.names = None;
        }
    }

    fn finish(self, label: &str) -> Result<TargetInfo, Fault> {
        let is_value = match self.kind {
            Some(kind) => kind == TargetKind::Value,
            None => self.numeric && self.real,
        };
        match self.names {
            _ if is_value => Ok(TargetInfo::Value),
            Some(names) => Ok(TargetInfo::Classes(in_order(names))),
            None => {
                let what = format!("more than {CLASSES_MAX} different classes in column `{label}`");
                Err(Fault::new(what, FIX_LABEL))
            }
        }
    }
}

/// Sorted; whole numbers in the order of their values.
fn in_order(names: BTreeSet<String>) -> Vec<String> {
    let mut names: Vec<String> = names.into_iter().collect();
    if names.iter().all(|name| name.parse::<i64>().is_ok()) {
        names.sort_by_key(|name| name.parse::<i64>().unwrap_or_default());
    }
    names
}

/// A number that a float cannot hold.
pub(super) fn not_finite(column: &str, row: u64, number: f64) -> Fault {
    Fault::new(
        format!("row {row}, column `{column}`: `{number}` is not a finite number"),
        "put a number there, or nothing; rows are counted from 0",
    )
}
