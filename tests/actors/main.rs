//! A program with own actors, whole: the binary of `examples/custom_actor.rs` as control plane, nodes and workers.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(120);

/// `neap` itself, which knows nothing of the example.
fn plain() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_neap"))
}

/// The example's binary: `cargo test` builds it beside that of `neap`.
fn binary() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_neap")).with_file_name("examples").join("custom_actor");
    assert!(path.exists(), "{} is not there; `cargo build --examples` makes it", path.display());
    path
}

/// A cluster of the example's binary that goes away with the test.
struct Cluster {
    folder: TempDir,
    /// What is control plane, nodes and command line.
    binary: PathBuf,
}

impl Cluster {
    fn up(binary: PathBuf) -> Self {
        let cluster = Self { folder: tempfile::tempdir().unwrap(), binary };
        cluster.neap(&["up", "--http", "127.0.0.1:0"], 0);
        cluster
    }

    fn neap(&self, args: &[&str], code: i32) -> String {
        let mut command = Command::new(&self.binary);
        command.args(args).env("NEAP_HOME", self.path("home")).env_remove("NEAP_LOG").stdin(Stdio::null());
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        assert_eq!(output.status.code(), Some(code), "neap {args:?}\n{stdout}\n{stderr}");
        stdout + &stderr
    }

