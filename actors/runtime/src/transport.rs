//! How this network uses QUIC: TLS 1.3 with certificates on both sides, packet sizes, windows, timers, sockets.
//!
//! The figures come from measurements on loopback (two cores): packets of 6,400 bytes give 2.5 times the throughput of
//! 1,452 because GSO sends ten segments a call and a call carries at most 64 KiB; larger ones fail. Four MiB of socket
//! buffer take nearly all loss out of loopback bursts. AES-128-GCM costs 10 to 20 % less than AES-256-GCM.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{Connection, Endpoint, EndpointConfig, MtuDiscoveryConfig, TokioRuntime, TransportConfig, VarInt};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;

use crate::congestion::LoopbackConfig;
use crate::identity::{Identity, IdentityError};

/// The application protocol both sides must name.
pub const ALPN: &[u8] = b"neap/1";

/// A sign of life is sent when nothing else was for this long.
pub const KEEP_ALIVE: Duration = Duration::from_millis(500);

/// A connection is lost when nothing was heard for this long. The first sign of life after the last packet heard starts
/// the time again, so silence is noticed after at most [`KEEP_ALIVE`] + [`IDLE_TIMEOUT`] = 2.9 s, within the 3 s that the
/// fault model allows.
pub const IDLE_TIMEOUT: Duration = Duration::from_millis(2_400);

/// The largest UDP payload sent and accepted.
const UDP_PAYLOAD_MAX: u16 = 6_400;

/// Where packet sizes start on a path that nothing is known about: what every IPv6 path carries.
const UDP_PAYLOAD_SAFE: u16 = 1_200;

/// Socket buffers, in each direction. The kernel may grant less.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// What a peer may send on one stream before it is read.
const STREAM_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// What a peer may send on all streams before it is read. Bulk payloads are read at once into buffers that were granted
/// beforehand, so this is never held up by an actor.
const CONNECTION_WINDOW_BYTES: u32 = 64 * 1024 * 1024;

/// Bulk transfers that a peer may have under way at a time; more wait at the sender.
const BULK_STREAMS_MAX: u32 = 32;

/// The control stream goes first wherever both have something to send.
pub(crate) const CONTROL_PRIORITY: i32 = 100;

/// Why a connection was closed, as the peer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloseCode {
    /// On purpose.
    Goodbye = 0,
    /// No common version of the protocol.
    Version = 1,
    /// A frame that cannot be read.
    Malformed = 2,
    /// More was sent than was granted.
    CreditExceeded = 3,
    /// No room for another peer.
    PeersMax = 4,
    /// A certificate that names no role.
    NoRole = 5,
    /// The peer does not read.
    Backlog = 6,
    /// A limit on what one peer may have open.
    Limit = 7,
    /// The handshake was not finished in time.
    Handshake = 8,
    /// This side failed.
    Internal = 9,
}

pub(crate) fn close(connection: &Connection, code: CloseCode, reason: &str) {
    connection.close(VarInt::from_u32(code as u32), reason.as_bytes());
}

/// Opens the endpoint of a process: a socket with large buffers, which listens with `server` where that is given.
///
/// # Errors
///
/// What the system says about the address.
pub fn endpoint(bind: SocketAddr, server: Option<quinn::ServerConfig>) -> io::Result<Endpoint> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(bind), socket2::Type::DGRAM, None)?;
    // Less than asked for is no fault: it costs speed only.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    socket.bind(&bind.into())?;
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(UDP_PAYLOAD_MAX).map_err(io::Error::other)?;
    Endpoint::new(config, server, UdpSocket::from(socket), Arc::new(TokioRuntime))
}

/// Settings for a connection with `remote`: large packets at once on loopback, found out step by step elsewhere.
pub fn transport_config(remote: SocketAddr) -> TransportConfig {
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(UDP_PAYLOAD_MAX);
    let mut config = TransportConfig::default();
    config
        .initial_mtu(if remote.ip().is_loopback() { UDP_PAYLOAD_MAX } else { UDP_PAYLOAD_SAFE })
        .mtu_discovery_config(Some(discovery))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IDLE_TIMEOUT.try_into().expect("milliseconds that fit into 62 bits")))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(u64::from(CONNECTION_WINDOW_BYTES))
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(BULK_STREAMS_MAX))
        .datagram_receive_buffer_size(None);
    if remote.ip().is_loopback() {
        config.congestion_controller_factory(Arc::new(LoopbackConfig::default()));
    }
    config
}

/// The accepting side: only who has a certificate of our authority gets in.
///
/// # Errors
///
/// [`IdentityError::Tls`] where the identity is of no use.
pub fn server_config(identity: &Identity, remote: SocketAddr) -> Result<quinn::ServerConfig, IdentityError> {
    let provider = provider();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(identity.ca_certificate())?, provider.clone())
        .build()
        .map_err(|error| IdentityError::Malformed(error.to_string()))?;
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(IdentityError::Tls)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain(), identity.private_key()?)
        .map_err(IdentityError::Tls)?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    // Every connection proves its certificate anew.
    tls.send_tls13_tickets = 0;
    Ok(quic_server(tls, transport_config(remote)))
}

/// The dialling side: shows its own certificate, and asks for one of our authority for the name that is dialled.
///
/// # Errors
///
/// [`IdentityError::Tls`] where the identity is of no use.
pub fn client_config(identity: &Identity, remote: SocketAddr) -> Result<quinn::ClientConfig, IdentityError> {
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(IdentityError::Tls)?
        .with_root_certificates(roots(identity.ca_certificate())?)
        .with_client_auth_cert(identity.chain(), identity.private_key()?)
        .map_err(IdentityError::Tls)?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.resumption = rustls::client::Resumption::disabled();
    Ok(quic_client(tls, transport_config(remote)))
}

pub(crate) fn quic_server(tls: rustls::ServerConfig, transport: TransportConfig) -> quinn::ServerConfig {
    let crypto = QuicServerConfig::try_from(tls).expect("our provider has the suite that QUIC starts with");
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    config
}

pub(crate) fn quic_client(tls: rustls::ClientConfig, transport: TransportConfig) -> quinn::ClientConfig {
    let crypto = QuicClientConfig::try_from(tls).expect("our provider has the suite that QUIC starts with");
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    config
}

/// TLS 1.3 suites only, the cheapest first.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![kx_group::X25519, kx_group::SECP256R1],
        ..aws_lc_rs::default_provider()
    })
}

fn roots(ca: CertificateDer<'static>) -> Result<Arc<RootCertStore>, IdentityError> {
    let mut roots = RootCertStore::empty();
    roots.add(ca).map_err(IdentityError::Tls)?;
    Ok(Arc::new(roots))
}
