//! Why something is as it is: what `explain` says of a waiting job, and rounds that decide the same again.

use crate::cluster::{Cluster, Digits};

/// One node in all, so that a second job must wait.
const NARROW: &str = "\
local:
  offers:
    - {name: only, cpus: 1, memory_mib: 2048, on_demand: \"0.040\", spot: \"0.012\", boot_ms: 200, max_nodes: 1}
";

#[test]
fn a_waiting_job_is_told_its_place_and_what_would_start_it() {
    let cluster = Cluster::down();
    std::fs::create_dir_all(cluster.home.path()).unwrap();
    std::fs::write(cluster.home.path().join("config.yaml"), NARROW).unwrap();
    cluster.home.up();
    cluster.submit(&Digits { epochs: 50_000, ..Digits::new("first", "1") });
    cluster.wait_for_step("first", 1);
    cluster.submit(&Digits { epochs: 50_000, ..Digits::new("second", "1") });
    cluster.submit(&Digits { epochs: 50_000, ..Digits::new("third", "1") });
    let explained = cluster.home.neap(&["explain", "third"]).expect(0).stdout;
    assert!(explained.contains("1 waiting job(s) are served before it"), "{explained}");
    let explained = cluster.home.neap(&["explain", "second"]).expect(0).stdout;
    assert!(explained.contains("first in the queue"), "{explained}");
    assert!(explained.contains("j1 ended or paused would start it now"), "{explained}");
    let explained = cluster.home.neap(&["explain", "n1"]).expect(0).stdout;
    assert!(explained.contains("carries j1"), "{explained}");
    // Two wait for it.
    assert!(explained.contains("would not go back when that ends; it would be kept because it"), "{explained}");
    cluster.home.neap(&["stop", "first", "--now"]).expect(0);
    cluster.wait_for_step("second", 1);
}

/// A gang that is preempted as a whole has no smaller gang to go on with: it must let go, and come back from its checkpoint.
#[test]
fn a_job_of_higher_priority_takes_the_node_and_the_other_goes_on_from_its_checkpoint_afterwards() {
    let cluster = Cluster::down();
    std::fs::create_dir_all(cluster.home.path()).unwrap();
    std::fs::write(cluster.home.path().join("config.yaml"), format!("policy: priority\n{NARROW}")).unwrap();
    cluster.home.up();
    let low = Digits { epochs: 50_000, checkpoint: "priority: 100\n".to_owned(), ..Digits::new("low", "1") };
    cluster.submit(&low);
    cluster.wait_for_step("low", 100);
    cluster.run(&Digits { checkpoint: "priority: 900\n".to_owned(), ..Digits::new("high", "1") });
    let again = cluster.wait_for("low", "its node back", |job| job["state"] == "running");
    let saved = again["checkpoint"]["step"].as_u64().unwrap();
    assert!(saved >= 100, "{again:#}");
    cluster.wait_for_step("low", saved + 1);
    let explained = cluster.home.neap(&["explain", "low"]).expect(0).stdout;
    assert!(explained.contains("gives way to j2"), "{explained}");
    cluster.home.neap(&["stop", "low", "--now"]).expect(0);
}

#[test]
fn recorded_rounds_decide_the_same_again() {
    let cluster = Cluster::up();
    cluster.run(&Digits::new("recorded", "1..3"));
    let rounds = cluster.home.path().join("rounds.jsonl").display().to_string();
    let replayed = cluster.home.neap(&["simulate", "replay", &rounds, "-o", "json"]).expect(0).json();
    assert!(replayed["rounds"].as_u64() >= Some(2), "{replayed}");
    assert_eq!(replayed["differing_lines"], serde_json::json!([]));
    let home = cluster.home.path().display().to_string();
    let args = ["simulate", "diff", &home, "--policy", "fifo", "--policy", "priority", "-o", "json"];
    let compared = cluster.home.neap(&args).expect(0).json();
    assert_eq!(compared["recording"]["rounds"], replayed["rounds"], "{compared}");
    assert_eq!(compared["recording"]["plans"][0]["differing"], 0, "it was decided by fifo: {compared}");
    let text = std::fs::read_to_string(&rounds).unwrap();
    let other = text.replacen("\"why\":\"", "\"why\":\"not ", 1);
    assert_ne!(other, text, "a plan has reasons");
    std::fs::write(&rounds, other).unwrap();
    cluster.home.neap(&["simulate", "replay", &rounds]).expect(5);
}
