//! A training state that more than one worker has, and which one it is: that of every worker of an all-reduce, or a parameter
//! server's and its replica's.

mod handover;

use neap_runtime::wire::collective::StateMark;
use neap_scheduler::model::MembershipEpoch;

pub(crate) use handover::{Incoming, StateError, parts_of};

use crate::reduction::Buffers;
use crate::state::{Commit, EpochSummary, Snapshot, TrainingState};

/// One worker's training state.
pub(crate) struct Replica {
    pub(crate) state: TrainingState,
    /// The membership under which its last step was committed, or it was restored.
    membership: MembershipEpoch,
    /// The last epoch that ended here, with the parameters at its end: where the lead is lost before it has told of it, the
    /// next one does.
    last_epoch: Option<(EpochSummary, Snapshot)>,
}

impl Replica {
    /// A state, and the last epoch that ended with the parameters at its end, where they are known.
    pub(crate) fn new(
        state: TrainingState,
        membership: MembershipEpoch,
        last_epoch: Option<(EpochSummary, Snapshot)>,
    ) -> Self {
        Self { state, membership, last_epoch }
    }

    /// Shares the buffers of whoever computes in this process.
    #[must_use]
    pub(crate) fn with_buffers(self, buffers: Buffers) -> Self {
        Self { state: self.state.with_buffers(buffers), ..self }
    }

    /// Which state it is.
    pub(crate) fn mark(&self) -> StateMark {
        StateMark { step: self.state.step(), membership: self.membership }
    }

    /// Notes a commit under a membership.
    pub(crate) fn committed(&mut self, commit: &Commit, membership: MembershipEpoch) {
        self.membership = membership;
        if let Some(summary) = commit.epoch {
            self.last_epoch = Some((summary, self.state.without_moments()));
        }
    }

    /// The last epoch that ended here, with the parameters at its end.
    pub(crate) fn last_epoch(&self) -> Option<&(EpochSummary, Snapshot)> {
        self.last_epoch.as_ref()
    }
}
