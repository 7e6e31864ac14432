//! What workers report through their agents. A report of an older membership is acknowledged and has no effect.

use neap_runtime::wire::agent::{AgentReport, WorkerExit};
use std::collections::BTreeMap;

use neap_runtime::wire::worker::{
    ACCURACY, CheckpointPublished, EpochFinished, EvalMetrics, FailureKind, Finished, Paces, Progress, WorkerReport,
};
use neap_scheduler::model::{FailReason, JobId, JobState, MembershipEpoch, NodeId, RecoverReason, WorkerId};
use neap_storage::record::{CheckpointRecord, EpochRecord, Record};

use super::Controller;
use crate::clock;
use crate::state::JobEntry;
use crate::views::ProgressView;

impl Controller {
    /// `false` if it could not be written down, so that the agent reports again.
    pub(super) async fn report(&mut self, node: NodeId, report: AgentReport) -> bool {
        match report {
            AgentReport::WorkerUp(worker) => {
                self.worker_found(node, worker);
                true
            }
            // Noted where it came in: nothing is written down.
            AgentReport::Devices(_) => true,
            AgentReport::WorkerExited { job, worker, exit } => self.worker_exited(node, job, worker, &exit).await,
            AgentReport::Worker { job, worker, report } => {
                let hosts = self.state.jobs.get(&job).and_then(|job| job.workers.get(&worker));
                if hosts.is_none_or(|worker| worker.node != node) {
                    return true;
                }
                self.worker_says(job, worker, report).await
            }
        }
    }

    async fn worker_exited(&mut self, node: NodeId, job: JobId, worker: WorkerId, exit: &WorkerExit) -> bool {
        let Some(entry) = self.state.jobs.get(&job).filter(|job| job.workers.contains_key(&worker)) else {
            return true;
        };
        let why = exit_text(exit);
        let at = clock::now();
        let mut records = vec![Record::WorkerEnded { job, worker, node, at, why: why.clone() }];
        let expected = self.live.ending.contains(&worker) || self.live.retiring.contains(&worker);
        let over = entry.state.is_terminal() || entry.state == JobState::Stopping || self.live.ending_all.is_some();
        if let (false, WorkerExit::NotRunnable(why)) = (over, exit) {
            // The next node would meet the same.
            records.extend(self.job_record(job, JobState::Failed(FailReason::InvalidAtRuntime), why.clone()));
        } else if !expected && !over {
            let charged = !matches!(exit, WorkerExit::Signal(_));
            let max_restarts = entry.spec.max_restarts;
            let crashes = self.live.crashed(job, charged, at);
            if crashes.charged > max_restarts {
                let why =
                    format!("{worker} ended with {why}; retry.max_restarts is {max_restarts} (see neap logs {job})");
                records.extend(self.job_record(job, JobState::Failed(FailReason::RetriesExhausted), why));
            } else {
                records.extend(self.recovering(
                    job,
                    RecoverReason::ExitCode,
                    format!("{worker} on {node} ended: {why}"),
                ));
            }
        }
        self.commit_event(records).await
    }

    /// The record that a running job lost a worker.
    pub(super) fn recovering(&self, job: JobId, reason: RecoverReason, why: String) -> Option<Record> {
        let state = self.state.jobs.get(&job)?.state;
        let runs = matches!(state, JobState::Running | JobState::Resizing);
        runs.then(|| self.job_record(job, JobState::Recovering(reason), why)).flatten()
    }

