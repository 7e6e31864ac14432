//! Checkpoints: whether they can be written, and going on from one.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use neap_control::{ControlError, Submission};
use neap_scheduler::spec::{self, Code, Fault, JobSpec, Severity};
use neap_storage::object::{Access, Location, Patience};
use neap_storage::record::CheckpointRecord;
use neap_storage::{CheckpointError, CheckpointStore};

use super::super::body::{JobBody, RestoreBody};
use super::super::error::ApiError;
use super::{JsonBody, Shared, context, found, weights};
use crate::chain::chain;

/// How long an object store is waited for before a job is accepted: a person waits, and the client for ten seconds.
pub(super) const PROBE_PATIENCE: Patience =
    Patience { request: Duration::from_secs(3), total: Duration::from_secs(4), retries_max: 3 };

/// Where the job's checkpoints cannot be written, why. Something is written there and removed again, as a worker would.
pub(super) async fn unwritable(job: &JobSpec) -> Option<Fault> {
    let place = job.checkpoint.place.clone()?;
    let check = move || {
        CheckpointStore::open_with(&place, &Access::from_environment().patient(PROBE_PATIENCE))?.check_writable()
    };
    let error = match tokio::task::spawn_blocking(check).await {
        Ok(checked) => chain(&checked.err()?),
        Err(error) => chain(&error),
    };
    Some(Fault {
        code: Code::CheckpointUri,
        severity: Severity::Error,
        path: "checkpoint.uri".to_owned(),
        message: error,
        help: Some("nothing can be written there; change it, or leave it out for the project's own store".to_owned()),
        span: None,
    })
}

/// A new job with the file of one that has ended, which goes on from a checkpoint of that one.
pub(super) async fn restore(
    State(api): Shared,
    Path(name): Path<String>,
    JsonBody(wanted): JsonBody<RestoreBody>,
) -> Result<Response, ApiError> {
    let (job, file) = (api.control.job(&name).await?, api.control.job_file(&name).await?);
    if !job.state.is_terminal() {
        let why = format!("{} ({}) has not ended; stop it first, and it goes on from where it was", job.id, job.name);
        return Err(ControlError::Conflict { why }.into());
    }
    let artifact = found(&api, file.artifact.as_ref().map(|artifact| artifact.hash)).await?;
    let context = context(&api, file.base_dir.clone(), artifact.as_ref());
    let parsed = spec::parse(&file.source, &context).map_err(ApiError::InvalidJob)?;
    let place = job.checkpoints;
    let search = move || find(&place, wanted.step);
    let checkpoint = tokio::task::spawn_blocking(search).await.map_err(|error| conflict(chain(&error)))?;
    let submission = Submission {
        source: file.source,
        base_dir: file.base_dir,
        estimate: None,
        force: false,
        init_digest: weights::digest(&parsed.spec).await.map_err(|fault| ApiError::InvalidJob(vec![fault]))?,
        artifact: artifact.and_then(Result::ok),
        begin_with: Some(checkpoint.map_err(conflict)?),
        spec: parsed.spec,
    };
    let job = api.control.submit(submission).await?;
    tracing::info!(job = %job.id, name = job.name, "job goes on from a checkpoint of an earlier one");
    Ok((StatusCode::CREATED, Json(JobBody::from(job))).into_response())
}

fn conflict(why: String) -> ApiError {
    ControlError::Conflict { why }.into()
}

/// The checkpoint after `step`, or the newest, of those in `place` that are whole.
fn find(place: &str, step: Option<u64>) -> Result<CheckpointRecord, String> {
    let location = Location::parse(place).map_err(|error| error.to_string())?;
    let access = Access::from_environment().patient(PROBE_PATIENCE);
    let search = || -> Result<_, CheckpointError> {
        let store = CheckpointStore::open_with(&location, &access)?;
        let listed = store.list()?;
        let steps: Vec<String> = listed.iter().map(|listed| listed.step.to_string()).collect();
        let wanted = listed.into_iter().rev().filter(|listed| step.is_none_or(|step| listed.step == step));
        let mut damage = Vec::new();
        for listed in wanted {
            match store.load(&listed.name) {
                Ok(loaded) => return Ok(Ok(loaded)),
                Err(error @ CheckpointError::Store { .. }) => return Err(error),
                Err(error) => damage.push(error.to_string()),
            }
        }
        Ok(Err((steps, damage)))
    };
    match search() {
        Err(error) => Err(chain(&error)),
        Ok(Err((steps, damage))) => {
            let which = step.map_or_else(String::new, |step| format!(" of step {step}"));
            let there =
                if steps.is_empty() { "none at all".to_owned() } else { format!("of steps {}", steps.join(", ")) };
            let damage: String = damage.iter().map(|damage| format!("; {damage}")).collect();
            Err(format!("there is no whole checkpoint{which} in {place}; there are: {there}{damage}"))
        }
        Ok(Ok(loaded)) => Ok(CheckpointRecord {
            membership: loaded.meta.membership,
            step: loaded.meta.step,
            epoch: loaded.meta.epoch,
            uri: format!("{place}/{}", loaded.name),
            digest: loaded.digest,
            bytes: loaded.parts.values().map(|part| part.len() as u64).sum(),
        }),
    }
}
