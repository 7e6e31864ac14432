//! What the journal's payloads say: one JSON object each, with its kind in `type`.
//!
//! These types are the stored form and nothing else; the domain's types are converted from and to them. The form only
//! grows: a new kind is a new variant, a new field has a default, and nothing is renamed or given another meaning. What
//! earlier versions wrote is kept in `tests/golden/` and must go on decoding.

use std::collections::BTreeMap;

mod artifact;

use neap_scheduler::model::{
    JobId, JobState, Market, MembershipEpoch, MicroUsd, MicroUsdPerHour, Millis, NodeId, NodeSize, NodeState, WorkerId,
};
use neap_scheduler::pricing::attribution::{ActorName, AttributedLine};
use neap_scheduler::pricing::{Category, LedgerLine};
use serde::{Deserialize, Serialize};

pub use artifact::{ArtifactRecord, EntryRecord, KindRecord, ParamRecord, ValueRecord};

/// One fact of a cluster's history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Record {
    /// The journal was started.
    ClusterCreated {
        /// Names the cluster in everything a provider sees.
        cluster: String,
        /// When.
        at: Millis,
    },
    /// A control plane took over this journal.
    ControlStarted {
        /// Its version.
        version: String,
        /// When.
        at: Millis,
    },
    /// A job was accepted.
    JobSubmitted {
        /// Its id.
        job: JobId,
        /// Its name.
        name: String,
        /// Whom it belongs to.
        project: String,
        /// When.
        submitted_at: Millis,
        /// The job file's text.
        source: String,
        /// The folder that relative paths of the file start from.
        base_dir: String,
        /// blake3 of the text, hexadecimal.
        spec_hash: String,
        /// What it was expected to cost and how long to take, where somebody had reckoned.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        estimate: Option<EstimateRecord>,
        /// The program that it brings along, where it does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        artifact: Option<ArtifactRecord>,
        /// blake3 of the weights it begins with, hexadecimal, where it names any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        init_digest: Option<String>,
    },
    /// A job's state changed.
    JobStateChanged {
        /// The job.
        job: JobId,
        /// When.
        at: Millis,
        /// The new state.
        state: JobState,
        /// Why, in words.
        why: String,
    },
    /// A node will be asked for: written before the provider is called.
    NodeRequested {
        /// The id it will have.
        node: NodeId,
        /// The offer's name.
        offer: String,
        /// What it will have.
        size: NodeSize,
        /// How it is rented.
        market: Market,
        /// What an hour costs.
        price: MicroUsdPerHour,
        /// The job it is for; it may serve others later.
        for_job: Option<JobId>,
        /// Makes asking twice harmless.
        client_token: String,
        /// When.
        at: Millis,
    },
    /// A node's state changed.
    NodeStateChanged {
        /// The node.
        node: NodeId,
        /// When.
        at: Millis,
        /// The new state.
        state: NodeState,
        /// Why, in words.
        why: String,
    },
    /// A stretch of a node's time was billed.
    NodeBilled(BilledLine),
    /// A worker process was asked to start.
    WorkerStarted {
        /// Its job.
        job: JobId,
        /// Its id.
        worker: WorkerId,
        /// Where.
        node: NodeId,
        /// Whether it is there for the parameter server only.
        server: bool,
        /// When.
        at: Millis,
    },
    /// A worker process is gone.
    WorkerEnded {
        /// Its job.
        job: JobId,
        /// Its id.
        worker: WorkerId,
        /// Where it was.
        node: NodeId,
        /// When.
        at: Millis,
        /// Why, in words.
        why: String,
    },
    /// A job goes on with other workers, under a new membership epoch.
    MembershipChanged {
        /// The job.
        job: JobId,
        /// The new epoch.
        epoch: MembershipEpoch,
        /// Who carries which shards.
        members: Vec<MemberRecord>,
        /// Who has the parameters, or the first part of them.
        server: WorkerId,
        /// Who has the other parts, in their order.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        more_servers: Vec<WorkerId>,
        /// Who has a replica of what the server has.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        replicas: Vec<WorkerId>,
        /// What the parameters start from; nothing where the server keeps what it has, or starts anew.
        restore: Option<CheckpointRecord>,
        /// When.
        at: Millis,
        /// Why, in words.
        why: String,
    },
    /// A job went through its data once more.
    EpochFinished(EpochRecord),
    /// A checkpoint is whole and may be restored from.
    CheckpointPublished {
        /// The job.
        job: JobId,
        /// The checkpoint.
        checkpoint: CheckpointRecord,
        /// When.
        at: Millis,
    },
    /// A job's result lies where the record says.
    JobFinished {
        /// The job.
        job: JobId,
        /// When.
        at: Millis,
        /// The model's file.
        model_path: String,
        /// The model card's file.
        card_path: String,
        /// Steps trained.
        steps: u64,
        /// Passes over the data.
        epochs: u32,
        /// Loss on the training data in the last pass.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        train_loss: Option<f64>,
        /// Loss on the evaluation data.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        eval_loss: Option<f64>,
        /// Accuracy on the evaluation data.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        eval_accuracy: Option<f64>,
        /// The entry's other metrics on the evaluation data.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        eval_metrics: BTreeMap<String, f64>,
        /// blake3 of the model's file, hexadecimal.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model_blake3: Option<String>,
    },
    /// The main function of a job of own actors has returned.
    ActorsFinished {
        /// The job.
        job: JobId,
        /// When.
        at: Millis,
        /// What it returned, as JSON.
        result: String,
    },
    /// A provider said that it will take a node back.
    PreemptionNotice {
        /// The node.
        node: NodeId,
        /// When it was said.
        at: Millis,
        /// When the node goes.
        deadline: Millis,
    },
    /// A one-time token was made for a node.
    JoinTokenMade {
        /// The node.
        node: NodeId,
        /// blake3 of the secret, hexadecimal. The secret itself is stored nowhere.
        secret_hash: String,
        /// Until when it can be used.
        expires_at: Millis,
    },
    /// What the organisation or a project may spend from now on. Without any limit its budget is removed.
    BudgetSet {
        /// Whose budget.
        scope: BudgetScope,
        /// In all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_cost: Option<MicroUsd>,
        /// In a calendar month (UTC).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_cost_per_month: Option<MicroUsd>,
        /// At any moment, as a rate.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_cost_per_hour: Option<MicroUsdPerHour>,
        /// The share of a limit, in thousandths, whose spending is worth a warning.
        warn_at_permille: u16,
        /// When.
        at: Millis,
    },
    /// A node joined with its token, which thereby is used up.
    JoinTokenUsed {
        /// The node.
        node: NodeId,
        /// When.
        at: Millis,
    },
}

