//! Workers that do not wait for each other.

use crate::cluster::{Cluster, Digits, pid, sample_ledger};
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
