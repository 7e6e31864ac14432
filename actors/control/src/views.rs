//! What the control plane shows: plain values for the HTTP API, the command line and the console. They are read from
//! memory and never wait on a disk or a network.

mod money;

use std::collections::BTreeMap;
use std::path::PathBuf;

use neap_runtime::wire::device::Device;
use neap_runtime::wire::worker::DataUsed;
use neap_scheduler::model::{
    JobId, JobState, Market, MembershipEpoch, MicroUsd, MicroUsdPerHour, Millis, NodeId, NodeSize, NodeState, WorkerId,
};
use neap_scheduler::pricing::budget::{Limit, LimitKind, Month, Scope};
use neap_scheduler::pricing::{Category, LedgerLine};

pub use money::{BillKey, BillPart, ForecastView, OfferView, OpenBill, ScopeForecast};

/// One job.
#[derive(Debug, Clone, PartialEq)]
pub struct JobView {
    /// Its id.
    pub id: JobId,
    /// Its name.
    pub name: String,
    /// Whom it belongs to.
    pub project: String,
    /// Digest of what defines its result, in hex.
    pub spec_hash: String,
    /// Where it stands.
    pub state: JobState,
    /// Why, in a sentence.
    pub why: String,
    /// When it was accepted.
    pub submitted: Millis,
    /// When its first step was committed.
    pub first_step: Option<Millis>,
    /// When it ended.
    pub ended: Option<Millis>,
    /// Grows with every change of this view: a watcher asks for the next one.
    pub version: u64,
    /// Its workers, by id.
    pub workers: Vec<WorkerView>,
    /// How many workers it wants: least, target, most.
    pub workers_wanted: (u32, u32, u32),
    /// The membership in force.
    pub membership: MembershipEpoch,
    /// Where the training stands, once it has begun.
    pub progress: Option<ProgressView>,
    /// What its data cost so far, once workers have said it to this control plane.
    pub data: Option<DataView>,
    /// Finished epochs.
    pub epochs: Vec<EpochView>,
    /// Where its checkpoints go: a local folder or a place in an object store.
    pub checkpoints: String,
    /// The newest checkpoint.
    pub checkpoint: Option<CheckpointView>,
    /// The price of the nodes it holds now.
    pub rate: MicroUsdPerHour,
    /// Its bill so far, up to now.
    pub cost: CostView,
    /// Its budget, where it has one.
    pub budget: Option<BudgetView>,
    /// How many memberships ended by a loss or a preemption.
    pub recoveries: u32,
    /// Set when a training succeeded.
    pub result: Option<ResultView>,
    /// What a job of own actors returned when it succeeded, as JSON.
    pub answer: Option<String>,
}

/// One worker of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerView {
    /// Its id.
    pub id: WorkerId,
    /// Its node.
    pub node: NodeId,
    /// Its process, once it is up.
    pub pid: Option<u32>,
    /// `starting`, `running`, `stopping`.
    pub state: &'static str,
    /// The logical shards it carries, `start..end`; none for a starting worker or a bare parameter server.
    pub shards: Option<(u32, u32)>,
    /// Whether it hosts the parameter server.
    pub server: bool,
    /// Whether it holds a replica of the parameter server's state.
    pub replica: bool,
}

/// Where a training stands.
#[derive(Debug, Clone, PartialEq)]
pub struct ProgressView {
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
    pub pause_ms: u64,
}

/// What a job's data cost, over all its workers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DataView {
    /// The share of the workers' time in which training waited for samples.
    pub waited_share: f64,
    /// Bytes of samples that workers had on their own nodes.
    pub local_bytes: u64,
    /// Bytes of samples that workers had from each other.
    pub remote_bytes: u64,
    /// Bytes of files that workers fetched from object stores.
    pub store_bytes: u64,
}

impl DataView {
    /// All workers together.
    pub(crate) fn of<'a>(used: impl Iterator<Item = &'a DataUsed> + Clone) -> Self {
        let sum = |count: fn(&DataUsed) -> u64| used.clone().map(count).sum::<u64>();
        Self {
            waited_share: sum(|used| used.waited_millis) as f64 / sum(|used| used.millis).max(1) as f64,
            local_bytes: sum(|used| used.local_bytes),
            remote_bytes: sum(|used| used.remote_bytes),
            store_bytes: sum(|used| used.store_bytes),
        }
    }
}

/// One finished epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct EpochView {
    /// Counted from 0.
    pub epoch: u32,
    /// Samples committed in it.
    pub samples: u64,
    /// Digest of the sample ids in commit order, in hex.
    pub sample_digest: String,
    /// Mean training loss.
    pub train_loss: f64,
    /// Evaluation loss.
    pub eval_loss: Option<f64>,
    /// Evaluation accuracy, 0 to 1.
    pub eval_accuracy: Option<f64>,
    /// The entry's other metrics.
    pub eval_metrics: BTreeMap<String, f64>,
}

/// A published checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointView {
    /// Its name.
    pub name: String,
    /// The step after which it was taken.
    pub step: u64,
    /// When it was published.
    pub at: Millis,
}

/// A job's budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetView {
    /// What it may cost in all.
    pub max_cost: Option<MicroUsd>,
    /// What its nodes may cost together.
    pub max_cost_per_hour: Option<MicroUsdPerHour>,
    /// What is set aside beyond what is spent: what its nodes may cost until they can be gone.
    pub reserved: MicroUsd,
}

