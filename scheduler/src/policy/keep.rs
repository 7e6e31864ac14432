//! What becomes of each node once all jobs are served: exactly one reason to keep it, or its release.

use super::decide::Round;
use super::plan::{Action, KeepReason, ReleaseReason};
use super::snapshot::NodeSupply;
use crate::autoscale::{self, Idle};
use crate::model::NodeState;

impl Round<'_> {
    pub(super) fn keep_or_release(&mut self, node: &NodeSupply) {
        if node.state.is_terminal() {
            return;
        }
        let carried = self.used.get(&node.id);
        let release = match node.state {
            NodeState::Releasing => None,
            NodeState::Unreachable if carried.is_none() => Some(ReleaseReason::Unreachable),
            _ if carried.is_some() => None,
            _ if node.notice_until.is_some() || node.state == NodeState::Draining => Some(ReleaseReason::Noticed),
            NodeState::Ready => None,
            _ => Some(ReleaseReason::NotNeeded),
        };
        if let Some(reason) = release {
            self.plan.actions.push(Action::Release { node: node.id, reason });
            return;
        }
        let reason = match carried {
            _ if node.is_leaving() => KeepReason::Leaving,
            Some(reason) => reason.clone(),
            None => match autoscale::idle(node, self.snapshot.now, self.snapshot.idle_release) {
                Idle::Release(reason) => {
                    self.plan.actions.push(Action::Release { node: node.id, reason });
                    return;
                }
                Idle::Keep(reason) => reason,
            },
        };
        self.plan.kept.insert(node.id, reason);
    }
}
