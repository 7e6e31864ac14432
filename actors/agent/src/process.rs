//! One worker process: started with its launch on standard input, which then stays open as its life line. A program that
//! the job brings along is fetched first.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use neap_runtime::wire::agent::WorkerExit;
use neap_runtime::wire::worker::WorkerLaunch;
use neap_runtime::workload::{OTHER_VERSION_EXIT, WORKER_ARGUMENT, launch_frame};
use neap_scheduler::model::ContentHash;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{mpsc, watch};

use crate::artifacts::{Artifacts, NoProgram};
use crate::link::Outgoing;
use crate::logs;

/// How often a program is tried that another process still has open for writing. A process that was forked while the file
/// was written holds it open until it runs its own program, which takes moments.
const BUSY_TRIES_MAX: u32 = 50;

/// The pause between two tries.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// What a worker runs.
pub(crate) enum Program {
    /// What every node runs.
    Own(PathBuf),
    /// What its job brings along.
    Artifact(ContentHash, Artifacts),
}

/// Why there is no process.
#[derive(Debug, thiserror::Error)]
enum NotRun {
    #[error(transparent)]
    NoProgram(#[from] NoProgram),
    #[error("the artifact {0} is no program for this node's machine; build it for the machines that run it")]
    Foreign(ContentHash),
    #[error("told to end before its program was there")]
    Ended,
    #[error(transparent)]
    System(#[from] io::Error),
}

impl NotRun {
    fn exit(self) -> WorkerExit {
        match self {
            Self::NoProgram(NoProgram::Refused { .. }) | Self::Foreign(_) => WorkerExit::NotRunnable(self.to_string()),
            Self::NoProgram(NoProgram::Cache(error)) => WorkerExit::NotStarted(with_cause(&error)),
            other => WorkerExit::NotStarted(other.to_string()),
        }
    }
}

/// A worker to start.
pub(crate) struct WorkerProcess {
    pub(crate) program: Program,
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
            let artifact = match &self.program {
                Program::Own(_) => None,
                Program::Artifact(artifact, _) => Some(*artifact),
            };
            let exit = match (self.run(&pid_known, ending).await, artifact) {
                (Ok(status), Some(artifact)) if status.code() == Some(OTHER_VERSION_EXIT) => {
                    let other = "was built with another version of Neap than this node runs; build it again";
                    WorkerExit::NotRunnable(format!("the artifact {artifact} {other}"))
                }
                (Ok(status), _) => exit_of(status),
                (Err(error), _) => error.exit(),
            };
            on_exit(exit);
            let _ = over.send(true);
        });
        Running { pid, end, ended }
    }

    async fn run(self, pid: &watch::Sender<u32>, mut ending: mpsc::Receiver<Duration>) -> Result<ExitStatus, NotRun> {
        let (job, worker) = (self.launch.job, self.launch.worker);
        let frame = launch_frame(&self.launch).map_err(io::Error::other)?;
        let binary = match &self.program {
            Program::Own(binary) => binary.clone(),
            Program::Artifact(artifact, artifacts) => tokio::select! {
                binary = artifacts.executable(*artifact) => binary?,
                Some(_) = ending.recv() => return Err(NotRun::Ended),
            },
        };
        let mut child = self.spawn(&binary).await?;
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
        Ok(status?)
    }

    async fn spawn(&self, binary: &Path) -> Result<Child, NotRun> {
        let mut command = Command::new(binary);
        command.arg(WORKER_ARGUMENT).current_dir(&self.folder).kill_on_drop(true);
        // The token let this node in, and is no business of the job's.
        command.env_remove("NEAP_JOIN_TOKEN").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut tries = 0;
        loop {
            match (command.spawn(), &self.program) {
                (Ok(child), _) => return Ok(child),
                (Err(error), Program::Artifact(..))
                    if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < BUSY_TRIES_MAX =>
                {
                    tries += 1;
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                (Err(error), Program::Artifact(artifact, _))
                    if error.raw_os_error() == Some(Errno::NOEXEC.raw_os_error()) =>
                {
                    return Err(NotRun::Foreign(*artifact));
                }
                (Err(error), _) => return Err(error.into()),
            }
        }
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

fn with_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
