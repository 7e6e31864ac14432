//! Worlds from public traces: text in, jobs and nodes out. A bad row is refused with its place.
//!
//! - Philly (Microsoft, 2017): <https://github.com/msr-fiddle/philly-traces>, columns `vc,submit_s,duration_s,req_gpus`.
//! - Gavel and Shockwave: <https://github.com/uw-mad-dash/shockwave>, tab-separated without a header.
//! - Alibaba GPU 2023 (openb): <https://github.com/alibaba/clusterdata>, pods and nodes. A share of a GPU counts as one:
//!   [`GpuCount`] is whole.
//!
//! Tables of Sia and Pollux say what jobs run and not for how long: they are for [`crate::sim::adaptive`].

use std::collections::BTreeSet;

use serde::Deserialize;

use super::world::{FixedNode, SimJob};
use crate::model::{CpuMillis, GpuCount, GpuNeed, Gpus, Market, MemoryMib, MicroUsdPerHour, Millis, NodeSize};
use crate::policy::PRIORITY_MAX;
use crate::sim::fault::{FaultCode, WorldError, in_order, not_before, not_negative, refuse, whole};
use crate::sim::table::{Row, read_rows, read_tabbed};

/// No trace of ours spans ten years; a later time is in another unit.
const SECONDS_MAX: f64 = 10.0 * 366.0 * 86_400.0;

/// No job asks for more accelerators than this, and no node has as many.
const GPUS_MAX: u32 = 100_000;

/// A thousand times the largest machine on offer in 2025 (1,920 processors, 32 TiB of memory), in thousandths of a
/// processor and MiB.
const CPU_MILLIS_MAX: u32 = 1_920_000_000;
const MEMORY_MIB_MAX: u32 = u32::MAX;

/// A number of seconds, refused where it is not one.
fn seconds<T>(file: &str, row: &Row<T>, column: &str, value: f64) -> Result<Millis, WorldError> {
    let seconds = not_negative(row, file, column, value, SECONDS_MAX)?;
    Ok(Millis::new((seconds * 1_000.0).round() as u64))
}

/// When a job is submitted: not before the one above it, at `last`.
fn submitted<T>(file: &str, row: &Row<T>, column: &str, value: f64, last: &mut f64) -> Result<Millis, WorldError> {
    let submitted = seconds(file, row, column, value)?;
    in_order(row, file, column, value, last)?;
    Ok(submitted)
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
    req_gpus: i64,
}

/// The jobs of a Philly table, each a gang on nodes of `gpus_per_node`; of one virtual cluster if one is named.
///
/// # Errors
///
/// The first bad row.
pub fn philly_jobs(file: &str, text: &str, vc: Option<&str>, gpus_per_node: u32) -> Result<Vec<SimJob>, WorldError> {
    let mut last = 0.0;
    let mut jobs = Vec::new();
    for row in read_rows::<PhillyRow>(file, text)? {
        let value = &row.value;
        let submitted = submitted(file, &row, "submit_s", value.submit_s, &mut last)?;
        let run = seconds(file, &row, "duration_s", value.duration_s)?;
        let gpus = whole(&row, file, "req_gpus", value.req_gpus, 0..=GPUS_MAX)?;
        if vc.is_some_and(|vc| value.vc != vc) {
            continue;
        }
        let job = SimJob::rigid(format!("{}-{}", value.vc, row.line), submitted, 1, run);
        jobs.push(gang(SimJob { project: value.vc.clone(), ..job }, gpus, gpus_per_node));
    }
    Ok(jobs)
}

