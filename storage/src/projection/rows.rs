//! Which rows a record makes, and under which keys. A pure function of the record and of the rows before it.
//!
//! ```text
//! j<job>              JobSummary            e<job><seq>   EpochRecord
//! l<seq>              a billed line         d<job><seq>   Decision
//! b<payer><seq>       the same, by payer    n<node><seq>  the same, by node
//! ```
//!
//! Numbers are big-endian, so that keys sort as they count. A payer is a job, or the cluster: all ones.

use neap_scheduler::model::{JobId, JobState, MembershipEpoch, MicroUsd, Millis, NodeId};
use serde::{Deserialize, Serialize};

use super::ProjectionError;
use crate::journal::Seq;
use crate::record::{BilledLine, EpochRecord, Record};

pub(super) const JOBS: &[u8] = b"j";
pub(super) const LINES: &[u8] = b"l";

/// What is known about a job, in one place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobSummary {
    /// Its id.
    pub job: JobId,
    /// Its name.
    pub name: String,
    /// Whom it belongs to.
    pub project: String,
    /// When it was accepted.
    pub submitted_at: Millis,
    /// Where it stands; nothing before its first state was written.
    pub state: Option<JobState>,
    /// Why it is in that state.
    pub why: String,
    /// Since when.
    pub state_since: Millis,
    /// Its latest membership.
    pub membership: MembershipEpoch,
    /// Finished passes over the data.
    pub epochs: u32,
    /// Steps done at the end of the last finished pass, or at the end.
    pub steps: u64,
    /// The last accuracy on the evaluation data.
    pub eval_accuracy: Option<f64>,
    /// What it has paid so far.
    pub cost: MicroUsd,
    /// Its latest checkpoint.
    pub checkpoint: Option<String>,
    /// Where its model lies.
    pub model_path: Option<String>,
}

/// One thing that was decided or that happened about a job, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The record that says so.
    pub seq: Seq,
    /// When.
    pub at: Millis,
    /// What, in words.
    pub what: String,
    /// Why, in words.
    pub why: String,
}

pub(super) fn job_key(job: JobId) -> Vec<u8> {
    key(b'j', job.number(), None)
}

pub(super) fn lines_of_job(job: Option<JobId>) -> Vec<u8> {
    key(b'b', job.map_or(u64::MAX, JobId::number), None)
}

pub(super) fn lines_of_node(node: NodeId) -> Vec<u8> {
    key(b'n', node.number(), None)
}

pub(super) fn epochs_of(job: JobId) -> Vec<u8> {
    key(b'e', job.number(), None)
}

pub(super) fn decisions_of(job: JobId) -> Vec<u8> {
    key(b'd', job.number(), None)
}

fn key(table: u8, first: u64, seq: Option<Seq>) -> Vec<u8> {
    let mut key = Vec::with_capacity(17);
    key.push(table);
    key.extend_from_slice(&first.to_be_bytes());
    key.extend(seq.iter().flat_map(|seq| seq.0.to_be_bytes()));
    key
}

/// A row to write.
pub(super) struct Row {
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
}

impl Row {
    fn new(key: Vec<u8>, value: &impl Serialize) -> Self {
        let value = serde_json::to_vec(value).expect("rows have only string keys, and memory does not fail");
        Self { key, value }
    }
}

/// The rows that `record` makes. `summary` reads the summary of a job as it was before.
pub(super) fn rows_of(
    seq: Seq,
    record: &Record,
    summary: impl Fn(JobId) -> Result<Option<JobSummary>, ProjectionError>,
) -> Result<Vec<Row>, ProjectionError> {
    let mut rows = Vec::new();
    match record {
        Record::NodeBilled(line) => rows.extend(line_rows(seq, line, record)),
        Record::EpochFinished(epoch) => rows.push(Row::new(key(b'e', epoch.job.number(), Some(seq)), epoch)),
        _ => {}
    }
    if let Some((job, decision)) = decision_of(seq, record) {
        rows.push(Row::new(key(b'd', job.number(), Some(seq)), &decision));
    }
    if let Some(job) = job_of(record) {
        let before = summary(job)?;
        rows.extend(summary_after(before, record).map(|after| Row::new(job_key(job), &after)));
    }
    Ok(rows)
}

