//! Casts, calls and bulk payloads between two nodes, and what happens when one of them does not keep up.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests, too")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{
    Answer, Ask, Chat, Heard, Listener, Other, SOON, Say, listen, listen_gated, loopback, pair, pair_with, soon, start,
    worker,
};
use neap_runtime::{Access, BulkSlice, MailboxLimits, NodeConfig, RemoteError, Role};
use neap_scheduler::model::JobId;
use ractor::Actor;
use tokio::sync::Semaphore;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn casts_arrive_in_order_with_the_sender_as_its_certificate_says() {
    let pair = pair().await;
    let (_, mut heard) = listen(&pair.node, "listener").await;
    let listener = pair.peer.actor::<Chat>("listener");
    for number in 0..10_000 {
        listener.cast(Say::Number(number)).await.unwrap();
    }
    for expected in 0..10_000 {
        match soon(heard.recv()).await.unwrap() {
            Heard::Number(Role::Control, number) => assert_eq!(number, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_at_a_time_get_their_own_answers() {
    let pair = pair().await;
    let _listener = listen(&pair.node, "listener").await;
    let listener = pair.peer.actor::<Chat>("listener");
    let calls: Vec<_> = (0..500)
        .map(|number| {
            let listener = listener.clone();
            tokio::spawn(async move { (number, listener.call(Ask::Double(number), SOON).await) })
        })
        .collect();
    for call in calls {
        let (number, answer) = call.await.unwrap();
        assert_eq!(answer.unwrap(), Answer::Number(2 * number));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_of_a_connection_can_talk() {
    let pair = pair().await;
    let _there = listen(&pair.node, "there").await;
    let _here = listen(&pair.control, "here").await;
    let back = pair.node.peers().remove(0);
    assert_eq!(back.role(), Role::Control);
    let (there, here) = (pair.peer.actor::<Chat>("there"), back.actor::<Chat>("here"));
    assert_eq!(there.call(Ask::Double(1), SOON).await.unwrap(), Answer::Number(2));
    assert_eq!(here.call(Ask::Double(2), SOON).await.unwrap(), Answer::Number(4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_payloads_arrive_whole_and_aligned() {
    let pair = pair().await;
    let (_, mut heard) = listen(&pair.node, "listener").await;
    let listener = pair.peer.actor::<Chat>("listener");
    let floats: Arc<Vec<f32>> = Arc::new((0..3_000_000).map(|number| number as f32).collect());
    for round in 0..3 {
        let payload = [
            BulkSlice::from_vec_range(floats.clone(), 0..1_000_000),
            BulkSlice::from_vec_range(floats.clone(), 1_000_000..1_000_000),
            BulkSlice::from_vec_range(floats.clone(), 1_000_000..3_000_000),
        ];
        listener.send_bulk(format!("round {round}"), &payload).await.unwrap();
        match soon(heard.recv()).await.unwrap() {
            Heard::Bulk(Role::Control, header, payload) => {
                assert_eq!(header, format!("round {round}"));
                assert!(payload.as_f32().unwrap() == floats.as_slice());
            }
            other => panic!("{other:?}"),
        }
    }
    listener.send_bulk("nothing".to_owned(), &[]).await.unwrap();
    assert!(matches!(soon(heard.recv()).await.unwrap(), Heard::Bulk(_, _, payload) if payload.is_empty()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_without_credit_is_told_so_and_goes_on_when_there_is_some() {
    let pair = pair().await;
    let limits = MailboxLimits { messages: 100, ..MailboxLimits::default() };
    let (_, mut heard, gate) = listen_gated(&pair.node, "slow", limits).await;
    let slow = pair.peer.actor::<Chat>("slow");
    let mut sent = 0;
    let waits = loop {
        match slow.try_cast(Say::Number(sent)) {
            Ok(()) => sent += 1,
            // The first window is small until the peer has answered.
            Err(RemoteError::Busy { .. }) if sent < 100 => tokio::time::sleep(Duration::from_millis(1)).await,
            Err(error) => break error,
        }
        assert!(sent <= 100, "more than the window is under way");
    };
    assert_eq!(waits, RemoteError::Busy { actor: "slow".to_owned() });
    assert!(waits.is_retryable());

    let waiting = tokio::spawn({
        let slow = slow.clone();
        async move { slow.cast(Say::Number(sent)).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waiting.is_finished(), "a cast without credit waits");
    gate.add_permits(200);
    soon(waiting).await.unwrap().unwrap();
    for expected in 0..=100 {
        assert!(matches!(soon(heard.recv()).await.unwrap(), Heard::Number(_, number) if number == expected));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_actor_that_takes_nothing_blocks_only_its_own_senders() {
    let pair = pair().await;
    let limits = MailboxLimits { messages: 16, bulk_bytes: 1 << 20 };
    let (_, _heard, _gate) = listen_gated(&pair.node, "stuck", limits).await;
    let _listener = listen(&pair.node, "listener").await;
    let stuck = pair.peer.actor::<Chat>("stuck");
    let payload = [BulkSlice::from_vec(Arc::new(vec![1.0; 1 << 17]))];
    let senders: Vec<_> = (0..8)
        .map(|number| {
            let (stuck, payload) = (stuck.clone(), payload.clone());
            tokio::spawn(async move {
                loop {
                    stuck.cast(Say::Number(number)).await.unwrap();
                    stuck.send_bulk(String::new(), &payload).await.unwrap();
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let listener = pair.peer.actor::<Chat>("listener");
    for number in 0..100 {
        assert_eq!(listener.call(Ask::Double(number), SOON).await.unwrap(), Answer::Number(2 * number));
        listener.send_bulk(String::new(), &payload).await.unwrap();
    }
    assert!(senders.iter().all(|sender| !sender.is_finished()));
    senders.iter().for_each(|sender| sender.abort());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_waits_for_room_and_is_refused_where_it_can_never_fit() {
    let pair = pair().await;
    let limits = MailboxLimits { messages: 100, bulk_bytes: 1 << 20 };
    let (_, mut heard, gate) = listen_gated(&pair.node, "small", limits).await;
    gate.add_permits(100);
    let small = pair.peer.actor::<Chat>("small");
    let too_large = [BulkSlice::from_vec(Arc::new(vec![0.0; (1 << 18) + 1]))];
    let error = small.send_bulk(String::new(), &too_large).await.unwrap_err();
    assert_eq!(error, RemoteError::TooLarge { length: (1 << 20) + 4, limit: 1 << 20 });

    let half = [BulkSlice::from_vec(Arc::new(vec![0.5; 1 << 17]))];
    small.send_bulk("first".to_owned(), &half).await.unwrap();
    small.send_bulk("second".to_owned(), &half).await.unwrap();
    let third = tokio::spawn({
        let (small, half) = (small.clone(), half.clone());
        async move { small.send_bulk("third".to_owned(), &half).await }
    });
    let held = (soon(heard.recv()).await.unwrap(), soon(heard.recv()).await.unwrap());
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!third.is_finished(), "both payloads are still held");
    drop(held);
    soon(third).await.unwrap().unwrap();
    assert!(matches!(soon(heard.recv()).await.unwrap(), Heard::Bulk(_, header, _) if header == "third"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_whose_sender_stops_waiting_still_arrives() {
    let pair = pair().await;
    let (_, mut heard) = listen(&pair.node, "listener").await;
    let listener = pair.peer.actor::<Chat>("listener");
    listener.call(Ask::Double(1), SOON).await.unwrap();
    let floats: Arc<Vec<f32>> = Arc::new(vec![0.25; 32 << 20]);
    let payload = [BulkSlice::from_vec(floats.clone())];
    // More than the windows hold, so this is given up in the middle.
    let given_up =
        tokio::time::timeout(Duration::from_millis(5), listener.send_bulk("given up".to_owned(), &payload)).await;
    assert!(given_up.is_err());
    match soon(heard.recv()).await.unwrap() {
        Heard::Bulk(_, _, payload) => assert!(payload.as_f32().unwrap() == floats.as_slice()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_arrives_although_its_reference_is_gone_and_gives_its_channel_back() {
    let pair = pair_with(NodeConfig { bulk_bytes_per_peer: 8 << 20, ..NodeConfig::default() }).await;
    let limits = MailboxLimits { messages: 16, bulk_bytes: 2 << 20 };
    let (_, mut heard, gate) = listen_gated(&pair.node, "listener", limits).await;
    gate.add_permits(Semaphore::MAX_PERMITS / 2);
    let floats: Arc<Vec<f32>> = Arc::new((0..300_000).map(|number| number as f32).collect());
    // More often than a peer may have channels open, and than its budget has room for: each one is given back.
    for round in 0..5_000 {
        let floats = if round % 100 == 0 { floats.clone() } else { Arc::new(vec![1.0; round % 3]) };
        let payload = [BulkSlice::from_vec(floats.clone())];
        pair.peer.actor::<Chat>("listener").send_bulk(round.to_string(), &payload).await.unwrap();
        match soon(heard.recv()).await.unwrap() {
            Heard::Bulk(_, header, payload) => {
                assert_eq!(header, round.to_string());
                assert!(payload.as_f32().unwrap() == floats.as_slice());
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_actor_that_parts_from_its_senders_still_gets_what_they_sent() {
    let pair = pair().await;
    let (sender, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let gate = Arc::new(Semaphore::new(0));
    let (actor, _) = Actor::spawn(None, Listener { heard: sender, gate: gate.clone() }, ()).await.unwrap();
    let registration = pair.node.register::<Chat, _>("listener", actor, Access::only(|_| true)).unwrap();
    let listener = pair.peer.actor::<Chat>("listener");
    listener.opened().await.unwrap();
    let mut sent = 0;
    let refused = loop {
        match listener.try_cast(Say::Number(sent)) {
            Ok(()) => sent += 1,
            Err(RemoteError::Busy { .. }) => tokio::time::sleep(Duration::from_millis(1)).await,
            Err(refused) => break refused,
        }
        if sent == 10 {
            registration.close();
        }
    };
    assert_eq!(refused, RemoteError::NoSuchActor { actor: "listener".to_owned() });
    assert!(!registration.is_quiet(), "{sent} messages wait");
    gate.add_permits(Semaphore::MAX_PERMITS / 2);
    for expected in 0..sent {
        assert!(matches!(soon(heard.recv()).await.unwrap(), Heard::Number(_, number) if number == expected));
    }
    while !registration.is_quiet() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(heard.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_answered_while_bulk_is_under_way() {
    let pair = pair().await;
    let (_, mut heard) = listen(&pair.node, "sink").await;
    let _listener = listen(&pair.node, "listener").await;
    let pushing = tokio::spawn({
        let sink = pair.peer.actor::<Chat>("sink");
        async move {
            let payload = [BulkSlice::from_vec(Arc::new(vec![0.5; 16 << 20]))];
            for _ in 0..4 {
                sink.send_bulk(String::new(), &payload).await.unwrap();
            }
        }
    });
    let drain = tokio::spawn(async move { while heard.recv().await.is_some() {} });
    let listener = pair.peer.actor::<Chat>("listener");
    let mut answered = 0;
    while !pushing.is_finished() {
        assert_eq!(listener.call(Ask::Double(answered), SOON).await.unwrap(), Answer::Number(2 * answered));
        answered += 1;
    }
    pushing.await.unwrap();
    assert!(answered >= 10, "256 MiB were pushed during {answered} calls");
    drain.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_for_an_unknown_actor_are_refused_until_it_is_there() {
    let pair = pair().await;
    let late = pair.peer.actor::<Chat>("late");
    let no_such_actor = RemoteError::NoSuchActor { actor: "late".to_owned() };
    assert_eq!(late.call(Ask::Double(1), SOON).await, Err(no_such_actor.clone()));
    assert_eq!(late.cast(Say::Number(1)).await, Err(no_such_actor.clone()));
    assert_eq!(late.send_bulk(String::new(), &[]).await, Err(no_such_actor));
    let _listener = listen(&pair.node, "late").await;
    assert_eq!(late.call(Ask::Double(1), SOON).await, Ok(Answer::Number(2)));
    assert_eq!(late.cast(Say::Number(1)).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_actor_lets_in_only_whom_it_names() {
    let pair = pair().await;
    let (actor, _) = listen(&pair.node, "for all").await;
    pair.node.register::<Chat, _>("for nobody", actor.clone(), Access::default()).unwrap();
    pair.node.register::<Chat, _>("for job 2", actor.clone(), Access::workers_of(JobId::new(2))).unwrap();
    let worker_node = start(&pair.ca, worker(5));
    let from_worker = worker_node.connect(pair.node.local_addr(), pair.node.role()).await.unwrap();
    let ask = async |peer: &neap_runtime::Peer, name: &str| peer.actor::<Chat>(name).call(Ask::Double(1), SOON).await;
    let forbidden = |actor: &str| Err(RemoteError::Forbidden { actor: actor.to_owned() });
    assert_eq!(ask(&pair.peer, "for nobody").await, forbidden("for nobody"));
    assert_eq!(ask(&from_worker, "for nobody").await, forbidden("for nobody"));
    assert_eq!(ask(&pair.peer, "for job 2").await, forbidden("for job 2"));
    assert_eq!(ask(&from_worker, "for job 2").await, Ok(Answer::Number(2)));
    assert!(matches!(pair.peer.watch("for job 2").await, Err(RemoteError::Forbidden { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reference_with_another_protocol_is_refused() {
    let pair = pair().await;
    let _listener = listen(&pair.node, "listener").await;
    let error = pair.peer.actor::<Other>("listener").call(1, SOON).await.unwrap_err();
    assert_eq!(error.to_string(), "actor `listener` speaks chat, not other");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_get_no_answer_say_why() {
    let pair = pair().await;
    let (_, _heard, gate) = listen_gated(&pair.node, "listener", MailboxLimits::default()).await;
    let listener = pair.peer.actor::<Chat>("listener");
    let short = Duration::from_millis(20);
    assert_eq!(listener.call(Ask::Double(1), short).await, Err(RemoteError::Timeout(short)));
    gate.add_permits(Semaphore::MAX_PERMITS / 2);
    assert_eq!(listener.call(Ask::Never, SOON).await, Err(RemoteError::NoReply));
    let error = listener.call(Ask::AnswerOf(2 << 20), SOON).await.unwrap_err();
    assert!(matches!(error, RemoteError::TooLarge { .. }), "{error}");
    let error = listener.call(Ask::Bytes(vec![0; 2 << 20]), SOON).await.unwrap_err();
    assert!(matches!(error, RemoteError::TooLarge { .. }), "{error}");
    let nearly = vec![7; (1 << 20) - 64];
    assert_eq!(listener.call(Ask::Bytes(nearly.clone()), SOON).await, Ok(Answer::Bytes(nearly)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_actor_that_is_no_longer_registered_is_no_longer_there() {
    let pair = pair().await;
    let (actor, _) = listen(&pair.node, "listener").await;
    let registration = pair.node.register::<Chat, _>("alias", actor.clone(), Access::control()).unwrap();
    assert!(pair.node.register::<Chat, _>("alias", actor.clone(), Access::control()).is_err(), "the name is taken");
    let alias = pair.peer.actor::<Chat>("alias");
    assert_eq!(alias.call(Ask::Double(1), SOON).await, Ok(Answer::Number(2)));
    registration.unregister();
    assert!(matches!(alias.call(Ask::Double(1), SOON).await, Err(RemoteError::NoSuchActor { .. })));
    let _again = pair.node.register::<Chat, _>("alias", actor, Access::control()).unwrap();
    assert_eq!(alias.call(Ask::Double(3), SOON).await, Ok(Answer::Number(6)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_actor_is_found_again_by_the_same_reference() {
    let pair = pair().await;
    let (first, _) = listen(&pair.node, "listener").await;
    let listener = pair.peer.actor::<Chat>("listener");
    assert_eq!(listener.call(Ask::Double(1), SOON).await, Ok(Answer::Number(2)));
    first.stop_and_wait(None, None).await.unwrap();
    let _second = listen(&pair.node, "listener").await;
    assert_eq!(listener.call(Ask::Double(2), SOON).await, Ok(Answer::Number(4)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bulk_budget_of_a_peer_is_shared_by_its_channels() {
    let pair = pair_with(NodeConfig { bulk_bytes_per_peer: 3 << 20, ..NodeConfig::default() }).await;
    let limits = MailboxLimits { messages: 16, bulk_bytes: 2 << 20 };
    let _first = listen_gated(&pair.node, "first", limits).await;
    let _second = listen_gated(&pair.node, "second", limits).await;
    let (first, second) = (pair.peer.actor::<Chat>("first"), pair.peer.actor::<Chat>("second"));
    let two_mib = [BulkSlice::from_vec(Arc::new(vec![0.0; 1 << 19]))];
    first.send_bulk(String::new(), &two_mib).await.unwrap();
    let error = second.send_bulk(String::new(), &two_mib).await.unwrap_err();
    assert_eq!(error, RemoteError::TooLarge { length: 2 << 20, limit: 1 << 20 });
}

#[tokio::test]
async fn a_port_in_use_is_a_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let ca = common::authority(dir.path());
    let first = start(&ca, Role::Control);
    let identity = ca.issue(Role::Control).unwrap();
    let error = neap_runtime::Node::start(&identity, first.local_addr(), NodeConfig::default()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&first.local_addr().to_string()) && text.contains("choose another port"), "{text}");
    assert_ne!(loopback(), first.local_addr());
}
