//! What the tests of this crate share: a cluster in one process, and an actor that does what it is told.

#![allow(dead_code, unreachable_pub, reason = "a module of every test file, which uses a part of it")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use neap_runtime::{
    Access, BulkBuffer, CertificateAuthority, Inbound, MailboxLimits, Node, NodeConfig, Peer, Protocol, Role,
};
use neap_scheduler::model::{JobId, NodeId, WorkerId};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc};

pub const SOON: Duration = Duration::from_secs(10);

pub fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

pub fn worker(number: u64) -> Role {
    Role::Worker { job: JobId::new(2), worker: WorkerId::new(number) }
}

/// Two nodes that know each other: node n1, and the control plane which has dialled it.
pub struct Pair {
    pub ca: CertificateAuthority,
    pub control: Node,
    pub node: Node,
    /// From the control plane to the node.
    pub peer: Peer,
    _dir: tempfile::TempDir,
}

pub async fn pair() -> Pair {
    pair_with(NodeConfig::default()).await
}

pub async fn pair_with(config: NodeConfig) -> Pair {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority(dir.path());
    let control = start(&ca, Role::Control);
    let node = Node::start(&ca.issue(Role::Node(NodeId::new(1))).unwrap(), loopback(), config).unwrap();
    let peer = control.connect(node.local_addr(), node.role()).await.unwrap();
    Pair { ca, control, node, peer, _dir: dir }
}

pub fn authority(dir: &Path) -> CertificateAuthority {
    CertificateAuthority::load_or_create(dir).unwrap()
}

pub fn start(ca: &CertificateAuthority, role: Role) -> Node {
    Node::start(&ca.issue(role).unwrap(), loopback(), NodeConfig::default()).unwrap()
}

pub struct Chat;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Say {
    Number(u64),
    Panic(String),
    Stop(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    Double(u64),
    Bytes(Vec<u8>),
    Never,
    AnswerOf(usize),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    Number(u64),
    Bytes(Vec<u8>),
}

impl Protocol for Chat {
    const NAME: &'static str = "chat";
    type Cast = Say;
    type Request = Ask;
    type Reply = Answer;
    type BulkHeader = String;
}

/// Another conversation, for actors that do not have it.
pub struct Other;

impl Protocol for Other {
    const NAME: &'static str = "other";
    type Cast = u8;
    type Request = u8;
    type Reply = u8;
    type BulkHeader = u8;
}

/// Says what it was told; handles a message only once it has a permit of the gate.
pub struct Listener {
    pub heard: mpsc::UnboundedSender<Heard>,
    pub gate: Arc<Semaphore>,
}

#[derive(Debug)]
pub enum Heard {
    Number(Role, u64),
    Bulk(Role, String, BulkBuffer),
}

pub struct ListenerMsg(Inbound<Chat>);

impl From<Inbound<Chat>> for ListenerMsg {
    fn from(inbound: Inbound<Chat>) -> Self {
        Self(inbound)
    }
}

impl Actor for Listener {
    type Msg = ListenerMsg;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Self::Msg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: ListenerMsg,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        self.gate.acquire().await?.forget();
        match message.0 {
            Inbound::Cast { message: Say::Panic(text), .. } => panic!("{text}"),
            Inbound::Cast { message: Say::Stop(reason), .. } => myself.stop(Some(reason)),
            Inbound::Cast { from, message: Say::Number(number), .. } => {
                let _ = self.heard.send(Heard::Number(from, number));
            }
            Inbound::Call { request: Ask::Double(number), reply, .. } => reply.send(Answer::Number(2 * number)),
            Inbound::Call { request: Ask::Bytes(bytes), reply, .. } => reply.send(Answer::Bytes(bytes)),
            Inbound::Call { request: Ask::AnswerOf(bytes), reply, .. } => reply.send(Answer::Bytes(vec![1; bytes])),
            Inbound::Call { request: Ask::Never, .. } => {}
            Inbound::Bulk { from, header, payload, .. } => {
                let _ = self.heard.send(Heard::Bulk(from, header, payload));
            }
        }
        Ok(())
    }
}

/// A listener that handles everything at once.
pub async fn listen(node: &Node, name: &str) -> (ActorRef<ListenerMsg>, mpsc::UnboundedReceiver<Heard>) {
    let (actor, heard, gate) = listen_gated(node, name, MailboxLimits::default()).await;
    gate.add_permits(Semaphore::MAX_PERMITS / 2);
    (actor, heard)
}

/// A listener that handles as many messages as its gate gets permits.
pub async fn listen_gated(
    node: &Node,
    name: &str,
    limits: MailboxLimits,
) -> (ActorRef<ListenerMsg>, mpsc::UnboundedReceiver<Heard>, Arc<Semaphore>) {
    let (sender, heard) = mpsc::unbounded_channel();
    let gate = Arc::new(Semaphore::new(0));
    let (actor, _) = Actor::spawn(None, Listener { heard: sender, gate: gate.clone() }, ()).await.unwrap();
    node.register::<Chat, _>(name, actor.clone(), Access::only(|_| true).with_limits(limits)).unwrap();
    (actor, heard, gate)
}

pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.expect("it should not take this long")
}
