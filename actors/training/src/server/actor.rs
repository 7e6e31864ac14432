//! The actor `parameter-server`: takes hellos and gradients from the wire and hands them to the thread.

use std::sync::mpsc::SyncSender;

use neap_runtime::wire::training::{ServerProtocol, TRAINER_ACTOR, TrainerHello, TrainerProtocol};
use neap_runtime::{BulkSlice, Inbound, Node, RemoteRef, ReplyTo, Role};
use neap_scheduler::model::{JobId, WorkerId};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::watch;

use super::{ServerEvent, gradients};
use crate::links::{Outbox, OutgoingParameters, TrainerLink};

/// Receives from the job's trainers.
pub(crate) struct ServerActor {
    pub(crate) job: JobId,
    pub(crate) node: Node,
    pub(crate) thread: SyncSender<ServerEvent>,
    pub(crate) outbox: Outbox,
    /// Whether the job's gradients come in a code.
    pub(crate) coded: bool,
}

/// Messages to [`ServerActor`].
pub(crate) enum ServerMsg {
    /// Event: something came from another process.
    Remote(Inbound<ServerProtocol>),
}

impl From<Inbound<ServerProtocol>> for ServerMsg {
    fn from(inbound: Inbound<ServerProtocol>) -> Self {
        Self::Remote(inbound)
    }
}

impl Actor for ServerActor {
    type Msg = ServerMsg;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Self::Msg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(&self, _: ActorRef<Self::Msg>, message: ServerMsg, (): &mut ()) -> Result<(), ActorProcessingErr> {
        let ServerMsg::Remote(inbound) = message;
        match inbound {
            Inbound::Call { from, request, reply, .. } => self.attach(&from, request, reply),
            Inbound::Bulk { from, header, payload, credit } => {
                let Some(worker) = self.worker_of(&from) else { return Ok(()) };
                match gradients::received(header, payload, worker) {
                    Ok(gradients) if self.coded => self.tell(ServerEvent::Coded(gradients)),
                    Ok(gradients) => self.tell(ServerEvent::Gradients(gradients)),
                    Err(error) => tracing::warn!(%worker, %error, "gradients refused"),
                }
                drop(credit);
            }
            Inbound::Cast { .. } => {}
        }
        Ok(())
    }
}

impl ServerActor {
    fn attach(&self, from: &Role, hello: TrainerHello, reply: ReplyTo<ServerProtocol>) {
        let Some(worker) = self.worker_of(from).filter(|&worker| worker == hello.worker) else {
            tracing::warn!(%from, worker = %hello.worker, "a hello in another worker's name refused");
            return;
        };
        let Some(peer) = self.node.peers().into_iter().find(|peer| peer.role() == *from && peer.is_alive()) else {
            return;
        };
        let (latest, parameters) = watch::channel(None);
        let membership = hello.membership;
        let trainer = peer.actor::<TrainerProtocol>(TRAINER_ACTOR);
        let outbox = self.outbox.clone();
        tokio::spawn(async move {
            if send_parameters(&trainer, parameters).await.is_err() {
                outbox.peer_lost(membership, worker);
            }
        });
        self.tell(ServerEvent::Attach { hello, link: TrainerLink::Remote(latest) });
        reply.send(());
    }

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

/// Sends the newest parameters whenever there are some; ends with the link, or with the connection.
async fn send_parameters(
    trainer: &RemoteRef<TrainerProtocol>,
    mut parameters: watch::Receiver<Option<OutgoingParameters>>,
) -> Result<(), neap_runtime::RemoteError> {
    while parameters.changed().await.is_ok() {
        let Some(OutgoingParameters { header, parameters }) = parameters.borrow_and_update().clone() else { continue };
        trainer.send_bulk(header, &[BulkSlice::from_vec(parameters)]).await?;
    }
    Ok(())
}
