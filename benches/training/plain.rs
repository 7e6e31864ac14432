//! Plain quinn between two processes, with our transport settings: the yardstick for what moves bytes.
//!
//! A payload has a unidirectional stream of its own and is read unordered into a buffer that is used again; the receiver
//! answers with a byte for each.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use neap_runtime::{CertificateAuthority, Identity, Role, codec, transport};
use neap_scheduler::model::NodeId;
use quinn::{Connection, RecvStream};
use tokio::sync::Semaphore;

use crate::models::PushPull;
use crate::results::Measurement;
use crate::usage;

/// Tells this binary to be the receiver.
pub(crate) const RECEIVER_ARGUMENT: &str = "plain-receiver";

const RECEIVER: Role = Role::Node(NodeId::new(1));

/// Payloads on their way at the same time, as parameters to two workers are.
const IN_FLIGHT: usize = 2;

/// How large the receiver's identity may be on its way through the pipe.
const IDENTITY_BYTES_MAX: usize = 64 * 1024;

fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

/// Sends so many payloads of the size of [`PushPull`]'s parameters to another process.
pub(crate) fn run(payloads: usize) -> Measurement {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let authority = CertificateAuthority::load_or_create(folder.path()).expect("an authority");
    let mut receiver = Command::new(std::env::current_exe().expect("this binary"))
        .arg(RECEIVER_ARGUMENT)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a receiving process");
    let identity = codec::encode::<_, IDENTITY_BYTES_MAX>(&authority.issue(RECEIVER).expect("an identity"));
    let identity = identity.expect("a small identity");
    let mut input = receiver.stdin.take().expect("piped");
    input.write_all(&(identity.len() as u32).to_le_bytes()).expect("the receiver reads");
    input.write_all(&identity).expect("the receiver reads");
    let mut address = String::new();
    BufReader::new(receiver.stdout.take().expect("piped")).read_line(&mut address).expect("an address");
    let address = address.trim().parse().expect("an address");
    let sender = authority.issue(Role::Control).expect("an identity");
    let pids = [std::process::id(), receiver.id()];
    let measurement = runtime().block_on(async move { tokio::spawn(send(sender, address, payloads, pids)).await });
    drop(input);
    receiver.wait().expect("the receiver ends with its input");
    measurement.expect("no panic")
}

async fn send(identity: Identity, to: SocketAddr, payloads: usize, pids: [u32; 2]) -> Measurement {
    let endpoint = transport::endpoint(loopback(), None).expect("an endpoint");
    let config = transport::client_config(&identity, to).expect("a configuration");
    let connecting = endpoint.connect_with(config, to, &RECEIVER.to_string()).expect("an address");
    let connection = connecting.await.expect("a connection");
    let payload = Bytes::from(vec![5; PushPull::BYTES]);
    let cpu = || pids.iter().map(|&pid| usage::cpu_seconds(pid)).sum::<f64>();
    transfer(&connection, &payload, IN_FLIGHT).await;
    let (started, before) = (Instant::now(), cpu());
    transfer(&connection, &payload, payloads).await;
    Measurement {
        wall_seconds: started.elapsed().as_secs_f64(),
        cpu_seconds: cpu() - before,
        units: (payloads * payload.len()) as f64,
        steps: payloads as f64,
        peer: None,
    }
}

async fn transfer(connection: &Connection, payload: &Bytes, count: usize) {
    let room = Arc::new(Semaphore::new(IN_FLIGHT));
    for _ in 0..count {
        let place = room.clone().acquire_owned().await.expect("never closed");
        let (connection, payload) = (connection.clone(), payload.clone());
        tokio::spawn(async move {
            let (mut stream, mut answer) = connection.open_bi().await.expect("a stream");
            stream.write_all_chunks(&mut [payload]).await.expect("the receiver reads");
            stream.finish().expect("not yet closed");
            answer.read_exact(&mut [0]).await.expect("the receiver answers");
            drop(place);
        });
    }
    // All of them are back once all places are free.
    let _all = room.acquire_many(IN_FLIGHT as u32).await.expect("never closed");
}

/// What this binary does as the receiver, until its input ends.
pub(crate) fn run_receiver_process() {
    let mut input = std::io::stdin();
    let mut length = [0; 4];
    input.read_exact(&mut length).expect("a length");
    let mut identity = vec![0; u32::from_le_bytes(length) as usize];
    input.read_exact(&mut identity).expect("an identity");
    let identity: Identity = codec::decode::<_, IDENTITY_BYTES_MAX>(&identity).expect("an identity");
    runtime().block_on(async move {
        let config = transport::server_config(&identity, loopback()).expect("a configuration");
        let endpoint = transport::endpoint(loopback(), Some(config)).expect("an endpoint");
        println!("{}", endpoint.local_addr().expect("an address"));
        tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                tokio::spawn(receive_all(incoming.await.expect("a connection")));
            }
        });
        tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0])).await.expect("no panic").expect("an end");
    });
}

async fn receive_all(connection: Connection) {
    let buffers: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    while let Ok((mut answer, stream)) = connection.accept_bi().await {
        let buffers = buffers.clone();
        tokio::spawn(async move {
            let buffer = buffers.lock().expect("no panic").pop().unwrap_or_else(|| vec![0; PushPull::BYTES]);
            let buffer = receive(stream, buffer).await;
            buffers.lock().expect("no panic").push(buffer);
            answer.write_all(&[1]).await.expect("the sender waits");
        });
    }
}

async fn receive(mut stream: RecvStream, mut buffer: Vec<u8>) -> Vec<u8> {
    while let Some(chunk) = stream.read_chunk(usize::MAX, false).await.expect("a whole payload") {
        let at = chunk.offset as usize;
        buffer[at..at + chunk.bytes.len()].copy_from_slice(&chunk.bytes);
    }
    buffer
}
