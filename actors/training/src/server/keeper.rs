//! The keeper: what follows from committed steps but does not hold them up. Evaluates and writes the model, one after the
//! other from snapshots, on a thread of its own, and reports each; the saver beside it writes checkpoints.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::SystemTime;

use neap_runtime::wire::training::DataSet;
use neap_runtime::wire::worker::{EpochFinished, EvalMetrics, FailureKind, Finished, WorkerReport};
use neap_scheduler::model::{MembershipEpoch, Millis};
use neap_storage::model::{CARD_FORMAT, ModelCard, write_model};
use tokio::sync::oneshot;

use super::saver::{CheckpointCost, Saver};
use crate::data::{ColumnKind, InputColumn, TargetInfo};
use crate::device::ComputeDevice;
use crate::entry::json;
use crate::finite::describe_state;
use crate::job::TrainJob;
use crate::links::{Outbox, PanicGuard};
use crate::loader::{FetchError, JobData};
use crate::model::{Network, Score, to_safetensors};
use crate::schedule::Schedule;
use crate::state::{EpochSummary, Snapshot};
use crate::trainer::compute_alone;

/// Jobs that may wait; beyond it the parameter server waits, so that snapshots do not pile up.
const KEEPER_QUEUE_MAX: usize = 2;

/// Samples evaluated at once. Fixed, because it is part of the result's last bits.
const EVAL_BATCH: u32 = 256;

/// The way to the keeper's thread.
pub(crate) struct Keeper {
    jobs: SyncSender<KeeperJob>,
    checkpoint_cost: CheckpointCost,
}

/// What the keeper is told. Commands, worked off in order.
pub(crate) enum KeeperJob {
    /// From now on only this membership may publish.
    Fence(MembershipEpoch),
    /// An epoch is complete.
    Epoch { membership: MembershipEpoch, summary: EpochSummary, snapshot: Snapshot, save: bool },
    /// Save the state.
    Save { membership: MembershipEpoch, snapshot: Snapshot },
    /// The training is complete.
    Finish { membership: MembershipEpoch, train_loss: f64, snapshot: Snapshot },
    /// The job cannot go on; said when everything before is done.
    Fail { kind: FailureKind, message: String },
    /// Answer when everything before is done.
    Flush(oneshot::Sender<()>),
}

impl KeeperJob {
    /// The state it is about.
    fn snapshot(&self) -> Option<&Snapshot> {
        match self {
            Self::Epoch { snapshot, .. } | Self::Save { snapshot, .. } | Self::Finish { snapshot, .. } => {
                Some(snapshot)
            }
            Self::Fence(_) | Self::Fail { .. } | Self::Flush(_) => None,
        }
    }
}

struct KeeperThread {
    job: Arc<TrainJob>,
    data: Arc<JobData>,
    schedule: Schedule,
    network: Box<dyn Network>,
    device: ComputeDevice,
    outbox: Outbox,
    saver: Saver,
    /// The step last evaluated, so that the end of training does not evaluate the last epoch again.
    evaluated: Option<(u64, Option<EvalMetrics>)>,
}

impl Keeper {
    /// Starts the thread, with a network on `device`; it ends with the last handle.
    ///
    /// # Errors
    ///
    /// Where the thread cannot be started.
    pub(crate) fn start(
        job: Arc<TrainJob>,
        data: Arc<JobData>,
        schedule: Schedule,
        network: Box<dyn Network>,
        device: ComputeDevice,
        outbox: Outbox,
    ) -> std::io::Result<Self> {
        let (sender, jobs) = sync_channel(KEEPER_QUEUE_MAX);
        let guard = PanicGuard { thread: "keeper", session: outbox.session.clone() };
        let checkpoint_cost = CheckpointCost::default();
        let saver = Saver::start(job.clone(), schedule, outbox.clone(), checkpoint_cost.clone())?;
        let mut keeper = KeeperThread { job, data, schedule, network, device, outbox, saver, evaluated: None };
        let run = move || {
            let _guard = guard;
            compute_alone();
            keeper.run(&jobs);
        };
        std::thread::Builder::new().name("keeper".to_owned()).spawn(run)?;
        Ok(Self { jobs: sender, checkpoint_cost })
    }