fn line_rows(seq: Seq, line: &BilledLine, record: &Record) -> [Row; 3] {
    let payer = line.job.map_or(u64::MAX, JobId::number);
    [
        Row::new(key(b'l', seq.0, None), record),
        Row::new(key(b'b', payer, Some(seq)), record),
        Row::new(key(b'n', line.node.number(), Some(seq)), record),
    ]
}

/// The job whose summary a record changes.
fn job_of(record: &Record) -> Option<JobId> {
    match record {
        Record::JobSubmitted { job, .. }
        | Record::JobStateChanged { job, .. }
        | Record::MembershipChanged { job, .. }
        | Record::CheckpointPublished { job, .. }
        | Record::JobFinished { job, .. }
        | Record::ActorsFinished { job, .. } => Some(*job),
        Record::EpochFinished(EpochRecord { job, .. }) => Some(*job),
        Record::NodeBilled(line) => line.job,
        _ => None,
    }
}

fn summary_after(before: Option<JobSummary>, record: &Record) -> Option<JobSummary> {
    if let Record::JobSubmitted { job, name, project, submitted_at, .. } = record {
        return Some(JobSummary {
            job: *job,
            name: name.clone(),
            project: project.clone(),
            submitted_at: *submitted_at,
            state: None,
            why: String::new(),
            state_since: *submitted_at,
            membership: MembershipEpoch::default(),
            epochs: 0,
            steps: 0,
            eval_accuracy: None,
            cost: MicroUsd::ZERO,
            checkpoint: None,
            model_path: None,
        });
    }
    let mut summary = before?;
    match record {
        Record::JobStateChanged { at, state, why, .. } => {
            summary.state = Some(*state);
            summary.why.clone_from(why);
            summary.state_since = *at;
        }
        Record::MembershipChanged { epoch, .. } => summary.membership = *epoch,
        Record::CheckpointPublished { checkpoint, .. } => summary.checkpoint = Some(checkpoint.uri.clone()),
        Record::EpochFinished(epoch) => {
            summary.epochs = epoch.epoch + 1;
            summary.steps = epoch.step;
            summary.eval_accuracy = epoch.eval_accuracy.or(summary.eval_accuracy);
        }
        Record::JobFinished { model_path, steps, epochs, eval_accuracy, .. } => {
            summary.epochs = *epochs;
            summary.steps = *steps;
            summary.eval_accuracy = eval_accuracy.or(summary.eval_accuracy);
            summary.model_path = Some(model_path.clone());
        }
        Record::NodeBilled(line) => summary.cost += line.amount,
        _ => {}
    }
    Some(summary)
}

fn decision_of(seq: Seq, record: &Record) -> Option<(JobId, Decision)> {
    let (job, at, what, why) = match record {
        Record::JobStateChanged { job, at, state, why } => (*job, *at, format!("job is {state}"), why.clone()),
        Record::NodeRequested { node, offer, price, for_job: Some(job), at, .. } => {
            (*job, *at, format!("node {node} requested"), format!("offer {offer} at {price}"))
        }
        Record::WorkerStarted { job, worker, node, server, at } => {
            let why = if *server { "it has the parameter server" } else { "it carries logical shards" };
            (*job, *at, format!("worker {worker} started on node {node}"), why.to_owned())
        }
        Record::WorkerEnded { job, worker, node, at, why } => {
            (*job, *at, format!("worker {worker} on node {node} ended"), why.clone())
        }
        Record::MembershipChanged { job, epoch, members, at, why, .. } => {
            (*job, *at, format!("membership {epoch} with {} workers", members.len()), why.clone())
        }
        _ => return None,
    };
    Some((job, Decision { seq, at, what, why }))
}
