//! Why a table of the simulated world was refused: the place, as [`DataError`] gives it, and a stable code. Traces of jobs,
//! recordings of spot markets and tables of measurements share these codes.

use std::fmt;

use super::{DataError, Row};
use crate::codes::codes;

codes! {
    /// What kind of fault it is. The code is stable; the text beside it may change.
    enum FaultCode;

    Malformed = "A001", "a row does not have the columns or the types of its table",
        "The message says which column; its header names the columns that the table must have, and a number is written without a unit. A recording of a spot market is one JSON object a line.";
    NotFinite = "A002", "not a number, or infinite",
        "Tools that write tables put NaN or inf where a value is missing. Leave such a row out, or measure again.";
    NotPositive = "A003", "negative, or zero where something must be there",
        "Times, sizes, prices and counts are not negative, and what a job needs or runs for is more than nothing. Times are seconds from the start of the trace.";
    Absurd = "A004", "larger than anything that could be meant",
        "The value is beyond what a cluster, a job or a price can be; most often it is in another unit (milliseconds, bytes, cents).";
    UnknownGpuType = "A005", "a GPU type that the cluster does not have or no application runs on",
        "Types are compared by their names, as in the tables: see the model column of the nodes, the gpu column of apps.csv, or the types named in --cluster.";
    UnknownApp = "A006", "an application that was not declared",
        "Every application that a trace or a table of measurements names needs its rows in apps.csv; give the folder of profiles that belongs to the trace.";
    Contradiction = "A007", "rows contradict each other",
        "Bounds are the wrong way round, epochs are out of order, runs do not add up to the length they should have, or the same thing stands there twice. The message says which.";
    Missing = "A008", "something that is needed is missing",
        "A table lacks rows that another one needs, such as the statistics of the last epochs that an application runs.";
    BackInTime = "A009", "the clock goes backwards",
        "The rows of a trace stand in the order of time, and nothing ends before it begins. Sort the table by its time, or look for a row of another trace or in another unit.";
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
pub(in crate::sim) fn refuse<T>(
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
pub(in crate::sim) fn positive<T>(
    row: &Row<T>,
    file: &str,
    column: &str,
    value: f64,
    max: f64,
) -> Result<f64, WorldError> {
    if value <= 0.0 {
        return Err(refuse(row, file, column, value, FaultCode::NotPositive, "must be above 0"));
    }
    not_negative(row, file, column, value, max)
}

/// A number that must be zero or more and at most `max`.
pub(in crate::sim) fn not_negative<T>(
    row: &Row<T>,
    file: &str,
    column: &str,
    value: f64,
    max: f64,
) -> Result<f64, WorldError> {
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

/// A whole number from `min` to `max`, which may have been written as a negative one.
pub(in crate::sim) fn whole<T>(
    row: &Row<T>,
    file: &str,
    column: &str,
    value: i64,
    range: std::ops::RangeInclusive<u32>,
) -> Result<u32, WorldError> {
    if value < i64::from(*range.start()) {
        let why = format!("must be at least {}", range.start());
        return Err(refuse(row, file, column, value, FaultCode::NotPositive, &why));
    }
    u32::try_from(value)
        .ok()
        .filter(|number| range.contains(number))
        .ok_or_else(|| refuse(row, file, column, value, FaultCode::Absurd, &format!("is more than {}", range.end())))
}

/// Checks that a time is not before one that must come first.
pub(in crate::sim) fn not_before<T>(
    row: &Row<T>,
    file: &str,
    column: &str,
    value: f64,
    earlier: f64,
) -> Result<(), WorldError> {
    if value >= earlier {
        return Ok(());
    }
    Err(refuse(row, file, column, value, FaultCode::BackInTime, &format!("is before {earlier}, which comes first")))
}

/// Checks that rows stand in the order of time; `last` is the time of the row above.
pub(in crate::sim) fn in_order<T>(
    row: &Row<T>,
    file: &str,
    column: &str,
    value: f64,
    last: &mut f64,
) -> Result<(), WorldError> {
    not_before(row, file, column, value, *last)?;
    *last = value;
    Ok(())
}