/// What a scope may spend, and what it has spent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeBudgetView {
    /// Whose.
    pub scope: Scope,
    /// The job's name, where it is a job's.
    pub job_name: Option<String>,
    /// The limits; none of them where no budget is set.
    pub limit: Limit,
    /// When they were set.
    pub set_at: Option<Millis>,
    /// This month (UTC).
    pub month: Month,
    /// What was spent in all.
    pub spent: MicroUsd,
    /// What was spent this month.
    pub spent_in_month: MicroUsd,
    /// What is set aside beyond that.
    pub reserved: MicroUsd,
    /// What an hour of what runs now costs.
    pub rate: MicroUsdPerHour,
    /// The limits of which the share that is worth a warning is spent.
    pub warned: Vec<LimitKind>,
}

/// A bill, summed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CostView {
    /// Everything.
    pub total: MicroUsd,
    /// By category.
    pub by_category: BTreeMap<Category, MicroUsd>,
    /// Node time, by category.
    pub time_by_category: BTreeMap<Category, Millis>,
}

impl CostView {
    /// Adds a line of a bill. Jobs that share a node each count its whole time.
    pub fn add(&mut self, line: &LedgerLine) {
        self.total += line.amount;
        *self.by_category.entry(line.category).or_default() += line.amount;
        let time = self.time_by_category.entry(line.category).or_default();
        *time = *time + line.to.since(line.from);
    }

    /// Books busy time that was added before as lost.
    pub fn lose(&mut self, line: &LedgerLine) {
        let time = line.to.since(line.from);
        let busy = self.by_category.entry(Category::Busy).or_default();
        *busy = *busy - line.amount;
        let busy_time = self.time_by_category.entry(Category::Busy).or_default();
        *busy_time = busy_time.since(time);
        *self.by_category.entry(Category::Lost).or_default() += line.amount;
        let lost_time = self.time_by_category.entry(Category::Lost).or_default();
        *lost_time = *lost_time + time;
    }

    /// The share of the money that bought no work, 0 to 1.
    pub fn idle_share(&self) -> f64 {
        let idle = self.by_category.get(&Category::Idle).copied().unwrap_or_default();
        if self.total == MicroUsd::ZERO { 0.0 } else { idle.as_dollars() / self.total.as_dollars() }
    }
}

/// What a finished job left.
#[derive(Debug, Clone, PartialEq)]
pub struct ResultView {
    /// The model file.
    pub model_path: PathBuf,
    /// The model card.
    pub card_path: PathBuf,
    /// Digest of the model file, in hex.
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
    pub eval_metrics: BTreeMap<String, f64>,
}

/// One node.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeView {
    /// Its id.
    pub id: NodeId,
    /// The offer it was rented from.
    pub offer: String,
    /// Where it stands.
    pub state: NodeState,
    /// What it has.
    pub size: NodeSize,
    /// How it is rented.
    pub market: Market,
    /// What an hour costs.
    pub price: MicroUsdPerHour,
    /// When it was requested.
    pub requested: Millis,
    /// When it ended.
    pub ended: Option<Millis>,
    /// When it will be taken back, if a notice came.
    pub notice_until: Option<Millis>,
    /// The agent's process, once it has joined.
    pub pid: Option<u32>,
    /// What it can compute on, as its agent last said.
    pub devices: Vec<Device>,
    /// The jobs it carries.
    pub jobs: Vec<JobId>,
    /// Why it is kept (or why it ended), in a sentence.
    pub keep_reason: String,
    /// What it cost so far.
    pub cost: MicroUsd,
}

/// Why something is as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// `job j7 (digits)` or `node n3`.
    pub subject: String,
    /// Its state with its reason.
    pub state: String,
    /// What the scheduler says about it now, and what would change it.
    pub reasons: Vec<String>,
    /// What happened to it, oldest first.
    pub history: Vec<HistoryLine>,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryLine {
    /// When.
    pub at: Millis,
    /// What, and why.
    pub text: String,
}

/// The cluster's bill.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BillView {
    /// Everything.
    pub total: CostView,
    /// By job; `None` is what no job caused.
    pub by_job: Vec<(Option<JobId>, String, CostView)>,
    /// By node: id, offer, price, time billed, cost.
    pub by_node: Vec<NodeBill>,
}

/// What one node cost.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeBill {
    /// The node.
    pub node: NodeId,
    /// The offer.
    pub offer: String,
    /// The price.
    pub price: MicroUsdPerHour,
    /// Time billed.
    pub time: Millis,
    /// Price times time.
    pub cost: MicroUsd,
}

/// A piece of a job's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogView {
    /// Where the next piece starts.
    pub next_offset: u64,
    /// Lines, each with its worker in front.
    pub text: String,
    /// Whether the job has ended and nothing more will come.
    pub ended: bool,
}

/// The control plane itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusView {
    /// The cluster's id.
    pub cluster: String,
    /// When this control plane started.
    pub started: Millis,
    /// Its process.
    pub pid: u32,
    /// Where its folder is.
    pub home: PathBuf,
    /// Records in the journal.
    pub journal_records: u64,
    /// Jobs that have not ended.
    pub live_jobs: usize,
    /// Nodes that have not ended.
    pub live_nodes: usize,
}
