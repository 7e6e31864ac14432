//! Worlds from public traces: text in, jobs and nodes out. A bad row is refused with its place.
//!
//! - Philly (Microsoft, 2017): <https://github.com/msr-fiddle/philly-traces>, columns `vc,submit_s,duration_s,req_gpus`.
//! - Sia and Pollux: <https://github.com/siasosp23/artifacts>, <https://github.com/petuum/adaptdl>, columns
//!   `trace,job,submit_s,app,req_gpus,…`; taken as rigid jobs of `req_gpus`, which run as long as the caller says.
//! - Gavel and Shockwave: <https://github.com/uw-mad-dash/shockwave>, tab-separated without a header.
//! - Alibaba GPU 2023 (openb): <https://github.com/alibaba/clusterdata>, pods and nodes. A share of a GPU counts as one:
//!   [`GpuCount`] is whole.

use serde::Deserialize;

use super::world::{FixedNode, SimJob};
use crate::model::{CpuMillis, GpuCount, GpuNeed, Gpus, Market, MemoryMib, MicroUsdPerHour, Millis, NodeSize};
use crate::policy::PRIORITY_MAX;
use crate::sim::table::{DataError, Row, read_rows, read_tabbed};

/// A number of seconds, refused where it is not one.
fn seconds<T>(file: &str, row: &Row<T>, column: &str, value: f64) -> Result<Millis, DataError> {
    // Beyond this a trace is in error: a thousand years.
    const SECONDS_MAX: f64 = 3.2e10;
    if value.is_finite() && (0.0..SECONDS_MAX).contains(&value) {
        Ok(Millis::new((value * 1_000.0).round() as u64))
    } else {
        Err(row.refuse(file, column, value, "a time is a number of seconds from 0"))
    }
}

/// A gang of `gpus` accelerators on nodes of `gpus_per_node`: whole nodes, or a part of one.
fn gang(job: SimJob, gpus: u32, gpus_per_node: u32) -> SimJob {
    let per_worker = gpus.clamp(1, gpus_per_node.max(1));
    let workers = gpus.div_ceil(per_worker).max(1);
    let run = job.work;
    SimJob {
        gpus: GpuNeed { count: GpuCount(per_worker), models: Vec::new() },
        workers: crate::spec::WorkerRange { min: workers, target: workers, max: workers },
        work: Millis::new(run.get().saturating_mul(u64::from(workers))),
        ..job
    }
}

/// `count` equal nodes with `gpus` accelerators each, at `price` an hour: a cluster for traces that ask for GPUs only.
pub fn gpu_cluster(count: usize, gpus: u32, price: MicroUsdPerHour) -> Vec<FixedNode> {
    let size = NodeSize { cpus: CpuMillis(0), memory: MemoryMib(0) };
    let gpus = Gpus { count: GpuCount(gpus), model: None };
    vec![FixedNode { size, gpus, price, market: Market::OnDemand }; count]
}

#[derive(Deserialize)]
struct PhillyRow {
    vc: String,
    submit_s: f64,
    duration_s: f64,
    req_gpus: u32,
}

/// The jobs of a Philly table, each a gang on nodes of `gpus_per_node`; of one virtual cluster if one is named.
///
/// # Errors
///
/// The first bad row.
pub fn philly_jobs(file: &str, text: &str, vc: Option<&str>, gpus_per_node: u32) -> Result<Vec<SimJob>, DataError> {
    let rows = read_rows::<PhillyRow>(file, text)?;
    let rows = rows.iter().filter(|row| vc.is_none_or(|vc| row.value.vc == vc));
    rows.map(|row| {
        let value = &row.value;
        let submitted = seconds(file, row, "submit_s", value.submit_s)?;
        let run = seconds(file, row, "duration_s", value.duration_s)?;
        let job = SimJob::rigid(format!("{}-{}", value.vc, row.line), submitted, 1, run);
        Ok(gang(SimJob { project: value.vc.clone(), ..job }, value.req_gpus, gpus_per_node))
    })
    .collect()
}

#[derive(Deserialize)]
struct AdaptiveRow {
    trace: String,
    job: String,
    submit_s: f64,
    app: String,
    req_gpus: u32,
}

