//! Own actors over several workers: found, bounded, supervised, moved, ended in order.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests, too")]

mod cast;
mod job;
mod leaving;
mod supervised;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cast::{Ask, Counter, Parent, SENT, SOON, Tell, await_lines, log, logged};
use job::{JOB, Job};
use neap_runtime::system::{
    ActorError, Context, Exit, Fault, Handle, OnFailure, Placement, Program, STREAM_ITEMS_MAX, Spawn, SpawnError,
};
use neap_runtime::wire::actors::{ACTOR_HOST_ACTOR, ActorHostProtocol, HostCall, HostReply, HostRequest, Incarnation};
use neap_runtime::{Node, NodeConfig, RemoteError, Role};
use neap_scheduler::model::{MembershipEpoch, WorkerId};
use serde_json::Value;

/// A program with one main function.
fn program<F>(main: impl Fn(Context) -> F + Send + Sync + 'static) -> Program
where
    F: Future<Output = Result<Value, Fault>> + Send + 'static,
{
    let main = std::sync::Arc::new(main);
    Program::default().actor::<Counter>().actor::<Parent>().main("main", move |context, _: Value| {
        let main = main.clone();
        async move { main(context).await }
    })
}

async fn counter(context: &Context, name: &str, on: Placement, test: &str) -> Result<Handle<Counter>, SpawnError> {
    context.spawn(Spawn::named(name).on(on), &test.to_owned()).await
}

async fn parent(
    context: &Context,
    test: &str,
    on: Placement,
    on_failure: OnFailure,
) -> Result<Handle<Parent>, SpawnError> {
    context.spawn(Spawn::named("parent").on(on), &(test.to_owned(), on_failure)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn actors_are_spread_over_the_workers_and_found_from_everywhere() {
    let main = |context: Context| async move {
        let mut counters = Vec::new();
        for number in 0..6 {
            let one = counter(&context, &format!("c{number}"), Placement::Spread, "spread").await?;
            one.send(&Tell::Add(number)).await?;
            counters.push(one);
        }
        let mut places = BTreeMap::new();
        for one in &counters {
            *places.entry(one.call(&Ask::Worker, SOON).await?.to_string()).or_insert(0) += 1;
        }
        // Through a handle that travelled in a message, from one worker to another, of an actor on a third.
        let mut sum = 0;
        for (number, one) in counters.iter().enumerate() {
            let other = counters[(number + 1) % counters.len()].clone();
            sum += one.call(&Ask::CountOf(other), SOON).await?;
        }
        Ok(serde_json::json!({ "places": places, "sum": sum }))
    };
    let mut job = Job::start(program(main), "main", &[], 3).await;
    assert_eq!(job.ended(0).await.unwrap(), r#"{"places":{"1":2,"2":2,"3":2},"sum":15}"#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_actor_of_a_lost_worker_goes_on_elsewhere_with_its_saved_state() {
    let main = |context: Context| async move {
        let one = counter(&context, "one", Placement::Spread, "lost-0").await?;
        let two = counter(&context, "two", Placement::Spread, "lost").await?;
        assert_ne!(one.call(&Ask::Worker, SOON).await?, 2);
        assert_eq!(two.call(&Ask::Worker, SOON).await?, 2);
        two.send(&Tell::Add(40)).await?;
        log("lost-main", format!("count {}", two.call(&Ask::Count, SOON).await?));
        // The worker is killed while this waits: asked again until the new incarnation answers.
        while two.call_repeatable(&Ask::Worker, SOON).await? == 2 {}
        two.send(&Tell::Add(2)).await?;
        Ok(two.call(&Ask::Count, SOON).await?.into())
    };
    let mut job = Job::start(program(main), "main", &[], 3).await;
    await_lines("lost-main", 1).await;
    job.kill(1).await;
    job.regroup(&[0, 2], 0).await;
    assert_eq!(job.ended(0).await.unwrap(), "42");
    assert_eq!(logged("lost").iter().filter(|line| line.starts_with("start")).count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_keeps_the_messages_that_wait_and_tries_its_own_again() {
    let main = |context: Context| async move {
        let one = counter(&context, "one", Placement::Any, "stumble").await?;
        one.send(&Tell::Add(1)).await?;
        one.send(&Tell::Stumble(2)).await?;
        one.send(&Tell::Add(4)).await?;
        Ok(one.call(&Ask::Count, SOON).await?.into())
    };
    let mut job = Job::start(program(main), "main", &[], 1).await;
    assert_eq!(job.ended(0).await.unwrap(), "7");
    let path = "start main/one";
    let stop = "stop main/one";
    assert_eq!(logged("stumble"), [path, "add 1", path, "add 2 after a stumble", "add 4", stop]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_is_a_dead_letter_after_three_crashes_and_others_are_not_touched() {
    let main = |context: Context| async move {
        let one = counter(&context, "one", Placement::On(WorkerId::new(2)), "poison").await?;
        let two = counter(&context, "two", Placement::On(WorkerId::new(2)), "poison-2").await?;
        one.send(&Tell::Add(1)).await?;
        let refused = one.call(&Ask::Poison, SOON).await.unwrap_err();
        assert!(
            matches!(&refused, ActorError::DeadLetter { why, .. } if why.contains("no answer to that")),
            "{refused}"
        );
        one.send(&Tell::Add(2)).await?;
        let letters = two.call(&Ask::DeadLetters, SOON).await?;
        Ok(serde_json::json!([one.call(&Ask::Count, SOON).await?, letters]))
    };
    let mut job = Job::start(program(main), "main", &[], 2).await;
    assert_eq!(job.ended(0).await.unwrap(), "[3,1]");
    // The first life, and one after each crash.
    assert_eq!(logged("poison").iter().filter(|line| line.starts_with("start")).count(), 4);
    assert_eq!(logged("poison-2").iter().filter(|line| line.starts_with("start")).count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_storm_fails_the_parent_once_and_a_storm_below_main_fails_the_job() {
    let main = |context: Context| async move {
        let parent: Handle<Parent> = parent(&context, "storm", Placement::Any, OnFailure::Restart).await?;
        // Three crashes each: the second message is one too many.
        parent.send(&Tell::Poison(1)).await?;
        parent.send(&Tell::Poison(2)).await?;
        await_lines("storm", 10).await;
        let child = parent.call(&(), SOON).await?;
        child.send(&Tell::Add(5)).await?;
        assert_eq!(child.call(&Ask::Count, SOON).await?, 5);
        log("storm-main", "recovered");
        let own = counter(&context, "own", Placement::Any, "storm-own").await?;
        own.send(&Tell::Poison(1)).await?;
        own.send(&Tell::Poison(2)).await?;
        std::future::pending::<()>().await;
        Ok(Value::Null)
    };
    let mut job = Job::start(program(main), "main", &[], 1).await;
    let why = job.ended(0).await.unwrap_err();
    assert_eq!(why, "its child `own` failed for good: panicked: poison 2");
    let lines = logged("storm");
    // Its child starts six times, then the parent begins anew once, with a new child.
    assert_eq!(lines.iter().filter(|line| *line == "start main/parent").count(), 2, "{lines:?}");
    assert_eq!(lines.iter().filter(|line| *line == "start main/parent/child").count(), 7, "{lines:?}");
    assert_eq!(logged("storm-main"), ["recovered"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_mailbox_is_busy_and_senders_wait_no_longer_than_they_say() {
    let main = |context: Context| async move {
        for worker in context.workers() {
            let test = format!("full-{worker}");
            let spawn = Spawn::named(worker.to_string()).on(Placement::On(worker)).mailbox(16);
            let one: Handle<Counter> = context.spawn(spawn, &test).await?;
            // Where it is, is looked for by the first message that waits.
            one.send(&Tell::Sleep(1_000)).await?;
            await_lines(&test, 2).await;
            let mut sent = 0;
            let busy = loop {
                match one.try_send(&Tell::Add(1)) {
                    Ok(()) => sent += 1,
                    Err(busy) => break busy,
                }
            };
            assert!(matches!(busy, ActorError::Busy(_)), "{busy}");
            assert_eq!(sent, 15, "on {worker}: one of 16 is being handled");
            let late = Duration::from_millis(50);
            assert_eq!(one.send_deadline(&Tell::Add(1), late).await, Err(ActorError::Timeout(late)));
            // A sender that waits for room and gives up has sent nothing.
            assert!(tokio::time::timeout(late, one.send(&Tell::Add(1))).await.is_err());
            one.send_deadline(&Tell::Add(10), SOON).await?;
            assert_eq!(one.call(&Ask::Count, SOON).await?, 25);
        }
        Ok(Value::Null)
    };
    let mut job = Job::start(program(main), "main", &[], 2).await;
    job.ended(0).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_no_further_ahead_of_its_reader_than_it_may_be() {
    let main = |context: Context| async move {
        let one = counter(&context, "one", Placement::On(WorkerId::new(2)), "stream").await?;
        let whole = one.stream(&Ask::Numbers(10_000), SOON).await?.collect().await?;
        assert!(whole.into_iter().eq(0..10_000));
        SENT.store(0, Ordering::Relaxed);
        let mut slow = one.stream(&Ask::Numbers(1_000_000), SOON).await?;
        for number in 0..10 {
            assert_eq!(slow.next().await?, Some(number));
        }
        // A call goes through the actor behind whatever it is doing, so that the stream had its chance to run ahead.
        for _ in 0..50 {
            one.call(&Ask::Count, SOON).await?;
        }
        let sent = SENT.load(Ordering::Relaxed);
        assert!(sent <= 10 + 2 * STREAM_ITEMS_MAX, "{sent} items are on their way to a reader that took 10");
        drop(slow);
        assert_eq!(await_lines("streams", 1).await, ["reader gone"]);
        Ok(Value::Null)
    };
    let mut job = Job::start(program(main), "main", &[], 2).await;
    job.ended(0).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_in_order_handles_what_waits_then_children_then_parents() {
    let main = |context: Context| async move {
        let parent: Handle<Parent> = parent(&context, "order", Placement::Any, OnFailure::Restart).await?;
        let child = parent.call(&(), SOON).await?;
        child.send(&Tell::Sleep(100)).await?;
        child.send(&Tell::Add(1)).await?;
        parent.send(&Tell::Add(2)).await?;
        context.stop_child(&parent, SOON).await;
        assert_eq!(parent.ended().await?, Exit::Stopped);
        let gone = child.call(&Ask::Count, SOON).await.unwrap_err();
        assert!(matches!(gone, ActorError::Ended { exit: Exit::Stopped | Exit::SupervisorLost, .. }), "{gone}");
        Ok(Value::Null)
    };
    let mut job = Job::start(program(main), "main", &[], 2).await;
    job.ended(0).await.unwrap();
    let expected = [
        "start main/parent/child",
        "start main/parent",
        "asleep",
        "add 1",
        "add 2",
        "stop main/parent/child",
        "stop main/parent",
    ];
    assert_eq!(logged("order"), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_main_function_of_a_lost_lead_runs_again_with_what_it_saved() {
    let main = |mut context: Context| async move {
        let runs = context.restored::<u64>().await?.unwrap_or_default() + 1;
        context.save(&runs).await?;
        let one = counter(&context, "one", Placement::On(context.worker()), "lead").await?;
        one.send(&Tell::Add(1)).await?;
        let count = one.call(&Ask::Count, SOON).await?;
        log("lead-main", format!("run {runs} on {}", context.worker()));
        if runs == 1 {
            std::future::pending::<()>().await;
        }
        Ok(serde_json::json!([runs, count]))
    };
    let mut job = Job::start(program(main), "main", &[], 3).await;
    await_lines("lead-main", 1).await;
    job.kill(0).await;
    job.regroup(&[1, 2], 1).await;
    assert_eq!(job.ended(1).await.unwrap(), "[2,2]");
    assert_eq!(logged("lead-main"), ["run 1 on w1", "run 2 on w2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_started_says_why() {
    let main = |context: Context| async move {
        let one = counter(&context, "one", Placement::Any, "refused").await?;
        let taken = counter(&context, "one", Placement::Any, "refused").await.unwrap_err();
        assert_eq!(taken.to_string(), "there is a child `one` already");
        let nowhere = counter(&context, "two", Placement::On(WorkerId::new(9)), "refused").await.unwrap_err();
        assert_eq!(nowhere.to_string(), "there is no worker to start `two` on");
        let name = counter(&context, "No/name", Placement::Any, "refused").await.unwrap_err();
        assert!(matches!(name, SpawnError::BadName(_)), "{name}");
        // A child that is not to be started again is gone with its first failure, and the others stay.
        let spawn = Spawn::named("once").on_failure(OnFailure::Stop);
        let once: Handle<Counter> = context.spawn(spawn, &"refused".to_owned()).await?;
        once.send(&Tell::Poison(7)).await?;
        assert_eq!(once.ended().await?, Exit::Failed("panicked: poison 7".to_owned()));
        // A message may still get into the mailbox of one that is just ending; soon there is none.
        while !matches!(once.send(&Tell::Add(1)).await, Err(ActorError::Ended { .. })) {}
        one.send(&Tell::Add(1)).await?;
        Ok(one.call(&Ask::Count, SOON).await?.into())
    };
    let mut job = Job::start(program(main), "main", &[], 2).await;
    assert_eq!(job.ended(0).await.unwrap(), "1");
    let mut unknown = Job::start(program(|_| async { Ok(Value::Null) }), "mian", &[], 1).await;
    assert_eq!(unknown.ended(0).await.unwrap_err(), "there is no main function `mian`; there is: main");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_in_the_membership_or_has_an_old_one_is_not_heard() {
    let mut job = Job::start(program(|_| async { std::future::pending().await }), "main", &[], 2).await;
    job.regroup(&[0, 1], 0).await;
    let stranger = Role::Worker { job: JOB, worker: WorkerId::new(9) };
    let identity = job.authority.issue(stranger).unwrap();
    let node = Node::start(&identity, ([127, 0, 0, 1], 0).into(), NodeConfig::default()).unwrap();
    let role = Role::Worker { job: JOB, worker: job.workers[0].id };
    let peer = node.connect(job.workers[0].addr, role).await.unwrap();
    let host = peer.actor::<ActorHostProtocol>(ACTOR_HOST_ACTOR);
    let call = HostCall { epoch: MembershipEpoch(9), request: HostRequest::Locate { child: 1 } };
    assert!(matches!(host.call(call, SOON).await, Err(RemoteError::Forbidden { .. })));

    let member = Role::Worker { job: JOB, worker: job.workers[1].id };
    let identity = job.authority.issue(member).unwrap();
    let node = Node::start(&identity, ([127, 0, 0, 1], 0).into(), NodeConfig::default()).unwrap();
    let peer = node.connect(job.workers[0].addr, role).await.unwrap();
    let host = peer.actor::<ActorHostProtocol>(ACTOR_HOST_ACTOR);
    let ask = |epoch| HostCall { epoch: MembershipEpoch(epoch), request: HostRequest::Locate { child: 1 } };
    while host.call(ask(1), SOON).await != Ok(HostReply::Stale(MembershipEpoch(2))) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(host.call(ask(2), SOON).await, Ok(HostReply::Gone(None)));
    let of = Incarnation { home: WorkerId::new(9), child: 1, incarnation: 1 };
    let foreign = HostCall { epoch: MembershipEpoch(2), request: HostRequest::Stop { of, grace_ms: 0 } };
    assert!(matches!(host.call(foreign, SOON).await, Ok(HostReply::Refused(_))));
}
