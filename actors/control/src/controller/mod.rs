//! The control plane's one writer.
//!
//! Supervision: started by [`crate::ControlPlane`]; if it dies the control plane shuts down and a new one rebuilds it
//! from the journal, because state that is not in the journal must not be guessed at. What is lost with it is only
//! what agents say again when they register: connections, worker addresses, progress.
//!
//! Every message goes the same way: event → records → [`Controller::commit`] (journal, then state) → effects →
//! [`Controller::reconcile`], which asks `decide` and carries the plan out. A handler waits for the disk, never for the
//! network.

mod afford;
mod agents;
mod api;
mod artifacts;
mod budgets;
mod carry_out;
mod deadlines;
mod exhausted;
mod known;
mod live;
mod logs;
mod messages;
mod money;
mod outlook;
mod reconcile;
mod regroup;
mod reports;
mod stopping;
mod take_over;

use std::sync::Arc;

use neap_runtime::{CertificateAuthority, Node};
use neap_scheduler::model::{JobId, JobState, Millis, NodeId, NodeState};
use neap_scheduler::policy::{Plan, Policy};
use neap_storage::journal::JournalError;
use neap_storage::record::{BilledLine, Record};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::watch;

pub(crate) use messages::{ControllerMsg, Reply};

use crate::clock;
use crate::home::Home;
use crate::provider::NodeProvider;
use crate::rounds::RoundLog;
use crate::settings::Config;
use crate::state::ClusterState;
use crate::store::Store;
pub use api::spec_hash;
pub use known::RESTART;
use live::Live;

/// What a controller is made of.
pub(crate) struct Controller {
    pub(crate) state: ClusterState,
    pub(crate) live: Live,
    pub(crate) plan: Plan,
    pub(crate) parts: Parts,
}

/// What it works with.
pub(crate) struct Parts {
    pub(crate) home: Home,
    pub(crate) store: Store,
    pub(crate) node: Node,
    pub(crate) provider: Arc<dyn NodeProvider>,
    pub(crate) authority: Arc<CertificateAuthority>,
    pub(crate) config: Config,
    pub(crate) policy: Box<dyn Policy>,
    pub(crate) rounds: RoundLog,
    pub(crate) addresses: Addresses,
    pub(crate) changes: watch::Sender<u64>,
}

/// Where nodes reach this control plane.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) control: std::net::SocketAddr,
    pub(crate) join: std::net::SocketAddr,
}

/// The actor around a [`Controller`].
pub(crate) struct ControllerActor;

impl Actor for ControllerActor {
    type Msg = ControllerMsg;
    type State = Controller;
    type Arguments = (ClusterState, Parts);

    async fn pre_start(
        &self,
        myself: ActorRef<ControllerMsg>,
        (state, parts): Self::Arguments,
    ) -> Result<Controller, ActorProcessingErr> {
        myself.send_interval(live::TICK, || ControllerMsg::Tick);
        let mut controller = Controller::new(state, parts);
        controller.adopt();
        controller.take_over_money();
        Ok(controller)
    }

    async fn handle(
        &self,
        _: ActorRef<ControllerMsg>,
        message: ControllerMsg,
        controller: &mut Controller,
    ) -> Result<(), ActorProcessingErr> {
        controller.handle(message).await;
        Ok(())
    }
}

impl Controller {
    fn new(state: ClusterState, parts: Parts) -> Self {
        let now = clock::now();
        let live = Live::new(&state, now, Millis::new(parts.config.lease_ms));
        Self { state, live, plan: Plan::default(), parts }
    }

    /// Takes over the nodes of an earlier control plane: those that still run register again.
    fn adopt(&self) {
        let nodes: Vec<NodeId> = self.state.live_nodes().map(|node| node.id).collect();
        self.parts.provider.adopt(&nodes);
    }

