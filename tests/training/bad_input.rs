//! Data and disks that are not as the job file says: a clear reason, what to do, nothing lost.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::cluster::{Cluster, Digits};
use crate::support::folder;

fn job(data: &Path, more: &str) -> String {
    let data = data.display();
    format!(
        "version: 1\nkind: train\nname: bad\ndata: {{train: {{uri: {data}{more}}}}}\n\
         train: {{entry: mlp, epochs: 1, global_batch: 64}}\n"
    )
}

/// Runs a job that cannot succeed and gives the reason.
#[track_caller]
fn failed(cluster: &Cluster, text: &str) -> String {
    let file = cluster.file("bad.yaml", text);
    cluster.home.neap(&["run", "--wait", &file]).expect(100);
    let job: Value = cluster.job("bad");
    assert_eq!(job["state"], "failed", "{job:#}");
    format!("{}: {}", job["reason"].as_str().unwrap(), job["why"].as_str().unwrap())
}

#[track_caller]
fn says(reason: &str, parts: &[&str]) {
    for part in parts {
        assert!(reason.contains(part), "`{part}` is not in: {reason}");
    }
    assert!(!reason.contains("panicked"), "{reason}");
}

#[test]
fn data_that_is_not_what_it_should_be_fails_the_job_with_its_place() {
    let cluster = Cluster::up();
    let ragged = cluster.file("ragged.csv", "a,b,label\n1,2,0\n1,1\n");
    says(&failed(&cluster, &job(Path::new(&ragged), "")), &["invalid_at_runtime", "ragged.csv"]);
    let text = cluster.file("text.csv", "a,b,label\n1,2,0\n1,tea,1\n");
    says(&failed(&cluster, &job(Path::new(&text), "")), &["text.csv", "tea"]);
    let digits = folder("examples/data/digits.csv");
    says(&failed(&cluster, &job(&digits, ", split: {rows: 0..9999}")), &["1797"]);
}

#[cfg(not(feature = "wgpu"))]
#[test]
fn a_backend_that_the_nodes_were_built_without_fails_the_job_with_what_to_do() {
    let cluster = Cluster::up();
    let digits = job(&folder("examples/data/digits.csv"), "").replace("entry: mlp", "entry: mlp, backend: wgpu");
    let reason = failed(&cluster, &digits);
    says(
        &reason,
        &["invalid_at_runtime", "built without the cargo feature `wgpu`", "--features wgpu", "backend: flex"],
    );
}

#[test]
fn data_that_is_not_there_is_refused_before_anything_is_rented() {
    let cluster = Cluster::up();
    let file = cluster.file("bad.yaml", &job(Path::new("/nonexistent/digits.csv"), ""));
    let refused = cluster.home.neap(&["run", "--wait", &file]).expect(2);
    says(&refused.stderr, &["E032", "/nonexistent/digits.csv"]);
    assert!(cluster.nodes().is_empty());
}

#[test]
fn a_truncated_idx_file_fails_the_job() {
    let cluster = Cluster::up();
    let data = cluster.home.path().with_file_name("idx");
    std::fs::create_dir(&data).unwrap();
    let mut images = vec![0, 0, 8, 3];
    for size in [10u32, 28, 28] {
        images.extend(size.to_be_bytes());
    }
    images.extend([0; 100]);
    std::fs::write(data.join("train-images-idx3-ubyte"), images).unwrap();
    std::fs::write(data.join("train-labels-idx1-ubyte"), [0, 0, 8, 1, 0, 0, 0, 10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0])
        .unwrap();
    let reason = failed(&cluster, &job(&data, ", format: idx, split: train"));
    says(&reason, &["invalid_at_runtime", "train-images-idx3-ubyte"]);
}

/// A file system of 256 KiB for checkpoints. Needs root; says so where it cannot.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(at: &'a Path) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).arg(at).status();
        mounted.is_ok_and(|status| status.success()).then_some(Self(at))
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.0).status().unwrap();
    }
}

#[test]
fn a_full_checkpoint_disk_is_said_and_does_not_end_the_job() {
    let cluster = Cluster::up();
    let folder = cluster.home.path().with_file_name("small");
    let Some(_disk) = SmallDisk::mount(&folder) else {
        eprintln!("SKIPPED: a small file system can be mounted by root only");
        return;
    };
    let checkpoint = format!("checkpoint: {{uri: \"file://{}\"}}\n", folder.display());
    let full = Digits { checkpoint, ..Digits::new("full", "1") };
    let done = cluster.run(&full);
    assert!(done["checkpoint"].is_null(), "{done:#}");
    let log = cluster.home.neap(&["logs", "full"]).expect(0).stdout;
    assert!(log.contains("checkpoint") && log.contains(&folder.display().to_string()), "{log}");
}
