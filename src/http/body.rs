//! The JSON bodies of the API: what the server sends, what the client reads, and what `-o json` prints.
//!
//! They are types of their own, so that a change inside the control plane cannot change the API by accident; `convert`
//! makes them. Ids are texts (`j7`), money is whole micro-dollars, times are milliseconds since the Unix epoch.

mod artifact;
mod money;

use std::collections::BTreeMap;

use neap_scheduler::model::{ContentHash, CpuMillis, MemoryMib, MicroUsd, MicroUsdPerHour, Millis};
use serde::{Deserialize, Serialize};

pub use artifact::{ArtifactBody, EntryBody, KindBody, MeasuredBody, ParamBody, ProgramBody, ProgramFault, ValueBody};
pub use money::{
    BillPartBody, BillPartsBody, ForecastBody, OfferBody, ScopeBudgetBody, ScopeForecastBody, SetBudgetBody,
};

/// A job file to run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubmitBody {
    /// The text of the job file.
    pub source: String,
    /// The absolute folder that relative paths in it start at.
    pub base_dir: String,
    /// What the user calls the file; for messages.
    pub file_name: String,
    /// What the user's plan says, where one was made.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub estimate: Option<EstimateBody>,
    /// Whether the job is accepted even if that is more than its own budget.
    #[serde(default)]
    pub force: bool,
    /// The content of the program that the file names as its artifact; the control plane has it already.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub artifact: Option<ContentHash>,
}

/// What a job will cost and how long it will take, as far as can be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EstimateBody {
    /// Its cost, as likely more as less.
    pub cost_p50_micro_usd: MicroUsd,
    /// Its cost at most, 19 times of 20.
    pub cost_p95_micro_usd: MicroUsd,
    /// How long it takes once it has started, as likely more as less.
    pub lasts_ms: Millis,
}

/// How to stop a job.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StopBody {
    /// Without a last checkpoint.
    pub now: bool,
}

/// From where to go on with a job that has ended.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RestoreBody {
    /// After this step; the newest checkpoint that is whole without it.
    pub step: Option<u64>,
}

/// A preemption by hand.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreemptBody {
    /// How long the node has left.
    pub notice_ms: Millis,
}

/// An end of the control plane.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ShutdownBody {
    /// Whether the nodes are released first; otherwise they go on working.
    pub end_nodes: bool,
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are those of the job states in the glossary")]
pub enum JobStateBody {
    Pending,
    Provisioning,
    Running,
    Resizing,
    Recovering,
    Stopping,
    Succeeded,
    Failed,
    Cancelled,
}

impl JobStateBody {
    /// Whether nothing can follow.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Provisioning => "provisioning",
            Self::Running => "running",
            Self::Resizing => "resizing",
            Self::Recovering => "recovering",
            Self::Stopping => "stopping",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// One job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobBody {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whom it belongs to.
    #[serde(default)]
    pub project: String,
    /// Digest of what defines its result, in hex: jobs with the same one and the same data give the same model.
    #[serde(default)]
    pub spec_hash: String,
    /// Where it stands.
    pub state: JobStateBody,
    /// The reason in one word, where the state has one.
    pub reason: Option<String>,
    /// Why, in a sentence.
    pub why: String,
    /// When it was accepted.
    pub submitted_ms: Millis,
    /// When its first step was committed.
    pub first_step_ms: Option<Millis>,
    /// When it ended.
    pub ended_ms: Option<Millis>,
    /// Grows with every change.
    pub version: u64,
    /// Its workers.
    pub workers: Vec<WorkerBody>,
    /// How many workers it wants.
    pub workers_wanted: WorkersWantedBody,
    /// The membership in force.
    pub membership_epoch: u64,
    /// Where the training stands, once it has begun.
    pub progress: Option<ProgressBody>,
    /// What its data cost so far, while the control plane that was told of it runs.
    #[serde(default)]
    pub data: Option<DataBody>,
    /// Finished epochs.
    pub epochs: Vec<EpochBody>,
    /// Where its checkpoints go: a local folder or a place in an object store.
    #[serde(default)]
    pub checkpoints: String,
    /// The newest checkpoint.
    pub checkpoint: Option<CheckpointBody>,
    /// The price of the nodes it holds now.
    pub rate_micro_usd_per_hour: MicroUsdPerHour,
    /// Its bill so far.
    pub cost: CostBody,
    /// Its budget, where it has one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub budget: Option<BudgetBody>,
    /// How many memberships ended by a loss or a preemption.
    pub recoveries: u32,
    /// What it left, once it succeeded.
    pub result: Option<ResultBody>,
    /// What a job of own actors returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<serde_json::Value>,
}

impl JobBody {
    /// The state with its reason, as in `pending (gang_wait)`.
    pub fn state_text(&self) -> String {
        match &self.reason {
            Some(reason) => format!("{} ({reason})", self.state.name()),
            None => self.state.name().to_owned(),
        }
    }
}

