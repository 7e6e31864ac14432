//! What do messages between two processes cost?
//!
//! The bench starts itself a second time as the peer and measures, over loopback and in one run: casts of 64 bytes, calls
//! of 64 bytes against a plain quinn echo with the same transport settings, bulk payloads against plain quinn streams, and
//! calls while 64 MiB payloads are pushed. `benches/peers/ractor_cluster` measures the same over ractor_cluster.
//!
//! Bounds. A cast is an encoding (~20 ns), a copy, a share of a packet (6,400 bytes carry 80 casts, ~10 µs of QUIC both
//! ways), a mailbox (~300 ns): about 1 µs a side. A call is a plain echo plus one hop to the actor and one to the caller.
//! A payload is read once out of its packets (~0.1 s/GB) as a plain stream's is.
//!
//! Prints one JSON line a measure and a table. Medians of `ROUNDS` alternating rounds. `-- call_64b` measures only what has
//! that in its name.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on stops")]

mod neap;
mod peer;
mod plain;
mod report;
mod talk;

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};

use neap_runtime::{CertificateAuthority, Identity, Node, NodeConfig, Role, codec};
use neap_scheduler::model::NodeId;
use report::Report;

/// Alternating rounds; the median is reported.
const ROUNDS: usize = 3;

/// The role of the other process.
const PEER: Role = Role::Node(NodeId::new(1));

/// How large the peer's identity may be on its way through the pipe.
const IDENTITY_BYTES_MAX: usize = 64 * 1024;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    match std::env::args().any(|arg| arg == "--peer") {
        true => runtime.block_on(peer::run()),
        // On a worker thread, where real senders are.
        false => runtime.block_on(async { tokio::spawn(measure()).await.unwrap() }),
    }
}

async fn measure() {
    let dir = tempfile::tempdir().unwrap();
    let ca = CertificateAuthority::load_or_create(dir.path()).unwrap();
    let peer = PeerProcess::start(&ca.issue(PEER).unwrap());
    let identity = ca.issue(Role::Control).unwrap();
    let node = Node::start(&identity, ([127, 0, 0, 1], 0).into(), NodeConfig::default()).unwrap();
    let neap = neap::Client::connect(&node, peer.neap).await;
    let plain = plain::Client::connect(&identity, peer.plain).await;

    let mut report = Report::of(std::env::args().skip(1).find(|arg| !arg.starts_with('-')));
    for round in 0..=ROUNDS {
        // The first round warms up: page faults, congestion windows, branch predictors.
        report.keep(round > 0);
        report.add("neap", "cast_64b", neap.casts(1_000_000)).await;
        report.add("quinn", "call_64b", plain.echoes(20_000)).await;
        report.add("neap", "call_64b", neap.calls(20_000)).await;
        for (name, mib, in_flight, transfers) in
            [("bulk_1mib", 1, 8, 1024), ("bulk_16mib", 16, 2, 64), ("bulk_64mib", 64, 1, 16)]
        {
            report.add("quinn", name, plain.bulk(mib, in_flight, transfers, &neap)).await;
            report.add("neap", name, neap.bulk(mib, in_flight, transfers)).await;
        }
        report.add("neap", "call_64b_while_64mib", neap.calls_while_pushing(64, 1_000)).await;
    }
    report.print();
    node.shutdown().await;
    drop(peer);
}

/// The other process. Ends when its input does.
struct PeerProcess {
    child: Child,
    input: Option<ChildStdin>,
    neap: SocketAddr,
    plain: SocketAddr,
}

impl PeerProcess {
    fn start(identity: &Identity) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg("--peer")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let bytes = codec::encode::<_, IDENTITY_BYTES_MAX>(identity).unwrap();
        input.write_all(&(bytes.len() as u32).to_le_bytes()).unwrap();
        input.write_all(&bytes).unwrap();
        input.flush().unwrap();
        let mut addresses = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut addresses).unwrap();
        let (neap, plain) = addresses.trim().split_once(' ').unwrap();
        Self { child, input: Some(input), neap: neap.parse().unwrap(), plain: plain.parse().unwrap() }
    }
}

impl Drop for PeerProcess {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.child.wait();
    }
}
