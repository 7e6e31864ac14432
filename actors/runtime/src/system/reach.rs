//! Reaching other workers of the job: connections, questions to their hosts, and the way to an actor.

use std::time::Duration;

use neap_scheduler::model::WorkerId;
use tokio::sync::oneshot;

use super::address::Address;
use super::children::{Directive, Exit};
use super::directory::HELD;
use super::handle::{ActorError, Route};
use super::host::HostMsg;
use super::node::System;
use super::shell::wire_name;
use crate::identity::Role;
use crate::lock;
use crate::node::ConnectError;
use crate::peer::Peer;
use crate::remote::RemoteError;
use crate::wire::actors::{
    ACTOR_HOST_ACTOR, ActorHostProtocol, HostCall, HostCast, HostReply, HostRequest, Incarnation, OwnActorProtocol,
};

/// How long a host has to answer beyond the time it may hold a question.
const ANSWER_MARGIN: Duration = Duration::from_secs(5);

/// How long another host has to answer what it need not wait for.
const HOST_TIMEOUT: Duration = Duration::from_secs(5);

/// Why another host gave no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("{0} is not in the job any more")]
    NoMember(WorkerId),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

impl System {
    /// Asks an actor's supervisor what follows from its failure.
    pub(super) async fn failed(&self, of: Incarnation, why: &str) -> Directive {
        if of.home == self.worker() {
            let (reply, answer) = oneshot::channel();
            self.tell_host(HostMsg::Failed { of, why: why.to_owned(), reply });
            return answer.await.unwrap_or(Directive::End);
        }
        loop {
            let request = HostRequest::Failed { of, why: crate::frame::short(why) };
            match self.ask(of.home, request, HOST_TIMEOUT).await {
                Ok(HostReply::Restart(pause)) => return Directive::Restart(pause),
                Ok(_) | Err(AskError::NoMember(_)) => return Directive::End,
                Err(error) => tracing::debug!(%error, supervisor = %of.home, "a failure is not told yet"),
            }
            self.pause().await;
        }
    }

    /// Tells an actor's supervisor on another worker that it has ended or left.
    pub(super) async fn report_end(&self, of: Incarnation, end: HostRequest) {
        loop {
            match self.ask(of.home, end.clone(), HOST_TIMEOUT).await {
                Ok(_) | Err(AskError::NoMember(_)) => return,
                Err(error) => tracing::debug!(%error, supervisor = %of.home, "an end is not told yet"),
            }
            self.pause().await;
        }
    }

    /// The way to where an actor runs; waits while it is being started.
    pub(super) async fn find(&self, address: &Address) -> Result<Route, ActorError> {
        let ended = |exit| ActorError::Ended { address: address.clone(), exit };
        loop {
            let answer = self.ask_home(address, HostRequest::Locate { child: address.child }).await;
            match answer {
                Ok(HostReply::At(worker, incarnation)) => {
                    let of = Incarnation { home: address.home, child: address.child, incarnation };
                    if let Some(route) = self.route_to(worker, of).await {
                        return Ok(route);
                    }
                }
                Ok(HostReply::Gone(why)) => return Err(ended(why.map_or(Exit::Stopped, Exit::Failed))),
                Err(AskError::NoMember(_)) => return Err(ended(Exit::SupervisorLost)),
                Ok(_) | Err(_) => {}
            }
            self.pause().await;
        }
    }

    /// How an actor ended, once it has.
    pub(super) async fn await_end(&self, address: &Address) -> Exit {
        loop {
            match self.ask_home(address, HostRequest::AwaitEnd { child: address.child }).await {
                Ok(HostReply::Gone(why)) => return why.map_or(Exit::Stopped, Exit::Failed),
                Err(AskError::NoMember(_)) => return Exit::SupervisorLost,
                Ok(HostReply::NotYet) => {}
                Ok(_) | Err(_) => self.pause().await,
            }
        }
    }

    async fn ask_home(&self, address: &Address, request: HostRequest) -> Result<HostReply, AskError> {
        match request {
            HostRequest::Locate { child } if address.home == self.worker() => Ok(self.directory().locate(child).await),
            HostRequest::AwaitEnd { child } if address.home == self.worker() => {
                Ok(self.directory().await_end(child).await)
            }
            request => self.ask(address.home, request, HELD + ANSWER_MARGIN).await,
        }
    }

    async fn route_to(&self, worker: WorkerId, of: Incarnation) -> Option<Route> {
        if worker == self.worker() {
            return self.incarnation(of).filter(|running| running.is_alive()).map(Route::Local);
        }
        let actor = self.connect(worker).await.ok()?.actor::<OwnActorProtocol>(&wire_name(of));
        // It may have left meanwhile: what is sent before the answer would be lost.
        actor.opened().await.ok()?;
        Some(Route::Remote(worker, actor))
    }

    /// Asks the host of another worker; tries again while one of the two does not know the other's membership yet.
    pub(super) async fn ask(
        &self,
        worker: WorkerId,
        request: HostRequest,
        within: Duration,
    ) -> Result<HostReply, AskError> {
        let asking = async {
            loop {
                let host = self.connect(worker).await?.actor::<ActorHostProtocol>(ACTOR_HOST_ACTOR);
                let call = HostCall { epoch: self.epoch(), request: request.clone() };
                match host.call(call, within).await {
                    Ok(HostReply::Stale(_)) => {}
                    Err(RemoteError::NoSuchActor { .. } | RemoteError::Forbidden { .. }) => {}
                    Ok(reply) => return Ok(reply),
                    Err(error) => return Err(error.into()),
                }
                self.pause().await;
            }
        };
        tokio::time::timeout(within, asking).await.unwrap_or(Err(AskError::Timeout(within)))
    }

    /// Tells another host, or this one, that a stream is not read any more. Where it is not told, it learns of it by the
    /// end of the connection.
    pub(super) fn close_stream(&self, worker: WorkerId, stream: u64) {
        if worker == self.worker() {
            self.streams().close(stream, worker);
        } else if let Some(peer) = self.connected(worker) {
            let host = peer.actor::<ActorHostProtocol>(ACTOR_HOST_ACTOR);
            tokio::spawn(async move {
                if let Err(error) = host.cast(HostCast::CloseStream(stream)).await {
                    tracing::debug!(%error, stream, "a stream's end is not told");
                }
            });
        }
    }

    pub(super) fn connected(&self, worker: WorkerId) -> Option<Peer> {
        let role = Role::Worker { job: self.0.job, worker };
        self.0.node.peers().into_iter().find(|peer| peer.role() == role && peer.is_alive())
    }

    /// The connection to another worker: the one there is, or a new one.
    pub(super) async fn connect(&self, worker: WorkerId) -> Result<Peer, AskError> {
        let addr = lock(&self.0.view).members.get(&worker).copied().ok_or(AskError::NoMember(worker))?;
        if let Some(peer) = self.connected(worker) {
            return Ok(peer);
        }
        let gate = lock(&self.0.dialling).entry(worker).or_default().clone();
        let _alone = gate.lock().await;
        let peer = match self.connected(worker) {
            Some(peer) => peer,
            None => self.0.node.connect(addr, Role::Worker { job: self.0.job, worker }).await?,
        };
        lock(&self.0.view).suspects.remove(&worker);
        Ok(peer)
    }

    /// Ends every connection to a worker.
    pub(super) fn cut_off(&self, worker: WorkerId, why: &str) {
        let role = Role::Worker { job: self.0.job, worker };
        self.0.node.peers().iter().filter(|peer| peer.role() == role).for_each(|peer| peer.close(why));
        lock(&self.0.dialling).remove(&worker);
    }
}
