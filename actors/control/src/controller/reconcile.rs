//! Bringing what is in line with what should be: ask `decide`, carry the plan out, see to leases and to what is ending.
//! Every step looks at the state it finds, so that it can be interrupted anywhere and simply done again.

use neap_scheduler::model::{JobId, JobState, Millis, NodeId, NodeState, PendingReason, WorkerId};
use neap_scheduler::policy::{JobDemand, NodeSupply, Placed, PlacedRole, Plan, Snapshot, WaitReason, decide_with};
use neap_storage::record::Record;

use super::Controller;
use super::known::RunningTimes;
use crate::clock;
use crate::state::{JobEntry, NodeEntry};

impl Controller {
    pub(super) async fn reconcile(&mut self) {
        self.expire_leases().await;
        if !self.has_adopted() {
            return;
        }
        self.track_idle();
        self.keep_budgets().await;
        self.keep_deadlines().await;
        self.finish_stops().await;
        if self.live.ending_all.is_some() {
            self.end_everything().await;
        } else {
            let snapshot = self.snapshot();
            let plan = decide_with(self.parts.policy.as_ref(), &snapshot);
            self.parts.rounds.record(self.parts.policy.as_ref(), &snapshot, &plan);
            let plan = self.within_budgets(plan);
            self.carry_out(&plan).await;
            self.show_waiting(&plan).await;
            self.plan = plan;
            for job in self.live_job_ids() {
                self.regroup(job).await;
            }
        }
        self.end_leftovers();
    }

    fn live_job_ids(&self) -> Vec<JobId> {
        self.state.live_jobs().map(|job| job.id).collect()
    }

    /// Whether the nodes of an earlier control plane have registered, or had time to.
    fn has_adopted(&mut self) -> bool {
        if clock::now() >= self.live.await_until {
            self.live.awaited.clear();
        }
        self.live.awaited.is_empty()
    }

    async fn expire_leases(&mut self) {
        let now = clock::now();
        let silent = |node: &&NodeEntry| {
            matches!(node.state, NodeState::Ready | NodeState::Draining)
                && !self.live.answers(node.id)
                && self.live.lease_until.get(&node.id).is_none_or(|&until| until < now)
        };
        let nodes: Vec<NodeId> = self.state.live_nodes().filter(silent).map(|node| node.id).collect();
        for node in nodes {
            let at = clock::now();
            let ended = |(job, worker)| {
                let why = format!("{node} has not answered for longer than its lease");
                Record::WorkerEnded { job, worker, node, at, why }
            };
            let mut records: Vec<_> = self.state.workers_on(node).into_iter().map(ended).collect();
            records.extend(self.node_record(node, NodeState::Unreachable, "not heard of for longer than its lease"));
            self.commit_event(records).await;
        }
    }

    fn track_idle(&mut self) {
        let now = clock::now();
        for node in self.state.live_nodes().filter(|node| node.state == NodeState::Ready) {
            if self.state.workers_on(node.id).is_empty() {
                self.live.idle_since.entry(node.id).or_insert(now);
            } else {
                self.live.idle_since.remove(&node.id);
            }
        }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let running = self.running_times();
        Snapshot {
            now: clock::now(),
            generation: self.live.generation,
            jobs: self.state.live_jobs().map(|job| self.demand(job, &running)).collect(),
            nodes: self.state.live_nodes().map(|node| self.supply(node, &running)).collect(),
            offers: self.offers(),
            idle_release: Millis::new(self.parts.config.idle_release_ms),
            accounts: self.accounts(),
        }
    }

    pub(super) fn demand(&self, job: &JobEntry, running: &RunningTimes<'_>) -> JobDemand {
        let role = |bare_server| if bare_server { PlacedRole::Server } else { PlacedRole::Trainer };
        let goes = |worker: WorkerId| self.live.ending.contains(&worker) || self.live.retiring.contains(&worker);
        let all = job.workers.values();
        let all = all.map(|worker| Placed { worker: worker.id, node: worker.node, role: role(worker.bare_server) });
        let (leaving, placed) = all.partition(|placed| goes(placed.worker));
        JobDemand {
            id: job.id,
            submitted: job.submitted,
            workers: job.spec.workers,
            need: job.spec.resources,
            market: job.spec.market.named(),
            max_price: job.spec.max_price,
            separate_server: job.spec.separate_server(),
            given_up: job.given_up,
            started: job.has_members(),
            stopping: job.state == JobState::Stopping,
            hold_until: self.live.crashes.get(&job.id).and_then(|crashes| crashes.hold_until),
            placed,
            leaving,
            terms: self.job_terms(job, running),
        }
    }

