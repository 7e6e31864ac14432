//! Peers that should not get in, and peers that are in and do not behave.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests, too")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::{Answer, Ask, Chat, Pair, SOON, authority, listen, loopback, pair, pair_with, soon, start};
use neap_runtime::{ConnectError, Identity, MailboxLimits, NodeConfig, Role, codec, transport};
use neap_scheduler::model::NodeId;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream};

/// The bare protocol, as a peer of another build or with bad intentions speaks it.
struct Raw {
    connection: Connection,
    send: SendStream,
    receive: RecvStream,
    _endpoint: Endpoint,
}

const HELLO: u16 = 1;
const OPEN: u16 = 2;
const OPENED: u16 = 3;
const CAST: u16 = 6;
const CREDIT: u16 = 10;
const UNSUPPORTED: u16 = 15;
const BULK: u16 = 16;

fn frame(tag: u16, body: &[u8]) -> Vec<u8> {
    let mut frame = (body.len() as u32 + 2).to_le_bytes().to_vec();
    frame.extend_from_slice(&tag.to_le_bytes());
    frame.extend_from_slice(body);
    frame
}

fn body<T: serde::Serialize>(fields: T) -> Vec<u8> {
    codec::encode::<_, 4096>(&fields).unwrap()
}

impl Raw {
    async fn dial(identity: &Identity, addr: SocketAddr, role: Role) -> Self {
        let endpoint = transport::endpoint(loopback(), None).unwrap();
        let config = transport::client_config(identity, addr).unwrap();
        let connection = endpoint.connect_with(config, addr, &role.to_string()).unwrap().await.unwrap();
        let (send, receive) = connection.open_bi().await.unwrap();
        Self { connection, send, receive, _endpoint: endpoint }
    }

    /// A peer of `pair.node` that has said hello, as node n9.
    async fn greeted(pair: &Pair) -> Self {
        let identity = pair.ca.issue(Role::Node(NodeId::new(9))).unwrap();
        let mut raw = Self::dial(&identity, pair.node.local_addr(), pair.node.role()).await;
        raw.say(HELLO, &body((1u16, 1u16, "raw"))).await;
        assert_eq!(raw.hear().await.0, HELLO);
        raw
    }

    async fn say(&mut self, tag: u16, body: &[u8]) {
        self.send.write_all(&frame(tag, body)).await.unwrap();
    }

    async fn hear(&mut self) -> (u16, Vec<u8>) {
        let mut length = [0; 4];
        soon(self.receive.read_exact(&mut length)).await.unwrap();
        let mut frame = vec![0; u32::from_le_bytes(length) as usize];
        soon(self.receive.read_exact(&mut frame)).await.unwrap();
        (u16::from_le_bytes([frame[0], frame[1]]), frame[2..].to_vec())
    }

    /// Waits until the other side has closed, and gives its code and reason.
    async fn closed(&self) -> (u64, String) {
        match soon(self.connection.closed()).await {
            ConnectionError::ApplicationClosed(close) => {
                (close.error_code.into_inner(), String::from_utf8_lossy(&close.reason).into_owned())
            }
            other => panic!("{other:?}"),
        }
    }

    async fn open(&mut self, channel: u32, actor: &str) {
        self.say(OPEN, &body((channel, "chat", actor))).await;
        assert_eq!(self.hear().await.0, OPENED);
    }
}

