//! Actors that are started and watched from another node, and peers that come and go.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests, too")]

mod common;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{Answer, Ask, Chat, Listener, Other, SOON, Say, listen, pair, soon, start};
use neap_runtime::{Access, ExitReason, PeerDown, PeerEvent, RemoteError, Role};
use neap_scheduler::model::NodeId;
use tokio::sync::{Semaphore, mpsc};

fn offer_listeners(node: &neap_runtime::Node) {
    node.register_factory::<Chat, Listener, _>("listener", Access::control(), |from, args| {
        assert_eq!(from, Role::Control);
        match args.as_slice() {
            b"refuse" => Err("no listener for such arguments".to_owned()),
            _ => {
                let gate = Arc::new(Semaphore::new(1_000));
                Ok((Listener { heard: mpsc::unbounded_channel().0, gate }, ()))
            }
        }
    })
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn actors_are_started_by_the_name_of_a_factory() {
    let pair = pair().await;
    offer_listeners(&pair.node);
    let first = pair.peer.spawn::<Chat>("listener", vec![]).await.unwrap();
    let second = pair.peer.spawn::<Chat>("listener", vec![]).await.unwrap();
    assert_ne!(first.name(), second.name());
    assert_eq!(first.call(Ask::Double(1), SOON).await, Ok(Answer::Number(2)));
    assert_eq!(second.call(Ask::Double(2), SOON).await, Ok(Answer::Number(4)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spawn_that_cannot_be_says_why() {
    let pair = pair().await;
    offer_listeners(&pair.node);
    let refused = pair.peer.spawn::<Chat>("listener", b"refuse".to_vec()).await.unwrap_err();
    assert_eq!(refused.to_string(), "factory `listener` refused: no listener for such arguments");
    let unknown = pair.peer.spawn::<Chat>("nobody", vec![]).await.unwrap_err();
    assert_eq!(unknown, RemoteError::NoSuchFactory { factory: "nobody".to_owned() });
    assert!(matches!(pair.peer.spawn::<Other>("listener", vec![]).await, Err(RemoteError::WrongProtocol { .. })));
    let stranger = start(&pair.ca, Role::Node(NodeId::new(9)));
    let stranger = stranger.connect(pair.node.local_addr(), pair.node.role()).await.unwrap();
    assert!(matches!(stranger.spawn::<Chat>("listener", vec![]).await, Err(RemoteError::Forbidden { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_panic_of_a_started_actor_is_told_and_ends_only_that_actor() {
    let pair = pair().await;
    offer_listeners(&pair.node);
    let first = pair.peer.spawn::<Chat>("listener", vec![]).await.unwrap();
    let second = pair.peer.spawn::<Chat>("listener", vec![]).await.unwrap();
    let watch = pair.peer.watch(first.name()).await.unwrap();
    first.cast(Say::Panic("what went wrong".to_owned())).await.unwrap();
    match soon(watch.exited()).await {
        ExitReason::Failed(text) => assert!(text.contains("what went wrong"), "{text}"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(first.call(Ask::Double(1), SOON).await, Err(RemoteError::NoSuchActor { .. })));
    assert_eq!(second.call(Ask::Double(2), SOON).await, Ok(Answer::Number(4)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_registered_actor_is_told_to_everybody_who_watches() {
    let pair = pair().await;
    let _listener = listen(&pair.node, "stops").await;
    let _other = listen(&pair.node, "panics").await;
    let watches = [pair.peer.watch("stops").await.unwrap(), pair.peer.watch("stops").await.unwrap()];
    let (sender, mut hooked) = mpsc::unbounded_channel();
    let hook = move |reason| sender.send(reason).unwrap();
    pair.peer.on_actor_exit("stops", hook).await.unwrap();
    drop(pair.peer.watch("stops").await.unwrap());

    pair.peer.actor::<Chat>("stops").cast(Say::Stop("had enough".to_owned())).await.unwrap();
    let expected = ExitReason::Stopped(Some("had enough".to_owned()));
    for watch in watches {
        assert_eq!(soon(watch.exited()).await, expected);
    }
    assert_eq!(soon(hooked.recv()).await.unwrap(), expected);
    assert!(matches!(pair.peer.watch("stops").await, Err(RemoteError::NoSuchActor { .. })));

    let watch = pair.peer.watch("panics").await.unwrap();
    pair.peer.actor::<Chat>("panics").cast(Say::Panic("oh".to_owned())).await.unwrap();
    assert!(matches!(soon(watch.exited()).await, ExitReason::Failed(text) if text.contains("oh")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_who_waits_is_told_when_the_peer_goes() {
    let pair = pair().await;
    let _listener = listen(&pair.node, "listener").await;
    let mut events = pair.control.peer_events();
    let (sender, mut hooked) = mpsc::unbounded_channel();
    pair.control.on_peer_down(move |peer, reason| sender.send((peer.role(), reason.clone())).unwrap());
    let watch = pair.peer.watch("listener").await.unwrap();
    let listener = pair.peer.actor::<Chat>("listener");
    assert!(pair.peer.is_alive());
    let call = tokio::spawn({
        let (_, _, gate) = common::listen_gated(&pair.node, "stuck", Default::default()).await;
        let stuck = pair.peer.actor::<Chat>("stuck");
        async move {
            let answer = stuck.call(Ask::Double(1), SOON).await;
            drop(gate);
            answer
        }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    pair.node.shutdown().await;

    let by_peer = PeerDown::ClosedByPeer("shutting down".to_owned());
    assert_eq!(soon(pair.peer.closed()).await, by_peer);
    assert_eq!(soon(hooked.recv()).await.unwrap(), (pair.node.role(), by_peer.clone()));
    assert!(matches!(soon(watch.exited()).await, ExitReason::PeerDown(_)));
    assert!(matches!(soon(call).await.unwrap(), Err(RemoteError::PeerDown(_))));
    let error = listener.cast(Say::Number(1)).await.unwrap_err();
    assert!(error.to_string().contains("shutting down"), "{error}");
    assert!(matches!(listener.call(Ask::Double(1), SOON).await, Err(RemoteError::PeerDown(_))));
    assert!(matches!(listener.send_bulk(String::new(), &[]).await, Err(RemoteError::PeerDown(_))));
    match soon(events.recv()).await.unwrap() {
        PeerEvent::Down { role, reason, id } => {
            assert_eq!((role, reason, id), (pair.node.role(), by_peer, pair.peer.id()));
        }
        other => panic!("{other:?}"),
    }
    assert!(pair.control.peers().is_empty());
    assert!(!pair.peer.is_alive());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_connection_says_so_on_both_sides() {
    let pair = pair().await;
    let other_side = pair.node.peers().remove(0);
    pair.peer.close("enough for today");
    assert_eq!(soon(pair.peer.closed()).await, PeerDown::ClosedHere("enough for today".to_owned()));
    assert_eq!(soon(other_side.closed()).await, PeerDown::ClosedByPeer("enough for today".to_owned()));
    let again = pair.control.connect(pair.node.local_addr(), pair.node.role()).await.unwrap();
    assert!(again.is_alive() && again.id() != pair.peer.id());
}

/// Passes packets on between one dialler and `target`, until told to stop.
fn relay(target: SocketAddr) -> (SocketAddr, Arc<AtomicBool>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    let forwards = Arc::new(AtomicBool::new(true));
    let flag = forwards.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 65_536];
        let mut dialler = None;
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            if !flag.load(Ordering::Relaxed) {
                return;
            }
            let to = if from == target { dialler } else { Some(target) };
            if from != target {
                dialler = Some(from);
            }
            if let Some(to) = to {
                let _ = socket.send_to(&buffer[..length], to);
            }
        }
    });
    (addr, forwards)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_peer_is_noticed_within_three_seconds_and_a_quiet_one_is_kept() {
    let pair = pair().await;
    let _listener = listen(&pair.node, "listener").await;
    let (addr, forwards) = relay(pair.node.local_addr());
    let through_relay = pair.control.connect(addr, pair.node.role()).await.unwrap();
    let watch = through_relay.watch("listener").await.unwrap();
    let other_side = pair.node.peers().into_iter().find(|peer| peer.remote_addr() == addr).unwrap();
    // Longer than the idle time, with nothing said but signs of life.
    tokio::time::sleep(Duration::from_millis(2_900)).await;
    assert!(through_relay.is_alive());

    forwards.store(false, Ordering::Relaxed);
    let silent_since = Instant::now();
    assert_eq!(soon(through_relay.closed()).await, PeerDown::Silent);
    assert_eq!(soon(other_side.closed()).await, PeerDown::Silent);
    let noticed_after = silent_since.elapsed();
    // The protocol's own limit, and some for a busy machine.
    assert!(noticed_after < Duration::from_millis(3_500), "{noticed_after:?}");
    assert!(matches!(soon(watch.exited()).await, ExitReason::PeerDown(_)));
    assert!(pair.peer.is_alive(), "the other connection has nothing to do with it");
}
