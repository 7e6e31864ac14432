//! The round loop: arrivals, a decision, a minute of progress.
//!
//! [`simulate`] is where the flow starts. At each round boundary the policy sees the jobs submitted so far and what they
//! have shown, and divides the cluster; the division is checked, carried out, and one round passes. Rounds in which there
//! is no job are skipped. The crate has no clock: how long a decision takes is measured by whoever hands in a
//! [`DecisionTimer`].

use std::collections::{BTreeMap, BTreeSet};

use super::cluster::ClusterSpec;
use super::job::{JobProgress, Measured, Surroundings};
use super::report::{JobOutcome, SimulationReport, UsePoint};
use super::trace::Trace;
use super::world::{App, World};
use crate::model::JobId;
use crate::policy::adaptive::{
    Allocation, AllocationPolicy, AppIndex, AppView, Batch, ClusterView, Demand, Holding, JobView, Misgrant,
    Observation,
};

/// How a simulation is run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RunSettings {
    /// Seconds between decisions.
    pub round_seconds: f64,
    /// Whether jobs ask for exactly what their owners requested.
    pub rigid: bool,
    /// Rounds after which the simulation gives up.
    pub rounds_max: u32,
}

impl Default for RunSettings {
    /// Rounds of one minute, elastic jobs, and at most a simulated year.
    fn default() -> Self {
        Self { round_seconds: 60.0, rigid: false, rounds_max: 366 * 24 * 60 }
    }
}

/// Runs a decision and tells how many seconds it took, by a clock of the caller's.
pub trait DecisionTimer {
    /// Calls `decide` once.
    fn time(&mut self, decide: &mut dyn FnMut()) -> f64;
}

/// Takes no time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Untimed;

impl DecisionTimer for Untimed {
    fn time(&mut self, decide: &mut dyn FnMut()) -> f64 {
        decide();
        0.0
    }
}

/// Why a simulation stopped before its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// The policy granted something that cannot be.
    #[error("the policy erred in round {round}")]
    Impossible {
        /// In this round.
        round: u32,
        /// This.
        source: Misgrant,
    },
    /// Jobs were left over when the last round was reached.
    #[error("{left} job(s) had not ended after {rounds} rounds")]
    NeverEnds {
        /// How many.
        left: usize,
        /// After so many rounds.
        rounds: u32,
    },
}

struct Running<'a> {
    id: JobId,
    app: &'a App,
    app_index: AppIndex,
    submit: f64,
    name: &'a str,
    demand: Demand,
    state: JobProgress,
    since: f64,
    first_start: Option<f64>,
    gpu_seconds: f64,
    contention: (f64, f64),
}

/// Runs a trace to its end.
///
/// # Errors
///
/// A grant that cannot be carried out, or jobs that never end.
pub fn simulate(
    world: &World,
    cluster: &ClusterSpec,
    trace: &Trace,
    policy: &mut dyn AllocationPolicy,
    settings: RunSettings,
    timer: &mut dyn DecisionTimer,
) -> Result<SimulationReport, RunError> {
    let apps = world.app_views(cluster);
    let app_of: BTreeMap<&str, AppIndex> = world.apps.keys().map(String::as_str).zip((0..).map(AppIndex)).collect();
    let mut arrivals = (1..).zip(&trace.jobs).peekable();
    let mut report = SimulationReport::new(trace, policy.name(), cluster, settings.round_seconds);
    let mut running: Vec<Running<'_>> = Vec::new();
    let mut round = 0;
    while round < settings.rounds_max {
        let now = f64::from(round) * settings.round_seconds;
        while let Some((number, job)) = arrivals.next_if(|(_, job)| job.submit <= now) {
            running.push(admit(world, &app_of, number, job, settings.rigid));
        }
        if running.is_empty() {
            let Some((_, next)) = arrivals.peek() else { return Ok(report) };
            round = round_at_or_after(next.submit, settings.round_seconds).max(round + 1);
            continue;
        }
        let views: Vec<JobView> = running.iter().map(Running::view).collect();
        let view = ClusterView { now, gpu_types: &cluster.gpu_types, apps: &apps, jobs: &views };
        let mut allocation = Allocation::default();
        report.decision_seconds.push(timer.time(&mut || allocation = policy.allocate(&view)));
        allocation.verify(&view).map_err(|source| RunError::Impossible { round, source })?;
        advance(&mut running, &allocation, &view, policy, settings.round_seconds, &mut report);
        round += 1;
    }
    Err(RunError::NeverEnds { left: running.len() + arrivals.count(), rounds: settings.rounds_max })
}

fn admit<'a>(
    world: &'a World,
    app_of: &BTreeMap<&str, AppIndex>,
    number: u64,
    job: &'a super::trace::TraceJob,
    rigid: bool,
) -> Running<'a> {
    let demand = match rigid {
        true => Demand::Rigid { gpus: job.request_gpus, batch: job.request_batch },
        false => Demand::Elastic,
    };
    Running {
        id: JobId::new(number),
        app: &world.apps[&job.app],
        app_index: app_of[job.app.as_str()],
        submit: job.submit,
        name: &job.name,
        demand,
        state: JobProgress::new(),
        since: 0.0,
        first_start: None,
        gpu_seconds: 0.0,
        contention: (0.0, 0.0),
    }
}

