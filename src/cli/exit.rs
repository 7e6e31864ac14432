//! Everything a command can end with, and the exit code of each. This is the only place that knows the numbers.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use neap_runtime::workload::{OTHER_VERSION_EXIT, WorkerError};
use neap_scheduler::estimate::PlanRefusal;
use neap_scheduler::spec::ArtifactFault;
use neap_storage::CheckpointError;
use neap_training::measure::MeasureError;

use crate::chain::chain;
use crate::home::HomeError;
use crate::http::body::{ErrorCode, ErrorDetail, JobBody, JobStateBody};

use super::client::ClientError;
use super::report::DrawError;

/// How a command ended. The numbers are part of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// Something unexpected.
    Unexpected = 1,
    /// Wrong usage, or an invalid job file.
    Usage = 2,
    /// No control plane to talk to.
    Unreachable = 3,
    /// The control plane does not let us in.
    NotAuthorised = 4,
    /// The state of things does not allow it.
    Conflict = 5,
    /// No offer can ever carry it.
    Infeasible = 6,
    /// Refused by a limit.
    Refused = 7,
    /// Feasible, but the P95 of a plan breaks the budget or the deadline.
    Risky = 8,
    /// A worker of another version of Neap than its agent. The agent knows the number.
    OtherVersion = OTHER_VERSION_EXIT as u8,
    /// The job failed.
    JobFailed = 100,
    /// The job has not ended.
    JobNotFinished = 101,
    /// There is no such job or node.
    NotFound = 102,
    /// The job was cancelled.
    JobCancelled = 103,
    /// The job crashed more often than it may.
    RetriesExhausted = 104,
    /// The job's budget could not carry it on.
    BudgetExceeded = 105,
    /// The job was not done at its deadline.
    JobTimedOut = 106,
}

impl Exit {
    /// How a job's state shows in an exit code.
    pub fn of_job(job: &JobBody) -> Self {
        match (job.state, job.reason.as_deref()) {
            (JobStateBody::Succeeded, _) => Self::Ok,
            (JobStateBody::Failed, Some("retries_exhausted")) => Self::RetriesExhausted,
            (JobStateBody::Failed, Some("budget_exceeded")) => Self::BudgetExceeded,
            (JobStateBody::Failed, Some("deadline_missed")) => Self::JobTimedOut,
            (JobStateBody::Failed, _) => Self::JobFailed,
            (JobStateBody::Cancelled, _) => Self::JobCancelled,
            _ => Self::JobNotFinished,
        }
    }

