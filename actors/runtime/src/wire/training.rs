//! Training between the workers of one job: the launch data of the workload `train`, and the traffic between trainer
//! shards, parameter server and data loader.

use neap_scheduler::model::{JobId, MembershipEpoch, WorkerId};
use neap_scheduler::spec::{
    self, CheckpointEvery, ColumnSpec, DataFormat, DataPart, DataSpec, Determinism, HashSide, HashSplit, JobSpec,
    OrderSpec, ParamValue, ServerPlacement, TargetKind, TrainLength, TrainSpec,
};
use serde::{Deserialize, Serialize};

use super::collective::{SlicePart, StateMark, StatePart};
use crate::remote::Protocol;

/// The name of the training workload in the registry of workloads.
pub const TRAIN_WORKLOAD: &str = "train";

/// What the workload `train` is started with ([`super::worker::WorkerLaunch::args`]).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainLaunch {
    /// The job.
    pub job: JobId,
    /// Its name, for the model card.
    pub job_name: String,
    /// Digest of what defines the result, in hex.
    pub spec_hash: String,
    /// The entry.
    pub entry: String,
    /// The entry's parameters, sorted by name.
    pub params: Vec<(String, Param)>,
    /// The training data.
    pub train_data: Data,
    /// The evaluation data.
    pub eval_data: Option<Data>,
    /// Samples per step over all logical shards.
    pub global_batch: u32,
    /// Into how many fixed parts every step is cut.
    pub logical_shards: u32,
    /// How many samples of a part are computed at once, at most; a whole part where nothing is said.
    pub micro_batch: Option<u32>,
    /// When it ends.
    pub length: Length,
    /// Whether the result must be bit-identical whatever the workers.
    pub strict: bool,
    /// Whether the parameter server has a node of its own.
    pub separate_server: bool,
    /// When workers wait for each other.
    pub consistency: Consistency,
    /// Seed of the initial parameters.
    pub seed: u64,
    /// The weights it begins with, where they are not all drawn from the seed.
    pub init: Option<Init>,
    /// Where checkpoints go: an absolute local folder, or the URI of a place in an object store.
    pub checkpoint_folder: String,
    /// How often.
    pub checkpoint_every: Every,
    /// How many are kept.
    pub checkpoint_keep: u32,
    /// Where the model and its card go: an absolute local folder.
    pub model_folder: String,
    /// Memory that each worker was promised, in MiB: what data may take of it follows from this.
    pub memory_mib: u64,
    /// How gradients become a step.
    pub strategy: Strategy,
    /// How gradients are made smaller on their way to a server in another process.
    pub compression: Option<Compression>,
    /// How many other workers hold a replica of the parameter server's state, as far as there are so many.
    pub replicas: u32,
    /// What computes.
    pub backend: Backend,
}

/// What computes a training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Backend {
    /// The processor.
    Flex,
    /// A graphics card, through Vulkan, Metal or DirectX.
    Wgpu,
    /// A graphics card of NVIDIA's, through CUDA.
    Cuda,
}

/// How gradients are made smaller.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Compression {
    /// The upper half of every value.
    Bf16,
    /// The values that are largest without their sign.
    TopK {
        /// Which share of them.
        share: f64,
    },
}

/// How gradients become a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Strategy {
    /// A parameter server adds them up and sends the parameters out.
    ParameterServer,
    /// The workers add them up among themselves, and each takes the step itself.
    AllReduce,
}

/// Weights to begin with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Init {
    /// The file: an absolute path, or the URI of an object.
    pub path: String,
    /// blake3 of the file, in hex, as it was when the job was accepted.
    pub digest: Option<String>,
    /// New names.
    pub rename: Vec<(String, String)>,
    /// Tensors of the model that are drawn from the seed all the same.
    pub fresh: Vec<String>,
    /// Tensors of the file that are not wanted.
    pub ignore: Vec<String>,
    /// Tensors of the model that do not change.
    pub freeze: Vec<String>,
}

/// A parameter of an entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Param {
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// A word.
    Text(String),
    /// A switch.
    Bool(bool),
}

/// A data set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Data {
    /// An absolute path of a file or folder, or a pattern; or the same in an object store.
    pub path: String,
    /// How it is stored.
    pub format: Format,
    /// Which part is meant.
    pub part: Part,
    /// The column that is to be predicted.
    pub label: Option<String>,
    /// What that column holds.
    pub target: Option<Target>,
    /// The columns that the model sees.
    pub columns: Columns,
    /// The order of its samples.
    pub order: Order,
    /// Steps prepared ahead.
    pub prefetch: u32,
    /// Whether workers may read it from each other.
    pub locality: Locality,
}

