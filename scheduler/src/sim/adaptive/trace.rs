//! Job traces: who submits what, and when.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::world::{Table, World};
use crate::sim::fault::{FaultCode, WorldError, in_order, not_negative, refuse, whole};
use crate::sim::read_rows;

/// No trace of ours spans ten years; a later time is in another unit.
const SUBMIT_SECONDS_MAX: f64 = 10.0 * 366.0 * 86_400.0;
/// No job asks for more GPUs than this, or for a larger batch.
const REQUEST_GPUS_MAX: u32 = 100_000;
const REQUEST_BATCH_MAX: u32 = 1_000_000_000;

/// The jobs of one simulation, in order of submission.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// What it is called.
    pub name: String,
    /// Its jobs.
    pub jobs: Vec<TraceJob>,
}

/// One submission.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceJob {
    /// Its name in the trace.
    pub name: String,
    /// When it is submitted, seconds from the start.
    pub submit: f64,
    /// What it runs.
    pub app: String,
    /// The GPUs its owner asked for: counts only where jobs are rigid.
    pub request_gpus: u32,
    /// The total batch its owner asked for: counts only where jobs are rigid.
    pub request_batch: u32,
}

#[derive(Debug, Deserialize)]
struct TraceRow {
    trace: String,
    job: String,
    submit_s: f64,
    app: String,
    req_gpus: i64,
    req_batch: i64,
}

/// Reads a table of traces. The rows of one trace stand in the order of submission, and not necessarily together.
///
/// # Errors
///
/// The first row that cannot be used.
pub fn read_traces(table: Table<'_>, world: &World) -> Result<Vec<Trace>, WorldError> {
    let mut traces: BTreeMap<String, Vec<TraceJob>> = BTreeMap::new();
    let mut names = BTreeSet::new();
    let mut last: BTreeMap<String, f64> = BTreeMap::new();
    for row in read_rows::<TraceRow>(table.file, table.text)? {
        let value = &row.value;
        let submit = not_negative(&row, table.file, "submit_s", value.submit_s, SUBMIT_SECONDS_MAX)?;
        in_order(&row, table.file, "submit_s", submit, last.entry(value.trace.clone()).or_default())?;
        let request_gpus = whole(&row, table.file, "req_gpus", value.req_gpus, 1..=REQUEST_GPUS_MAX)?;
        let request_batch = whole(&row, table.file, "req_batch", value.req_batch, 1..=REQUEST_BATCH_MAX)?;
        if !world.apps.contains_key(&value.app) {
            let why = "is no declared application";
            return Err(refuse(&row, table.file, "app", &value.app, FaultCode::UnknownApp, why));
        }
        if !names.insert((value.trace.clone(), value.job.clone())) {
            let why = "this job stands there twice";
            return Err(refuse(&row, table.file, "job", &value.job, FaultCode::Contradiction, why));
        }
        traces.entry(value.trace.clone()).or_default().push(TraceJob {
            name: value.job.clone(),
            submit,
            app: value.app.clone(),
            request_gpus,
            request_batch,
        });
    }
    Ok(traces.into_iter().map(|(name, jobs)| Trace { name, jobs }).collect())
}

impl Trace {
    /// Each job so many times at the same moment: the load for so many times the cluster.
    #[must_use]
    pub fn repeated(&self, times: u32) -> Self {
        let copies = |job: &TraceJob| {
            let copy = |number| TraceJob { name: format!("{}+{number}", job.name), ..job.clone() };
            (0..times).map(copy).collect::<Vec<_>>()
        };
        Self { name: format!("{}x{times}", self.name), jobs: self.jobs.iter().flat_map(copies).collect() }
    }
}
