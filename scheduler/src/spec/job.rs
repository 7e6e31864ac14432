//! A job as the rest of Neap sees it: valid by construction, made only by [`super::parse`].

use std::collections::BTreeMap;

use crate::model::{ContentHash, MarketChoice, MicroUsd, MicroUsdPerHour, Millis, NodeSize};

/// Whom a job belongs to that names no project.
pub const DEFAULT_PROJECT: &str = "default";

/// A valid job of `kind: train`.
#[derive(Debug, Clone, PartialEq)]
pub struct JobSpec {
    /// DNS label of at most 63 characters, or nothing: the control plane then makes one up.
    pub name: Option<String>,
    /// Whom it belongs to and whose budget it spends: a DNS label.
    pub project: String,
    /// Free text.
    pub description: String,
    /// Copied to cost lines.
    pub labels: BTreeMap<String, String>,
    /// 0 to 1000; where the policy looks at it, the higher is served first.
    pub priority: u16,
    /// How many workers may carry the job.
    pub workers: WorkerRange,
    /// What one worker needs.
    pub resources: NodeSize,
    /// Which market its nodes come from.
    pub market: MarketChoice,
    /// The most one node may cost.
    pub max_price: Option<MicroUsdPerHour>,
    /// What the whole job may cost, all attempts together.
    pub budget: Option<BudgetSpec>,
    /// When it should be done.
    pub deadline: Option<Deadline>,
    /// What to save: money or time.
    pub objective: Objective,
    /// What happens when a node is taken back.
    pub on_preempt: OnPreempt,
    /// How often workers that crash by themselves are started again.
    pub max_restarts: u32,
    /// Where and how often the training state is saved.
    pub checkpoint: CheckpointSpec,
    /// The data sets by name: `train` always, `eval` where there is one.
    pub data: BTreeMap<String, DataSpec>,
    /// The training itself.
    pub train: TrainSpec,
}

/// How many workers may carry a job: `1 ≤ min ≤ target ≤ max ≤ logical_shards`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerRange {
    /// Below this the job does not run.
    pub min: u32,
    /// What the scheduler aims at.
    pub target: u32,
    /// Never more than this.
    pub max: u32,
}

/// What a job may cost. Hard limits: a node is rented only where its worst case fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetSpec {
    /// All attempts together.
    pub max_cost: Option<MicroUsd>,
    /// All its nodes together, at any moment.
    pub max_cost_per_hour: Option<MicroUsdPerHour>,
    /// At how many thousandths of `max_cost` the job's owner is warned.
    pub warn_at_permille: u16,
    /// What happens when no more can be spent.
    pub on_exceed: OnExceed,
}

/// What happens when a job's budget cannot carry it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExceed {
    /// A last checkpoint, then its nodes go back.
    CheckpointAndStop,
    /// Its nodes go back at once.
    Stop,
}

/// When a job should be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deadline {
    /// This long after it was submitted.
    After(Millis),
    /// At this moment, in milliseconds since 1970-01-01 UTC.
    At(Millis),
}

impl Deadline {
    /// The moment, for a job submitted at `submitted`.
    pub fn moment(self, submitted: Millis) -> Millis {
        match self {
            Self::After(time) => submitted + time,
            Self::At(moment) => moment,
        }
    }
}

/// What an additional node has to achieve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Objective {
    /// A lower cost of the whole job.
    #[default]
    MinCost,
    /// An earlier end.
    MinTime,
    /// An earlier end, where an hour is worth an hour of the job's smallest gang.
    Balanced,
}

/// What happens when a node is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnPreempt {
    /// Go on with the others, and rent a replacement while below the target.
    Replace,
    /// Go on with the others; rent again only when below the minimum.
    Shrink,
}

/// Where and how often the training state is saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointSpec {
    /// A local folder, absolute; `None` is the project store under the control plane's home.
    pub folder: Option<String>,
    /// How often.
    pub every: CheckpointEvery,
    /// How many are kept; at least 2, so that a damaged newest one never is the only one.
    pub keep: u32,
    /// Whether a preemption notice asks for one.
    pub on_notice: bool,
}

/// How often a checkpoint is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckpointEvery {
    /// At the end of every so many epochs (`auto` is 1).
    Epochs(u32),
    /// After every so many steps.
    Steps(u64),
    /// Only at the end and on notice.
    Never,
}

/// One data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataSpec {
    /// An absolute path of a file or folder.
    pub path: String,
    /// How it is stored.
    pub format: DataFormat,
    /// Which part of it is meant.
    pub part: DataPart,
    /// The column that holds the class (CSV); the last one where none is named.
    pub label: Option<String>,
    /// The seed of the sample order; `None` keeps the order of the file.
    pub shuffle_seed: Option<u64>,
}

/// How a data set is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataFormat {
    /// IDX files of the MNIST family, gzipped or not, in a folder.
    Idx,
    /// Comma-separated values with a header line, gzipped or not.
    Csv,
}

/// Which part of a data set is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataPart {
    /// All of it.
    All,
    /// The named training part of a known folder.
    Train,
    /// The named test part of a known folder.
    Test,
    /// Rows `from..to`, counted from 0, `to` not included.
    Rows {
        /// First row.
        from: u64,
        /// One past the last row.
        to: u64,
    },
}

/// The training itself.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainSpec {
    /// A registered entry: `mlp`, `cnn`, or one of the artifact's.
    pub entry: String,
    /// The program that has the entry; `None` is the one that every node runs.
    pub artifact: Option<ContentHash>,
    /// Where the parameter server lives.
    pub server: ServerPlacement,
    /// Samples per step over all logical shards; a multiple of `logical_shards`.
    pub global_batch: u32,
    /// Into how many fixed parts every step is cut, whatever carries them.
    pub logical_shards: u32,
    /// When it ends.
    pub length: TrainLength,
    /// How far the result may depend on the workers.
    pub determinism: Determinism,
    /// Seed of the initial parameters.
    pub seed: u64,
    /// The entry's own parameters, checked by the entry.
    pub params: BTreeMap<String, ParamValue>,
}

/// Where the parameter server lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerPlacement {
    /// In the process of one of the workers.
    Colocated,
    /// On a node of its own, beside the workers.
    Separate,
}

/// When a training ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrainLength {
    /// After this many passes over the data.
    Epochs(u32),
    /// After this many steps.
    Steps(u64),
}

/// How far the result may depend on who carried the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Determinism {
    /// Bit-identical whatever the workers.
    Strict,
    /// The same samples in the same order; rounding may differ.
    Samples,
}

/// A parameter of an entry.
#[derive(Debug, Clone, PartialEq)]
pub enum ParamValue {
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// A word.
    Text(String),
    /// A switch.
    Bool(bool),
}
