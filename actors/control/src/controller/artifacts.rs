//! Which programs jobs need, and where.

use std::collections::BTreeSet;

use neap_scheduler::model::{ContentHash, NodeId};
use ractor::RpcReplyPort;

use super::{Changed, Controller, Reply};

impl Controller {
    /// A node gets the programs of jobs that it works for, and no others.
    pub(super) fn answer_may_fetch(&self, node: NodeId, artifact: ContentHash, reply: RpcReplyPort<bool>) -> Changed {
        let jobs = self.state.workers_on(node).into_iter().filter_map(|(job, _)| self.state.jobs.get(&job));
        let _ = reply.send(jobs.into_iter().any(|job| job.spec.artifact() == Some(artifact)));
        Changed::No
    }

    pub(super) fn answer_artifacts_in_use(&self, reply: Reply<BTreeSet<ContentHash>>) -> Changed {
        let _ = reply.send(Ok(self.state.live_jobs().filter_map(|job| job.spec.artifact()).collect()));
        Changed::No
    }
}
