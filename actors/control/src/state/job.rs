//! One job, as the journal tells it.

use std::collections::{BTreeMap, VecDeque};

use neap_scheduler::model::{JobId, JobState, MembershipEpoch, MicroUsd, Millis, NodeId, PendingReason, WorkerId};
use neap_scheduler::pricing::attribution::{ActorName, AttributedLine, Loss, lose};
use neap_scheduler::pricing::budget::Month;
use neap_scheduler::pricing::{Category, LedgerLine, cut};
use neap_scheduler::spec::{JobSpec, OnPreempt, Strategy};
use neap_storage::record::{CheckpointRecord, EpochRecord, EstimateRecord, MemberRecord, Record};

use crate::handle::JobFile;
use crate::views::{CheckpointView, CostView, EpochView, HistoryLine, ResultView};

/// Lines of history kept for `explain`; the journal keeps them all.
const HISTORY_LINES_MAX: usize = 200;

/// What happened to something, oldest first; bounded.
#[derive(Debug, Default)]
pub(crate) struct History(VecDeque<HistoryLine>);

impl History {
    pub(crate) fn push(&mut self, at: Millis, text: String) {
        if self.0.len() == HISTORY_LINES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(HistoryLine { at, text });
    }

    /// As [`Self::push`], in place of the last line if that begins the same: of many in a row the newest is enough.
    fn push_newest(&mut self, at: Millis, beginning: &str, rest: &str) {
        if self.0.back().is_some_and(|last| last.text.starts_with(beginning)) {
            self.0.pop_back();
        }
        self.push(at, format!("{beginning}{rest}"));
    }

    pub(crate) fn lines(&self) -> Vec<HistoryLine> {
        self.0.iter().cloned().collect()
    }
}

/// What a job starts with.
pub(crate) struct JobStart {
    pub(crate) id: JobId,
    pub(crate) name: String,
    pub(crate) project: String,
    pub(crate) spec: JobSpec,
    pub(crate) spec_hash: String,
    pub(crate) file: JobFile,
    pub(crate) submitted: Millis,
    pub(crate) estimate: Option<EstimateRecord>,
    pub(crate) init_digest: Option<String>,
}

/// One job.
#[derive(Debug)]
pub(crate) struct JobEntry {
    pub(crate) id: JobId,
    pub(crate) name: String,
    pub(crate) project: String,
    pub(crate) spec: JobSpec,
    pub(crate) spec_hash: String,
    pub(crate) file: JobFile,
    /// What it was expected to cost when it was handed in.
    pub(crate) estimate: Option<EstimateRecord>,
    /// blake3 of the weights it begins with.
    pub(crate) init_digest: Option<String>,
    pub(crate) state: JobState,
    pub(crate) why: String,
    pub(crate) submitted: Millis,
    pub(crate) ended: Option<Millis>,
    /// Worker processes that were asked for and are not known to be gone.
    pub(crate) workers: BTreeMap<WorkerId, WorkerEntry>,
    pub(crate) membership: Option<MembershipEntry>,
    pub(crate) checkpoint: Option<CheckpointRecord>,
    pub(crate) checkpoint_at: Millis,
    pub(crate) epochs: Vec<EpochView>,
    pub(crate) result: Option<ResultView>,
    /// What a job of own actors returned, as JSON.
    pub(crate) answer: Option<String>,
    pub(crate) cost: CostView,
    /// What was booked for each node that it used.
    pub(crate) cost_by_node: BTreeMap<NodeId, MicroUsd>,
    /// What was booked for each month.
    pub(crate) cost_by_month: BTreeMap<Month, MicroUsd>,
    /// What was booked for work that no checkpoint holds yet.
    unsaved: Vec<LedgerLine>,
    /// Work that was thrown away.
    pub(crate) losses: Vec<Loss>,
    pub(crate) recoveries: u32,
    /// Workers lost to preemption that the job does not want replaced.
    pub(crate) given_up: u32,
    pub(crate) history: History,
}

/// One worker process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WorkerEntry {
    pub(crate) id: WorkerId,
    pub(crate) node: NodeId,
    pub(crate) bare_server: bool,
    pub(crate) started: Millis,
}

/// Who carries the job.
#[derive(Debug, Clone)]
pub(crate) struct MembershipEntry {
    pub(crate) epoch: MembershipEpoch,
    pub(crate) members: Vec<MemberRecord>,
    /// The parameter servers, the first of them in the lead.
    pub(crate) servers: Vec<WorkerId>,
    /// The workers that hold a replica of what the server holds.
    pub(crate) replicas: Vec<WorkerId>,
    /// The first epoch since which these have been the servers without a break: what the lead says of an epoch in between
    /// still holds.
    pub(crate) server_since: MembershipEpoch,
    pub(crate) restore: Option<CheckpointRecord>,
}

