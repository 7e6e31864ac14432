//! Checkpoints of real jobs: in a folder and in an S3 server, and going on from one.

use serde_json::Value;

use crate::cluster::{Cluster, Digits, model, pid, sample_ledger};
use crate::moto::{BUCKET, Moto, SECRET};
use crate::support::kill;

/// The steps of the job's checkpoints, the newest first.
fn steps(cluster: &Cluster, job: &str) -> Vec<u64> {
    let listed = cluster.home.neap(&["checkpoint", "list", job, "-o", "json"]).expect(0).json();
    listed.as_array().unwrap().iter().map(|line| line["step"].as_u64().unwrap()).collect()
}

fn restored(cluster: &Cluster, args: &[&str]) -> Value {
    let args: Vec<&str> = ["checkpoint", "restore"].iter().chain(args).copied().chain(["-o", "json"]).collect();
    cluster.home.neap(&args).expect(0).json()
}

#[test]
fn a_job_that_has_ended_goes_on_from_any_of_its_checkpoints() {
    let cluster = Cluster::up();
    let folder = cluster.home.path().with_file_name("saved");
    let checkpoint = format!("checkpoint: {{uri: \"{}\", every: 20steps, keep: 9}}\n", folder.display());
    let job = Digits { epochs: 4, checkpoint, ..Digits::new("again", "1") };
    let first = cluster.run(&job);
    let saved = steps(&cluster, "again");
    assert!(saved.len() >= 3, "{saved:?}");
    assert!(folder.join(first["id"].as_str().unwrap()).is_dir(), "each job has a folder of its own");
    cluster.home.neap(&["checkpoint", "verify", "again"]).expect(0);

    let step = saved[1].to_string();
    let second = restored(&cluster, &["again", "--to", &step]);
    assert_ne!(second["id"], first["id"]);
    assert_eq!(second["checkpoint"]["step"].as_u64(), Some(saved[1]));
    let second = cluster.finish("again");
    assert!(model(&second) == model(&first), "the same bits as without a break");
    let ledger = sample_ledger(&second);
    assert!(sample_ledger(&first).ends_with(&ledger) && ledger.len() < 4, "only what came after it: {ledger:?}");

    let done = cluster.home.neap(&["checkpoint", "restore", first["id"].as_str().unwrap(), "--to", "7"]).expect(5);
    assert!(done.stderr.contains("no whole checkpoint of step 7") && done.stderr.contains(&step), "{done:?}");
    cluster.submit(&Digits { epochs: 50_000, ..Digits::new("busy", "1") });
    let done = cluster.home.neap(&["checkpoint", "restore", "busy"]).expect(5);
    assert!(done.stderr.contains("has not ended"), "{done:?}");
    cluster.home.neap(&["checkpoint", "restore", "nobody"]).expect(102);
}

#[test]
fn checkpoints_in_s3_carry_a_job_over_the_loss_of_its_server() {
    let Some(moto) = Moto::start("checkpoints_in_s3_carry_a_job_over_the_loss_of_its_server") else { return };
    let cluster = Cluster::down();
    cluster.home.up_with(&Moto::environment(moto.addr));
    let checkpoint = format!("checkpoint: {{uri: \"s3://{BUCKET}/jobs\", every: 20steps}}\n");
    let job = Digits { epochs: 40, checkpoint, ..Digits::new("stored", "2") };
    cluster.submit(&job);
    cluster.wait_for_workers("stored", 2);
    let running = cluster.wait_for("stored", "a checkpoint", |job| job["checkpoint"]["step"].as_u64() >= Some(40));
    assert_eq!(running["checkpoints"], format!("s3://{BUCKET}/jobs/{}", running["id"].as_str().unwrap()));
    kill(pid(&running, true));
    let stored = cluster.finish("stored");
    assert!(stored["recoveries"].as_u64().unwrap() >= 1);
    let undisturbed =
        cluster.run(&Digits { checkpoint: String::new(), ..Digits { name: "undisturbed", ..job.clone() } });
    assert!(model(&stored) == model(&undisturbed), "the models differ");

    let mut list = cluster.home.command(&["checkpoint", "verify", "stored", "-o", "json"]);
    let listed = crate::support::done(list.envs(Moto::environment(moto.addr))).expect(0);
    assert!(listed.json().as_array().unwrap().len() >= 2, "{listed:?}");
    let log = cluster.home.neap(&["logs", "stored"]).expect(0).stdout;
    let control = std::fs::read_to_string(cluster.home.path().join("control.log")).unwrap();
    assert!(!log.contains(SECRET) && !control.contains(SECRET), "a secret was logged");

    // Where nothing can be written, a job is not begun.
    let absent = "checkpoint: {uri: \"s3://neap-absent/jobs\"}\n".to_owned();
    let file = cluster.write(&Digits { checkpoint: absent, ..Digits::new("lost", "1") });
    let refused = cluster.home.neap(&["run", "-d", "--force", &file]).expect(2);
    assert!(refused.stderr.contains("E030") && refused.stderr.contains("neap-absent"), "{refused:?}");
}
