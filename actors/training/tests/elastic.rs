//! Whole trainings over QUIC. Where all workers make every step together the result never depends on who carried the work.
//! [`relaxed`] has those that do not wait for each other.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod allreduce;
mod cluster;
mod compressed;
mod relaxed;
mod replicas;

use cluster::Cluster;
use neap_runtime::wire::training::{Every, Init, Length, Param};
use neap_runtime::wire::worker::{ACCURACY, CheckpointRef, FailureKind, WorkerReport};
use neap_storage::CheckpointStore;

/// The model of one undisturbed worker.
async fn undisturbed(adjust: impl Fn(&mut Cluster)) -> Vec<u8> {
    let mut cluster = Cluster::new();
    adjust(&mut cluster);
    let only = cluster.start_worker();
    cluster.regroup(&[only], only, None).await;
    cluster.await_end(only).await;
    cluster.stop(only, false).await;
    cluster.model()
}

fn checkpoint(report: &WorkerReport) -> Option<CheckpointRef> {
    match report {
        WorkerReport::Checkpoint(published) => Some(published.checkpoint.clone()),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_worker_learns_the_digits_and_every_sample_counts_once() {
    let mut cluster = Cluster::new();
    let only = cluster.start_worker();
    cluster.regroup(&[only], only, None).await;
    let (epochs, finished) = cluster.await_end(only).await;
    assert_eq!(epochs.len(), 3);
    assert!(epochs.iter().zip(0..).all(|(epoch, number)| epoch.epoch == number && epoch.samples == 1_500));
    assert_ne!(epochs[0].sample_digest, epochs[1].sample_digest);
    let eval = finished.eval.unwrap();
    let accuracy = eval.metric(ACCURACY).unwrap();
    assert!(accuracy > 0.85, "{eval:?}");
    assert_eq!((finished.steps, finished.epochs, eval.samples), (72, 3, 297));
    assert_eq!(*blake3::hash(&cluster.model()).as_bytes(), finished.model_digest);
    let (weights, card) = neap_storage::model::read_model(&cluster.folder.path().join("model")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&weights).unwrap();
    assert_eq!(tensors.tensor("layer1.weight").unwrap().shape(), [64, 48]);
    assert_eq!(card.metrics["eval_accuracy"], accuracy);
    cluster.stop(only, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_workers_gives_the_same_bytes() {
    let alone = undisturbed(|_| {}).await;
    for count in [2, 3] {
        let mut cluster = Cluster::new();
        let carriers = cluster.start_workers(count);
        cluster.regroup(&carriers, 0, None).await;
        cluster.await_end(0).await;
        assert!(cluster.model() == alone, "{count} workers");
    }
    let mut cluster = Cluster::new();
    let carriers = cluster.start_workers(2);
    let server = cluster.start_worker();
    cluster.regroup(&carriers, server, None).await;
    cluster.await_end(server).await;
    assert!(cluster.model() == alone, "a server of its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_are_lost_and_workers_that_join_leave_no_trace() {
    let longer = |cluster: &mut Cluster| cluster.launch.length = Length::Epochs(12);
    let alone = undisturbed(longer).await;
    let mut cluster = Cluster::new();
    longer(&mut cluster);
    let carriers = cluster.start_workers(3);
    cluster.regroup(&carriers, 0, None).await;
    cluster.await_step(0, 5).await;
    cluster.kill(2).await;
    let lost = cluster
        .await_report(0, |report| match report {
            WorkerReport::PeerLost { worker, .. } => Some(*worker),
            _ => None,
        })
        .await;
    assert_eq!(lost, cluster.workers[2].id);
    cluster.regroup(&[0, 1], 0, None).await;
    cluster.await_step(0, 40).await;
    let joined = cluster.start_worker();
    cluster.regroup(&[joined, 1, 0], 0, None).await;
    let (epochs, _) = cluster.await_end(0).await;
    assert!(epochs.iter().all(|epoch| epoch.samples == 1_500));
    assert!(cluster.model() == alone);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_server_is_replaced_from_its_last_checkpoint() {
    let longer = |cluster: &mut Cluster| {
        cluster.launch.length = Length::Steps(200);
        cluster.launch.checkpoint_every = Every::Steps(30);
        cluster.launch.params.retain(|(name, _)| name != "lr");
        let params = [
            ("optimizer", Param::Text("adamw".to_owned())),
            ("lr", Param::Float(0.001)),
            ("weight_decay", Param::Float(0.01)),
            ("lr_schedule", Param::Text("cosine".to_owned())),
            ("lr_warmup_steps", Param::Int(20)),
            ("clip_norm", Param::Float(0.5)),
        ];
        cluster.launch.params.extend(params.map(|(name, value)| (name.to_owned(), value)));
    };
    let alone = undisturbed(longer).await;
    let mut cluster = Cluster::new();
    longer(&mut cluster);
    let carriers = cluster.start_workers(3);
    cluster.regroup(&carriers, 0, None).await;
    let saved = cluster.await_report(0, checkpoint).await;
    cluster.kill(0).await;
    cluster.await_report(1, |report| matches!(report, WorkerReport::PeerLost { .. }).then_some(())).await;
    cluster.regroup(&[1, 2], 2, Some(saved)).await;
    let (_, finished) = cluster.await_end(2).await;
    assert_eq!(finished.steps, 200);
    assert!(cluster.model() == alone);
}

#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_servers_gives_the_same_bytes() {
    let clipped = |cluster: &mut Cluster| cluster.launch.params.push(("clip_norm".to_owned(), Param::Float(0.5)));
    let alone = undisturbed(clipped).await;
    for (workers, servers) in [(2, 2), (3, 3), (4, 3)] {
        let mut cluster = Cluster::new();
        clipped(&mut cluster);
        cluster.servers = servers;
        let carriers = cluster.start_workers(workers);
        cluster.regroup(&carriers, 1, None).await;
        let (epochs, _) = cluster.await_end(1).await;
        assert!(epochs.iter().all(|epoch| epoch.samples == 1_500));
        assert!(cluster.model() == alone, "{workers} workers, {servers} servers");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_go_on_where_they_are_and_lost_ones_from_the_last_checkpoint() {
    let longer = |cluster: &mut Cluster| {
        cluster.launch.length = Length::Steps(200);
        cluster.launch.checkpoint_every = Every::Steps(20);
        cluster.launch.params.push(("optimizer".to_owned(), Param::Text("adam".to_owned())));
    };
    let alone = undisturbed(longer).await;
    let mut cluster = Cluster::new();
    longer(&mut cluster);
    cluster.servers = 3;
    let carriers = cluster.start_workers(4);
    cluster.regroup(&carriers, 0, None).await;
    let saved = cluster.await_report(0, checkpoint).await;
    // A trainer is lost: the servers stay, and no step is done twice.
    cluster.kill(3).await;
    cluster.regroup(&[0, 1, 2], 0, None).await;
    let later = cluster.await_report(0, checkpoint).await;
    assert!(later.step > saved.step);
    // A server is lost, then the one in the lead.
    cluster.kill(1).await;
    cluster.regroup(&[0, 2], 0, Some(later)).await;
    let last = cluster.await_report(0, checkpoint).await;
    cluster.kill(0).await;
    let joined = cluster.start_worker();
    cluster.regroup(&[2, joined], 2, Some(last)).await;
    let (_, finished) = cluster.await_end(2).await;
    assert_eq!(finished.steps, 200);
    assert!(cluster.model() == alone);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_with_several_servers_is_saved_whole_when_it_stops() {
    let alone = undisturbed(|_| {}).await;
    let mut cluster = Cluster::new();
    cluster.servers = 2;
    let first = cluster.start_workers(2);
    cluster.regroup(&first, 0, None).await;
    cluster.await_step(0, 1).await;
    cluster.stop(0, true).await;
    let store = CheckpointStore::open(&cluster.folder.path().join("checkpoints")).unwrap();
    let newest = store.list().unwrap().pop().unwrap();
    let saved = CheckpointRef { name: newest.name, step: newest.step };
    let others = cluster.start_workers(3);
    cluster.servers = 3;
    cluster.regroup(&others, others[0], Some(saved)).await;
    cluster.await_end(others[0]).await;
    assert!(cluster.model() == alone);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_job_goes_on_from_where_it_was_saved() {
    let alone = undisturbed(|_| {}).await;
    let mut cluster = Cluster::new();
    let first = cluster.start_worker();
    cluster.regroup(&[first], first, None).await;
    cluster.await_step(first, 1).await;
    cluster.save_now(first).await;
    cluster.await_report(first, checkpoint).await;
    cluster.stop(first, true).await;
    let store = CheckpointStore::open(&cluster.folder.path().join("checkpoints")).unwrap();
    let newest = store.list().unwrap().pop().unwrap();
    let saved = CheckpointRef { name: newest.name, step: newest.step };
    let others = [cluster.start_worker(), cluster.start_worker()];
    cluster.regroup(&others, others[1], Some(saved)).await;
    cluster.await_end(others[1]).await;
    assert!(cluster.model() == alone);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_the_data_asks_the_others() {
    let alone = undisturbed(|_| {}).await;
    let mut cluster = Cluster::new();
    let with_data = cluster.start_worker();
    let path = cluster.launch.train_data.path.clone();
    for data in [&mut cluster.launch.train_data, cluster.launch.eval_data.as_mut().unwrap()] {
        data.path = "/nowhere/digits.csv".to_owned();
    }
    let without = cluster.start_worker();
    cluster.regroup(&[with_data, without], without, None).await;
    cluster.await_end(without).await;
    assert!(cluster.model() == alone);
    assert!(std::path::Path::new(&path).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_folder_that_cannot_be_written_does_not_end_the_job_but_a_model_folder_does() {
    let alone = undisturbed(|_| {}).await;
    let mut cluster = Cluster::new();
    std::fs::write(cluster.folder.path().join("checkpoints"), "in the way").unwrap();
    let only = cluster.start_worker();
    cluster.regroup(&[only], only, None).await;
    cluster.await_end(only).await;
    assert!(cluster.model() == alone);

    let mut cluster = Cluster::new();
    std::fs::write(cluster.folder.path().join("model"), "in the way").unwrap();
    let only = cluster.start_worker();
    cluster.regroup(&[only], only, None).await;
    let message = failure(&mut cluster, only, FailureKind::Invalid).await;
    assert!(message.contains("the trained model was not written") && message.contains("/model"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_job_are_told_with_what_to_do() {
    let mut cluster = Cluster::new();
    cluster.launch.entry = "cnn".to_owned();
    let only = cluster.start_worker();
    cluster.regroup(&[only], only, None).await;
    let message = failure(&mut cluster, only, FailureKind::User).await;
    assert!(message.contains("`train.params.hidden1` is not a setting of `cnn`"), "{message}");

    let mut cluster = Cluster::new();
    cluster.launch.train_data.label = Some("digit".to_owned());
    let only = cluster.start_worker();
    cluster.regroup(&[only], only, None).await;
    let message = failure(&mut cluster, only, FailureKind::Invalid).await;
    assert!(message.contains("no column `digit`") && message.contains("names in `data.*`: `label`"), "{message}");

    let mut cluster = Cluster::new();
    let first = cluster.start_worker();
    cluster.launch.train_data.part = neap_runtime::wire::training::Part::Rows(1, 1_501);
    let other = cluster.start_worker();
    cluster.regroup(&[first, other], first, None).await;
    let message = failure(&mut cluster, first, FailureKind::Invalid).await;
    assert!(message.contains("other training data"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_is_not_finite_stops_the_job_with_the_same_words_for_any_workers() {
    let mut texts = Vec::new();
    for (count, servers) in [(1, 1), (3, 1), (3, 3)] {
        let mut cluster = Cluster::new();
        cluster.servers = servers;
        cluster.launch.params.retain(|(name, _)| name != "lr");
        // Overflows within a few steps; the checkpoints before that are good ones.
        let params =
            [("lr", Param::Float(30.0)), ("momentum", Param::Float(0.99)), ("weight_decay", Param::Float(30.0))];
        cluster.launch.params.extend(params.map(|(name, value)| (name.to_owned(), value)));
        cluster.launch.checkpoint_every = Every::Steps(2);
        let carriers = cluster.start_workers(count);
        cluster.regroup(&carriers, 0, None).await;
        let message = failure(&mut cluster, 0, FailureKind::User).await;
        let store = CheckpointStore::open(&cluster.folder.path().join("checkpoints")).unwrap();
        let kept = store.load_latest().unwrap().unwrap();
        let floats: Vec<f32> = bytemuck::pod_collect_to_vec(&kept.parts["parameters"]);
        assert!(kept.meta.step >= 2 && floats.iter().all(|value| value.is_finite()), "{}", kept.meta.step);
        texts.push((message, kept.meta.step));
    }
    assert!(texts.iter().all(|text| *text == texts[0]), "{texts:#?}");
    let (message, step) = &texts[0];
    assert!(message.contains("`layer1.weight`") && message.contains("lower `train.params.lr`"), "{message}");
    let said: u64 = message.split(' ').find_map(|word| word.parse().ok()).unwrap();
    assert!(said > *step, "{message}: the checkpoint is of step {step}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_micro_batch_gives_its_own_bytes_whoever_carries_it() {
    // A logical shard has 8 samples of a step and 3 or 4 of an epoch's last one: pieces of 3, 3 and 2, or 3 and 1.
    let pieces = |cluster: &mut Cluster| cluster.launch.micro_batch = Some(3);
    let alone = undisturbed(pieces).await;
    assert!(alone != undisturbed(|_| {}).await);
    assert!(undisturbed(|cluster| cluster.launch.micro_batch = Some(8)).await == undisturbed(|_| {}).await);
    for count in [2, 3] {
        let mut cluster = Cluster::new();
        pieces(&mut cluster);
        let carriers = cluster.start_workers(count);
        cluster.regroup(&carriers, 0, None).await;
        cluster.await_end(0).await;
        assert!(cluster.model() == alone, "{count} workers");
    }
}

async fn failure(cluster: &mut Cluster, at: usize, expected: FailureKind) -> String {
    cluster
        .await_report(at, |report| match report {
            WorkerReport::Failed { kind, message, .. } => {
                assert_eq!(*kind, expected, "{message}");
                Some(message.clone())
            }
            _ => None,
        })
        .await
}

/// The tensors of a model file by name.
fn tensors(model: &[u8]) -> std::collections::BTreeMap<String, Vec<u8>> {
    let file = safetensors::SafeTensors::deserialize(model).unwrap();
    file.tensors().into_iter().map(|(name, view)| (name, view.data().to_vec())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn given_weights_are_begun_with_and_frozen_ones_stay_for_any_workers() {
    let given = undisturbed(|_| {}).await;
    let file = tempfile::tempdir().unwrap();
    let path = file.path().join("given.safetensors");
    std::fs::write(&path, &given).unwrap();
    let begin = |cluster: &mut Cluster| {
        cluster.launch.init = Some(Init {
            path: path.display().to_string(),
            digest: Some(blake3::hash(&given).to_hex().to_string()),
            rename: Vec::new(),
            fresh: vec!["layer3".to_owned()],
            ignore: Vec::new(),
            freeze: vec!["layer1".to_owned()],
        });
        cluster.launch.length = Length::Steps(12);
    };
    let alone = undisturbed(begin).await;
    let (before, after) = (tensors(&given), tensors(&alone));
    for (name, values) in &after {
        let stays = name.starts_with("layer1") || name.starts_with("input");
        assert_eq!(before[name] == *values, stays, "{name}");
    }
    let mut cluster = Cluster::new();
    begin(&mut cluster);
    let carriers = cluster.start_workers(3);
    cluster.regroup(&carriers, 1, None).await;
    cluster.await_end(1).await;
    assert!(cluster.model() == alone, "the same bits for three workers");
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_that_changed_since_the_job_was_accepted_end_it() {
    let mut cluster = Cluster::new();
    let path = cluster.folder.path().join("given.safetensors");
    std::fs::write(&path, b"another file").unwrap();
    cluster.launch.init = Some(Init {
        path: path.display().to_string(),
        digest: Some("ab".repeat(32)),
        rename: Vec::new(),
        fresh: Vec::new(),
        ignore: Vec::new(),
        freeze: Vec::new(),
    });
    let worker = cluster.start_worker();
    cluster.regroup(&[worker], worker, None).await;
    let message = failure(&mut cluster, worker, FailureKind::Invalid).await;
    assert!(message.contains("given.safetensors") && message.contains("have changed"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_is_written_whenever_so_much_time_has_passed() {
    let mut cluster = Cluster::new();
    cluster.launch.checkpoint_every = Every::Millis(1);
    let alone = undisturbed(|_| {}).await;
    let worker = cluster.start_worker();
    cluster.regroup(&[worker], worker, None).await;
    let first = cluster.await_report(worker, checkpoint).await;
    assert!((1..24).contains(&first.step), "before the first epoch's end, which is at step 24: {first:?}");
    cluster.await_end(worker).await;
    assert!(cluster.model() == alone, "checkpoints change nothing");
}
