//! One QUIC stream with the transport settings of neap-runtime (see `transport.rs` there for their reasons).

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{Connection, Endpoint, EndpointConfig, MtuDiscoveryConfig, RecvStream, SendStream, TokioRuntime, VarInt};
use ractor_cluster::{BoxRead, BoxWrite, ClusterBidiStream};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

const UDP_PAYLOAD: u16 = 6_400;
const NAME: &str = "peer.bench";

pub struct Stream {
    pub send: SendStream,
    pub receive: RecvStream,
}

impl ClusterBidiStream for Stream {
    fn split(self: Box<Self>) -> (BoxRead, BoxWrite) {
        (Box::new(self.receive), Box::new(self.send))
    }
}

/// A listening endpoint, and the certificate that its clients are to trust.
pub fn server() -> (Endpoint, Vec<u8>) {
    let certified = rcgen::generate_simple_self_signed(vec![NAME.to_owned()]).unwrap();
    let certificate = certified.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.into())
        .unwrap();
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
    config.transport_config(Arc::new(transport()));
    (endpoint(Some(config)), certificate.to_vec())
}

pub async fn connect(addr: SocketAddr, certificate: Vec<u8>) -> (Endpoint, Connection) {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(certificate)).unwrap();
    let tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    config.transport_config(Arc::new(transport()));
    let endpoint = endpoint(None);
    let connection = endpoint.connect_with(config, addr, NAME).unwrap().await.unwrap();
    (endpoint, connection)
}

fn endpoint(server: Option<quinn::ServerConfig>) -> Endpoint {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    let _ = socket.set_recv_buffer_size(4 << 20);
    let _ = socket.set_send_buffer_size(4 << 20);
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(UDP_PAYLOAD).unwrap();
    Endpoint::new(config, server, UdpSocket::from(socket), Arc::new(TokioRuntime)).unwrap()
}

fn transport() -> quinn::TransportConfig {
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(UDP_PAYLOAD);
    let mut config = quinn::TransportConfig::default();
    config
        .initial_mtu(UDP_PAYLOAD)
        .mtu_discovery_config(Some(discovery))
        .keep_alive_interval(Some(Duration::from_millis(500)))
        .stream_receive_window(VarInt::from_u32(16 << 20))
        .receive_window(VarInt::from_u32(64 << 20))
        .send_window(64 << 20);
    config
}

fn provider() -> Arc<CryptoProvider> {
    let suites = vec![cipher_suite::TLS13_AES_128_GCM_SHA256];
    Arc::new(CryptoProvider { cipher_suites: suites, ..aws_lc_rs::default_provider() })
}
