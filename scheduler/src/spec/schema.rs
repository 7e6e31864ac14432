//! The JSON Schema of job files, for editors: which keys there are, of which type, and what they mean.
//!
//! The types here are the file's form as editors see it; they are never filled. [`super::parse`] reads the same keys (a
//! test compares the two) and alone knows the rules between fields.

#![expect(dead_code, reason = "the types are only described, never filled")]

use std::collections::BTreeMap;

use schemars::{JsonSchema, schema_for};
use serde_json::{Value, json};

use super::context::EntryInfo;

/// The JSON Schema of job files, as it is where these entries can be trained.
pub fn json_schema(entries: &[EntryInfo]) -> Value {
    let mut schema = schema_for!(Job).to_value();
    without_null(&mut schema);
    let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    if let (false, Some(train)) = (names.is_empty(), schema.pointer_mut("/$defs/Train")) {
        train["properties"]["entry"]["examples"] = json!(names);
        // An artifact has entries of its own.
        train["anyOf"] = json!([{"properties": {"entry": {"enum": names}}}, {"required": ["artifact"]}]);
    }
    schema
}

/// Takes `null` away as a type and a default: a field is left out or has a value, a key with nothing is a fault.
fn without_null(schema: &mut Value) {
    let Value::Object(fields) = schema else {
        schema.as_array_mut().into_iter().flatten().for_each(without_null);
        return;
    };
    fields.retain(|key, value| key != "default" || !value.is_null());
    if let Some(Value::Array(types)) = fields.get_mut("type") {
        types.retain(|name| name != "null");
        if let [name] = types.as_slice() {
            let name = name.clone();
            fields.insert("type".to_owned(), name);
        }
    }
    if let Some(Value::Array(choices)) = fields.get_mut("anyOf") {
        choices.retain(|choice| choice != &json!({"type": "null"}));
        if let [Value::Object(only)] = choices.as_slice() {
            let only = only.clone();
            fields.remove("anyOf");
            fields.extend(only);
        }
    }
    fields.values_mut().for_each(without_null);
}

/// A job for Neap.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, title = "Neap job")]
struct Job {
    /// The version of the format: 1.
    #[schemars(range(min = 1, max = 1))]
    version: u32,
    /// What the job is.
    kind: Kind,
    /// DNS label of at most 63 characters; made up where it is left out.
    #[schemars(regex(pattern = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"))]
    #[schemars(default)]
    name: Option<String>,
    /// Free text.
    #[schemars(default, length(max = 1000))]
    description: String,
    /// The project that the job belongs to, a DNS label; `default` where it is left out. A project is there once a job or a
    /// budget names it.
    #[schemars(regex(pattern = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"))]
    #[schemars(default)]
    project: Option<String>,
    /// Copied to cost lines; at most 32.
    #[schemars(default)]
    labels: BTreeMap<String, String>,
    /// 0 to 1000, 500 where it is left out; policies that look at it serve the higher one first.
    #[schemars(default, range(max = 1000))]
    priority: Option<u16>,
    /// How many workers may carry the job; 1 where it is left out. Never changes the result.
    #[schemars(default)]
    workers: Option<Workers>,
    /// What one worker needs.
    #[schemars(default)]
    resources: Option<Resources>,
    /// How workers are placed.
    #[schemars(default)]
    placement: Option<Placement>,
    /// Which market the nodes come from; `on_demand` where it is left out.
    #[schemars(default)]
    market: Option<Market>,
    /// The most one node may cost, in dollars per hour, with at most six decimals.
    #[schemars(default, extend("exclusiveMinimum" = 0))]
    max_price: Option<f64>,
    /// What the job may cost; never exceeded.
    #[schemars(default)]
    budget: Option<Budget>,
    /// When it should be done: a time from submission (`18h`, `1d12h`) or a moment (`2027-01-31T18:00:00Z`).
    #[schemars(default)]
    deadline: Option<String>,
    /// What its nodes are chosen for; `min_cost` where it is left out.
    #[schemars(default)]
    objective: Option<Objective>,
    /// What happens when nodes come and go.
    #[schemars(default)]
    elastic: Option<Elastic>,
    /// What happens when workers crash.
    #[schemars(default)]
    retry: Option<Retry>,
    /// Where and how often the training state is saved.
    #[schemars(default)]
    checkpoint: Option<Checkpoint>,
    /// The data sets, for `kind: train`.
    #[schemars(default)]
    data: Option<Data>,
    /// The training, for `kind: train`.
    #[schemars(default)]
    train: Option<Train>,
    /// The program of own actors, for `kind: actors`.
    #[schemars(default)]
    actors: Option<Actors>,
}