/// Whether workers may read samples that another one holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Locality {
    /// They may; who holds the data is served with shards first.
    Prefer,
    /// They may not.
    Require,
    /// They may, and it does not matter.
    Ignore,
}

/// How a data set is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// IDX files of the MNIST family in a folder.
    Idx,
    /// Comma-separated values with a header line.
    Csv,
    /// One JSON object a line.
    Jsonl,
    /// Parquet.
    Parquet,
    /// Arrow IPC.
    Arrow,
}

/// Which part of a data set is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// All of it.
    All,
    /// The training part of a known folder.
    Train,
    /// The test part of a known folder.
    Test,
    /// Rows `from..to`.
    Rows(u64, u64),
    /// One side of a cut by the hash of each row.
    Hash {
        /// The share, in millionths.
        share_ppm: u32,
        /// The column that is hashed; the whole row where there is none.
        by: Option<String>,
        /// Whether everything but the share is meant.
        rest: bool,
    },
}

/// What a label column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// One of a few classes.
    Class,
    /// A number.
    Value,
}

/// Which columns of a table the model sees.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Columns {
    /// Only these; all where there is none.
    pub only: Vec<String>,
    /// Not these.
    pub ignore: Vec<String>,
    /// These as categories.
    pub categories: Vec<String>,
}

/// What fixes the order of samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The seed; without one the order of the files.
    pub seed: Option<u64>,
    /// Samples among which each is drawn; all where there is none.
    pub window: Option<u32>,
    /// Samples in a row that move together.
    pub micro_shard: u32,
}

/// When a training ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Length {
    /// After this many epochs.
    Epochs(u32),
    /// After this many steps.
    Steps(u64),
}

/// When workers wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Consistency {
    /// After every step.
    Sync,
    /// When they are more than so many steps ahead of the slowest logical shard.
    Ssp(u32),
    /// Not at all.
    Async,
}

/// How often a checkpoint is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Every {
    /// As often as is best for the membership's losses.
    Auto,
    /// At the end of every so many epochs.
    Epochs(u32),
    /// After every so many steps.
    Steps(u64),
    /// After every so many milliseconds.
    Millis(u64),
    /// Only on notice.
    Never,
}

/// What a launch has beyond the job file.
#[derive(Debug, Clone)]
pub struct LaunchPlace {
    /// The job.
    pub job: JobId,
    /// Its name.
    pub job_name: String,
    /// Digest of what defines the result, in hex.
    pub spec_hash: String,
    /// blake3 of the weights it begins with, in hex.
    pub init_digest: Option<String>,
    /// Where its checkpoints go.
    pub checkpoint_folder: String,
    /// Where the model and its card go.
    pub model_folder: String,
}

impl TrainLaunch {
    /// The launch of a job.
    pub fn new(spec: &JobSpec, train: &TrainSpec, place: LaunchPlace) -> Self {
        Self {
            job: place.job,
            job_name: place.job_name,
            spec_hash: place.spec_hash,
            entry: train.entry.clone(),
            params: train.params.iter().map(|(name, value)| (name.clone(), Param::from(value))).collect(),
            train_data: Data::from(&spec.data["train"]),
            eval_data: spec.data.get("eval").map(Data::from),
            global_batch: train.global_batch,
            logical_shards: train.logical_shards,
            micro_batch: train.micro_batch,
            length: match train.length {
                TrainLength::Epochs(epochs) => Length::Epochs(epochs),
                TrainLength::Steps(steps) => Length::Steps(steps),
            },
            strict: train.determinism == Determinism::Strict,
            separate_server: train.server == ServerPlacement::Separate,
            consistency: match train.consistency {
                spec::Consistency::Sync => Consistency::Sync,
                spec::Consistency::Ssp { staleness } => Consistency::Ssp(staleness),
                spec::Consistency::Async => Consistency::Async,
            },
            seed: train.seed,
            init: train.init.as_ref().map(|init| Init {
                path: init.path.clone(),
                digest: place.init_digest,
                rename: init.rename.iter().map(|(from, to)| (from.clone(), to.clone())).collect(),
                fresh: init.fresh.clone(),
                ignore: init.ignore.clone(),
                freeze: init.freeze.clone(),
            }),
            checkpoint_folder: place.checkpoint_folder,
            checkpoint_every: match spec.checkpoint.every {
                CheckpointEvery::Auto => Every::Auto,
                CheckpointEvery::Epochs(epochs) => Every::Epochs(epochs),
                CheckpointEvery::Steps(steps) => Every::Steps(steps),
                CheckpointEvery::Time(time) => Every::Millis(time.get()),
                CheckpointEvery::Never => Every::Never,
            },
            checkpoint_keep: spec.checkpoint.keep,
            model_folder: place.model_folder,
            strategy: match train.strategy {
                spec::Strategy::ParameterServer => Strategy::ParameterServer,
                spec::Strategy::AllReduce => Strategy::AllReduce,
            },
            compression: train.compression.map(|compression| match compression {
                spec::Compression::Bf16 => Compression::Bf16,
                spec::Compression::TopK { share } => Compression::TopK { share },
            }),
            memory_mib: spec.resources.memory.0,
            replicas: train.replicas,
            backend: match train.backend {
                spec::Backend::Flex => Backend::Flex,
                spec::Backend::Wgpu => Backend::Wgpu,
                spec::Backend::Cuda => Backend::Cuda,
            },
        }
    }
}

