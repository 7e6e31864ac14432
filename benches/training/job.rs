//! What benches train: an entry on a made-up data set.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use neap_runtime::codec;
use neap_runtime::wire::training::{
    Backend, Columns, Consistency, Data, Every, Format, Length, Locality, Order, Param, Part, Strategy, TrainLaunch,
};
use neap_runtime::workload::LAUNCH_BYTES_MAX;
use neap_scheduler::model::JobId;

/// The only job.
pub(crate) const JOB: JobId = JobId::new(1);

/// Samples of the made-up data set: 50 steps an epoch at the usual batch.
const SAMPLES: u32 = 6_400;

/// What is trained, and how.
#[derive(Clone)]
pub(crate) struct Job {
    pub(crate) entry: &'static str,
    pub(crate) params: Vec<(String, Param)>,
    /// Samples a step over all logical shards.
    pub(crate) batch: u32,
    pub(crate) logical_shards: u32,
    pub(crate) steps: u64,
    /// Threads that compute in each worker.
    pub(crate) threads: u32,
    pub(crate) consistency: Consistency,
}

/// Writes a data set of random 28×28 images.
pub(crate) fn write_data(folder: &Path) {
    let mut state = 1u64;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let write = |name: &str, header: &[u32], body: Vec<u8>| {
        let header = header.iter().flat_map(|number| number.to_be_bytes());
        std::fs::write(folder.join(name), header.chain(body).collect::<Vec<u8>>()).expect("a writable folder");
    };
    let pixels = (0..SAMPLES * 784).map(|_| byte()).collect();
    write("train-images-idx3-ubyte", &[0x803, SAMPLES, 28, 28], pixels);
    write("train-labels-idx1-ubyte", &[0x801, SAMPLES], (0..SAMPLES).map(|_| byte() % 10).collect());
}

/// Its launch data: without checkpoints, on the processor.
pub(crate) fn launch(job: &Job, folder: &Path) -> TrainLaunch {
    TrainLaunch {
        job: JOB,
        job_name: "bench".to_owned(),
        spec_hash: "0".to_owned(),
        entry: job.entry.to_owned(),
        params: job.params.clone(),
        train_data: Data {
            path: folder.display().to_string(),
            format: Format::Idx,
            part: Part::Train,
            label: None,
            target: None,
            columns: Columns::default(),
            order: Order { seed: Some(1), window: None, micro_shard: 256 },
            prefetch: 4,
            locality: Locality::Prefer,
        },
        eval_data: None,
        global_batch: job.batch,
        logical_shards: job.logical_shards,
        micro_batch: None,
        length: Length::Steps(job.steps),
        strict: true,
        separate_server: false,
        init: None,
        consistency: job.consistency,
        seed: 1,
        checkpoint_folder: folder.join("checkpoints").display().to_string(),
        checkpoint_every: Every::Never,
        checkpoint_keep: 2,
        model_folder: folder.join("model").display().to_string(),
        strategy: Strategy::ParameterServer,
        compression: None,
        memory_mib: 1024,
        replicas: 0,
        backend: Backend::Flex,
    }
}

/// Launch data as a worker gets it.
pub(crate) fn encoded(launch: &TrainLaunch) -> Vec<u8> {
    codec::encode::<_, LAUNCH_BYTES_MAX>(launch).expect("a small launch")
}

/// A runtime as a worker process has it.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

/// Any free port of this machine.
pub(crate) fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}
