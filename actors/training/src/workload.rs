//! The workload `train`: what a worker process does for a training job.

use std::sync::Arc;

use neap_runtime::wire::training::TRAIN_WORKLOAD;
use neap_runtime::workload::{BoxFuture, WorkerContext, Workload, WorkloadError};

use crate::entry::Entries;
use crate::session;

/// The workload, for the registry of a worker process that can train these entries.
pub fn workload(entries: Entries) -> impl Workload {
    TrainWorkload { entries }
}

struct TrainWorkload {
    entries: Entries,
}

impl Workload for TrainWorkload {
    fn name(&self) -> &'static str {
        TRAIN_WORKLOAD
    }

    fn start(self: Arc<Self>, context: WorkerContext) -> BoxFuture<'static, Result<(), WorkloadError>> {
        Box::pin(async move {
            session::run(context, self.entries.clone()).await.map_err(|error| WorkloadError(Box::new(error)))
        })
    }
}
