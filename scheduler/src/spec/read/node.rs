//! How many workers, on what kind of node, from which market.

use super::super::code::Code;
use super::super::fault::{Faults, Reported};
use super::super::field::{Block, Field};
use super::super::job::WorkerRange;
use super::super::layout;
use super::super::quantity;
use crate::model::{CpuMillis, MarketChoice, MemoryMib, NodeSize};

const WORKERS_MAX: u64 = 10_000;

/// `resources.memory` where the job says nothing: 1 GB.
const MEMORY: MemoryMib = MemoryMib(954);

const WORKERS_HELP: &str = "write a number, a range \"2..8\", or {min: 2, target: 4, max: 8}";

/// `workers`: 1 where the job says nothing.
pub(super) fn workers(job: &Block<'_>, faults: &mut Faults) -> Result<WorkerRange, Reported> {
    let workers = job.optional(faults, "workers", |field, faults| {
        if field.is_map() { worker_map(field, faults) } else { worker_text(field, faults) }
    })?;
    Ok(workers.unwrap_or(WorkerRange { min: 1, target: 1, max: 1 }))
}

fn worker_text(field: &Field<'_>, faults: &mut Faults) -> Result<WorkerRange, Reported> {
    let (text, _) = field.scalar(faults, "a number or range of workers", WORKERS_HELP)?;
    let (min, max) = match quantity::range(text).or_else(|| quantity::whole(text).map(|count| (count, count))) {
        Some(range) => range,
        None => {
            let message = format!("{} is not a number or range of workers", field.found());
            return Err(field.fault(faults, Code::Workers, message, WORKERS_HELP));
        }
    };
    worker_range(field, [min, max, max], faults)
}

/// `min` is 1 where it is not given, `target` is `max`, and `max` is `target`.
fn worker_map(field: &Field<'_>, faults: &mut Faults) -> Result<WorkerRange, Reported> {
    let block = field.block(faults, &layout::WORKERS)?;
    let [min, target, max] = ["min", "target", "max"]
        .map(|key| block.optional(faults, key, |field, faults| field.whole_or(faults, 1..=WORKERS_MAX, Code::Workers)));
    let (min, target, max) = (min?.unwrap_or(1), target?, max?);
    let max = max.or(target).unwrap_or(min);
    worker_range(field, [min, target.unwrap_or(max), max], faults)
}

fn worker_range(field: &Field<'_>, [min, target, max]: [u64; 3], faults: &mut Faults) -> Result<WorkerRange, Reported> {
    let message = if min == 0 {
        "a job needs at least 1 worker".to_owned()
    } else if max > WORKERS_MAX {
        format!("{max} workers are more than a job may have, which is {WORKERS_MAX}")
    } else if min > target {
        format!("the minimum {min} is above the target {target}")
    } else if target > max {
        format!("the target {target} is above the maximum {max}")
    } else {
        let [min, target, max] = [min, target, max].map(|count| u32::try_from(count).expect("at most WORKERS_MAX"));
        return Ok(WorkerRange { min, target, max });
    };
    Err(field.fault(faults, Code::Workers, message, "the order is 1 ≤ min ≤ target ≤ max"))
}

/// `resources`: one processor and 1 GB where the job says nothing.
pub(super) fn resources(job: &Block<'_>, faults: &mut Faults) -> Result<NodeSize, Reported> {
    let size = job.optional(faults, "resources", |field, faults| {
        let block = field.block(faults, &layout::RESOURCES)?;
        let (cpus, memory) = (block.optional(faults, "cpus", cpus), block.optional(faults, "memory", memory));
        Ok(NodeSize { cpus: cpus?.unwrap_or(CpuMillis::from_cores(1)), memory: memory?.unwrap_or(MEMORY) })
    })?;
    Ok(size.unwrap_or(NodeSize { cpus: CpuMillis::from_cores(1), memory: MEMORY }))
}

fn cpus(field: &Field<'_>, faults: &mut Faults) -> Result<CpuMillis, Reported> {
    let help = "write `4`, `4+`, `4..8` or a part of one, such as `0.5`";
    let (text, _) = field.scalar(faults, "a number of processors", help)?;
    quantity::cpus(text).ok_or_else(|| {
        field.fault(faults, Code::Cpus, format!("{} is not a number of processors", field.found()), help)
    })
}

fn memory(field: &Field<'_>, faults: &mut Faults) -> Result<MemoryMib, Reported> {
    let help = "write it with its unit: `16GB`, `16GB..`, `16GB..64GB` or `512MiB`";
    let (text, _) = field.scalar(faults, "an amount of memory", help)?;
    if let Some(memory) = quantity::memory(text) {
        return Ok(memory);
    }
    let (message, help) = match quantity::whole(text) {
        Some(number) => (format!("{number} has no unit"), format!("write `{number}GB` or `{number}MiB`")),
        None => (format!("{} is not an amount of memory", field.found()), help.to_owned()),
    };
    Err(field.fault(faults, Code::Memory, message, help))
}

/// `market`: on-demand where the job says nothing.
pub(super) fn market(job: &Block<'_>, faults: &mut Faults) -> Result<MarketChoice, Reported> {
    let market = job.optional(faults, "market", |field, faults| {
        let all = [("on_demand", MarketChoice::OnDemand), ("spot", MarketChoice::Spot), ("auto", MarketChoice::Auto)];
        field.choice(faults, Code::BadValue, &all, &[])
    })?;
    Ok(market.unwrap_or_default())
}
