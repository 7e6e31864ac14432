//! The life of one simulated job: progress, checkpoints, and what is lost with its last worker.

use super::outcome::JobOutcome;
use super::world::SimJob;
use crate::model::{JobId, Millis, NodeId, WorkerId};
use crate::policy::{JobDemand, JobTerms, Placed, PlacedRole, WorkLeft};

/// A job and how far it is.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) id: JobId,
    pub(super) job: SimJob,
    pub(super) placed: Vec<Placed>,
    pub(super) started: bool,
    pub(super) outcome: JobOutcome,
    /// Work done, as the time of one worker.
    done: Millis,
    /// Work that a checkpoint holds.
    saved: Millis,
    /// Progress is counted up to here.
    at: Millis,
    /// No progress before this: its workers are starting.
    progress_from: Millis,
    running_since: Option<Millis>,
    /// Grows with every change of its speed; an expected end of an older one is void.
    pub(super) version: u64,
}

/// How a worker goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parting {
    /// By plan, with a checkpoint if it is the last one.
    Saved,
    /// At once: what no checkpoint holds is lost with the last one.
    Lost,
}

impl Run {
    pub(super) fn new(id: JobId, job: SimJob) -> Self {
        let outcome = JobOutcome {
            name: job.name.clone(),
            submitted: job.submitted,
            started: None,
            ended: None,
            cost: crate::model::MicroUsd::ZERO,
            preemptions: 0,
            lost: Millis::ZERO,
            worker_time: Millis::ZERO,
            gpu_time: Millis::ZERO,
        };
        Self {
            id,
            at: job.submitted,
            job,
            placed: Vec::new(),
            started: false,
            outcome,
            done: Millis::ZERO,
            saved: Millis::ZERO,
            progress_from: Millis::ZERO,
            running_since: None,
            version: 0,
        }
    }

    fn speed(&self) -> WorkLeft {
        WorkLeft { serial_permille: Some(self.job.serial_permille), ..WorkLeft::exactly(self.left()) }
    }

    fn left(&self) -> Millis {
        self.job.work.since(self.done)
    }

    fn workers(&self) -> u32 {
        u32::try_from(self.placed.len()).unwrap_or(u32::MAX)
    }

    /// Counts the progress until `now`. Below its minimum a job makes none.
    pub(super) fn advance(&mut self, now: Millis) {
        let held = Millis::new(now.since(self.at).get().saturating_mul(u64::from(self.workers())));
        self.outcome.worker_time = self.outcome.worker_time + held;
        self.outcome.gpu_time =
            self.outcome.gpu_time + Millis::new(held.get().saturating_mul(u64::from(self.job.gpus.count.0)));
        let from = self.at.max(self.progress_from);
        self.at = now;
        if self.workers() < self.job.workers.min || now <= from {
            return;
        }
        let (left, needs) = (self.left(), self.speed().time_on(self.left(), self.workers()));
        let passed = now.since(from);
        self.done = if passed >= needs {
            self.job.work
        } else {
            let part = u128::from(left.get()) * u128::from(passed.get()) / u128::from(needs.get());
            self.done + Millis::new(u64::try_from(part).unwrap_or(u64::MAX))
        };
        if let Some(every) = self.job.checkpoint_every.filter(|every| every.get() > 0) {
            // A checkpoint is written whenever so much time has passed; in work, at the speed of now.
            let rate = u128::from(left.get()) * u128::from(every.get()) / u128::from(needs.get().max(1));
            let step = u64::try_from(rate).unwrap_or(u64::MAX).max(1);
            self.saved = self.saved.max(Millis::new(self.done.get() / step * step));
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.done >= self.job.work
    }

    /// When it ends with the workers it has, if it makes progress.
    pub(super) fn end(&self, now: Millis) -> Option<Millis> {
        let enough = self.started && self.workers() >= self.job.workers.min;
        enough.then(|| now.max(self.progress_from) + self.speed().time_on(self.left(), self.workers()))
    }

    /// Another worker; the first of a gang starts the job.
    pub(super) fn join(&mut self, worker: WorkerId, node: NodeId, now: Millis) {
        self.advance(now);
        if self.placed.is_empty() {
            self.progress_from = now + self.job.restart;
            self.running_since = Some(now);
            self.outcome.started.get_or_insert(now);
        }
        self.started = true;
        self.placed.push(Placed { worker, node, role: PlacedRole::Trainer });
        self.version += 1;
    }

    /// A worker goes.
    pub(super) fn part(&mut self, worker: WorkerId, how: Parting, now: Millis) {
        self.advance(now);
        self.placed.retain(|placed| placed.worker != worker);
        self.version += 1;
        if !self.placed.is_empty() {
            return;
        }
        if how == Parting::Lost {
            self.outcome.lost = self.outcome.lost + self.done.since(self.saved);
            self.done = self.saved;
        }
        self.saved = self.done;
        self.started = false;
        self.running_since = None;
        self.outcome.preemptions += 1;
    }

    /// What a control plane would know of it at `now`.
    pub(super) fn demand(&self, now: Millis) -> JobDemand {
        let job = &self.job;
        let part = |permille: u32| Millis::new((u128::from(self.left().get()) * u128::from(permille) / 1_000) as u64);
        let work = job.estimate.map(|estimate| WorkLeft {
            low: part(estimate.low_permille),
            likely: part(estimate.likely_permille),
            high: part(estimate.high_permille),
            serial_permille: Some(job.serial_permille),
        });
        let unsaved = self.speed().time_on(self.done.since(self.saved), self.workers().max(1));
        JobDemand {
            id: self.id,
            submitted: job.submitted,
            workers: job.workers,
            need: job.need,
            market: job.market,
            max_price: job.max_price,
            separate_server: false,
            given_up: 0,
            started: self.started,
            stopping: false,
            hold_until: None,
            placed: self.placed.clone(),
            leaving: Vec::new(),
            terms: JobTerms {
                project: job.project.clone(),
                priority: job.priority,
                either_market: job.either_market,
                market_now: None,
                objective: job.objective,
                deadline: job.deadline,
                rate_max: None,
                gpus: job.gpus.clone(),
                work,
                running_since: self.running_since,
                since_checkpoint: if self.started { unsaved.min(now.since(job.submitted)) } else { Millis::ZERO },
                checkpoint_every: job.checkpoint_every,
                restart: job.restart,
            },
        }
    }
}
