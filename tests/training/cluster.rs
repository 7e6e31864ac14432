//! A cluster with a job in it, as the tests see it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Home, folder};

/// How long anything may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(120);

/// How a digits job differs from the plain one.
#[derive(Clone)]
pub(crate) struct Digits {
    pub(crate) name: &'static str,
    pub(crate) workers: &'static str,
    pub(crate) epochs: u32,
    pub(crate) placement: &'static str,
    pub(crate) servers: u32,
    pub(crate) replicas: u32,
    /// `ps`, with the three fields above, or `allreduce`.
    pub(crate) strategy: &'static str,
    pub(crate) market: &'static str,
    /// Further lines at the top level of the job file.
    pub(crate) checkpoint: String,
    /// Where the digits are, and what else is said of both data sets.
    pub(crate) data: String,
    /// A line of `train`.
    pub(crate) init: String,
}

impl Digits {
    pub(crate) fn new(name: &'static str, workers: &'static str) -> Self {
        Self {
            name,
            workers,
            epochs: 3,
            placement: "colocated",
            servers: 1,
            replicas: 0,
            strategy: "ps",
            market: "spot",
            checkpoint: String::new(),
            data: folder("examples/data/digits.csv").display().to_string(),
            init: String::new(),
        }
    }

    fn text(&self) -> String {
        let Self { name, workers, epochs, placement, servers, replicas, strategy, market, checkpoint, data, init } =
            self;
        let exchange = match *strategy {
            "ps" => format!("ps: {{placement: {placement}, servers: {servers}, replicas: {replicas}}}"),
            other => format!("strategy: {other}"),
        };
        format!(
            "version: 1\nkind: train\nname: {name}\nworkers: {workers}\nmarket: {market}\n{checkpoint}\
             elastic: {{on_preempt: replace}}\n\
             data:\n  train: {{uri: {data}, split: {{rows: 0..1500}}, label: label, shuffle: {{seed: 7}}}}\n  \
             eval: {{uri: {data}, split: {{rows: 1500..1797}}, label: label}}\n\
             train:\n  entry: mlp\n  epochs: {epochs}\n  global_batch: 64\n  logical_shards: 8\n  determinism: strict\n  \
             {exchange}\n  {init}\n  params: {{optimizer: adam, lr: 0.003}}\n"
        )
    }
}

/// A running cluster.
pub(crate) struct Cluster {
    pub(crate) home: Home,
}

impl Cluster {
    pub(crate) fn up() -> Self {
        let cluster = Self::down();
        cluster.home.up();
        cluster
    }

    /// A home folder in which nothing runs yet.
    pub(crate) fn down() -> Self {
        Self { home: Home::new() }
    }

    /// Accepts a job without waiting for it.
    pub(crate) fn submit(&self, job: &Digits) {
        // Most of the jobs with a budget are there to use it up.
        self.home.neap(&["run", "-d", "-q", "--force", &self.write(job)]).expect(0);
    }

    /// Writes the job's file.
    pub(crate) fn write(&self, job: &Digits) -> String {
        self.file(&format!("{}.yaml", job.name), &job.text())
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.home.path().with_file_name(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// Runs a job to its end, and gives its last view.
    pub(crate) fn run(&self, job: &Digits) -> Value {
        self.submit(job);
        self.finish(job.name)
    }

    pub(crate) fn job(&self, name: &str) -> Value {
        self.home.neap(&["status", name, "-o", "json"]).json()
    }

    pub(crate) fn nodes(&self) -> Vec<Value> {
        let nodes = self.home.neap(&["node", "list", "-o", "json"]).expect(0).json();
        nodes.as_array().unwrap().clone()
    }

    /// Waits until the job's view is as wanted.
    #[track_caller]
    pub(crate) fn wait_for(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let job = self.job(name);
            if wanted(&job) {
                return job;
            }
            let ended = ["succeeded", "failed", "cancelled"].contains(&job["state"].as_str().unwrap_or_default());
            assert!(!ended && started.elapsed() < PATIENCE, "waiting for {what}: {job:#}\n{}", self.evidence(name));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until something is so.
    #[track_caller]
    pub(crate) fn wait_until(&self, what: &str, so: impl Fn() -> bool) {
        let started = Instant::now();
        while !so() {
            assert!(started.elapsed() < PATIENCE, "waiting for {what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    #[track_caller]
    pub(crate) fn finish(&self, name: &str) -> Value {
        self.wait_for(name, "the end", |job| job["state"] == "succeeded")
    }

    /// Waits until so many steps are committed.
    #[track_caller]
    pub(crate) fn wait_for_step(&self, name: &str, step: u64) -> Value {
        self.wait_for(name, &format!("step {step}"), |job| job["progress"]["step"].as_u64() >= Some(step))
    }

    /// Waits until so many workers carry shards.
    #[track_caller]
    pub(crate) fn wait_for_workers(&self, name: &str, count: usize) -> Value {
        self.wait_for(name, &format!("{count} workers"), |job| carrying(job).len() == count)
    }

    fn evidence(&self, name: &str) -> String {
        let explained = self.home.neap(&["explain", name]).stdout;
        let log = self.home.neap(&["logs", name]).stdout;
        let control = std::fs::read_to_string(self.home.path().join("control.log")).unwrap_or_default();
        format!("{explained}\n--- log\n{log}\n--- control\n{control}")
    }
}

/// The workers of a job that carry shards.
pub(crate) fn carrying(job: &Value) -> Vec<&Value> {
    let workers = job["workers"].as_array().unwrap();
    workers.iter().filter(|worker| !worker["shards"].is_null() && worker["state"] == "running").collect()
}

/// The process of the worker that hosts the parameter server (or of one that does not).
pub(crate) fn pid(job: &Value, server: bool) -> u64 {
    let workers = job["workers"].as_array().unwrap();
    let found = workers.iter().find(|worker| worker["server"] == server && worker["pid"].is_u64());
    found.unwrap_or_else(|| panic!("no such worker: {job:#}"))["pid"].as_u64().unwrap()
}

pub(crate) fn model_path(job: &Value) -> PathBuf {
    Path::new(job["result"]["model_path"].as_str().unwrap_or_else(|| panic!("no model: {job:#}"))).to_owned()
}

pub(crate) fn model(job: &Value) -> Vec<u8> {
    std::fs::read(model_path(job)).unwrap()
}

/// What each epoch used: number of samples and the digest of their ids in commit order.
pub(crate) fn sample_ledger(job: &Value) -> Vec<(u64, String)> {
    let epochs = job["epochs"].as_array().unwrap();
    let one = |epoch: &Value| (epoch["samples"].as_u64().unwrap(), epoch["sample_digest"].as_str().unwrap().to_owned());
    epochs.iter().map(one).collect()
}
