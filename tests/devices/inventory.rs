//! What there is, as people and the control plane see it.

use serde_json::Value;

use crate::cluster::Cluster;
use crate::support::Home;
use crate::wgpu;

#[test]
fn the_adapter_is_listed_and_software_is_no_gpu() {
    let Some(device) = wgpu("the_adapter_is_listed_and_software_is_no_gpu") else { return };
    let devices = Home::new().neap(&["devices", "-o", "json"]).expect(0).json();
    let devices = devices.as_array().unwrap();
    let used = devices.iter().find(|found| device.model().contains(found["name"].as_str().unwrap()));
    let used = used.unwrap_or_else(|| panic!("{} is not in {devices:#?}", device.model()));
    assert!(used["api"].is_string() && used["driver"].is_string(), "{used:#}");
    for found in devices {
        assert_eq!(found["gpu"], found["kind"] != "cpu", "{found:#}");
    }
}

#[test]
fn a_node_tells_its_adapters_to_every_control_plane() {
    if wgpu("a_node_tells_its_adapters_to_every_control_plane").is_none() {
        return;
    }
    let here = Home::new().neap(&["devices", "-o", "json"]).expect(0).json();
    let cluster = Cluster::up();
    let file = "version: 1\nkind: train\nname: held\nelastic: {on_preempt: replace}\n\
                data: {train: {uri: DIGITS, split: {rows: 0..1500}, label: label}}\n\
                train: {entry: mlp, epochs: 100000, global_batch: 64}\n";
    let digits = crate::support::folder("examples/data/digits.csv");
    let file = cluster.file("held.yaml", &file.replace("DIGITS", &digits.display().to_string()));
    cluster.home.neap(&["run", "-d", "-q", &file]).expect(0);
    let names = |devices: &Value| -> Vec<Value> {
        devices.as_array().unwrap().iter().map(|device| device["name"].clone()).collect()
    };
    let told = || cluster.nodes().first().is_some_and(|node| names(&node["devices"]) == names(&here));
    cluster.wait_until("the node's devices", told);
    let table = cluster.home.neap(&["node", "list"]).expect(0).stdout;
    let gpus = here.as_array().unwrap().iter().any(|device| device["gpu"] == true);
    assert!(table.contains("GPUS") && table.contains("1x ") == gpus, "{table}");
    cluster.home.neap(&["down", "--keep-nodes"]).expect(0);
    cluster.home.up();
    cluster.wait_until("the node's devices again", told);
    cluster.home.neap(&["stop", "held"]).expect(0);
}
