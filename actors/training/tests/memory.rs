//! A long training needs no more memory at its end than near its beginning: server, replica, trainers and all.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cluster;

use cluster::Cluster;
use neap_runtime::wire::training::{Every, Length, Param};
use neap_runtime::wire::worker::WorkerReport;

const STEPS: u64 = 10_000;

/// The first steps fill buffers, caches and the allocator's arenas.
const SETTLED: u64 = 1_000;

/// What memory may grow by. A gradient a step that is not given back would come to 300 MiB.
const GROWTH_MAX_MIB: u64 = 24;

/// Memory of this process that is not swapped out.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_does_not_grow_over_ten_thousand_steps() {
    let mut cluster = Cluster::new();
    let launch = &mut cluster.launch;
    launch.params.push(("optimizer".to_owned(), Param::Text("adam".to_owned())));
    (launch.global_batch, launch.logical_shards) = (4, 2);
    launch.length = Length::Steps(STEPS);
    launch.checkpoint_every = Every::Steps(500);
    launch.eval_data = None;
    (launch.replicas, cluster.replicas) = (1, 1);
    let carriers = cluster.start_workers(2);
    cluster.regroup(&carriers, 0, None).await;
    cluster.await_step(0, SETTLED).await;
    let before = resident_mib();
    let (mut most, mut steps) = (before, SETTLED);
    while steps < STEPS {
        steps = cluster
            .await_report(0, |report| match report {
                WorkerReport::Progress(progress) => Some(progress.step),
                _ => None,
            })
            .await;
        most = most.max(resident_mib());
    }
    println!("{before} MiB after {SETTLED} steps, at most {most} MiB until step {STEPS}");
    assert!(most <= before + GROWTH_MAX_MIB, "{before} MiB after {SETTLED} steps, {most} MiB later");
}
