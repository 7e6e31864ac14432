//! The session of one worker process: obeys the control plane, starts what trains, and tells what is lost.
//!
//! ```text
//! run ─ Session          memberships, failures, the end
//!        ├─ LoaderActor; TrainerActor and ServerActor, or CollectiveActor: reachable before anything else
//!        ├─ Engines: their threads and the keeper's, started once the data is known, live to the end
//!        └─ follow       task: the way to the server in another process, one a membership (all-reduce: one a worker)
//! ```
//!
//! A lost connection never ends the session: it is reported, and tried again until the next membership.

mod collective;
mod engines;
mod follow;
mod reports;

use std::collections::BTreeSet;
use std::sync::Arc;

use neap_runtime::codec;
use neap_runtime::wire::training::TrainLaunch;
use neap_runtime::wire::worker::{FailureKind, Membership, WorkerCommand, WorkerReport};
use neap_runtime::workload::{LAUNCH_BYTES_MAX, WorkerContext};
use neap_runtime::{Node, PeerEvent, Role};
use neap_scheduler::model::{MembershipEpoch, WorkerId};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

use crate::data::DataError;
use crate::device::DeviceError;
use crate::entry::{Entries, EntryError};
use crate::init::InitError;
use crate::job::TrainJob;
use crate::links::{Outbox, SESSION_QUEUE_MAX, SessionEvent};
use crate::loader::FetchError;
use engines::{Actors, Engines};
pub(crate) use follow::{HELLO_TIMEOUT, RETRY_PAUSE, TRIES_MAX, WayError, connect};
use reports::ReportPump;

