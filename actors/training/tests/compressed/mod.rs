//! Compressed gradients: the model is as good as without, from the same samples.

mod fashion;

use neap_runtime::wire::training::{Compression, Length};
use neap_runtime::wire::worker::ACCURACY;

use crate::cluster::Cluster;

/// The accuracy after twelve epochs with a parameter server in a process of its own, so that all gradients travel; and what
/// each epoch used.
async fn accuracy(compression: Option<Compression>) -> (f64, Vec<[u8; 32]>) {
    let mut cluster = Cluster::new();
    cluster.launch.length = Length::Epochs(12);
    cluster.launch.strict = compression.is_none();
    cluster.launch.compression = compression;
    let carriers = cluster.start_workers(2);
    let server = cluster.start_worker();
    cluster.regroup(&carriers, server, None).await;
    let (epochs, finished) = cluster.await_end(server).await;
    let digests = epochs.iter().map(|epoch| epoch.sample_digest).collect();
    (finished.eval.unwrap().metric(ACCURACY).unwrap(), digests)
}

#[tokio::test(flavor = "multi_thread")]
async fn training_with_compressed_gradients_is_within_half_a_point_of_training_without() {
    let (whole, samples) = accuracy(None).await;
    assert!(whole > 0.9, "{whole}");
    for compression in [Compression::Bf16, Compression::TopK { share: 0.05 }] {
        let (compressed, same_samples) = accuracy(Some(compression)).await;
        println!("{compression:?}: {compressed}, without {whole}");
        assert!(compressed > whole - 0.005, "{compression:?}: {compressed}, without {whole}");
        assert_eq!(samples, same_samples);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_gradients_survive_a_lost_worker() {
    let mut cluster = Cluster::new();
    cluster.launch.length = Length::Epochs(20);
    cluster.launch.compression = Some(Compression::TopK { share: 0.05 });
    let carriers = cluster.start_workers(3);
    cluster.regroup(&carriers, 0, None).await;
    cluster.await_step(0, 1).await;
    cluster.kill(2).await;
    cluster.regroup(&[0, 1], 0, None).await;
    let (epochs, finished) = cluster.await_end(0).await;
    assert!(epochs.iter().all(|epoch| epoch.samples == 1_500));
    assert!(finished.eval.unwrap().metric(ACCURACY).unwrap() > 0.9);
}
