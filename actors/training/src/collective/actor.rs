//! The actor `collective`: takes hellos and payloads from the wire and hands them to the thread.

use std::sync::mpsc::SyncSender;

use neap_runtime::wire::collective::CollectiveProtocol;
use neap_runtime::{Inbound, Role};
use neap_scheduler::model::{JobId, WorkerId};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::CollectiveEvent;

/// Receives from the job's other workers.
pub(crate) struct CollectiveActor {
    pub(crate) job: JobId,
    pub(crate) thread: SyncSender<CollectiveEvent>,
}

/// Messages to [`CollectiveActor`].
pub(crate) enum CollectiveMsg {
    /// Event: something came from another process.
    Remote(Inbound<CollectiveProtocol>),
}

impl From<Inbound<CollectiveProtocol>> for CollectiveMsg {
    fn from(inbound: Inbound<CollectiveProtocol>) -> Self {
        Self::Remote(inbound)
    }
}

impl Actor for CollectiveActor {
    type Msg = CollectiveMsg;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Self::Msg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        message: CollectiveMsg,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let CollectiveMsg::Remote(inbound) = message;
        match inbound {
            Inbound::Call { from, request: hello, reply, .. } => match self.worker_of(&from) {
                Some(worker) if worker == hello.worker => {
                    self.tell(CollectiveEvent::Hello(hello));
                    reply.send(());
                }
                _ => tracing::warn!(%from, worker = %hello.worker, "a hello in another worker's name refused"),
            },
            Inbound::Bulk { from, header, payload, .. } => {
                if let Some(from) = self.worker_of(&from) {
                    self.tell(CollectiveEvent::Received { from, header, payload });
                }
            }
            Inbound::Cast { .. } => {}
        }
        Ok(())
    }
}

impl CollectiveActor {
    fn worker_of(&self, from: &Role) -> Option<WorkerId> {
        match *from {
            Role::Worker { job, worker } if job == self.job => Some(worker),
            _ => None,
        }
    }

    fn tell(&self, event: CollectiveEvent) {
        if self.thread.try_send(event).is_err() {
            tracing::error!("the all-reduce's thread does not take messages");
        }
    }
}