#[derive(Deserialize)]
struct ShockwaveRow {
    job_type: String,
    scale_factor: i64,
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
pub fn shockwave_jobs(file: &str, text: &str, gpus_per_node: u32) -> Result<Vec<SimJob>, WorldError> {
    let mut last = 0.0;
    let mut jobs = Vec::new();
    for row in read_tabbed::<ShockwaveRow>(file, text, &SHOCKWAVE_COLUMNS)? {
        let value = &row.value;
        let submitted = submitted(file, &row, "arrival_s", value.arrival_s, &mut last)?;
        let run = seconds(file, &row, "duration_s", value.duration_s)?;
        let gpus = whole(&row, file, "scale_factor", value.scale_factor, 1..=GPUS_MAX)?;
        let priority = not_negative(&row, file, "priority", value.priority, f64::from(PRIORITY_MAX))?;
        let job = SimJob::rigid(format!("{}-{}", value.job_type, row.line), submitted, 1, run);
        jobs.push(gang(SimJob { priority: priority as u16, ..job }, gpus, gpus_per_node));
    }
    Ok(jobs)
}

#[derive(Deserialize)]
struct PodRow {
    name: String,
    cpu_milli: i64,
    memory_mib: i64,
    num_gpu: i64,
    gpu_spec: String,
    qos: String,
    creation_time: f64,
    deletion_time: f64,
}

/// The pods of an openb table as one-worker jobs that run from their creation to their deletion on one of these nodes.
///
/// # Errors
///
/// The first bad row, or one that asks for accelerators which none of the nodes has.
pub fn openb_pods(file: &str, text: &str, nodes: &[FixedNode]) -> Result<Vec<SimJob>, WorldError> {
    let there: BTreeSet<&str> = nodes.iter().filter_map(|node| node.gpus.model.as_deref()).collect();
    let mut last = 0.0;
    let mut jobs = Vec::new();
    for row in read_rows::<PodRow>(file, text)? {
        let value = &row.value;
        let submitted = submitted(file, &row, "creation_time", value.creation_time, &mut last)?;
        let deleted = seconds(file, &row, "deletion_time", value.deletion_time)?;
        not_before(&row, file, "deletion_time", value.deletion_time, value.creation_time)?;
        let gpus = whole(&row, file, "num_gpu", value.num_gpu, 0..=GPUS_MAX)?;
        let models = value.gpu_spec.split('|').filter(|model| !model.is_empty()).map(ToOwned::to_owned);
        let models: Vec<String> = models.collect();
        if gpus > 0 && !models.is_empty() && !models.iter().any(|model| there.contains(model.as_str())) {
            let why = "no node of the cluster has such a GPU";
            return Err(refuse(&row, file, "gpu_spec", &value.gpu_spec, FaultCode::UnknownGpuType, why));
        }
        jobs.push(SimJob {
            need: size(file, &row, value.cpu_milli, value.memory_mib)?,
            gpus: GpuNeed { count: GpuCount(gpus), models },
            project: value.qos.clone(),
            ..SimJob::rigid(&value.name, submitted, 1, deleted.since(submitted))
        });
    }
    Ok(jobs)
}

fn size<T>(file: &str, row: &Row<T>, cpu_milli: i64, memory_mib: i64) -> Result<NodeSize, WorldError> {
    Ok(NodeSize {
        cpus: CpuMillis(whole(row, file, "cpu_milli", cpu_milli, 0..=CPU_MILLIS_MAX)?),
        memory: MemoryMib(u64::from(whole(row, file, "memory_mib", memory_mib, 0..=MEMORY_MIB_MAX)?)),
    })
}

#[derive(Deserialize)]
struct NodeRow {
    cpu_milli: i64,
    memory_mib: i64,
    gpu: i64,
    model: String,
}

/// The nodes of an openb table, each at this price.
///
/// # Errors
///
/// The first bad row.
pub fn openb_nodes(file: &str, text: &str, price: MicroUsdPerHour) -> Result<Vec<FixedNode>, WorldError> {
    let node = |row: Row<NodeRow>| {
        let count = GpuCount(whole(&row, file, "gpu", row.value.gpu, 0..=GPUS_MAX)?);
        Ok(FixedNode {
            size: size(file, &row, row.value.cpu_milli, row.value.memory_mib)?,
            gpus: Gpus { count, model: Some(row.value.model).filter(|model| !model.is_empty()) },
            price,
            market: Market::OnDemand,
        })
    };
    read_rows::<NodeRow>(file, text)?.into_iter().map(node).collect()
}
