//! The states of jobs and nodes. Few states, each with a reason; one function a kind performs transitions.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a job waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PendingReason {
    /// Behind earlier jobs.
    Queued,
    /// No offer and no free node can carry it now.
    NoCapacity,
    /// Some of its gang is there, not all.
    GangWait,
    /// A request failed and is tried again later.
    Backoff,
    /// What it needs next costs more than its budget has left.
    Budget,
}

/// Why a running job had to regroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecoverReason {
    /// The provider took a node back.
    Preempted,
    /// A node or its connection was lost.
    NodeLost,
    /// A worker process ended by itself.
    ExitCode,
}

/// Why a job failed. There is no "controller failed": the controller's trouble never is the job's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailReason {
    /// The job's own code or parameters are at fault.
    UserError,
    /// Valid on paper, but not once it met its data or its nodes.
    InvalidAtRuntime,
    /// Its workers crashed more often than `retry.max_restarts` allows.
    RetriesExhausted,
    /// A sample was used twice or not at all.
    DataLedgerMismatch,
    /// No offer can ever carry it.
    Infeasible,
    /// Its budget cannot carry it on.
    BudgetExceeded,
    /// It was not done at its deadline.
    DeadlineMissed,
}

/// Why a job was cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelReason {
    /// A person asked for it.
    User,
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "state", content = "reason", rename_all = "snake_case")]
pub enum JobState {
    /// Accepted, holds no node.
    Pending(PendingReason),
    /// Nodes are being rented or booted for it.
    Provisioning,
    /// Training.
    Running,
    /// Training, while workers join or leave by plan.
    Resizing,
    /// Regrouping after a loss.
    Recovering(RecoverReason),
    /// Ending, while its last checkpoint is written.
    Stopping,
    /// Done.
    Succeeded,
    /// Ended without a result.
    Failed(FailReason),
    /// Ended on request.
    Cancelled(CancelReason),
}

/// A change of state that the state machine does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no transition from {from} to {to}")]
pub struct IllegalTransition {
    from: String,
    to: String,
}

impl JobState {
    /// Whether nothing can follow.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed(_) | Self::Cancelled(_))
    }

    /// The state's name without its reason.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending(_) => "pending",
            Self::Provisioning => "provisioning",
            Self::Running => "running",
            Self::Resizing => "resizing",
            Self::Recovering(_) => "recovering",
            Self::Stopping => "stopping",
            Self::Succeeded => "succeeded",
            Self::Failed(_) => "failed",
            Self::Cancelled(_) => "cancelled",
        }
    }

    /// The reason in the words of job files and metrics, where the state has one.
    pub fn reason(self) -> Option<&'static str> {
        Some(match self {
            Self::Pending(reason) => match reason {
                PendingReason::Queued => "queued",
                PendingReason::NoCapacity => "no_capacity",
                PendingReason::GangWait => "gang_wait",
                PendingReason::Backoff => "backoff",
                PendingReason::Budget => "budget",
            },
            Self::Recovering(reason) => match reason {
                RecoverReason::Preempted => "preempted",
                RecoverReason::NodeLost => "node_lost",
                RecoverReason::ExitCode => "exit_code",
            },
            Self::Failed(reason) => match reason {
                FailReason::UserError => "user_error",
                FailReason::InvalidAtRuntime => "invalid_at_runtime",
                FailReason::RetriesExhausted => "retries_exhausted",
                FailReason::DataLedgerMismatch => "data_ledger_mismatch",
                FailReason::Infeasible => "infeasible",
                FailReason::BudgetExceeded => "budget_exceeded",
                FailReason::DeadlineMissed => "deadline_missed",
            },
            Self::Cancelled(CancelReason::User) => "user",
            _ => return None,
        })
    }

    /// The state after a change to `to`.
    ///
    /// # Errors
    ///
    /// [`IllegalTransition`] where the state machine has no such edge.
    pub fn transition(self, to: Self) -> Result<Self, IllegalTransition> {
        use JobState::{Cancelled, Failed, Pending, Provisioning, Recovering, Resizing, Running, Stopping, Succeeded};
        let legal = match (self, to) {
            (Succeeded | Failed(_) | Cancelled(_), _) => false,
            (Stopping, Succeeded | Failed(_) | Cancelled(_)) => true,
            (Stopping, _) => false,
            (_, Stopping | Failed(_) | Cancelled(_)) => true,
            (Pending(_), Pending(_) | Provisioning | Running) => true,
            (Provisioning, Pending(_) | Running) => true,
            (Running | Resizing | Recovering(_), Running | Resizing | Recovering(_) | Succeeded) => true,
            _ => false,
        };
        if legal { Ok(to) } else { Err(IllegalTransition { from: self.to_string(), to: to.to_string() }) }
    }
}

