//! Whatever is killed, the job goes on, and the bill adds up.

use serde_json::Value;

use crate::cluster::{Cluster, Digits, model, pid, sample_ledger};
use crate::support::kill;

const EPOCHS: u32 = 60;

fn job(name: &'static str) -> Digits {
    Digits { epochs: EPOCHS, ..Digits::new(name, "2") }
}

/// What an undisturbed run leaves.
fn undisturbed(cluster: &Cluster) -> Value {
    cluster.run(&Digits { epochs: EPOCHS, ..Digits::new("undisturbed", "1") })
}

#[track_caller]
fn same(left: &Value, right: &Value) {
    assert!(model(left) == model(right), "the models differ");
    assert_eq!(sample_ledger(left), sample_ledger(right));
}

#[test]
fn killing_the_parameter_server_costs_steps_and_nothing_else() {
    let cluster = Cluster::up();
    cluster.submit(&job("killed"));
    cluster.wait_for_workers("killed", 2);
    let running = cluster.wait_for_step("killed", 100);
    kill(pid(&running, true));
    let killed = cluster.finish("killed");
    assert!(killed["recoveries"].as_u64().unwrap() >= 1);
    same(&killed, &undisturbed(&cluster));
}

/// Checkpoints are off: whatever the job went on from was in the replica.
#[test]
fn killing_the_parameter_server_and_then_its_replica_costs_no_committed_step() {
    let cluster = Cluster::up();
    let checkpoint = "checkpoint: {every: none}\n".to_owned();
    cluster.submit(&Digits { epochs: 2 * EPOCHS, replicas: 1, checkpoint, ..Digits::new("replicated", "3") });
    cluster.wait_for_workers("replicated", 3);
    let step = |job: &Value| job["progress"]["step"].as_u64().unwrap();
    let mut running = cluster.wait_for_step("replicated", 100);
    for recovery in 1..=2 {
        let (reached, server) = (step(&running), pid(&running, true));
        kill(server);
        running = cluster.wait_for("replicated", "another server", |job| {
            let (serves, now) = (serving(job), job["progress"]["step"].as_u64().unwrap());
            assert!(now >= reached, "from step {reached} back to {now}: {job:#}");
            serves.is_some_and(|serves| serves != server) && now > reached && job["state"] == "running"
        });
        assert!(running["recoveries"].as_u64() >= Some(recovery), "{running:#}");
    }
    let replicated = cluster.finish("replicated");
    assert!(replicated["cost"]["by_category_micro_usd"].get("lost").is_none(), "no work was lost: {replicated:#}");
    same(&replicated, &cluster.run(&Digits { epochs: 2 * EPOCHS, ..Digits::new("undisturbed", "1") }));
}

/// The process of the server, where the job has one that is up.
fn serving(job: &Value) -> Option<u64> {
    let workers = job["workers"].as_array()?;
    workers.iter().find(|worker| worker["server"] == true)?["pid"].as_u64()
}

#[test]
fn killing_an_agent_loses_a_node_and_not_the_job() {
    let cluster = Cluster::up();
    cluster.submit(&job("agentless"));
    cluster.wait_for_workers("agentless", 2);
    cluster.wait_for_step("agentless", 50);
    let nodes = cluster.nodes();
    let node = nodes.iter().find(|node| node["pid"].is_u64()).unwrap();
    kill(node["pid"].as_u64().unwrap());
    let agentless = cluster.finish("agentless");
    let lost = cluster.home.neap(&["explain", node["id"].as_str().unwrap()]).expect(0).stdout;
    assert!(lost.contains("lost"), "{lost}");
    same(&agentless, &undisturbed(&cluster));
}

#[test]
fn killing_the_control_plane_costs_no_step_and_forgets_nothing() {
    let cluster = Cluster::up();
    cluster.submit(&job("orphan"));
    cluster.wait_for_workers("orphan", 2);
    let before = cluster.wait_for_step("orphan", 50);
    kill(cluster.home.endpoint().unwrap()["pid"].as_u64().unwrap());
    while cluster.home.neap(&["ps"]).code != 3 {}
    cluster.home.up();
    let after = cluster.job("orphan");
    assert_eq!(after["id"], before["id"]);
    let after = cluster.finish("orphan");
    assert_eq!(after["recoveries"], before["recoveries"], "the workers never noticed: {after:#}");
    same(&after, &undisturbed(&cluster));
}

#[test]
fn a_job_that_was_running_at_down_goes_on_from_its_checkpoint_at_up() {
    let cluster = Cluster::up();
    cluster.submit(&job("paused"));
    cluster.wait_for_step("paused", 100);
    cluster.home.neap(&["down"]).expect(0);
    cluster.home.up();
    let paused = cluster.job("paused");
    assert!(paused["checkpoint"]["step"].as_u64() >= Some(100), "{paused:#}");
    let paused = cluster.finish("paused");
    same(&paused, &undisturbed(&cluster));
}

#[test]
fn stopping_saves_and_cancels() {
    let cluster = Cluster::up();
    cluster.submit(&Digits { epochs: 5_000, ..Digits::new("stopped", "2") });
    cluster.wait_for_step("stopped", 30);
    cluster.home.neap(&["stop", "stopped"]).expect(0);
    cluster.home.neap(&["wait", "stopped"]).expect(103);
    let stopped = cluster.job("stopped");
    assert!(stopped["checkpoint"]["step"].as_u64() >= Some(30), "{stopped:#}");
    cluster.home.neap(&["stop", "stopped"]).expect(5);
}

#[test]
fn the_bill_is_the_price_of_every_node_times_its_seconds() {
    let cluster = Cluster::up();
    cluster.submit(&Digits { epochs: EPOCHS, ..Digits::new("billed", "1..3") });
    cluster.wait_for_workers("billed", 3);
    let running = cluster.wait_for_step("billed", 30);
    kill(pid(&running, false));
    let billed = cluster.finish("billed");
    // Every node is given back, so that the bill stands still.
    cluster.home.neap(&["down"]).expect(0);
    cluster.home.up();
    let bill = cluster.home.neap(&["cost", "-o", "json"]).expect(0).json();
    let micro = |value: &Value| value.as_u64().unwrap();
    let nodes = bill["by_node"].as_array().unwrap();
    let jobs = bill["by_job"].as_array().unwrap();
    let total = micro(&bill["total"]["total_micro_usd"]);
    assert!(nodes.len() >= 3 && total > 0, "{bill:#}");
    assert_eq!(nodes.iter().map(|node| micro(&node["cost_micro_usd"])).sum::<u64>(), total, "{bill:#}");
    assert_eq!(jobs.iter().map(|job| micro(&job["cost"]["total_micro_usd"])).sum::<u64>(), total, "{bill:#}");
    for node in nodes {
        let (price, time) = (micro(&node["price_micro_usd_per_hour"]), micro(&node["time_ms"]));
        assert_eq!(micro(&node["cost_micro_usd"]), price * time / 3_600_000, "{node:#}");
    }
    let categories = billed["cost"]["by_category_micro_usd"].as_object().unwrap();
    assert!(categories.contains_key("boot") && categories.contains_key("busy"), "{billed:#}");
}