    fn of_api(code: ErrorCode) -> Self {
        match code {
            ErrorCode::Unauthorised | ErrorCode::Forbidden => Self::NotAuthorised,
            ErrorCode::NotFound => Self::NotFound,
            ErrorCode::Conflict => Self::Conflict,
            ErrorCode::InvalidJob | ErrorCode::TooLarge => Self::Usage,
            ErrorCode::Infeasible => Self::Infeasible,
            ErrorCode::Refused => Self::Refused,
            ErrorCode::Timeout | ErrorCode::Unavailable => Self::Unreachable,
            ErrorCode::BadRequest | ErrorCode::MethodNotAllowed | ErrorCode::NotJson | ErrorCode::Unexpected => {
                Self::Unexpected
            }
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The command line makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The job file has faults, which were shown.
    #[error("{file} was not accepted")]
    InvalidJob {
        /// The file.
        file: String,
    },
    /// A file of the user cannot be read.
    #[error("failed to read {path}")]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file that the user asked for cannot be written.
    #[error("failed to write {path}")]
    WriteFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A page of figures cannot be drawn.
    #[error(transparent)]
    Draw(#[from] DrawError),
    /// The job cannot be measured.
    #[error("failed to measure the job")]
    Measure(#[source] MeasureError),
    /// The job's program does not measure it.
    #[error("failed to measure the job: its artifact {0}")]
    MeasureArtifact(String),
    /// A program cannot be used as an artifact.
    #[error("{}", .0.message)]
    Artifact(ArtifactFault),
    /// The job is no training.
    #[error("nothing is known of how long own actors take or what they cost")]
    NoEstimate,
    /// The job cannot be planned.
    #[error(transparent)]
    NoPlan(PlanRefusal),
    /// The job cannot be done in time, or would hardly ever be done.
    #[error("{0}; `--force` starts it anyway")]
    Hopeless(PlanRefusal),
    /// A code that no fault has.
    #[error("no fault has the code {0}")]
    UnknownCode(String),
    /// The home folder does not work.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The control plane did not answer, or said no.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Something else listens where the API should.
    #[error("the address {addr} is in use by another program")]
    PortInUse {
        /// The address.
        addr: SocketAddr,
    },
    /// The control plane ended before it was ready.
    #[error("the control plane did not start:\n{said}")]
    DidNotStart {
        /// What it said last.
        said: String,
        /// Where it said everything.
        log: PathBuf,
    },
    /// Something took longer than it may.
    #[error("{what} took longer than {seconds} s")]
    TimedOut {
        /// What.
        what: String,
        /// The limit.
        seconds: u64,
    },
    /// A process of ours cannot be started.
    #[error("failed to start {what}")]
    Start {
        /// What.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Checks of `doctor` failed; they were shown.
    #[error("{failed} of the checks failed")]
    Unhealthy {
        /// How many.
        failed: usize,
    },
    /// The store of checkpoints does not do what it should.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// There is no such checkpoint, or no place for any.
    #[error("there is {what}")]
    NoCheckpoint {
        /// What there is not.
        what: String,
    },
    /// Checkpoints are damaged; they were shown.
    #[error("{damaged} of {of} checkpoints are damaged")]
    DamagedCheckpoints {
        /// How many are.
        damaged: usize,
        /// Of how many.
        of: usize,
    },
    /// Standard output cannot be written.
    #[error("failed to write to standard output")]
    Output(#[source] io::Error),
    /// A long-running role ended with an error.
    #[error("{role} failed")]
    Role {
        /// Which.
        role: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl CliError {
    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_)
            | Self::InvalidJob { .. }
            | Self::ReadFile { .. }
            | Self::WriteFile { .. }
            | Self::UnknownCode(_)
            | Self::Measure(_)
            | Self::MeasureArtifact(_)
            | Self::Artifact(_) => Exit::Usage,
            Self::NoPlan(_) | Self::NoEstimate => Exit::Infeasible,
            Self::Hopeless(_) => Exit::Refused,
            Self::Client(error) => match error {
                ClientError::NotUp { .. } | ClientError::Unreachable { .. } => Exit::Unreachable,
                ClientError::Token(_) => Exit::NotAuthorised,
                ClientError::Api { body, .. } => Exit::of_api(body.error.code),
                ClientError::Unreadable { .. } => Exit::Unexpected,
            },
            Self::PortInUse { .. } => Exit::Conflict,
            Self::Role { source, .. } if is_other_version(&**source) => Exit::OtherVersion,
            Self::NoCheckpoint { .. } => Exit::NotFound,
            Self::Home(_)
            | Self::DidNotStart { .. }
            | Self::TimedOut { .. }
            | Self::Start { .. }
            | Self::Unhealthy { .. }
            | Self::Checkpoint(_)
            | Self::DamagedCheckpoints { .. }
            | Self::Output(_)
            | Self::Draw(_)
            | Self::Role { .. } => Exit::Unexpected,
        }
    }

    /// What to do about it.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::Client(ClientError::NotUp { .. }) => "start it with `neap up`".to_owned(),
            Self::Client(ClientError::Unreachable { .. }) => {
                "`neap up` starts it again; jobs and nodes are kept".to_owned()
            }
            Self::Client(ClientError::Token(_)) => {
                "run this as the user who ran `neap up`, with the same --home".to_owned()
            }
            Self::Client(ClientError::Api { body, .. }) if !body.error.help.is_empty() => body.error.help.clone(),
            Self::PortInUse { addr } => format!(
                "end that program, or choose another port: `neap up --http {}:0` takes any that is free",
                addr.ip()
            ),
            Self::DidNotStart { log, .. } => format!("the whole log is in {}", log.display()),
            Self::Artifact(fault) => fault.help.clone(),
            Self::InvalidJob { .. } => "`neap explain CODE` says more about a fault".to_owned(),
            Self::UnknownCode(_) => "codes look like E044; `neap validate FILE` shows those of a job file".to_owned(),
            Self::NoEstimate => "`budget.max_cost` limits what they may cost".to_owned(),
            Self::DamagedCheckpoints { .. } => {
                "a job goes on from the newest that is whole; `neap checkpoint gc` deletes old ones".to_owned()
            }
            Self::TimedOut { .. } => {
                "give it more time with --timeout, or look into control.log in the home folder".to_owned()
            }
            _ => return None,
        })
    }

    /// The error as `-o json` prints it.
    pub fn detail(&self) -> ErrorDetail {
        let code = match self {
            Self::Client(ClientError::Api { body, .. }) => body.error.code,
            _ => match self.exit() {
                Exit::Usage => ErrorCode::BadRequest,
                Exit::Unreachable => ErrorCode::Unavailable,
                Exit::NotAuthorised => ErrorCode::Unauthorised,
                Exit::Conflict => ErrorCode::Conflict,
                Exit::NotFound => ErrorCode::NotFound,
                _ => ErrorCode::Unexpected,
            },
        };
        ErrorDetail { code, message: self.chain(), help: self.help().unwrap_or_default() }
    }

    /// The message with all its causes.
    pub fn chain(&self) -> String {
        chain(self)
    }
}

fn is_other_version(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(WorkerError::LaunchVersion { .. }))
}