impl MembershipEntry {
    /// The server that speaks for the training.
    pub(crate) fn lead(&self) -> Option<WorkerId> {
        self.servers.first().copied()
    }
}

impl WorkerEntry {
    /// How the bill names it: a process that hosts trainer and parameter server counts as a trainer, because its time is not
    /// told apart.
    pub(super) fn actor_name(&self) -> ActorName {
        let kind = if self.bare_server { "parameter-server" } else { "trainer" };
        ActorName(format!("{kind}/{}", self.id))
    }
}

impl JobEntry {
    pub(crate) fn new(start: JobStart) -> Self {
        let JobStart { id, name, project, spec, spec_hash, file, submitted, estimate, init_digest } = start;
        let mut history = History::default();
        history.push(submitted, "accepted".to_owned());
        Self {
            id,
            name,
            project,
            spec,
            spec_hash,
            file,
            estimate,
            init_digest,
            state: JobState::Pending(PendingReason::Queued),
            why: "accepted".to_owned(),
            submitted,
            ended: None,
            workers: BTreeMap::new(),
            membership: None,
            checkpoint: None,
            checkpoint_at: Millis::ZERO,
            epochs: Vec::new(),
            result: None,
            answer: None,
            cost: CostView::default(),
            cost_by_node: BTreeMap::new(),
            cost_by_month: BTreeMap::new(),
            unsaved: Vec::new(),
            losses: Vec::new(),
            recoveries: 0,
            given_up: 0,
            history,
        }
    }

    /// Takes in a line of its bill.
    pub(super) fn book(&mut self, line: &LedgerLine) {
        self.cost.add(line);
        *self.cost_by_node.entry(line.node).or_default() += line.amount;
        add_by_month(&mut self.cost_by_month, line);
        if line.category == Category::Busy {
            self.unsaved.push(line.clone());
        }
    }

    /// How much work would be lost if all its workers ended at `now`.
    pub(crate) fn since_checkpoint(&self, now: Millis) -> Millis {
        let since = self.workers.values().map(|worker| worker.started).min().filter(|_| self.membership.is_some());
        since.map_or(Millis::ZERO, |started| now.since(started.max(self.checkpoint_at)))
    }

    /// Whether a worker belongs to the membership in force.
    pub(crate) fn is_member(&self, worker: WorkerId) -> bool {
        !self.state.is_terminal()
            && self.membership.as_ref().is_some_and(|group| group.members.iter().any(|member| member.worker == worker))
    }

    /// Whether anybody carries it: some worker of the membership in force is still there.
    pub(crate) fn has_members(&self) -> bool {
        self.workers.keys().any(|worker| self.is_member(*worker))
    }

    /// Whether a worker may speak for the training under this epoch: as its server, with no other in between.
    pub(crate) fn serves_since(&self, worker: WorkerId, epoch: MembershipEpoch) -> bool {
        let current = self.membership.as_ref();
        current.is_some_and(|group| group.lead() == Some(worker) && group.server_since <= epoch && epoch <= group.epoch)
    }

    /// The epoch of the membership in force, 0 before the first.
    pub(crate) fn epoch(&self) -> MembershipEpoch {
        self.membership.as_ref().map(|group| group.epoch).unwrap_or_default()
    }

    pub(super) fn enter(&mut self, state: JobState, at: Millis, why: &str) {
        if state.name() == "recovering" && self.state.name() != "recovering" {
            self.recoveries += 1;
        }
        self.history.push(at, format!("{} → {state}: {why}", self.state));
        self.state = state;
        self.why = why.to_owned();
        if state.is_terminal() {
            self.ended = Some(at);
        }
    }

    pub(super) fn add_worker(&mut self, worker: WorkerEntry) {
        let what = if worker.bare_server { " for the parameter server" } else { "" };
        self.history.push(worker.started, format!("{} started on {}{what}", worker.id, worker.node));
        self.workers.insert(worker.id, worker);
    }

    pub(super) fn end_worker(&mut self, worker: WorkerId, at: Millis, why: &str) {
        self.history.push(at, format!("{worker} ended: {why}"));
        self.workers.remove(&worker);
    }

    pub(super) fn regroup(&mut self, mut entry: MembershipEntry, at: Millis, why: &str) {
        if let Some(before) = self.membership.as_ref().filter(|before| before.servers == entry.servers) {
            entry.server_since = before.server_since;
        }
        let keeps = self.keeps_state(entry.members.iter().map(|one| one.worker), &entry.servers);
        if self.membership.is_some() && !keeps {
            self.lose_unsaved(at);
        }
        let members: Vec<_> = entry
            .members
            .iter()
            .map(|member| format!("{} {}..{}", member.worker, member.shards.0, member.shards.1))
            .collect();
        let from = entry
            .restore
            .as_ref()
            .filter(|_| !keeps)
            .map(|from| format!(", from step {}", from.step))
            .unwrap_or_default();
        let servers: Vec<_> = entry.servers.iter().map(ToString::to_string).collect();
        let replicas: String = entry.replicas.iter().map(|replica| format!(", replica {replica}")).collect();
        let servers = servers.join(", ");
        let text = format!("{}: {}; server {servers}{replicas}{from}: {why}", entry.epoch, members.join(", "));
        self.history.push(at, text);
        self.membership = Some(entry);
    }

