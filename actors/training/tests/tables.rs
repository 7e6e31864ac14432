//! Whole trainings on a table with numbers, categories and missing values: wherever the rows lie and whoever carries the
//! work, the model is the same.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cluster;

use std::path::PathBuf;

use cluster::Cluster;
use neap_runtime::wire::training::{Columns, Data, Every, Format, Length, Locality, Order, Param, Part, Target};
use neap_runtime::wire::worker::{CheckpointRef, Finished, WorkerReport};

/// Steps of the whole job: 2,946 or so flights in steps of 128, six epochs.
const EPOCHS: u32 = 6;

fn flights(part: Part) -> Data {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/data/flights-cut.csv");
    Data {
        path: path.display().to_string(),
        format: Format::Csv,
        part,
        label: Some("arr_delay".to_owned()),
        target: Some(Target::Value),
        columns: Columns {
            ignore: vec!["late".to_owned()],
            categories: vec!["month".to_owned()],
            ..Columns::default()
        },
        order: Order { seed: Some(5), window: Some(512), micro_shard: 32 },
        prefetch: 3,
        locality: Locality::Prefer,
    }
}

fn side(rest: bool) -> Part {
    Part::Hash { share_ppm: 100_000, by: None, rest }
}

/// A job that fits a line to the delays; `memory_mib: 0` leaves no row in memory.
fn cluster(memory_mib: u64) -> Cluster {
    let mut cluster = Cluster::new();
    let launch = &mut cluster.launch;
    launch.entry = "linear".to_owned();
    launch.params =
        vec![("optimizer".to_owned(), Param::Text("adam".to_owned())), ("lr".to_owned(), Param::Float(0.5))];
    launch.train_data = flights(side(true));
    launch.eval_data = Some(Data { target: None, columns: Columns::default(), ..flights(side(false)) });
    launch.global_batch = 128;
    launch.length = Length::Epochs(EPOCHS);
    launch.memory_mib = memory_mib;
    cluster
}

async fn trained(cluster: &mut Cluster, workers: usize) -> (Finished, Vec<u8>) {
    let carriers = cluster.start_workers(workers);
    cluster.regroup(&carriers, 0, None).await;
    let (epochs, finished) = cluster.await_end(0).await;
    assert_eq!(epochs.len(), EPOCHS as usize);
    let samples = epochs[0].samples;
    assert!(epochs.iter().all(|epoch| epoch.samples == samples), "{epochs:?}");
    assert_eq!(samples + finished.eval.as_ref().unwrap().samples, 3_274);
    (finished, cluster.model())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_learnt_and_the_model_says_what_its_columns_are() {
    let mut cluster = cluster(256);
    let (finished, model) = trained(&mut cluster, 1).await;
    let eval = finished.eval.unwrap();
    let mae = eval.metrics.iter().find(|(name, _)| name == "mae").unwrap().1;
    // Delays scatter by 28 minutes around their mean; the delay at departure says most of them.
    assert!(mae < 18.0, "{mae}");
    let tensors = safetensors::SafeTensors::deserialize(&model).unwrap();
    let features = tensors.tensor("layer.weight").unwrap().shape()[0];
    assert_eq!(tensors.tensor("input.mean").unwrap().shape(), [features]);
    let (_, card) = neap_storage::model::read_model(&cluster.folder.path().join("model")).unwrap();
    let columns = card.params["input_columns"].as_array().unwrap();
    let column = |name: &str| columns.iter().find(|column| column["name"] == name).unwrap();
    assert_eq!(column("origin")["categories"], serde_json::json!(["EWR", "JFK", "LGA"]));
    assert_eq!(column("month")["categories"].as_array().unwrap().len(), 12);
    assert_eq!(column("wind_gust")["missing_indicator"], true);
    assert_eq!(column("distance")["missing_indicator"], false);
    assert!(columns.iter().all(|column| column["name"] != "late" && column["name"] != "arr_delay"));
    cluster.stop(0, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_on_disk_on_many_workers_or_asked_of_others_give_the_same_model() {
    let (_, alone) = trained(&mut cluster(256), 1).await;
    let mut on_disk = cluster(0);
    assert!(trained(&mut on_disk, 3).await.1 == alone, "rows on disk, three workers");
    let cached = std::fs::read_dir(on_disk.folder.path().join("cache/data")).unwrap();
    assert_eq!(cached.count(), 2, "one file a data set, whoever wrote it");
    // The second worker sees no file, and asks the first one.
    let mut remote = cluster(0);
    remote.start_worker();
    let there = std::mem::replace(&mut remote.launch.train_data.path, "/nonexistent/flights.csv".to_owned());
    remote.start_worker();
    remote.launch.train_data.path = there;
    remote.regroup(&[0, 1], 0, None).await;
    remote.await_end(0).await;
    assert!(remote.model() == alone, "rows asked of another worker");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_training_in_windows_goes_on_in_the_middle_of_one() {
    let (_, alone) = trained(&mut cluster(256), 1).await;
    let mut cluster = cluster(0);
    // An epoch has 24 steps: the first checkpoint lies in the middle of the second.
    (cluster.launch.checkpoint_every, cluster.launch.checkpoint_keep) = (Every::Steps(31), 10);
    let carriers = cluster.start_workers(2);
    cluster.regroup(&carriers, 0, None).await;
    let saved: CheckpointRef = cluster
        .await_report(0, |report| match report {
            WorkerReport::Checkpoint(published) => Some(published.checkpoint.clone()),
            _ => None,
        })
        .await;
    assert_eq!(saved.step, 31);
    cluster.kill(0).await;
    cluster.kill(1).await;
    let next = cluster.start_worker();
    cluster.regroup(&[next], next, Some(saved)).await;
    cluster.await_end(next).await;
    assert!(cluster.model() == alone);
}
