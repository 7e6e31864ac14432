//! Jobs with a choice of markets and a deadline: spot while there is time for it, on demand when there is not.

use serde_json::Value;

use crate::cluster::{Cluster, Digits};

/// Dollars per hour of the only kind of node.
const ON_DEMAND: &str = "0.040";
const SPOT: &str = "0.012";

/// A cluster whose spot market has so many nodes in each tick of a second.
fn cluster(spot: &str) -> Cluster {
    let cluster = Cluster::down();
    std::fs::create_dir_all(cluster.home.path()).unwrap();
    let config = format!(
        "local:\n  offers:\n    - {{name: only, cpus: 1, memory_mib: 2048, on_demand: \"{ON_DEMAND}\", spot: \"{SPOT}\", \
         boot_ms: 200, max_nodes: 4}}\n  spot_market: {{tick_ms: 1000, nodes: {spot}, notice_ms: 1000}}\n"
    );
    std::fs::write(cluster.home.path().join("config.yaml"), config).unwrap();
    cluster.home.up();
    cluster
}

fn job(name: &'static str, deadline: &str, epochs: u32) -> Digits {
    let checkpoint = format!("deadline: {deadline}\n");
    Digits { epochs, checkpoint, market: "auto", ..Digits::new(name, "1") }
}

fn markets(cluster: &Cluster) -> Vec<String> {
    let nodes = cluster.home.neap(&["node", "list", "-a", "-o", "json"]).expect(0).json();
    let market = |node: &Value| node["market"].as_str().unwrap_or_default().to_owned();
    nodes.as_array().unwrap().iter().map(market).collect()
}

#[test]
fn with_spot_to_be_had_a_job_with_a_choice_never_pays_for_on_demand() {
    let cluster = cluster("[4]");
    cluster.run(&job("easy", "1h", 20));
    assert_eq!(markets(&cluster), ["spot"]);
}

#[test]
fn without_spot_it_runs_on_demand_and_goes_back_when_spot_is_there_again() {
    let cluster = cluster("[0, 0, 0, 0, 0, 0, 4]");
    cluster.submit(&job("back", "10h", 50_000));
    cluster.wait_for_step("back", 1);
    assert_eq!(markets(&cluster), ["on_demand"]);
    cluster.wait_until("a step on spot", || {
        let nodes = cluster.nodes();
        nodes.len() == 1 && nodes[0]["market"] == "spot" && cluster.job("back")["state"] == "running"
    });
    let explained = cluster.home.neap(&["explain", "back"]).expect(0).stdout;
    assert!(explained.contains("spot"), "{explained}");
    cluster.home.neap(&["stop", "back", "--now"]).expect(0);
}

#[test]
fn with_time_to_spare_it_waits_for_spot_and_goes_on_from_its_checkpoint() {
    let cluster = cluster("[4, 4, 4, 4, 4, 0, 0, 0, 0, 0, 0, 0, 0, 4]");
    cluster.submit(&job("patient", "10h", 50_000));
    let waiting = cluster.wait_for("patient", "no node", |job| {
        job["state"] == "recovering" && job["workers"].as_array().is_some_and(Vec::is_empty)
    });
    let explained = cluster.home.neap(&["explain", "patient"]).expect(0).stdout;
    assert!(explained.contains("waits for spot, which costs least"), "{explained}");
    let saved = waiting["checkpoint"]["step"].as_u64().unwrap();
    // What the first node committed after its last checkpoint may still be reported.
    cluster.wait_for("patient", "steps on another node", |job| {
        job["state"] == "running" && job["progress"]["step"].as_u64() > Some(saved)
    });
    assert_eq!(markets(&cluster), ["spot", "spot"]);
    cluster.home.neap(&["stop", "patient", "--now"]).expect(0);
}

#[test]
fn a_job_that_is_not_done_at_its_deadline_saves_its_state_and_fails() {
    let cluster = cluster("[4]");
    let file = cluster.write(&job("late", "8s", 500_000));
    let refused = cluster.home.neap(&["run", "-d", &file]).expect(7);
    assert!(refused.stderr.contains("E026"), "{refused:?}");
    cluster.home.neap(&["run", "-d", "--force", &file]).expect(0);
    let waited = cluster.home.neap(&["wait", "late"]);
    assert_eq!(waited.code, 106, "{}", waited.stderr);
    let job = cluster.job("late");
    assert_eq!((job["state"].as_str(), job["reason"].as_str()), (Some("failed"), Some("deadline_missed")));
    assert!(job["checkpoint"]["step"].as_u64() > Some(0), "{job:#}");
}
