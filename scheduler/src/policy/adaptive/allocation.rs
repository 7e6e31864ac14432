//! What a policy decides: who holds which GPUs until the next round, and why.

use std::collections::BTreeMap;
use std::fmt;

use super::view::{AppView, Batch, ClusterView, Demand, GpuTypeView, JobView, Observation, Placement};
use crate::model::JobId;

/// A way to divide a cluster among training jobs, decided anew each round.
///
/// It must be deterministic: the same views and observations in the same order give the same allocations.
pub trait AllocationPolicy {
    /// What it is called.
    fn name(&self) -> &'static str;

    /// Whether it chooses how many GPUs a job gets. Under one that does not, jobs ask for what their owners requested.
    fn sizes_jobs(&self) -> bool {
        false
    }

    /// Learns from something that was seen. Not every policy does.
    fn observe(&mut self, view: &ClusterView<'_>, seen: &Observation) {
        let _ = (view, seen);
    }

    /// Divides the cluster. A job that is not granted anything gives up what it holds.
    fn allocate(&mut self, view: &ClusterView<'_>) -> Allocation;

    /// Chooses the batch of a job on a placement; asked at every start and at the end of every epoch.
    fn batch(&self, app: &AppView, job: &JobView, placement: &Placement) -> Batch {
        requested_batch(app, job, placement)
    }
}

/// A round's decision.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Allocation {
    /// Who gets GPUs.
    pub grants: BTreeMap<JobId, Grant>,
    /// Who gets none.
    pub waiting: BTreeMap<JobId, WaitReason>,
}

/// Something granted that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{job} was granted {what}")]
pub struct Misgrant {
    /// To this job.
    pub job: JobId,
    /// This.
    pub what: String,
}

impl Allocation {
    /// Checks that every job asked for has exactly one answer, that only GPUs that exist are granted, none twice, and
    /// that gangs are whole. Whoever carries an allocation out calls this first.
    ///
    /// # Errors
    ///
    /// The first grant that cannot be carried out.
    pub fn verify(&self, view: &ClusterView<'_>) -> Result<(), Misgrant> {
        let mut used: Vec<BTreeMap<u32, u32>> = vec![BTreeMap::new(); view.gpu_types.len()];
        for job in view.jobs {
            let Some(grant) = self.grants.get(&job.id) else { continue };
            let misgrant = |what: String| Misgrant { job: job.id, what };
            let placement = &grant.placement;
            let Some(gpu) = view.gpu_types.get(placement.gpu_type.0) else {
                return Err(misgrant("a GPU type that is not there".to_owned()));
            };
            match job.demand {
                Demand::Rigid { gpus, .. } if gpus != placement.gpus() => {
                    return Err(misgrant(format!("{} of the {gpus} GPUs it asked for", placement.gpus())));
                }
                _ => take_all(gpu, placement, &mut used[placement.gpu_type.0]).map_err(misgrant)?,
            }
        }
        let known = |id: &JobId| view.jobs.iter().any(|job| job.id == *id);
        match self.grants.keys().find(|id| !known(id) || self.waiting.contains_key(id)) {
            Some(id) if known(id) => Err(Misgrant { job: *id, what: "GPUs and a reason to wait".to_owned() }),
            Some(id) => Err(Misgrant { job: *id, what: "GPUs, but it is not there".to_owned() }),
            None => Ok(()),
        }
    }
}

fn take_all(gpu: &GpuTypeView, placement: &Placement, used: &mut BTreeMap<u32, u32>) -> Result<(), String> {
    for (node, gpus) in &placement.nodes {
        let used = used.entry(*node).or_default();
        *used = used.saturating_add(*gpus);
        if *node >= gpu.nodes || *used > gpu.gpus_per_node || *gpus == 0 {
            return Err(format!("{gpus} GPU(s) of {} node {node}, which are not free", gpu.name));
        }
    }
    Ok(())
}

/// GPUs for a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    /// Which.
    pub placement: Placement,
    /// Why these.
    pub reason: GrantReason,
}