/// `running`, `pending (gang_wait)`.
impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason() {
            Some(reason) => f.pad(&format!("{} ({reason})", self.name())),
            None => f.pad(self.name()),
        }
    }
}

/// Where a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// The intent is written down; the provider has not confirmed.
    Requested,
    /// The provider is starting it; it bills from here.
    Booting,
    /// Its agent has presented its token.
    Joining,
    /// Takes work.
    Ready,
    /// Takes no new work and gives up what it has.
    Draining,
    /// The provider was told to take it back.
    Releasing,
    /// Gone, seen to be gone; bills no more.
    Released,
    /// Never joined.
    Failed,
    /// Not heard of for longer than its lease; may still be working, bills on.
    Unreachable,
}

impl NodeState {
    /// Whether nothing can follow, and nothing is billed any more.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Released | Self::Failed)
    }

    /// The state's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Booting => "booting",
            Self::Joining => "joining",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Releasing => "releasing",
            Self::Released => "released",
            Self::Failed => "failed",
            Self::Unreachable => "unreachable",
        }
    }

    /// The state after a change to `to`.
    ///
    /// # Errors
    ///
    /// [`IllegalTransition`] where the state machine has no such edge.
    pub fn transition(self, to: Self) -> Result<Self, IllegalTransition> {
        use NodeState::{Booting, Draining, Failed, Joining, Ready, Released, Releasing, Requested, Unreachable};
        let legal = match (self, to) {
            (Released | Failed, _) => false,
            (_, Releasing | Released) => true,
            (Requested, Booting) | (Booting, Joining) | (Joining, Ready) => true,
            (Requested | Booting | Joining, Failed) => true,
            (Ready, Draining | Unreachable) | (Draining, Ready | Unreachable) => true,
            (Unreachable, Ready | Draining) => true,
            _ => false,
        };
        if legal { Ok(to) } else { Err(IllegalTransition { from: self.to_string(), to: to.to_string() }) }
    }
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_follows_a_terminal_state() {
        for end in
            [JobState::Succeeded, JobState::Failed(FailReason::UserError), JobState::Cancelled(CancelReason::User)]
        {
            assert!(end.is_terminal());
            assert!(end.transition(JobState::Running).is_err());
            assert!(end.transition(JobState::Stopping).is_err());
        }
        assert!(NodeState::Released.transition(NodeState::Ready).is_err());
    }

    #[test]
    fn a_job_goes_from_pending_to_done() {
        let state = JobState::Pending(PendingReason::Queued);
        let state = state.transition(JobState::Provisioning).unwrap();
        let state = state.transition(JobState::Running).unwrap();
        let state = state.transition(JobState::Recovering(RecoverReason::NodeLost)).unwrap();
        let state = state.transition(JobState::Running).unwrap();
        assert_eq!(state.transition(JobState::Succeeded).unwrap(), JobState::Succeeded);
    }

    #[test]
    fn a_pending_job_cannot_succeed() {
        assert!(JobState::Pending(PendingReason::Queued).transition(JobState::Succeeded).is_err());
    }
}