impl From<&ParamValue> for Param {
    fn from(value: &ParamValue) -> Self {
        match value {
            ParamValue::Int(value) => Self::Int(*value),
            ParamValue::Float(value) => Self::Float(*value),
            ParamValue::Text(value) => Self::Text(value.clone()),
            ParamValue::Bool(value) => Self::Bool(*value),
        }
    }
}

impl From<&DataSpec> for Data {
    fn from(data: &DataSpec) -> Self {
        Self {
            path: data.path.clone(),
            format: match data.format {
                DataFormat::Idx => Format::Idx,
                DataFormat::Csv => Format::Csv,
                DataFormat::Jsonl => Format::Jsonl,
                DataFormat::Parquet => Format::Parquet,
                DataFormat::Arrow => Format::Arrow,
            },
            part: match &data.part {
                DataPart::All => Part::All,
                DataPart::Train => Part::Train,
                DataPart::Test => Part::Test,
                DataPart::Rows { from, to } => Part::Rows(*from, *to),
                DataPart::Hash(split) => {
                    Part::Hash { share_ppm: split.share_ppm, by: split.by.clone(), rest: split.side == HashSide::Rest }
                }
            },
            label: data.label.clone(),
            target: data.target.map(|kind| match kind {
                TargetKind::Class => Target::Class,
                TargetKind::Value => Target::Value,
            }),
            columns: Columns {
                only: data.columns.only.clone(),
                ignore: data.columns.ignore.clone(),
                categories: data.columns.categories.clone(),
            },
            order: Order { seed: data.order.seed, window: data.order.window, micro_shard: data.order.micro_shard },
            prefetch: data.prefetch,
            locality: match data.locality {
                spec::Locality::Prefer => Locality::Prefer,
                spec::Locality::Require => Locality::Require,
                spec::Locality::Ignore => Locality::Ignore,
            },
        }
    }
}

impl From<Data> for DataSpec {
    fn from(data: Data) -> Self {
        Self {
            path: data.path,
            format: match data.format {
                Format::Idx => DataFormat::Idx,
                Format::Csv => DataFormat::Csv,
                Format::Jsonl => DataFormat::Jsonl,
                Format::Parquet => DataFormat::Parquet,
                Format::Arrow => DataFormat::Arrow,
            },
            part: match data.part {
                Part::All => DataPart::All,
                Part::Train => DataPart::Train,
                Part::Test => DataPart::Test,
                Part::Rows(from, to) => DataPart::Rows { from, to },
                Part::Hash { share_ppm, by, rest } => {
                    let side = if rest { HashSide::Rest } else { HashSide::Share };
                    DataPart::Hash(HashSplit { share_ppm, by, side })
                }
            },
            label: data.label,
            target: data.target.map(|kind| match kind {
                Target::Class => TargetKind::Class,
                Target::Value => TargetKind::Value,
            }),
            columns: ColumnSpec {
                only: data.columns.only,
                ignore: data.columns.ignore,
                categories: data.columns.categories,
            },
            order: OrderSpec { seed: data.order.seed, window: data.order.window, micro_shard: data.order.micro_shard },
            prefetch: data.prefetch,
            locality: match data.locality {
                Locality::Prefer => spec::Locality::Prefer,
                Locality::Require => spec::Locality::Require,
                Locality::Ignore => spec::Locality::Ignore,
            },
        }
    }
}

