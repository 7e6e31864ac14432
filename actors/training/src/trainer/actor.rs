//! The actor `trainer`: takes parameters from the wire and hands them to the thread.

use std::sync::mpsc::SyncSender;

use neap_runtime::wire::training::TrainerProtocol;
use neap_runtime::{Inbound, Role};
use neap_scheduler::model::{MembershipEpoch, WorkerId};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::TrainerEvent;
use crate::links::ParameterValues;

/// Receives parameters, from nobody but the servers of the current membership.
pub(crate) struct TrainerActor {
    pub(crate) thread: SyncSender<TrainerEvent>,
}

/// Messages to [`TrainerActor`].
pub(crate) enum TrainerMsg {
    /// Command: from now on these workers are the servers, in the order of their segments.
    Follow { membership: MembershipEpoch, servers: Vec<WorkerId> },
    /// Event: something came from another process.
    Remote(Inbound<TrainerProtocol>),
}

impl From<Inbound<TrainerProtocol>> for TrainerMsg {
    fn from(inbound: Inbound<TrainerProtocol>) -> Self {
        Self::Remote(inbound)
    }
}

impl Actor for TrainerActor {
    type Msg = TrainerMsg;
    type State = Option<(MembershipEpoch, Vec<WorkerId>)>;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Self::Msg>, (): ()) -> Result<Self::State, ActorProcessingErr> {
        Ok(None)
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        message: TrainerMsg,
        followed: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            TrainerMsg::Follow { membership, servers } => *followed = Some((membership, servers)),
            TrainerMsg::Remote(Inbound::Bulk { from, header, payload, credit }) => {
                let expected = followed.as_ref().filter(|(membership, _)| *membership == header.membership);
                let expected = expected.and_then(|(_, servers)| servers.get(header.segment as usize));
                if !matches!(from, Role::Worker { worker, .. } if expected == Some(&worker)) {
                    tracing::debug!(%from, membership = %header.membership, "parameters of another membership ignored");
                    return Ok(());
                }
                let values = ParameterValues::Received(payload);
                if self.thread.try_send(TrainerEvent::Parameters { header, values }).is_err() {
                    tracing::error!("the trainer's thread does not take parameters");
                }
                drop(credit);
            }
            TrainerMsg::Remote(Inbound::Cast { .. } | Inbound::Call { .. }) => {}
        }
        Ok(())
    }
}
