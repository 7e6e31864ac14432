//! Everything the journal says, in memory. [`ClusterState::apply`] is the only way it changes, live and at replay.

mod job;
mod node;
mod observed;

use std::collections::{BTreeMap, BTreeSet};

use neap_scheduler::model::{JobId, MicroUsd, Millis, NodeId, WorkerId};
use neap_scheduler::policy::{Account, FairShare};
use neap_scheduler::pricing::attribution::{ActorUse, AttributedLine, attribute};
use neap_scheduler::pricing::budget::{Limit, Month, Scope};
use neap_scheduler::pricing::{Category, LedgerLine, Use};
use neap_scheduler::spec::{EntryInfo, ParseContext};
use neap_storage::record::{BudgetScope, Record};

pub(crate) use job::{JobEntry, JobStart, MembershipEntry, WorkerEntry};
pub(crate) use node::{NodeEntry, NodeStart};
use observed::Observed;

use crate::handle::JobFile;
use crate::views::CostView;

/// A record that does not fit what came before it.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A job file that this version refuses.
    #[error("the file of {job} was accepted once and does not parse any more: {fault}")]
    JobFile {
        /// The job.
        job: JobId,
        /// The first fault.
        fault: String,
    },
    /// It speaks of something that is not there.
    #[error("a record speaks of {what}, which no earlier record made")]
    Unknown {
        /// What.
        what: String,
    },
}

/// What is known.
#[derive(Debug, Default)]
pub(crate) struct ClusterState {
    pub(crate) cluster: String,
    pub(crate) jobs: BTreeMap<JobId, JobEntry>,
    pub(crate) nodes: BTreeMap<NodeId, NodeEntry>,
    /// Hashes of join tokens that can still be used, in hex.
    pub(crate) tokens: BTreeMap<NodeId, (String, Millis)>,
    /// What no job caused.
    pub(crate) unattributed: CostView,
    /// What projects have used, as fair share counts it.
    pub(crate) usage: BTreeMap<String, Account>,
    /// What was seen of the nodes of each offer.
    pub(crate) observed: Observed,
    /// The same by month.
    pub(crate) unattributed_by_month: BTreeMap<Month, MicroUsd>,
    /// What the organisation and projects may spend, and since when.
    pub(crate) budgets: BTreeMap<Scope, (Limit, Millis)>,
    last_job: u64,
    last_node: u64,
    last_worker: u64,
    entries: Vec<EntryInfo>,
}

impl ClusterState {
    /// Replays a journal.
    pub(crate) fn replay(records: &[Record], entries: Vec<EntryInfo>) -> Result<Self, ReplayError> {
        let mut state = Self { entries, ..Self::default() };
        records.iter().try_for_each(|record| state.apply(record))?;
        Ok(state)
    }

    /// The id the next job will have.
    pub(crate) fn next_job(&self) -> JobId {
        JobId::new(self.last_job + 1)
    }

    /// The id of the `ahead`-th next node, from 0.
    pub(crate) fn next_node(&self, ahead: u64) -> NodeId {
        NodeId::new(self.last_node + 1 + ahead)
    }

    /// The id of the `ahead`-th next worker, from 0.
    pub(crate) fn next_worker(&self, ahead: u64) -> WorkerId {
        WorkerId::new(self.last_worker + 1 + ahead)
    }

    /// A job by its id, or the newest one of that name.
    pub(crate) fn find_job(&self, name_or_id: &str) -> Option<&JobEntry> {
        let by_id = name_or_id.parse().ok().and_then(|id| self.jobs.get(&id));
        by_id.or_else(|| self.jobs.values().rev().find(|job| job.name == name_or_id))
    }

    /// Jobs that have not ended.
    pub(crate) fn live_jobs(&self) -> impl Iterator<Item = &JobEntry> {
        self.jobs.values().filter(|job| !job.state.is_terminal())
    }

    /// Nodes that have not ended.
    pub(crate) fn live_nodes(&self) -> impl Iterator<Item = &NodeEntry> {
        self.nodes.values().filter(|node| !node.state.is_terminal())
    }

    /// Workers on a node, with their jobs.
    pub(crate) fn workers_on(&self, node: NodeId) -> Vec<(JobId, WorkerId)> {
        let on_node = |job: &JobEntry| {
            let job_id = job.id;
            let workers = job.workers.values().filter(move |worker| worker.node == node);
            workers.map(move |worker| (job_id, worker.id)).collect::<Vec<_>>()
        };
        self.live_or_ending().flat_map(on_node).collect()
    }

    fn live_or_ending(&self) -> impl Iterator<Item = &JobEntry> {
        self.jobs.values().filter(|job| !job.workers.is_empty())
    }

