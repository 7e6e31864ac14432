//! Workers that do not wait for each other, and workers of unequal speed.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::cluster::{Cluster, Digits, carrying, model, pid, sample_ledger};
use crate::support::kill;

#[test]
fn with_bounded_staleness_a_killed_server_loses_no_sample() {
    const EPOCHS: u32 = 60;
    let cluster = Cluster::up();
    let path = cluster.write(&Digits { epochs: EPOCHS, ..Digits::new("relaxed", "3") });
    let text = std::fs::read_to_string(&path).unwrap();
    let relaxed = text
        .replace("determinism: strict", "determinism: samples")
        .replace("placement: colocated", "consistency: ssp, staleness: 2");
    let path = cluster.file("relaxed.yaml", &relaxed);
    cluster.home.neap(&["run", "-d", "-q", &path]).expect(0);
    cluster.wait_for_workers("relaxed", 3);
    let running = cluster.wait_for_step("relaxed", 100);
    kill(pid(&running, true));
    let ended = cluster.finish("relaxed");
    assert!(ended["recoveries"].as_u64().unwrap() >= 1, "{ended:#}");
    let ledger = sample_ledger(&ended);
    assert_eq!(ledger.len(), EPOCHS as usize);
    assert!(ledger.iter().all(|(samples, _)| *samples == 1_500), "{ended:#}");
    assert!(ended["result"]["eval_accuracy"].as_f64().unwrap() > 0.85, "{ended:#}");
}

#[test]
fn a_slow_worker_gets_fewer_shards_and_the_model_stays_the_same() {
    let job = |name, workers| Digits { epochs: 120, ..Digits::new(name, workers) };
    let cluster = Cluster::up();
    cluster.submit(&job("uneven", "2"));
    cluster.wait_for_workers("uneven", 2);
    let running = cluster.wait_for_step("uneven", 10);
    let slow = pid(&running, false);
    let fewer = |job: &Value| shards(job, slow).is_some_and(|shards| shards < 4);
    while_slowed(slow, || cluster.wait_for("uneven", "fewer shards for the slow worker", fewer));
    let why = cluster.home.neap(&["explain", "uneven"]).expect(0).stdout;
    assert!(why.contains("shards are dealt by speed"), "{why}");
    let uneven = cluster.finish("uneven");
    let alone = cluster.run(&job("alone", "1"));
    assert!(model(&uneven) == model(&alone), "the models differ");
    assert_eq!(sample_ledger(&uneven), sample_ledger(&alone));
}

/// How many shards the worker with this process carries.
fn shards(job: &Value, pid: u64) -> Option<u64> {
    let carrying = carrying(job);
    let own = carrying.iter().find(|worker| worker["pid"].as_u64() == Some(pid))?;
    Some(own["shards"]["to"].as_u64()? - own["shards"]["from"].as_u64()?)
}

/// Lets a process run only a quarter of the time meanwhile, in pauses far too short for anybody to miss it.
fn while_slowed(pid: u64, meanwhile: impl FnOnce() -> Value) {
    let signal = |name: &str| Command::new("kill").args([name, &pid.to_string()]).status().unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                signal("-STOP");
                std::thread::sleep(Duration::from_millis(45));
                signal("-CONT");
                std::thread::sleep(Duration::from_millis(15));
            }
        });
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(meanwhile));
        done.store(true, Ordering::Relaxed);
        if let Err(panic) = ended {
            std::panic::resume_unwind(panic);
        }
    });
}