    /// How long the last checkpoint took to write, where there was one.
    pub(crate) fn checkpoint_cost(&self) -> Option<Millis> {
        self.checkpoint_cost.get()
    }

    /// Hands a job over; waits while too many are unfinished.
    pub(crate) fn submit(&self, job: KeeperJob) {
        // A keeper that has panicked has told the session.
        let _ = self.jobs.send(job);
    }
}

impl KeeperThread {
    fn run(&mut self, jobs: &Receiver<KeeperJob>) {
        for job in jobs {
            if let Some(message) = job.snapshot().and_then(|snapshot| self.not_finite(snapshot)) {
                self.await_saver();
                self.outbox.fail(FailureKind::User, message);
                continue;
            }
            match job {
                KeeperJob::Fence(epoch) => self.saver.fence(epoch),
                KeeperJob::Epoch { membership, summary, snapshot, save } => {
                    self.finish_epoch(membership, summary, &snapshot);
                    // Only then: an epoch that a checkpoint holds is never evaluated again.
                    if save {
                        self.saver.save(membership, snapshot);
                    }
                }
                KeeperJob::Save { membership, snapshot } => self.saver.save(membership, snapshot),
                KeeperJob::Finish { membership, train_loss, snapshot } => {
                    self.finish(membership, train_loss, &snapshot);
                }
                KeeperJob::Fail { kind, message } => {
                    // The last good state is worth more than an early word.
                    self.await_saver();
                    self.outbox.fail(kind, message);
                }
                KeeperJob::Flush(done) => self.saver.flush(done),
            }
        }
    }

    /// What is wrong with a state that nothing good can come of; it is neither saved nor handed out as a model.
    fn not_finite(&self, snapshot: &Snapshot) -> Option<String> {
        describe_state(snapshot.step, &snapshot.parameters, &snapshot.moments, self.network.layout())
    }

    /// Waits until what was to be saved is. Whoever ends the worker does so only then.
    fn await_saver(&self) {
        let (done, saved) = oneshot::channel();
        self.saver.flush(done);
        // A saver that has panicked has told the session.
        let _ = saved.blocking_recv();
    }

    fn finish_epoch(&mut self, membership: MembershipEpoch, summary: EpochSummary, snapshot: &Snapshot) {
        let Some(eval) = self.evaluate(snapshot) else { return };
        self.outbox.report(WorkerReport::EpochFinished(EpochFinished {
            membership,
            epoch: summary.epoch,
            step: snapshot.step,
            samples: summary.samples,
            sample_digest: summary.sample_digest,
            train_loss: summary.train_loss,
            eval,
        }));
    }

    fn finish(&mut self, membership: MembershipEpoch, train_loss: f64, snapshot: &Snapshot) {
        self.await_saver();
        let Some(eval) = self.evaluate(snapshot) else { return };
        let facts = self.data.facts();
        let weights = match to_safetensors(self.network.layout(), &snapshot.parameters, &facts.input) {
            Ok(weights) => weights,
            Err(error) => return self.outbox.fail(FailureKind::User, format!("the model is no safetensors: {error}")),
        };
        let (steps, epochs) = (snapshot.step, self.schedule.epochs_total());
        let card = self.card(steps, epochs, train_loss, eval.as_ref());
        match write_model(&self.job.model_folder, &weights, &card) {
            Ok(written) => self.outbox.report(WorkerReport::Finished(Finished {
                membership,
                steps,
                epochs,
                train_loss,
                eval,
                model_path: written.model_path.display().to_string(),
                card_path: written.card_path.display().to_string(),
                model_digest: *blake3::hash(&weights).as_bytes(),
            })),
            Err(error) => {
                let text = format!("the trained model was not written: {}", chain(&error));
                self.outbox.fail(FailureKind::Invalid, text);
            }
        }
    }

