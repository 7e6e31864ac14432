//! The command line's side of the HTTP API: one blocking request a method.
//!
//! It finds the control plane through the home folder and speaks the bodies of [`crate::http::body`]. It does not
//! print and does not retry: commands decide what a failure means.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use neap_scheduler::model::{ContentHash, Millis, NodeId};
use neap_scheduler::pricing::breakdown::Stretch;
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::Agent;
use ureq::http::{Response, StatusCode};

use crate::home::{Endpoint, Home, HomeError};
use crate::http::body::{
    ArtifactBody, BillBody, BillPartsBody, ErrorBody, ErrorCode, ExplanationBody, ForecastBody, JobBody, LogBody,
    NodeBody, OfferBody, PreemptBody, ProgramBody, ReadyBody, RestoreBody, ScopeBudgetBody, SetBudgetBody,
    ShutdownBody, StatusBody, StopBody, SubmitBody, VersionBody,
};

use super::process::is_alive;

/// How long a request may take, beyond what it asks the server to wait.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long handing in a program may take.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(600);

/// How long going on from a checkpoint may take, as long as the server gives any request: the checkpoint is read whole before.
const RESTORE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long to try to connect: the server is on this machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an unused connection is kept: less than the server keeps it.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// The largest answer that is read; lists of all jobs ever are the largest there are.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// A request that was not fulfilled.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No control plane runs with this home folder.
    #[error("no control plane is running with the home folder {home}")]
    NotUp {
        /// The folder.
        home: PathBuf,
    },
    /// It should run, but does not answer.
    #[error("the control plane at {addr} does not answer")]
    Unreachable {
        /// Where it should be.
        addr: SocketAddr,
        /// Why.
        #[source]
        source: Box<ureq::Error>,
    },
    /// The token cannot be read.
    #[error("no access to the control plane's token")]
    Token(#[source] HomeError),
    /// It said no.
    #[error("{}", body.error.message)]
    Api {
        /// The HTTP status.
        status: u16,
        /// What it said.
        body: Box<ErrorBody>,
    },
    /// It said something that makes no sense.
    #[error("the control plane's answer to {path} cannot be read; is it another version? (`neap version`)")]
    Unreadable {
        /// What was asked.
        path: String,
        /// Why.
        #[source]
        source: Box<ureq::Error>,
    },
}

impl ClientError {
    /// Whether the control plane is away: it may come back, and nothing is known about what it was asked.
    pub fn is_away(&self) -> bool {
        match self {
            Self::NotUp { .. } | Self::Unreachable { .. } => true,
            Self::Api { body, .. } => matches!(body.error.code, ErrorCode::Unavailable | ErrorCode::Timeout),
            // An answer that was cut short.
            Self::Unreadable { source, .. } => !matches!(**source, ureq::Error::Json(_)),
            Self::Token(_) => false,
        }
    }
}

/// Whether a list also has what has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed {
    /// Only what goes on.
    Live,
    /// Everything there ever was.
    All,
}

impl Listed {
    fn query(self) -> &'static str {
        match self {
            Self::Live => "",
            Self::All => "?all=1",
        }
    }
}

/// A way to one control plane.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
    endpoint: Endpoint,
    token: String,
    patience: Duration,
}

impl Client {
    /// Finds the control plane of `home`; no request is made yet.
    ///
    /// # Errors
    ///
    /// [`ClientError::NotUp`] where none is known, [`ClientError::Token`] where its token is not ours to read.
    pub fn find(home: &Home) -> Result<Self, ClientError> {
        let not_up = || ClientError::NotUp { home: home.path().to_owned() };
        let endpoint = home.endpoint().ok().flatten().ok_or_else(not_up)?;
        // A control plane that was killed leaves its address behind. Whoever listens there now gets no token from us.
        if !is_alive(endpoint.pid) {
            return Err(not_up());
        }
        let token = home.token().map_err(ClientError::Token)?;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // The API is on this machine: a proxy from the environment would only be in the way.
            .proxy(None)
            .max_redirects(0)
            .max_idle_age(IDLE_MAX)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .user_agent(concat!("neap/", env!("CARGO_PKG_VERSION")));
        Ok(Self { agent: config.build().new_agent(), endpoint, token, patience: REQUEST_TIMEOUT })
    }

