//! A job as the rest of Neap sees it: valid by construction, made only by [`super::parse`].

use std::collections::BTreeMap;

use crate::model::{ContentHash, Location, MarketChoice, MicroUsd, MicroUsdPerHour, Millis, NodeSize, RemoteObjects};

/// Whom a job belongs to that names no project.
pub const DEFAULT_PROJECT: &str = "default";

/// A valid job.
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
    /// The data sets by name: for a training `train` always, `eval` where there is one; none for own actors.
    pub data: BTreeMap<String, DataSpec>,
    /// What it does.
    pub work: Work,
}

/// What a job does.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// Trains a model (`kind: train`).
    Train(Box<TrainSpec>),
    /// Runs actors of a program of its own (`kind: actors`).
    Actors(ActorsSpec),
}

impl JobSpec {
    /// The training, where it is one.
    pub fn train(&self) -> Option<&TrainSpec> {
        match &self.work {
            Work::Train(train) => Some(train.as_ref()),
            Work::Actors(_) => None,
        }
    }

    /// The program that it brings along.
    pub fn artifact(&self) -> Option<ContentHash> {
        match &self.work {
            Work::Train(train) => train.artifact,
            Work::Actors(actors) => actors.artifact,
        }
    }

    /// Whether it needs a node for its parameter server, beside those of its workers.
    pub fn separate_server(&self) -> bool {
        self.train().is_some_and(|train| train.server == ServerPlacement::Separate)
    }
}

/// A program of own actors.
#[derive(Debug, Clone, PartialEq)]
pub struct ActorsSpec {
    /// The registered name of its main function.
    pub main: String,
    /// The program that has it, where the job brings one along.
    pub artifact: Option<ContentHash>,
    /// What the main function is given.
    pub params: BTreeMap<String, ParamValue>,
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
    /// An absolute local folder or a place in an object store; `None` is the project store under the control plane's home.
    pub place: Option<Location>,
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
    /// As often as is best for how often the server's node is lost and what a checkpoint costs; at each epoch's end until
    /// losses were seen.
    Auto,
    /// At the end of every so many epochs.
    Epochs(u32),
    /// After every so many steps.
    Steps(u64),
    /// At the end of the first step after so much time.
    Time(Millis),
    /// Only at the end and on notice.
    Never,
}

/// One data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataSpec {
    /// An absolute path of a file or folder, a pattern such as `/data/2013-*.parquet`, or the same in an object store
    /// (`s3://bucket/2013-*.parquet`).
    pub path: String,
    /// How it is stored.
    pub format: DataFormat,
    /// Which part of it is meant.
    pub part: DataPart,
    /// The column of a table that is to be predicted; the last one where none is named.
    pub label: Option<String>,
    /// What kind of thing that column holds; `None` leaves it to its values.
    pub target: Option<TargetKind>,
    /// Which of a table's other columns the model sees, and how.
    pub columns: ColumnSpec,
    /// The order of the samples.
    pub order: OrderSpec,
    /// How many steps' samples are prepared ahead.
    pub prefetch: u32,
    /// Whether workers may read it from each other.
    pub locality: Locality,
}

/// Whether a worker may read samples that another one holds, and who gets the longer blocks of logical shards. Never changes
/// the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Locality {
    /// It may; shards go first to workers that hold the data, where all else is equal.
    #[default]
    Prefer,
    /// It may not: every worker reads the data itself.
    Require,
    /// It may, and shards are dealt without looking at it.
    Ignore,
}

impl DataSpec {
    /// The objects that are meant, where the data lie in an object store.
    pub fn remote(&self) -> Option<RemoteObjects> {
        self.path.contains("://").then(|| RemoteObjects::parse(&self.path).ok())?
    }

    /// What must be there: the path, or of a pattern the folder before its first part with `*` or `?`.
    pub fn place(&self) -> &str {
        let Some(pattern) = self.path.find(['*', '?']) else { return &self.path };
        match self.path[..pattern].rfind('/') {
            Some(0) | None => "/",
            Some(end) => &self.path[..end],
        }
    }
}

/// How a data set is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataFormat {
    /// IDX files of the MNIST family, gzipped or not, in a folder.
    Idx,
    /// Comma-separated values with a header line, gzipped or not.
    Csv,
    /// One JSON object a line, gzipped or not.
    Jsonl,
    /// Parquet.
    Parquet,
    /// Arrow IPC: the file format, which Feather version 2 is, or the stream format.
    Arrow,
}

impl DataFormat {
    /// Whether it holds rows with named columns.
    pub fn is_table(self) -> bool {
        self != Self::Idx
    }
}

