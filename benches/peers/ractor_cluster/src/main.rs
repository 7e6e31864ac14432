//! What do messages between two processes cost with ractor_cluster, over one QUIC stream?
//!
//! The same measures as `benches/messages`, on the same transport settings: casts of 64 bytes, calls of 64 bytes, and a
//! call issued behind a 64 MiB push. The process starts itself a second time as the peer. Prints JSON lines.

mod quic;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, call_t};
use ractor_cluster::{NodeServer, NodeServerMessage, RactorClusterMessage};

const ROUNDS: usize = 3;
const CASTS: u64 = 500_000;
const CALLS: usize = 10_000;
const PUSHES: usize = 10;
const GROUP: &str = "sinks";
const PATIENCE_MS: u64 = 60_000;

/// Larger than the largest push; the default of 16 MiB drops the session.
const FRAME_BYTES_MAX: u64 = 128 << 20;

#[derive(RactorClusterMessage)]
enum SinkMsg {
    Block(Vec<u8>),
    Bulk(Vec<u8>),
    #[rpc]
    Echo(Vec<u8>, RpcReplyPort<Vec<u8>>),
    #[rpc]
    Casts(u64, RpcReplyPort<u64>),
    #[rpc]
    Cpu(RpcReplyPort<u64>),
}

struct Sink;

#[derive(Default)]
struct Counts {
    casts: u64,
    awaited: Option<(u64, RpcReplyPort<u64>)>,
}

impl Actor for Sink {
    type Msg = SinkMsg;
    type State = Counts;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<SinkMsg>, (): ()) -> Result<Counts, ActorProcessingErr> {
        Ok(Counts::default())
    }

    async fn handle(
        &self,
        _: ActorRef<SinkMsg>,
        message: SinkMsg,
        counts: &mut Counts,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SinkMsg::Block(_) => counts.casts += 1,
            SinkMsg::Bulk(_) => {}
            SinkMsg::Echo(block, reply) => drop(reply.send(block)),
            SinkMsg::Casts(casts, reply) => counts.awaited = Some((casts, reply)),
            SinkMsg::Cpu(reply) => drop(reply.send(cpu_us())),
        }
        if let Some((_, reply)) = counts.awaited.take_if(|(casts, _)| *casts <= counts.casts) {
            drop(reply.send(counts.casts));
        }
        Ok(())
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    match std::env::args().any(|arg| arg == "--peer") {
        true => runtime.block_on(peer()),
        false => runtime.block_on(measure()),
    }
}

async fn node_server(name: &str) -> ActorRef<NodeServerMessage> {
    let server = NodeServer::new(0, "a cookie of this bench".into(), name.into(), "localhost".into(), None, None)
        .with_listen_addr(IpAddr::V4(Ipv4Addr::LOCALHOST))
        .with_max_inbound_frame_size(FRAME_BYTES_MAX);
    Actor::spawn(None, server, ()).await.unwrap().0
}

async fn peer() {
    let (sink, _) = Actor::spawn(None, Sink, ()).await.unwrap();
    ractor::pg::join(GROUP.into(), vec![sink.get_cell()]);
    let server = node_server("peer").await;
    let (endpoint, certificate) = quic::server();
    let hex: String = certificate.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("{} {hex}", endpoint.local_addr().unwrap());
    let connection = endpoint.accept().await.unwrap().await.unwrap();
    let (send, mut receive) = connection.accept_bi().await.unwrap();
    receive.read_exact(&mut [0]).await.unwrap();
    let stream = Box::new(quic::Stream { send, receive });
    server.cast(NodeServerMessage::ConnectionOpenedExternal { stream, is_server: true }).unwrap();
    tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0])).await.unwrap().unwrap();
}

