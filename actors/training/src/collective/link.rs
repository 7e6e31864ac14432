//! The way to one other worker: connects, says hello, sends payloads; until the membership changes.
//!
//! A payload that was under way when a connection broke may be lost, so the worker is reported lost at once; the control
//! plane's next membership begins the step anew. Until then the connection is made again, and what was not sent is sent.

use std::net::SocketAddr;

use neap_runtime::wire::collective::{COLLECTIVE_ACTOR, CollectiveHeader, CollectiveHello, CollectiveProtocol};
use neap_runtime::{Node, RemoteRef, Role};
use neap_scheduler::model::{MembershipEpoch, WorkerId};
use tokio::sync::mpsc;

use super::payload::Outgoing;
use crate::links::Outbox;
use crate::session::{HELLO_TIMEOUT, RETRY_PAUSE, TRIES_MAX, WayError, connect};

/// Messages that may wait for one link. Along the tree there are at most four; around a ring the thread waits.
pub(crate) const LINK_QUEUE_MAX: usize = 8;

/// What goes to another worker.
pub(crate) enum LinkMessage {
    /// The first word of a membership.
    Hello(CollectiveHello),
    /// Gradients, a segment of the sum, or a buffer of the state.
    Payload(Outgoing),
}

/// Sends what comes through `queue` to a worker; ends when its sender is dropped.
pub(crate) async fn run(
    node: Node,
    role: Role,
    (worker, addr): (WorkerId, SocketAddr),
    membership: MembershipEpoch,
    mut queue: mpsc::Receiver<LinkMessage>,
    outbox: Outbox,
) {
    let (mut unsent, mut greeted, mut tries) = (None, false, 0);
    loop {
        let error = match connect(&node, addr, role).await {
            Ok(peer) => {
                let actor = peer.actor::<CollectiveProtocol>(COLLECTIVE_ACTOR);
                match forward(&actor, membership, &mut queue, &mut unsent, &mut greeted).await {
                    Ok(()) => return,
                    Err(error) => error,
                }
            }
            Err(error) => error.into(),
        };
        tries = if greeted { TRIES_MAX } else { tries + 1 };
        tracing::debug!(%error, %worker, "a worker is not reached");
        if tries >= TRIES_MAX {
            outbox.peer_lost(membership, worker);
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// `Ok` when there will be no more messages.
async fn forward(
    actor: &RemoteRef<CollectiveProtocol>,
    membership: MembershipEpoch,
    queue: &mut mpsc::Receiver<LinkMessage>,
    unsent: &mut Option<LinkMessage>,
    greeted: &mut bool,
) -> Result<(), WayError> {
    loop {
        if unsent.is_none() {
            *unsent = tokio::select! {
                next = queue.recv() => next,
                _ = actor.peer().closed() => return Err(WayError::Ended),
            };
        }
        match unsent {
            None => return Ok(()),
            Some(LinkMessage::Hello(hello)) => {
                actor.call(hello.clone(), HELLO_TIMEOUT).await?;
                *greeted = true;
            }
            Some(LinkMessage::Payload(outgoing)) => {
                let header = CollectiveHeader { membership, content: outgoing.content.clone() };
                actor.send_bulk(header, &outgoing.payload()).await?;
            }
        }
        *unsent = None;
    }
}