/// Trainer → parameter server. The server's process registers the actor `parameter-server` for it.
#[derive(Debug)]
pub struct ServerProtocol;

/// The name under which the actor of [`ServerProtocol`] is registered.
pub const SERVER_ACTOR: &str = "parameter-server";

impl Protocol for ServerProtocol {
    const NAME: &'static str = "parameter-server";
    type Cast = ();
    type Request = TrainerHello;
    type Reply = ();
    type BulkHeader = GradientHeader;
}

/// A trainer has joined a membership and wants the parameters. Answered as soon as it is noted; the parameters follow
/// when the server has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainerHello {
    /// The membership.
    pub membership: MembershipEpoch,
    /// The trainer.
    pub worker: WorkerId,
    /// Digest of the training data it uses; another one than the server's ends the job.
    pub data_digest: [u8; 32],
    /// The model of the device it computes on; another one than the server's ends a job that must be bit-identical.
    pub device: String,
}

/// Announces the gradients of one trainer for one step. The payload is one gradient a part, in the order of `parts`,
/// each as long as the receiving server's segment of the parameters, as `f32`, or its code where the job compresses; after
/// them come the ids of all samples used, part after part, as `u32`. Losses and samples go to the first server only: the
/// others are sent none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GradientHeader {
    /// The membership; an older one is refused.
    pub membership: MembershipEpoch,
    /// The step the gradients belong to, counted from 0 since the start of the job.
    pub step: u64,
    /// The parts the payload consists of.
    pub parts: Vec<GradientPart>,
}

/// The sum of the gradients under one node of the reduction tree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GradientPart {
    /// The node's level; 0 are the logical shards themselves.
    pub level: u32,
    /// The node's position in its level.
    pub index: u32,
    /// Sum of the training loss over the samples below the node, per logical shard in order (added up by the server in
    /// the fixed order).
    pub shard_losses: Vec<f64>,
    /// How many samples were used.
    pub samples: u32,
}

/// Parameter server → trainer. Every worker registers the actor `trainer` for it.
#[derive(Debug)]
pub struct TrainerProtocol;

/// The name under which the actor of [`TrainerProtocol`] is registered.
pub const TRAINER_ACTOR: &str = "trainer";

impl Protocol for TrainerProtocol {
    const NAME: &'static str = "trainer";
    type Cast = ();
    type Request = ();
    type Reply = ();
    type BulkHeader = ParametersHeader;
}

/// Announces the parameters with which a step is computed; the payload is one segment of them as `f32`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParametersHeader {
    /// The membership; an older one is ignored.
    pub membership: MembershipEpoch,
    /// The step to compute with them, counted from 0 since the start of the job.
    pub step: u64,
    /// Which segment the payload is: the sender's place among the membership's servers.
    pub segment: u32,
    /// The first logical shard to compute it for: all that the worker carries, unless its shards do not go in step and some of
    /// them are behind the others.
    pub shard_start: u32,
    /// One past the last.
    pub shard_end: u32,
}

/// Between the parameter servers of a job that has several, and between a server and its replica. The first server of a
/// membership leads: it keeps the job's books and decides when a step is made. Every worker registers the actor
/// `parameter-segment` for it.
#[derive(Debug)]
pub struct SegmentProtocol;

/// The name under which the actor of [`SegmentProtocol`] is registered.
pub const SEGMENT_ACTOR: &str = "parameter-segment";

impl Protocol for SegmentProtocol {
    const NAME: &'static str = "parameter-segment";
    type Cast = SegmentMessage;
    type Request = ();
    type Reply = ();
    type BulkHeader = SegmentHeader;
}

/// What the servers of a job tell each other. Another membership than the receiver's is refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum SegmentMessage {
    /// To the lead: this server serves under the membership and has made `step` steps. Answered by
    /// [`SegmentMessage::Committed`].
    Ready {
        /// The membership.
        membership: MembershipEpoch,
        /// Steps made.
        step: u64,
    },
    /// To the lead: the segment's gradient for `step` is complete. Nothing has changed yet.
    Prepared {
        /// The membership.
        membership: MembershipEpoch,
        /// The step, counted from 0.
        step: u64,
        /// The sum of squares of each chunk of the gradient, where the job limits its length.
        squares: Vec<f64>,
        /// The position in the flat buffer of the first value that is not finite.
        not_finite: Option<u64>,
    },
    /// From the lead: `step` steps are committed. A server that is one behind makes its prepared step; then it hands out
    /// its parameters.
    Committed {
        /// The membership.
        membership: MembershipEpoch,
        /// Steps committed.
        step: u64,
        /// What the last one's rate is multiplied by.
        rate: f32,
        /// What its gradient is multiplied by.
        gradient: f32,
    },
    /// From the lead: send the segment as it is after `step` steps ([`SegmentHeader`]).
    Collect {
        /// The membership.
        membership: MembershipEpoch,
        /// Steps committed.
        step: u64,
    },
    /// From a replica to its server: which state it has now. Said when it takes up a membership, and after every
    /// [`SegmentContent::Step`] and every whole [`SegmentContent::Replica`].
    Replicated {
        /// The membership.
        membership: MembershipEpoch,
        /// Its state; nothing where it has none.
        state: Option<StateMark>,
    },
}

