//! The other process: an actor on the actor network, and a plain quinn server beside it.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::net::SocketAddr;

use neap_runtime::{Access, Identity, Inbound, Node, NodeConfig, ReplyTo, codec};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::talk::{Answer, Ask, Talk, cpu_us};
use crate::{IDENTITY_BYTES_MAX, plain};

pub(crate) async fn run() {
    let identity = read_identity();
    let loopback: SocketAddr = ([127, 0, 0, 1], 0).into();
    let node = Node::start(&identity, loopback, NodeConfig::default()).unwrap();
    let (actor, _) = Actor::spawn(None, Sink, ()).await.unwrap();
    node.register::<Talk, SinkMsg>("sink", actor, Access::control()).unwrap();
    let plain = plain::serve(&identity, loopback);
    println!("{} {plain}", node.local_addr());
    tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0])).await.unwrap().unwrap();
    node.shutdown().await;
}

fn read_identity() -> Identity {
    let mut input = std::io::stdin();
    let mut length = [0; 4];
    input.read_exact(&mut length).unwrap();
    let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
    input.read_exact(&mut bytes).unwrap();
    codec::decode::<_, IDENTITY_BYTES_MAX>(&bytes).unwrap()
}

/// Counts what it gets.
struct Sink;

struct SinkMsg(Inbound<Talk>);

impl From<Inbound<Talk>> for SinkMsg {
    fn from(inbound: Inbound<Talk>) -> Self {
        Self(inbound)
    }
}

#[derive(Default)]
struct Counts {
    casts: u64,
    casts_awaited: Option<(u64, ReplyTo<Talk>)>,
    bulk: HashSet<u64>,
    bulk_awaited: HashMap<u64, ReplyTo<Talk>>,
}

impl Actor for Sink {
    type Msg = SinkMsg;
    type State = Counts;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Self::Msg>, (): ()) -> Result<Counts, ActorProcessingErr> {
        Ok(Counts::default())
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        message: SinkMsg,
        counts: &mut Counts,
    ) -> Result<(), ActorProcessingErr> {
        match message.0 {
            Inbound::Cast { .. } => {
                counts.casts += 1;
                counts.answer_casts();
            }
            Inbound::Call { request, reply, .. } => match request {
                Ask::Echo(block) => reply.send(Answer::Echo(block)),
                Ask::Cpu => reply.send(Answer::Cpu(cpu_us())),
                Ask::Casts(casts) => {
                    counts.casts_awaited = Some((casts, reply));
                    counts.answer_casts();
                }
                Ask::Bulk(number) if counts.bulk.remove(&number) => reply.send(Answer::Done),
                Ask::Bulk(number) => {
                    counts.bulk_awaited.insert(number, reply);
                }
            },
            Inbound::Bulk { header: number, .. } => match counts.bulk_awaited.remove(&number) {
                Some(reply) => reply.send(Answer::Done),
                None => {
                    counts.bulk.insert(number);
                }
            },
        }
        Ok(())
    }
}

impl Counts {
    fn answer_casts(&mut self) {
        if let Some((_, reply)) = self.casts_awaited.take_if(|(casts, _)| *casts <= self.casts) {
            reply.send(Answer::Done);
        }
    }
}