/// A program of own actors.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Actors {
    /// The registered name of its main function.
    main: String,
    /// The program that has it, where it is not the one that the job is handed in to: a path, or `blake3:…` of one that the
    /// control plane has.
    #[schemars(default)]
    artifact: Option<String>,
    /// What the main function is given.
    #[schemars(default)]
    params: BTreeMap<String, Param>,
}

/// What a job is.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum Kind {
    /// Trains a model.
    Train,
    /// Runs actors of a program of one's own.
    Actors,
}

/// How many workers may carry the job.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Workers {
    /// Exactly so many.
    Count(#[schemars(range(min = 1, max = 10000))] u32),
    /// A range such as `2..8`; the upper end is the target.
    Range(#[schemars(regex(pattern = r"^ *[0-9]+ *(\.\. *[0-9]+ *)?$"))] String),
    /// Minimum, target and maximum.
    Map(WorkerMap),
}

/// 1 ≤ min ≤ target ≤ max.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct WorkerMap {
    /// Below this the job does not run; 1 where it is left out.
    #[schemars(default, range(min = 1, max = 10000))]
    min: Option<u32>,
    /// What is aimed at; `max` where it is left out.
    #[schemars(default, range(min = 1, max = 10000))]
    target: Option<u32>,
    /// Never more than this; `target` where it is left out.
    #[schemars(default, range(min = 1, max = 10000))]
    max: Option<u32>,
}

/// What one worker needs.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Resources {
    /// Processors: `4`, `4+`, `4..8` or `0.5`; 1 where it is left out.
    #[schemars(default)]
    cpus: Option<NumberOrText>,
    /// Memory with its unit: `16GB`, `16GB..`, `16GB..64GB`, `512MiB`; 1GB where it is left out.
    #[schemars(default)]
    memory: Option<String>,
}

/// A number, or a text that holds numbers.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum NumberOrText {
    /// As a number.
    Number(f64),
    /// As a text.
    Text(String),
}

/// How workers are placed.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Placement {
    /// Whether the workers of `workers.min` start together; only `true` so far.
    #[schemars(default, extend("const" = true))]
    gang: Option<bool>,
}

/// A market for nodes.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum Market {
    /// Kept until released.
    OnDemand,
    /// Cheaper; may be taken back after a short notice.
    Spot,
    /// Either, whichever costs less per hour of progress; with a deadline, spot while there is time for it.
    Auto,
}

/// What a job may cost. At least one of the limits is given.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, extend("anyOf" = [{"required": ["max_cost"]}, {"required": ["max_cost_per_hour"]}]))]
struct Budget {
    /// Dollars for the whole job, all attempts together.
    #[schemars(default, extend("exclusiveMinimum" = 0))]
    max_cost: Option<f64>,
    /// Dollars per hour for all its nodes together.
    #[schemars(default, extend("exclusiveMinimum" = 0))]
    max_cost_per_hour: Option<f64>,
    /// At which part of `max_cost` its owner is warned; 0.8 where it is left out.
    #[schemars(default, range(min = 0, max = 1))]
    warn_at: Option<f64>,
    /// What happens when no more can be spent; `checkpoint_and_stop` where it is left out.
    #[schemars(default)]
    on_exceed: Option<OnExceed>,
}

/// What happens when no more can be spent.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum OnExceed {
    /// A last checkpoint, then its nodes go back.
    CheckpointAndStop,
    /// Its nodes go back at once.
    Stop,
}

