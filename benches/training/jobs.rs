//! Jobs of the workload `train`, in this process and in processes of their own.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use neap_runtime::wire::training::{
    Backend, Columns, Consistency, Data, Every, Format, Length, Locality, Order, Param, Part, Strategy, TRAIN_WORKLOAD,
    TrainLaunch,
};
use neap_runtime::wire::worker::{
    Member, Membership, WORKER_ACTOR, WORKER_HOST_ACTOR, WorkerCommand, WorkerHostProtocol, WorkerHostRequest,
    WorkerLaunch, WorkerProtocol, WorkerReport,
};
use neap_runtime::workload::{
    LAUNCH_BYTES_MAX, ReportSender, WorkerContext, Workload, Workloads, launch_frame, run_worker,
};
use neap_runtime::{Access, CertificateAuthority, Inbound, Node, NodeConfig, Role, codec};
use neap_scheduler::elastic::assign;
use neap_scheduler::model::{JobId, MembershipEpoch, NodeId, WorkerId};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

use crate::allocated::Allocated;
use crate::models::entries;
use crate::results::Measurement;
use crate::usage;

/// Tells this binary to be a worker process.
pub(crate) const WORKER_ARGUMENT: &str = "worker-process";

const JOB: JobId = JobId::new(1);
const AGENT: Role = Role::Node(NodeId::new(1));

/// Samples of the made-up data set: 50 steps an epoch at the usual batch.
const SAMPLES: u32 = 6_400;

/// The first report of so many steps begins the measurement.
const WARM_UP: u64 = 20;

/// A job that says nothing for so long has failed.
const SILENCE_MAX: Duration = Duration::from_secs(60);

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

/// What was measured of a job, from an early step to its last one.
pub(crate) struct Timed {
    wall_seconds: f64,
    cpu_seconds: f64,
    steps: u64,
}

impl Timed {
    /// In samples, with the CPU of a step.
    pub(crate) fn samples(&self, job: &Job) -> Measurement {
        self.per(f64::from(job.batch), 1.0)
    }

    /// With so many units and parts in each step.
    pub(crate) fn per(&self, units: f64, parts: f64) -> Measurement {
        let Self { wall_seconds, cpu_seconds, steps } = *self;
        let (units, steps) = (steps as f64 * units, steps as f64 * parts);
        Measurement { wall_seconds, cpu_seconds, units, steps, peer: None }
    }
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

fn launch(job: &Job, folder: &Path) -> Vec<u8> {
    let launch = TrainLaunch {
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
    };
    codec::encode::<_, LAUNCH_BYTES_MAX>(&launch).expect("a small launch")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

fn membership(carriers: &[(WorkerId, SocketAddr)], server: (WorkerId, SocketAddr), shards: u32) -> WorkerCommand {
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
        replicas: Vec::new(),
        restore: None,
        losses_per_1000_h: 0,
    })
}

/// From the first report after [`WARM_UP`] to that of the last step. The processes must be alive for their CPU to be read,
/// and are: they end only when they are told to.
async fn measure(job: &Job, reports: &mut mpsc::Receiver<WorkerReport>, pids: &[u32]) -> Result<Timed, String> {
    let now = |step| (step, Instant::now(), pids.iter().map(|&pid| usage::cpu_seconds(pid)).sum::<f64>());
    let mut first: Option<(u64, Instant, f64)> = None;
    let mut timed = None;
    loop {
        let report = tokio::time::timeout(SILENCE_MAX, reports.recv()).await;
        match report.map_err(|_| "the job hangs")?.ok_or("the job's worker ended before the job")? {
            WorkerReport::Progress(progress) if progress.step >= job.steps => {
                let (step, at, cpu) = now(progress.step);
                timed = first.map(|(before, since, used)| Timed {
                    wall_seconds: (at - since).as_secs_f64(),
                    cpu_seconds: cpu - used,
                    steps: step - before,
                });
            }
            WorkerReport::Progress(progress) if first.is_none_or(|(step, ..)| step < WARM_UP) => {
                first = Some(now(progress.step));
            }
            WorkerReport::Finished(_) => return timed.ok_or_else(|| "the job is too short".to_owned()),
            WorkerReport::Failed { message, .. } => return Err(message),
            _ => {}
        }
    }
}