    /// What a node's time is spent on right now, and who pays.
    fn uses(&self, node: &NodeEntry) -> Vec<ActorUse> {
        let no_actor = |category, job, weight| ActorUse { part: Use { category, job, weight }, actor: None };
        let one = |category, job| vec![no_actor(category, job, 1)];
        if let Some(category) = node.category_by_state() {
            return one(category, node.rented_for);
        }
        let mut left = u64::from(node.size.cpus.0);
        let mut uses = Vec::new();
        for job in self.live_or_ending() {
            let carries = |worker: &&WorkerEntry| worker.node == node.id && job.is_member(worker.id);
            for worker in job.workers.values().filter(carries) {
                let weight = u64::from(job.spec.resources.cpus.0).min(left);
                left -= weight;
                let actor = Some(worker.actor_name());
                uses.push(ActorUse { actor, ..no_actor(Category::Busy, Some(job.id), weight) });
            }
        }
        if left > 0 || uses.is_empty() {
            uses.push(no_actor(Category::Idle, node.rented_for, left));
        }
        uses
    }

    /// The lines of the stretch since a node was last billed.
    pub(crate) fn open_lines(&self, node: NodeId, now: Millis) -> Vec<LedgerLine> {
        self.open_attributed(node, now).into_iter().map(|line| line.line).collect()
    }

    /// The same, with the actors that used the time.
    pub(crate) fn open_attributed(&self, node: NodeId, now: Millis) -> Vec<AttributedLine> {
        let Some(node) = self.nodes.get(&node).filter(|node| !node.state.is_terminal()) else { return Vec::new() };
        // Billed on a copy: the meter itself moves when the lines are booked.
        node.meter.clone().map(|mut meter| attribute(&mut meter, now, &self.uses(node))).unwrap_or_default()
    }

    /// Nodes whose use may change with a record: they are billed up to the record first.
    pub(crate) fn touched(&self, record: &Record) -> Vec<NodeId> {
        match record {
            Record::NodeStateChanged { node, .. } => vec![*node],
            Record::WorkerEnded { node, .. } | Record::WorkerStarted { node, .. } => vec![*node],
            Record::MembershipChanged { job, .. }
            | Record::JobFinished { job, .. }
            | Record::ActorsFinished { job, .. } => self.nodes_of(*job),
            Record::JobStateChanged { job, state, .. } if state.is_terminal() => self.nodes_of(*job),
            _ => Vec::new(),
        }
    }

    /// The jobs that pay for a node, or may have to: they have workers there, or it was rented for them.
    pub(crate) fn payers(&self, node: &NodeEntry) -> BTreeSet<JobId> {
        let rented_for = node.rented_for.filter(|job| self.jobs.contains_key(job));
        self.workers_on(node.id).into_iter().map(|(job, _)| job).chain(rented_for).collect()
    }

    /// What a job has spent on a node up to `now`.
    pub(crate) fn spent_on(&self, job: JobId, node: NodeId, now: Millis) -> MicroUsd {
        let booked = self.jobs.get(&job).and_then(|job| job.cost_by_node.get(&node)).copied().unwrap_or_default();
        let lines = self.open_lines(node, now);
        let open = lines.iter().filter(|line| line.job == Some(job)).map(|line| line.amount);
        booked + open.sum()
    }

    fn nodes_of(&self, job: JobId) -> Vec<NodeId> {
        self.jobs.get(&job).map(|job| job.workers.values().map(|worker| worker.node).collect()).unwrap_or_default()
    }

