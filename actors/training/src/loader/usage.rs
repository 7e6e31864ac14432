//! What a worker's data cost it: bytes from its own node and from others, and how long training waited for a batch.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Counted from the start of the worker.
#[derive(Debug)]
pub struct Usage {
    started: Instant,
    waited_nanos: AtomicU64,
    local_bytes: AtomicU64,
    remote_bytes: AtomicU64,
    store_bytes: AtomicU64,
}

/// What was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// How long the data has been there.
    pub time: Duration,
    /// How long training waited for a batch.
    pub waited: Duration,
    /// Bytes of samples, as they are stored, from this node's memory or disk.
    pub local_bytes: u64,
    /// Bytes of samples that other workers sent.
    pub remote_bytes: u64,
    /// Bytes of files that were fetched from object stores.
    pub store_bytes: u64,
}

impl Default for Usage {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            waited_nanos: AtomicU64::new(0),
            local_bytes: AtomicU64::new(0),
            remote_bytes: AtomicU64::new(0),
            store_bytes: AtomicU64::new(0),
        }
    }
}

impl Usage {
    /// So many bytes of files came from object stores.
    pub(super) fn fetched(&self, bytes: u64) {
        self.store_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Training waited this long.
    pub(super) fn waited(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.waited_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// So many bytes came from this node.
    pub(super) fn local(&self, bytes: u64) {
        self.local_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many bytes came from another worker.
    pub(super) fn remote(&self, bytes: u64) {
        self.remote_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn totals(&self) -> Totals {
        Totals {
            time: self.started.elapsed(),
            waited: Duration::from_nanos(self.waited_nanos.load(Ordering::Relaxed)),
            local_bytes: self.local_bytes.load(Ordering::Relaxed),
            remote_bytes: self.remote_bytes.load(Ordering::Relaxed),
            store_bytes: self.store_bytes.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Usage {
    fn drop(&mut self) {
        let Totals { time, waited, local_bytes, remote_bytes, store_bytes } = self.totals();
        let (seconds, waited_seconds) = (time.as_secs_f64(), waited.as_secs_f64());
        tracing::info!(
            seconds,
            waited_seconds,
            local_bytes,
            remote_bytes,
            store_bytes,
            "what training waited for data, and what it read"
        );
    }
}
