//! Budgets on the real product: never exceeded, kept across a restart, and explained.

use serde_json::Value;

use crate::cluster::{Cluster, Digits, carrying};
use crate::support::kill;

/// One dollar a second, so that budgets end within seconds, and times as short as the configuration takes.
const DEAR: &str = "\
lease_ms: 3000
dead_man_ms: 3000
idle_release_ms: 1000
local:
  offers:
    - {name: dear, cpus: 1, memory_mib: 2048, spot: \"3600\", boot_ms: 200, max_nodes: 4}
";

/// What must be set aside for one node: 29 seconds, and a micro-dollar for rounding.
const WORST_CASE: u64 = 29_000_001;

fn endless(name: &'static str, workers: &'static str, max_cost: &str) -> Digits {
    let budget = format!("budget: {{max_cost: {max_cost}}}\n");
    Digits { epochs: 50_000, checkpoint: budget, ..Digits::new(name, workers) }
}

fn dear_cluster() -> Cluster {
    let cluster = Cluster::down();
    std::fs::create_dir_all(cluster.home.path()).unwrap();
    std::fs::write(cluster.home.path().join("config.yaml"), DEAR).unwrap();
    cluster.home.up();
    cluster
}

fn spent(job: &Value) -> u64 {
    job["cost"]["total_micro_usd"].as_u64().unwrap()
}

/// Holds what is promised of a budget at any moment.
fn within(job: &Value, max_cost: u64) {
    let reserved = job["budget"]["reserved_micro_usd"].as_u64().unwrap();
    assert!(spent(job) <= max_cost && reserved <= max_cost, "{job:#}");
}

/// Waits for the end of the job's money, and for its nodes to be gone.
fn exhausted(cluster: &Cluster, name: &str, max_cost: u64) -> Value {
    cluster.wait_until("the end of the money", || {
        let job = cluster.job(name);
        within(&job, max_cost);
        job["state"] == "failed"
    });
    cluster.wait_until("its nodes to go", || cluster.nodes().is_empty());
    let job = cluster.job(name);
    assert_eq!(job["reason"], "budget_exceeded", "{job:#}");
    within(&job, max_cost);
    job
}

#[test]
fn a_job_stops_with_a_checkpoint_before_its_budget_is_spent() {
    let cluster = dear_cluster();
    cluster.submit(&endless("bounded", "1", "36"));
    cluster.wait_for_step("bounded", 1);
    let job = exhausted(&cluster, "bounded", 36_000_000);
    assert!(job["checkpoint"]["step"].as_u64() >= Some(1), "{job:#}");
    assert!(spent(&job) >= 36_000_000 - WORST_CASE, "it was stopped too early: {job:#}");
    cluster.home.neap(&["wait", "bounded"]).expect(105);
}

#[test]
fn what_was_spent_before_a_crash_of_the_control_plane_counts_after_it() {
    let cluster = dear_cluster();
    cluster.submit(&endless("twice", "1", "40"));
    cluster.wait_for_step("twice", 1);
    kill(cluster.home.endpoint().unwrap()["pid"].as_u64().unwrap());
    cluster.home.up();
    exhausted(&cluster, "twice", 40_000_000);
}

#[test]
fn a_budget_for_one_node_gives_one_node() {
    let cluster = dear_cluster();
    cluster.submit(&endless("narrow", "1..3", "50"));
    let job = cluster.wait_for_step("narrow", 1);
    assert_eq!(carrying(&job).len(), 1, "two would need 58 dollars: {job:#}");
    within(&job, 50_000_000);
    cluster.home.neap(&["stop", "narrow", "--now"]).expect(0);
}

#[test]
fn a_budget_that_cannot_start_the_job_is_refused_with_the_sum_it_takes() {
    let cluster = dear_cluster();
    let file = cluster.write(&endless("poor", "2", "57"));
    let refused = cluster.home.neap(&["run", "-d", &file]).expect(6);
    assert!(refused.stderr.contains("58.00") && refused.stderr.contains("budget.max_cost"), "{refused:?}");
}

/// A job of the project `vision` that goes on until its money ends.
fn of_vision(name: &'static str) -> Digits {
    Digits { epochs: 50_000, checkpoint: "project: vision\n".to_owned(), ..Digits::new(name, "1") }
}

fn budget(cluster: &Cluster, scope: &str) -> Value {
    cluster.home.neap(&["budget", "show", scope, "-o", "json"]).expect(0).json()
}

/// What the budget of `vision` says was spent; never more than `limit`, and never less than the bills of its jobs said.
fn spent_by_vision(cluster: &Cluster, limit: u64) -> u64 {
    let billed: u64 = ["older", "younger"].iter().map(|name| spent(&cluster.job(name))).sum();
    let spent = budget(cluster, "project/vision")["spent_micro_usd"].as_u64().unwrap();
    assert!(billed <= limit && spent <= limit, "{billed} is billed, {spent} spent of {limit}");
    spent
}

#[test]
fn jobs_that_share_a_budget_make_way_one_by_one_and_a_crash_forgets_nothing() {
    const LIMIT: u64 = 130_000_000;
    let cluster = dear_cluster();
    cluster.home.neap(&["budget", "set", "project/vision", "--max-cost", "130"]).expect(0);
    for name in ["older", "younger"] {
        cluster.submit(&of_vision(name));
        cluster.wait_for_step(name, 1);
    }
    let before = spent_by_vision(&cluster, LIMIT);
    kill(cluster.home.endpoint().unwrap()["pid"].as_u64().unwrap());
    cluster.home.up();
    assert!(spent_by_vision(&cluster, LIMIT) >= before, "a crash resets no budget");

    cluster.wait_until("the younger one to make way", || {
        spent_by_vision(&cluster, LIMIT);
        cluster.job("younger")["state"] == "failed"
    });
    assert_eq!(cluster.job("younger")["reason"], "budget_exceeded");
    assert_eq!(cluster.job("older")["state"], "running", "the older one goes on with its money");

    // Below what is spent: nothing new, and what runs is stopped in time.
    cluster.home.neap(&["budget", "set", "project/vision", "--max-cost", "1"]).expect(0);
    cluster.wait_until("the older one to stop", || {
        spent_by_vision(&cluster, LIMIT);
        cluster.job("older")["state"] == "failed"
    });
    cluster.wait_until("the nodes to go", || cluster.nodes().is_empty());
    for name in ["older", "younger"] {
        assert!(cluster.job(name)["checkpoint"]["step"].as_u64() >= Some(1), "{name} saved its state");
    }
    let left = budget(&cluster, "project/vision");
    assert_eq!((&left["reserved_micro_usd"], &left["left_micro_usd"]), (&0.into(), &0.into()), "{left:#}");
}

#[test]
fn a_job_waits_for_the_budget_of_the_organisation_and_starts_when_it_is_raised() {
    let cluster = dear_cluster();
    cluster.home.neap(&["budget", "set", "organisation", "--max-cost", "40", "--period", "month"]).expect(0);
    cluster.submit(&of_vision("patient"));
    let job = cluster.wait_for("patient", "its reason to wait", |job| job["reason"] == "budget");
    let why = job["why"].as_str().unwrap();
    assert!(why.contains("the organisation is $40.00 a month") && why.contains("neap budget set"), "{why}");
    assert!(cluster.nodes().is_empty(), "nothing is rented that the budget cannot carry");
    cluster.home.neap(&["budget", "set", "organisation", "--max-cost", "500", "--period", "month"]).expect(0);
    cluster.wait_for_step("patient", 1);
    assert!(budget(&cluster, "patient")["spent_micro_usd"].as_u64() > Some(0));
    cluster.home.neap(&["stop", "patient", "--now"]).expect(0);
}

#[test]
fn jobs_of_one_round_do_not_count_on_the_same_money() {
    let cluster = dear_cluster();
    cluster.home.neap(&["budget", "set", "project/vision", "--max-cost", "80"]).expect(0);
    cluster.submit(&of_vision("first"));
    cluster.submit(&of_vision("second"));
    cluster.wait_for("second", "its reason to wait", |job| job["reason"] == "budget");
    cluster.wait_for_step("first", 1);
    let second = cluster.job("second");
    assert_eq!((&second["reason"], spent(&second)), (&"budget".into(), 0), "one node is paid, two are not: {second:#}");
    cluster.home.neap(&["stop", "first", "--now"]).expect(0);
    cluster.wait_for_step("second", 1);
    cluster.home.neap(&["stop", "second", "--now"]).expect(0);
}

#[test]
fn a_node_is_not_kept_idle_for_a_job_that_cannot_pay_it() {
    let cluster = dear_cluster();
    cluster.home.neap(&["budget", "set", "project/poor", "--max-cost", "20"]).expect(0);
    cluster.submit(&of_vision("rich"));
    cluster.wait_for_step("rich", 1);
    cluster.submit(&Digits { checkpoint: "project: poor\n".to_owned(), ..of_vision("poor") });
    cluster.wait_for("poor", "its reason to wait", |job| job["reason"] == "budget");
    cluster.home.neap(&["stop", "rich", "--now"]).expect(0);
    cluster.wait_until("the node to go", || cluster.nodes().is_empty());
    assert_eq!(spent(&cluster.job("poor")), 0, "somebody without money pays nothing");
    cluster.home.neap(&["stop", "poor", "--now"]).expect(0);
}
