//! The actor `parameter-segment`: takes what the job's servers and replicas tell each other from the wire and hands it to the thread.

use std::sync::mpsc::SyncSender;

use neap_runtime::wire::training::SegmentProtocol;
use neap_runtime::{Inbound, Role};
use neap_scheduler::model::{JobId, WorkerId};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::ServerEvent;

/// Receives from the job's other servers and replicas.
pub(crate) struct SegmentActor {
    pub(crate) job: JobId,
    pub(crate) thread: SyncSender<ServerEvent>,
}

/// Messages to [`SegmentActor`].
pub(crate) enum SegmentMsg {
    /// Event: something came from another process.
    Remote(Inbound<SegmentProtocol>),
}

impl From<Inbound<SegmentProtocol>> for SegmentMsg {
    fn from(inbound: Inbound<SegmentProtocol>) -> Self {
        Self::Remote(inbound)
    }
}

impl Actor for SegmentActor {
    type Msg = SegmentMsg;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Self::Msg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(&self, _: ActorRef<Self::Msg>, message: SegmentMsg, (): &mut ()) -> Result<(), ActorProcessingErr> {
        let SegmentMsg::Remote(inbound) = message;
        match inbound {
            Inbound::Cast { from, message, credit: _ } => {
                if let Some(from) = self.worker_of(&from) {
                    self.tell(ServerEvent::Told { from, message });
                }
            }
            Inbound::Bulk { from, header, payload, credit: _ } => {
                if let Some(from) = self.worker_of(&from) {
                    self.tell(ServerEvent::Bulk { from, header, payload });
                }
            }
            Inbound::Call { .. } => {}
        }
        Ok(())
    }
}

impl SegmentActor {
    fn worker_of(&self, from: &Role) -> Option<WorkerId> {
        match *from {
            Role::Worker { job, worker } if job == self.job => Some(worker),
            _ => None,
        }
    }

    fn tell(&self, event: ServerEvent) {
        if self.thread.try_send(event).is_err() {
            tracing::error!("the parameter server's thread does not take messages");
        }
    }
}
