//! A parameter server with a replica: no committed step is lost with one of the two.

use neap_runtime::wire::training::{Every, Length, Param};
use neap_runtime::wire::worker::{EpochFinished, Finished, WorkerReport};

use crate::cluster::Cluster;
use crate::{checkpoint, undisturbed};

const EPOCHS: u32 = 30;
const STEPS: u64 = 720;

/// Longer, with an optimiser that remembers, and without checkpoints: whatever is gone on from was in some worker's memory.
fn long(cluster: &mut Cluster) {
    cluster.launch.length = Length::Epochs(EPOCHS);
    cluster.launch.checkpoint_every = Every::Never;
    cluster.launch.params.retain(|(name, _)| name != "lr");
    let params = [
        ("optimizer", Param::Text("adam".to_owned())),
        ("lr", Param::Float(0.001)),
        ("clip_norm", Param::Float(0.5)),
        ("lr_schedule", Param::Text("cosine".to_owned())),
    ];
    cluster.launch.params.extend(params.map(|(name, value)| (name.to_owned(), value)));
}

fn replicated() -> Cluster {
    let mut cluster = Cluster::new();
    long(&mut cluster);
    cluster.launch.replicas = 1;
    cluster.replicas = 1;
    cluster
}

/// The first step that `at` tells of, the epochs it tells of, and the end.
async fn rest(cluster: &mut Cluster, at: usize) -> (u64, Vec<EpochFinished>, Finished) {
    let (mut first, mut epochs) = (None, Vec::new());
    let finished = cluster
        .await_report(at, |report| match report {
            WorkerReport::Progress(progress) => {
                first.get_or_insert(progress.step);
                None
            }
            WorkerReport::EpochFinished(epoch) => {
                epochs.push(epoch.clone());
                None
            }
            WorkerReport::Finished(finished) => Some(finished.clone()),
            _ => None,
        })
        .await;
    (first.unwrap(), epochs, finished)
}

async fn progress(cluster: &mut Cluster, at: usize, step: u64) -> u64 {
    cluster
        .await_report(at, |report| match report {
            WorkerReport::Progress(progress) if progress.step >= step => Some(progress.step),
            _ => None,
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_changes_nothing() {
    let alone = undisturbed(long).await;
    for count in [1, 2, 4] {
        let mut cluster = replicated();
        let carriers = cluster.start_workers(count);
        cluster.regroup(&carriers, 0, None).await;
        let (epochs, finished) = cluster.await_end(0).await;
        assert!(cluster.model() == alone, "{count} workers");
        assert_eq!((epochs.len() as u32, finished.steps), (EPOCHS, STEPS));
        cluster.stop(0, true).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_server_costs_no_committed_step_and_no_report_of_an_epoch() {
    let alone = undisturbed(long).await;
    let mut cluster = replicated();
    let carriers = cluster.start_workers(3);
    cluster.regroup(&carriers, 0, None).await;
    let before = progress(&mut cluster, 0, 30).await;
    cluster.kill(0).await;
    cluster.await_report(1, |report| matches!(report, WorkerReport::PeerLost { .. }).then_some(())).await;
    // Worker 1 was the replica and serves; worker 2 becomes one.
    cluster.regroup(&[1, 2], 1, None).await;
    let between = progress(&mut cluster, 1, before + 1).await;
    cluster.kill(1).await;
    cluster.regroup(&[2], 2, None).await;
    let (first, epochs, finished) = rest(&mut cluster, 2).await;
    assert!(first > between, "{first} after {between}");
    let told: Vec<u32> = epochs.iter().map(|epoch| epoch.epoch).collect();
    assert_eq!(told, (told[0]..EPOCHS).collect::<Vec<_>>());
    // The epoch that the lost server may not have told of is told.
    assert!(u64::from(told[0]) * 24 <= first, "{told:?} {first}");
    assert!(epochs.iter().all(|epoch| epoch.samples == 1_500));
    assert_eq!(finished.steps, STEPS);
    assert!(cluster.model() == alone);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_replica_is_replaced_and_the_new_one_has_what_the_server_has() {
    let alone = undisturbed(long).await;
    let mut cluster = replicated();
    let carriers = cluster.start_workers(3);
    cluster.regroup(&carriers, 0, None).await;
    progress(&mut cluster, 0, 30).await;
    cluster.kill(1).await;
    cluster.await_report(0, |report| matches!(report, WorkerReport::PeerLost { .. }).then_some(())).await;
    cluster.regroup(&[0, 2], 0, None).await;
    let before = progress(&mut cluster, 0, 60).await;
    // Both change their places, and nobody is lost.
    cluster.regroup(&[0, 2], 2, None).await;
    let between = progress(&mut cluster, 2, before + 1).await;
    cluster.kill(2).await;
    cluster.regroup(&[0], 0, None).await;
    let (first, ..) = rest(&mut cluster, 0).await;
    assert!(first > between, "{first} after {between}");
    assert!(cluster.model() == alone);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_both_are_lost_the_job_goes_on_from_its_checkpoint() {
    let often = |cluster: &mut Cluster| {
        long(cluster);
        cluster.launch.length = Length::Steps(200);
        cluster.launch.checkpoint_every = Every::Steps(20);
    };
    let alone = undisturbed(often).await;
    let mut cluster = replicated();
    often(&mut cluster);
    let carriers = cluster.start_workers(3);
    cluster.regroup(&carriers, 0, None).await;
    let saved = cluster.await_report(0, checkpoint).await;
    cluster.kill(0).await;
    cluster.kill(1).await;
    let joined = cluster.start_worker();
    // A worker that never had the state is named as if it had.
    cluster.regroup(&[2, joined], joined, Some(saved)).await;
    let (_, finished) = cluster.await_end(joined).await;
    assert_eq!(finished.steps, 200);
    assert!(cluster.model() == alone);
}
