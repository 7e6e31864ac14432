//! The workers of one job as tasks of one test: each with its own QUIC endpoint, and a hand-driven control plane.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use neap_runtime::system::snapshot::MemorySnapshots;
use neap_runtime::system::workload::workload;
use neap_runtime::system::{Program, SnapshotStore};
use neap_runtime::wire::actors::ActorsLaunch;
use neap_runtime::wire::training::Param;
use neap_runtime::wire::worker::{Member, Membership, WorkerCommand, WorkerNode, WorkerReport};
use neap_runtime::workload::{LAUNCH_BYTES_MAX, ReportSender, WorkerContext, Workload, WorkloadError};
use neap_runtime::{CertificateAuthority, Node, NodeConfig, Role, codec};
use neap_scheduler::model::{JobId, MembershipEpoch, NodeId, WorkerId};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub(crate) const JOB: JobId = JobId::new(1);

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Job {
    folder: TempDir,
    pub(crate) authority: CertificateAuthority,
    program: Program,
    launch: ActorsLaunch,
    store: Arc<MemorySnapshots>,
    pub(crate) workers: Vec<Worker>,
    /// The members now.
    members: Vec<usize>,
    epoch: u64,
}

/// The node of the worker at this place.
pub(crate) fn node(at: usize) -> NodeId {
    NodeId::new(at as u64 + 11)
}

pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    pub(crate) addr: SocketAddr,
    node: Node,
    commands: mpsc::Sender<WorkerCommand>,
    reports: mpsc::Receiver<WorkerReport>,
    task: JoinHandle<Result<(), WorkloadError>>,
}

impl Job {
    /// A job of `main` on so many workers, the first of which leads.
    pub(crate) async fn start(program: Program, main: &str, params: &[(&str, i64)], workers: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = CertificateAuthority::load_or_create(folder.path()).unwrap();
        let launch = ActorsLaunch {
            job_name: "own".to_owned(),
            main: main.to_owned(),
            params: params.iter().map(|(name, value)| ((*name).to_owned(), Param::Int(*value))).collect(),
            snapshot_place: String::new(),
        };
        let store = Arc::default();
        let mut job =
            Self { folder, authority, program, launch, store, workers: Vec::new(), members: Vec::new(), epoch: 0 };
        for _ in 0..workers {
            job.start_worker();
        }
        job.regroup(&(0..workers).collect::<Vec<_>>(), 0).await;
        job
    }

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
            compute_threads: 1,
            cache: self.folder.path().join("cache"),
            node: node.clone(),
            commands: inbox,
            reports: sender,
        };
        let store = self.store.clone();
        let workload = workload(self.program.clone(), move |_| {
            let store: Arc<dyn SnapshotStore> = store.clone();
            Ok(store)
        });
        let task = tokio::spawn(Arc::new(workload).start(context));
        self.workers.push(Worker { id, addr: node.local_addr(), node, commands, reports, task });
        self.workers.len() - 1
    }

    /// Announces a membership.
    pub(crate) async fn regroup(&mut self, members: &[usize], lead: usize) {
        self.epoch += 1;
        let member = |&at: &usize| {
            let worker = &self.workers[at];
            Member { worker: worker.id, addr: worker.addr, shard_start: 0, shard_end: 1 }
        };
        let membership = Membership {
            epoch: MembershipEpoch(self.epoch),
            members: members.iter().map(member).collect(),
            server: self.workers[lead].id,
            servers: vec![self.workers[lead].id],
            restore: None,
            losses_per_1000_h: 0,
            replicas: Vec::new(),
        };
        self.members = members.to_vec();
        self.tell_nodes(None).await;
        for at in members {
            let command = WorkerCommand::Membership(membership.clone());
            self.workers[*at].commands.send(command).await.unwrap();
        }
    }

    /// Tells the members that the node of one of them goes in so many milliseconds.
    pub(crate) async fn notice(&self, at: usize, left_ms: u64) {
        self.tell_nodes(Some((at, left_ms))).await;
    }

    async fn tell_nodes(&self, leaving: Option<(usize, u64)>) {
        let place = |&at: &usize| WorkerNode {
            worker: self.workers[at].id,
            node: node(at),
            leaves_in_ms: leaving.filter(|(leaves, _)| *leaves == at).map(|(_, ms)| ms),
        };
        let nodes: Vec<WorkerNode> = self.members.iter().map(place).collect();
        for at in &self.members {
            self.workers[*at].commands.send(WorkerCommand::Nodes(nodes.clone())).await.unwrap();
        }
    }

    /// Waits until a worker has reported that it is ready to go.
    pub(crate) async fn vacated(&mut self, at: usize) {
        self.reported(at, |report| matches!(report, WorkerReport::Vacated { .. })).await;
    }

    /// Whether a worker has reported that it is ready to go, up to now.
    pub(crate) fn has_vacated(&mut self, at: usize) -> bool {
        std::iter::from_fn(|| self.workers[at].reports.try_recv().ok())
            .any(|report| matches!(report, WorkerReport::Vacated { .. }))
    }

    /// Ends the job in order: the lead is told to stop, and has stopped.
    pub(crate) async fn stop(&mut self, at: usize) {
        self.workers[at].commands.send(WorkerCommand::Stop { save: true }).await.unwrap();
        self.reported(at, |report| matches!(report, WorkerReport::Stopped { .. })).await;
    }

    async fn reported(&mut self, at: usize, which: impl Fn(&WorkerReport) -> bool) {
        let reported = async { while !which(&self.workers[at].reports.recv().await.expect("the worker ended")) {} };
        tokio::time::timeout(PATIENCE, reported).await.expect("no such report");
    }

    /// The worker is gone from one moment to the next.
    pub(crate) async fn kill(&mut self, at: usize) {
        self.workers[at].task.abort();
        self.workers[at].node.shutdown().await;
    }

    /// What the main function on a worker came to: what it returned as JSON, or why it failed.
    pub(crate) async fn ended(&mut self, at: usize) -> Result<String, String> {
        let end = async {
            loop {
                match self.workers[at].reports.recv().await.expect("the worker ended") {
                    WorkerReport::ActorsFinished { result, .. } => return Ok(result),
                    WorkerReport::Failed { message, .. } => return Err(message),
                    _ => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, end).await.expect("no end")
    }
}
