//! How a new node gets its certificate, and who does not.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests, too")]

mod common;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use common::{authority, loopback, start};
use neap_runtime::{CertificateAuthority, JoinError, JoinServer, JoinToken, Node, NodeConfig, Role, join, transport};
use neap_scheduler::model::NodeId;

struct Joining {
    ca: Arc<CertificateAuthority>,
    server: JoinServer,
    token: JoinToken,
    _dir: tempfile::TempDir,
}

/// A join server that lets in one node, once.
fn joining() -> Joining {
    let dir = tempfile::tempdir().unwrap();
    let ca = Arc::new(authority(dir.path()));
    let token = JoinToken::generate(ca.fingerprint());
    let open = Arc::new(Mutex::new(BTreeSet::from([(NodeId::new(4), token.secret_hash())])));
    let server = JoinServer::start(loopback(), ca.clone(), move |node, secret| {
        let open = open.clone();
        Box::pin(async move {
            match open.lock().unwrap().remove(&(node, secret)) {
                true => Ok(()),
                false => Err("the token is unknown or used up".to_owned()),
            }
        })
    })
    .unwrap();
    Joining { ca, server, token, _dir: dir }
}

fn refused(error: &JoinError) -> bool {
    matches!(error, JoinError::Refused(reason) if reason.contains("used up"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_with_its_token_once() {
    let joining = joining();
    let addr = joining.server.local_addr();
    let identity = join(addr, &joining.token, NodeId::new(4)).await.unwrap();
    assert_eq!(identity.role().unwrap(), Role::Node(NodeId::new(4)));

    let control = start(&joining.ca, Role::Control);
    let node = Node::start(&identity, loopback(), NodeConfig::default()).unwrap();
    let peer = node.connect(control.local_addr(), Role::Control).await.unwrap();
    assert_eq!(peer.role(), Role::Control);

    let error = join(addr, &joining.token, NodeId::new(4)).await.unwrap_err();
    assert!(refused(&error) && !error.is_retryable(), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_secret_or_another_node_is_refused_and_uses_up_nothing() {
    let joining = joining();
    let addr = joining.server.local_addr();
    let guessed = JoinToken::generate(joining.ca.fingerprint());
    assert!(refused(&join(addr, &guessed, NodeId::new(4)).await.unwrap_err()));
    assert!(refused(&join(addr, &joining.token, NodeId::new(5)).await.unwrap_err()));
    join(addr, &joining.token, NodeId::new(4)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_another_cluster_learns_no_secret() {
    let ours = joining();
    let dir = tempfile::tempdir().unwrap();
    let asked = Arc::new(Mutex::new(0));
    let counter = asked.clone();
    let theirs = JoinServer::start(loopback(), Arc::new(authority(dir.path())), move |_, _| {
        *counter.lock().unwrap() += 1;
        Box::pin(async { Ok(()) })
    })
    .unwrap();
    let error = join(theirs.local_addr(), &ours.token, NodeId::new(4)).await.unwrap_err();
    assert!(matches!(error, JoinError::WrongCluster { .. }), "{error:?}");
    assert_eq!(*asked.lock().unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_the_cluster_cannot_pose_as_the_join_server() {
    let joining = joining();
    let node = start(&joining.ca, Role::Node(NodeId::new(1)));
    let error = join(node.local_addr(), &joining.token, NodeId::new(4)).await.unwrap_err();
    assert!(!matches!(error, JoinError::Refused(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_does_not_disturb_the_server() {
    let joining = joining();
    let addr = joining.server.local_addr();
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for length in [1, 20, 1200, 6000] {
        udp.send_to(&vec![0xc3; length], addr).unwrap();
    }
    // A peer of the actor network knocks at the wrong door.
    let identity = joining.ca.issue(Role::Control).unwrap();
    let endpoint = transport::endpoint(loopback(), None).unwrap();
    let config = transport::client_config(&identity, addr).unwrap();
    assert!(endpoint.connect_with(config, addr, "join.neap").unwrap().await.is_err());
    join(addr, &joining.token, NodeId::new(4)).await.unwrap();
}
