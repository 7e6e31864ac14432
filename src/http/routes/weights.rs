//! The weights that a job begins with: what they are is written down when it is accepted.

use std::path::PathBuf;

use neap_scheduler::spec::{Code, Fault, JobSpec, Severity};
use neap_storage::object::Access;
use neap_training::init::weights_digest;

use super::checkpoints::PROBE_PATIENCE;
use crate::chain::chain;

/// The digest of the job's weights, where it names any. All nodes are processes of this machine, so what is not here is
/// nowhere.
pub(super) async fn digest(job: &JobSpec) -> Result<Option<String>, Fault> {
    let Some(init) = job.train().and_then(|train| train.init.as_ref()) else { return Ok(None) };
    let path = PathBuf::from(&init.path);
    let access = Access::from_environment().patient(PROBE_PATIENCE);
    let digest = tokio::task::spawn_blocking(move || weights_digest(&path, &access)).await;
    let message = match digest {
        Ok(Ok(digest)) => return Ok(Some(digest)),
        Ok(Err(error)) => chain(&error),
        Err(error) => chain(&error),
    };
    Err(Fault {
        code: Code::InitWeights,
        severity: Severity::Error,
        path: "train.init.uri".to_owned(),
        message,
        help: Some("relative paths start at the job file's folder".to_owned()),
        span: None,
    })
}