/// Why a job gets what it gets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum GrantReason {
    /// It came first among those that fit.
    Turn,
    /// Jobs before it do not fit; it uses what they leave.
    Backfill,
    /// It has had the least service for its share.
    LeastServed,
    /// It keeps what it holds: no other size is worth a restart.
    Keeps,
    /// It starts: nothing else makes more of these GPUs.
    Starts {
        /// Expected progress, iterations at the initial batch per second.
        goodput: f64,
    },
    /// It changes size or GPU type, because the gain outweighs the restart.
    Rescales {
        /// Expected progress, iterations at the initial batch per second.
        goodput: f64,
    },
    /// It moves to other nodes of the same type so that another job fits.
    MakesRoom,
}

impl fmt::Display for GrantReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Turn => f.write_str("it is its turn"),
            Self::Backfill => f.write_str("earlier jobs do not fit into what is free; it does"),
            Self::LeastServed => f.write_str("it has had the least service for its share"),
            Self::Keeps => f.write_str("keeps what it holds: no other size is worth a restart"),
            Self::Starts { goodput } => {
                write!(f, "starts: no other job makes more of these GPUs ({goodput:.3} iterations/s)")
            }
            Self::Rescales { goodput } => {
                write!(f, "changes size: the gain outweighs the restart ({goodput:.3} iterations/s)")
            }
            Self::MakesRoom => f.write_str("moves to other nodes so that another job fits"),
        }
    }
}

/// Why a job gets nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum WaitReason {
    /// No GPU type can hold what it asks for, however empty the cluster.
    Impossible {
        /// The GPUs it asks for.
        gpus: u32,
    },
    /// Not enough GPUs of one type are free.
    NoRoom {
        /// The most that are free of one type.
        free: u32,
        /// The least it could use.
        need: u32,
    },
    /// There are GPUs enough, but scattered over nodes in a way that its gang cannot use.
    Scattered {
        /// The GPUs it asks for.
        need: u32,
    },
    /// It runs on no GPU type of the cluster.
    NoShape,
    /// Others make more of the GPUs it could use.
    Outbid {
        /// What one GPU of the type that suits it best is worth to others now, relative to a job that holds one.
        price: f64,
        /// What it is worth to this job.
        bid: f64,
    },
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Impossible { gpus } => write!(f, "no GPU type has {gpus} GPUs"),
            Self::NoRoom { free, need } => write!(f, "{free} GPU(s) of one type are free, it needs {need}"),
            Self::Scattered { need } => write!(f, "the free GPUs are too scattered for its {need}"),
            Self::NoShape => f.write_str("it can run on no GPU type there is"),
            Self::Outbid { price, bid } => {
                write!(f, "others make more of the GPUs it could use ({price:.2} against {bid:.2})")
            }
        }
    }
}

/// The batch a job asked for, split over its GPUs so that it fits; without a request the smallest that is allowed.
pub fn requested_batch(app: &AppView, job: &JobView, placement: &Placement) -> Batch {
    let replicas = placement.gpus().max(1);
    let bounds = app.by_type.get(placement.gpu_type.0).and_then(Option::as_ref);
    let (local_min, local_max) = bounds.map_or((1, u32::MAX), |on| (on.local_batch_min, on.local_batch_max));
    let total = match job.demand {
        Demand::Rigid { batch, .. } => batch,
        Demand::Elastic => app.batch_initial.max(local_min.saturating_mul(replicas)),
    };
    split_batch(total, replicas, local_max, app.batch_initial)
}

/// Splits a total batch over replicas into passes of at most `local_max` samples.
///
/// A single replica with more than the initial batch makes at least two passes: gradient noise cannot be estimated from
/// one (Pollux, OSDI'21).
pub fn split_batch(total: u32, replicas: u32, local_max: u32, initial: u32) -> Batch {
    let per_replica = total.div_ceil(replicas.max(1)).max(1);
    let mut passes = per_replica.div_ceil(local_max.max(1));
    if replicas == 1 && total > initial {
        passes = passes.max(2);
    }
    Batch { local: per_replica.div_ceil(passes), accumulation: passes - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_split_so_that_it_fits() {
        let split = |total, replicas, local_max| {
            let batch = split_batch(total, replicas, local_max, 128);
            (batch.local, batch.accumulation)
        };
        assert_eq!(split(128, 1, 1024), (128, 0));
        assert_eq!(split(512, 1, 1024), (256, 1), "one replica needs two passes to see the noise");
        assert_eq!(split(512, 4, 64), (64, 1));
        assert_eq!(split(100, 3, 1024), (34, 0));
    }
}