    /// Waits no longer than `limit` for an answer, where that is less than usual.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.patience = self.patience.min(limit);
        self
    }

    /// Where the control plane said that it is.
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// Whether it takes requests.
    pub fn ready(&self) -> Result<ReadyBody, ClientError> {
        self.get("/readyz", Duration::ZERO)
    }

    /// Which version it is.
    pub fn version(&self) -> Result<VersionBody, ClientError> {
        self.get("/version", Duration::ZERO)
    }

    /// How it is.
    pub fn status(&self) -> Result<StatusBody, ClientError> {
        self.get("/api/v1/status", Duration::ZERO)
    }

    /// Hands in a job file.
    pub fn submit(&self, file: &SubmitBody) -> Result<JobBody, ClientError> {
        self.post("/api/v1/jobs", file)
    }

    /// A program that the control plane keeps, if it does.
    pub fn artifact(&self, hash: ContentHash) -> Result<Option<ArtifactBody>, ClientError> {
        match self.get(&artifact_path(hash), Duration::ZERO) {
            Ok(artifact) => Ok(Some(artifact)),
            Err(ClientError::Api { body, .. }) if body.error.code == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Hands in a program. `file` is read from its beginning.
    pub fn upload(&self, hash: ContentHash, file: &File) -> Result<ArtifactBody, ClientError> {
        let path = artifact_path(hash);
        let request = self.agent.put(self.url(&path)).header("Authorization", self.bearer());
        let request = request.config().timeout_global(Some(UPLOAD_TIMEOUT)).build();
        self.read(&path, request.send(file))
    }

    /// Says what is in a program.
    pub fn describe(&self, hash: ContentHash, program: &ProgramBody) -> Result<ArtifactBody, ClientError> {
        self.post(&artifact_path(hash), program)
    }

    /// The jobs.
    pub fn jobs(&self, which: Listed) -> Result<Vec<JobBody>, ClientError> {
        self.get(&format!("/api/v1/jobs{}", which.query()), Duration::ZERO)
    }

    /// One job.
    pub fn job(&self, job: &str) -> Result<JobBody, ClientError> {
        self.get(&format!("/api/v1/jobs/{}", segment(job)), Duration::ZERO)
    }

    /// One job, as soon as it is newer than `after` or `wait` is over.
    pub fn watch(&self, job: &str, after: u64, wait: Duration) -> Result<JobBody, ClientError> {
        self.get(&format!("/api/v1/jobs/{}?after={after}&wait_ms={}", segment(job), wait.as_millis()), wait)
    }

    /// Stops a job.
    pub fn stop(&self, job: &str, how: StopBody) -> Result<JobBody, ClientError> {
        self.post(&format!("/api/v1/jobs/{}/stop", segment(job)), &how)
    }

    /// Goes on with a job that has ended, from one of its checkpoints.
    pub fn restore(&self, job: &str, from: RestoreBody) -> Result<JobBody, ClientError> {
        // Whoever set a limit meant it.
        let patience = if self.patience == REQUEST_TIMEOUT { RESTORE_TIMEOUT } else { self.patience };
        self.post_within(&format!("/api/v1/jobs/{}/restore", segment(job)), &from, patience)
    }

    /// A piece of a job's log.
    pub fn logs(&self, job: &str, offset: u64) -> Result<LogBody, ClientError> {
        self.get(&format!("/api/v1/jobs/{}/logs?offset={offset}", segment(job)), Duration::ZERO)
    }

    /// The nodes.
    pub fn nodes(&self, which: Listed) -> Result<Vec<NodeBody>, ClientError> {
        self.get(&format!("/api/v1/nodes{}", which.query()), Duration::ZERO)
    }

    /// Has a node taken back.
    pub fn preempt(&self, node: NodeId, notice: Millis) -> Result<NodeBody, ClientError> {
        self.post(&format!("/api/v1/nodes/{node}/preempt"), &PreemptBody { notice_ms: notice })
    }

    /// Why a job or node is as it is.
    pub fn explain(&self, subject: &str) -> Result<ExplanationBody, ClientError> {
        self.get(&format!("/api/v1/explain/{}", segment(subject)), Duration::ZERO)
    }

    /// The bill.
    pub fn cost(&self, job: Option<&str>) -> Result<BillBody, ClientError> {
        let query = job.map(|job| format!("?job={}", segment(job))).unwrap_or_default();
        self.get(&format!("/api/v1/cost{query}"), Duration::ZERO)
    }

    /// The bill of a stretch of time in parts.
    pub fn cost_parts(&self, by: &str, stretch: Stretch, step: Option<&str>) -> Result<BillPartsBody, ClientError> {
        let Stretch { from, until } = stretch;
        let step = step.map(|step| format!("&step={step}")).unwrap_or_default();
        let query = format!("by={by}&from_ms={}&until_ms={}{step}", from.get(), until.get());
        self.get(&format!("/api/v1/cost/parts?{query}"), Duration::ZERO)
    }

    /// What will be spent.
    pub fn forecast(&self, horizon: Option<Millis>) -> Result<ForecastBody, ClientError> {
        let query = horizon.map(|horizon| format!("?horizon_ms={}", horizon.get())).unwrap_or_default();
        self.get(&format!("/api/v1/forecast{query}"), Duration::ZERO)
    }

    /// What could be rented.
    pub fn offers(&self) -> Result<Vec<OfferBody>, ClientError> {
        self.get("/api/v1/offers", Duration::ZERO)
    }

    /// The budgets.
    pub fn budgets(&self) -> Result<Vec<ScopeBudgetBody>, ClientError> {
        self.get("/api/v1/budgets", Duration::ZERO)
    }

    /// One budget.
    pub fn budget(&self, scope: &str) -> Result<ScopeBudgetBody, ClientError> {
        self.get(&format!("/api/v1/budgets/{}", segment(scope)), Duration::ZERO)
    }

    /// Changes a budget.
    pub fn set_budget(&self, scope: &str, change: &SetBudgetBody) -> Result<ScopeBudgetBody, ClientError> {
        self.post(&format!("/api/v1/budgets/{}", segment(scope)), change)
    }

    /// Has the control plane end.
    pub fn shutdown(&self, how: ShutdownBody) -> Result<(), ClientError> {
        self.post::<_, serde_json::Value>("/api/v1/shutdown", &how).map(drop)
    }

    fn get<T: DeserializeOwned>(&self, path: &str, wait: Duration) -> Result<T, ClientError> {
        let request = self.agent.get(self.url(path)).header("Authorization", self.bearer());
        let request = request.config().timeout_global(Some(self.patience + wait)).build();
        self.read(path, request.call())
    }

    fn post<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> Result<T, ClientError> {
        self.post_within(path, body, self.patience)
    }

    fn post_within<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
        limit: Duration,
    ) -> Result<T, ClientError> {
        let request = self.agent.post(self.url(path)).header("Authorization", self.bearer());
        let request = request.config().timeout_global(Some(limit)).build();
        self.read(path, request.send_json(body))
    }

    fn read<T: DeserializeOwned>(
        &self,
        path: &str,
        answer: Result<Response<ureq::Body>, ureq::Error>,
    ) -> Result<T, ClientError> {
        let unreachable = |source| ClientError::Unreachable { addr: self.endpoint.http, source: Box::new(source) };
        let unreadable = |source| ClientError::Unreadable { path: path.to_owned(), source: Box::new(source) };
        let mut answer = answer.map_err(unreachable)?;
        let status = answer.status();
        tracing::debug!(path, %status, "answered");
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX);
        if status.is_success() || (status == StatusCode::SERVICE_UNAVAILABLE && path == "/readyz") {
            return body.read_json().map_err(unreadable);
        }
        let body = body.read_json().map_err(unreadable)?;
        Err(ClientError::Api { status: status.as_u16(), body: Box::new(body) })
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.endpoint.http)
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }
}

fn artifact_path(hash: ContentHash) -> String {
    format!("/api/v1/artifacts/{}", segment(&hash.to_string()))
}

/// `text` as one segment of a path or one value of a query.
fn segment(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_segment() {
        assert_eq!(segment("digits-2"), "digits-2");
        assert_eq!(segment("../nodes?all=1"), "%2E%2E%2Fnodes%3Fall%3D1");
    }
}