    fn supply(&self, node: &NodeEntry, running: &RunningTimes<'_>) -> NodeSupply {
        NodeSupply {
            id: node.id,
            size: node.size,
            market: node.market,
            price: node.price,
            state: node.state,
            rented_for: node.rented_for,
            notice_until: node.notice_until,
            answers: self.live.answers(node.id),
            idle_since: self.live.idle_since.get(&node.id).copied(),
            terms: self.node_terms(node, running),
        }
    }

    /// Says in the job's state why it waits.
    async fn show_waiting(&mut self, plan: &Plan) {
        let now = clock::now();
        for job in self.live_job_ids() {
            let Some(entry) = self.state.jobs.get(&job) else { continue };
            if entry.membership.is_some() || entry.state == JobState::Stopping {
                continue;
            }
            let reason = plan.waiting.get(&job);
            let refused = self.refused_text(job);
            let state = match reason {
                _ if refused.is_some() => JobState::Pending(PendingReason::Budget),
                Some(WaitReason::Behind(_) | WaitReason::MakingWay { .. }) => JobState::Pending(PendingReason::Queued),
                Some(WaitReason::Rate { .. }) => JobState::Pending(PendingReason::Budget),
                Some(WaitReason::NoCapacity { .. } | WaitReason::ForSpot { .. } | WaitReason::Infeasible(_)) => {
                    JobState::Pending(PendingReason::NoCapacity)
                }
                Some(WaitReason::Gang { coming: 0, .. }) => JobState::Pending(PendingReason::GangWait),
                Some(WaitReason::Backoff { .. }) => JobState::Pending(PendingReason::Backoff),
                Some(WaitReason::Booting { .. } | WaitReason::Gang { .. }) | None => JobState::Provisioning,
            };
            let why = match (refused, reason) {
                (Some(refusal), _) => refusal,
                (None, Some(reason)) => reason.text(now, entry.spec.max_price),
                (None, None) => "its workers are starting".to_owned(),
            };
            if let Some(record) = self.job_record(job, state, why) {
                self.commit_event(vec![record]).await;
            }
        }
    }

    /// Ends jobs whose last checkpoint has been waited for long enough, or that have no worker to write one.
    async fn finish_stops(&mut self) {
        let now = clock::now();
        let over: Vec<JobId> = self
            .state
            .live_jobs()
            .filter(|job| job.state == JobState::Stopping)
            .filter(|job| job.workers.is_empty() || self.live.stop_until.get(&job.id).is_none_or(|&until| until <= now))
            .map(|job| job.id)
            .collect();
        for job in over {
            let on_request = "stopped on request; the last checkpoint was not confirmed in time";
            let (state, why) = self.stopped_state(job, on_request);
            let record = self.job_record(job, state, why);
            self.commit_event(record.into_iter().collect()).await;
        }
    }

    /// Ends workers of jobs that are over, and retired ones that no membership names any more.
    fn end_leftovers(&mut self) {
        let mut over = Vec::new();
        for job in self.state.jobs.values() {
            let done = job.state.is_terminal();
            let given_up = self.live.given_up.contains(&job.id);
            let retired =
                |worker: &WorkerId| self.live.retiring.contains(worker) && (!job.is_member(*worker) || given_up);
            let leftover = job.workers.values().filter(|worker| done || retired(&worker.id));
            over.extend(
                leftover.filter(|worker| !self.live.ending.contains(&worker.id)).map(|worker| (worker.node, worker.id)),
            );
        }
        for (node, worker) in over {
            if self.live.answers(node) {
                self.end_worker(node, worker);
            }
        }
    }

    /// Saves every running job, then gives every node back.
    async fn end_everything(&mut self) {
        let now = clock::now();
        let Some(ending) = &self.live.ending_all else { return };
        let save_until = ending.save_until;
        let saving: Vec<JobId> = self.live_job_ids().into_iter().filter(|&job| !self.saved_for_good(job)).collect();
        if !saving.is_empty() && now < save_until {
            return;
        }
        let nodes: Vec<(NodeId, NodeState)> = self.state.live_nodes().map(|node| (node.id, node.state)).collect();
        for &(node, state) in &nodes {
            if state != NodeState::Releasing {
                self.release(node, "the cluster is shut down").await;
            }
        }
        if nodes.is_empty()
            && let Some(reply) = self.live.ending_all.as_mut().and_then(|ending| ending.reply.take())
        {
            let _ = reply.send(Ok(()));
        }
    }

    /// Asks a running job's server for a checkpoint once; whether it is there, or none is to be had.
    fn saved_for_good(&mut self, job: JobId) -> bool {
        let Some(entry) = self.state.jobs.get(&job) else { return true };
        let Some(current) = &entry.membership else { return true };
        let (epoch, server) = (current.epoch, current.server);
        if !self.live.workers.contains_key(&server) {
            return true;
        }
        self.ask_to_save(job, epoch, server).done
    }
}
