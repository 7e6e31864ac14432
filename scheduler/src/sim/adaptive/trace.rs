//! Job traces: who submits what, and when.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::fault::{FaultCode, WorldError, not_negative, positive, refuse};
use super::world::{Table, World};
use crate::sim::read_rows;

/// No trace of ours spans ten years; a later time is in another unit.
const SUBMIT_SECONDS_MAX: f64 = 10.0 * 366.0 * 86_400.0;
/// No job asks for more GPUs than this.
const REQUEST_GPUS_MAX: f64 = 1e5;

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
    req_gpus: u32,
    req_batch: u32,
}

/// Reads a table of traces; rows of one trace need not stand together.
///
/// # Errors
///
/// The first row that cannot be used.
pub fn read_traces(table: Table<'_>, world: &World) -> Result<Vec<Trace>, WorldError> {
    let mut traces: BTreeMap<String, Vec<TraceJob>> = BTreeMap::new();
    let mut names = BTreeSet::new();
    for row in read_rows::<TraceRow>(table.file, table.text)? {
        let value = &row.value;
        let submit = not_negative(&row, table.file, "submit_s", value.submit_s, SUBMIT_SECONDS_MAX)?;
        positive(&row, table.file, "req_gpus", f64::from(value.req_gpus), REQUEST_GPUS_MAX)?;
        positive(&row, table.file, "req_batch", f64::from(value.req_batch), 1e9)?;
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
            request_gpus: value.req_gpus,
            request_batch: value.req_batch,
        });
    }
    let sorted = |(name, mut jobs): (String, Vec<TraceJob>)| {
        jobs.sort_by(|a, b| a.submit.total_cmp(&b.submit));
        Trace { name, jobs }
    };
    Ok(traces.into_iter().map(sorted).collect())
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
