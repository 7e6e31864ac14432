//! Worker processes of one job on this machine, over QUIC; this process plays their node agent and the control plane.

use std::io::Read;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use neap_runtime::wire::training::TRAIN_WORKLOAD;
use neap_runtime::wire::worker::{
    Member, Membership, WORKER_ACTOR, WORKER_HOST_ACTOR, WorkerCommand, WorkerHostProtocol, WorkerHostRequest,
    WorkerLaunch, WorkerProtocol, WorkerReport,
};
use neap_runtime::workload::{Workloads, launch_frame, run_worker};
use neap_runtime::{Access, CertificateAuthority, Inbound, Node, NodeConfig, Role};
use neap_scheduler::elastic::assign;
use neap_scheduler::model::{MembershipEpoch, NodeId, WorkerId};
use neap_training::Entries;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

use crate::job::{JOB, Job, encoded, launch, loopback, runtime};

/// Tells this binary to be a worker process.
pub(crate) const WORKER_ARGUMENT: &str = "worker-process";

const AGENT: Role = Role::Node(NodeId::new(1));

/// The workers of a job.
pub(crate) struct Processes {
    node: Node,
    children: Vec<Child>,
    /// Where each of them listens, in the order of their ids.
    pub(crate) addresses: Vec<(WorkerId, SocketAddr)>,
    /// What they report.
    pub(crate) reports: mpsc::Receiver<WorkerReport>,
}

impl Processes {
    /// Starts `count` workers of this job, and waits until they are up.
    pub(crate) async fn start(job: &Job, folder: &Path, count: u64) -> Self {
        let args = encoded(&launch(job, folder));
        let authority = CertificateAuthority::load_or_create(&folder.join("ca")).expect("an authority");
        let identity = authority.issue(AGENT).expect("an identity");
        let node = Node::start(&identity, loopback(), NodeConfig::default()).expect("an endpoint");
        let (hellos, mut up) = mpsc::channel(8);
        let (sender, reports) = mpsc::channel(256);
        let host = Host { hellos, reports: sender };
        let (host, _) = Actor::spawn(None, host, ()).await.expect("an actor");
        node.register::<WorkerHostProtocol, _>(WORKER_HOST_ACTOR, host, Access::workers_of(JOB)).expect("a free name");
        let start = |worker: WorkerId| {
            start_process(&WorkerLaunch {
                job: JOB,
                worker,
                identity: authority.issue(Role::Worker { job: JOB, worker }).expect("an identity"),
                node: NodeId::new(1),
                agent: node.local_addr(),
                bind: loopback(),
                compute_threads: job.threads,
                workload: TRAIN_WORKLOAD.to_owned(),
                args: args.clone(),
            })
        };
        let children: Vec<Child> = (1..=count).map(WorkerId::new).map(start).collect();
        let mut addresses = Vec::new();
        while addresses.len() < children.len() {
            addresses.push(up.recv().await.expect("workers come up"));
        }
        addresses.sort_unstable();
        Self { node, children, addresses, reports }
    }

    /// Their processes, in the order of their ids.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.children.iter().map(Child::id).collect()
    }

    /// Tells all of them.
    pub(crate) async fn tell(&self, command: &WorkerCommand) {
        for peer in self.node.peers() {
            peer.actor::<WorkerProtocol>(WORKER_ACTOR).cast(command.clone()).await.expect("the worker listens");
        }
    }

    /// Ends them; what each has said at its end. Where this is not called, their pipes are closed, and they end by themselves.
    pub(crate) async fn stop(self) -> Result<Vec<String>, String> {
        self.tell(&WorkerCommand::Stop { save: false }).await;
        let said = self.children.into_iter().map(end_process).collect();
        self.node.shutdown().await;
        said
    }
}

/// The first membership of a job.
pub(crate) fn membership(
    carriers: &[(WorkerId, SocketAddr)],
    server: (WorkerId, SocketAddr),
    shards: u32,
) -> WorkerCommand {
    let blocks = assign(shards, carriers.len() as u32);
    let member = |(&(worker, addr), block): (&(WorkerId, SocketAddr), _)| {
        let neap_scheduler::elastic::ShardRange { start: shard_start, end: shard_end } = block;
        Member { worker, addr, shard_start, shard_end }
    };
    let mut members: Vec<Member> = carriers.iter().zip(blocks).map(member).collect();
    if !carriers.contains(&server) {
        members.push(Member { worker: server.0, addr: server.1, shard_start: 0, shard_end: 0 });
    }
    WorkerCommand::Membership(Membership {
        epoch: MembershipEpoch(1),
        members,
        server: server.0,
        servers: vec![server.0],
        restore: None,
        losses_per_1000_h: 0,
        replicas: Vec::new(),
    })
}

/// What this binary does as a worker process that can train these entries.
pub(crate) fn run_worker_process(entries: Entries) {
    let workloads = Workloads::default().with(neap_training::workload(entries));
    let run = async {
        let input = std::io::stdin().as_fd().try_clone_to_owned().expect("a standard input");
        run_worker(workloads, pipe::Receiver::from_owned_fd(input).expect("a pipe")).await
    };
    if let Err(error) = runtime().block_on(run) {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn start_process(launch: &WorkerLaunch) -> Child {
    let mut child = Command::new(std::env::current_exe().expect("this binary"))
        .arg(WORKER_ARGUMENT)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a worker process");
    let frame = launch_frame(launch).expect("a small launch");
    // The pipe stays open as long as the child is kept: its end tells the worker to exit.
    std::io::Write::write_all(child.stdin.as_mut().expect("piped"), &frame).expect("the worker reads its launch");
    child
}

/// Waits for a worker that was told to stop; what it has said.
fn end_process(mut child: Child) -> Result<String, String> {
    // Waiting closes the pipe by itself, and a worker whose pipe closes takes its agent for dead.
    let life_line = child.stdin.take();
    let ended = child.wait().map_err(|error| error.to_string())?;
    drop(life_line);
    let mut said = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut said).map_err(|error| error.to_string())?;
    if ended.success() { Ok(said) } else { Err(format!("a worker ended badly: {ended}")) }
}

/// Takes the workers' hellos and reports.
struct Host {
    hellos: mpsc::Sender<(WorkerId, SocketAddr)>,
    reports: mpsc::Sender<WorkerReport>,
}

struct HostMsg(Inbound<WorkerHostProtocol>);

impl From<Inbound<WorkerHostProtocol>> for HostMsg {
    fn from(inbound: Inbound<WorkerHostProtocol>) -> Self {
        Self(inbound)
    }
}

impl Actor for Host {
    type Msg = HostMsg;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<HostMsg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(&self, _: ActorRef<HostMsg>, message: HostMsg, (): &mut ()) -> Result<(), ActorProcessingErr> {
        if let Inbound::Call { request, reply, .. } = message.0 {
            match request {
                WorkerHostRequest::Hello(hello) => self.hellos.send((hello.worker, hello.addr)).await?,
                WorkerHostRequest::Report(_, report) => self.reports.send(report).await?,
            }
            reply.send(());
        }
        Ok(())
    }
}
