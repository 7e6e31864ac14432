//! Whole jobs with `train.backend: wgpu`, by the real binary.

use std::path::Path;

use serde_json::Value;

use crate::cluster::{Cluster, Digits, model, model_path, sample_ledger};
use crate::wgpu;

/// Hides every adapter from the loaders of Vulkan and OpenGL.
fn no_adapter() -> [(String, String); 3] {
    ["VK_DRIVER_FILES", "VK_ICD_FILENAMES", "__EGL_VENDOR_LIBRARY_FILENAMES"]
        .map(|name| (name.to_owned(), "/dev/null".to_owned()))
}

/// The job on a backend. Four logical shards a step, because what software takes is mostly the number of its kernels.
fn write(cluster: &Cluster, job: &Digits, backend: &str) -> String {
    let text = std::fs::read_to_string(cluster.write(job)).unwrap();
    let text = text.replace("entry: mlp", &format!("entry: mlp\n  backend: {backend}"));
    cluster.file(&format!("{}.yaml", job.name), &text.replace("logical_shards: 8", "logical_shards: 4"))
}

fn run(cluster: &Cluster, job: &Digits, backend: &str) -> Value {
    cluster.home.neap(&["run", "-d", "-q", &write(cluster, job, backend)]).expect(0);
    cluster.finish(job.name)
}

fn card(job: &Value) -> Value {
    let path = model_path(job);
    serde_json::from_slice(&std::fs::read(path.parent().unwrap_or(Path::new("/")).join("model.json")).unwrap()).unwrap()
}

#[test]
fn one_and_two_workers_and_an_all_reduce_give_the_same_bytes() {
    let Some(device) = wgpu("one_and_two_workers_and_an_all_reduce_give_the_same_bytes") else { return };
    let cluster = Cluster::up();
    let job = |name, workers| Digits { epochs: 2, ..Digits::new(name, workers) };
    let one = run(&cluster, &job("one", "1"), "wgpu");
    let two = run(&cluster, &job("two", "2"), "wgpu");
    let all = run(&cluster, &Digits { strategy: "allreduce", ..job("all", "2") }, "wgpu");
    assert!(model(&one) == model(&two), "one and two workers give other models");
    assert!(model(&one) == model(&all), "an all-reduce gives another model");
    assert_eq!(sample_ledger(&one), sample_ledger(&two));
    assert!(one["result"]["eval_accuracy"].as_f64().unwrap() > 0.85, "{one:#}");
    assert_eq!(card(&two)["device"], device.model());
    let on_flex = run(&cluster, &job("flex", "1"), "flex");
    assert_ne!(on_flex["spec_hash"], one["spec_hash"], "the backend is part of what defines the result");
    let apart = |key: &str| {
        let of = |job: &Value| job["result"][key].as_f64().unwrap();
        (of(&on_flex) - of(&one)).abs()
    };
    assert!(apart("eval_accuracy") < 0.02, "{on_flex:#}\n{one:#}");
}

#[test]
fn a_node_without_an_adapter_fails_the_job_with_what_to_do() {
    let cluster = Cluster::down();
    cluster.home.up_with(&no_adapter());
    cluster.home.neap(&["run", "--wait", &write(&cluster, &Digits::new("none", "1"), "wgpu")]).expect(100);
    let why = cluster.job("none")["why"].as_str().unwrap().to_owned();
    assert!(why.contains("`train.backend: wgpu` finds no device on this node"), "{why}");
    assert!(why.contains("neap devices") && !why.contains("panicked"), "{why}");
}
