//! The HTTP API: JSON under `/api/v1`, on loopback, for whoever has the token.
//!
//! ```text
//! serve (connections: how many, how long) → guard (who may) → routes (what) → neap_control (does it)
//!                                            error ← every refusal      convert → body → JSON
//! ```
//!
//! Everything is refused that is not allowed: without a token only the health routes and `/version` answer, and a
//! request that a web page could have made (another `Host`, any `Origin`) is turned away before that.

pub mod body;

mod serve;

mod guard;

mod routes;

mod error;

mod convert;

use std::sync::Arc;

use neap_control::ControlHandle;
use neap_scheduler::spec::EntryInfo;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use body::ShutdownBody;
use guard::Access;

pub use serve::Server;

/// What the API needs of the program around it.
pub struct Api {
    /// The control plane.
    pub control: ControlHandle,
    /// The train entries job files may name.
    pub entries: Vec<EntryInfo>,
    /// The main functions job files may name.
    pub mains: Vec<String>,
    /// The secret that lets clients in.
    pub token: String,
    /// Where requests for an end of the control plane go.
    pub shutdown: mpsc::Sender<ShutdownBody>,
}

/// Serves the API on `listener` until the server is stopped.
///
/// # Errors
///
/// If the listener has no address.
pub fn serve(api: Api, listener: TcpListener) -> std::io::Result<Server> {
    let access = Access::new(&api.token, listener.local_addr()?);
    let routes = routes::routes(Arc::new(api));
    Ok(Server::start(listener, guard::guarded(routes, access)))
}