    async fn worker_says(&mut self, job: JobId, worker: WorkerId, report: WorkerReport) -> bool {
        let Some(entry) = self.state.jobs.get(&job).filter(|job| !job.state.is_terminal()) else { return true };
        if !may_say(entry, worker, &report) {
            tracing::info!(%job, %worker, epoch = %epoch_of(&report), "report of an older membership ignored");
            return true;
        }
        let records = match report {
            WorkerReport::Progress(progress) => self.progressed(job, &progress),
            WorkerReport::DataUsed(used) => {
                self.live.data_used.entry(job).or_default().insert(worker, used);
                Vec::new()
            }
            WorkerReport::EpochFinished(finished) => vec![epoch_record(job, &finished)],
            WorkerReport::Checkpoint(published) => self.checkpointed(job, &published),
            WorkerReport::PeerLost { worker: lost, .. } => {
                tracing::warn!(%job, %worker, %lost, "a member does not reach another; regrouping");
                return self.regroup_now(job, format!("{worker} does not reach {lost}")).await;
            }
            WorkerReport::Paces(paces) => {
                self.measured(job, &paces);
                Vec::new()
            }
            WorkerReport::Finished(finished) => self.finished(job, finished),
            WorkerReport::Stopped { .. } => self.stopped(job),
            WorkerReport::ActorsRunning { .. } => self.actors_run(job),
            WorkerReport::ActorsFinished { result, .. } => self.actors_finished(job, result),
            WorkerReport::Vacated { .. } => {
                self.live.vacated.insert(worker);
                Vec::new()
            }
            WorkerReport::Failed { kind, message, .. } => {
                let reason = match kind {
                    FailureKind::User => FailReason::UserError,
                    FailureKind::Invalid => FailReason::InvalidAtRuntime,
                    FailureKind::DataLedger => FailReason::DataLedgerMismatch,
                };
                self.job_record(job, JobState::Failed(reason), message).into_iter().collect()
            }
        };
        records.is_empty() || self.commit_event(records).await
    }

    fn progressed(&mut self, job: JobId, progress: &Progress) -> Vec<Record> {
        let view = ProgressView {
            step: progress.step,
            steps_total: progress.steps_total,
            epoch: progress.epoch,
            epochs_total: progress.epochs_total,
            samples: progress.samples,
            loss: progress.loss,
            samples_per_second: progress.samples_per_second,
            pause_ms: progress.pause_millis,
        };
        self.live.progress.insert(job, view);
        self.note_pace(job, progress);
        self.goes_on(job, "steps are committed again")
    }

    /// The lead of a job of own actors has taken in the membership.
    fn actors_run(&mut self, job: JobId) -> Vec<Record> {
        self.goes_on(job, "its actors run again")
    }

    /// A job's work goes on, after whatever happened.
    fn goes_on(&mut self, job: JobId, why: &str) -> Vec<Record> {
        if !self.live.found_training.contains(&job) {
            self.live.first_step.entry(job).or_insert_with(clock::now);
        }
        if let Some(crashes) = self.live.crashes.get_mut(&job) {
            crashes.in_a_row = 0;
            crashes.hold_until = None;
        }
        self.live.touch(job);
        self.parts.changes.send_modify(|version| *version += 1);
        let state = self.state.jobs.get(&job).map(|job| job.state);
        // What a worker that was let go still reports does not make the job run again.
        let carried = !self.live.given_up.contains(&job);
        let regrouped = carried && matches!(state, Some(JobState::Resizing | JobState::Recovering(_)));
        let record = regrouped.then(|| self.job_record(job, JobState::Running, why)).flatten();
        record.into_iter().collect()
    }

    /// Keeps how fast workers are, for the next look at who carries what.
    fn measured(&mut self, job: JobId, paces: &Paces) {
        let Some(entry) = self.state.jobs.get(&job) else { return };
        let own = paces.workers.iter().filter(|pace| entry.is_member(pace.worker));
        self.live.paces.extend(own.map(|pace| (pace.worker, pace.shard_us)));
    }

    fn checkpointed(&mut self, job: JobId, published: &CheckpointPublished) -> Vec<Record> {
        if let Some(saving) = self.live.saving.get_mut(&job).filter(|saving| saving.epoch == published.membership) {
            saving.done = true;
        }
        let checkpoint = CheckpointRecord {
            membership: published.membership,
            step: published.checkpoint.step,
            epoch: published.epoch,
            uri: published.checkpoint.name.clone(),
            digest: hex::encode(published.digest),
            bytes: published.bytes,
        };
        vec![Record::CheckpointPublished { job, checkpoint, at: clock::now() }]
    }