async fn still_serves(pair: &Pair) {
    let listener = pair.peer.actor::<Chat>("listener");
    assert_eq!(listener.call(Ask::Double(21), SOON).await, Ok(Answer::Number(42)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_in_without_a_certificate() {
    let pair = pair().await;
    let identity = pair.ca.issue(Role::Control).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(identity.ca_certificate()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![transport::ALPN.to_vec()];
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let endpoint = transport::endpoint(loopback(), None).unwrap();
    let name = pair.node.role().to_string();
    // TLS 1.3 lets the client finish first; the refusal follows.
    let error = match endpoint.connect_with(config, pair.node.local_addr(), &name).unwrap().await {
        Ok(connection) => soon(connection.closed()).await,
        Err(error) => error,
    };
    assert!(matches!(error, ConnectionError::ConnectionClosed(_)), "{error:?}");
    assert!(error.to_string().contains("certificate"), "{error}");
    assert_eq!(pair.node.peers().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_another_authority_is_refused_by_both_sides() {
    let pair = pair().await;
    let dir = tempfile::tempdir().unwrap();
    let other = start(&authority(dir.path()), Role::Control);
    let error = other.connect(pair.node.local_addr(), pair.node.role()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Untrusted { .. }), "{error:?}");

    // One that trusts our authority, but shows a certificate of its own.
    let ours = pair.ca.issue(Role::Control).unwrap();
    let theirs = authority(dir.path()).issue(Role::Control).unwrap();
    let mut mixed = fields_of(&theirs);
    mixed.2 = ours.ca_certificate().to_vec();
    let mixed: Identity = codec::decode::<_, 65_536>(&codec::encode::<_, 65_536>(&mixed).unwrap()).unwrap();
    let mixed = neap_runtime::Node::start(&mixed, loopback(), NodeConfig::default()).unwrap();
    let error = mixed.connect(pair.node.local_addr(), pair.node.role()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Refused { .. }), "{error:?}");
    assert_eq!(pair.node.peers().len(), 1);
}

/// The fields of an identity, by way of its encoding.
fn fields_of(identity: &Identity) -> (Vec<Vec<u8>>, Vec<u8>, Vec<u8>) {
    codec::decode::<_, 65_536>(&codec::encode::<_, 65_536>(identity).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_with_another_role_is_not_the_one_that_was_dialled() {
    let pair = pair().await;
    let expected = Role::Node(NodeId::new(7));
    let error = pair.control.connect(pair.node.local_addr(), expected).await.unwrap_err();
    match error {
        ConnectError::WrongRole { expected: named, .. } => assert_eq!(named, expected),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_there_is_a_clear_error() {
    let pair = pair().await;
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = silent.local_addr().unwrap();
    let error = pair.control.connect(addr, Role::Control).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains(&addr.to_string()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_of_another_version_is_told_both_ranges() {
    let pair = pair().await;
    let identity = pair.ca.issue(Role::Node(NodeId::new(9))).unwrap();
    let mut raw = Raw::dial(&identity, pair.node.local_addr(), pair.node.role()).await;
    raw.say(HELLO, &body((2u16, 5u16, "9.9.9"))).await;
    let (code, reason) = raw.closed().await;
    assert_eq!(code, 1);
    assert!(reason.contains("1 to 1") && reason.contains("2 to 5") && reason.contains("9.9.9"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_starts_with_anything_but_hello_is_closed() {
    let pair = pair().await;
    let identity = pair.ca.issue(Role::Node(NodeId::new(9))).unwrap();
    let cases = [frame(CAST, &[0; 8]), frame(HELLO, &[255; 3]), vec![255; 32], vec![0; 32]];
    for bytes in cases {
        let mut raw = Raw::dial(&identity, pair.node.local_addr(), pair.node.role()).await;
        raw.send.write_all(&bytes).await.unwrap();
        assert_eq!(raw.closed().await, (2, "a malformed hello".to_owned()));
    }
    assert_eq!(pair.node.peers().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_frame_is_answered_and_the_connection_stays() {
    let pair = pair().await;
    let _listener = listen(&pair.node, "listener").await;
    let mut raw = Raw::greeted(&pair).await;
    for tag in [0, 999, u16::MAX] {
        raw.say(tag, b"whatever").await;
        assert_eq!(raw.hear().await, (UNSUPPORTED, body(tag)));
    }
    raw.open(0, "listener").await;
    let mut stream = raw.connection.open_uni().await.unwrap();
    stream.write_all(&frame(777, b"whatever")).await.unwrap();
    assert_eq!(raw.hear().await, (UNSUPPORTED, body(777u16)));
    assert!(raw.connection.close_reason().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_and_oversized_frames_close_that_connection_only() {
    let pair = pair().await;
    let _listener = listen(&pair.node, "listener").await;
    let mut forged = 3u32.to_le_bytes().to_vec();
    // A cast whose text is said to be 2^40 bytes long.
    forged.extend_from_slice(&[1, 253, 0, 0, 0, 0, 0, 1, 0, 0]);
    let cases: [(Vec<u8>, &str); 8] = [
        (u32::MAX.to_le_bytes().to_vec(), "at most 1048576"),
        ((1_048_577u32).to_le_bytes().to_vec(), "at most 1048576"),
        (vec![1, 0, 0, 0, 0], "too short for its tag"),
        (frame(CAST, &[1, 2]), "without its fields"),
        (frame(CREDIT, &[0; 9]), "without its fields"),
        (frame(OPEN, &[255; 40]), "malformed"),
        (frame(CAST, &[3, 0, 0, 0, 99, 99]), "none of chat"),
        (frame(CAST, &forged), "none of chat"),
    ];
    for (bytes, expected) in cases {
        let mut raw = Raw::greeted(&pair).await;
        raw.open(3, "listener").await;
        raw.send.write_all(&bytes).await.unwrap();
        let (code, reason) = raw.closed().await;
        assert_eq!(code, 2, "{reason}");
        assert!(reason.contains(expected), "{reason}");
        still_serves(&pair).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_hello_a_second_opening_or_the_end_of_the_stream_does_no_harm() {
    let pair = pair().await;
    let _listener = listen(&pair.node, "listener").await;
    let mut raw = Raw::greeted(&pair).await;
    raw.say(HELLO, &body((1u16, 1u16, "again"))).await;
    assert_eq!(raw.hear().await, (UNSUPPORTED, body(HELLO)));
    raw.open(0, "listener").await;
    raw.say(OPEN, &body((0u32, "chat", "listener"))).await;
    assert_eq!(raw.closed().await.0, 2);

    let mut raw = Raw::greeted(&pair).await;
    raw.send.finish().unwrap();
    assert_eq!(raw.closed().await, (2, "the control stream ended".to_owned()));
    still_serves(&pair).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_sends_more_than_it_was_granted_is_cut_off() {
    let pair = pair().await;
    let limits = MailboxLimits { messages: 20, bulk_bytes: 1000 };
    let (_, _heard, _gate) = common::listen_gated(&pair.node, "slow", limits).await;
    let _listener = listen(&pair.node, "listener").await;
    let cast = frame(CAST, &[&3u32.to_le_bytes()[..], &body((0u32, 7u64))].concat());

    let mut raw = Raw::greeted(&pair).await;
    raw.open(3, "slow").await;
    for _ in 0..21 {
        raw.send.write_all(&cast).await.unwrap();
    }
    let (code, reason) = raw.closed().await;
    assert_eq!((code, reason.as_str()), (3, "more was sent to `slow` than it gave credit for"));

    for length in [1001u64, 1 << 40, u64::MAX] {
        let mut raw = Raw::greeted(&pair).await;
        raw.open(3, "slow").await;
        let mut stream = raw.connection.open_uni().await.unwrap();
        let head = [&3u32.to_le_bytes()[..], &length.to_le_bytes(), &body("header")].concat();
        stream.write_all(&frame(BULK, &head)).await.unwrap();
        assert_eq!(raw.closed().await.0, 3, "{length}");
    }
    still_serves(&pair).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_that_is_longer_than_announced_is_cut_off_and_shorter_is_dropped() {
    let pair = pair().await;
    let (_, mut heard) = listen(&pair.node, "listener").await;
    let head = |length: u64| frame(BULK, &[&3u32.to_le_bytes()[..], &length.to_le_bytes(), &body("header")].concat());

    let mut raw = Raw::greeted(&pair).await;
    raw.open(3, "listener").await;
    let mut stream = raw.connection.open_uni().await.unwrap();
    stream.write_all(&[&head(8)[..], &[1; 4]].concat()).await.unwrap();
    stream.finish().unwrap();
    let mut stream = raw.connection.open_uni().await.unwrap();
    stream.write_all(&[&head(8)[..], &[2; 8]].concat()).await.unwrap();
    stream.finish().unwrap();
    match soon(heard.recv()).await.unwrap() {
        common::Heard::Bulk(_, header, payload) => {
            assert_eq!((header.as_str(), payload.as_bytes()), ("header", &[2u8; 8][..]))
        }
        other => panic!("{other:?}"),
    }
    assert!(raw.connection.close_reason().is_none());

    let mut stream = raw.connection.open_uni().await.unwrap();
    stream.write_all(&[&head(8)[..], &[3; 9]].concat()).await.unwrap();
    let (code, reason) = raw.closed().await;
    assert_eq!((code, reason.as_str()), (2, "malformed: a payload longer than its header says"));
    still_serves(&pair).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_bytes_after_the_hello_never_stop_the_node() {
    use rand::{Rng, SeedableRng};
    let pair = pair().await;
    let _listener = listen(&pair.node, "listener").await;
    let mut rng = rand::rngs::StdRng::seed_from_u64(7);
    for _ in 0..60 {
        let mut raw = Raw::greeted(&pair).await;
        let mut stream = Vec::new();
        for _ in 0..20 {
            let mut bytes = vec![0; (rng.next_u32() % 60) as usize];
            rng.fill_bytes(&mut bytes);
            stream.extend(frame((rng.next_u32() % 18) as u16, &bytes));
        }
        // It may be cut off in the middle of this.
        let _ = raw.send.write_all(&stream).await;
    }
    still_serves(&pair).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_beyond_the_limit_are_refused_until_one_leaves() {
    let pair = pair_with(NodeConfig { peers_max: 2, ..NodeConfig::default() }).await;
    let second = pair.control.connect(pair.node.local_addr(), pair.node.role()).await.unwrap();
    let error = pair.control.connect(pair.node.local_addr(), pair.node.role()).await.unwrap_err();
    assert!(matches!(&error, ConnectError::Refused { reason, .. } if reason.contains("no room")), "{error:?}");
    second.close("making room");
    let deadline = tokio::time::Instant::now() + SOON;
    while pair.node.peers().len() > 1 {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    pair.control.connect(pair.node.local_addr(), pair.node.role()).await.unwrap();
}
