//! The promise of compression on a data set that people know: within half a point of accuracy on Fashion-MNIST.
//!
//! The first test trains for a few epochs. The second trains on until nothing more is to be had, which takes minutes:
//! `cargo test --test elastic fashion -- --ignored --nocapture`.

use std::path::Path;

use neap_runtime::wire::training::{Compression, Data, Format, Length, Order, Param, Part};
use neap_runtime::wire::worker::{ACCURACY, WorkerReport};

use crate::cluster::Cluster;

/// Where the Debian package `dataset-fashion-mnist` puts it.
const FOLDER: &str = "/usr/share/datasets/fashion-mnist";

/// How far below training without compression training with it may end.
const HALF_A_POINT: f64 = 0.005;

/// What is compared with training without.
const COMPRESSIONS: [Compression; 3] =
    [Compression::Bf16, Compression::TopK { share: 0.1 }, Compression::TopK { share: 0.01 }];

/// A training of the entry `mlp` with Adam, whose learning rate falls to nothing.
#[derive(Clone, Copy)]
struct Setup {
    hidden: [i64; 2],
    lr: f64,
    epochs: u32,
}

/// The accuracy on the 10,000 test images after the last epoch. The server is a process of its own, so that all gradients
/// travel.
async fn accuracy(compression: Option<Compression>, setup: Setup) -> f64 {
    let mut cluster = Cluster::new();
    let of = |part| Data {
        path: FOLDER.to_owned(),
        format: Format::Idx,
        part,
        order: Order { seed: Some(7), window: None, micro_shard: 256 },
        ..cluster.launch.train_data.clone()
    };
    let (train, eval) = (of(Part::Train), of(Part::Test));
    let launch = &mut cluster.launch;
    (launch.train_data, launch.eval_data) = (train, Some(eval));
    launch.params = [
        ("hidden1", Param::Int(setup.hidden[0])),
        ("hidden2", Param::Int(setup.hidden[1])),
        ("optimizer", Param::Text("adam".to_owned())),
        ("lr", Param::Float(setup.lr)),
        ("lr_schedule", Param::Text("cosine".to_owned())),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    launch.global_batch = 128;
    launch.memory_mib = 1_024;
    launch.length = Length::Epochs(setup.epochs);
    launch.strict = compression.is_none();
    launch.compression = compression;
    let carriers = cluster.start_workers(2);
    let server = cluster.start_worker();
    cluster.regroup(&carriers, server, None).await;
    let mut last = None;
    for _ in 0..setup.epochs {
        let finished = cluster.await_report(server, |report| match report {
            WorkerReport::EpochFinished(finished) => Some(finished.clone()),
            _ => None,
        });
        let finished = finished.await;
        assert_eq!(finished.samples, 60_000);
        last = finished.eval;
        // What the others report is taken, so that they need not wait with it.
        for &carrier in &carriers {
            while cluster.workers[carrier].reports.try_recv().is_ok() {}
        }
    }
    last.unwrap().metric(ACCURACY).unwrap()
}

async fn compare(setup: Setup, at_least: f64) {
    if !Path::new(FOLDER).exists() {
        println!("SKIPPED: {FOLDER} is not there; `apt-get install dataset-fashion-mnist` brings it");
        return;
    }
    let whole = accuracy(None, setup).await;
    println!("without compression: {whole}");
    assert!(whole > at_least, "{whole}");
    for compression in COMPRESSIONS {
        let compressed = accuracy(Some(compression), setup).await;
        println!("{compression:?}: {compressed}");
        assert!(compressed >= whole - HALF_A_POINT, "{compression:?}: {compressed}, without {whole}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn compression_costs_less_than_half_a_point_on_fashion_mnist() {
    compare(Setup { hidden: [64, 32], lr: 0.002, epochs: 6 }, 0.87).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn compression_costs_less_than_half_a_point_on_fashion_mnist_in_the_long_run() {
    compare(Setup { hidden: [256, 128], lr: 0.001, epochs: 20 }, 0.89).await;
}
