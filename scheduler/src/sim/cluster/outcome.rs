//! What a simulation gives back, and how two of the same trace are compared.

use std::collections::BTreeMap;

use crate::model::{MicroUsd, Millis};

/// What came of a world under a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Each job, in the order of the world.
    pub jobs: Vec<JobOutcome>,
    /// Each node there was.
    pub nodes: Vec<NodeOutcome>,
    /// Nodes, workers and money over time, at each change and at the end, where its cost is [`Report::cost`].
    pub timeline: Vec<UseSample>,
    /// How many decisions were made.
    pub rounds: u64,
    /// When it ended.
    pub end: Millis,
}

/// What came of one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobOutcome {
    /// Its name in the trace.
    pub name: String,
    /// When it was submitted.
    pub submitted: Millis,
    /// When it first started, if it did.
    pub started: Option<Millis>,
    /// When it ended, if it did.
    pub ended: Option<Millis>,
    /// Its part of what the nodes it ran on cost while it did.
    pub cost: MicroUsd,
    /// How often it lost all its workers before its end.
    pub preemptions: u32,
    /// Work that it had to do again, as the time of one worker.
    pub lost: Millis,
    /// The time of all its workers together.
    pub worker_time: Millis,
    /// The time of all its accelerators together.
    pub gpu_time: Millis,
}

impl JobOutcome {
    /// From submission to the first start.
    pub fn wait(&self) -> Option<Millis> {
        self.started.map(|started| started.since(self.submitted))
    }

    /// From submission to the end: the job completion time.
    pub fn completion(&self) -> Option<Millis> {
        self.ended.map(|ended| ended.since(self.submitted))
    }
}

/// What came of one node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeOutcome {
    /// Its offer; `fixed` for one that was always there.
    pub offer: String,
    /// Time from the request until it took work.
    pub boot: Millis,
    /// Time with at least one worker.
    pub busy: Millis,
    /// Time without.
    pub idle: Millis,
    /// Time after a notice.
    pub leaving: Millis,
    /// Whether the provider took it back or it never came.
    pub lost: bool,
    /// What it cost.
    pub cost: MicroUsd,
}

/// How much was in use at a moment. Counts hold until the next sample; the cost grows evenly up to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UseSample {
    /// When.
    pub at: Millis,
    /// Nodes that were there or on their way.
    pub nodes: u32,
    /// Those of them with a worker.
    pub nodes_held: u32,
    /// The accelerators of all nodes.
    pub gpus: u32,
    /// Those of them that jobs held.
    pub gpus_held: u32,
    /// Workers.
    pub workers: u32,
    /// Jobs that had not started.
    pub waiting: u32,
    /// What all nodes had cost until then.
    pub cost: MicroUsd,
}

impl UseSample {
    /// Whether nothing but time and money tells it from another.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        *self == Self { at: self.at, cost: self.cost, ..*other }
    }
}

impl Report {
    /// What all nodes cost.
    pub fn cost(&self) -> MicroUsd {
        self.nodes.iter().map(|node| node.cost).sum()
    }

    /// When the first job was submitted; times that people read are counted from there.
    pub fn first_submitted(&self) -> Millis {
        self.jobs.iter().map(|job| job.submitted).min().unwrap_or_default()
    }

    /// From the first submission to the end.
    pub fn makespan(&self) -> Millis {
        self.end.since(self.first_submitted())
    }

    /// The mean completion time of the jobs that ended, in seconds; 0 without any.
    pub fn mean_completion_s(&self) -> f64 {
        mean(self.jobs.iter().filter_map(JobOutcome::completion))
    }

    /// The mean wait of the jobs that started, in seconds; 0 without any.
    pub fn mean_wait_s(&self) -> f64 {
        mean(self.jobs.iter().filter_map(JobOutcome::wait))
    }

    /// How many jobs did not end.
    pub fn unfinished(&self) -> usize {
        self.jobs.iter().filter(|job| job.ended.is_none()).count()
    }
}

fn mean(times: impl Iterator<Item = Millis>) -> f64 {
    let (sum, count) = times.fold((0.0, 0_u32), |(sum, count), time| (sum + time.as_secs_f64(), count + 1));
    if count == 0 { 0.0 } else { sum / f64::from(count) }
}

/// How one job fared under another policy. Positive numbers are more than before.
#[derive(Debug, Clone, PartialEq)]
pub struct JobChange {
    /// Its name in the trace.
    pub name: String,
    /// Change of its wait in seconds, if it started both times.
    pub wait_s: Option<f64>,
    /// Change of its completion time in seconds, if it ended both times.
    pub completion_s: Option<f64>,
    /// Change of its cost in dollars.
    pub cost_usd: f64,
}

/// What changes from `before` to `after`, two simulations of the same jobs, job by job; only jobs that fared differently.
pub fn diff(before: &Report, after: &Report) -> Vec<JobChange> {
    let later: BTreeMap<(&str, Millis), &JobOutcome> =
        after.jobs.iter().map(|job| ((job.name.as_str(), job.submitted), job)).collect();
    let change = |job: &JobOutcome| {
        let other = later.get(&(job.name.as_str(), job.submitted))?;
        let seconds =
            |before: Option<Millis>, after: Option<Millis>| Some(after?.as_secs_f64() - before?.as_secs_f64());
        let change = JobChange {
            name: job.name.clone(),
            wait_s: seconds(job.wait(), other.wait()),
            completion_s: seconds(job.completion(), other.completion()),
            cost_usd: other.cost.as_dollars() - job.cost.as_dollars(),
        };
        (*other != job).then_some(change)
    };
    before.jobs.iter().filter_map(change).collect()
}
