//! Job files: from text to a [`JobSpec`] that is valid by construction, or to all faults with their places.
//!
//! [`parse`] is the way in: text → tree with places (`tree`) → typed fields (`field`, with the keys of `layout`) → job
//! (`read`). Nothing here opens a file: whether data exists and prices can be met is checked later, with live data.
//! [`json_schema`] describes the same format for editors.

mod artifact;
mod canonical;
mod code;
mod context;
mod fault;
mod field;
mod job;
mod layout;
mod quantity;
mod read;
mod schema;
mod tree;

pub use artifact::artifact;
pub use code::Code;
pub use context::{ArtifactFault, ArtifactInfo, ArtifactPlace, EntryInfo, ParamInfo, ParamKind, ParseContext};
pub use fault::{Fault, Severity, Span};
pub use job::{
    ActorsSpec, Backend, BudgetSpec, CheckpointEvery, CheckpointSpec, ColumnSpec, Compression, Consistency,
    DEFAULT_PROJECT, DataFormat, DataPart, DataSpec, Deadline, Determinism, HashSide, HashSplit, InitSpec, JobSpec,
    Locality, Objective, OnExceed, OnPreempt, OrderSpec, ParamValue, ServerPlacement, Strategy, TargetKind,
    TrainLength, TrainSpec, Work, WorkerRange,
};
pub use quantity::is_dns_label;
pub use schema::json_schema;
pub use tree::JOB_FILE_BYTES_MAX;

use fault::Faults;

/// A valid job and what its user should know about it.
#[derive(Debug, Clone, PartialEq)]
pub struct ParsedJob {
    /// The job.
    pub spec: JobSpec,
    /// Faults that do not stop it.
    pub warnings: Vec<Fault>,
}

/// Parses and checks one job file, without looking at anything outside of it.
///
/// # Errors
///
/// All faults of the file at once, sorted by position; at least one of them is an error.
pub fn parse(text: &str, context: &ParseContext) -> Result<ParsedJob, Vec<Fault>> {
    let mut faults = Faults::default();
    let spec = tree::read(text, &mut faults).and_then(|root| read::job(&root, context, &mut faults));
    let (spec, warnings) = faults.finish(spec)?;
    Ok(ParsedJob { spec, warnings })
}

#[cfg(test)]
mod tests;
