//! The workload `train`, in this process and in processes of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use neap_runtime::wire::training::Param;
use neap_runtime::wire::worker::{WorkerCommand, WorkerReport};
use neap_runtime::workload::{ReportSender, WorkerContext, Workload};
use neap_runtime::{CertificateAuthority, Node, NodeConfig, Role};
use neap_scheduler::model::WorkerId;
use tokio::sync::mpsc;

use crate::processes::{Processes, loopback, membership, runtime};
use crate::work::{JOB, Work, launch};
use crate::{BATCH, Measurement, STEPS, usage};

fn work(logical_shards: u32) -> Work {
    let params = vec![("momentum", Param::Float(0.0))];
    Work { params, global_batch: BATCH as u32, logical_shards, steps: STEPS as u64 + 1 }
}

/// From the first committed step to the end of the job.
async fn measure(reports: &mut mpsc::Receiver<WorkerReport>, pids: &[u32]) -> Measurement {
    let cpu = || pids.iter().map(|&pid| usage::cpu_seconds(pid)).sum::<f64>();
    let (mut started, mut first) = (Instant::now(), None);
    loop {
        match reports.recv().await.expect("the job runs to its end") {
            WorkerReport::Progress(progress) if first.is_none() => {
                first = Some((progress.step, cpu()));
                started = Instant::now();
            }
            WorkerReport::Finished(finished) => {
                let (step, before) = first.expect("progress comes before the end");
                return Measurement {
                    wall_seconds: started.elapsed().as_secs_f64(),
                    cpu_seconds: cpu() - before,
                    samples: (finished.steps - step) as usize * BATCH,
                };
            }
            WorkerReport::Failed { message, .. } => panic!("{message}"),
            _ => {}
        }
    }
}

/// One worker process with all actors in it: this one.
pub(crate) fn one_process(folder: &Path, shards: u32) -> Measurement {
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
            args: launch(folder, &work(shards)),
            compute_threads: 1,
            cache: folder.join("cache"),
            node: node.clone(),
            commands: inbox,
            reports: sender,
        };
        let running = tokio::spawn(Arc::new(neap_training::workload(neap_training::Entries::builtin())).start(context));
        let me = (worker, node.local_addr());
        commands.send(membership(&[me], me, shards)).await.expect("the worker listens");
        let measurement = measure(&mut reports, &[std::process::id()]).await;
        commands.send(WorkerCommand::Stop { save: false }).await.expect("the worker listens");
        running.await.expect("no panic").expect("a clean end");
        node.shutdown().await;
        measurement
    })
}

/// Two trainer processes and a server process, on one machine over QUIC.
pub(crate) fn separate(folder: &Path) -> Measurement {
    const SHARDS: u32 = 2;
    runtime().block_on(async {
        let mut processes = Processes::start(folder, 3, &launch(folder, &work(SHARDS))).await;
        let first = membership(&processes.addresses[..2], processes.addresses[2], SHARDS);
        processes.tell(&first).await;
        let pids = processes.pids();
        let measurement = measure(&mut processes.reports, &pids).await;
        processes.stop().await;
        measurement
    })
}
