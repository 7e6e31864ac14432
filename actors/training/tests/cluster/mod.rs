//! Worker processes as tasks of one test: each with its own QUIC endpoint, and a hand-driven control plane.

#![allow(dead_code, reason = "every test that uses this module uses its own part of it")]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use neap_runtime::wire::training::{
    Backend, Columns, Consistency, Data, Every, Format, Length, Locality, Order, Param, Part, Strategy, TrainLaunch,
};
use neap_runtime::wire::worker::{
    CheckpointRef, EpochFinished, Finished, Member, Membership, WorkerCommand, WorkerReport,
};
use neap_runtime::workload::{LAUNCH_BYTES_MAX, ReportSender, WorkerContext, Workload, WorkloadError};
use neap_runtime::{CertificateAuthority, Node, NodeConfig, Role, codec};
use neap_scheduler::elastic::{ShardRange, assign};
use neap_scheduler::model::{JobId, MembershipEpoch, WorkerId};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

const JOB: JobId = JobId::new(1);

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Cluster {
    pub(crate) folder: TempDir,
    pub(crate) launch: TrainLaunch,
    authority: CertificateAuthority,
    pub(crate) workers: Vec<Worker>,
    epoch: u64,
    /// How many of the carriers serve, the one that is named first.
    pub(crate) servers: usize,
    /// How many of the carriers that do not serve hold a replica of the server's state.
    pub(crate) replicas: usize,
}

pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    addr: SocketAddr,
    node: Node,
    commands: mpsc::Sender<WorkerCommand>,
    pub(crate) reports: mpsc::Receiver<WorkerReport>,
    task: JoinHandle<Result<(), WorkloadError>>,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = CertificateAuthority::load_or_create(&folder.path().join("ca")).unwrap();
        let launch = launch(folder.path());
        Self { folder, launch, authority, workers: Vec::new(), epoch: 0, servers: 1, replicas: 0 }
    }

    /// Starts a worker with the cluster's launch; returns its index.
    pub(crate) fn start_worker(&mut self) -> usize {
        let id = WorkerId::new(self.workers.len() as u64 + 1);
        let identity = self.authority.issue(Role::Worker { job: JOB, worker: id }).unwrap();
        let bind = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let node = Node::start(&identity, bind, NodeConfig::default()).unwrap();
        let (commands, inbox) = mpsc::channel(16);
        let (sender, reports) = ReportSender::channel();
        let context = WorkerContext {
            job: JOB,
            worker: id,
            args: codec::encode::<_, LAUNCH_BYTES_MAX>(&self.launch).unwrap(),
            compute_threads: 1 + (self.workers.len() % 2) as u32,
            cache: self.folder.path().join("cache"),
            node: node.clone(),
            commands: inbox,
            reports: sender,
        };
        let task = tokio::spawn(Arc::new(neap_training::workload(neap_training::Entries::builtin())).start(context));
        self.workers.push(Worker { id, addr: node.local_addr(), node, commands, reports, task });
        self.workers.len() - 1
    }

    pub(crate) fn start_workers(&mut self, count: usize) -> Vec<usize> {
        (0..count).map(|_| self.start_worker()).collect()
    }

    /// Announces a membership: `carriers` share the logical shards, `server` serves, with as many of the other carriers as
    /// there are to be servers.
    pub(crate) async fn regroup(&mut self, carriers: &[usize], server: usize, restore: Option<CheckpointRef>) {
        let blocks = assign(self.launch.logical_shards, carriers.len() as u32);
        let mut members: Vec<_> = carriers.iter().copied().zip(blocks).collect();
        if !carriers.contains(&server) {
            members.push((server, ShardRange { start: 0, end: 0 }));
        }
        let others = carriers.iter().copied().filter(|&at| at != server);
        let mut servers: Vec<_> = std::iter::once(server).chain(others).collect();
        let mut replicas = servers.split_off(self.servers.min(servers.len()));
        replicas.truncate(self.replicas);
        self.announce(&members, &servers, &replicas, restore).await;
    }

    /// Announces a membership: each worker with the shards it carries, the servers in the order of their segments, and the
    /// replicas.
    pub(crate) async fn announce(
        &mut self,
        members: &[(usize, ShardRange)],
        servers: &[usize],
        replicas: &[usize],
        restore: Option<CheckpointRef>,
    ) {
        self.epoch += 1;
        let membership = Membership {
            epoch: MembershipEpoch(self.epoch),
            members: members.iter().map(|&(at, block)| self.member(at, block.start, block.end)).collect(),
            server: self.workers[servers[0]].id,
            servers: servers.iter().map(|&at| self.workers[at].id).collect(),
            restore,
            losses_per_1000_h: 0,
            replicas: replicas.iter().map(|&at| self.workers[at].id).collect(),
        };
        for &(at, _) in members {
            self.workers[at].commands.send(WorkerCommand::Membership(membership.clone())).await.unwrap();
        }
    }

    pub(crate) fn membership_epoch(&self) -> MembershipEpoch {
        MembershipEpoch(self.epoch)
    }

    fn member(&self, at: usize, shard_start: u32, shard_end: u32) -> Member {
        Member { worker: self.workers[at].id, addr: self.workers[at].addr, shard_start, shard_end }
    }

    pub(crate) async fn save_now(&self, at: usize) {
        let epoch = MembershipEpoch(self.epoch);
        self.workers[at].commands.send(WorkerCommand::SaveNow { epoch }).await.unwrap();
    }

    /// The worker is gone from one moment to the next.
    pub(crate) async fn kill(&mut self, at: usize) {
        self.workers[at].task.abort();
        self.workers[at].node.shutdown().await;
    }

    /// The next report that `pick` takes; others are skipped.
    pub(crate) async fn await_report<T>(&mut self, at: usize, mut pick: impl FnMut(&WorkerReport) -> Option<T>) -> T {
        let wait = async {
            loop {
                let report = self.workers[at].reports.recv().await.expect("the worker ended");
                if let Some(picked) = pick(&report) {
                    return picked;
                }
                assert!(!matches!(report, WorkerReport::Failed { .. }), "{report:?}");
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("no such report")
    }

    pub(crate) async fn await_step(&mut self, at: usize, step: u64) {
        self.await_report(at, |report| match report {
            WorkerReport::Progress(progress) if progress.step >= step => Some(()),
            _ => None,
        })
        .await;
    }

    /// Runs to the end; returns the epochs that `at` reported meanwhile, and the end.
    pub(crate) async fn await_end(&mut self, at: usize) -> (Vec<EpochFinished>, Finished) {
        let mut epochs = Vec::new();
        let finished = self
            .await_report(at, |report| match report {
                WorkerReport::EpochFinished(epoch) => {
                    epochs.push(epoch.clone());
                    None
                }
                WorkerReport::Finished(finished) => Some(finished.clone()),
                _ => None,
            })
            .await;
        (epochs, finished)
    }

    pub(crate) async fn stop(&mut self, at: usize, save: bool) {
        self.workers[at].commands.send(WorkerCommand::Stop { save }).await.unwrap();
        self.await_report(at, |report| matches!(report, WorkerReport::Stopped { .. }).then_some(())).await;
        let task = &mut self.workers[at].task;
        tokio::time::timeout(PATIENCE, task).await.expect("ends").unwrap().unwrap();
        self.workers[at].node.shutdown().await;
    }

    pub(crate) fn model(&self) -> Vec<u8> {
        std::fs::read(self.folder.path().join("model/model.safetensors")).unwrap()
    }
}

/// Three epochs over the digits: 1,500 of them in steps of 64, so the last step of an epoch is short.
fn launch(folder: &Path) -> TrainLaunch {
    let digits = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/data/digits.csv");
    let data = |from, to| Data {
        path: digits.display().to_string(),
        format: Format::Csv,
        part: Part::Rows(from, to),
        label: None,
        target: None,
        columns: Columns::default(),
        order: Order { seed: Some(7), window: None, micro_shard: 256 },
        prefetch: 4,
        locality: Locality::Prefer,
    };
    TrainLaunch {
        job: JOB,
        job_name: "digits".to_owned(),
        spec_hash: "5eed".to_owned(),
        entry: "mlp".to_owned(),
        params: vec![("hidden1".to_owned(), Param::Int(48)), ("lr".to_owned(), Param::Float(0.05))],
        train_data: data(0, 1_500),
        eval_data: Some(data(1_500, 1_797)),
        global_batch: 64,
        logical_shards: 8,
        micro_batch: None,
        length: Length::Epochs(3),
        strict: true,
        separate_server: false,
        init: None,
        consistency: Consistency::Sync,
        seed: 11,
        checkpoint_folder: folder.join("checkpoints").display().to_string(),
        checkpoint_every: Every::Epochs(1),
        checkpoint_keep: 2,
        model_folder: folder.join("model").display().to_string(),
        strategy: Strategy::ParameterServer,
        compression: None,
        backend: Backend::Flex,
        memory_mib: 64,
        replicas: 0,
    }
}
