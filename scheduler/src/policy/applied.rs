//! What the cluster would look like if a plan were carried out at once: for looking ahead and for tests.
//!
//! New nodes are on their way, new workers are up, retired ones are gone, released nodes are gone. A job whose workers all
//! gave way to another one waits again as if it had not started.

use std::collections::BTreeMap;

use super::plan::{Action, Plan, RetireReason};
use super::snapshot::{JobDemand, NodeSupply, Placed, Snapshot};
use super::terms::{NodeTerms, RentAgain};
use crate::model::{JobId, NodeId, NodeState, Offer, WorkerId};

/// The snapshot after the plan was carried out, at the same moment.
#[must_use]
pub fn applied(snapshot: &Snapshot, plan: &Plan) -> Snapshot {
    let mut after = snapshot.clone();
    let mut next_node = after.nodes.iter().map(|node| node.id.number()).max().unwrap_or(0);
    let workers = after.jobs.iter().flat_map(|job| &job.placed).map(|placed| placed.worker.number());
    let mut next_worker = workers.max().unwrap_or(0);
    let index: BTreeMap<JobId, usize> = after.jobs.iter().enumerate().map(|(at, job)| (job.id, at)).collect();
    for action in &plan.actions {
        match action {
            Action::Acquire { job, offer, .. } => {
                next_node += 1;
                if let Some(offer) = after.offers.iter_mut().find(|one| one.name == *offer) {
                    offer.available = offer.available.saturating_sub(1);
                    after.nodes.push(requested(NodeId::new(next_node), *job, offer));
                }
            }
            Action::Start { job, node, role, .. } => {
                next_worker += 1;
                if let Some(job) = index.get(job).and_then(|at| after.jobs.get_mut(*at)) {
                    job.placed.push(Placed { worker: WorkerId::new(next_worker), node: *node, role: *role });
                    job.started = true;
                    job.terms.running_since.get_or_insert(after.now);
                }
            }
            Action::Retire { job, worker, reason } => {
                if let Some(job) = index.get(job).and_then(|at| after.jobs.get_mut(*at)) {
                    job.placed.retain(|placed| placed.worker != *worker);
                    if matches!(reason, RetireReason::Preempted(_) | RetireReason::AwaitsSpot) && job.placed.is_empty()
                    {
                        stop(job);
                    }
                }
            }
            Action::Release { node, .. } => after.nodes.retain(|one| one.id != *node),
        }
    }
    after
}

fn stop(job: &mut JobDemand) {
    job.started = false;
    job.terms.running_since = None;
    job.terms.since_checkpoint = crate::model::Millis::ZERO;
}

/// A node that has just been asked for.
pub(crate) fn requested(id: NodeId, job: JobId, offer: &Offer) -> NodeSupply {
    NodeSupply {
        id,
        size: offer.size,
        market: offer.market,
        price: offer.price,
        state: NodeState::Requested,
        rented_for: Some(job),
        notice_until: None,
        answers: true,
        idle_since: None,
        terms: NodeTerms {
            gpus: offer.terms.gpus.clone(),
            again: Some(RentAgain { boot: offer.boot, billing_min: offer.terms.billing_min }),
            interruptions_per_1000_h: offer.terms.interruptions_per_1000_h,
        },
    }
}
