//! The simulated world: which applications there are and how they really behave.
//!
//! [`World::read`] takes the texts of three tables (`apps`, `throughput`, `statistical_efficiency`) and refuses the first
//! bad row with its place and a code. Policies get [`World::app_views`]: what was declared, and one profile on a single
//! GPU of each type.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::cluster::ClusterSpec;
use super::profile::{StepTime, ThroughputTable};
use super::statistics::{EfficiencyTable, EpochPoint};
use crate::policy::adaptive::{AppOnType, AppView, GpuTypeView, GradientStats};
use crate::sim::fault::{FaultCode, WorldError, not_negative, positive, refuse};
use crate::sim::{DataError, Row, read_rows};

/// No real iteration takes a day; a larger number is in another unit.
const STEP_SECONDS_MAX: f64 = 86_400.0;
/// Gradient norms and iteration counts beyond this are broken measurements; norms of 10^16 were measured.
const STATISTIC_MAX: f64 = 1e24;
/// The most samples in a batch that any table could mean.
const BATCH_MAX: f64 = 1e9;

/// Every application, by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct World {
    /// In order of name.
    pub apps: BTreeMap<String, App>,
}

/// How one application behaves.
#[derive(Debug, Clone, PartialEq)]
pub struct App {
    /// The total batch for which the learning rate was chosen.
    pub batch_initial: u32,
    /// The largest total batch.
    pub batch_max: u32,
    /// Epochs after which a job is done.
    pub epochs_max: u32,
    /// How long a start, rescale or migration takes, seconds.
    pub restart_seconds: f64,
    /// How much slower progress is in a real cluster than the tables say.
    pub slowdown: f64,
    /// By GPU type.
    pub on: BTreeMap<String, OnType>,
    /// What an iteration is worth.
    pub efficiency: EfficiencyTable,
}

/// How one application behaves on one GPU type.
#[derive(Debug, Clone, PartialEq)]
pub struct OnType {
    /// The smallest batch on one GPU.
    pub local_batch_min: u32,
    /// The largest batch on one GPU.
    pub local_batch_max: u32,
    /// What an iteration takes.
    pub throughput: ThroughputTable,
}

/// One table of the world: its name, for messages, and its text.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    /// As it is named in messages.
    pub file: &'a str,
    /// Its content.
    pub text: &'a str,
}

#[derive(Debug, Deserialize)]
struct AppRow {
    app: String,
    gpu: String,
    init_batch_size: u32,
    max_batch_size: u32,
    min_local_bsz: u32,
    max_local_bsz: u32,
    max_epochs: u32,
    restart_s: f64,
    slowdown: f64,
    num_stages: u32,
}

#[derive(Debug, Deserialize)]
struct ThroughputRow {
    app: String,
    gpu: String,
    kind: String,
    placement: String,
    num_nodes: u32,
    num_replicas: u32,
    /// A whole number, sometimes written `20.0`.
    local_bsz: f64,
    step_time_s: f64,
    sync_time_s: f64,
}

#[derive(Debug, Deserialize)]
struct EfficiencyRow {
    app: String,
    batch_size: u32,
    epoch: usize,
    progress: f64,
    grad_sqr: f64,
    grad_var: f64,
}

impl World {
    /// Reads a world. Applications that train as a pipeline (`num_stages` above 1) are left out: their tables mean
    /// something else.
    ///
    /// # Errors
    ///
    /// The first row that cannot be used.
    pub fn read(apps: Table<'_>, throughput: Table<'_>, efficiency: Table<'_>) -> Result<Self, WorldError> {
        let mut world = Self::default();
        let mut pipelines = Vec::new();
        for row in read_rows::<AppRow>(apps.file, apps.text)? {
            if row.value.num_stages > 1 {
                pipelines.push(row.value.app);
            } else {
                world.add_app(apps.file, &row)?;
            }
        }
        for row in read_rows::<ThroughputRow>(throughput.file, throughput.text)? {
            if !pipelines.contains(&row.value.app) {
                world.add_throughput(throughput.file, &row)?;
            }
        }
        for row in read_rows::<EfficiencyRow>(efficiency.file, efficiency.text)? {
            if !pipelines.contains(&row.value.app) {
                world.add_efficiency(efficiency.file, &row)?;
            }
        }
        world.complete(efficiency.file)?;
        Ok(world)
    }