/// How many workers a job wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkersWantedBody {
    /// Below this it does not run.
    pub min: u32,
    /// What is aimed at.
    pub target: u32,
    /// Never more.
    pub max: u32,
}

/// One worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerBody {
    /// Its id.
    pub id: String,
    /// Its node.
    pub node: String,
    /// Its process, once it is up.
    pub pid: Option<u32>,
    /// Where it stands.
    pub state: String,
    /// The logical shards it carries.
    pub shards: Option<ShardsBody>,
    /// Whether it hosts the parameter server.
    pub server: bool,
    /// Whether it holds a replica of the parameter server's state.
    #[serde(default)]
    pub replica: bool,
}

/// Neighbouring logical shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardsBody {
    /// The first.
    pub from: u32,
    /// One past the last.
    pub to: u32,
}

/// Where a training stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProgressBody {
    /// Committed steps.
    pub step: u64,
    /// Steps of the whole job.
    pub steps_total: u64,
    /// The current epoch, counted from 0.
    pub epoch: u32,
    /// Epochs of the whole job.
    pub epochs_total: u32,
    /// Committed samples.
    pub samples: u64,
    /// Mean training loss lately.
    pub loss: f64,
    /// Samples per second lately.
    pub samples_per_second: f64,
    /// The longest time between two commits lately, in milliseconds.
    #[serde(default)]
    pub pause_ms: u64,
}

/// What a job's data cost, over all its workers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DataBody {
    /// The share of the workers' time in which training waited for samples, 0 to 1.
    pub waited_share: f64,
    /// Bytes of samples that workers had on their own nodes.
    pub local_bytes: u64,
    /// Bytes of samples that workers had from each other.
    pub remote_bytes: u64,
    /// Bytes of files that workers fetched from object stores; what was on their nodes already is not counted.
    #[serde(default)]
    pub store_bytes: u64,
}

/// One finished epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochBody {
    /// Counted from 0.
    pub epoch: u32,
    /// Samples committed in it.
    pub samples: u64,
    /// Digest of the sample ids in commit order.
    pub sample_digest: String,
    /// Mean training loss.
    pub train_loss: f64,
    /// Evaluation loss.
    pub eval_loss: Option<f64>,
    /// Evaluation accuracy, 0 to 1.
    pub eval_accuracy: Option<f64>,
    /// The entry's other metrics.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub eval_metrics: BTreeMap<String, f64>,
}

/// A published checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointBody {
    /// Its name.
    pub name: String,
    /// The step after which it was taken.
    pub step: u64,
    /// When it was published.
    pub at_ms: Millis,
}

/// A bill, summed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CostBody {
    /// Everything.
    pub total_micro_usd: MicroUsd,
    /// By category.
    pub by_category_micro_usd: BTreeMap<String, MicroUsd>,
    /// Node time, by category.
    pub time_by_category_ms: BTreeMap<String, Millis>,
    /// The share of the money that bought no work, 0 to 1.
    pub idle_share: f64,
}

/// What a finished job left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResultBody {
    /// The model file.
    pub model_path: String,
    /// The model card.
    pub card_path: String,
    /// Digest of the model file.
    pub model_digest: String,
    /// Steps.
    pub steps: u64,
    /// Epochs.
    pub epochs: u32,
    /// Training loss of the last epoch.
    pub train_loss: f64,
    /// Evaluation loss.
    pub eval_loss: Option<f64>,
    /// Evaluation accuracy, 0 to 1.
    pub eval_accuracy: Option<f64>,
    /// The entry's other metrics.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub eval_metrics: BTreeMap<String, f64>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeBody {
    /// Its id.
    pub id: String,
    /// The offer it was rented from.
    pub offer: String,
    /// Where it stands.
    pub state: String,
    /// Processor time it has.
    pub cpu_millis: CpuMillis,
    /// Memory it has.
    pub memory_mib: MemoryMib,
    /// How it is rented.
    pub market: String,
    /// What an hour costs.
    pub price_micro_usd_per_hour: MicroUsdPerHour,
    /// When it was requested.
    pub requested_ms: Millis,
    /// When it ended.
    pub ended_ms: Option<Millis>,
    /// When it will be taken back, if a notice came.
    pub notice_until_ms: Option<Millis>,
    /// The agent's process, once it has joined.
    pub pid: Option<u32>,
    /// The jobs it carries.
    pub jobs: Vec<String>,
    /// Why it is kept, or why it ended.
    pub keep_reason: String,
    /// What it cost so far.
    pub cost_micro_usd: MicroUsd,
    /// What it can compute on beside its processor, as its agent last said.
    #[serde(default)]
    pub devices: Vec<DeviceBody>,
}

