//! How long training stands still when its membership changes: the time between the last commit before and the first one
//! after, as the servers measure it. The table is the point: `cargo test --test training pauses -- --nocapture`. What is
//! asserted is the protocol's own limit with a slack for a busy machine.

use std::cell::Cell;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::{Cluster, Digits, carrying, pid};
use crate::support::kill;

/// What a change may cost beside the step that it interrupts, and what a worker that falls silent costs beside that.
const CHANGE_MS: u64 = 500;
const SILENCE_MS: u64 = 3_000;

/// What is on top on a machine that compiles and tests at the same time.
const SLACK_MS: u64 = 10_000;

/// A pause is in the report after it, and those come four times a second.
const REPORTED: Duration = Duration::from_millis(700);

const JOB: &str = "paused";

struct Table {
    cluster: Cluster,
    step_ms: u64,
}

impl Table {
    /// The longest pause from now until the job is as wanted, and has told of it.
    fn longest(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> u64 {
        let (longest, so_since) = (Cell::new(0), Cell::new(None::<Instant>));
        self.cluster.wait_for(JOB, what, |job| {
            longest.set(longest.get().max(job["progress"]["pause_ms"].as_u64().unwrap_or(0)));
            so_since.set(wanted(job).then(|| so_since.get().unwrap_or_else(Instant::now)));
            so_since.get().is_some_and(|since| since.elapsed() > REPORTED)
        });
        longest.get()
    }

    /// One line of the table.
    fn change(&self, what: &str, silence_ms: u64, act: impl FnOnce(&Value), wanted: impl Fn(&Value, &Value) -> bool) {
        let before = self.cluster.job(JOB);
        act(&before);
        let pause = self.longest(what, |job| job["state"] == "running" && wanted(&before, job));
        let limit = self.step_ms + CHANGE_MS + silence_ms;
        println!("{what:<44}{pause:>8} ms{limit:>10} ms");
        assert!(pause <= limit + SLACK_MS, "{what}: {pause} ms");
    }
}

fn epoch(job: &Value) -> u64 {
    job["membership_epoch"].as_u64().unwrap()
}

/// Three workers carry the job under a later membership, and the worker of this process is not among them.
fn without(before: &Value, job: &Value, gone: u64) -> bool {
    let workers = carrying(job);
    epoch(job) > epoch(before) && workers.len() == 3 && workers.iter().all(|worker| worker["pid"] != gone)
}

/// The process of a worker that neither serves nor holds the replica, and its node.
fn bystander(job: &Value) -> (u64, String) {
    let plain = |worker: &&&Value| worker["server"] == false && worker["replica"] == false;
    let workers = carrying(job);
    let found = workers.iter().find(plain).unwrap_or_else(|| panic!("no such worker: {job:#}"));
    (found["pid"].as_u64().unwrap(), found["node"].as_str().unwrap().to_owned())
}

/// A process that is there and does nothing.
fn hold(pid: u64) {
    Command::new("kill").args(["-STOP", &pid.to_string()]).status().unwrap();
}

fn node_of(job: &Value, pid: u64) -> String {
    let workers = carrying(job);
    workers.iter().find(|worker| worker["pid"] == pid).unwrap()["node"].as_str().unwrap().to_owned()
}

#[test]
fn pauses_of_a_job_whose_membership_changes() {
    let cluster = Cluster::up();
    cluster.submit(&Digits { epochs: 500_000, replicas: 1, ..Digits::new(JOB, "1..3") });
    let mut table = Table { cluster, step_ms: 0 };
    println!("\n{:<44}{:>11}{:>13}", "change", "pause", "limit");
    let grown = table.longest("three workers", |job| carrying(job).len() == 3);
    table.step_ms = table.longest("some steps", |_| true);
    println!("{:<44}{:>8} ms", "none (the longest step)", table.step_ms);
    println!("{:<44}{grown:>8} ms{:>10} ms", "grow from 1 to 3 workers", table.step_ms + CHANGE_MS);
    let preempt = |node: &str| {
        table.cluster.home.neap(&["node", "preempt", node, "--notice", "2s"]).expect(0);
    };
    let running = table.cluster.job(JOB);
    let (gone, node) = bystander(&running);
    table.change(
        "a worker is preempted with notice, replaced",
        0,
        |_| preempt(&node),
        |old, new| without(old, new, gone),
    );
    let (gone, _) = bystander(&table.cluster.job(JOB));
    table.change("a worker is killed, replaced", 0, |_| kill(gone), |old, new| without(old, new, gone));
    let gone = pid(&table.cluster.job(JOB), true);
    table.change("the server is killed, its replica serves", 0, |_| kill(gone), |old, new| without(old, new, gone));
    let running = table.cluster.job(JOB);
    let gone = pid(&running, true);
    let node = node_of(&running, gone);
    table.change("the server is preempted with notice", 0, |_| preempt(&node), |old, new| without(old, new, gone));
    let (worker, node) = bystander(&table.cluster.job(JOB));
    let nodes = table.cluster.nodes();
    let agent = nodes.iter().find(|one| one["id"] == node.as_str()).unwrap()["pid"].as_u64().unwrap();
    let stop = |_: &Value| [agent, worker].into_iter().for_each(hold);
    table.change("a node falls silent", SILENCE_MS, stop, |old, new| without(old, new, worker));
    [agent, worker].into_iter().for_each(kill);
    table.cluster.home.neap(&["stop", JOB, "--now"]).expect(0);
}
