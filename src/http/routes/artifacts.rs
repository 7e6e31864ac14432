//! Programs of one's own: taken in as a stream, hashed on the way, kept under their content. None is ever run here.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http_body_util::BodyExt;
use neap_scheduler::model::ContentHash;
use neap_storage::artifact::{ArtifactError, Stored};
use neap_storage::record::{ArtifactRecord, EntryRecord};
use tokio::sync::{Semaphore, mpsc};

use super::{Answer, JsonBody, Shared};
use crate::http::Api;
use crate::http::body::{ArtifactBody, ProgramBody};
use crate::http::error::ApiError;

/// Programs that are taken in at once; further ones wait. What is on its way does not count as kept yet.
const UPLOADS_MAX: usize = 2;

static UPLOADS: Semaphore = Semaphore::const_new(UPLOADS_MAX);

/// Pieces of a body that may wait for the disk.
const PIECES_MAX: usize = 16;

/// How long the next piece of a body may take.
const PIECE_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/artifacts/{hash}", get(look).put(upload).post(describe))
}

async fn look(State(api): Shared, Path(hash): Path<String>) -> Answer<ArtifactBody> {
    let hash = parse(&hash)?;
    let stored = find(&api, hash).await?.ok_or(ApiError::NoArtifact(hash))?;
    let program = description(&api, hash).await?.map(ProgramBody::from);
    Ok(Json(ArtifactBody { hash, bytes: stored.bytes, program }))
}

async fn upload(State(api): Shared, Path(hash): Path<String>, request: Request) -> Result<Response, ApiError> {
    let hash = parse(&hash)?;
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    let Some(bytes) = length.and_then(|length| length.parse().ok()) else {
        return Err(ApiError::Body("say how long the program is, with Content-Length".to_owned()));
    };
    let _turn = UPLOADS.acquire().await.map_err(|_| ApiError::GoingDown)?;
    let (status, stored) = match find(&api, hash).await? {
        Some(stored) => (StatusCode::OK, stored),
        None => (StatusCode::CREATED, take_in(&api, hash, bytes, request).await?),
    };
    Ok((status, Json(ArtifactBody { hash, bytes: stored.bytes, program: None })).into_response())
}

/// Writes the body down as it comes. Whatever ends it early leaves nothing.
async fn take_in(api: &Api, hash: ContentHash, bytes: u64, request: Request) -> Result<Stored, ApiError> {
    let in_use = api.control.artifacts_in_use().await?;
    let (pieces, mut to_write) = mpsc::channel::<Bytes>(PIECES_MAX);
    let store = api.control.artifacts().clone();
    let writer = tokio::task::spawn_blocking(move || {
        let mut incoming = store.begin(hash, bytes, &in_use)?;
        while let Some(piece) = to_write.blocking_recv() {
            incoming.write(&piece)?;
        }
        incoming.finish()
    });
    let fed = feed(request, pieces).await;
    // Also where the body broke off: whoever comes next finds nothing half.
    let stored = written(writer.await);
    fed?;
    let stored = stored?;
    tracing::info!(%hash, bytes = stored.bytes, "artifact taken in");
    Ok(stored)
}

/// Hands the pieces of a body on until it ends, or the writer does not take them any more, and says why itself.
async fn feed(request: Request, pieces: mpsc::Sender<Bytes>) -> Result<(), ApiError> {
    let mut body = request.into_body();
    loop {
        let frame = tokio::time::timeout(PIECE_TIMEOUT, body.frame()).await.map_err(|_| ApiError::Timeout)?;
        let Some(frame) = frame else { return Ok(()) };
        let frame = frame.map_err(|error| ApiError::Body(error.to_string()))?;
        if let Ok(piece) = frame.into_data()
            && pieces.send(piece).await.is_err()
        {
            return Ok(());
        }
    }
}

async fn describe(
    State(api): Shared,
    Path(hash): Path<String>,
    JsonBody(program): JsonBody<ProgramBody>,
) -> Answer<ArtifactBody> {
    let hash = parse(&hash)?;
    let stored = find(&api, hash).await?.ok_or(ApiError::NoArtifact(hash))?;
    let infos = program.infos().map_err(|fault| ApiError::Body(fault.to_string()))?;
    let entries = infos.iter().map(EntryRecord::from).collect();
    let (launch_version, mains) = (program.launch_version, program.mains.clone());
    let record = ArtifactRecord { hash, launch_version, entries, mains };
    let text = serde_json::to_vec(&record).map_err(|error| ApiError::Body(error.to_string()))?;
    let store = api.control.artifacts().clone();
    written(tokio::task::spawn_blocking(move || store.describe(hash, &text)).await)?;
    Ok(Json(ArtifactBody { hash, bytes: stored.bytes, program: Some(program) }))
}

/// The program with what is known to be in it; `None` where it has to be handed in (again).
pub(super) async fn known(api: &Api, hash: ContentHash) -> Result<Option<ArtifactRecord>, ApiError> {
    match find(api, hash).await? {
        Some(_) => description(api, hash).await,
        None => Ok(None),
    }
}

async fn find(api: &Api, hash: ContentHash) -> Result<Option<Stored>, ApiError> {
    let store = api.control.artifacts().clone();
    written(tokio::task::spawn_blocking(move || store.find(hash)).await)
}

/// A description that cannot be read counts as none: it is said again with the next job.
async fn description(api: &Api, hash: ContentHash) -> Result<Option<ArtifactRecord>, ApiError> {
    let store = api.control.artifacts().clone();
    let text = written(tokio::task::spawn_blocking(move || store.description(hash)).await)?;
    Ok(text.and_then(|text| serde_json::from_slice(&text).ok()))
}

fn parse(hash: &str) -> Result<ContentHash, ApiError> {
    hash.parse().map_err(ApiError::ContentHash)
}

fn written<T>(done: Result<Result<T, ArtifactError>, tokio::task::JoinError>) -> Result<T, ApiError> {
    Ok(done.map_err(|error| ApiError::Body(format!("the writer ended badly: {error}")))??)
}
