//! Control planes come up once, go down once, and say why when they cannot.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use crate::support::{Home, done, folder, kill};

#[test]
fn up_and_down_can_be_said_twice() {
    let home = Home::new();
    assert_eq!(home.neap(&["down", "-o", "json"]).expect(0).json()["outcome"], "not_up");
    let plane = home.up();
    let again = home.neap(&["up", "-o", "json"]).expect(0).json();
    assert_eq!((again["outcome"].as_str(), again["pid"].as_u64()), (Some("already_up"), Some(plane.pid)));
    let status = home.neap(&["status", "-o", "json"]).expect(0).json();
    assert_eq!(status["pid"].as_u64(), Some(plane.pid));
    assert_eq!(home.neap(&["down", "-o", "json"]).expect(0).json()["outcome"], "ended");
    assert_eq!(home.endpoint(), None);
    assert_eq!(home.neap(&["down", "-o", "json"]).expect(0).json()["outcome"], "not_up");
    home.neap(&["ps"]).expect(3);
}

#[test]
fn two_ups_at_once_give_one_control_plane() {
    let home = Home::new();
    let ups: Vec<_> = std::thread::scope(|scope| {
        let up = || home.neap(&["up", "--http", "127.0.0.1:0", "-o", "json"]).expect(0).json()["pid"].as_u64().unwrap();
        let running: Vec<_> = (0..3).map(|_| scope.spawn(up)).collect();
        running.into_iter().map(|up| up.join().unwrap()).collect()
    });
    assert!(ups.iter().all(|pid| *pid == ups[0]), "{ups:?}");
}

#[test]
fn a_port_in_use_is_named_with_what_to_do() {
    let home = Home::new();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = other.local_addr().unwrap().to_string();
    let done = home.neap(&["up", "--http", &addr]).expect(5);
    assert!(done.stderr.contains(&addr) && done.stderr.contains("--http 127.0.0.1:0"), "{done:?}");
    assert_eq!(home.endpoint(), None);
}

#[test]
fn a_control_plane_that_was_killed_is_found_to_be_gone_and_comes_back_with_its_cluster() {
    let home = Home::new();
    let first = home.up();
    let cluster = home.neap(&["status", "-o", "json"]).expect(0).json()["cluster"].clone();
    kill(first.pid);
    while home.neap(&["ps"]).code != 3 {}
    let second = home.up();
    assert_ne!(second.pid, first.pid);
    assert_eq!(home.neap(&["status", "-o", "json"]).expect(0).json()["cluster"], cluster);
}

#[test]
fn a_configuration_that_lies_is_refused_with_its_place() {
    let home = Home::new();
    let config = home.path().with_file_name("config.yaml");
    std::fs::write(&config, "local: {offers: [{name: a, cpus: 0, memory_mib: 1, max_nodes: 1}]}").unwrap();
    let done = home.neap(&["up", "--http", "127.0.0.1:0", "--config", config.to_str().unwrap()]).expect(1);
    assert!(done.stderr.contains("local.offers[0]"), "{done:?}");
    assert_eq!(home.endpoint(), None);
}

#[test]
fn doctor_sees_a_token_that_others_can_read() {
    let home = Home::new();
    let down = home.neap(&["doctor", "-o", "json"]).expect(0).json();
    assert_eq!(find(&down, "control plane")["verdict"], "warn");
    home.up();
    let up = home.neap(&["doctor", "-o", "json"]).expect(0).json();
    for check in ["control plane", "API token", "CA key", "version", "journal", "home folder"] {
        assert_eq!(find(&up, check)["verdict"], "ok", "{check}");
    }
    let token = home.path().join("token");
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).unwrap();
    let open = home.neap(&["doctor", "-o", "json"]).expect(1);
    assert_eq!(find(&open.json(), "API token")["verdict"], "fail");
}

fn find(findings: &serde_json::Value, check: &str) -> serde_json::Value {
    let found = findings.as_array().unwrap().iter().find(|finding| finding["check"] == check);
    found.unwrap_or_else(|| panic!("no {check} in {findings}")).clone()
}

#[test]
fn what_does_not_exist_is_said_to_exit_with_102() {
    let home = Home::new();
    home.up();
    for command in
        [&["status", "ghost"][..], &["wait", "ghost"], &["logs", "ghost"], &["stop", "ghost"], &["explain", "ghost"]]
    {
        let done = home.neap(command).expect(102);
        assert!(done.stderr.contains("ghost"), "{command:?}: {done:?}");
    }
    home.neap(&["node", "preempt", "n99"]).expect(102);
    assert_eq!(home.neap(&["ps", "-o", "json"]).expect(0).json(), serde_json::json!([]));
    assert_eq!(home.neap(&["cost", "-o", "json"]).expect(0).json()["total"]["total_micro_usd"], 0);
}

#[test]
fn data_that_is_not_there_is_refused_before_anything_is_rented() {
    let home = Home::new();
    home.up();
    let text = std::fs::read_to_string(folder("examples/digits.yaml")).unwrap();
    let file = home.path().with_file_name("job.yaml");
    std::fs::write(&file, text).unwrap();
    let done = done(&mut home.command(&["run", file.to_str().unwrap()])).expect(2);
    assert!(done.stderr.contains("error[E032]") && done.stderr.contains("data/digits.csv"), "{done:?}");
    assert_eq!(home.neap(&["ps", "-a", "-o", "json"]).expect(0).json(), serde_json::json!([]));
}
