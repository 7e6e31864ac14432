//! What an allocation policy may see, and nothing else.
//!
//! A running system can fill these from its journal and its workers' reports; the simulator fills them from what the
//! simulated jobs have shown so far. There is no measured table, no arrival to come and no true remaining time in here.
//! Times are seconds on the caller's clock.

use crate::model::JobId;

/// The cluster at one moment.
#[derive(Debug, Clone, Copy)]
pub struct ClusterView<'a> {
    /// When.
    pub now: f64,
    /// The kinds of GPU there are; [`GpuTypeIndex`] counts along this slice.
    pub gpu_types: &'a [GpuTypeView],
    /// The applications that were declared; [`AppIndex`] counts along this slice.
    pub apps: &'a [AppView],
    /// Every job that was submitted and has not ended, in order of submission.
    pub jobs: &'a [JobView],
}

/// A position in [`ClusterView::gpu_types`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct GpuTypeIndex(pub usize);

/// A position in [`ClusterView::apps`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AppIndex(pub usize);

/// All nodes of one kind of GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuTypeView {
    /// What it is called.
    pub name: String,
    /// How many nodes there are, numbered from 0.
    pub nodes: u32,
    /// GPUs of each node.
    pub gpus_per_node: u32,
    /// The most nodes one job may span.
    pub nodes_per_job_max: u32,
}

impl GpuTypeView {
    /// All GPUs of this kind.
    pub fn gpus(&self) -> u32 {
        self.nodes * self.gpus_per_node
    }
}

/// What was declared of an application, and what its first profile on single GPUs showed.
#[derive(Debug, Clone, PartialEq)]
pub struct AppView {
    /// The declared name: jobs of one name are taken to behave alike.
    pub name: String,
    /// The total batch for which the learning rate was chosen.
    pub batch_initial: u32,
    /// The largest total batch that still learns.
    pub batch_max: u32,
    /// How many epochs a job runs at most.
    pub epochs_max: u32,
    /// How long a start, rescale or migration holds its GPUs without progress, seconds.
    pub restart_seconds: f64,
    /// By GPU type: the bounds of the batch on one GPU and the profile. `None`: does not run there.
    pub by_type: Vec<Option<AppOnType>>,
}

/// An application on one GPU type.
#[derive(Debug, Clone, PartialEq)]
pub struct AppOnType {
    /// The smallest batch on one GPU.
    pub local_batch_min: u32,
    /// The largest batch that fits into one GPU.
    pub local_batch_max: u32,
    /// One short run on ONE GPU before the first job starts: batch and seconds of an iteration, in ascending order of
    /// batch, as Sia does it.
    pub profile: Vec<(u32, f64)>,
}

/// What a job shows.
#[derive(Debug, Clone, PartialEq)]
pub struct JobView {
    /// The job.
    pub id: JobId,
    /// What it runs.
    pub app: AppIndex,
    /// When it was submitted.
    pub submitted: f64,
    /// What it asks for.
    pub demand: Demand,
    /// What it holds.
    pub holding: Option<Holding>,
    /// Epochs it has completed.
    pub epochs_done: u32,
    /// Its progress, in iterations at the initial batch.
    pub progress: f64,
    /// The latest statistics of its gradient.
    pub gradient: Option<GradientStats>,
    /// How often it was restarted after its first start.
    pub restarts: u32,
    /// GPU-seconds held so far.
    pub gpu_seconds: f64,
}

/// What a job asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// Any number of GPUs and any batch within its application's bounds.
    Elastic,
    /// Exactly this, whole or not at all.
    Rigid {
        /// GPUs, all of one type.
        gpus: u32,
        /// The total batch.
        batch: u32,
    },
}

/// GPUs in use.
#[derive(Debug, Clone, PartialEq)]
pub struct Holding {
    /// Which.
    pub placement: Placement,
    /// Seconds until it makes progress there.
    pub restart_left: f64,
    /// Since when it has held exactly these.
    pub since: f64,
}

/// Statistics of a gradient, as Pollux (OSDI'21) estimates them while training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GradientStats {
    /// The squared norm of the mean gradient.
    pub squared: f64,
    /// The variance at the initial batch.
    pub variance: f64,
}

impl GradientStats {
    /// How many iterations at the initial batch one iteration at `scale` times that batch is worth: 1 at scale 1, never
    /// more than `scale`.
    pub fn gain(self, scale: f64) -> f64 {
        let below = self.variance / scale + self.squared;
        if below > 0.0 { (self.variance + self.squared) / below } else { 1.0 }
    }
}

/// GPUs of one type: node numbers with how many of their GPUs, in ascending order of node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Placement {
    /// Of this type.
    pub gpu_type: GpuTypeIndex,
    /// Node and number of GPUs there.
    pub nodes: Vec<(u32, u32)>,
}

impl Placement {
    /// All its GPUs.
    pub fn gpus(&self) -> u32 {
        self.nodes.iter().map(|node| node.1).sum()
    }

    /// Its size.
    pub fn shape(&self) -> Shape {
        let nodes = u32::try_from(self.nodes.len()).expect("a placement has fewer nodes than a cluster");
        Shape { gpu_type: self.gpu_type, nodes, gpus: self.gpus() }
    }
}

/// The size of a placement: what the time of an iteration mostly depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shape {
    /// The type of its GPUs.
    pub gpu_type: GpuTypeIndex,
    /// How many nodes.
    pub nodes: u32,
    /// How many GPUs on all of them.
    pub gpus: u32,
}

/// How an iteration's batch is made up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// Samples on one GPU in one pass.
    pub local: u32,
    /// Further passes before gradients are exchanged.
    pub accumulation: u32,
}

impl Batch {
    /// Samples of one iteration on so many replicas.
    pub fn total(self, replicas: u32) -> u32 {
        replicas * self.local * (self.accumulation + 1)
    }
}

/// Something that was seen while jobs ran.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Observation {
    /// The time of an iteration.
    Step {
        /// Of this application.
        app: AppIndex,
        /// On this many GPUs.
        shape: Shape,
        /// With this batch on each.
        local_batch: u32,
        /// A whole iteration, without accumulation, seconds.
        step_seconds: f64,
        /// The part of it that is exchange of gradients, seconds.
        sync_seconds: f64,
    },
    /// The gradient of a job while it trained.
    Gradient {
        /// Of this application.
        app: AppIndex,
        /// Epochs it had completed.
        epoch: u32,
        /// The total batch with which it was measured.
        batch: u32,
        /// The statistics.
        gradient: GradientStats,
    },
    /// A job ended well.
    Finished {
        /// Of this application.
        app: AppIndex,
        /// Its progress at the end.
        progress: f64,
        /// From submission to end, seconds.
        completion_seconds: f64,
    },
}