/// One worker process with all actors in it: this one.
pub(crate) fn one_process(job: &Job, folder: &Path) -> Result<Timed, String> {
    runtime().block_on(async {
        let authority = CertificateAuthority::load_or_create(&folder.join("ca")).expect("an authority");
        let worker = WorkerId::new(1);
        let identity = authority.issue(Role::Worker { job: JOB, worker }).expect("an identity");
        let node = Node::start(&identity, loopback(), NodeConfig::default()).expect("an endpoint");
        let (commands, inbox) = mpsc::channel(4);
        let (sender, mut reports) = ReportSender::channel();
        let context = WorkerContext {
            job: JOB,
            worker,
            args: launch(job, folder),
            compute_threads: job.threads,
            cache: folder.join("cache"),
            node: node.clone(),
            commands: inbox,
            reports: sender,
        };
        let running = tokio::spawn(Arc::new(neap_training::workload(entries())).start(context));
        let me = (worker, node.local_addr());
        commands.send(membership(&[me], me, job.logical_shards)).await.expect("the worker listens");
        let timed = measure(job, &mut reports, &[std::process::id()]).await?;
        commands.send(WorkerCommand::Stop { save: false }).await.expect("the worker listens");
        running.await.expect("no panic").expect("a clean end");
        node.shutdown().await;
        Ok(timed)
    })
}

/// Two trainer processes and a server process, on one machine over QUIC. This process plays their node agent. Says also
/// what each of the three allocated, from its start to its end.
pub(crate) fn two_trainers(job: &Job, folder: &Path) -> Result<(Timed, Vec<Allocated>), String> {
    runtime().block_on(async {
        let authority = CertificateAuthority::load_or_create(&folder.join("ca")).expect("an authority");
        let identity = authority.issue(AGENT).expect("an identity");
        let node = Node::start(&identity, loopback(), NodeConfig::default()).expect("an endpoint");
        let (hellos, mut up) = mpsc::channel(8);
        let (sender, mut reports) = mpsc::channel(256);
        let host = Host { hellos, reports: sender };
        let (host, _) = Actor::spawn(None, host, ()).await.expect("an actor");
        node.register::<WorkerHostProtocol, _>(WORKER_HOST_ACTOR, host, Access::workers_of(JOB)).expect("a free name");
        let workers: Vec<WorkerId> = (1..=3).map(WorkerId::new).collect();
        let children: Vec<Child> = workers
            .iter()
            .map(|&worker| {
                let launch = WorkerLaunch {
                    job: JOB,
                    worker,
                    identity: authority.issue(Role::Worker { job: JOB, worker }).expect("an identity"),
                    node: NodeId::new(1),
                    agent: node.local_addr(),
                    bind: loopback(),
                    compute_threads: job.threads,
                    workload: TRAIN_WORKLOAD.to_owned(),
                    args: launch(job, folder),
                };
                start_process(&launch)
            })
            .collect();
        let mut addresses = Vec::new();
        while addresses.len() < workers.len() {
            addresses.push(up.recv().await.expect("workers come up"));
        }
        addresses.sort_unstable();
        tell(&node, &membership(&addresses[..2], addresses[2], job.logical_shards)).await;
        let pids: Vec<u32> = children.iter().map(Child::id).collect();
        // Where it fails, the children's pipes are closed here, and they end by themselves.
        let timed = measure(job, &mut reports, &pids).await?;
        tell(&node, &WorkerCommand::Stop { save: false }).await;
        let allocated = children.into_iter().map(end_process).collect::<Result<_, _>>();
        node.shutdown().await;
        Ok((timed, allocated?))
    })
}

/// What this binary does as a worker process. At its end it says what it has allocated.
pub(crate) fn run_worker_process() {
    let workloads = Workloads::default().with(neap_training::workload(entries()));
    let run = async {
        let input = std::io::stdin().as_fd().try_clone_to_owned().expect("a standard input");
        run_worker(workloads, pipe::Receiver::from_owned_fd(input).expect("a pipe")).await
    };
    if let Err(error) = runtime().block_on(run) {
        eprintln!("{error}");
        std::process::exit(1);
    }
    println!("{}", Allocated::so_far().to_line());
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

/// Waits for a worker that was told to stop; what it has allocated.
fn end_process(mut child: Child) -> Result<Allocated, String> {
    // Waiting closes the pipe by itself, and a worker whose pipe closes takes its agent for dead.
    let life_line = child.stdin.take();
    let ended = child.wait().map_err(|error| error.to_string())?;
    drop(life_line);
    let mut said = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut said).map_err(|error| error.to_string())?;
    let allocated = said.lines().find_map(Allocated::from_line).filter(|_| ended.success());
    allocated.ok_or_else(|| format!("a worker ended badly: {ended}"))
}

async fn tell(node: &Node, command: &WorkerCommand) {
    for peer in node.peers() {
        peer.actor::<WorkerProtocol>(WORKER_ACTOR).cast(command.clone()).await.expect("the worker listens");
    }
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
