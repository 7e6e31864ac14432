//! Accepts connections and bounds what they cost: how many there are, and how long a request's head may take.
//!
//! `axum::serve` has neither limit, so the loop is ours; HTTP itself is hyper's.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};

/// Connections at a time. Further ones wait in the kernel's queue until one ends.
const CONNECTIONS_MAX: usize = 256;

/// How long the head of a request may take; also how long a connection may be idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest head of a request. hyper takes no less than 8 KiB.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// How long requests under way have when the server stops.
const STOP_TIMEOUT: Duration = Duration::from_millis(500);

/// Pause when the system gives out no connection, as when there are too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A running server.
#[derive(Debug)]
pub struct Server {
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Server {
    pub(super) fn start(listener: TcpListener, routes: Router) -> Self {
        let (stop, stopped) = watch::channel(false);
        Self { stop, accepting: tokio::spawn(accept(listener, routes, stopped)) }
    }

    /// Takes no more requests and lets those under way finish, for a moment.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.accepting.await {
            tracing::error!(%error, "HTTP server ended badly");
        }
    }
}

async fn accept(listener: TcpListener, routes: Router, mut stopped: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            next = next => next,
            _ = stopped.changed() => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(connection(stream, routes.clone(), stopped.clone(), place));
            }
            Err(error) => {
                tracing::warn!(%error, "no connection accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let rest = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_TIMEOUT, rest).await.is_err() {
        tracing::debug!("requests cut short");
    }
}

async fn connection(
    stream: TcpStream,
    routes: Router,
    mut stopped: watch::Receiver<bool>,
    place: OwnedSemaphorePermit,
) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES_MAX);
    let mut connection =
        std::pin::pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes)));
    let ended = tokio::select! {
        ended = &mut connection => ended,
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended badly");
    }
    drop(place);
}
