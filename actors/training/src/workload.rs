//! The workload `train`: what a worker process does for a training job.

use std::sync::Arc;

use neap_runtime::wire::training::TRAIN_WORKLOAD;
use neap_runtime::workload::{BoxFuture, WorkerContext, Workload, WorkloadError};

use crate::session;

/// The workload, for the registry of a worker process.
pub fn workload() -> impl Workload {
    TrainWorkload
}

struct TrainWorkload;

impl Workload for TrainWorkload {
    fn name(&self) -> &'static str {
        TRAIN_WORKLOAD
    }

    fn start(self: Arc<Self>, context: WorkerContext) -> BoxFuture<'static, Result<(), WorkloadError>> {
        Box::pin(async move { session::run(context).await.map_err(|error| WorkloadError(Box::new(error))) })
    }
}
