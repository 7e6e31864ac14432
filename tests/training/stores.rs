//! Jobs whose data and weights lie in an S3 server.

use std::path::{Path, PathBuf};

use neap_storage::object::{Access, Location, Objects};

use crate::cluster::{Cluster, Digits, model, pid, sample_ledger};
use crate::moto::{BUCKET, Moto, SECRET};
use crate::support::{folder, kill};

fn objects(moto: &Moto) -> Objects {
    let Location::Remote(uri) = Location::parse(&format!("s3://{BUCKET}")).unwrap() else { panic!("a place") };
    Objects::open(&uri, &Access::with_variables(Moto::environment(moto.addr))).unwrap()
}

fn put(moto: &Moto, key: &str, file: &Path) {
    objects(moto).put(key, std::fs::read(file).unwrap().into()).unwrap();
}

#[test]
fn a_job_on_data_in_s3_gives_the_bytes_of_one_on_a_disk_and_survives_a_loss() {
    let Some(moto) = Moto::start("a_job_on_data_in_s3_gives_the_bytes_of_one_on_a_disk") else { return };
    let cluster = Cluster::down();
    cluster.home.up_with(&Moto::environment(moto.addr));
    put(&moto, "data/digits.csv", &folder("examples/data/digits.csv"));
    let remote = |job: Digits| Digits { data: format!("s3://{BUCKET}/data/digits.csv"), ..job };
    // Enough epochs that a worker can be killed in between.
    let stored = remote(Digits { epochs: 60, ..Digits::new("stored", "2") });
    cluster.submit(&stored);
    cluster.wait_for_workers("stored", 2);
    let running = cluster.wait_for_step("stored", 40);
    kill(pid(&running, false));
    let stored = cluster.finish("stored");
    let plain = cluster.run(&Digits { epochs: 60, ..Digits::new("plain", "2") });
    assert!(model(&stored) == model(&plain), "the models differ");
    assert_eq!(sample_ledger(&stored), sample_ledger(&plain));
    // Train and eval are one object, and all workers of a node share one copy.
    let bytes = std::fs::metadata(folder("examples/data/digits.csv")).unwrap().len();
    let fetched = stored["data"]["store_bytes"].as_u64().unwrap();
    assert!(fetched >= bytes && fetched.is_multiple_of(bytes) && fetched <= 3 * bytes, "{fetched} of {bytes}");
    assert_eq!(plain["data"]["store_bytes"], 0);
    assert!(stored["data"]["local_bytes"].as_u64() > Some(0));
    let log = cluster.home.neap(&["logs", "stored"]).expect(0).stdout;
    assert!(!log.contains(SECRET), "a secret was logged");

    // What is not there is said before anything is rented.
    let absent = Digits { data: format!("s3://{BUCKET}/absent/digits.csv"), ..Digits::new("absent", "1") };
    let refused = cluster.home.neap(&["run", "-d", "--force", &cluster.write(&absent)]).expect(2);
    assert!(refused.stderr.contains("E032") && refused.stderr.contains("absent/digits.csv"), "{refused:?}");
}

#[test]
fn a_job_that_must_read_its_data_itself_says_where_it_cannot() {
    let Some(moto) = Moto::start("a_job_that_must_read_its_data_itself_says_where_it_cannot") else { return };
    let cluster = Cluster::down();
    cluster.home.up_with(&Moto::environment(moto.addr));
    put(&moto, "data/digits.csv", &folder("examples/data/digits.csv"));
    let job = Digits { data: format!("s3://{BUCKET}/data/digits.csv, locality: require"), ..Digits::new("own", "1") };
    let done = cluster.run(&job);
    assert_eq!(done["data"]["remote_bytes"], 0);
}

#[test]
fn a_training_begins_with_weights_from_s3_and_not_with_others() {
    let Some(moto) = Moto::start("a_training_begins_with_weights_from_s3_and_not_with_others") else { return };
    let cluster = Cluster::down();
    cluster.home.up_with(&Moto::environment(moto.addr));
    let first = cluster.run(&Digits::new("first", "1"));
    let weights = PathBuf::from(first["result"]["model_path"].as_str().unwrap());
    put(&moto, "weights/first.safetensors", &weights);
    let begun = |uri: &str, name| {
        let init = format!("init: {{uri: \"{uri}\"}}");
        Digits { init, ..Digits::new(name, "1") }
    };
    let remote = cluster.run(&begun(&format!("s3://{BUCKET}/weights/first.safetensors"), "remote"));
    let local = cluster.run(&begun(weights.to_str().unwrap(), "local"));
    assert!(model(&remote) == model(&local), "the models differ");
    let absent = cluster.write(&begun(&format!("s3://{BUCKET}/weights/absent.safetensors"), "absent"));
    let refused = cluster.home.neap(&["run", "-d", "--force", &absent]).expect(2);
    assert!(refused.stderr.contains("E049") && refused.stderr.contains("absent.safetensors"), "{refused:?}");
}
