//! Who may make requests. Runs before every route, so a route that nobody thought about is closed, not open.
//!
//! Three checks, in this order: the request names this server (against DNS rebinding), it does not come from a web page
//! (browsers send `Origin`; our clients do not), it carries the token. Loopback is no reason to leave any of them out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, Method, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};

use super::error::ApiError;

/// The largest body of a request.
pub(super) const BODY_BYTES_MAX: usize = 1 << 20;

/// How long a request may take in all; above the longest wait that a client can ask for.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// How long handing in a program may take. Each piece of it has a limit of its own.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(600);

/// Where programs are handed in.
const UPLOADS: &str = "/api/v1/artifacts/";

/// What answers without a token: whether it is alive, whether it is ready, which version it is.
const OPEN_PATHS: [&str; 4] = ["/livez", "/readyz", "/healthz", "/version"];

/// Who may make requests to this server.
#[derive(Debug, Clone)]
pub(super) struct Access {
    /// Only a digest: comparing digests takes the same time whatever was sent.
    token: blake3::Hash,
    hosts: Arc<[String]>,
}

impl Access {
    /// For whoever has `token` and addresses the server by a name of this machine's loopback.
    pub(super) fn new(token: &str, addr: SocketAddr) -> Self {
        let port = addr.port();
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned(), "[::1]".to_owned()];
        let mut hosts: Vec<String> = names.iter().map(|name| format!("{name}:{port}")).collect();
        hosts.push(addr.to_string());
        Self { token: blake3::hash(token.as_bytes()), hosts: hosts.into() }
    }

    fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let named = |name: &str| self.hosts.iter().any(|known| known.eq_ignore_ascii_case(name));
        if !named(host) || uri.authority().is_some_and(|authority| !named(authority.as_str())) {
            return Err(ApiError::ForeignHost);
        }
        if headers.contains_key(header::ORIGIN) {
            return Err(ApiError::ForeignOrigin);
        }
        if OPEN_PATHS.contains(&uri.path()) || self.knows(headers) {
            return Ok(());
        }
        Err(ApiError::Unauthorised)
    }

    fn knows(&self, headers: &HeaderMap) -> bool {
        let sent = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token =
            sent.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        // `blake3::Hash` compares in constant time.
        token.is_some_and(|(_, token)| blake3::hash(token.trim().as_bytes()) == self.token)
    }
}

/// `routes` behind the checks and limits.
pub(super) fn guarded(routes: Router, access: Access) -> Router {
    routes.layer(DefaultBodyLimit::max(BODY_BYTES_MAX)).layer(middleware::from_fn_with_state(access, guard))
}

async fn guard(State(access): State<Access>, request: Request, next: Next) -> Response {
    if let Err(refusal) = access.check(request.uri(), request.headers()) {
        tracing::warn!(method = %request.method(), path = request.uri().path(), %refusal, "request refused");
        return refusal.into_response();
    }
    let uploads = request.method() == Method::PUT && request.uri().path().starts_with(UPLOADS);
    let limit = if uploads { UPLOAD_TIMEOUT } else { REQUEST_TIMEOUT };
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::Timeout.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn access() -> Access {
        Access::new("neap_secret", SocketAddr::from(([127, 0, 0, 1], 7747)))
    }

    fn check(
        host: &'static str,
        more: &[(header::HeaderName, &'static str)],
        path: &'static str,
    ) -> Result<(), ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static(host));
        for (name, value) in more {
            headers.insert(name.clone(), HeaderValue::from_static(value));
        }
        access().check(&Uri::from_static(path), &headers)
    }

    #[test]
    fn the_token_opens_and_nothing_else_does() {
        let with = |value| check("127.0.0.1:7747", &[(header::AUTHORIZATION, value)], "/api/v1/jobs");
        assert!(with("Bearer neap_secret").is_ok());
        assert!(with("bearer neap_secret").is_ok());
        for wrong in ["Bearer neap_secre", "Bearer neap_secrets", "Bearer ", "Basic neap_secret", "neap_secret", ""] {
            assert!(matches!(with(wrong), Err(ApiError::Unauthorised)), "{wrong}");
        }
        assert!(matches!(check("127.0.0.1:7747", &[], "/api/v1/jobs"), Err(ApiError::Unauthorised)));
        assert!(matches!(check("127.0.0.1:7747", &[], "/livez/"), Err(ApiError::Unauthorised)));
    }

    #[test]
    fn health_needs_no_token() {
        for path in OPEN_PATHS {
            assert!(check("localhost:7747", &[], path).is_ok(), "{path}");
        }
    }

    #[test]
    fn a_rebound_name_is_turned_away_even_with_the_token() {
        let token = [(header::AUTHORIZATION, "Bearer neap_secret")];
        for host in ["evil.example:7747", "127.0.0.1:80", "localhost", "", "127.0.0.1.evil.example:7747"] {
            assert!(matches!(check(host, &token, "/api/v1/jobs"), Err(ApiError::ForeignHost)), "{host}");
        }
        let absolute = check("localhost:7747", &token, "http://evil.example:7747/api/v1/jobs");
        assert!(matches!(absolute, Err(ApiError::ForeignHost)));
    }

    #[test]
    fn a_web_page_is_turned_away_even_with_the_token() {
        let sent = [(header::AUTHORIZATION, "Bearer neap_secret"), (header::ORIGIN, "http://localhost:7747")];
        assert!(matches!(check("localhost:7747", &sent, "/api/v1/jobs"), Err(ApiError::ForeignOrigin)));
    }
}
