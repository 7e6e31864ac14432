//! What can be asked: each route reads its request, asks the control plane, and answers with a body.

mod artifacts;
mod checkpoints;
mod money;
mod weights;

use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use neap_control::{Stop, Submission, Which};
use neap_scheduler::model::{ContentHash, NodeId};
use neap_scheduler::spec::{
    self, ArtifactFault, ArtifactPlace, Code, DataSpec, Fault, JobSpec, ParseContext, Severity,
};
use neap_storage::object::Access;
use neap_storage::record::{ArtifactRecord, EstimateRecord};
use neap_training::data::{Stores, find_in_store};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Api;
use super::body::{
    BillBody, ExplanationBody, JobBody, LogBody, NodeBody, PreemptBody, ReadyBody, ShutdownBody, StatusBody, StopBody,
    SubmitBody, VersionBody,
};
use super::error::ApiError;
use crate::chain::chain;

/// The longest wait of a long poll; clients ask again.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the control plane may take to say that it is well.
const READY_TIMEOUT: Duration = Duration::from_secs(2);

/// The largest piece of a log in one answer.
const LOG_BYTES_MAX: usize = 256 << 10;

type Shared = State<Arc<Api>>;
type Answer<T> = Result<Json<T>, ApiError>;

pub(super) fn routes(api: Arc<Api>) -> Router {
    let v1 = Router::new()
        .route("/jobs", get(jobs).post(submit))
        .route("/jobs/{job}", get(job))
        .route("/jobs/{job}/stop", post(stop))
        .route("/jobs/{job}/logs", get(logs))
        .route("/jobs/{job}/restore", post(checkpoints::restore))
        .route("/nodes", get(nodes))
        .route("/nodes/{node}/preempt", post(preempt))
        .route("/explain/{subject}", get(explain))
        .route("/cost", get(cost))
        .route("/status", get(status))
        .route("/shutdown", post(shutdown))
        .merge(artifacts::routes())
        .merge(money::routes());
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/healthz", get(readyz))
        .route("/version", get(version))
        .nest("/api/v1", v1)
        .fallback(async || ApiError::NoRoute)
        .method_not_allowed_fallback(async || ApiError::Method)
        .with_state(api)
}

async fn livez() -> &'static str {
    "ok"
}

async fn readyz(State(api): Shared) -> Response {
    let failing = match tokio::time::timeout(READY_TIMEOUT, api.control.status()).await {
        Ok(Ok(_)) => Vec::new(),
        Ok(Err(error)) => vec![error.to_string()],
        Err(_) => vec!["the controller does not answer".to_owned()],
    };
    let status = if failing.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(ReadyBody { ready: failing.is_empty(), failing })).into_response()
}

async fn version() -> Json<VersionBody> {
    Json(VersionBody::own())
}

async fn submit(State(api): Shared, JsonBody(file): JsonBody<SubmitBody>) -> Result<Response, ApiError> {
    // Who uses the API by hand may leave the second out where the file says it.
    let named = file.artifact.or_else(|| match spec::artifact(&file.source, &file.base_dir)? {
        ArtifactPlace::Content(hash) => Some(hash),
        ArtifactPlace::Path(_) => None,
    });
    let artifact = found(&api, named).await?;
    let context = context(&api, file.base_dir.clone(), artifact.as_ref());
    let job = spec::parse(&file.source, &context).map_err(ApiError::InvalidJob)?;
    let mut faults = missing_data(&job.spec).await;
    faults.extend(checkpoints::unwritable(&job.spec).await);
    let init = weights::digest(&job.spec).await;
    faults.extend(init.as_ref().err().cloned());
    if !faults.is_empty() {
        return Err(ApiError::InvalidJob(faults));
    }
    let init_digest = init.ok().flatten();
    let estimate = file.estimate.map(EstimateRecord::from);
    let SubmitBody { source, base_dir, force, .. } = file;
    // A job that names no artifact has none, whatever the request says.
    let artifact = artifact.and_then(Result::ok).filter(|_| job.spec.artifact().is_some());
    let spec = job.spec;
    let submission = Submission { spec, source, base_dir, estimate, force, artifact, init_digest, begin_with: None };
    let job = api.control.submit(submission).await?;
    tracing::info!(job = %job.id, name = job.name, file = file.file_name, "job accepted");
    Ok((StatusCode::CREATED, Json(JobBody::from(job))).into_response())
}

/// A program that a job brings along, or why it cannot.
type Found = Result<ArtifactRecord, ArtifactFault>;

async fn found(api: &Api, named: Option<ContentHash>) -> Result<Option<Found>, ApiError> {
    let Some(hash) = named else { return Ok(None) };
    let not_here = || ArtifactFault {
        message: format!("the control plane does not have {hash}"),
        help: "name the program by its path; `neap run` hands it in".to_owned(),
    };
    Ok(Some(artifacts::known(api, hash).await?.ok_or_else(not_here)))
}

/// What a job file is checked against here.
fn context(api: &Api, base_dir: String, artifact: Option<&Found>) -> ParseContext {
    ParseContext {
        base_dir,
        entries: api.entries.clone(),
        mains: Some(api.mains.clone()),
        artifact: artifact.map(|artifact| artifact.as_ref().map(ArtifactRecord::info).map_err(Clone::clone)),
    }
}

