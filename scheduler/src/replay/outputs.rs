//! The record of a plan.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{Generation, JobId, NodeId, WorkerId};
use crate::policy::{Action, PlacedRole, Plan, Snapshot};

/// A plan: actions as fields, reasons as sentences.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanRecord {
    /// The plan's number.
    pub generation: Generation,
    /// What to do, in order.
    pub actions: Vec<ActionRecord>,
    /// Why jobs wait.
    pub waiting: BTreeMap<JobId, String>,
    /// Why nodes are kept.
    pub kept: BTreeMap<NodeId, String>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum ActionRecord {
    /// Rent a node.
    Acquire {
        /// For this job.
        job: JobId,
        /// From this offer.
        offer: String,
        /// Why.
        why: String,
    },
    /// Start a worker.
    Start {
        /// Of this job.
        job: JobId,
        /// Here.
        node: NodeId,
        /// For the parameter server and nothing else.
        server: bool,
        /// Why.
        why: String,
    },
    /// End a worker.
    Retire {
        /// Of this job.
        job: JobId,
        /// This one.
        worker: WorkerId,
        /// Why.
        why: String,
    },
    /// Give a node back.
    Release {
        /// This one.
        node: NodeId,
        /// Why.
        why: String,
    },
}

impl PlanRecord {
    /// The record of a plan that was made from `snapshot`.
    pub fn new(snapshot: &Snapshot, plan: &Plan) -> Self {
        let max_prices: BTreeMap<JobId, _> = snapshot.jobs.iter().map(|job| (job.id, job.max_price)).collect();
        let max_price = |job: &JobId| max_prices.get(job).copied().flatten();
        Self {
            generation: plan.generation,
            actions: plan.actions.iter().map(ActionRecord::from).collect(),
            waiting: plan.waiting.iter().map(|(job, why)| (*job, why.text(snapshot.now, max_price(job)))).collect(),
            kept: plan.kept.iter().map(|(node, why)| (*node, why.text(snapshot.now))).collect(),
        }
    }
}

impl From<&Action> for ActionRecord {
    fn from(action: &Action) -> Self {
        match action {
            Action::Acquire { job, offer, reason } => {
                Self::Acquire { job: *job, offer: offer.clone(), why: reason.to_string() }
            }
            Action::Start { job, node, role, reason } => {
                Self::Start { job: *job, node: *node, server: *role == PlacedRole::Server, why: reason.to_string() }
            }
            Action::Retire { job, worker, reason } => {
                Self::Retire { job: *job, worker: *worker, why: reason.to_string() }
            }
            Action::Release { node, reason } => Self::Release { node: *node, why: reason.to_string() },
        }
    }
}
