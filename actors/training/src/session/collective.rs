//! The all-reduce of this process: its actor, its thread's queue, and the ways to the other workers.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender};

use neap_runtime::wire::collective::{COLLECTIVE_ACTOR, CollectiveProtocol};
use neap_runtime::wire::worker::Membership;
use neap_runtime::{Access, Node, Role};
use neap_scheduler::model::WorkerId;
use ractor::ActorRef;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::SessionError;
use super::engines::{spawn, tell};
use crate::collective::{CollectiveActor, CollectiveEvent, CollectiveMsg, CollectiveThread, LINK_QUEUE_MAX, run_link};
use crate::job::TrainJob;
use crate::links::Outbox;

/// What is needed of an all-reduce from outside.
pub(super) struct Collective {
    actor: ActorRef<CollectiveMsg>,
    thread: SyncSender<CollectiveEvent>,
    /// Taken by the thread once the data is known.
    waiting: Option<Receiver<CollectiveEvent>>,
    /// The ways to the other workers of the membership in force.
    links: JoinSet<()>,
}

impl Collective {
    /// Starts and registers the actor.
    pub(super) async fn start(node: &Node, job: &TrainJob) -> Result<Self, SessionError> {
        let (thread, events) = CollectiveThread::queue();
        let actor = spawn("the all-reduce", CollectiveActor { job: job.id, thread: thread.clone() }).await?;
        node.register::<CollectiveProtocol, _>(COLLECTIVE_ACTOR, actor.clone(), Access::workers_of(job.id))
            .map_err(|error| SessionError::Start { what: "the job's actors", reason: error.to_string() })?;
        Ok(Self { actor, thread, waiting: Some(events), links: JoinSet::new() })
    }

    /// What the thread is to be started with, the first time it is asked for.
    pub(super) fn take_events(&mut self) -> Option<Receiver<CollectiveEvent>> {
        self.waiting.take()
    }

    /// Lets go of the other workers. A thread that waits for one of them goes on.
    pub(super) fn disconnect(&mut self) {
        self.links = JoinSet::new();
    }

    /// Takes up a membership, with new ways to its other workers.
    pub(super) fn adopt(
        &mut self,
        membership: &Membership,
        own: WorkerId,
        node: &Node,
        job: &TrainJob,
        outbox: &Outbox,
    ) -> Result<(), SessionError> {
        self.disconnect();
        let mut links = BTreeMap::new();
        let mut queues = Vec::new();
        for member in membership.members.iter().filter(|member| member.worker != own) {
            let (sender, queue) = mpsc::channel(LINK_QUEUE_MAX);
            links.insert(member.worker, sender);
            queues.push((member.worker, member.addr, queue));
        }
        // First the thread: nothing may come in that belongs to a membership which it has not been told of.
        tell(&self.thread, CollectiveEvent::Adopt { membership: membership.clone(), links }, "collective")?;
        for (worker, addr, queue) in queues {
            let role = Role::Worker { job: job.id, worker };
            let link = run_link(node.clone(), role, (worker, addr), membership.epoch, queue, outbox.clone());
            self.links.spawn(link);
        }
        Ok(())
    }

    /// Saves the state where this worker leads.
    pub(super) fn save(&self) -> Result<(), SessionError> {
        match self.waiting {
            Some(_) => Ok(()),
            None => tell(&self.thread, CollectiveEvent::Save, "collective"),
        }
    }

    /// Ends the work; returns when what was begun is finished.
    pub(super) async fn stop(&mut self, save: bool) -> Result<(), SessionError> {
        self.disconnect();
        if self.waiting.is_some() {
            return Ok(());
        }
        let (done, finished) = oneshot::channel();
        tell(&self.thread, CollectiveEvent::Stop { save, done }, "collective")?;
        finished.await.map_err(|_| SessionError::Panicked("keeper"))
    }
}

impl Drop for Collective {
    fn drop(&mut self) {
        self.actor.stop(None);
    }
}