/// Data sets that are not there. All nodes are processes of this machine, so what is not here is nowhere.
async fn missing_data(job: &JobSpec) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (name, data) in &job.data {
        let missing = match data.remote() {
            Some(_) => missing_in_store(data.clone()).await,
            None if tokio::fs::try_exists(FilePath::new(data.place())).await.unwrap_or(false) => None,
            None => {
                let help = "relative paths start at the job file's folder".to_owned();
                Some((format!("there is nothing at {}", data.place()), Some(help)))
            }
        };
        let Some((message, help)) = missing else { continue };
        let (code, severity) = (Code::DataMissing, Severity::Error);
        faults.push(Fault { code, severity, path: format!("data.{name}.uri"), message, help, span: None });
    }
    faults
}

/// Why data in an object store cannot be had, and what to do where that does not say it.
async fn missing_in_store(data: DataSpec) -> Option<(String, Option<String>)> {
    let look = move || {
        let stores = Stores::new(Access::from_environment().patient(checkpoints::PROBE_PATIENCE));
        find_in_store(&data, &stores)
    };
    match tokio::task::spawn_blocking(look).await {
        Ok(found) => found.err().map(|error| (error.text(), None)),
        Err(error) => Some((chain(&error), None)),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    #[serde(default)]
    all: u8,
}

impl ListQuery {
    fn which(&self) -> Which {
        if self.all == 0 { Which::Live } else { Which::All }
    }
}

async fn jobs(State(api): Shared, query: Result<Query<ListQuery>, QueryRejection>) -> Answer<Vec<JobBody>> {
    let jobs = api.control.jobs(query?.which()).await?;
    Ok(Json(jobs.into_iter().map(JobBody::from).collect()))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WatchQuery {
    after: Option<u64>,
    #[serde(default)]
    wait_ms: u64,
}

async fn job(
    State(api): Shared,
    Path(name): Path<String>,
    query: Result<Query<WatchQuery>, QueryRejection>,
) -> Answer<JobBody> {
    let Query(query) = query?;
    let job = match query.after {
        Some(version) => {
            let wait = Duration::from_millis(query.wait_ms).min(WAIT_MAX);
            api.control.watch(&name, version, wait).await?
        }
        None => api.control.job(&name).await?,
    };
    Ok(Json(job.into()))
}

async fn stop(State(api): Shared, Path(name): Path<String>, JsonBody(body): JsonBody<StopBody>) -> Answer<JobBody> {
    let how = if body.now { Stop::Now } else { Stop::Save };
    Ok(Json(api.control.stop(&name, how).await?.into()))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LogQuery {
    #[serde(default)]
    offset: u64,
}

async fn logs(
    State(api): Shared,
    Path(name): Path<String>,
    query: Result<Query<LogQuery>, QueryRejection>,
) -> Answer<LogBody> {
    Ok(Json(api.control.logs(&name, query?.offset, LOG_BYTES_MAX).await?.into()))
}

async fn nodes(State(api): Shared, query: Result<Query<ListQuery>, QueryRejection>) -> Answer<Vec<NodeBody>> {
    let nodes = api.control.nodes(query?.which()).await?;
    Ok(Json(nodes.into_iter().map(NodeBody::from).collect()))
}

async fn preempt(
    State(api): Shared,
    Path(node): Path<String>,
    JsonBody(body): JsonBody<PreemptBody>,
) -> Answer<NodeBody> {
    let node: NodeId = node.parse()?;
    Ok(Json(api.control.preempt(node, body.notice_ms).await?.into()))
}

async fn explain(State(api): Shared, Path(subject): Path<String>) -> Answer<ExplanationBody> {
    Ok(Json(api.control.explain(&subject).await?.into()))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CostQuery {
    job: Option<String>,
}

async fn cost(State(api): Shared, query: Result<Query<CostQuery>, QueryRejection>) -> Answer<BillBody> {
    Ok(Json(api.control.bill(query?.job.as_deref()).await?.into()))
}

async fn status(State(api): Shared) -> Answer<StatusBody> {
    Ok(Json(api.control.status().await?.into()))
}

async fn shutdown(State(api): Shared, JsonBody(body): JsonBody<ShutdownBody>) -> Result<Response, ApiError> {
    api.shutdown.send(body).await.map_err(|_| ApiError::GoingDown)?;
    Ok((StatusCode::ACCEPTED, Json(serde_json::json!({ "ending": true }))).into_response())
}

/// A JSON body, with our own refusals. Its type must be given: a web page cannot send that without asking first.
struct JsonBody<T>(T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if kind.split(';').next().map(str::trim) != Some("application/json") {
            return Err(ApiError::NotJson);
        }
        let bytes = tokio::time::timeout(BODY_TIMEOUT, Bytes::from_request(request, state));
        let bytes = bytes.await.map_err(|_| ApiError::Timeout)?.map_err(|rejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                ApiError::TooLarge
            } else {
                ApiError::Body(rejection.body_text())
            }
        })?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| ApiError::Body(error.to_string()))
    }
}