    /// Takes a record in.
    pub(crate) fn apply(&mut self, record: &Record) -> Result<(), ReplayError> {
        match record {
            Record::ClusterCreated { cluster, .. } => self.cluster.clone_from(cluster),
            Record::ControlStarted { .. } => {}
            Record::JobSubmitted {
                job,
                name,
                project,
                submitted_at,
                source,
                base_dir,
                spec_hash,
                estimate,
                artifact,
                init_digest,
            } => {
                // Which main functions there are is the business of the binary that accepted the job.
                let context = ParseContext {
                    base_dir: base_dir.clone(),
                    entries: self.entries.clone(),
                    mains: None,
                    artifact: artifact.as_ref().map(|artifact| Ok(artifact.info())),
                };
                let parsed = neap_scheduler::spec::parse(source, &context).map_err(|faults| ReplayError::JobFile {
                    job: *job,
                    fault: faults.first().map(|fault| fault.message.clone()).unwrap_or_default(),
                })?;
                self.last_job = self.last_job.max(job.number());
                let start = JobStart {
                    id: *job,
                    name: name.clone(),
                    project: project.clone(),
                    spec: parsed.spec,
                    spec_hash: spec_hash.clone(),
                    file: JobFile { source: source.clone(), base_dir: base_dir.clone(), artifact: artifact.clone() },
                    submitted: *submitted_at,
                    estimate: *estimate,
                    init_digest: init_digest.clone(),
                };
                self.jobs.insert(*job, JobEntry::new(start));
            }
            Record::JobStateChanged { job, at, state, why } => self.job_mut(*job)?.enter(*state, *at, why),
            Record::NodeRequested { node, offer, size, market, price, for_job, at, .. } => {
                self.last_node = self.last_node.max(node.number());
                let start = NodeStart {
                    id: *node,
                    offer: offer.clone(),
                    size: *size,
                    market: *market,
                    price: *price,
                    rented_for: *for_job,
                    requested: *at,
                };
                self.nodes.insert(*node, NodeEntry::new(start));
            }
            Record::NodeStateChanged { node, at, state, why } => {
                if let Some(entry) = self.nodes.get(node) {
                    self.observed.node_enters(entry, *state, *at);
                }
                self.node_mut(*node)?.enter(*state, *at, why);
            }
            Record::NodeBilled(line) => self.book(&LedgerLine::from(line))?,
            Record::WorkerStarted { job, worker, node, server, at } => {
                self.last_worker = self.last_worker.max(worker.number());
                self.node_mut(*node)?.rented_for = Some(*job);
                let entry = WorkerEntry { id: *worker, node: *node, bare_server: *server, started: *at };
                self.job_mut(*job)?.add_worker(entry);
            }
            Record::WorkerEnded { job, worker, at, why, .. } => self.job_mut(*job)?.end_worker(*worker, *at, why),
            Record::MembershipChanged { job, epoch, members, server, more_servers, replicas, restore, at, why } => {
                let entry = MembershipEntry {
                    epoch: *epoch,
                    members: members.clone(),
                    servers: std::iter::once(server).chain(more_servers).copied().collect(),
                    replicas: replicas.clone(),
                    server_since: *epoch,
                    restore: restore.clone(),
                };
                self.job_mut(*job)?.regroup(entry, *at, why);
            }
            Record::EpochFinished(epoch) => self.job_mut(epoch.job)?.finish_epoch(epoch),
            Record::CheckpointPublished { job, checkpoint, at } => {
                self.job_mut(*job)?.checkpoint_published(checkpoint, *at);
            }
            Record::JobFinished { job, .. } => self.job_mut(*job)?.finish(record),
            Record::ActorsFinished { job, result, .. } => self.job_mut(*job)?.answer = Some(result.clone()),
            Record::PreemptionNotice { node, at, deadline } => {
                if let Some(entry) = self.nodes.get(node) {
                    self.observed.noticed(entry);
                }
                self.node_mut(*node)?.notice(*at, *deadline);
                let jobs: Vec<_> = self.workers_on(*node).into_iter().map(|(job, _)| job).collect();
                for job in jobs {
                    self.job_mut(job)?.preempted(*node, *at);
                }
            }
            Record::JoinTokenMade { node, secret_hash, expires_at } => {
                self.tokens.insert(*node, (secret_hash.clone(), *expires_at));
            }
            Record::JoinTokenUsed { node, .. } => {
                self.tokens.remove(node);
            }
            Record::BudgetSet { scope, max_cost, max_cost_per_month, max_cost_per_hour, warn_at_permille, at } => {
                let limit = Limit {
                    total: *max_cost,
                    per_month: *max_cost_per_month,
                    per_hour: *max_cost_per_hour,
                    warn_at_permille: *warn_at_permille,
                };
                self.set_budget(scope_of(scope), limit, *at);
            }
        }
        Ok(())
    }

    fn set_budget(&mut self, scope: Scope, limit: Limit, at: Millis) {
        if limit.is_some() {
            self.budgets.insert(scope, (limit, at));
        } else {
            self.budgets.remove(&scope);
        }
    }

    fn book(&mut self, line: &LedgerLine) -> Result<(), ReplayError> {
        self.node_mut(line.node)?.book(line);
        match line.job.and_then(|job| self.jobs.get_mut(&job)) {
            Some(job) => {
                job.book(line);
                let nothing = Account { shares: 1, used: MicroUsd::ZERO, at: Millis::ZERO };
                let account = self.usage.entry(job.project.clone()).or_insert(nothing);
                *account = FairShare::default().charged(account, line.to, line.amount);
            }
            None => {
                self.unattributed.add(line);
                job::add_by_month(&mut self.unattributed_by_month, line);
            }
        }
        Ok(())
    }

    fn job_mut(&mut self, job: JobId) -> Result<&mut JobEntry, ReplayError> {
        self.jobs.get_mut(&job).ok_or_else(|| ReplayError::Unknown { what: job.to_string() })
    }

    fn node_mut(&mut self, node: NodeId) -> Result<&mut NodeEntry, ReplayError> {
        self.nodes.get_mut(&node).ok_or_else(|| ReplayError::Unknown { what: node.to_string() })
    }
}

fn scope_of(scope: &BudgetScope) -> Scope {
    match scope {
        BudgetScope::Organisation => Scope::Organisation,
        BudgetScope::Project(name) => Scope::Project(name.clone()),
    }
}

#[cfg(test)]
mod tests;