/// What a job's nodes are chosen for.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum Objective {
    /// The least money.
    MinCost,
    /// The least time.
    MinTime,
    /// Both.
    Balanced,
}

/// What happens when nodes come and go.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Elastic {
    /// What happens when a node is taken back; `shrink` where it is left out.
    #[schemars(default)]
    on_preempt: Option<OnPreempt>,
}

/// What happens when a node is taken back.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum OnPreempt {
    /// Go on with the others.
    Shrink,
    /// Go on with the others and rent a replacement.
    Replace,
}

/// What happens when workers crash.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Retry {
    /// How often workers that crash by themselves are started again; 0 where it is left out.
    #[schemars(default, range(max = 1000))]
    max_restarts: Option<u32>,
}

/// Where and how often the training state is saved.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Checkpoint {
    /// A local folder (a path, relative to the job file, or `file:///absolute`) or a place in an object store
    /// (`s3://bucket/prefix`, `gs://…`, `az://…`); the project's store where it is left out.
    #[schemars(default)]
    uri: Option<String>,
    /// `auto` (the best for how often nodes are lost, each epoch until that is known), `none`, `2epochs`, `100steps`, `10m`.
    #[schemars(default, regex(pattern = r"^(auto|none|[0-9]+ *(steps?|epochs?)|([0-9]+[dhms])+)$"))]
    every: Option<String>,
    /// How many are kept; 3 where it is left out, never less than 2.
    #[schemars(default, range(min = 1, max = 1000))]
    keep: Option<u32>,
    /// Whether a preemption notice asks for one; `true` where it is left out.
    #[schemars(default)]
    on_notice: Option<bool>,
}

/// The data sets by their use.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Data {
    /// What the model learns from.
    train: DataSet,
    /// What its accuracy is measured on.
    #[schemars(default)]
    eval: Option<DataSet>,
}

/// A data set.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct DataSet {
    /// A file, a folder, or a pattern with `*` and `?`: a path, relative to the job file, `file:///absolute`, or a place in an
    /// object store (`s3://bucket/key`, `gs://…`, `az://…`), whose credentials come from the environment.
    uri: String,
    /// How it is stored; by the file's name where it is left out.
    #[schemars(default)]
    format: Option<Format>,
    /// Which part of it is meant; all where it is left out.
    #[schemars(default)]
    split: Option<Split>,
    /// The column of a table that is to be predicted; the last one where it is left out.
    #[schemars(default)]
    label: Option<String>,
    /// What the label column holds; by its values where it is left out: numbers with a fraction are values, everything
    /// else is a class. Only for `train`.
    #[schemars(default)]
    target: Option<Target>,
    /// The columns that the model sees; all but the label where it is left out. Only for `train`.
    #[schemars(default, length(min = 1, max = 4096))]
    columns: Option<Vec<String>>,
    /// Columns that the model does not see. Only for `train`.
    #[schemars(default, length(min = 1, max = 4096))]
    ignore: Option<Vec<String>>,
    /// Columns whose numbers are names of categories. Only for `train`.
    #[schemars(default, length(min = 1, max = 4096))]
    categories: Option<Vec<String>>,
    /// `{seed: 7}`, or `false` for the order of the file. Training data is shuffled with seed 0 where it is left out.
    #[schemars(default)]
    shuffle: Option<Shuffle>,
    /// Samples in a row that move together when a window is drawn from; 256 where it is left out.
    #[schemars(default, range(min = 1, max = 65536))]
    micro_shard: Option<u32>,
    /// How many steps' samples are prepared ahead; 4 where it is left out.
    #[schemars(default, range(min = 1, max = 64))]
    prefetch: Option<u32>,
    /// Whether workers may read it from each other; `prefer` where it is left out. Never changes the result.
    #[schemars(default)]
    locality: Option<Locality>,
}

/// Whether workers may read samples that another one holds.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum Locality {
    /// They may; shards go first to workers that hold the data, where all else is equal.
    Prefer,
    /// They may not: a worker whose node cannot read the data fails.
    Require,
    /// They may, and shards are dealt without looking at it.
    Ignore,
}