/// What a table's label column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// One of a few classes.
    Class,
    /// A number.
    Value,
}

/// Which columns of a table the model sees, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnSpec {
    /// Only these; all where there is none.
    pub only: Vec<String>,
    /// Not these.
    pub ignore: Vec<String>,
    /// These as categories, even where they hold numbers.
    pub categories: Vec<String>,
}

/// What fixes the order of the samples, beside the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderSpec {
    /// The seed; `None` keeps the order of the files.
    pub seed: Option<u64>,
    /// Samples among which each is drawn; `None` draws among all of them.
    pub window: Option<u32>,
    /// Samples in a row that move together before a window is drawn from; without a window it has no meaning.
    pub micro_shard: u32,
}

/// Which part of a data set is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// Rows whose hash lies on one side of a share.
    Hash(HashSplit),
}

/// A cut by the hash of each row: the same rows on every machine, in any order of the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashSplit {
    /// The share, in millionths.
    pub share_ppm: u32,
    /// The column that is hashed; `None` is the whole row.
    pub by: Option<String>,
    /// Which side of the cut is meant.
    pub side: HashSide,
}

/// A side of a cut by hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashSide {
    /// The share itself: `data.eval`.
    Share,
    /// Everything else: `data.train`.
    Rest,
}

/// The training itself.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainSpec {
    /// A registered entry: `mlp`, `cnn`, or one of the artifact's.
    pub entry: String,
    /// The program that has the entry; `None` is the one that every node runs.
    pub artifact: Option<ContentHash>,
    /// What computes.
    pub backend: Backend,
    /// How gradients become a step.
    pub strategy: Strategy,
    /// Where the parameter server lives.
    pub server: ServerPlacement,
    /// In how many processes its parameters lie, as far as there are so many. Never changes the result.
    pub servers: u32,
    /// How many workers hold a replica of what a server holds, as far as there are so many. Never changes the result.
    pub replicas: u32,
    /// When workers wait for each other.
    pub consistency: Consistency,
    /// How gradients are made smaller on their way to it.
    pub compression: Option<Compression>,
    /// Samples per step over all logical shards; a multiple of `logical_shards`.
    pub global_batch: u32,
    /// Into how many fixed parts every step is cut, whatever carries them.
    pub logical_shards: u32,
    /// How many samples of such a part are computed at once, at most; `None` for all of them.
    pub micro_batch: Option<u32>,
    /// When it ends.
    pub length: TrainLength,
    /// How far the result may depend on the workers.
    pub determinism: Determinism,
    /// Seed of the initial parameters.
    pub seed: u64,
    /// The weights it begins with, where they are not all drawn from the seed.
    pub init: Option<InitSpec>,
    /// The entry's own parameters, checked by the entry.
    pub params: BTreeMap<String, ParamValue>,
}

/// What computes a training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// The processor.
    Flex,
    /// A graphics card, through Vulkan, Metal or DirectX.
    Wgpu,
    /// A graphics card of NVIDIA's, through CUDA.
    Cuda,
}

/// How gradients become a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// A parameter server adds them up and sends the parameters out.
    ParameterServer,
    /// The workers add them up among themselves, and each takes the step itself: in the fixed order under
    /// [`Determinism::Strict`], around a ring otherwise.
    AllReduce,
}

/// How gradients are made smaller on their way to a parameter server in another process. What a step leaves out is added to
/// the next one, and forgotten when workers come or go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Compression {
    /// The upper half of every value.
    Bf16,
    /// The values that are largest without their sign.
    TopK {
        /// Which share of them, above 0 and up to 1.
        share: f64,
    },
}

/// Weights to begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitSpec {
    /// An absolute path, or the URI of an object: safetensors, or a `state_dict` of PyTorch.
    pub path: String,
    /// New names: of a tensor, or of all whose name begins with this and a dot.
    pub rename: BTreeMap<String, String>,
    /// Tensors of the model that are drawn from the seed all the same, by name or beginning.
    pub fresh: Vec<String>,
    /// Tensors of the file that are not wanted, by name or beginning.
    pub ignore: Vec<String>,
    /// Tensors of the model that do not change, by name or beginning.
    pub freeze: Vec<String>,
}

/// Where the parameter server lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerPlacement {
    /// In the process of one of the workers.
    Colocated,
    /// On a node of its own, beside the workers.
    Separate,
}

/// When workers wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// After every step.
    Sync,
    /// When they are further ahead of the slowest logical shard than this (stale synchronous parallel, Ho et al. 2013).
    Ssp {
        /// Steps that a logical shard may be ahead of the slowest one when it begins another.
        staleness: u32,
    },
    /// Not at all.
    Async,
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
