//! What the hosts of other workers ask and tell.

use std::time::Duration;

use neap_scheduler::model::WorkerId;

use super::{HostState, stop_here};
use crate::identity::Role;
use crate::remote::{Credit, Inbound, ReplyTo};
use crate::system::children::Directive;
use crate::system::leave::after_millis;
use crate::wire::actors::{ActorHostProtocol, HostCall, HostCast, HostReply, HostRequest};

impl HostState {
    pub(super) fn remote(&mut self, inbound: Inbound<ActorHostProtocol>) {
        match inbound {
            Inbound::Call { from: Role::Worker { worker, .. }, request, reply, credit } => {
                let HostCall { epoch, request } = request;
                let current = self.system.epoch();
                // Where this worker is the one that is behind, it is asked again once it has caught up.
                match epoch == current {
                    true => self.asked(worker, request, reply, credit),
                    false => reply.send(HostReply::Stale(current)),
                }
            }
            Inbound::Cast { from: Role::Worker { worker, .. }, message: HostCast::CloseStream(stream), .. } => {
                self.system.streams().close(stream, worker);
            }
            _ => {}
        }
    }

    fn asked(&mut self, from: WorkerId, request: HostRequest, reply: ReplyTo<ActorHostProtocol>, credit: Credit) {
        let (me, system) = (self.system.worker(), self.system.clone());
        match request {
            HostRequest::Start(start) if start.of.home == from => {
                later(reply, credit, async move {
                    match system.start_here(start).await {
                        Ok(()) => HostReply::Done,
                        Err(why) => HostReply::Refused(crate::frame::short(&why)),
                    }
                });
            }
            HostRequest::Stop { of, grace_ms } if of.home == from => {
                stop_here(&system, of, Duration::from_millis(grace_ms));
                reply.send(HostReply::Done);
            }
            HostRequest::Failed { of, why } if of.home == me => reply.send(match self.failed(of, &why) {
                Directive::Restart(pause) => HostReply::Restart(pause),
                Directive::End => HostReply::End,
            }),
            HostRequest::Ended { of, failed } if of.home == me => {
                self.ended(of, failed);
                reply.send(HostReply::Done);
            }
            HostRequest::Leave { of, stays, left_ms } if of.home == from => {
                let deadline = after_millis(left_ms);
                later(reply, credit, async move {
                    system.leave_here(of, stays, deadline).await;
                    HostReply::Done
                });
            }
            HostRequest::Left { of } if of.home == me => {
                self.left(of);
                reply.send(HostReply::Done);
            }
            HostRequest::Locate { child } => {
                later(reply, credit, async move { system.directory().locate(child).await });
            }
            HostRequest::AwaitEnd { child } => {
                later(reply, credit, async move { system.directory().await_end(child).await });
            }
            HostRequest::NextItems { stream } => {
                later(reply, credit, async move { system.streams().next(stream, from).await });
            }
            HostRequest::Start(_)
            | HostRequest::Stop { .. }
            | HostRequest::Failed { .. }
            | HostRequest::Ended { .. }
            | HostRequest::Leave { .. }
            | HostRequest::Left { .. } => {
                tracing::warn!(%from, "a worker spoke of an actor that is not its own or not supervised here");
                reply.send(HostReply::Refused("the actor is supervised by another worker".to_owned()));
            }
        }
    }
}

/// Answers in a task of its own; the asker's credit is held that long, which bounds how many there are.
fn later(reply: ReplyTo<ActorHostProtocol>, credit: Credit, answer: impl Future<Output = HostReply> + Send + 'static) {
    tokio::spawn(async move {
        let _credit = credit;
        reply.send(answer.await);
    });
}
