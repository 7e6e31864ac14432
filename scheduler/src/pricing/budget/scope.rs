//! Who a budget belongs to, and what it limits.

use std::fmt;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::model::{JobId, MicroUsd, MicroUsdPerHour, Millis};
use crate::spec::is_dns_label;

/// One level at which money is limited.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Everything that this cluster spends.
    Organisation,
    /// One project.
    Project(String),
    /// One tuning job and all its trials.
    Sweep(JobId),
    /// One job, all its attempts.
    Job(JobId),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Organisation => f.write_str("the organisation"),
            Self::Project(name) => write!(f, "project {name}"),
            Self::Sweep(id) => write!(f, "sweep {id}"),
            Self::Job(id) => write!(f, "job {id}"),
        }
    }
}

impl Scope {
    /// How it is written on the command line and in the API: `organisation`, `project/vision`, `sweep/j3`, `job/j7`.
    pub fn id(&self) -> String {
        match self {
            Self::Organisation => "organisation".to_owned(),
            Self::Project(name) => format!("project/{name}"),
            Self::Sweep(id) => format!("sweep/{id}"),
            Self::Job(id) => format!("job/{id}"),
        }
    }

    /// Reads a scope whose budget is set by itself, and not in a job file: `organisation` or `project/NAME`.
    ///
    /// # Errors
    ///
    /// [`ScopeParseError`].
    pub fn parse_shared(text: &str) -> Result<Self, ScopeParseError> {
        match text.split_once('/') {
            None if text == "organisation" => Ok(Self::Organisation),
            Some(("project", name)) if is_dns_label(name) => Ok(Self::Project(name.to_owned())),
            Some(("project", name)) => Err(ScopeParseError::Project(name.to_owned())),
            _ => Err(ScopeParseError::Unknown(text.to_owned())),
        }
    }
}

/// A text that names no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScopeParseError {
    /// The project is no DNS label.
    #[error("error[E006] {0:?} is not the name of a project; use 1 to 63 lowercase letters, digits and `-`")]
    Project(String),
    /// Neither the organisation nor a project.
    #[error("{0:?} is no scope; write `organisation` or `project/NAME`")]
    Unknown(String),
}

/// Who pays for something: every scope on the way counts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopePath {
    /// The project.
    pub project: String,
    /// The sweep that it is a trial of.
    pub sweep: Option<JobId>,
    /// The job; `None` where the project itself pays, for a node that no job has yet.
    pub job: Option<JobId>,
}

impl ScopePath {
    /// The scopes from the outermost to the innermost.
    pub fn scopes(&self) -> impl Iterator<Item = Scope> {
        let outer = [Scope::Organisation, Scope::Project(self.project.clone())];
        outer.into_iter().chain(self.sweep.map(Scope::Sweep)).chain(self.job.map(Scope::Job))
    }
}

/// The share of a limit, in thousandths, at which a warning is due unless the budget says otherwise
/// (`budget.warn_at: 0.8` in job files).
pub const WARN_AT_PERMILLE: u16 = 800;

/// What a scope may spend. A part that is `None` is not limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// In all.
    pub total: Option<MicroUsd>,
    /// In one calendar month (UTC). Money counts to the month in which it is settled.
    pub per_month: Option<MicroUsd>,
    /// At any moment, as a rate.
    pub per_hour: Option<MicroUsdPerHour>,
    /// The share of `total` or `per_month`, in thousandths, whose spending is worth a warning.
    pub warn_at_permille: u16,
}

impl Default for Limit {
    fn default() -> Self {
        Self { total: None, per_month: None, per_hour: None, warn_at_permille: WARN_AT_PERMILLE }
    }
}

impl Limit {
    /// Whether any part is limited.
    pub fn is_some(&self) -> bool {
        self.total.is_some() || self.per_month.is_some() || self.per_hour.is_some()
    }

    /// Whether any part is zero: a budget that can pay for nothing is a slip of the pen.
    pub fn has_zero(&self) -> bool {
        let nothing = [self.total, self.per_month].contains(&Some(MicroUsd::ZERO));
        nothing || self.per_hour == Some(MicroUsdPerHour::new(0))
    }
}

/// Which part of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LimitKind {
    /// [`Limit::total`].
    Total,
    /// [`Limit::per_month`].
    Month,
    /// [`Limit::per_hour`]; amounts beside it are for one hour.
    Rate,
}

impl fmt::Display for LimitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Total => "in total",
            Self::Month => "a month",
            Self::Rate => "an hour",
        })
    }
}

/// A calendar month in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Month {
    year: i16,
    month: i8,
}

impl Month {
    /// The month that holds an instant.
    pub fn of(instant: Millis) -> Self {
        let millis = i64::try_from(instant.get()).unwrap_or(i64::MAX);
        let date = Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX).to_zoned(TimeZone::UTC).date();
        Self { year: date.year(), month: date.month() }
    }

    /// The moment at which the month after the one that holds `instant` begins.
    pub fn end_after(instant: Millis) -> Millis {
        let millis = i64::try_from(instant.get()).unwrap_or(i64::MAX);
        let date = Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX).to_zoned(TimeZone::UTC).date();
        let next = date.last_of_month().tomorrow().ok().and_then(|day| day.to_zoned(TimeZone::UTC).ok());
        next.and_then(|day| u64::try_from(day.timestamp().as_millisecond()).ok()).map_or(instant, Millis::new)
    }
}

/// `2026-11`.
impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}
