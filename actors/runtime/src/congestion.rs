//! Congestion control on loopback: Cubic with a ceiling.
//!
//! Loopback has no queue but the receiver's socket buffer, and nothing is lost until that is full. Cubic alone therefore
//! keeps megabytes of bulk in it, and every control frame waits behind them. The path's delay is some tens of
//! microseconds, so a small window already fills it. Where the socket buffers are smaller than the ceiling, losses tell
//! Cubic so, as on any path.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics, CubicConfig};
use quinn_proto::RttEstimator;

/// How many bytes may be under way on loopback.
const WINDOW_BYTES_MAX: u64 = 512 * 1024;

/// Makes a [`Ceiling`] over Cubic for each connection.
#[derive(Debug, Default)]
pub(crate) struct LoopbackConfig {
    cubic: Arc<CubicConfig>,
}

impl ControllerFactory for LoopbackConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Ceiling { inner: self.cubic.clone().build(now, current_mtu) })
    }
}

/// A controller that stops growing at [`WINDOW_BYTES_MAX`].
struct Ceiling {
    inner: Box<dyn Controller>,
}

impl Controller for Ceiling {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.inner.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        // It is the ceiling that limits from here on, not the path: no reason to grow.
        let at_ceiling = self.inner.window() >= WINDOW_BYTES_MAX;
        self.inner.on_ack(now, sent, bytes, app_limited || at_ceiling, rtt);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest_packet_num_acked: Option<u64>) {
        self.inner.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, is_persistent_congestion: bool, lost_bytes: u64) {
        self.inner.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.inner.window().min(WINDOW_BYTES_MAX)
    }

    fn metrics(&self) -> ControllerMetrics {
        self.inner.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { inner: self.inner.clone_box() })
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