    /// Whether the training state is with the workers of a new membership, so that no step is lost: with the same
    /// parameter servers, with a replica that serves from now on, or, in an all-reduce, with any worker that stays.
    pub(crate) fn keeps_state(&self, members: impl IntoIterator<Item = WorkerId>, servers: &[WorkerId]) -> bool {
        let Some(current) = &self.membership else { return false };
        match self.spec.train().map(|train| train.strategy) {
            Some(Strategy::AllReduce) => members.into_iter().any(|worker| self.is_member(worker)),
            Some(Strategy::ParameterServer) | None => {
                current.servers == servers || matches!(servers, [server] if current.replicas.contains(server))
            }
        }
    }

    /// Whether the training state is where it was, so that nobody needs a checkpoint to go on from. A replica that serves from
    /// now on is told of one: it may not have got the whole state yet.
    pub(crate) fn leaves_state(&self, members: impl IntoIterator<Item = WorkerId>, servers: &[WorkerId]) -> bool {
        let moves = self.membership.as_ref().is_none_or(|current| current.servers != servers);
        let served = self.spec.train().is_none_or(|train| train.strategy == Strategy::ParameterServer);
        self.keeps_state(members, servers) && !(served && moves)
    }

    pub(super) fn finish_epoch(&mut self, epoch: &EpochRecord) {
        // A server that was lost after its last checkpoint goes through an epoch's end a second time.
        self.epochs.retain(|earlier| earlier.epoch < epoch.epoch);
        self.epochs.push(EpochView {
            epoch: epoch.epoch,
            samples: epoch.samples,
            sample_digest: epoch.sample_digest.clone(),
            train_loss: epoch.train_loss.unwrap_or(f64::NAN),
            eval_loss: epoch.eval_loss,
            eval_accuracy: epoch.eval_accuracy,
            eval_metrics: epoch.eval_metrics.clone(),
        });
    }

    pub(super) fn checkpoint_published(&mut self, checkpoint: &CheckpointRecord, at: Millis) {
        self.history.push_newest(at, "checkpoint at step ", &checkpoint.step.to_string());
        self.checkpoint = Some(checkpoint.clone());
        self.checkpoint_at = at;
        self.unsaved.retain(|line| line.to > at);
    }

    /// A new parameter server begins with the last checkpoint: what was done since is thrown away, and booked as lost.
    fn lose_unsaved(&mut self, until: Millis) {
        let loss = Loss { job: self.id, node: None, since: self.checkpoint_at, until };
        let lines = std::mem::take(&mut self.unsaved).into_iter().map(|line| AttributedLine { line, actor: None });
        let mut lost =
            lose(lines.collect(), loss).into_iter().filter(|line| line.line.category == Category::Lost).peekable();
        if lost.peek().is_some() {
            self.losses.push(loss);
        }
        lost.for_each(|line| self.cost.lose(&line.line));
    }

    /// The newest checkpoint, to look at.
    pub(crate) fn checkpoint_view(&self) -> Option<CheckpointView> {
        let checkpoint = self.checkpoint.as_ref()?;
        Some(CheckpointView { name: checkpoint.uri.clone(), step: checkpoint.step, at: self.checkpoint_at })
    }

    pub(super) fn finish(&mut self, record: &Record) {
        let Record::JobFinished {
            model_path,
            card_path,
            steps,
            epochs,
            train_loss,
            eval_loss,
            eval_accuracy,
            eval_metrics,
            model_blake3,
            ..
        } = record
        else {
            return;
        };
        self.result = Some(ResultView {
            model_path: model_path.into(),
            card_path: card_path.into(),
            model_digest: model_blake3.clone().unwrap_or_default(),
            steps: *steps,
            epochs: *epochs,
            train_loss: train_loss.unwrap_or(f64::NAN),
            eval_loss: *eval_loss,
            eval_accuracy: *eval_accuracy,
            eval_metrics: eval_metrics.clone(),
        });
    }

    pub(super) fn preempted(&mut self, node: NodeId, at: Millis) {
        self.history.push(at, format!("{node} will be taken back"));
        if self.spec.on_preempt == OnPreempt::Shrink {
            self.given_up += 1;
        }
    }
}

/// Adds a line to the months in which its time lies.
pub(super) fn add_by_month(months: &mut BTreeMap<Month, MicroUsd>, line: &LedgerLine) {
    for piece in cut(line, Month::end_after) {
        *months.entry(Month::of(piece.from)).or_default() += piece.amount;
    }
}