/// How a data set is stored.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum Format {
    /// A folder of IDX files (the MNIST family), gzipped or not.
    Idx,
    /// Comma-separated values with a header line, gzipped or not.
    Csv,
    /// One JSON object a line, gzipped or not.
    Jsonl,
    /// Parquet.
    Parquet,
    /// Arrow IPC, as a file (Feather version 2) or a stream.
    Arrow,
}

/// What a label column holds.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum Target {
    /// One of a few classes.
    Class,
    /// A number.
    Value,
}

/// A part of a data set.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Split {
    /// The named part of a known folder.
    Named(NamedSplit),
    /// Some of the rows.
    Rows(RowSplit),
}

/// The named parts of the MNIST family.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum NamedSplit {
    /// The training part.
    Train,
    /// The test part.
    Test,
}

/// Some of the rows: by their numbers, or by their hash.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, extend("oneOf" = [{"required": ["rows"]}, {"required": ["hash"]}]))]
struct RowSplit {
    /// From the first row, counted from 0, up to the last, which is not included: `0..1500`.
    #[schemars(default, regex(pattern = r"^ *[0-9]+ *\.\. *[0-9]+ *$"))]
    rows: Option<String>,
    /// The share of `eval`, chosen by the hash of each row; `train` gets the other rows.
    #[schemars(default, extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    hash: Option<f64>,
    /// The column that is hashed, so that rows with the same value stay together; the whole row where it is left out.
    #[schemars(default)]
    by: Option<String>,
}

/// The order of the samples.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Shuffle {
    /// `false` keeps the order of the file, `true` is `{seed: 0}`.
    Switch(bool),
    /// Another order each epoch, by this seed.
    Seed(ShuffleSeed),
}

/// Another order each epoch.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct ShuffleSeed {
    /// The same seed gives the same orders; 0 where it is left out.
    #[schemars(default)]
    seed: Option<u64>,
    /// Samples among which each is drawn, for data that does not fit into memory; all where it is left out.
    #[schemars(default, range(min = 1))]
    window: Option<u32>,
}

/// The training. It ends after `epochs` or after `steps`: exactly one is given.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, extend("oneOf" = [{"required": ["epochs"]}, {"required": ["steps"]}]))]
struct Train {
    /// What is trained: `mlp`, `cnn`, or an entry of the artifact.
    entry: String,
    /// The program that has the entry: a path, relative to the job file, or `blake3:…` of one that the control plane has;
    /// what every node runs where it is left out.
    #[schemars(default)]
    artifact: Option<String>,
    /// What computes; `flex` (the processor) where it is left out.
    #[schemars(default)]
    backend: Option<Backend>,
    /// How parameters are exchanged; `ps` where it is left out.
    #[schemars(default)]
    strategy: Option<Strategy>,
    /// The parameter server.
    #[schemars(default)]
    ps: Option<ParameterServer>,
    /// Samples per step over all logical shards, a multiple of `logical_shards`; from the entry where it is left out.
    #[schemars(default, range(min = 1, max = 16777216))]
    global_batch: Option<u32>,
    /// How many samples of a logical shard are computed at once, at most: bounds the memory of a step. A part of a step
    /// is computed in one piece where it is left out.
    #[schemars(default, range(min = 1, max = 16777216))]
    micro_batch: Option<u32>,
    /// Into how many fixed parts each step is cut, whatever carries them; 8 where it is left out, at least
    /// `workers.max`.
    #[schemars(default, range(min = 1, max = 8000))]
    logical_shards: Option<u32>,
    /// Passes over the data.
    #[schemars(default, range(min = 1))]
    epochs: Option<u32>,
    /// Steps, instead of epochs.
    #[schemars(default, range(min = 1))]
    steps: Option<u64>,
    /// How far the result may depend on the workers; where it is left out `strict` if the exchange is synchronous, else
    /// `samples`.
    #[schemars(default)]
    determinism: Option<Determinism>,
    /// Seed of the initial parameters; 0 where it is left out.
    #[schemars(default)]
    seed: Option<u64>,
    /// The entry's own settings.
    #[schemars(default)]
    params: BTreeMap<String, Param>,
    /// The weights it begins with; all are drawn from the seed where it is left out.
    #[schemars(default)]
    init: Option<Init>,
}