/// Announces what one server has for another, or for its replica.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SegmentHeader {
    /// The membership; another one is refused.
    pub membership: MembershipEpoch,
    /// Steps made; for [`SegmentContent::Step`] those before it.
    pub step: u64,
    /// What the payload is.
    pub content: SegmentContent,
}

/// What the payload behind a [`SegmentHeader`] is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum SegmentContent {
    /// To the lead: a segment's state, its parameters and then each of the optimiser's buffers, as `f32`.
    Segment,
    /// To a replica: the sum of a step's gradients as `f32`, then the ids of the samples used, as `u32`, then the losses of
    /// the logical shards, as `f64`. The replica makes the same step from it.
    Step(SlicePart),
    /// To a replica: a buffer of the server's state, as `f32`.
    Replica(StatePart),
}

/// Trainer → data loader of another worker, for a node that cannot read the data itself. Every worker that can read it
/// registers the actor `data-loader`.
#[derive(Debug)]
pub struct LoaderProtocol;

/// The name under which the actor of [`LoaderProtocol`] is registered.
pub const LOADER_ACTOR: &str = "data-loader";

impl Protocol for LoaderProtocol {
    const NAME: &'static str = "data-loader";
    type Cast = ();
    type Request = LoaderRequest;
    type Reply = LoaderReply;
    type BulkHeader = ();
}

/// What a trainer asks of a data loader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LoaderRequest {
    /// What the job's data is.
    Describe,
    /// These samples, in this order.
    Samples {
        /// Of which data set.
        set: DataSet,
        /// Their ids.
        ids: Vec<u32>,
    },
}

/// A job's data sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DataSet {
    /// The training data.
    Train,
    /// The evaluation data.
    Eval,
}

/// What a data loader answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum LoaderReply {
    /// The job's data.
    Description(DataDescription),
    /// The samples asked for, sample after sample.
    Samples {
        /// Features as they are stored: a byte, or a little-endian `f32`, each.
        #[serde(with = "serde_bytes")]
        features: Vec<u8>,
        /// Whether a feature is an `f32`.
        wide: bool,
        /// Targets: a little-endian `u16` a class, or a little-endian `f32` a value.
        #[serde(with = "serde_bytes")]
        targets: Vec<u8>,
    },
    /// This loader has not read the data, or cannot.
    Unavailable(String),
}

/// A job's data, for a worker that cannot read it itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataDescription {
    /// Samples of the training data.
    pub train_samples: u32,
    /// Samples of the evaluation data, where there is any.
    pub eval_samples: Option<u32>,
    /// Height, width, channels of a sample.
    pub shape: [u32; 3],
    /// What there is to predict.
    pub target: TargetDescription,
    /// What stored values become.
    pub input: InputDescription,
    /// Digest (blake3) of the training data.
    pub train_digest: [u8; 32],
    /// Digest (blake3) of the evaluation data.
    pub eval_digest: Option<[u8; 32]>,
}

/// What the stored values of a sample become before the model sees them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum InputDescription {
    /// All are moved and scaled alike.
    Uniform {
        /// What is taken from a value.
        mean: f32,
        /// What the rest is multiplied with.
        scale: f32,
    },
    /// The columns of a table, with their names.
    Columns(Vec<(String, ColumnDescription)>),
}

/// What a column of a table becomes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ColumnDescription {
    /// A number, moved and scaled.
    Number {
        /// What is taken from it.
        mean: f32,
        /// What the rest is multiplied with.
        scale: f32,
        /// Whether a second feature says that the number is missing.
        indicator: bool,
    },
    /// One feature for each of these categories, and one for all others.
    Category(Vec<String>),
}

/// What there is to predict of a sample.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TargetDescription {
    /// One of these classes, in the order of their numbers.
    Classes(Vec<String>),
    /// A value.
    Value,
}
