//! Policies that serve jobs in an order and do not ask what GPUs are worth to them.
//!
//! [`Fifo`]: gangs in order of submission, with backfill, never preempted. [`LeastService`]: gangs in order of the
//! service they have had, in classes, so that long jobs make way for short ones without knowing lengths (Tiresias, NSDI'19).
//! An elastic job is taken for a gang of one GPU.

use super::allocation::{Allocation, AllocationPolicy, Grant, GrantReason, WaitReason};
use super::seats::Seats;
use super::view::{ClusterView, Demand, GpuTypeIndex, JobView};

/// First come, first served, with backfill.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fifo;

impl AllocationPolicy for Fifo {
    fn name(&self) -> &'static str {
        "fifo"
    }

    fn allocate(&mut self, view: &ClusterView<'_>) -> Allocation {
        let mut free = Seats::all(view.gpu_types);
        let mut allocation = Allocation::default();
        for job in view.jobs {
            if let Some(holding) = &job.holding
                && free.take(&holding.placement)
            {
                let grant = Grant { placement: holding.placement.clone(), reason: GrantReason::Keeps };
                allocation.grants.insert(job.id, grant);
            }
        }
        let mut someone_waits = false;
        for job in view.jobs.iter().filter(|job| job.holding.is_none()) {
            let reason = if someone_waits { GrantReason::Backfill } else { GrantReason::Turn };
            someone_waits |= !place(job, view, &mut free, reason, &mut allocation);
        }
        allocation
    }
}

/// The class of a job that has had so many GPU-seconds: short jobs first, then those that have run for long.
///
/// Tiresias uses two or three queues with thresholds some 10 to 20 times apart; one and ten GPU-hours are between its
/// published settings.
const CLASS_GPU_SECONDS: [f64; 2] = [3_600.0, 36_000.0];

/// Least attained service first, in classes.
#[derive(Debug, Clone, Copy, Default)]
pub struct LeastService;

impl AllocationPolicy for LeastService {
    fn name(&self) -> &'static str {
        "least_service"
    }

    fn allocate(&mut self, view: &ClusterView<'_>) -> Allocation {
        let class = |job: &JobView| CLASS_GPU_SECONDS.iter().filter(|limit| job.gpu_seconds >= **limit).count();
        let mut order: Vec<&JobView> = view.jobs.iter().collect();
        order.sort_by_key(|job| class(job));
        let mut free = Seats::all(view.gpu_types);
        for holding in view.jobs.iter().filter_map(|job| job.holding.as_ref()) {
            free.want(&holding.placement);
        }
        let mut allocation = Allocation::default();
        for job in order {
            let held = job.holding.as_ref().map(|holding| &holding.placement);
            if let Some(held) = held {
                free.stop_wanting(held);
            }
            match held.filter(|held| free.take(held)) {
                Some(kept) => {
                    let grant = Grant { placement: kept.clone(), reason: GrantReason::Keeps };
                    allocation.grants.insert(job.id, grant);
                }
                None => {
                    place(job, view, &mut free, GrantReason::LeastServed, &mut allocation);
                }
            }
        }
        allocation
    }
}

fn gang(job: &JobView) -> u32 {
    match job.demand {
        Demand::Elastic => 1,
        Demand::Rigid { gpus, .. } => gpus,
    }
}

/// Grants a whole gang on the type with the most free GPUs, or says why not.
fn place(
    job: &JobView,
    view: &ClusterView<'_>,
    free: &mut Seats<'_>,
    reason: GrantReason,
    allocation: &mut Allocation,
) -> bool {
    let need = gang(job);
    let runs_on = |index: &usize| view.apps[job.app.0].by_type.get(*index).is_some_and(Option::is_some);
    let mut types: Vec<usize> = (0..view.gpu_types.len()).filter(runs_on).collect();
    types.sort_by_key(|index| std::cmp::Reverse(free.free(GpuTypeIndex(*index))));
    let found = types.iter().find_map(|index| free.find(GpuTypeIndex(*index), need));
    if let Some(placement) = found {
        allocation.grants.insert(job.id, Grant { placement, reason });
        return true;
    }
    let largest = types.iter().map(|index| {
        let gpu = &view.gpu_types[*index];
        gpu.gpus_per_node * gpu.nodes.min(gpu.nodes_per_job_max)
    });
    let waits = match largest.max() {
        Some(largest) if largest >= need => {
            let free = types.iter().map(|index| free.free(GpuTypeIndex(*index))).max().unwrap_or(0);
            WaitReason::NoRoom { free, need }
        }
        _ => WaitReason::Impossible { gpus: need },
    };
    allocation.waiting.insert(job.id, waits);
    false
}