    fn finished(&mut self, job: JobId, finished: Finished) -> Vec<Record> {
        let record = Record::JobFinished {
            job,
            at: clock::now(),
            model_path: finished.model_path,
            card_path: finished.card_path,
            steps: finished.steps,
            epochs: finished.epochs,
            train_loss: number(finished.train_loss),
            eval_loss: finished.eval.as_ref().and_then(|eval| number(eval.loss)),
            eval_accuracy: finished.eval.as_ref().and_then(accuracy),
            eval_metrics: finished.eval.as_ref().map(other_metrics).unwrap_or_default(),
            model_blake3: Some(hex::encode(finished.model_digest)),
        };
        let done = self.job_record(job, JobState::Succeeded, "all steps are committed and the model is written");
        std::iter::once(record).chain(done).collect()
    }

    fn actors_finished(&mut self, job: JobId, result: String) -> Vec<Record> {
        let record = Record::ActorsFinished { job, at: clock::now(), result };
        let done = self.job_record(job, JobState::Succeeded, "its main function has returned");
        std::iter::once(record).chain(done).collect()
    }

    fn stopped(&mut self, job: JobId) -> Vec<Record> {
        let (state, why) = self.stopped_state(job, "stopped on request, after a checkpoint");
        self.job_record(job, state, why).into_iter().collect()
    }
}

/// Fencing: progress counts from the server in force, a lost peer only under the epoch in force, a failure from every
/// member, because whatever the member met, the next one meets too. What its data cost a member is a count of its own.
fn may_say(job: &JobEntry, worker: WorkerId, report: &WorkerReport) -> bool {
    let epoch = epoch_of(report);
    match report {
        WorkerReport::PeerLost { .. } => epoch == job.epoch() && job.is_member(worker),
        WorkerReport::Failed { .. } | WorkerReport::DataUsed(_) | WorkerReport::Vacated { .. } => job.is_member(worker),
        _ => job.serves_since(worker, epoch),
    }
}

fn epoch_of(report: &WorkerReport) -> MembershipEpoch {
    match report {
        WorkerReport::Progress(report) => report.membership,
        WorkerReport::DataUsed(report) => report.membership,
        WorkerReport::EpochFinished(report) => report.membership,
        WorkerReport::Checkpoint(report) => report.membership,
        WorkerReport::Finished(report) => report.membership,
        WorkerReport::Paces(report) => report.membership,
        WorkerReport::PeerLost { epoch, .. }
        | WorkerReport::Stopped { epoch }
        | WorkerReport::Failed { epoch, .. }
        | WorkerReport::ActorsRunning { epoch, .. }
        | WorkerReport::ActorsFinished { epoch, .. }
        | WorkerReport::Vacated { epoch } => *epoch,
    }
}

fn epoch_record(job: JobId, finished: &EpochFinished) -> Record {
    Record::EpochFinished(EpochRecord {
        job,
        membership: finished.membership,
        epoch: finished.epoch,
        step: finished.step,
        samples: finished.samples,
        train_loss: number(finished.train_loss),
        eval_loss: finished.eval.as_ref().and_then(|eval| number(eval.loss)),
        eval_accuracy: finished.eval.as_ref().and_then(accuracy),
        eval_metrics: finished.eval.as_ref().map(other_metrics).unwrap_or_default(),
        sample_digest: hex::encode(finished.sample_digest),
        at: clock::now(),
    })
}

fn accuracy(eval: &EvalMetrics) -> Option<f64> {
    eval.metric(ACCURACY).and_then(number)
}

/// All metrics but the accuracy, which has a field of its own.
fn other_metrics(eval: &EvalMetrics) -> BTreeMap<String, f64> {
    let others = eval.metrics.iter().filter(|(name, value)| name != ACCURACY && value.is_finite());
    others.cloned().collect()
}

/// A loss that is no number any more is left out: JSON has no word for it.
fn number(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

fn exit_text(exit: &WorkerExit) -> String {
    match exit {
        WorkerExit::Code(code) => format!("exit code {code}"),
        WorkerExit::Signal(signal) => format!("signal {signal}"),
        WorkerExit::NotStarted(why) => format!("not started: {why}"),
        WorkerExit::NotRunnable(why) => format!("not runnable: {why}"),
    }
}