/// Why a session ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    /// The launch data is not that of a training.
    #[error("the launch data of this worker is of another version; use the same neap on all nodes")]
    Launch(#[source] codec::CodecError),
    /// An actor or a thread could not be started.
    #[error("failed to start {what}: {reason}")]
    Start { what: &'static str, reason: String },
    /// A thread panicked: a defect of Neap or of the model.
    #[error("the thread `{0}` panicked")]
    Panicked(&'static str),
    /// A thread does not take its messages.
    #[error("the thread `{0}` hangs")]
    Hangs(&'static str),
    /// The job cannot go on, whoever carries it. Reported to the control plane.
    #[error("{message}")]
    Failed {
        /// Whose fault it is.
        kind: FailureKind,
        /// What happened.
        message: String,
    },
}

impl From<InitError> for SessionError {
    fn from(error: InitError) -> Self {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Self::Failed { kind: FailureKind::User, message: format!("{error}{cause}") }
    }
}

impl From<EntryError> for SessionError {
    fn from(error: EntryError) -> Self {
        Self::Failed { kind: error.kind(), message: error.to_string() }
    }
}

impl From<DeviceError> for SessionError {
    fn from(error: DeviceError) -> Self {
        Self::Failed { kind: FailureKind::Invalid, message: error.to_string() }
    }
}

impl From<DataError> for SessionError {
    fn from(error: DataError) -> Self {
        Self::Failed { kind: FailureKind::Invalid, message: error.text() }
    }
}

impl From<FetchError> for SessionError {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Data(error) => error.into(),
            FetchError::Unavailable(_) => Self::Failed { kind: FailureKind::Invalid, message: error.to_string() },
        }
    }
}

/// Runs until the control plane says stop, or the job cannot go on.
pub(crate) async fn run(mut context: WorkerContext, entries: Entries) -> Result<(), SessionError> {
    let (pump, reports) = ReportPump::start(context.reports.clone());
    let (session, events) = mpsc::channel(SESSION_QUEUE_MAX);
    let outbox = Outbox { reports, session };
    let mut epoch = MembershipEpoch::default();
    let ended = work(&mut context, entries, outbox.clone(), events, &mut epoch).await;
    if let Err(SessionError::Failed { kind, message }) = &ended {
        // Fenced like everything else: a membership must be known before the job can fail in its name.
        if epoch == MembershipEpoch::default() {
            epoch = first_membership(&mut context.commands).await.unwrap_or_default();
        }
        let report = WorkerReport::Failed { epoch, kind: *kind, message: message.clone() };
        let _ = outbox.reports.send(report).await;
    }
    pump.finish().await;
    ended
}

async fn first_membership(commands: &mut mpsc::Receiver<WorkerCommand>) -> Option<MembershipEpoch> {
    loop {
        match commands.recv().await? {
            WorkerCommand::Membership(membership) => return Some(membership.epoch),
            WorkerCommand::Stop { .. } => return None,
            WorkerCommand::SaveNow { .. } | WorkerCommand::Nodes(_) => {}
        }
    }
}

async fn work(
    context: &mut WorkerContext,
    entries: Entries,
    outbox: Outbox,
    mut events: mpsc::Receiver<SessionEvent>,
    epoch: &mut MembershipEpoch,
) -> Result<(), SessionError> {
    let launch = codec::decode::<TrainLaunch, LAUNCH_BYTES_MAX>(&context.args).map_err(SessionError::Launch)?;
    let job = Arc::new(TrainJob::new(launch, &entries)?);
    let mut peer_events = context.node.peer_events();
    let actors = Actors::start(&context.node, &job, &outbox).await?;
    let mut session = Session {
        worker: context.worker,
        node: context.node.clone(),
        outbox,
        engines: Engines::new(actors, job, entries, context).await?,
        membership: None,
        lost: BTreeSet::new(),
    };
    loop {
        tokio::select! {
            command = context.commands.recv() => match command {
                Some(WorkerCommand::Membership(membership)) => {
                    *epoch = membership.epoch.max(*epoch);
                    session.adopt(membership).await?;
                }
                Some(WorkerCommand::SaveNow { epoch }) => session.save(epoch)?,
                // Told to own actors only.
                Some(WorkerCommand::Nodes(_)) => {}
                Some(WorkerCommand::Stop { save }) => return session.stop(save).await,
                // The agent is gone, and with it everybody to report to.
                None => return Ok(()),
            },
            Some(event) = events.recv() => session.note(event)?,
            event = peer_events.recv() => session.note_peer(event),
        }
    }
}

struct Session {
    worker: WorkerId,
    node: Node,
    outbox: Outbox,
    engines: Engines,
    membership: Option<Membership>,
    /// Who was reported lost in this membership.
    lost: BTreeSet<WorkerId>,
}

impl Session {
    async fn adopt(&mut self, membership: Membership) -> Result<(), SessionError> {
        if self.membership.as_ref().is_some_and(|current| current.epoch >= membership.epoch) {
            return Ok(());
        }
        tracing::info!(epoch = %membership.epoch, members = membership.members.len(), server = %membership.server, "membership");
        self.lost.clear();
        self.engines.adopt(&membership, &self.outbox).await?;
        self.membership = Some(membership);
        Ok(())
    }

    fn save(&self, epoch: MembershipEpoch) -> Result<(), SessionError> {
        match self.membership.as_ref().is_some_and(|current| current.epoch == epoch) {
            true => self.engines.save(),
            false => Ok(()),
        }
    }

    async fn stop(&mut self, save: bool) -> Result<(), SessionError> {
        self.engines.stop(save).await?;
        let epoch = self.membership.as_ref().map_or_else(MembershipEpoch::default, |membership| membership.epoch);
        let _ = self.outbox.reports.send(WorkerReport::Stopped { epoch }).await;
        Ok(())
    }

    fn note(&mut self, event: SessionEvent) -> Result<(), SessionError> {
        match event {
            SessionEvent::Failed { kind, message } => Err(SessionError::Failed { kind, message }),
            SessionEvent::Panicked { thread } => Err(SessionError::Panicked(thread)),
            SessionEvent::PeerLost { membership, worker } => {
                self.report_lost(membership, worker);
                Ok(())
            }
        }
    }

    /// A member whose connection ended is lost where this worker needs it: it is a server, or this worker serves, or all need
    /// each other.
    fn note_peer(&mut self, event: Result<PeerEvent, RecvError>) {
        let Some(membership) = &self.membership else { return };
        let epoch = membership.epoch;
        let gone = match event {
            Ok(PeerEvent::Down { role: Role::Worker { worker, .. }, .. }) => vec![worker],
            _ => return,
        };
        let all = self.engines.all_exchange();
        let needed = |worker: &WorkerId| {
            let serves = |worker| membership.segment_of(worker).is_some();
            membership.member(*worker).is_some() && (all || serves(*worker) || serves(self.worker))
        };
        let alive = |worker: WorkerId| {
            let is = |role| matches!(role, Role::Worker { worker: theirs, .. } if theirs == worker);
            self.node.peers().iter().any(|peer| is(peer.role()) && peer.is_alive())
        };
        let lost: Vec<WorkerId> = gone.into_iter().filter(|worker| needed(worker) && !alive(*worker)).collect();
        lost.into_iter().for_each(|worker| self.report_lost(epoch, worker));
    }

    fn report_lost(&mut self, epoch: MembershipEpoch, worker: WorkerId) {
        let is_current = self.membership.as_ref().is_some_and(|current| current.epoch == epoch);
        if is_current && self.lost.insert(worker) {
            tracing::warn!(%worker, %epoch, "member lost");
            self.outbox.report_latest(WorkerReport::PeerLost { epoch, worker });
        }
    }
}
