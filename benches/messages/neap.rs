//! The actor network under measure.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use neap_runtime::{BulkSlice, Node, RemoteRef};

use crate::PEER;
use crate::report::{Latencies, Measure, Throughput};
use crate::talk::{Answer, Ask, Block, Talk, cpu_us};

/// No call of this bench may take longer.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Client {
    sink: RemoteRef<Talk>,
    casts: AtomicU64,
    transfers: Arc<AtomicU64>,
}

impl Client {
    pub(crate) async fn connect(node: &Node, addr: SocketAddr) -> Self {
        let sink = node.connect(addr, PEER).await.unwrap().actor("sink");
        Self { sink, casts: AtomicU64::new(0), transfers: Arc::default() }
    }

    /// Casts as fast as credit allows, until the last is handled.
    pub(crate) async fn casts(&self, count: u64) -> Measure {
        let total = self.casts.fetch_add(count, Ordering::Relaxed) + count;
        let cpu = (cpu_us(), self.peer_cpu_us().await);
        let start = Instant::now();
        for _ in 0..count {
            self.sink.cast(Block::SAMPLE).await.unwrap();
        }
        self.ask(Ask::Casts(total)).await;
        let seconds = start.elapsed().as_secs_f64();
        Measure::Throughput(Throughput {
            per_second: count as f64 / seconds,
            unit: "casts/s",
            client_cpu: (cpu_us() - cpu.0) as f64 / count as f64,
            server_cpu: (self.peer_cpu_us().await - cpu.1) as f64 / count as f64,
            cpu_unit: "us/cast",
        })
    }

    /// One call after the other.
    pub(crate) async fn calls(&self, count: usize) -> Measure {
        let mut latencies = Vec::with_capacity(count);
        for _ in 0..count {
            let start = Instant::now();
            assert_eq!(self.ask(Ask::Echo(Block::SAMPLE)).await, Answer::Echo(Block::SAMPLE));
            latencies.push(start.elapsed());
        }
        Measure::Latencies(Latencies::of(latencies))
    }

    /// Payloads, each answered when it is handled, with some of them under way at a time.
    pub(crate) async fn bulk(&self, mib: usize, in_flight: usize, transfers: usize) -> Measure {
        let cpu = (cpu_us(), self.peer_cpu_us().await);
        let floats: Arc<Vec<f32>> = Arc::new(vec![0.5; mib << 18]);
        let start = Instant::now();
        let lanes: Vec<_> = (0..in_flight)
            .map(|_| {
                let (sink, floats, numbers) = (self.sink.clone(), floats.clone(), self.transfers.clone());
                tokio::spawn(async move {
                    for _ in 0..transfers / in_flight {
                        push(&sink, &floats, &numbers).await;
                    }
                })
            })
            .collect();
        for lane in lanes {
            lane.await.unwrap();
        }
        let cpu = (cpu_us() - cpu.0, self.peer_cpu_us().await - cpu.1);
        Measure::Throughput(Throughput::of_bytes((mib << 20) * transfers, start.elapsed(), cpu))
    }

    /// Calls, a millisecond apart, while payloads are pushed one after the other.
    pub(crate) async fn calls_while_pushing(&self, mib: usize, count: usize) -> Measure {
        let stop = Arc::new(AtomicBool::new(false));
        let pushing = tokio::spawn({
            let (stop, sink, numbers) = (stop.clone(), self.sink.clone(), self.transfers.clone());
            let floats: Arc<Vec<f32>> = Arc::new(vec![0.5; mib << 18]);
            async move {
                while !stop.load(Ordering::Relaxed) {
                    push(&sink, &floats, &numbers).await;
                }
            }
        });
        let mut latencies = Vec::with_capacity(count);
        for _ in 0..count {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let start = Instant::now();
            self.ask(Ask::Echo(Block::SAMPLE)).await;
            latencies.push(start.elapsed());
        }
        stop.store(true, Ordering::Relaxed);
        pushing.await.unwrap();
        Measure::Latencies(Latencies::of(latencies))
    }

    /// Processor time of the peer process, which also serves plain quinn.
    pub(crate) async fn peer_cpu_us(&self) -> u64 {
        match self.ask(Ask::Cpu).await {
            Answer::Cpu(cpu) => cpu,
            other => panic!("{other:?}"),
        }
    }

    async fn ask(&self, request: Ask) -> Answer {
        self.sink.call(request, PATIENCE).await.unwrap()
    }
}

async fn push(sink: &RemoteRef<Talk>, floats: &Arc<Vec<f32>>, numbers: &AtomicU64) {
    let number = numbers.fetch_add(1, Ordering::Relaxed);
    sink.send_bulk(number, &[BulkSlice::from_vec(floats.clone())]).await.unwrap();
    assert_eq!(sink.call(Ask::Bulk(number), PATIENCE).await.unwrap(), Answer::Done);
}
