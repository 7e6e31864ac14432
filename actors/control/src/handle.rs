//! What the rest of the program holds of a running control plane.

mod money;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use neap_scheduler::model::{ContentHash, MicroUsd, MicroUsdPerHour, Millis, NodeId};
use neap_scheduler::pricing::LedgerLine;
use neap_scheduler::spec::{Code, JobSpec};
use neap_storage::ArtifactStore;
use neap_storage::record::{ArtifactRecord, CheckpointRecord, EstimateRecord};
use ractor::{ActorRef, RpcReplyPort};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::watch;

use crate::controller::ControllerMsg;
use crate::home::Home;
use crate::store::Store;
use crate::views::{BillView, Explanation, JobView, LogView, NodeView, StatusView};

/// How long a query or command may take before its caller is told so. Commands wait for one `fdatasync`.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// What the programs that jobs bring along may take on disk, all together. Beyond it those are evicted that no job needs
/// any more.
pub const ARTIFACTS_BYTES_MAX: u64 = 16 << 30;

/// A job to accept.
#[derive(Debug, Clone)]
pub struct Submission {
    /// The job.
    pub spec: JobSpec,
    /// The text it was parsed from; kept in the journal.
    pub source: String,
    /// The folder its relative paths start at.
    pub base_dir: String,
    /// What somebody reckons that it will cost.
    pub estimate: Option<EstimateRecord>,
    /// Whether it is accepted even if that is more than its own budget.
    pub force: bool,
    /// The program that it brings along; the control plane has it already.
    pub artifact: Option<ArtifactRecord>,
    /// blake3 of the weights that it begins with, in hex, where it names any.
    pub init_digest: Option<String>,
    /// The checkpoint of another job that it begins with; its `uri` has the checkpoint's folder before its name.
    pub begin_with: Option<CheckpointRecord>,
}

/// The job file that a job was accepted with.
#[derive(Debug, Clone, PartialEq)]
pub struct JobFile {
    /// Its text.
    pub source: String,
    /// The folder its relative paths start at.
    pub base_dir: String,
    /// The program that the job brought along.
    pub artifact: Option<ArtifactRecord>,
}

/// How a budget is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BudgetChange {
    /// These limits are set; those that are `None` stay as they are.
    Set {
        /// In all.
        total: Option<MicroUsd>,
        /// In a calendar month (UTC).
        per_month: Option<MicroUsd>,
        /// At any moment, as a rate.
        per_hour: Option<MicroUsdPerHour>,
        /// The share, in thousandths, whose spending is worth a warning.
        warn_at_permille: Option<u16>,
    },
    /// There is no budget any more.
    Remove,
}

/// How a job is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// After a checkpoint.
    Save,
    /// At once.
    Now,
}

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those that have not ended.
    Live,
    /// All there ever were.
    All,
}

