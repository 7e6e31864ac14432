//! Jobs of the workload `train`, in this process and in processes of their own, and how long they take.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use neap_runtime::wire::worker::{WorkerCommand, WorkerReport};
use neap_runtime::workload::{ReportSender, WorkerContext, Workload};
use neap_runtime::{CertificateAuthority, Node, NodeConfig, Role};
use neap_scheduler::model::WorkerId;
use tokio::sync::mpsc;

use crate::allocated::Allocated;
use crate::job::{JOB, Job, encoded, launch, loopback, runtime};
use crate::models::entries;
use crate::processes::{self, Processes, membership};
use crate::results::Measurement;
use crate::usage;

/// The first report of so many steps begins the measurement.
const WARM_UP: u64 = 20;

/// A job that says nothing for so long has failed.
const SILENCE_MAX: Duration = Duration::from_secs(60);

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
            args: encoded(&launch(job, folder)),
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

/// Two trainer processes and a server process, on one machine over QUIC. Says also what each of the three allocated, from its
/// start to its end.
pub(crate) fn two_trainers(job: &Job, folder: &Path) -> Result<(Timed, Vec<Allocated>), String> {
    runtime().block_on(async {
        let mut processes = Processes::start(job, folder, 3).await;
        processes.tell(&membership(&processes.addresses[..2], processes.addresses[2], job.logical_shards)).await;
        let pids = processes.pids();
        let timed = measure(job, &mut processes.reports, &pids).await?;
        let said = processes.stop().await?;
        let allocated = said.iter().map(|said| said.lines().find_map(Allocated::from_line));
        let allocated = allocated.collect::<Option<_>>().ok_or("a worker does not say what it has allocated")?;
        Ok((timed, allocated))
    })
}

/// What this binary does as a worker process. At its end it says what it has allocated.
pub(crate) fn run_worker_process() {
    processes::run_worker_process(entries());
    println!("{}", Allocated::so_far().to_line());
}
