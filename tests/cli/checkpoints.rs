//! `neap checkpoint` on a folder: no control plane is needed for it.

use std::fs;

use neap_scheduler::model::MembershipEpoch;
use neap_storage::CheckpointStore;
use neap_storage::checkpoint::Meta;

use crate::support::Home;

fn meta(step: u64) -> Meta {
    Meta { membership: MembershipEpoch(2), step, epoch: 0, cursor: step, extra: serde_json::Value::Null }
}

#[test]
fn checkpoints_are_listed_verified_and_thinned_out() {
    let home = Home::new();
    let dir = tempfile::tempdir().unwrap();
    let store = CheckpointStore::open(dir.path()).unwrap();
    let names: Vec<String> =
        (1..=4).map(|step| store.publish(&meta(step), &[("parameters", &[7; 2_000])]).unwrap().name).collect();
    let place = dir.path().display().to_string();

    let listed = home.neap(&["checkpoint", "list", &place, "-o", "json"]).expect(0).json();
    let steps: Vec<u64> = listed.as_array().unwrap().iter().map(|line| line["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [4, 3, 2, 1], "the newest first");
    assert_eq!(listed[0]["membership_epoch"], 2);
    let table = home.neap(&["checkpoint", "list", &place]).expect(0).stdout;
    assert!(names.iter().all(|name| table.contains(name)), "{table}");

    let whole = home.neap(&["checkpoint", "verify", &format!("file://{place}"), "-o", "json"]).expect(0).json();
    assert_eq!((whole.as_array().unwrap().len(), &whole[0]["bytes"]), (4, &2_000.into()));
    let chunk = dir.path().join(&names[2]).join("parameters.00000");
    let mut bytes = fs::read(&chunk).unwrap();
    bytes[999] ^= 1;
    fs::write(&chunk, bytes).unwrap();
    let done = home.neap(&["checkpoint", "verify", &place, "-o", "json"]).expect(1);
    let damage = done.json()[1]["damage"].as_str().unwrap().to_owned();
    assert!(damage.contains(&names[2]) && damage.contains("parameters.00000"), "{damage}");
    assert!(done.stderr.contains("1 of 4 checkpoints are damaged"), "{done:?}");
    home.neap(&["checkpoint", "verify", &place, &names[0]]).expect(0);
    home.neap(&["checkpoint", "verify", &place, "checkpoint-of-nothing"]).expect(102);

    let deleted = home.neap(&["checkpoint", "gc", &place, "--keep", "2", "-o", "json"]).expect(0).json();
    assert_eq!(deleted, serde_json::json!(names[..2]));
    let left = home.neap(&["checkpoint", "list", &place, "-o", "name"]).expect(0).stdout;
    assert_eq!(left, format!("{}\n{}\n", names[3], names[2]));
}

#[test]
fn places_that_are_none_are_refused_and_nothing_is_made_there() {
    let home = Home::new();
    let absent = home.path().with_file_name("absent/folder");
    let done = home.neap(&["checkpoint", "list", &absent.display().to_string()]).expect(102);
    assert!(done.stderr.contains("absent/folder") && !absent.exists(), "{done:?}");
    let done = home.neap(&["checkpoint", "gc", "s3://key:hunter2@bucket/run"]).expect(2);
    assert!(done.stderr.contains("no credentials") && !done.stderr.contains("hunter2"), "{done:?}");
    home.neap(&["checkpoint", "list", "ftp://bucket/run"]).expect(2);
    // A job's name needs a control plane, and there is none.
    home.neap(&["checkpoint", "list", "digits"]).expect(3);
}
