//! Plain quinn with the same sockets, certificates and transport settings: the yardstick.
//!
//! One bidirectional stream echoes blocks of 64 bytes. A payload has a unidirectional stream of its own: number and
//! length, then the bytes, read unordered into a buffer that is used again; the server acknowledges the number.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use neap_runtime::{Identity, transport};
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use tokio::sync::oneshot;

use crate::report::{Latencies, Measure, Throughput};
use crate::talk::cpu_us;
use crate::{PEER, neap};

const BLOCK: usize = 64;

/// Buffers the server keeps between payloads.
type Buffers = Arc<Mutex<Vec<Vec<u8>>>>;

pub(crate) fn serve(identity: &Identity, bind: SocketAddr) -> SocketAddr {
    let endpoint = transport::endpoint(bind, Some(transport::server_config(identity, bind).unwrap())).unwrap();
    let addr = endpoint.local_addr().unwrap();
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            let connection = incoming.await.unwrap();
            tokio::spawn(serve_echo(connection.clone()));
            tokio::spawn(serve_bulk(connection));
        }
    });
    addr
}

async fn serve_echo(connection: Connection) {
    let Ok((mut send, mut receive)) = connection.accept_bi().await else { return };
    let mut block = [0; BLOCK];
    while receive.read_exact(&mut block).await.is_ok() {
        send.write_all(&block).await.unwrap();
    }
}

async fn serve_bulk(connection: Connection) {
    let acks = Arc::new(tokio::sync::Mutex::new(connection.open_uni().await.unwrap()));
    let buffers = Buffers::default();
    while let Ok(stream) = connection.accept_uni().await {
        let (acks, buffers) = (acks.clone(), buffers.clone());
        tokio::spawn(async move {
            let number = receive(stream, &buffers).await;
            acks.lock().await.write_all(&number).await.unwrap();
        });
    }
}

async fn receive(mut stream: RecvStream, buffers: &Buffers) -> [u8; 8] {
    let mut head = [0; 16];
    stream.read_exact(&mut head).await.unwrap();
    let (number, length) = (head.first_chunk::<8>().unwrap(), head.last_chunk::<8>().unwrap());
    let length = u64::from_le_bytes(*length) as usize;
    let mut buffer = buffers.lock().unwrap().pop().unwrap_or_default();
    buffer.resize(length, 0);
    while let Some(chunk) = stream.read_chunk(usize::MAX, false).await.unwrap() {
        let at = chunk.offset as usize - head.len();
        buffer[at..at + chunk.bytes.len()].copy_from_slice(&chunk.bytes);
    }
    buffers.lock().unwrap().push(buffer);
    *number
}

pub(crate) struct Client {
    connection: Connection,
    echo: tokio::sync::Mutex<(SendStream, RecvStream)>,
    acks: Acks,
    numbers: Arc<AtomicU64>,
    _endpoint: Endpoint,
}

type Acks = Arc<Mutex<HashMap<u64, oneshot::Sender<()>>>>;

impl Client {
    pub(crate) async fn connect(identity: &Identity, addr: SocketAddr) -> Self {
        let endpoint = transport::endpoint(([127, 0, 0, 1], 0).into(), None).unwrap();
        let config = transport::client_config(identity, addr).unwrap();
        let connection = endpoint.connect_with(config, addr, &PEER.to_string()).unwrap().await.unwrap();
        let echo = connection.open_bi().await.unwrap();
        let acks = Acks::default();
        tokio::spawn(hear_acks(connection.clone(), acks.clone()));
        Self { connection, echo: tokio::sync::Mutex::new(echo), acks, numbers: Arc::default(), _endpoint: endpoint }
    }

    /// One echo after the other.
    pub(crate) async fn echoes(&self, count: usize) -> Measure {
        let mut echo = self.echo.lock().await;
        let (send, receive) = &mut *echo;
        let mut latencies = Vec::with_capacity(count);
        for _ in 0..count {
            let mut block = [7; BLOCK];
            let start = Instant::now();
            send.write_all(&block).await.unwrap();
            receive.read_exact(&mut block).await.unwrap();
            latencies.push(start.elapsed());
        }
        Measure::Latencies(Latencies::of(latencies))
    }

    /// As [`neap::Client::bulk`]; `neap` says what processor time the peer used.
    pub(crate) async fn bulk(&self, mib: usize, in_flight: usize, transfers: usize, neap: &neap::Client) -> Measure {
        let cpu = (cpu_us(), neap.peer_cpu_us().await);
        let payload = Bytes::from(vec![5; mib << 20]);
        let start = Instant::now();
        let lanes: Vec<_> = (0..in_flight)
            .map(|_| {
                let lane = (self.connection.clone(), self.acks.clone(), self.numbers.clone(), payload.clone());
                tokio::spawn(async move {
                    for _ in 0..transfers / in_flight {
                        push(&lane.0, &lane.1, &lane.2, &lane.3).await;
                    }
                })
            })
            .collect();
        for lane in lanes {
            lane.await.unwrap();
        }
        let elapsed = start.elapsed();
        let cpu = (cpu_us() - cpu.0, neap.peer_cpu_us().await - cpu.1);
        Measure::Throughput(Throughput::of_bytes((mib << 20) * transfers, elapsed, cpu))
    }
}

async fn push(connection: &Connection, acks: &Acks, numbers: &AtomicU64, payload: &Bytes) {
    let number = numbers.fetch_add(1, Ordering::Relaxed);
    let (sender, acknowledged) = oneshot::channel();
    acks.lock().unwrap().insert(number, sender);
    let mut stream = connection.open_uni().await.unwrap();
    let head = [number.to_le_bytes(), (payload.len() as u64).to_le_bytes()].concat();
    stream.write_all_chunks(&mut [Bytes::from(head), payload.clone()]).await.unwrap();
    stream.finish().unwrap();
    acknowledged.await.unwrap();
}

async fn hear_acks(connection: Connection, acks: Acks) {
    let Ok(mut stream) = connection.accept_uni().await else { return };
    let mut number = [0; 8];
    while stream.read_exact(&mut number).await.is_ok() {
        let waiting = acks.lock().unwrap().remove(&u64::from_le_bytes(number));
        let _ = waiting.unwrap().send(());
    }
}