/// The jobs of one trace of a Sia or Pollux table as gangs of the GPUs that were asked for. These tables do not say how
/// long a job runs; `run_s` does, from its application and number of GPUs.
///
/// # Errors
///
/// The first bad row, or an application that `run_s` does not know.
pub fn rigid_jobs(
    file: &str,
    text: &str,
    trace: &str,
    gpus_per_node: u32,
    run_s: impl Fn(&str, u32) -> Option<f64>,
) -> Result<Vec<SimJob>, DataError> {
    let rows = read_rows::<AdaptiveRow>(file, text)?;
    let rows = rows.iter().filter(|row| row.value.trace == trace);
    rows.map(|row| {
        let value = &row.value;
        let submitted = seconds(file, row, "submit_s", value.submit_s)?;
        let run = run_s(&value.app, value.req_gpus)
            .ok_or_else(|| row.refuse(file, "app", &value.app, "no run time is known for it"))?;
        let job = SimJob::rigid(&value.job, submitted, 1, seconds(file, row, "app", run)?);
        Ok(gang(SimJob { project: value.app.clone(), ..job }, value.req_gpus, gpus_per_node))
    })
    .collect()
}

#[derive(Deserialize)]
struct ShockwaveRow {
    job_type: String,
    scale_factor: u32,
    priority: f64,
    duration_s: f64,
    arrival_s: f64,
}

const SHOCKWAVE_COLUMNS: [&str; 12] = [
    "job_type",
    "command",
    "working_dir",
    "num_steps_arg",
    "needs_data_dir",
    "total_steps",
    "scale_factor",
    "mode",
    "priority",
    "slo",
    "duration_s",
    "arrival_s",
];

/// The jobs of a Shockwave table, every one static and of its `duration_s`, as gangs on nodes of `gpus_per_node`.
///
/// # Errors
///
/// The first bad row.
pub fn shockwave_jobs(file: &str, text: &str, gpus_per_node: u32) -> Result<Vec<SimJob>, DataError> {
    let rows = read_tabbed::<ShockwaveRow>(file, text, &SHOCKWAVE_COLUMNS)?;
    rows.iter()
        .map(|row| {
            let value = &row.value;
            let submitted = seconds(file, row, "arrival_s", value.arrival_s)?;
            let run = seconds(file, row, "duration_s", value.duration_s)?;
            let job = SimJob::rigid(format!("{}-{}", value.job_type, row.line), submitted, 1, run);
            if !(0.0..=f64::from(PRIORITY_MAX)).contains(&value.priority) {
                return Err(row.refuse(file, "priority", value.priority, "a priority is from 0 to 1000"));
            }
            Ok(gang(SimJob { priority: value.priority as u16, ..job }, value.scale_factor, gpus_per_node))
        })
        .collect()
}

#[derive(Deserialize)]
struct PodRow {
    name: String,
    cpu_milli: u32,
    memory_mib: u64,
    num_gpu: u32,
    gpu_spec: String,
    qos: String,
    creation_time: f64,
    deletion_time: f64,
}

/// The pods of an openb table as one-worker jobs that run from their creation to their deletion.
///
/// # Errors
///
/// The first bad row.
pub fn openb_pods(file: &str, text: &str) -> Result<Vec<SimJob>, DataError> {
    let rows = read_rows::<PodRow>(file, text)?;
    rows.iter()
        .map(|row| {
            let value = &row.value;
            let submitted = seconds(file, row, "creation_time", value.creation_time)?;
            let deleted = seconds(file, row, "deletion_time", value.deletion_time)?;
            if deleted < submitted {
                return Err(row.refuse(file, "deletion_time", value.deletion_time, "before its creation"));
            }
            let models = value.gpu_spec.split('|').filter(|model| !model.is_empty()).map(ToOwned::to_owned).collect();
            Ok(SimJob {
                need: NodeSize { cpus: CpuMillis(value.cpu_milli), memory: MemoryMib(value.memory_mib) },
                gpus: GpuNeed { count: GpuCount(value.num_gpu), models },
                project: value.qos.clone(),
                ..SimJob::rigid(&value.name, submitted, 1, deleted.since(submitted))
            })
        })
        .collect()
}

#[derive(Deserialize)]
struct NodeRow {
    cpu_milli: u32,
    memory_mib: u64,
    gpu: u32,
    model: String,
}

/// The nodes of an openb table, without a price.
///
/// # Errors
///
/// The first bad row.
pub fn openb_nodes(file: &str, text: &str) -> Result<Vec<FixedNode>, DataError> {
    let rows = read_rows::<NodeRow>(file, text)?;
    let node = |row: Row<NodeRow>| FixedNode {
        size: NodeSize { cpus: CpuMillis(row.value.cpu_milli), memory: MemoryMib(row.value.memory_mib) },
        gpus: Gpus { count: GpuCount(row.value.gpu), model: Some(row.value.model).filter(|model| !model.is_empty()) },
        price: MicroUsdPerHour::new(0),
        market: Market::OnDemand,
    };
    Ok(rows.into_iter().map(node).collect())
}