    fn add_app(&mut self, file: &str, row: &Row<AppRow>) -> Result<(), WorldError> {
        let value = &row.value;
        for (column, number) in [
            ("init_batch_size", value.init_batch_size),
            ("max_batch_size", value.max_batch_size),
            ("min_local_bsz", value.min_local_bsz),
            ("max_epochs", value.max_epochs),
        ] {
            positive(row, file, column, f64::from(number), BATCH_MAX)?;
        }
        let restart_seconds = not_negative(row, file, "restart_s", value.restart_s, STEP_SECONDS_MAX)?;
        let slowdown = positive(row, file, "slowdown", value.slowdown, 1e3)?;
        if value.max_local_bsz < value.min_local_bsz {
            let why = "is below min_local_bsz";
            return Err(refuse(row, file, "max_local_bsz", value.max_local_bsz, FaultCode::Contradiction, why));
        }
        if value.max_batch_size < value.init_batch_size {
            let why = "is below init_batch_size";
            return Err(refuse(row, file, "max_batch_size", value.max_batch_size, FaultCode::Contradiction, why));
        }
        let app = self.apps.entry(value.app.clone()).or_insert_with(|| App {
            batch_initial: value.init_batch_size,
            batch_max: value.max_batch_size,
            epochs_max: value.max_epochs,
            restart_seconds,
            slowdown,
            on: BTreeMap::new(),
            efficiency: EfficiencyTable::default(),
        });
        let on = OnType {
            local_batch_min: value.min_local_bsz,
            local_batch_max: value.max_local_bsz,
            throughput: ThroughputTable::default(),
        };
        if app.on.insert(value.gpu.clone(), on).is_some() {
            return Err(refuse(row, file, "gpu", &value.gpu, FaultCode::Contradiction, "this pair stands there twice"));
        }
        Ok(())
    }

    fn add_throughput(&mut self, file: &str, row: &Row<ThroughputRow>) -> Result<(), WorldError> {
        let value = &row.value;
        let Some(app) = self.apps.get_mut(&value.app) else {
            return Err(refuse(row, file, "app", &value.app, FaultCode::UnknownApp, "is no declared application"));
        };
        let Some(on) = app.on.get_mut(&value.gpu) else {
            let why = "the application does not run on such a GPU";
            return Err(refuse(row, file, "gpu", &value.gpu, FaultCode::UnknownGpuType, why));
        };
        for (column, number) in [("num_nodes", value.num_nodes), ("num_replicas", value.num_replicas)] {
            positive(row, file, column, f64::from(number), BATCH_MAX)?;
        }
        let local_batch = positive(row, file, "local_bsz", value.local_bsz, BATCH_MAX)?;
        if local_batch.fract() != 0.0 {
            return Err(refuse(row, file, "local_bsz", local_batch, FaultCode::Malformed, "is not a whole number"));
        }
        let local_batch = local_batch as u32;
        let step = positive(row, file, "step_time_s", value.step_time_s, STEP_SECONDS_MAX)?;
        let sync = not_negative(row, file, "sync_time_s", value.sync_time_s, step)?;
        let time = StepTime { step, sync };
        match value.kind.as_str() {
            "placements" => {
                let digits = value.placement.chars().map(|digit| digit.to_digit(10).filter(|count| *count > 0));
                let digits: Option<Vec<u32>> = digits.collect();
                let Some(gpus_per_node) = digits.filter(|digits| !digits.is_empty()) else {
                    let why = "a placement is one digit from 1 to 9 for each node";
                    return Err(refuse(row, file, "placement", &value.placement, FaultCode::Malformed, why));
                };
                on.throughput.add_placement(&gpus_per_node, local_batch, time);
            }
            "scalability" => on.throughput.add_group(value.num_nodes, value.num_replicas, local_batch, time),
            other => {
                let why = "is neither placements nor scalability";
                return Err(refuse(row, file, "kind", other, FaultCode::Malformed, why));
            }
        }
        Ok(())
    }