async fn measure() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .arg("--peer")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let (addr, hex) = line.trim().split_once(' ').unwrap();
    let certificate = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();

    let addr: SocketAddr = addr.parse().unwrap();
    let (_endpoint, connection) = quic::connect(addr, certificate).await;
    let server = node_server("client").await;
    let (mut send, receive) = connection.open_bi().await.unwrap();
    send.write_all(&[0]).await.unwrap();
    ractor_cluster::client_connect_external(&server, Box::new(quic::Stream { send, receive })).await.unwrap();
    let sink: ActorRef<SinkMsg> = loop {
        match ractor::pg::get_members(&GROUP.to_string()).into_iter().next() {
            Some(cell) => break cell.into(),
            None => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };

    let (mut rates, mut calls, mut behind) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS as u64 {
        let rate = casts(&sink, (round + 1) * CASTS).await;
        let latencies = echoes(&sink).await;
        let behind_push = calls_behind_push(&sink).await;
        // The first round warms up.
        if round > 0 {
            rates.push(rate);
            calls.push(latencies);
            behind.push(behind_push);
        }
    }
    report(rates, calls, behind);
    drop(child.stdin.take().map(|mut input| input.flush()));
    let _ = child.wait();
}

/// Rate, and microseconds of processor time a cast at client and server.
async fn casts(sink: &ActorRef<SinkMsg>, total: u64) -> [f64; 3] {
    let peer_cpu = async || call_t!(sink, SinkMsg::Cpu, PATIENCE_MS).unwrap();
    let cpu = (cpu_us(), peer_cpu().await);
    let start = Instant::now();
    for _ in 0..CASTS {
        sink.cast(SinkMsg::Block(vec![7; 64])).unwrap();
    }
    call_t!(sink, SinkMsg::Casts, PATIENCE_MS, total).unwrap();
    let seconds = start.elapsed().as_secs_f64();
    let each = |us: u64| us as f64 / CASTS as f64;
    [CASTS as f64 / seconds, each(cpu_us() - cpu.0), each(peer_cpu().await - cpu.1)]
}

async fn echoes(sink: &ActorRef<SinkMsg>) -> [f64; 3] {
    let mut latencies = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let start = Instant::now();
        call_t!(sink, SinkMsg::Echo, PATIENCE_MS, vec![7; 64]).unwrap();
        latencies.push(start.elapsed());
    }
    percentiles(latencies)
}

async fn calls_behind_push(sink: &ActorRef<SinkMsg>) -> [f64; 3] {
    let mut latencies = Vec::with_capacity(PUSHES);
    for _ in 0..PUSHES {
        sink.cast(SinkMsg::Bulk(vec![5; 64 << 20])).unwrap();
        let start = Instant::now();
        call_t!(sink, SinkMsg::Echo, PATIENCE_MS, vec![7; 64]).unwrap();
        latencies.push(start.elapsed());
    }
    percentiles(latencies)
}

fn percentiles(mut samples: Vec<Duration>) -> [f64; 3] {
    samples.sort_unstable();
    [0.5, 0.99, 1.0].map(|share| samples[((samples.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6)
}

fn median(rounds: &[[f64; 3]]) -> [f64; 3] {
    std::array::from_fn(|field| {
        let mut values: Vec<f64> = rounds.iter().map(|round| round[field]).collect();
        values.sort_unstable_by(f64::total_cmp);
        values[values.len() / 2]
    })
}

fn report(rates: Vec<[f64; 3]>, calls: Vec<[f64; 3]>, behind: Vec<[f64; 3]>) {
    let [rate, client, server] = median(&rates);
    println!(
        "{{\"transport\":\"ractor_cluster\",\"measure\":\"cast_64b\",\"value\":{rate:.3},\"unit\":\"casts/s\",\
         \"client_cpu\":{client:.3},\"server_cpu\":{server:.3},\"cpu_unit\":\"us/cast\"}}"
    );
    for (name, rounds) in [("call_64b", calls), ("call_64b_behind_64mib", behind)] {
        let [p50, p99, max] = median(&rounds);
        println!(
            "{{\"transport\":\"ractor_cluster\",\"measure\":\"{name}\",\"p50_us\":{p50:.1},\"p99_us\":{p99:.1},\
             \"max_us\":{max:.1}}}"
        );
    }
}

/// Processor time of this process so far, in microseconds; the kernel counts in steps of 10 ms.
fn cpu_us() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks = |field: usize| fields.split_whitespace().nth(field).unwrap().parse::<u64>().unwrap();
    (ticks(11) + ticks(12)) * 10_000
}