/// Weights to begin with. Each tensor of the model must be in the file, and each of the file in the model, unless it is
/// listed here.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Init {
    /// A `.safetensors` file, or a `state_dict` of PyTorch as `.pt` or `.pth`: a path, relative to the job file, or
    /// `file:///absolute`.
    uri: String,
    /// From the file's names to the model's: of a tensor, or of all whose name begins so, as in `{fc1: layer1}`.
    #[schemars(default)]
    rename: Option<BTreeMap<String, String>>,
    /// Tensors of the model, by name or beginning, that are drawn from the seed all the same.
    #[schemars(default)]
    fresh: Option<Vec<String>>,
    /// Tensors of the file, by name or beginning, that are not wanted.
    #[schemars(default)]
    ignore: Option<Vec<String>>,
    /// Tensors of the model, by name or beginning, that do not change.
    #[schemars(default)]
    freeze: Option<Vec<String>>,
}

/// What computes.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum Backend {
    /// The processor.
    Flex,
    /// A graphics card, through Vulkan, Metal or DirectX. Takes a `neap` built with the feature `wgpu`.
    Wgpu,
    /// A graphics card of NVIDIA's, through CUDA. Takes a `neap` built with the feature `cuda`.
    Cuda,
}

/// How parameters are exchanged.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum Strategy {
    /// Through a parameter server.
    Ps,
    /// Among the workers: in the fixed order of the job with `determinism: strict`, around a ring with `samples`. Takes no
    /// `ps`.
    Allreduce,
}

/// The parameter server.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct ParameterServer {
    /// In how many workers' processes the parameters lie, a part in each, as far as there are so many; 1 where it is left
    /// out. With `separate` all of them share the node. Never changes the result.
    #[schemars(default, range(min = 1, max = 64))]
    servers: Option<u32>,
    /// Whether another worker holds a replica of the server's state, from which a job goes on without losing a step when
    /// the server is lost; 0 where it is left out. For one server in a worker's process, with `consistency: sync`. Never
    /// changes the result.
    #[schemars(default, range(min = 0, max = 1))]
    replicas: Option<u32>,
    /// Where it lives; `colocated` where it is left out.
    #[schemars(default)]
    placement: Option<ServerPlacement>,
    /// When workers wait for each other; `sync` where it is left out.
    #[schemars(default)]
    consistency: Option<Consistency>,
    /// For `consistency: ssp`: how many steps a logical shard may be ahead of the slowest one; 4 where it is left out.
    #[schemars(default, range(min = 0, max = 10000))]
    staleness: Option<u32>,
    /// How gradients are made smaller between processes, at the price of `determinism: strict`; not at all where it is left
    /// out.
    #[schemars(default)]
    compression: Option<Compression>,
    /// The share of values that `topk` sends; 0.01 where it is left out.
    #[schemars(default, range(min = 0.0001, max = 1))]
    topk_share: Option<f64>,
}

/// How gradients are made smaller. What a step leaves out is added to the next one, and forgotten when workers come or go.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum Compression {
    /// The upper half of every value: half of the bytes.
    Bf16,
    /// The values that are largest without their sign, and where they are: twice `topk_share` of the bytes.
    Topk,
}

/// Where the parameter server lives.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum ServerPlacement {
    /// In the process of a worker.
    Colocated,
    /// On a node of its own.
    Separate,
}

/// When workers wait for each other.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum Consistency {
    /// After every step.
    Sync,
    /// When they are more than `staleness` steps ahead of the slowest logical shard.
    Ssp,
    /// Not at all.
    Async,
}

/// How far the result may depend on who carried the work.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum Determinism {
    /// Bit-identical whatever the workers.
    Strict,
    /// The same samples in the same order; rounding may differ.
    Samples,
}

/// A setting of an entry.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Param {
    /// A number.
    Number(f64),
    /// A switch.
    Switch(bool),
    /// A word.
    Text(String),
}
