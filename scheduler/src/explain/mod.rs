//! Why a job waits or runs where it does, why a node is kept, and what would change it.
//!
//! Every answer is found by asking [`decide_with`] again with something changed, never by a second opinion of how
//! decisions are made; so an answer is right whatever the policy. Start at [`explain_job`] and [`explain_node`]. The
//! changes that are tried are in `change`, the search for the smallest in `search`, expected starts in `forecast`.
//!
//! One answer costs tens of decisions: this is for people who ask, not for every job in every round.

mod change;
mod forecast;
mod node;
mod search;

pub use change::Change;
pub use forecast::ExpectedStart;
pub use node::{NodeExplanation, ReleasedBy, explain_node};
pub use search::{Answer, OTHERS_MAX};

use crate::model::{JobId, NodeId};
use crate::policy::{Action, Plan, Policy, Snapshot, WaitReason, decide_with};

/// Where a job stands and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobExplanation {
    /// It is training, with workers here.
    Runs {
        /// Its nodes, and why its worker is on each.
        nodes: Vec<(NodeId, String)>,
        /// Why it does not have all it wants, if so.
        wants: Option<WaitReason>,
    },
    /// The plan starts it now.
    Starts,
    /// It is ending.
    Ends,
    /// It waits.
    Waits(Waits),
}

/// Why a job waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waits {
    /// How many waiting jobs are served first.
    pub ahead: usize,
    /// Why.
    pub why: WaitReason,
    /// When it is expected to start.
    pub expected: ExpectedStart,
    /// What would start it now.
    pub answer: Answer,
}

/// Explains a job; `None` if the snapshot does not have it.
pub fn explain_job(policy: &dyn Policy, snapshot: &Snapshot, id: JobId) -> Option<JobExplanation> {
    let job = snapshot.jobs.iter().find(|job| job.id == id)?;
    let plan = decide_with(policy, snapshot);
    if job.stopping {
        return Some(JobExplanation::Ends);
    }
    if job.started {
        let nodes = job.placed.iter().map(|placed| (placed.node, node::why_here(snapshot, job, placed.node)));
        return Some(JobExplanation::Runs { nodes: nodes.collect(), wants: plan.waiting.get(&id).cloned() });
    }
    if starts(&plan, id) {
        return Some(JobExplanation::Starts);
    }
    let Some(why) = plan.waiting.get(&id).cloned() else { return Some(JobExplanation::Starts) };
    let order = policy.order(snapshot);
    let earlier = order.iter().take_while(|one| one.id != id);
    Some(JobExplanation::Waits(Waits {
        ahead: earlier.filter(|one| !one.started && !one.stopping).count(),
        why,
        expected: forecast::expected_start(policy, snapshot, id),
        answer: search::smallest_change(policy, snapshot, &plan, job),
    }))
}

/// Whether the plan starts workers of the job.
fn starts(plan: &Plan, id: JobId) -> bool {
    plan.actions.iter().any(|action| matches!(action, Action::Start { job, .. } if *job == id))
}

#[cfg(test)]
mod tests;
