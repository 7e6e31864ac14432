//! Every way a request can be refused, and the HTTP status of each. This is the only place that knows the numbers.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use neap_control::ControlError;
use neap_scheduler::model::{ContentHash, ContentHashParseError, IdParseError};
use neap_scheduler::spec::{Code, Fault};
use neap_storage::ArtifactError;

use super::body::{ErrorBody, ErrorCode, ErrorDetail, FaultBody};
use super::guard::BODY_BYTES_MAX;
use crate::chain::chain;

/// A request that is not fulfilled.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    /// No token, or a wrong one.
    #[error("no token, or a wrong one")]
    Unauthorised,
    /// The request names another server.
    #[error("the request is addressed to another host")]
    ForeignHost,
    /// The request comes from a web page.
    #[error("requests from web pages are not taken")]
    ForeignOrigin,
    /// No such path.
    #[error("there is nothing at this path")]
    NoRoute,
    /// The path takes other methods.
    #[error("this path does not take this method")]
    Method,
    /// The body cannot be read.
    #[error("the body is not what this path takes: {0}")]
    Body(String),
    /// The query cannot be read.
    #[error("the query is not what this path takes")]
    Query(#[from] QueryRejection),
    /// The body is no JSON.
    #[error("the body's type must be application/json")]
    NotJson,
    /// The body is too large.
    #[error("the body is larger than {BODY_BYTES_MAX} bytes")]
    TooLarge,
    /// Not the id of a node.
    #[error(transparent)]
    NodeId(#[from] IdParseError),
    /// Not the content of a program.
    #[error(transparent)]
    ContentHash(ContentHashParseError),
    /// A program that is not there.
    #[error("the control plane does not have {0}")]
    NoArtifact(ContentHash),
    /// A program that was not taken.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The job file has faults.
    #[error("the job file has faults")]
    InvalidJob(Vec<Fault>),
    /// It took too long.
    #[error("the request took too long")]
    Timeout,
    /// The control plane is not ready.
    #[error("the control plane is going down")]
    GoingDown,
    /// The control plane refused.
    #[error(transparent)]
    Control(#[from] ControlError),
}

impl ApiError {
    fn status_and_code(&self) -> (StatusCode, ErrorCode) {
        match self {
            Self::Unauthorised => (StatusCode::UNAUTHORIZED, ErrorCode::Unauthorised),
            Self::ForeignHost | Self::ForeignOrigin => (StatusCode::FORBIDDEN, ErrorCode::Forbidden),
            Self::NoRoute => (StatusCode::NOT_FOUND, ErrorCode::NotFound),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, ErrorCode::MethodNotAllowed),
            Self::Body(_) | Self::Query(_) | Self::NodeId(_) | Self::ContentHash(_) => {
                (StatusCode::BAD_REQUEST, ErrorCode::BadRequest)
            }
            Self::NoArtifact(_) => (StatusCode::NOT_FOUND, ErrorCode::NotFound),
            Self::Artifact(error) => match error {
                ArtifactError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::TooLarge),
                ArtifactError::Mismatch { .. } => (StatusCode::UNPROCESSABLE_ENTITY, ErrorCode::BadRequest),
                ArtifactError::Full { .. } | ArtifactError::InUse { .. } => {
                    (StatusCode::INSUFFICIENT_STORAGE, ErrorCode::Unavailable)
                }
                ArtifactError::Folder { .. } => (StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::Unexpected),
            },
            Self::NotJson => (StatusCode::UNSUPPORTED_MEDIA_TYPE, ErrorCode::NotJson),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::TooLarge),
            Self::InvalidJob(_) => (StatusCode::UNPROCESSABLE_ENTITY, ErrorCode::InvalidJob),
            Self::Timeout => (StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Timeout),
            Self::GoingDown => (StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable),
            Self::Control(error) => match error {
                ControlError::NotFound { .. } => (StatusCode::NOT_FOUND, ErrorCode::NotFound),
                ControlError::Conflict { .. } => (StatusCode::CONFLICT, ErrorCode::Conflict),
                ControlError::Refused { .. } => (StatusCode::UNPROCESSABLE_ENTITY, ErrorCode::Refused),
                ControlError::Infeasible { .. } => (StatusCode::UNPROCESSABLE_ENTITY, ErrorCode::Infeasible),
                ControlError::Journal(_)
                | ControlError::Ledger(_)
                | ControlError::Log { .. }
                | ControlError::Stopped => (StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable),
            },
        }
    }

    fn help(&self) -> &'static str {
        match self {
            Self::Unauthorised => "send `Authorization: Bearer …` with the text of the file `token` in the home folder",
            Self::ForeignHost => "address the server as 127.0.0.1 or localhost, with its port",
            Self::ForeignOrigin => "use the command line, or a program that sends no Origin header",
            Self::NodeId(_) => "`neap node list` shows the nodes",
            Self::InvalidJob(_) => "`neap validate FILE` shows each fault at its place",
            Self::Control(ControlError::NotFound { .. }) => "`neap ps -a` and `neap node list -a` show what there is",
            Self::Control(ControlError::Refused { code: Code::OverForecast, .. }) => {
                "raise max_cost, ask for something cheaper (`neap plan` lists what is), or say --force"
            }
            Self::Control(ControlError::Refused { .. }) => {
                "`neap budget list` shows what is left where, `neap budget set` changes it"
            }
            Self::Control(ControlError::Infeasible { .. }) => {
                "ask for less per worker, or offer larger nodes in config.yaml in the home folder"
            }
            Self::Control(ControlError::Journal(_)) => {
                "nothing was done; see that the home folder's disk has room, then try again"
            }
            Self::Control(ControlError::Stopped) | Self::GoingDown => "`neap up` starts it again",
            _ => "",
        }
    }

    /// The message with all its causes.
    fn chain(&self) -> String {
        chain(self)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, code) = self.status_and_code();
        if status.is_server_error() {
            tracing::error!(%status, error = self.chain(), "request failed");
        }
        let error = ErrorDetail { code, message: self.chain(), help: self.help().to_owned() };
        let faults = match self {
            Self::InvalidJob(faults) => faults.iter().map(FaultBody::from).collect(),
            _ => Vec::new(),
        };
        let mut response = (status, Json(ErrorBody { error, faults })).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
