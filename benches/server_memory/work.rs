//! What benches train: the entry `mlp` on a made-up data set.

use std::path::Path;

use neap_runtime::codec;
use neap_runtime::wire::training::{
    Backend, Columns, Consistency, Data, Every, Format, Length, Locality, Order, Param, Part, Strategy, TrainLaunch,
};
use neap_runtime::workload::LAUNCH_BYTES_MAX;
use neap_scheduler::model::JobId;

/// The only job.
pub(crate) const JOB: JobId = JobId::new(1);

/// A training of plain 8-bit images.
pub(crate) struct Work {
    pub(crate) params: Vec<(&'static str, Param)>,
    pub(crate) global_batch: u32,
    pub(crate) logical_shards: u32,
    pub(crate) steps: u64,
}

/// Samples of the made-up data set: 50 steps an epoch.
const SAMPLES: u32 = 6_400;

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

/// Its launch data.
pub(crate) fn launch(folder: &Path, work: &Work) -> Vec<u8> {
    let launch = TrainLaunch {
        job: JOB,
        job_name: "bench".to_owned(),
        spec_hash: "0".to_owned(),
        entry: "mlp".to_owned(),
        params: work.params.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
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
        global_batch: work.global_batch,
        logical_shards: work.logical_shards,
        micro_batch: None,
        length: Length::Steps(work.steps),
        strict: true,
        separate_server: false,
        init: None,
        consistency: Consistency::Sync,
        seed: 1,
        checkpoint_folder: folder.join("checkpoints").display().to_string(),
        checkpoint_every: Every::Never,
        checkpoint_keep: 2,
        model_folder: folder.join("model").display().to_string(),
        strategy: Strategy::ParameterServer,
        compression: None,
        backend: Backend::Flex,
        memory_mib: 1024,
        replicas: 0,
    };
    codec::encode::<_, LAUNCH_BYTES_MAX>(&launch).expect("a small launch")
}
