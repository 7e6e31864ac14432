//! Reports on their way to the agent: a bounded queue in between, so that no thread waits for an agent that is away
//! longer than the queue lasts.

use neap_runtime::wire::worker::WorkerReport;
use neap_runtime::workload::ReportSender;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::links::SESSION_QUEUE_MAX;

/// The task that hands reports on.
pub(super) struct ReportPump {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl ReportPump {
    /// Starts the task, and gives the end that takes reports.
    pub(super) fn start(agent: ReportSender) -> (Self, mpsc::Sender<WorkerReport>) {
        let (reports, queue) = mpsc::channel(SESSION_QUEUE_MAX);
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(pump(queue, agent, stopped));
        (Self { stop, task }, reports)
    }

    /// Ends once everything that was reported is handed on.
    pub(super) async fn finish(self) {
        let _ = self.stop.send(());
        if self.task.await.is_err() {
            tracing::error!("the report pump panicked");
        }
    }
}

async fn pump(mut queue: mpsc::Receiver<WorkerReport>, agent: ReportSender, mut stopped: oneshot::Receiver<()>) {
    loop {
        tokio::select! {
            biased;
            report = queue.recv() => match report {
                Some(report) => agent.send(report).await,
                None => return,
            },
            _ = &mut stopped => queue.close(),
        }
        if queue.is_closed() && queue.is_empty() {
            return;
        }
    }
}