/// Whose budget is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BudgetScope {
    /// Everything that this cluster spends.
    Organisation,
    /// One project.
    Project(String),
}

/// What a job was expected to cost and how long to take, when it was handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EstimateRecord {
    /// Its cost, as likely more as less.
    pub cost_p50: MicroUsd,
    /// Its cost at most, 19 times of 20.
    pub cost_p95: MicroUsd,
    /// How long it takes once it has started, as likely more as less.
    pub lasts: Millis,
}

/// One worker of a membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    /// The worker.
    pub worker: WorkerId,
    /// Where it runs.
    pub node: NodeId,
    /// The logical shards it carries: the first, and one past the last.
    pub shards: (u32, u32),
}

/// A checkpoint that was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointRecord {
    /// The membership epoch that published it.
    pub membership: MembershipEpoch,
    /// Steps done.
    pub step: u64,
    /// The pass over the data it lies in, counted from 0.
    pub epoch: u32,
    /// Where: the checkpoint's own folder.
    pub uri: String,
    /// The digest that [`crate::checkpoint::CheckpointStore::publish`] gave it.
    pub digest: String,
    /// Its size.
    pub bytes: u64,
}

/// A finished pass over the data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// The job.
    pub job: JobId,
    /// Under which membership it ended.
    pub membership: MembershipEpoch,
    /// Which pass, counted from 0.
    pub epoch: u32,
    /// Steps done since the job's start.
    pub step: u64,
    /// Samples used in this pass.
    pub samples: u64,
    /// Mean loss over the pass; nothing where it is not a number any more.
    #[serde(default)]
    pub train_loss: Option<f64>,
    /// Loss on the evaluation data, where there is some.
    #[serde(default)]
    pub eval_loss: Option<f64>,
    /// Accuracy on the evaluation data, where there is some.
    #[serde(default)]
    pub eval_accuracy: Option<f64>,
    /// The entry's other metrics on the evaluation data.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub eval_metrics: BTreeMap<String, f64>,
    /// Digest of the sample ids used, hexadecimal; see `neap_scheduler::elastic`.
    pub sample_digest: String,
    /// When.
    pub at: Millis,
}

/// The stored form of a line of a bill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BilledLine {
    /// The node.
    pub node: NodeId,
    /// The job that pays; `None` is the cluster itself.
    pub job: Option<JobId>,
    /// For what.
    pub category: Category,
    /// Start of the stretch.
    pub from: Millis,
    /// End of the stretch.
    pub to: Millis,
    /// The amount.
    pub amount: MicroUsd,
    /// The job's actor that used the time; `None` where no single one is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
}

impl From<&AttributedLine> for BilledLine {
    fn from(AttributedLine { line, actor }: &AttributedLine) -> Self {
        let LedgerLine { node, job, category, from, to, amount } = *line;
        Self { node, job, category, from, to, amount, actor: actor.clone().map(|actor| actor.0) }
    }
}

impl From<&BilledLine> for LedgerLine {
    fn from(line: &BilledLine) -> Self {
        let BilledLine { node, job, category, from, to, amount, .. } = *line;
        Self { node, job, category, from, to, amount }
    }
}

impl From<&BilledLine> for AttributedLine {
    fn from(line: &BilledLine) -> Self {
        Self { line: line.into(), actor: line.actor.clone().map(ActorName) }
    }
}

/// A payload that this code cannot use.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A newer version of Neap wrote it.
    #[error("record type `{0}` is not known to this version; use a newer neap")]
    Unsupported(String),
    /// It is not what any version wrote.
    #[error("failed to decode a record")]
    Malformed(#[source] serde_json::Error),
}

impl Record {
    /// The payload for [`crate::journal::Journal::append`].
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a record has only string keys, and serialising to memory does not fail")
    }

    /// Reads a payload.
    ///
    /// # Errors
    ///
    /// [`RecordError`].
    pub fn decode(payload: &[u8]) -> Result<Self, RecordError> {
        serde_json::from_slice(payload).map_err(|error| match unknown_type(payload) {
            Some(kind) => RecordError::Unsupported(kind),
            None => RecordError::Malformed(error),
        })
    }
}

/// The payload's `type`, if it names none of ours.
fn unknown_type(payload: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Tag {
        #[serde(rename = "type")]
        kind: String,
    }

    // A bare tag lacks its variant's fields, unless serde does not know the variant at all.
    let Tag { kind } = serde_json::from_slice(payload).ok()?;
    let bare = serde_json::json!({ "type": kind });
    let error = serde_json::from_value::<Record>(bare).err()?.to_string();
    error.starts_with("unknown variant").then_some(kind)
}
