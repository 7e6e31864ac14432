//! Why a table of the simulated world was refused: the place, as [`DataError`] gives it, and a stable code.

use std::fmt;

use crate::sim::{DataError, Row};

/// What kind of fault it is. The code is stable; the text beside it may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultCode {
    /// A row does not have the columns or the types of its table.
    Malformed,
    /// Not a number, or infinite.
    NotFinite,
    /// Negative, or zero where something must be there.
    NotPositive,
    /// Larger than anything that could be meant.
    Absurd,
    /// A GPU type that the cluster does not have or no application runs on.
    UnknownGpuType,
    /// An application that was not declared.
    UnknownApp,
    /// Rows contradict each other: bounds the wrong way round, epochs out of order, a job twice.
    Contradiction,
    /// Something that is needed is missing.
    Missing,
}

impl FaultCode {
    /// The stable code.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Malformed => "A001",
            Self::NotFinite => "A002",
            Self::NotPositive => "A003",
            Self::Absurd => "A004",
            Self::UnknownGpuType => "A005",
            Self::UnknownApp => "A006",
            Self::Contradiction => "A007",
            Self::Missing => "A008",
        }
    }
}

/// A table that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorldError {
    /// What kind of fault it is.
    pub code: FaultCode,
    /// Where, and what stood there.
    pub place: DataError,
}

impl std::error::Error for WorldError {}

/// `A003 jobs.csv:7: column submit_s: "-1": ...`.
impl fmt::Display for WorldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code.id(), self.place)
    }
}

impl From<DataError> for WorldError {
    fn from(place: DataError) -> Self {
        Self { code: FaultCode::Malformed, place }
    }
}

/// Refuses a row because of one of its columns.
pub(super) fn refuse<T>(
    row: &Row<T>,
    file: &str,
    column: &str,
    value: impl fmt::Display,
    code: FaultCode,
    why: &str,
) -> WorldError {
    WorldError { code, place: row.refuse(file, column, value, why) }
}

/// A number that must be above zero and at most `max`.
pub(super) fn positive<T>(row: &Row<T>, file: &str, column: &str, value: f64, max: f64) -> Result<f64, WorldError> {
    if value <= 0.0 {
        return Err(refuse(row, file, column, value, FaultCode::NotPositive, "must be above 0"));
    }
    not_negative(row, file, column, value, max)
}

/// A number that must be zero or more and at most `max`.
pub(super) fn not_negative<T>(row: &Row<T>, file: &str, column: &str, value: f64, max: f64) -> Result<f64, WorldError> {
    if !value.is_finite() {
        return Err(refuse(row, file, column, value, FaultCode::NotFinite, "is not a finite number"));
    }
    if value < 0.0 {
        return Err(refuse(row, file, column, value, FaultCode::NotPositive, "must not be negative"));
    }
    if value > max {
        return Err(refuse(row, file, column, value, FaultCode::Absurd, &format!("is more than {max}")));
    }
    Ok(value)
}