    fn json(&self, args: &[&str]) -> Value {
        let mut command = Command::new(&self.binary);
        command.args(args).args(["-o", "json"]).env("NEAP_HOME", self.path("home")).stdin(Stdio::null());
        serde_json::from_slice(&command.output().unwrap().stdout).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn job_file(&self, more: &str) -> String {
        let (docs, counts) = (docs(), self.path("counts.json"));
        let text = format!(
            "version: 1\nkind: actors\nname: words\nworkers: 3..4\nresources: {{cpus: 0.25}}\nmarket: spot\n\
             elastic: {{on_preempt: replace}}\n\
             actors:\n  main: word-count\n  params: {{folder: {docs:?}, chunk_lines: 2, counts: {counts:?}}}\n{more}"
        );
        let path = self.path("words.yaml");
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// Waits until so many chunks are dealt, as the main function says; gives the job as it is then.
    fn wait_for_chunks(&self, wanted: usize) -> Value {
        let started = Instant::now();
        loop {
            let log = self.neap(&["logs", "words"], 0);
            let dealt = |line: &str| line.split_once(" of ")?.0.split_whitespace().last()?.parse::<usize>().ok();
            if log.lines().filter(|line| line.ends_with("chunks dealt")).filter_map(dealt).any(|dealt| dealt >= wanted)
            {
                return self.json(&["status", "words"]);
            }
            assert!(started.elapsed() < PATIENCE, "{log}\n{:#}", self.json(&["status", "words"]));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The process of the worker that leads, or of one that does not.
    fn pid(job: &Value, leads: bool) -> String {
        let workers = job["workers"].as_array().unwrap();
        let worker = workers.iter().find(|worker| worker["server"] == Value::Bool(leads) && worker["pid"].is_u64());
        worker.unwrap_or_else(|| panic!("{job:#}"))["pid"].to_string()
    }

    fn counts(&self) -> BTreeMap<String, u64> {
        serde_json::from_slice(&std::fs::read(self.path("counts.json")).unwrap()).unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let down =
            Command::new(&self.binary).args(["down", "--timeout", "20s"]).env("NEAP_HOME", self.path("home")).status();
        assert!(down.is_ok_and(|down| down.success()) || std::thread::panicking(), "the cluster did not end");
    }
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")
}

/// The same counts, one word after the other.
fn counted_alone() -> BTreeMap<String, u64> {
    fn add(folder: &Path, counts: &mut BTreeMap<String, u64>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                add(&path, counts);
            } else if path.to_string_lossy().ends_with(".md") {
                let text = std::fs::read_to_string(path).unwrap();
                let mut word = String::new();
                for letter in text.chars().chain([' ']) {
                    if letter.is_alphanumeric() {
                        word.extend(letter.to_lowercase());
                    } else if !word.is_empty() {
                        *counts.entry(std::mem::take(&mut word)).or_default() += 1;
                    }
                }
            }
        }
    }
    let mut counts = BTreeMap::new();
    add(&docs(), &mut counts);
    counts
}

#[test]
fn words_are_counted_exactly_although_a_worker_and_then_the_lead_are_killed() {
    let cluster = Cluster::up(binary());
    cluster.neap(&["run", "-d", "-q", &cluster.job_file("")], 0);
    let job = cluster.wait_for_chunks(40);
    let kill = |pid: &str| assert!(Command::new("kill").args(["-9", pid]).status().unwrap().success());
    kill(&Cluster::pid(&job, false));
    let job = cluster.wait_for_chunks(120);
    kill(&Cluster::pid(&job, true));
    cluster.neap(&["wait", "words"], 0);
    let job = cluster.json(&["status", "words"]);
    let alone = counted_alone();
    assert_eq!(job["answer"]["words"].as_u64(), Some(alone.values().sum()), "{job:#}");
    assert!(cluster.counts() == alone, "the counts differ");
    assert!(job["recoveries"].as_u64() >= Some(2), "{job:#}");
}

#[test]
fn a_program_of_actors_travels_to_nodes_that_have_never_seen_it() {
    let cluster = Cluster::up(plain());
    let program = binary().display().to_string();
    let job = |program: &str| cluster.job_file(&format!("  artifact: {program:?}\n"));
    // Without the program there is no such main function, and nobody runs anything to find that out.
    let shown = cluster.neap(&["validate", &cluster.job_file("")], 2);
    assert!(shown.contains("E040"), "{shown}");
    let shown = cluster.neap(&["run", "--wait", &job(&program)], 0);
    assert!(shown.contains("handing in"), "{shown}");
    let done = cluster.json(&["status", "words"]);
    let alone = counted_alone();
    assert_eq!(done["answer"]["words"].as_u64(), Some(alone.values().sum()), "{done:#}");
    assert!(cluster.counts() == alone, "the counts differ");
    // The control plane has it now, under its content, and says what is in it.
    let entries = cluster.json(&["entries", &program]);
    let hash = entries["artifact"].as_str().unwrap();
    assert_eq!(entries["program"]["mains"], serde_json::json!(["word-count"]));
    let kept = cluster.json(&["entries", hash]);
    assert_eq!(kept["program"]["mains"], serde_json::json!(["word-count"]));
    cluster.neap(&["validate", &job(hash)], 0);
}

#[test]
fn actors_of_a_node_that_is_taken_back_move_before_it_goes() {
    let cluster = Cluster::up(binary());
    cluster.neap(&["run", "-d", "-q", &cluster.job_file("")], 0);
    let job = cluster.wait_for_chunks(20);
    let workers = job["workers"].as_array().unwrap();
    let goes = workers.iter().find(|worker| worker["server"] == Value::Bool(false)).unwrap();
    let node = goes["node"].as_str().unwrap();
    cluster.neap(&["node", "preempt", node, "--notice", "60s"], 0);
    cluster.neap(&["wait", "words"], 0);
    let log = cluster.neap(&["logs", "words"], 0);
    assert!(log.lines().any(|line| line.contains("chunks saved, its node goes in")), "{log}");
    let done = cluster.json(&["status", "words"]);
    assert_eq!(done["answer"]["words"].as_u64(), Some(counted_alone().values().sum()), "{done:#}");
    assert!(cluster.counts() == counted_alone(), "the counts differ");
    assert_eq!(done["recoveries"].as_u64(), Some(0), "nothing was lost that had to be recovered: {done:#}");
}

#[test]
fn a_main_function_that_cannot_go_on_fails_the_job_with_its_reason() {
    let cluster = Cluster::up(binary());
    let text = std::fs::read_to_string(cluster.job_file("")).unwrap();
    let path = cluster.path("bad.yaml");
    let run = |text: String| {
        std::fs::write(&path, text).unwrap();
        cluster.neap(&["run", "-q", "--wait", &path.display().to_string()], 100)
    };
    let shown = run(text.replace("chunk_lines", "chunk_line"));
    assert!(shown.contains("actors.params: unknown field `chunk_line`"), "{shown}");
    let shown = run(text.replace("/docs", "/no-such-folder"));
    assert!(shown.contains("No such file or directory"), "{shown}");
    let wrong = text.replace("main: word-count", "main: word-cuont");
    std::fs::write(&path, wrong).unwrap();
    let shown = cluster.neap(&["validate", &path.display().to_string()], 2);
    assert!(shown.contains("E040") && shown.contains("did you mean `word-count`?"), "{shown}");
}