/// Why a request was not granted.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nothing of that name or id.
    #[error("no {what}")]
    NotFound {
        /// `job digits`, `node n9`.
        what: String,
    },
    /// It cannot be done in the state things are in.
    #[error("{why}")]
    Conflict {
        /// Why, and what to do.
        why: String,
    },
    /// No offer can ever carry it.
    #[error("{why}")]
    Infeasible {
        /// Why, with the nearest offer.
        why: String,
    },
    /// A limit on money does not allow it.
    #[error("error[{code}] {why}")]
    Refused {
        /// Which rule; `neap explain CODE` says more.
        code: Code,
        /// Why, with the amounts.
        why: String,
    },
    /// The journal does not take it: nothing was promised, nothing was done.
    #[error("failed to write the journal")]
    Journal(#[from] neap_storage::journal::JournalError),
    /// The bill cannot be read.
    #[error("failed to read the ledger")]
    Ledger(#[from] neap_storage::projection::ProjectionError),
    /// A log cannot be read.
    #[error("failed to read the log {path}")]
    Log {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The control plane is going down.
    #[error("the control plane is shutting down")]
    Stopped,
}

/// A running control plane, for the HTTP API and for tests. Cheap to clone.
#[derive(Clone)]
pub struct ControlHandle {
    pub(crate) controller: ActorRef<ControllerMsg>,
    pub(crate) changes: watch::Receiver<u64>,
    pub(crate) home: Home,
    pub(crate) store: Store,
    pub(crate) artifacts: ArtifactStore,
}

impl ControlHandle {
    /// The programs that jobs bring along.
    pub fn artifacts(&self) -> &ArtifactStore {
        &self.artifacts
    }

    /// Those that jobs need which have not ended.
    ///
    /// # Errors
    ///
    /// [`ControlError::Stopped`].
    pub async fn artifacts_in_use(&self) -> Result<BTreeSet<ContentHash>, ControlError> {
        self.ask(ControllerMsg::ArtifactsInUse).await
    }

    /// Accepts a job. When this returns it is on disk.
    ///
    /// # Errors
    ///
    /// [`ControlError::Conflict`] where a live job has its name, [`ControlError::Infeasible`] where no offer can carry it,
    /// [`ControlError::Refused`] where its budget is more than is left, or will hardly do.
    pub async fn submit(&self, job: Submission) -> Result<JobView, ControlError> {
        self.ask(|reply| ControllerMsg::Submit(Box::new(job), reply)).await
    }

    /// Jobs, oldest first.
    ///
    /// # Errors
    ///
    /// [`ControlError::Stopped`].
    pub async fn jobs(&self, which: Which) -> Result<Vec<JobView>, ControlError> {
        self.ask(|reply| ControllerMsg::Jobs(which, reply)).await
    }

    /// One job, by its id or its name (the newest of that name).
    ///
    /// # Errors
    ///
    /// [`ControlError::NotFound`].
    pub async fn job(&self, name_or_id: &str) -> Result<JobView, ControlError> {
        self.ask(|reply| ControllerMsg::Job(name_or_id.to_owned(), reply)).await
    }

    /// The job file of a job, by its id or its name.
    ///
    /// # Errors
    ///
    /// [`ControlError::NotFound`].
    pub async fn job_file(&self, name_or_id: &str) -> Result<JobFile, ControlError> {
        self.ask(|reply| ControllerMsg::JobFile(name_or_id.to_owned(), reply)).await
    }

    /// One job, as soon as it is newer than `after_version`, or as it is after `at_most`.
    ///
    /// # Errors
    ///
    /// [`ControlError::NotFound`].
    pub async fn watch(
        &self,
        name_or_id: &str,
        after_version: u64,
        at_most: Duration,
    ) -> Result<JobView, ControlError> {
        let deadline = tokio::time::Instant::now() + at_most;
        let mut changes = self.changes.clone();
        loop {
            changes.mark_unchanged();
            let job = self.job(name_or_id).await?;
            if job.version > after_version {
                return Ok(job);
            }
            match tokio::time::timeout_at(deadline, changes.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(ControlError::Stopped),
                Err(_) => return Ok(job),
            }
        }
    }

    /// Ends a job.
    ///
    /// # Errors
    ///
    /// [`ControlError::NotFound`], or [`ControlError::Conflict`] where it has ended already.
    pub async fn stop(&self, name_or_id: &str, stop: Stop) -> Result<JobView, ControlError> {
        self.ask(|reply| ControllerMsg::StopJob(name_or_id.to_owned(), stop, reply)).await
    }

    /// Nodes, oldest first.
    ///
    /// # Errors
    ///
    /// [`ControlError::Stopped`].
    pub async fn nodes(&self, which: Which) -> Result<Vec<NodeView>, ControlError> {
        self.ask(|reply| ControllerMsg::Nodes(which, reply)).await
    }

    /// Has the provider take a spot node back after `notice`.
    ///
    /// # Errors
    ///
    /// [`ControlError::NotFound`], or [`ControlError::Conflict`] where it is no spot node or is going already.
    pub async fn preempt(&self, node: NodeId, notice: Millis) -> Result<NodeView, ControlError> {
        self.ask(|reply| ControllerMsg::Preempt(node, notice, reply)).await
    }

    /// Why a job (name or id) or a node (id) is as it is, and what would change it.
    ///
    /// # Errors
    ///
    /// [`ControlError::NotFound`].
    pub async fn explain(&self, subject: &str) -> Result<Explanation, ControlError> {
        self.ask(|reply| ControllerMsg::Explain(subject.to_owned(), reply)).await
    }

    /// The bill, of one job or of everything, up to now.
    ///
    /// # Errors
    ///
    /// [`ControlError::NotFound`].
    pub async fn bill(&self, job: Option<&str>) -> Result<BillView, ControlError> {
        self.ask(|reply| ControllerMsg::Bill(job.map(str::to_owned), reply)).await
    }

    /// The written lines of the bill, of one job or of everything, oldest first; the stretch that is running is not
    /// among them yet.
    ///
    /// # Errors
    ///
    /// [`ControlError::NotFound`], [`ControlError::Ledger`].
    pub async fn lines(&self, job: Option<&str>) -> Result<Vec<LedgerLine>, ControlError> {
        let job = match job {
            Some(name) => Some(self.job(name).await?.id),
            None => None,
        };
        Ok(self.store.lines(job).await?)
    }

    /// A piece of a job's log from `offset`, of at most `bytes_max`, cut at the end of a line.
    ///
    /// # Errors
    ///
    /// [`ControlError::NotFound`], [`ControlError::Log`].
    pub async fn logs(&self, job: &str, offset: u64, bytes_max: usize) -> Result<LogView, ControlError> {
        let job = self.job(job).await?;
        let path = self.home.log(job.id);
        let text = match read_lines(&path, offset, bytes_max).await {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            other => other.map_err(|source| ControlError::Log { path, source })?,
        };
        let ended = job.state.is_terminal() && text.is_empty();
        Ok(LogView { next_offset: offset + text.len() as u64, text, ended })
    }

    /// The control plane itself.
    ///
    /// # Errors
    ///
    /// [`ControlError::Stopped`].
    pub async fn status(&self) -> Result<StatusView, ControlError> {
        let mut status = self.ask(ControllerMsg::Status).await?;
        status.journal_records = self.store.records().await;
        Ok(status)
    }

    /// Saves every running job, gives every node back, and returns when nothing is left.
    pub(crate) async fn end_nodes(&self) -> Result<(), ControlError> {
        self.ask(ControllerMsg::EndNodes).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        message: impl FnOnce(RpcReplyPort<Result<T, ControlError>>) -> ControllerMsg,
    ) -> Result<T, ControlError> {
        let answer = self.controller.call(message, Some(ANSWER_TIMEOUT)).await;
        match answer {
            Ok(ractor::rpc::CallResult::Success(answer)) => answer,
            _ => Err(ControlError::Stopped),
        }
    }
}

/// Whole lines of a file from `offset`; a longer line than `bytes_max` comes in pieces.
async fn read_lines(path: &std::path::Path, offset: u64, bytes_max: usize) -> std::io::Result<String> {
    let mut file = tokio::fs::File::open(path).await?;
    file.seek(std::io::SeekFrom::Start(offset)).await?;
    let mut bytes = Vec::new();
    file.take(bytes_max as u64).read_to_end(&mut bytes).await?;
    if let Some(end) = bytes.iter().rposition(|&byte| byte == b'\n') {
        bytes.truncate(end + 1);
    } else if bytes.len() < bytes_max {
        bytes.clear();
    }
    // The file is written from strings, so only a cut inside a character could be lossy; offsets count file bytes.
    let whole = match std::str::from_utf8(&bytes) {
        Ok(_) => bytes.len(),
        Err(error) => error.valid_up_to(),
    };
    bytes.truncate(whole);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
