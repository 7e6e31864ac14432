//! A model whose shapes do not fit the data ends its job with a reason that names it, before a step is computed; one that
//! panics in the middle does so too, and neither is tried again and again.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use neap_runtime::wire::training::{
    Backend, Columns, Consistency, Data, Every, Format, Length, Locality, Order, Part, Strategy, TrainLaunch,
};
use neap_runtime::wire::worker::{FailureKind, Member, Membership, WorkerCommand, WorkerReport};
use neap_runtime::workload::{LAUNCH_BYTES_MAX, ReportSender, WorkerContext, Workload};
use neap_runtime::{CertificateAuthority, Node, NodeConfig, Role, codec};
use neap_scheduler::model::{JobId, MembershipEpoch, WorkerId};
use neap_training::Entries;
use neap_training::data::SampleShape;
use neap_training::entry::EntryError;
use neap_training::model::{Model, NoParams};
use tokio::sync::mpsc;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Made for samples of seven values; the digits have 64.
#[derive(Module, Debug)]
struct Narrow {
    linear: Linear,
}

impl Model for Narrow {
    const NAME: &'static str = "tests::Narrow";
    type Params = NoParams;

    fn build(_: SampleShape, outputs: usize, _: &NoParams, device: &Device) -> Result<Self, EntryError> {
        Ok(Self { linear: LinearConfig::new(7, outputs).init(device) })
    }

    fn forward(&self, samples: Tensor<4>) -> Tensor<2> {
        self.linear.forward(samples.flatten(1, 3))
    }
}

/// Takes one sample at a time, and a step has more.
#[derive(Module, Debug)]
struct Single {
    linear: Linear,
}

impl Model for Single {
    const NAME: &'static str = "tests::Single";
    type Params = NoParams;

    fn build(shape: SampleShape, outputs: usize, _: &NoParams, device: &Device) -> Result<Self, EntryError> {
        Ok(Self { linear: LinearConfig::new(shape.len(), outputs).init(device) })
    }

    fn forward(&self, samples: Tensor<4>) -> Tensor<2> {
        let flat: Tensor<2> = samples.reshape([1, 64]);
        self.linear.forward(flat)
    }
}

fn launch(entry: &str, strategy: Strategy) -> TrainLaunch {
    let digits = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/data/digits.csv");
    let train_data = Data {
        path: digits.display().to_string(),
        format: Format::Csv,
        part: Part::Rows(0, 200),
        label: None,
        target: None,
        columns: Columns::default(),
        order: Order { seed: None, window: None, micro_shard: 256 },
        prefetch: 4,
        locality: Locality::Prefer,
    };
    TrainLaunch {
        job: JobId::new(1),
        job_name: "faulty".to_owned(),
        spec_hash: "5eed".to_owned(),
        entry: entry.to_owned(),
        params: Vec::new(),
        train_data,
        eval_data: None,
        global_batch: 64,
        logical_shards: 8,
        micro_batch: None,
        length: Length::Epochs(1),
        strict: true,
        separate_server: false,
        init: None,
        consistency: Consistency::Sync,
        seed: 1,
        checkpoint_folder: "/nonexistent".to_owned(),
        checkpoint_every: Every::Never,
        checkpoint_keep: 2,
        model_folder: "/nonexistent".to_owned(),
        strategy,
        compression: None,
        backend: Backend::Flex,
        memory_mib: 64,
        replicas: 0,
    }
}

/// Runs the job on one worker until it has failed, and gives the reason.
async fn failure(entry: &str, strategy: Strategy) -> String {
    let folder = tempfile::tempdir().unwrap();
    let authority = CertificateAuthority::load_or_create(&folder.path().join("ca")).unwrap();
    let (job, worker) = (JobId::new(1), WorkerId::new(1));
    let identity = authority.issue(Role::Worker { job, worker }).unwrap();
    let node = Node::start(&identity, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), NodeConfig::default()).unwrap();
    let (commands, inbox) = mpsc::channel(16);
    let (sender, mut reports) = ReportSender::channel();
    let args = codec::encode::<_, LAUNCH_BYTES_MAX>(&launch(entry, strategy)).unwrap();
    let context = WorkerContext {
        job,
        worker,
        args,
        compute_threads: 2,
        cache: folder.path().join("cache"),
        node: node.clone(),
        commands: inbox,
        reports: sender,
    };
    let entries = Entries::none().with_model::<Narrow>().with_model::<Single>();
    let task = tokio::spawn(Arc::new(neap_training::workload(entries)).start(context));
    let member = Member { worker, addr: node.local_addr(), shard_start: 0, shard_end: 8 };
    let membership = Membership {
        epoch: MembershipEpoch(1),
        members: vec![member],
        server: worker,
        servers: vec![worker],
        restore: None,
        losses_per_1000_h: 0,
        replicas: Vec::new(),
    };
    commands.send(WorkerCommand::Membership(membership)).await.unwrap();
    let failed = async {
        loop {
            match reports.recv().await.expect("the worker ended") {
                WorkerReport::Failed { kind, message, epoch } => {
                    assert_eq!((kind, epoch), (FailureKind::User, MembershipEpoch(1)));
                    return message;
                }
                WorkerReport::Finished(finished) => panic!("{finished:?}"),
                _ => {}
            }
        }
    };
    let message = tokio::time::timeout(PATIENCE, failed).await.expect("no failure");
    let ended = tokio::time::timeout(PATIENCE, task).await.expect("the worker ends").unwrap();
    assert!(ended.is_err());
    node.shutdown().await;
    message
}

#[tokio::test]
async fn shapes_that_do_not_fit_the_data_end_the_job_before_its_first_step() {
    let start = "the entry `tests::Narrow` panicked over 1 sample(s) of 1 x 64 x 1 with 10 classes to predict: ";
    for strategy in [Strategy::ParameterServer, Strategy::AllReduce] {
        let message = failure("tests::Narrow", strategy).await;
        assert!(message.starts_with(start), "{message}");
    }
}

#[tokio::test]
async fn a_panic_in_the_middle_ends_the_job_with_what_it_said() {
    for strategy in [Strategy::ParameterServer, Strategy::AllReduce] {
        let message = failure("tests::Single", strategy).await;
        assert!(message.starts_with("the entry `tests::Single` panicked over 8 sample(s) of 1 x 64 x 1"), "{message}");
    }
}