/// A device that a machine can compute on, with its last readings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceBody {
    /// Its model.
    pub name: String,
    /// `discrete`, `integrated`, `virtual`, `cpu` (software that plays a card) or `unknown`.
    pub kind: String,
    /// Whether it counts as a GPU: software does not.
    pub gpu: bool,
    /// The maker's PCI id, or 0.
    pub vendor_id: u32,
    /// Through which interface wgpu reaches it, if it does.
    pub api: Option<String>,
    /// Its driver.
    pub driver: Option<String>,
    /// Its PCI address.
    pub bus: Option<String>,
    /// The id that its maker gave it.
    pub uuid: Option<String>,
    /// Its memory.
    pub memory_bytes: Option<u64>,
    /// How much of that is used.
    pub memory_used_bytes: Option<u64>,
    /// The share of the time in which it computed lately.
    pub busy_percent: Option<u8>,
}

/// Why something is as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplanationBody {
    /// What this is about.
    pub subject: String,
    /// Its state with its reason.
    pub state: String,
    /// What the scheduler says about it now, and what would change it.
    pub reasons: Vec<String>,
    /// What happened to it, oldest first.
    pub history: Vec<HistoryBody>,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryBody {
    /// When.
    pub at_ms: Millis,
    /// What, and why.
    pub text: String,
}

/// The bill of the cluster or of one job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BillBody {
    /// Everything.
    pub total: CostBody,
    /// By job.
    pub by_job: Vec<JobBillBody>,
    /// By node.
    pub by_node: Vec<NodeBillBody>,
}

/// What one job may cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetBody {
    /// In all.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max_cost_micro_usd: Option<MicroUsd>,
    /// Its nodes together.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max_cost_micro_usd_per_hour: Option<MicroUsdPerHour>,
    /// What is set aside beyond what is spent, until its nodes can be gone.
    pub reserved_micro_usd: MicroUsd,
}

/// What one job cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobBillBody {
    /// The job; none for what no job caused.
    pub job: Option<String>,
    /// Its name.
    pub name: String,
    /// Its cost.
    pub cost: CostBody,
}

/// What one node cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeBillBody {
    /// The node.
    pub node: String,
    /// The offer.
    pub offer: String,
    /// The price.
    pub price_micro_usd_per_hour: MicroUsdPerHour,
    /// Time billed.
    pub time_ms: Millis,
    /// Price times time.
    pub cost_micro_usd: MicroUsd,
}

/// A piece of a job's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogBody {
    /// Where the next piece starts.
    pub next_offset: u64,
    /// Whole lines.
    pub text: String,
    /// Whether the job has ended and nothing more will come.
    pub ended: bool,
}

/// The control plane itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusBody {
    /// The cluster's id.
    pub cluster: String,
    /// Its version.
    pub version: String,
    /// When it started.
    pub started_ms: Millis,
    /// Its process.
    pub pid: u32,
    /// Its home folder.
    pub home: String,
    /// Records in its journal.
    pub journal_records: u64,
    /// Jobs that have not ended.
    pub live_jobs: usize,
    /// Nodes that have not ended.
    pub live_nodes: usize,
}

/// Which Neap this is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionBody {
    /// Its version.
    pub version: String,
    /// The version of the API.
    pub api: String,
}

impl VersionBody {
    /// This binary's.
    pub fn own() -> Self {
        Self { version: env!("CARGO_PKG_VERSION").to_owned(), api: "v1".to_owned() }
    }
}

/// Whether the control plane takes requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyBody {
    /// Whether it does.
    pub ready: bool,
    /// What is in the way.
    pub failing: Vec<String>,
}

/// A request that was not fulfilled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What happened.
    pub error: ErrorDetail,
    /// What is wrong with the job file, where that is it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<FaultBody>,
}

/// What happened to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// A stable word.
    pub code: ErrorCode,
    /// What happened.
    pub message: String,
    /// What to do about it.
    pub help: String,
}

/// The stable words for what can happen to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request makes no sense.
    BadRequest,
    /// No token, or a wrong one.
    Unauthorised,
    /// Not from here.
    Forbidden,
    /// No such thing.
    NotFound,
    /// The path is there, the method is not.
    MethodNotAllowed,
    /// The state of things does not allow it.
    Conflict,
    /// The body is too large.
    TooLarge,
    /// The body has another type than JSON.
    NotJson,
    /// The job file has faults.
    InvalidJob,
    /// No offer can ever carry the job.
    Infeasible,
    /// Refused by a limit.
    Refused,
    /// The request took too long.
    Timeout,
    /// The control plane is ending, or cannot write.
    Unavailable,
    /// Something went wrong that should not.
    Unexpected,
}

/// One fault of a job file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultBody {
    /// The stable number, as in `E044`.
    pub code: String,
    /// `error` or `warning`.
    pub severity: String,
    /// The field; empty for the whole file.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// How to fix it.
    pub help: Option<String>,
    /// The line, counted from 1.
    pub line: Option<usize>,
    /// The column, counted from 1.
    pub column: Option<usize>,
}
