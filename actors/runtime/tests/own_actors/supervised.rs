//! Supervision and death watch where parent, child and watcher are on different workers, and the end of a whole job.

use neap_runtime::system::{Exit, Handle, OnFailure, Placement, Spawn};
use neap_scheduler::model::WorkerId;
use serde_json::Value;

use crate::cast::{Ask, Parent, SOON, Tell, await_lines, log, logged};
use crate::job::Job;
use crate::{counter, parent, program};

fn on(number: u64) -> Placement {
    Placement::On(WorkerId::new(number))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_elsewhere_that_stops_for_good_is_its_parents_to_know() {
    let main = |context| async move {
        // The parent is on the second worker; its child is the first that it starts, on the oldest worker.
        let parent = parent(&context, "stops", on(2), OnFailure::Stop).await?;
        let child = parent.call(&(), SOON).await?;
        assert_eq!(child.call(&Ask::Worker, SOON).await?, 1);
        child.send(&Tell::Poison(3)).await?;
        assert_eq!(child.ended().await?, Exit::Failed("panicked: poison 3".to_owned()));
        await_lines("stops", 3).await;
        Ok(Value::Null)
    };
    let mut job = Job::start(program(main), "main", &[], 2).await;
    job.ended(0).await.unwrap();
    let expected =
        ["start main/parent/child", "start main/parent", "child failed: panicked: poison 3", "stop main/parent"];
    assert_eq!(logged("stops"), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_failure_of_a_child_elsewhere_fails_its_parent_where_it_escalates() {
    let main = |context| async move {
        let parent = parent(&context, "escalates", on(2), OnFailure::Escalate).await?;
        let first = parent.call(&(), SOON).await?;
        first.send(&Tell::Poison(4)).await?;
        assert!(matches!(first.ended().await?, Exit::Failed(_)));
        // The parent has begun anew, with another child.
        await_lines("escalates", 4).await;
        let second = parent.call_repeatable(&(), SOON).await?;
        assert_ne!(first, second);
        second.send(&Tell::Add(5)).await?;
        Ok(second.call(&Ask::Count, SOON).await?.into())
    };
    let mut job = Job::start(program(main), "main", &[], 2).await;
    assert_eq!(job.ended(0).await.unwrap(), "5");
    let starts: Vec<String> = logged("escalates").into_iter().filter(|line| line.starts_with("start")).collect();
    let (child, parent) = ("start main/parent/child", "start main/parent");
    assert_eq!(starts, [child, parent, child, parent]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_is_told_to_watchers_on_other_workers() {
    let main = |context| async move {
        let stopped = counter(&context, "stopped", on(2), "watch").await?;
        let watcher = counter(&context, "watcher", on(3), "watch").await?;
        // The watcher is on the third worker, the watched on the second, their supervisor here.
        let (one, two) = (watcher.clone(), stopped.clone());
        let watch = tokio::spawn(async move { one.call(&Ask::EndOf(two), SOON).await });
        context.stop_child(&stopped, SOON).await;
        let mut ends = vec![watch.await??];
        let parent = parent(&context, "watch", on(3), OnFailure::Stop).await?;
        let child = parent.call(&(), SOON).await?;
        child.send(&Tell::Poison(1)).await?;
        ends.push(watcher.call(&Ask::EndOf(child), SOON).await?);
        // Its supervisor's worker is lost while it is watched.
        let spawn = Spawn::named("lost").on(on(4)).on_failure(OnFailure::Stop);
        let lost: Handle<Parent> = context.spawn(spawn, &("watch-lost".to_owned(), OnFailure::Restart)).await?;
        let orphan = lost.call(&(), SOON).await?;
        log("watch-main", "lose it");
        ends.push(watcher.call(&Ask::EndOf(orphan), SOON).await?);
        Ok(serde_json::json!(ends))
    };
    let mut job = Job::start(program(main), "main", &[], 4).await;
    await_lines("watch-main", 1).await;
    job.kill(3).await;
    job.regroup(&[0, 1, 2], 0).await;
    assert_eq!(job.ended(0).await.unwrap(), "[0,1,2]");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_stopped_ends_its_actors_in_order() {
    let main = |context| async move {
        let parent = parent(&context, "shutdown", on(2), OnFailure::Restart).await?;
        let child = parent.call(&(), SOON).await?;
        child.send(&Tell::Sleep(100)).await?;
        child.send(&Tell::Add(1)).await?;
        log("shutdown-main", "up");
        std::future::pending::<()>().await;
        Ok(Value::Null)
    };
    let mut job = Job::start(program(main), "main", &[], 3).await;
    await_lines("shutdown-main", 1).await;
    job.stop(0).await;
    let lines = logged("shutdown");
    assert_eq!(lines[2..], ["asleep", "add 1", "stop main/parent/child", "stop main/parent"], "{lines:?}");
}
