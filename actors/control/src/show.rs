//! From state to views: plain reading, no decisions.

use std::collections::BTreeMap;

use neap_scheduler::explain::{ExpectedStart, JobExplanation, explain_job, explain_node};
use neap_scheduler::model::{JobId, Millis, NodeState};

use crate::clock;
use crate::controller::Controller;
use crate::state::{JobEntry, NodeEntry, WorkerEntry};
use crate::views::{BillView, CostView, DataView, Explanation, JobView, NodeBill, NodeView, WorkerView};

impl Controller {
    pub(crate) fn view_job(&self, job: &JobEntry) -> JobView {
        let workers = job.spec.workers;
        let nodes = job.workers.values().filter_map(|worker| self.state.nodes.get(&worker.node));
        JobView {
            id: job.id,
            name: job.name.clone(),
            project: job.project.clone(),
            spec_hash: job.spec_hash.clone(),
            state: job.state,
            why: job.why.clone(),
            submitted: job.submitted,
            first_step: self.live.first_step.get(&job.id).copied(),
            ended: job.ended,
            version: self.live.versions.get(&job.id).copied().unwrap_or_default() + 1,
            workers: job.workers.values().map(|worker| self.view_worker(job, worker)).collect(),
            workers_wanted: (workers.min, workers.target, workers.max),
            membership: job.epoch(),
            progress: self.live.progress.get(&job.id).cloned(),
            data: self.live.data_used.get(&job.id).map(|used| DataView::of(used.values())),
            epochs: job.epochs.clone(),
            checkpoints: self.checkpoint_place(job).to_string(),
            checkpoint: job.checkpoint_view(),
            rate: nodes.filter(|node| !node.state.is_terminal()).map(|node| node.price).sum(),
            cost: self.cost_of(job),
            budget: self.budget_view(job),
            recoveries: job.recoveries,
            result: job.result.clone(),
            answer: job.answer.clone(),
        }
    }

    fn view_worker(&self, job: &JobEntry, worker: &WorkerEntry) -> WorkerView {
        let live = self.live.workers.get(&worker.id);
        let member = job.membership.as_ref().and_then(|group| group.members.iter().find(|one| one.worker == worker.id));
        let state = match live {
            _ if self.live.ending.contains(&worker.id) || self.live.retiring.contains(&worker.id) => "stopping",
            None => "starting",
            Some(_) => "running",
        };
        WorkerView {
            id: worker.id,
            node: worker.node,
            pid: live.map(|live| live.pid),
            state,
            shards: member.map(|member| member.shards).filter(|shards| shards.0 < shards.1),
            server: job.membership.as_ref().is_some_and(|group| group.servers.contains(&worker.id)),
            replica: job.membership.as_ref().is_some_and(|group| group.replicas.contains(&worker.id)),
        }
    }

    /// A job's closed lines and those of the stretch that is running.
    pub(crate) fn cost_of(&self, job: &JobEntry) -> CostView {
        let mut cost = job.cost.clone();
        let now = clock::now();
        for node in self.state.live_nodes() {
            for line in self.state.open_lines(node.id, now).iter().filter(|line| line.job == Some(job.id)) {
                cost.add(line);
            }
        }
        cost
    }

    pub(crate) fn node_view(&self, node: &NodeEntry) -> NodeView {
        let now = clock::now();
        let mut jobs: Vec<JobId> = self.state.workers_on(node.id).into_iter().map(|(job, _)| job).collect();
        jobs.dedup();
        let kept = self.plan.kept.get(&node.id).filter(|_| !node.state.is_terminal());
        NodeView {
            id: node.id,
            offer: node.offer.clone(),
            state: node.state,
            size: node.size,
            market: node.market,
            price: node.price,
            requested: node.requested,
            ended: node.ended,
            notice_until: node.notice_until,
            pid: self.live.agent_pids.get(&node.id).copied(),
            devices: self.live.devices.get(&node.id).cloned().unwrap_or_default(),
            jobs,
            keep_reason: kept.map_or_else(|| node.why.clone(), |reason| reason.text(now)),
            cost: node.cost(now),
        }
    }

    pub(crate) fn explain(&self, subject: &str) -> Option<Explanation> {
        if let Some(node) = subject.parse().ok().and_then(|id| self.state.nodes.get(&id)) {
            return Some(self.explain_node(node));
        }
        self.state.find_job(subject).map(|job| self.explain_job(job))
    }

    fn explain_node(&self, node: &NodeEntry) -> Explanation {
        let view = self.node_view(node);
        let mut reasons = vec![format!("{} at {} on the {} market", node.offer, node.price, node.market)];
        reasons.push(match node.state {
            NodeState::Released | NodeState::Failed => format!("ended: {}", node.why),
            _ => format!("kept because it {}", view.keep_reason),
        });
        if !node.state.is_terminal() {
            let snapshot = self.snapshot();
            let explained = explain_node(self.parts.policy.as_ref(), &snapshot, node.id);
            reasons.extend(explained.iter().flat_map(|explained| explained.outlook(snapshot.now, node.price)));
        }
        if let Some(until) = node.notice_until.filter(|_| !node.state.is_terminal()) {
            reasons.push(format!("taken back by the provider in {}", until.since(clock::now())));
        }
        reasons.push(format!("cost {} for {}", view.cost, node.time(clock::now())));
        Explanation {
            subject: format!("node {}", node.id),
            state: node.state.to_string(),
            reasons,
            history: node.history.lines(),
        }
    }

