//! Workers of one job on devices of different models: one on the processor, one through wgpu.

use neap::runtime::wire::training::{Backend, Strategy};
use neap::runtime::wire::worker::WorkerReport;
use neap::training::device::ComputeDevice;

use crate::support::folder;
use crate::wgpu;
use crate::workers::Cluster;

/// Starts both; the one on the processor leads.
async fn both(adjust: impl Fn(&mut Cluster)) -> Cluster {
    let mut cluster = Cluster::new();
    let digits = folder("examples/data/digits.csv").display().to_string();
    let launch = &mut cluster.launch;
    let data = std::iter::once(&mut launch.train_data).chain(&mut launch.eval_data);
    data.for_each(|data| data.path.clone_from(&digits));
    adjust(&mut cluster);
    for backend in [Backend::Flex, Backend::Wgpu] {
        cluster.launch.backend = backend;
        cluster.start_worker();
    }
    cluster.regroup(&[0, 1], 0, None).await;
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strict_job_on_two_models_of_device_is_failed_with_both_named() {
    let Some(device) = wgpu("a_strict_job_on_two_models_of_device_is_failed_with_both_named") else { return };
    for strategy in [Strategy::ParameterServer, Strategy::AllReduce] {
        let mut cluster = both(|cluster| cluster.launch.strategy = strategy).await;
        let failed = |report: &WorkerReport| match report {
            WorkerReport::Failed { message, .. } => Some(message.clone()),
            _ => None,
        };
        let message = cluster.await_report(0, failed).await;
        for part in [device.model(), ComputeDevice::flex().model(), "determinism: samples"] {
            assert!(message.contains(part), "`{part}` is not in: {message}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_may_round_otherwise_trains_on_two_models_of_device() {
    if wgpu("a_job_that_may_round_otherwise_trains_on_two_models_of_device").is_none() {
        return;
    }
    let mut cluster = both(|cluster| cluster.launch.strict = false).await;
    let (_, finished) = cluster.await_end(0).await;
    let eval = finished.eval.unwrap();
    assert!(eval.metric("accuracy").unwrap() > 0.85, "{eval:?}");
}