    fn add_efficiency(&mut self, file: &str, row: &Row<EfficiencyRow>) -> Result<(), WorldError> {
        let value = &row.value;
        let Some(app) = self.apps.get_mut(&value.app) else {
            return Err(refuse(row, file, "app", &value.app, FaultCode::UnknownApp, "is no declared application"));
        };
        positive(row, file, "batch_size", f64::from(value.batch_size), BATCH_MAX)?;
        let progress = positive(row, file, "progress", value.progress, STATISTIC_MAX)?;
        let squared = not_negative(row, file, "grad_sqr", value.grad_sqr, STATISTIC_MAX)?;
        let variance = not_negative(row, file, "grad_var", value.grad_var, STATISTIC_MAX)?;
        if value.epoch != app.efficiency.epochs_at(value.batch_size) + 1 {
            return Err(refuse(row, file, "epoch", value.epoch, FaultCode::Contradiction, "is not the next epoch"));
        }
        let point = EpochPoint { progress, gradient: GradientStats { squared, variance } };
        app.efficiency.push(value.batch_size, point);
        Ok(())
    }

    fn complete(&self, file: &str) -> Result<(), WorldError> {
        for (name, app) in &self.apps {
            if app.efficiency.epochs() < app.epochs_max as usize {
                let why = format!("has statistics of {} epochs and runs {}", app.efficiency.epochs(), app.epochs_max);
                let place = DataError {
                    file: file.to_owned(),
                    line: 1,
                    column: Some("app".to_owned()),
                    value: Some(name.clone()),
                    why,
                };
                return Err(WorldError { code: FaultCode::Missing, place });
            }
        }
        Ok(())
    }

    /// Checks that something runs on every GPU type of a cluster, which `described` names in messages.
    ///
    /// # Errors
    ///
    /// The first type on which no application runs.
    pub fn check_cluster(&self, cluster: &ClusterSpec, described: &str) -> Result<(), WorldError> {
        let runs = |gpu: &&GpuTypeView| self.apps.values().any(|app| app.on.contains_key(&gpu.name));
        let Some(unknown) = cluster.gpu_types.iter().find(|gpu| !runs(gpu)) else { return Ok(()) };
        let known: BTreeSet<&str> = self.apps.values().flat_map(|app| app.on.keys().map(String::as_str)).collect();
        let known: Vec<&str> = known.into_iter().collect();
        let place = DataError {
            file: described.to_owned(),
            line: 1,
            column: Some("gpu".to_owned()),
            value: Some(unknown.name.clone()),
            why: format!("no application runs on such a GPU; there are measurements of {}", known.join(", ")),
        };
        Err(WorldError { code: FaultCode::UnknownGpuType, place })
    }

    /// What policies may know of each application before anything ran.
    pub fn app_views(&self, cluster: &ClusterSpec) -> Vec<AppView> {
        let view = |(name, app): (&String, &App)| AppView {
            name: name.clone(),
            batch_initial: app.batch_initial,
            batch_max: app.batch_max,
            epochs_max: app.epochs_max,
            restart_seconds: app.restart_seconds,
            by_type: cluster.gpu_types.iter().map(|gpu| app.on.get(&gpu.name).and_then(on_type)).collect(),
        };
        self.apps.iter().map(view).collect()
    }
}

fn on_type(on: &OnType) -> Option<AppOnType> {
    let profile: Vec<(u32, f64)> =
        on.throughput.one_gpu().into_iter().map(|(batch, time)| (batch, time.step)).collect();
    if profile.is_empty() {
        return None;
    }
    Some(AppOnType { local_batch_min: on.local_batch_min, local_batch_max: on.local_batch_max, profile })
}
