//! One worker process: started with its launch on standard input, which then stays open as its life line.

use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use neap_runtime::wire::agent::WorkerExit;
use neap_runtime::wire::worker::WorkerLaunch;
use neap_runtime::workload::launch_frame;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{mpsc, watch};

use crate::link::Outgoing;
use crate::logs;

/// A worker to start.
pub(crate) struct WorkerProcess {
    pub(crate) binary: PathBuf,
    pub(crate) folder: PathBuf,
    pub(crate) launch: WorkerLaunch,
    pub(crate) outgoing: Outgoing,
}

/// A worker that was started.
pub(crate) struct Running {
    pid: watch::Receiver<u32>,
    end: mpsc::Sender<Duration>,
    ended: watch::Receiver<bool>,
}

impl Running {
    /// Its process; 0 while it starts.
    pub(crate) fn pid(&self) -> u32 {
        *self.pid.borrow()
    }

    /// SIGTERM now, SIGKILL after the grace time. Asking again changes nothing.
    pub(crate) fn end(&self, grace: Duration) {
        let _ = self.end.try_send(grace);
    }

    /// Returns when the process is gone.
    pub(crate) async fn ended(mut self) {
        // An error means that the task is gone, and the process with it.
        let _ = self.ended.wait_for(|ended| *ended).await;
    }
}

impl WorkerProcess {
    /// Starts it; `on_exit` is called once, when it has ended or could not be started.
    pub(crate) fn start(self, on_exit: impl FnOnce(WorkerExit) + Send + 'static) -> Running {
        let (pid_known, pid) = watch::channel(0);
        let (end, ending) = mpsc::channel(1);
        let (over, ended) = watch::channel(false);
        tokio::spawn(async move {
            let exit = match self.run(&pid_known, ending).await {
                Ok(status) => exit_of(status),
                Err(error) => WorkerExit::NotStarted(error.to_string()),
            };
            on_exit(exit);
            let _ = over.send(true);
        });
        Running { pid, end, ended }
    }

    async fn run(self, pid: &watch::Sender<u32>, mut ending: mpsc::Receiver<Duration>) -> io::Result<ExitStatus> {
        let (job, worker) = (self.launch.job, self.launch.worker);
        let frame = launch_frame(&self.launch).map_err(io::Error::other)?;
        let mut child = Command::new(&self.binary)
            .arg("worker")
            .current_dir(&self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let _ = pid.send(child.id().unwrap_or_default());
        let shipping = logs::ship(job, worker, child.stdout.take(), child.stderr.take(), self.outgoing);
        let life_line = hand_over(child.stdin.take(), &frame).await;
        let status = tokio::select! {
            status = child.wait() => status,
            Some(grace) = ending.recv() => end(&mut child, grace).await,
        };
        drop(life_line);
        // The last lines are worth waiting for, but a grandchild that holds the pipe is not.
        let _ = tokio::time::timeout(Duration::from_millis(500), shipping).await;
        status
    }
}

/// Writes the launch and keeps the pipe. A worker that dies before it has read it is seen to exit.
async fn hand_over(stdin: Option<ChildStdin>, frame: &[u8]) -> Option<ChildStdin> {
    let mut stdin = stdin?;
    if let Err(error) = stdin.write_all(frame).await {
        tracing::warn!(%error, "worker did not read its launch");
    }
    let _ = stdin.flush().await;
    Some(stdin)
}

async fn end(child: &mut Child, grace: Duration) -> io::Result<ExitStatus> {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid
        && let Err(error) = kill_process(pid, Signal::TERM)
    {
        tracing::debug!(%error, "SIGTERM not sent");
    }
    match tokio::time::timeout(grace, child.wait()).await {
        Ok(status) => status,
        Err(_) => {
            child.start_kill()?;
            child.wait().await
        }
    }
}

fn exit_of(status: ExitStatus) -> WorkerExit {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => WorkerExit::Code(code),
        (None, Some(signal)) => WorkerExit::Signal(signal),
        (None, None) => WorkerExit::NotStarted(status.to_string()),
    }
}