    fn explain_job(&self, job: &JobEntry) -> Explanation {
        let now = clock::now();
        let mut reasons = vec![job.why.clone()];
        reasons.extend(self.explain_waiting(job, now));
        for worker in job.workers.values() {
            let view = self.view_worker(job, worker);
            let shards = view.shards.map(|(start, end)| format!(", logical shards {start}..{end}")).unwrap_or_default();
            let server = if view.server { ", parameter server" } else { "" };
            reasons.push(format!("{} on {} is {}{shards}{server}", worker.id, worker.node, view.state));
        }
        Explanation {
            subject: format!("job {} ({})", job.id, job.name),
            state: job.state.to_string(),
            reasons,
            history: job.history.lines(),
        }
    }

    /// Why a job waits, its place in the queue, when it is expected to start and what would start it now.
    fn explain_waiting(&self, job: &JobEntry, now: Millis) -> Vec<String> {
        if job.state.is_terminal() {
            return Vec::new();
        }
        let budget = self.refused_text(job.id);
        let explained = explain_job(self.parts.policy.as_ref(), &self.snapshot(), job.id);
        let waits = match explained {
            Some(JobExplanation::Waits(waits)) => waits,
            Some(JobExplanation::Runs { wants: Some(wants), .. }) => {
                return budget.into_iter().chain([wants.text(now, job.spec.max_price)]).collect();
            }
            _ => return budget.into_iter().collect(),
        };
        let mut lines: Vec<String> = budget.into_iter().collect();
        lines.push(waits.why.text(now, job.spec.max_price));
        lines.push(match waits.ahead {
            0 => "first in the queue".to_owned(),
            ahead => format!("{ahead} waiting job(s) are served before it"),
        });
        lines.push(expected_text(waits.expected, now));
        lines.push(waits.answer.to_string());
        lines
    }

    /// The bill of one job, or of everything.
    pub(crate) fn bill(&self, only: Option<JobId>) -> BillView {
        let jobs = self.state.jobs.values().filter(|job| only.is_none_or(|only| only == job.id));
        let mut by_job: Vec<_> = jobs.map(|job| (Some(job.id), job.name.clone(), self.cost_of(job))).collect();
        if only.is_none() {
            by_job.push((None, "(no job)".to_owned(), self.unattributed_cost()));
        }
        let mut total = CostView::default();
        by_job.iter().for_each(|(.., cost)| total.merge(cost));
        let by_node = if only.is_none() { self.node_bills() } else { Vec::new() };
        BillView { total, by_job, by_node }
    }

    fn unattributed_cost(&self) -> CostView {
        let mut cost = self.state.unattributed.clone();
        let now = clock::now();
        for node in self.state.live_nodes() {
            self.state
                .open_lines(node.id, now)
                .iter()
                .filter(|line| line.job.is_none())
                .for_each(|line| cost.add(line));
        }
        cost
    }

    fn node_bills(&self) -> Vec<NodeBill> {
        let now = clock::now();
        let bill = |node: &NodeEntry| NodeBill {
            node: node.id,
            offer: node.offer.clone(),
            price: node.price,
            time: node.time(now),
            cost: node.cost(now),
        };
        self.state.nodes.values().map(bill).collect()
    }
}

fn expected_text(expected: ExpectedStart, now: Millis) -> String {
    match (expected.likely, expected.low, expected.high) {
        (Some(likely), Some(low), Some(high)) if low < high => {
            format!("expected to start in {}, between {} and {}", likely.since(now), low.since(now), high.since(now))
        }
        (Some(likely), ..) => format!("expected to start in {}", likely.since(now)),
        (None, Some(low), _) => format!("expected to start in {} at the earliest", low.since(now)),
        (None, None, _) => {
            "when it will start is not known: it waits for jobs of unknown length or nodes of unknown boot time"
                .to_owned()
        }
    }
}

impl CostView {
    fn merge(&mut self, other: &Self) {
        self.total += other.total;
        add_all(&mut self.by_category, &other.by_category, |sum, more| *sum += more);
        add_all(&mut self.time_by_category, &other.time_by_category, |sum: &mut Millis, more| *sum = *sum + more);
    }
}

fn add_all<K: Ord + Copy, V: Default + Copy>(
    sums: &mut BTreeMap<K, V>,
    more: &BTreeMap<K, V>,
    add: impl Fn(&mut V, V),
) {
    for (&key, &value) in more {
        add(sums.entry(key).or_default(), value);
    }
}
