//! The number of workers is a cost decision: it never changes the model, nor which samples are used (invariants 6 and 7).

use crate::cluster::{Cluster, Digits, carrying, model, pid, sample_ledger};
use crate::support::kill;

/// Long enough that workers can be lost in the middle of it.
const EPOCHS: u32 = 60;

fn job(name: &'static str, workers: &'static str) -> Digits {
    Digits { epochs: EPOCHS, ..Digits::new(name, workers) }
}

#[test]
fn one_two_three_and_disturbed_workers_give_the_same_bytes_from_the_same_samples() {
    let cluster = Cluster::up();
    let one = cluster.run(&job("one", "1"));
    let two = cluster.run(&job("two", "2"));
    let three = cluster.run(&job("three", "3"));
    let disturbed = disturbed(&cluster);

    assert!(one["result"]["eval_accuracy"].as_f64().unwrap() > 0.85, "{one:#}");
    assert!(disturbed["recoveries"].as_u64().unwrap() >= 1, "{disturbed:#}");
    for other in [&two, &three, &disturbed] {
        assert!(model(&one) == model(other), "the model of {} differs", other["name"]);
        assert_eq!(sample_ledger(&one), sample_ledger(other), "{}", other["name"]);
    }
    let ledger = sample_ledger(&one);
    assert_eq!(ledger.len(), EPOCHS as usize);
    assert!(ledger.iter().all(|(samples, _)| *samples == 1_500));
    let first = &ledger[0].1;
    assert!(ledger[1..].iter().all(|(_, digest)| digest != first), "every epoch has its own order");
}

/// Three workers, of which one is killed and one is preempted, each in the middle of an epoch.
fn disturbed(cluster: &Cluster) -> serde_json::Value {
    cluster.submit(&job("disturbed", "3"));
    let running = cluster.wait_for_workers("disturbed", 3);
    let step = running["progress"]["step"].as_u64().unwrap_or(0);
    let running = cluster.wait_for_step("disturbed", step + 30);
    kill(pid(&running, false));
    let running = cluster.wait_for_step("disturbed", step + 200);
    let victim = carrying(&running)[0]["node"].as_str().unwrap().to_owned();
    cluster.home.neap(&["node", "preempt", &victim, "--notice", "2s"]).expect(0);
    cluster.finish("disturbed")
}

#[test]
fn a_server_on_a_node_of_its_own_gives_the_same_bytes() {
    let cluster = Cluster::up();
    let colocated = cluster.run(&Digits::new("colocated", "1"));
    let separate = cluster.run(&Digits { placement: "separate", ..Digits::new("separate", "2") });
    assert!(model(&colocated) == model(&separate));
    assert_eq!(sample_ledger(&colocated), sample_ledger(&separate));
}

/// Checkpoints are off, so what is gone on from was in the memory of a worker that stayed.
#[test]
fn an_all_reduce_that_loses_its_lead_and_another_worker_gives_the_bytes_of_the_parameter_server() {
    let cluster = Cluster::up();
    let served = cluster.run(&job("served", "1"));
    let checkpoint = "checkpoint: {every: none}\n".to_owned();
    cluster.submit(&Digits { strategy: "allreduce", checkpoint, ..job("reduced", "3") });
    let running = cluster.wait_for_workers("reduced", 3);
    let step = running["progress"]["step"].as_u64().unwrap_or(0);
    let running = cluster.wait_for_step("reduced", step + 30);
    kill(pid(&running, true));
    let running = cluster.wait_for_step("reduced", step + 200);
    kill(pid(&running, false));
    let reduced = cluster.finish("reduced");

    assert!(reduced["recoveries"].as_u64().unwrap() >= 2, "{reduced:#}");
    assert!(model(&served) == model(&reduced), "the models differ");
    assert_eq!(sample_ledger(&served), sample_ledger(&reduced));
    let explained = cluster.home.neap(&["explain", "reduced"]).expect(0).stdout;
    assert!(!explained.contains("from step"), "nothing was restored: {explained}");
    assert!(reduced["cost"]["by_category_micro_usd"].get("lost").is_none(), "no work was lost: {reduced:#}");
}

#[test]
fn several_servers_of_which_some_are_lost_give_the_same_bytes() {
    let cluster = Cluster::up();
    let one = cluster.run(&Digits { epochs: 30, ..Digits::new("one", "1") });
    cluster.submit(&Digits { epochs: 30, servers: 3, ..Digits::new("several", "3") });
    let running = cluster.wait_for_workers("several", 3);
    let serving = running["workers"].as_array().unwrap().iter().filter(|worker| worker["server"] == true).count();
    assert!(serving >= 2, "{running:#}");
    let step = running["progress"]["step"].as_u64().unwrap_or(0);
    let running = cluster.wait_for_step("several", step + 30);
    kill(pid(&running, true));
    let running = cluster.wait_for_step("several", step + 150);
    let victim = carrying(&running)[0]["node"].as_str().unwrap().to_owned();
    cluster.home.neap(&["node", "preempt", &victim, "--notice", "2s"]).expect(0);
    let several = cluster.finish("several");
    assert!(several["recoveries"].as_u64().unwrap() >= 1, "{several:#}");
    assert!(model(&one) == model(&several));
    assert_eq!(sample_ledger(&one), sample_ledger(&several));
}

#[test]
fn over_three_epochs_with_resizes_every_sample_is_used_once_an_epoch() {
    let cluster = Cluster::up();
    cluster.submit(&Digits { epochs: 3, ..Digits::new("resized", "1..3") });
    let resized = cluster.finish("resized");
    let quiet = cluster.run(&Digits { epochs: 3, ..Digits::new("quiet", "1") });
    assert_eq!(sample_ledger(&resized), sample_ledger(&quiet));
    assert!(sample_ledger(&resized).iter().all(|(samples, _)| *samples == 1_500));
}
