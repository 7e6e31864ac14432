//! Actors on nodes that are named, and what happens when a node has to go.

use std::time::Duration;

use neap_runtime::system::{Context, Exit, Handle, NodeFault, OnFailure, Placement, SpawnError};
use neap_scheduler::model::{NodeId, WorkerId};
use serde_json::Value;

use crate::cast::{Ask, Counter, SOON, Tell, await_lines, log, logged};
use crate::job::{Job, node};
use crate::{counter, parent, program};

/// Longer than a test waits for anything.
const LONG_MS: u64 = 15_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_actor_runs_on_the_node_that_is_named_or_nowhere() {
    fn fault(started: Result<Handle<Counter>, SpawnError>) -> NodeFault {
        match started.unwrap_err() {
            SpawnError::Node { fault, .. } => fault,
            other => panic!("{other}"),
        }
    }
    let main = move |context: Context| async move {
        assert_eq!(context.nodes(), [node(0), node(1), node(2)]);
        assert_eq!(context.node(), Some(node(0)));
        let there = counter(&context, "there", Placement::Node(node(1)), "named").await?;
        assert_eq!(there.call(&Ask::Worker, SOON).await?, 2);
        let unknown = counter(&context, "nowhere", Placement::Node(NodeId::new(99)), "named").await.unwrap_err();
        let text =
            "`nowhere` cannot be started on n99: no worker of the job runs there; the job has workers on n11, n12, n13";
        assert_eq!(unknown.to_string(), text);
        log("named-main", "kill the second");
        // It is lost with its node: there is no other of that name.
        assert!(matches!(there.ended().await?, Exit::Failed(_)));
        assert_eq!(fault(counter(&context, "lost", Placement::Node(node(1)), "named").await), NodeFault::Lost);
        log("named-main", "take the third back");
        loop {
            match counter(&context, "leaves", Placement::Node(node(2)), "named").await {
                Ok(early) => context.stop_child(&early, SOON).await,
                late => {
                    assert_eq!(fault(late), NodeFault::Leaves);
                    return Ok(Value::Null);
                }
            }
        }
    };
    let mut job = Job::start(program(main), "main", &[], 3).await;
    await_lines("named-main", 1).await;
    job.kill(1).await;
    job.regroup(&[0, 2], 0).await;
    await_lines("named-main", 2).await;
    job.notice(2, LONG_MS).await;
    assert_eq!(job.ended(0).await.unwrap(), "null");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_actor_of_a_node_that_goes_saves_and_moves_and_no_message_is_lost() {
    let main = |context: Context| async move {
        let one = counter(&context, "one", Placement::Spread, "first").await?;
        let moved = counter(&context, "moved", Placement::Spread, "moved").await?;
        assert_eq!([one.call(&Ask::Worker, SOON).await?, moved.call(&Ask::Worker, SOON).await?], [1, 2]);
        let watcher = counter(&context, "watcher", Placement::On(WorkerId::new(3)), "moved-watcher").await?;
        watcher.call(&Ask::Tell(moved.clone()), SOON).await?;
        // Senders without a pause, over the whole move.
        let mut senders = Vec::new();
        for _ in 0..4 {
            let moved = moved.clone();
            senders.push(tokio::spawn(async move {
                let mut sent = 0u64;
                while logged("moved").iter().filter(|line| line.starts_with("start")).count() < 2 || sent < 2_000 {
                    moved.send(&Tell::Keep(1)).await.unwrap();
                    sent += 1;
                }
                sent
            }));
        }
        log("moved-main", "take it back");
        let mut sent = 0;
        for sender in senders {
            sent += sender.await?;
        }
        // The watcher knew the old place only, and has not used it since: nothing that it sends is lost, either.
        watcher.call(&Ask::Tell(moved.clone()), SOON).await?;
        sent += 1;
        let count = moved.call(&Ask::Count, SOON).await?;
        assert_eq!(count, sent + 1, "messages were lost, or handled twice");
        assert_ne!(moved.call(&Ask::Worker, SOON).await?, 2);
        Ok(Value::Null)
    };
    let mut job = Job::start(program(main), "main", &[], 3).await;
    await_lines("moved-main", 1).await;
    job.notice(1, LONG_MS).await;
    job.vacated(1).await;
    job.regroup(&[0, 2], 0).await;
    job.ended(0).await.unwrap();
    let lines = logged("moved");
    // Heard at once, and once more as the last thing; not stopped, because it goes on.
    let notices = lines.iter().filter(|line| line.starts_with("notice main/moved")).count();
    assert_eq!(notices, 2, "{lines:?}");
    assert_eq!(lines.iter().filter(|line| *line == "stop main/moved").count(), 1, "{lines:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn children_begin_anew_with_the_parent_that_moves_and_a_pinned_actor_only_hears_of_it() {
    let main = move |context: Context| async move {
        counter(&context, "one", Placement::Spread, "family-one").await?;
        // Where the fewest actors are, on the second worker; its child starts on the first.
        let moving = parent(&context, "family", Placement::Spread, OnFailure::Restart).await?;
        let first = moving.call(&(), SOON).await?;
        let pinned = counter(&context, "pinned", Placement::On(WorkerId::new(2)), "pinned").await?;
        pinned.send(&Tell::Keep(7)).await?;
        log("family-main", "up");
        await_lines("family-main", 2).await;
        let second = moving.call_repeatable(&(), SOON).await?;
        assert_ne!(first, second);
        assert_eq!(pinned.call(&Ask::Count, SOON).await?, 7, "it goes on as long as its node does");
        Ok(second.address().supervisor().number().into())
    };
    let mut job = Job::start(program(main), "main", &[], 3).await;
    await_lines("family-main", 1).await;
    job.notice(1, LONG_MS).await;
    job.vacated(1).await;
    assert_eq!(logged("pinned"), ["start main/pinned", "notice main/pinned at 7"]);
    log("family-main", "moved");
    assert_eq!(job.ended(0).await.unwrap(), "3");
    let starts = logged("family").into_iter().filter(|line| line.starts_with("start")).collect::<Vec<_>>();
    let (child, parent) = ("start main/parent/child", "start main/parent");
    assert_eq!(starts, [child, parent, child, parent]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lead_that_goes_waits_for_the_main_function_to_save() {
    let main = |mut context: Context| async move {
        let seen = context.restored::<u64>().await?;
        if let Some(seen) = seen {
            return Ok(serde_json::json!([seen, context.worker().number()]));
        }
        let far = counter(&context, "far", Placement::On(WorkerId::new(2)), "lead-goes").await?;
        far.send(&Tell::Keep(3)).await?;
        log("lead-goes-main", "up");
        let notice = context.notice().await;
        assert!(notice.left() <= Duration::from_millis(LONG_MS));
        log("lead-goes-main", "heard");
        await_lines("lead-goes-main", 3).await;
        context.save(&far.call(&Ask::Count, SOON).await?).await?;
        drop(notice);
        std::future::pending().await
    };
    let mut job = Job::start(program(main), "main", &[], 2).await;
    await_lines("lead-goes-main", 1).await;
    job.notice(0, LONG_MS).await;
    await_lines("lead-goes-main", 2).await;
    // What the lead supervises has heard as well, where it runs: it ends with its supervisor.
    await_lines("lead-goes", 2).await;
    assert_eq!(logged("lead-goes"), ["start main/far", "notice main/far at 3"]);
    assert!(!job.has_vacated(0), "the main function has not saved yet");
    log("lead-goes-main", "save");
    job.vacated(0).await;
    job.regroup(&[1], 1).await;
    assert_eq!(job.ended(1).await.unwrap(), "[3,2]");
}