    fn card(&self, steps: u64, epochs: u32, train_loss: f64, eval: Option<&EvalMetrics>) -> ModelCard {
        let facts = self.data.facts();
        let mut data_hash = BTreeMap::from([("train".to_owned(), hex::encode(facts.train_digest))]);
        data_hash.extend(facts.eval_digest.map(|digest| ("eval".to_owned(), hex::encode(digest))));
        data_hash.extend(self.job.init.iter().filter_map(|init| Some(("init".to_owned(), init.digest.clone()?))));
        let mut metrics = BTreeMap::from([("train_loss".to_owned(), train_loss)]);
        if let Some(eval) = eval {
            metrics.insert("eval_loss".to_owned(), eval.loss);
            metrics.extend(eval.metrics.iter().map(|(name, value)| (format!("eval_{name}"), *value)));
        }
        metrics.retain(|_, value| value.is_finite());
        let mut params: serde_json::Map<_, _> =
            self.job.params.values().iter().map(|(name, value)| (name.clone(), json(value))).collect();
        if let TargetInfo::Classes(names) = &facts.target {
            params.insert("classes".to_owned(), names.clone().into());
        }
        params.insert("input_mean".to_owned(), facts.input.mean().into());
        params.insert("input_scale".to_owned(), facts.input.scale().into());
        if !facts.input.columns().is_empty() {
            params.insert("input_columns".to_owned(), facts.input.columns().iter().map(column_card).collect());
        }
        params
            .insert("input_shape".to_owned(), vec![facts.shape.height, facts.shape.width, facts.shape.channels].into());
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        ModelCard {
            format: CARD_FORMAT,
            job: self.job.id,
            name: self.job.name.clone(),
            entry: self.job.entry.clone(),
            spec_hash: self.job.spec_hash.clone(),
            data_hash,
            params,
            metrics,
            steps,
            epochs,
            created_at: Millis::from(now),
            device: self.device.model().to_owned(),
        }
    }

    /// The metrics of a snapshot on the evaluation data; outer `None` where that ended the job.
    fn evaluate(&mut self, snapshot: &Snapshot) -> Option<Option<EvalMetrics>> {
        if let Some((_, metrics)) = self.evaluated.as_ref().filter(|(step, _)| *step == snapshot.step) {
            return Some(metrics.clone());
        }
        let metrics = match self.data.facts().eval_samples {
            None => None,
            Some(samples) => {
                self.network.load(&snapshot.parameters);
                match self.score(samples) {
                    Ok(score) => Some(self.means(&score, samples)),
                    Err(error) => {
                        self.outbox.fail(FailureKind::Invalid, format!("evaluation: {}", chain(&error)));
                        return None;
                    }
                }
            }
        };
        self.evaluated = Some((snapshot.step, metrics.clone()));
        Some(metrics)
    }

    fn means(&self, score: &Score, samples: u32) -> EvalMetrics {
        let mean = |sum: f64| sum / f64::from(samples);
        let metrics = self.network.metrics().iter().zip(&score.metrics);
        EvalMetrics {
            loss: mean(score.loss),
            metrics: metrics.map(|(name, &sum)| ((*name).to_owned(), mean(sum))).collect(),
            samples: u64::from(samples),
        }
    }

    fn score(&self, samples: u32) -> Result<Score, FetchError> {
        let mut total = Score::default();
        for start in (0..samples).step_by(EVAL_BATCH as usize) {
            let ids: Vec<u32> = (start..samples.min(start + EVAL_BATCH)).collect();
            total.add(&self.network.score(self.data.batch(DataSet::Eval, &ids)?));
        }
        Ok(total)
    }
}

/// What a column of a table becomes, for whoever predicts with the model: numbers give one feature (and one more that is
/// 1 where there is none), categories one each and one for all others, in this order.
fn column_card(column: &InputColumn) -> serde_json::Value {
    match &column.kind {
        ColumnKind::Number { indicator, .. } => {
            serde_json::json!({"name": column.name, "kind": "number", "missing_indicator": indicator})
        }
        ColumnKind::Category(values) => {
            serde_json::json!({"name": column.name, "kind": "category", "categories": values})
        }
    }
}

/// An error with its causes, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