    async fn handle(&mut self, message: ControllerMsg) {
        let changed = match message {
            ControllerMsg::Submit(job, reply) => self.submit(*job, reply).await,
            ControllerMsg::StopJob(job, stop, reply) => self.stop_job(&job, stop, reply).await,
            ControllerMsg::Preempt(node, notice, reply) => self.preempt(node, notice, reply),
            ControllerMsg::EndNodes(reply) => self.end_nodes(reply),
            ControllerMsg::SetBudget(scope, change, reply) => self.set_budget(scope, change, reply).await,
            ControllerMsg::OpenBill(reply) => self.answer_open_bill(reply),
            ControllerMsg::Outlook(reply) => self.answer_outlook(reply),
            ControllerMsg::Offers(reply) => self.answer_offers(reply),
            ControllerMsg::Budgets(reply) => self.answer_budgets(reply),
            ControllerMsg::Budget(name, reply) => self.answer_budget(&name, reply),
            ControllerMsg::Jobs(which, reply) => self.answer_jobs(which, reply),
            ControllerMsg::Job(job, reply) => self.answer_job(&job, reply),
            ControllerMsg::JobFile(job, reply) => self.answer_job_file(&job, reply),
            ControllerMsg::Nodes(which, reply) => self.answer_nodes(which, reply),
            ControllerMsg::Explain(subject, reply) => self.answer_explain(&subject, reply),
            ControllerMsg::Bill(job, reply) => self.answer_bill(job.as_deref(), reply),
            ControllerMsg::Status(reply) => self.answer_status(reply),
            ControllerMsg::MayFetch(node, artifact, reply) => self.answer_may_fetch(node, artifact, reply),
            ControllerMsg::ArtifactsInUse(reply) => self.answer_artifacts_in_use(reply),
            ControllerMsg::Agent(inbound) => self.agent_says(inbound).await,
            ControllerMsg::PeerDown(role, why) => self.peer_down(role, &why),
            ControllerMsg::Provider(event) => self.provider_says(event).await,
            ControllerMsg::Admit(node, hash, reply) => self.admit(node, hash, reply).await,
            ControllerMsg::Tick => Changed::Yes,
        };
        if matches!(changed, Changed::Yes) {
            self.reconcile().await;
        }
    }

    /// Writes records down, then takes them in. On an error nothing has changed, here or on disk.
    async fn commit(&mut self, records: Vec<Record>) -> Result<(), JournalError> {
        let now = clock::now();
        let mut touched: Vec<NodeId> = records.iter().flat_map(|record| self.state.touched(record)).collect();
        touched.sort_unstable();
        touched.dedup();
        let lines = touched.into_iter().flat_map(|node| self.state.open_attributed(node, now));
        let batch: Vec<Record> = lines.map(|line| Record::NodeBilled(BilledLine::from(&line))).chain(records).collect();
        self.parts.store.append(&batch).await?;
        for record in &batch {
            if let Err(error) = self.state.apply(record) {
                // Records are made from the state they are applied to.
                unreachable!("a record of our own does not fit the state: {error}");
            }
            self.live.note(record);
            if let Record::NodeStateChanged { node, state, .. } = record {
                self.note_launch(*node, *state);
            }
        }
        self.parts.changes.send_modify(|version| *version += 1);
        Ok(())
    }

    /// As [`Self::commit`], for events that happen whether or not the disk takes them: they are seen again at the next
    /// tick, by looking at what is.
    async fn commit_event(&mut self, records: Vec<Record>) -> bool {
        match self.commit(records).await {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "journal does not take an event; trying again"
                );
                false
            }
        }
    }

    /// The record of a legal change of a job's state; `None` where it is in that state already or cannot get there.
    fn job_record(&self, job: JobId, to: JobState, why: impl Into<String>) -> Option<Record> {
        let entry = self.state.jobs.get(&job)?;
        if entry.state == to {
            return None;
        }
        match entry.state.transition(to) {
            Ok(state) => Some(Record::JobStateChanged { job, at: clock::now(), state, why: why.into() }),
            Err(error) => {
                tracing::warn!(%job, %error, "change of state refused");
                None
            }
        }
    }

    /// The record of a legal change of a node's state; see [`Self::job_record`].
    fn node_record(&self, node: NodeId, to: NodeState, why: impl Into<String>) -> Option<Record> {
        let entry = self.state.nodes.get(&node)?;
        if entry.state == to {
            return None;
        }
        match entry.state.transition(to) {
            Ok(state) => Some(Record::NodeStateChanged { node, at: clock::now(), state, why: why.into() }),
            Err(error) => {
                tracing::warn!(%node, %error, "change of state refused");
                None
            }
        }
    }
}

/// Whether a message may have changed what `decide` sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Changed {
    Yes,
    No,
}