fn round_at_or_after(seconds: f64, round_seconds: f64) -> u32 {
    (seconds / round_seconds).ceil() as u32
}

/// Carries out a round's decision and lets the round pass.
fn advance(
    running: &mut Vec<Running<'_>>,
    allocation: &Allocation,
    view: &ClusterView<'_>,
    policy: &mut dyn AllocationPolicy,
    seconds: f64,
    report: &mut SimulationReport,
) {
    let contention = running.len() as f64;
    let mut held = vec![0; view.gpu_types.len()];
    let mut nodes = BTreeSet::new();
    let mut seen = Vec::new();
    let mut ended = Vec::new();
    for (index, job) in running.iter_mut().enumerate() {
        job.contention = (job.contention.0 + 1.0, job.contention.1 + contention);
        let granted = allocation.grants.get(&job.id).map(|grant| &grant.placement);
        let mut around = Around { policy: &*policy, job: &view.jobs[index], view, seen: &mut seen };
        let gpu_name = granted.map_or("", |placement| view.gpu_types[placement.gpu_type.0].name.as_str());
        if job.state.placement.as_ref() != granted {
            job.since = view.now;
        }
        job.state.place(granted, job.app, gpu_name, &mut around);
        let Some(placement) = granted else { continue };
        let start = *job.first_start.get_or_insert(view.now);
        held[placement.gpu_type.0] += placement.gpus();
        nodes.extend(placement.nodes.iter().map(|(node, _)| (placement.gpu_type.0, *node as usize)));
        job.gpu_seconds += f64::from(placement.gpus()) * seconds;
        report.gpu_seconds[placement.gpu_type.0] += f64::from(placement.gpus()) * seconds;
        if let Some(passed) = job.state.step(job.app, gpu_name, seconds, &mut around) {
            let end = view.now + passed;
            seen.push(Observation::Finished {
                app: job.app_index,
                progress: job.state.progress,
                completion_seconds: end - job.submit,
            });
            report.jobs.push(job.outcome(view.apps[job.app_index.0].name.clone(), start, end));
            ended.push(index);
        }
    }
    for index in ended.into_iter().rev() {
        running.remove(index);
    }
    let waiting = view.jobs.iter().filter(|job| !allocation.grants.contains_key(&job.id)).count() as u32;
    nodes.iter().for_each(|(gpu_type, node)| report.node_seconds[*gpu_type][*node] += seconds);
    let nodes = nodes.len() as u32;
    report.use_over_time.push(UsePoint { at: view.now, jobs: contention as u32, waiting, held, nodes });
    for observation in &seen {
        policy.observe(view, observation);
    }
}

/// Connects a simulated job with the policy that chooses its batch and learns from it.
struct Around<'a> {
    policy: &'a dyn AllocationPolicy,
    job: &'a JobView,
    view: &'a ClusterView<'a>,
    seen: &'a mut Vec<Observation>,
}

impl Surroundings for Around<'_> {
    fn choose_batch(&mut self, job: &JobProgress) -> Batch {
        let Some(placement) = &job.placement else { return job.batch };
        let app: &AppView = &self.view.apps[self.job.app.0];
        let now =
            JobView { progress: job.progress, epochs_done: job.epoch, gradient: job.gradient, ..self.job.clone() };
        self.policy.batch(app, &now, placement)
    }

    fn measured(&mut self, job: &JobProgress, measured: Measured) {
        let Some(placement) = &job.placement else { return };
        self.seen.push(Observation::Step {
            app: self.job.app,
            shape: placement.shape(),
            local_batch: measured.local_batch,
            step_seconds: measured.step,
            sync_seconds: measured.sync,
        });
        if let Some(gradient) = job.gradient {
            let batch = job.batch.total(placement.gpus());
            self.seen.push(Observation::Gradient { app: self.job.app, epoch: job.epoch, batch, gradient });
        }
    }
}

impl Running<'_> {
    fn view(&self) -> JobView {
        let holding = self.state.placement.clone().map(|placement| Holding {
            placement,
            restart_left: self.state.restart_left,
            since: self.since,
        });
        JobView {
            id: self.id,
            app: self.app_index,
            submitted: self.submit,
            demand: self.demand,
            holding,
            epochs_done: self.state.epoch,
            progress: self.state.progress,
            gradient: self.state.gradient,
            restarts: self.state.starts.saturating_sub(1),
            gpu_seconds: self.gpu_seconds,
        }
    }

    fn outcome(&self, app: String, start: f64, end: f64) -> JobOutcome {
        JobOutcome {
            job: self.id,
            name: self.name.to_owned(),
            app,
            submit: self.submit,
            start,
            end,
            gpu_seconds: self.gpu_seconds,
            restarts: self.state.starts.saturating_sub(1),
            contention: self.contention.1 / self.contention.0,
        }
    }
}
