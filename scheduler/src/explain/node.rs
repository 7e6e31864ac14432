//! Why a node is kept and what would release it, and why a worker is where it is.

use crate::model::{JobId, MicroUsdPerHour, Millis, NodeId};
use crate::policy::{Action, JobDemand, KeepReason, Policy, ReleaseReason, Snapshot, decide_with};

/// Why a node is kept or goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeExplanation {
    /// The plan gives it back.
    Released(ReleaseReason),
    /// It is kept.
    Kept {
        /// Why.
        why: KeepReason,
        /// What would release it.
        released_by: ReleasedBy,
    },
}

/// What would release a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReleasedBy {
    /// Time alone, at this moment.
    Time(Millis),
    /// The end of these jobs, and then this long without work.
    EndOf {
        /// The jobs it is for.
        jobs: Vec<JobId>,
        /// How long it is then kept.
        idle: Millis,
    },
    /// Not even the end of the jobs it is for: then it is kept for this.
    Taken(KeepReason),
    /// Nothing is needed: it is already going.
    Going,
}

impl NodeExplanation {
    /// What becomes of a node at this price, as sentences, seen at `now`. Why it is kept is not among them.
    pub fn outlook(&self, now: Millis, price: MicroUsdPerHour) -> Vec<String> {
        let released_by = match self {
            Self::Released(reason) => return vec![format!("goes back with the next plan: {reason}")],
            Self::Kept { released_by, .. } => released_by,
        };
        match released_by {
            ReleasedBy::Time(until) => {
                let left = until.since(now);
                vec![format!("goes back in {left} unless work comes, which costs {} until then", price.cost_of(left))]
            }
            ReleasedBy::EndOf { jobs, idle } => vec![
                format!("serves {}", names(jobs)),
                if *idle == Millis::ZERO {
                    format!("would go back with the end of {}", names(jobs))
                } else {
                    let cost = price.cost_of(*idle);
                    format!("would go back {idle} after the end of {}, which costs {cost} more", names(jobs))
                },
            ],
            ReleasedBy::Taken(then) => {
                vec![format!("would not go back when that ends; it would be kept because it {}", then.text(now))]
            }
            ReleasedBy::Going => vec!["nothing needs to change for it to go".to_owned()],
        }
    }
}

fn names(jobs: &[JobId]) -> String {
    jobs.iter().map(JobId::to_string).collect::<Vec<_>>().join(", ")
}

/// Explains a node; `None` if the snapshot does not have it or it is gone.
pub fn explain_node(policy: &dyn Policy, snapshot: &Snapshot, id: NodeId) -> Option<NodeExplanation> {
    let plan = decide_with(policy, snapshot);
    let released = plan.actions.iter().find_map(|action| match action {
        Action::Release { node, reason } if *node == id => Some(*reason),
        _ => None,
    });
    if let Some(reason) = released {
        return Some(NodeExplanation::Released(reason));
    }
    let why = plan.kept.get(&id)?.clone();
    let released_by = match &why {
        KeepReason::IdleUntil(until) | KeepReason::BreakEven { until, .. } => ReleasedBy::Time(*until),
        KeepReason::Leaving | KeepReason::Silent => ReleasedBy::Going,
        KeepReason::Carries(jobs) => without(policy, snapshot, id, jobs),
        KeepReason::ComingFor(job) | KeepReason::GangOf(job) => without(policy, snapshot, id, &[*job]),
    };
    Some(NodeExplanation::Kept { why, released_by })
}

/// What becomes of the node when these jobs end.
fn without(policy: &dyn Policy, snapshot: &Snapshot, id: NodeId, jobs: &[JobId]) -> ReleasedBy {
    let mut after = snapshot.clone();
    after.jobs.retain(|job| !jobs.contains(&job.id));
    let now = after.now;
    after.nodes.iter_mut().filter(|node| node.id == id).for_each(|node| node.idle_since = Some(now));
    let idle = match decide_with(policy, &after).kept.remove(&id) {
        None => return ReleasedBy::EndOf { jobs: jobs.to_vec(), idle: Millis::ZERO },
        Some(KeepReason::IdleUntil(until) | KeepReason::BreakEven { until, .. }) => until.since(now),
        Some(other) => return ReleasedBy::Taken(other),
    };
    ReleasedBy::EndOf { jobs: jobs.to_vec(), idle }
}

/// Why a worker of the job is on this node.
pub(super) fn why_here(snapshot: &Snapshot, job: &JobDemand, id: NodeId) -> String {
    let Some(node) = snapshot.nodes.iter().find(|node| node.id == id) else { return format!("{id} is gone") };
    let others = snapshot.jobs.iter().filter(|other| other.id != job.id);
    let others: Vec<String> = others
        .filter(|other| other.placed.iter().any(|placed| placed.node == id))
        .map(|other| other.id.to_string())
        .collect();
    let beside = if others.is_empty() { String::new() } else { format!(", beside {}", others.join(", ")) };
    let rented = match node.rented_for {
        Some(owner) if owner == job.id => "rented for it".to_owned(),
        Some(owner) => format!("rented for {owner} and free when it needed one"),
        None => "free when it needed one".to_owned(),
    };
    format!("{id}: {rented}; {} at {}{beside}", node.market, node.price)
}
