//! The workload `actors`: what a worker process does for a job of own actors.
//!
//! Every worker hosts actors. The one that the membership names as its server, the lead, runs the main function; where
//! the lead is lost, the next one runs it again. The job ends with the main function.

use std::sync::Arc;

use neap_scheduler::model::{MembershipEpoch, WorkerId};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use super::actor::Fault;
use super::node::System;
use super::program::Program;
use super::snapshot::SnapshotStore;
use crate::codec;
use crate::identity::Role;
use crate::peer::PeerEvent;
use crate::wire::actors::{ACTORS_WORKLOAD, ActorsLaunch};
use crate::wire::training::Param;
use crate::wire::worker::{FailureKind, Membership, WorkerCommand, WorkerReport};
use crate::workload::{BoxFuture, LAUNCH_BYTES_MAX, ReportSender, WorkerContext, Workload, WorkloadError};

/// Ends of the main function that may wait to be reported; there is one at a time.
const ENDS_MAX: usize = 1;

/// Opens the store of a job's states in a place.
pub type OpenSnapshots = dyn Fn(&str) -> Result<Arc<dyn SnapshotStore>, Fault> + Send + Sync;

/// The workload, for the registry of a worker process.
pub fn workload(
    program: Program,
    snapshots: impl Fn(&str) -> Result<Arc<dyn SnapshotStore>, Fault> + Send + Sync + 'static,
) -> impl Workload {
    ActorsWorkload { program, snapshots: Box::new(snapshots) }
}

struct ActorsWorkload {
    program: Program,
    snapshots: Box<OpenSnapshots>,
}

impl Workload for ActorsWorkload {
    fn name(&self) -> &'static str {
        ACTORS_WORKLOAD
    }

    fn start(self: Arc<Self>, context: WorkerContext) -> BoxFuture<'static, Result<(), WorkloadError>> {
        Box::pin(async move { self.run(context).await.map_err(WorkloadError) })
    }
}

impl ActorsWorkload {
    async fn run(&self, mut context: WorkerContext) -> Result<(), Fault> {
        let launch = codec::decode::<ActorsLaunch, LAUNCH_BYTES_MAX>(&context.args)?;
        let store = (self.snapshots)(&launch.snapshot_place)?;
        let mut peer_events = context.node.peer_events();
        let system =
            System::start(context.job, context.worker, context.node.clone(), self.program.clone(), store).await?;
        let (ends, mut ended) = mpsc::channel(ENDS_MAX);
        let mut leaving = JoinSet::new();
        let mut lead = Lead { system: system.clone(), launch, ends, main: None, over: false };
        loop {
            tokio::select! {
                command = context.commands.recv() => match command {
                    Some(WorkerCommand::Membership(membership)) => {
                        lead.adopt(&membership, context.worker, &context).await;
                    }
                    // Actors save their states when they have something to save.
                    Some(WorkerCommand::SaveNow { .. }) => {}
                    Some(WorkerCommand::Nodes(nodes)) => {
                        if system.learn(&nodes) {
                            leaving.abort_all();
                            leaving.spawn(vacate(system.clone(), context.reports.clone()));
                        }
                    }
                    Some(WorkerCommand::Stop { .. }) => {
                        lead.step_down().await;
                        context.reports.send(WorkerReport::Stopped { epoch: system.epoch() }).await;
                        break;
                    }
                    // The agent is gone, and with it everybody to report to.
                    None => break,
                },
                Some(end) = ended.recv() => {
                    lead.over = true;
                    context.reports.send(end_report(system.epoch(), end)).await;
                }
                event = peer_events.recv() => {
                    if let Ok(PeerEvent::Down { role: Role::Worker { worker, .. }, .. }) = event
                        && system.peer_down(worker)
                    {
                        tracing::warn!(%worker, "a worker of the job is cut off");
                        context.reports.send(WorkerReport::PeerLost { epoch: system.epoch(), worker }).await;
                    }
                }
            }
        }
        system.shut();
        Ok(())
    }
}

/// Says when this worker, which has to go, is ready to.
async fn vacate(system: System, reports: ReportSender) {
    system.vacated().await;
    reports.send(WorkerReport::Vacated { epoch: system.epoch() }).await;
}

fn end_report(epoch: MembershipEpoch, end: Result<String, String>) -> WorkerReport {
    match end {
        Ok(result) => WorkerReport::ActorsFinished { epoch, result },
        Err(message) => WorkerReport::Failed { epoch, kind: FailureKind::User, message },
    }
}

/// The main function, while this worker leads.
struct Lead {
    system: System,
    launch: ActorsLaunch,
    ends: mpsc::Sender<Result<String, String>>,
    main: Option<JoinHandle<()>>,
    /// Whether it has ended by itself.
    over: bool,
}

impl Lead {
    async fn adopt(&mut self, membership: &Membership, me: WorkerId, context: &WorkerContext) {
        if !self.system.adopt(membership) {
            return;
        }
        let workers = membership.members.len();
        tracing::info!(epoch = %membership.epoch, workers, lead = %membership.server, "membership");
        match (membership.server == me, &self.main) {
            (true, None) => self.step_up(),
            (false, Some(_)) => self.step_down().await,
            _ => {}
        }
        if membership.server == me && !self.over {
            let actors = u32::try_from(self.system.running()).unwrap_or(u32::MAX);
            context.reports.send(WorkerReport::ActorsRunning { epoch: membership.epoch, actors }).await;
        }
    }

    fn step_up(&mut self) {
        let (system, ends, main) = (self.system.clone(), self.ends.clone(), self.launch.main.clone());
        let params =
            Value::Object(self.launch.params.iter().map(|(name, value)| (name.clone(), json(value))).collect());
        tracing::info!(main, "this worker leads");
        self.main = Some(tokio::spawn(async move {
            let ended = system.run_main(&main, params).await;
            // Without a receiver the worker is ending.
            let _ = ends.send(ended).await;
        }));
    }

    /// Another worker leads, or the job is to stop: the main function is cut off, and what it started ends in order.
    async fn step_down(&mut self) {
        if let Some(main) = self.main.take() {
            main.abort();
            self.system.end_main().await;
        }
    }
}

fn json(value: &Param) -> Value {
    match value {
        Param::Int(value) => Value::from(*value),
        Param::Float(value) => Value::from(*value),
        Param::Text(value) => Value::from(value.as_str()),
        Param::Bool(value) => Value::from(*value),
    }
}
