//! Who stops where the money of a budget ends. A job's own budget stops the job. Where a shared one is short, one job after
//! the other makes way, so that the others can go on with its money.

use std::collections::{BTreeMap, BTreeSet};

use neap_scheduler::model::{FailReason, JobId, NodeId, NodeState};
use neap_scheduler::pricing::budget::{Refusal, Scope};
use neap_scheduler::spec::OnExceed;

use super::Controller;
use super::money::Short;
use crate::handle::Stop;

impl Controller {
    /// The jobs to stop: one that makes way, and those that cannot wait for its money.
    pub(super) fn to_stop(&self, short: Vec<Short>) -> BTreeMap<JobId, Refusal> {
        let mut stop = BTreeMap::new();
        for Short { job, refusal, now_or_never, .. } in short {
            let own = matches!(refusal.scope, Scope::Job(_) | Scope::Sweep(_));
            let first = if own || now_or_never { Some(job) } else { self.first_to_go(&refusal.scope) };
            if let Some(first) = first {
                stop.entry(first).or_insert(refusal);
            }
        }
        stop
    }

    /// The job that makes way where a shared budget is short; none while the money of another one is still to come back.
    fn first_to_go(&self, scope: &Scope) -> Option<JobId> {
        let pays = |job: &JobId| self.path_of(*job).scopes().any(|of| of == *scope);
        let mut jobs: Vec<JobId> = self.live.money.held.keys().map(|(job, _)| *job).filter(pays).collect();
        if jobs.iter().any(|job| self.live.money.exhausted.contains_key(job)) {
            return None;
        }
        jobs.retain(|job| self.state.jobs.get(job).is_some_and(|job| !job.state.is_terminal()));
        jobs.into_iter().max_by_key(|job| self.standing(*job))
    }

    /// Ends a job whose budget cannot carry its nodes on: after a last checkpoint, if it wants one.
    pub(super) async fn stop_exhausted(&mut self, job: JobId, refusal: Refusal) {
        let budget = self.state.jobs.get(&job).and_then(|entry| entry.spec.budget);
        let saves = budget.is_none_or(|budget| budget.on_exceed == OnExceed::CheckpointAndStop);
        let saves = if saves { Stop::Save } else { Stop::Now };
        // What cannot be written down is tried again at the next look.
        if self.stop_because(job, FailReason::BudgetExceeded, exhausted_text(&refusal), saves).await {
            self.live.money.exhausted.insert(job, refusal);
        }
    }

    /// Gives back the idle nodes that cannot be paid for any longer, whoever else waits for them.
    pub(super) async fn release_unpaid(&mut self, short: &[Short]) {
        let idle = |node: &NodeId| {
            let ready = self.state.nodes.get(node).is_some_and(|node| node.state == NodeState::Ready);
            ready && self.state.workers_on(*node).is_empty()
        };
        let nodes: BTreeSet<NodeId> = short.iter().map(|short| short.node).filter(idle).collect();
        for node in nodes {
            self.release(node, "the budget that pays for it cannot keep it idle").await;
        }
    }

    /// Gives back the nodes of jobs that made way, at once: others wait for the money.
    pub(super) async fn release_exhausted(&mut self) {
        let shared = |refusal: &Refusal| matches!(refusal.scope, Scope::Organisation | Scope::Project(_));
        let made_way = |job: &JobId| self.live.money.exhausted.get(job).is_some_and(shared);
        let over = |job: &JobId| self.state.jobs.get(job).is_some_and(|job| job.state.is_terminal());
        let ready = self.state.live_nodes().filter(|node| node.state == NodeState::Ready);
        let free = ready.filter(|node| self.state.workers_on(node.id).is_empty());
        let left = free.filter(|node| node.rented_for.is_some_and(|job| made_way(&job) && over(&job)));
        for node in left.map(|node| node.id).collect::<Vec<_>>() {
            self.release(node, "the budget that paid for it is needed by others").await;
        }
    }
}

pub(super) fn exhausted_text(refusal: &Refusal) -> String {
    format!("{refusal} to keep its nodes until they can be given back")
}
