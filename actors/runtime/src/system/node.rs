//! What the host, the actors and the handles of one worker share: who is in the job, who is connected, what runs here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use neap_scheduler::model::{JobId, MembershipEpoch, WorkerId};
use ractor::ActorRef;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::children::Parent;
use super::context::Context;
use super::dead_letters::{DeadLetter, DeadLetters};
use super::directory::Directory;
use super::host::{Host, HostMsg};
use super::leave::{Holds, Standing};
use super::program::Program;
use super::running::Running;
use super::shell::STOP_GRACE;
use super::snapshot::SnapshotStore;
use super::stream::Streams;
use crate::identity::Role;
use crate::lock;
use crate::node::Node;
use crate::registry::Access;
use crate::wire::actors::{ACTOR_HOST_ACTOR, ActorHostProtocol, Incarnation, StartActor};
use crate::wire::worker::Membership;

/// Pause before the same is tried again: long enough for a membership or a restart to arrive, short enough not to be felt.
const PAUSE: Duration = Duration::from_millis(20);

/// Actors that a worker may run; more are refused.
const RUNNING_MAX: usize = 65_536;

/// Reasons to end the main function that may wait; one ends it.
const ESCALATIONS_MAX: usize = 1;

/// Own actors in one worker process. Cheap to clone.
#[derive(Clone)]
pub struct System(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) job: JobId,
    worker: WorkerId,
    pub(super) node: Node,
    program: Program,
    snapshots: Arc<dyn SnapshotStore>,
    pub(super) view: Mutex<View>,
    pub(super) standing: Mutex<Standing>,
    /// When this worker goes, if it has to.
    pub(super) going: watch::Sender<Option<Instant>>,
    pub(super) holds: Holds,
    directory: Directory,
    streams: Streams,
    letters: DeadLetters,
    running: Mutex<BTreeMap<Incarnation, Arc<Running>>>,
    last_number: AtomicU64,
    /// One at a time dials a worker.
    pub(super) dialling: Mutex<HashMap<WorkerId, Arc<tokio::sync::Mutex<()>>>>,
    host: OnceLock<ActorRef<HostMsg>>,
}

/// Who is in the job.
#[derive(Debug, Default)]
pub(super) struct View {
    epoch: MembershipEpoch,
    pub(super) members: BTreeMap<WorkerId, SocketAddr>,
    /// Members to which the last connection was lost, until there is another.
    pub(super) suspects: BTreeSet<WorkerId>,
}

impl System {
    pub(super) async fn start(
        job: JobId,
        worker: WorkerId,
        node: Node,
        program: Program,
        snapshots: Arc<dyn SnapshotStore>,
    ) -> Result<Self, super::actor::Fault> {
        let system = Self(Arc::new(Inner {
            job,
            worker,
            node: node.clone(),
            program,
            snapshots,
            view: Mutex::default(),
            standing: Mutex::default(),
            going: watch::Sender::new(None),
            holds: Holds::default(),
            directory: Directory::default(),
            streams: Streams::default(),
            letters: DeadLetters::default(),
            running: Mutex::default(),
            last_number: AtomicU64::new(0),
            dialling: Mutex::default(),
            host: OnceLock::new(),
        }));
        let (host, _) = ractor::Actor::spawn(None, Host, system.clone()).await?;
        system.0.host.get_or_init(|| host.clone());
        let access = Access::only(system.members_only());
        node.register::<ActorHostProtocol, HostMsg>(ACTOR_HOST_ACTOR, host, access)?;
        Ok(system)
    }

    /// The job.
    pub fn job(&self) -> JobId {
        self.0.job
    }

    /// This worker.
    pub fn worker(&self) -> WorkerId {
        self.0.worker
    }

    /// The membership in force, as far as this worker knows.
    pub fn epoch(&self) -> MembershipEpoch {
        lock(&self.0.view).epoch
    }

    /// The workers of the job.
    pub fn workers(&self) -> Vec<WorkerId> {
        lock(&self.0.view).members.keys().copied().collect()
    }

    /// Messages that actors of this worker could not handle, oldest first.
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.0.letters.all()
    }

    /// How many own actors run in this process.
    pub fn running(&self) -> usize {
        lock(&self.0.running).len()
    }

    /// Takes in a membership; an older one than that in force changes nothing. `false` for such a one.
    pub(super) fn adopt(&self, membership: &Membership) -> bool {
        let members: BTreeMap<_, _> = membership.members.iter().map(|member| (member.worker, member.addr)).collect();
        let (under, gone, suspects): (_, Vec<WorkerId>, BTreeSet<WorkerId>) = {
            let mut view = lock(&self.0.view);
            if membership.epoch <= view.epoch {
                return false;
            }
            let under = view.epoch;
            let gone = view.members.keys().filter(|worker| !members.contains_key(worker)).copied().collect();
            let suspects: BTreeSet<_> =
                view.suspects.iter().filter(|worker| members.contains_key(worker)).copied().collect();
            *view = View { epoch: membership.epoch, members, suspects: suspects.clone() };
            (under, gone, suspects)
        };
        for worker in gone {
            self.cut_off(worker, "not a member any more");
            self.tell_host(HostMsg::WorkerLost { worker, under });
        }
        for worker in suspects {
            // A member still: perhaps only the connection was lost.
            let system = self.clone();
            tokio::spawn(async move { system.connect(worker).await.is_ok() });
        }
        true
    }

    /// A connection to a worker has ended. `true` if it was the last one to a member: it counts as lost.
    pub(super) fn peer_down(&self, worker: WorkerId) -> bool {
        if self.connected(worker).is_some() {
            return false;
        }
        let under = {
            let mut view = lock(&self.0.view);
            if !view.members.contains_key(&worker) || !view.suspects.insert(worker) {
                return false;
            }
            view.epoch
        };
        self.tell_host(HostMsg::WorkerLost { worker, under });
        true
    }

    /// Runs the main function to its end; what it started ends with it.
    pub(super) async fn run_main(&self, main: &str, params: serde_json::Value) -> Result<String, String> {
        let run = self.0.program.find_main(main)?;
        let (escalations, mut escalated) = mpsc::channel(ESCALATIONS_MAX);
        self.tell_host(HostMsg::Main(escalations));
        let context = Context {
            system: self.clone(),
            path: "main".to_owned(),
            me: Parent::Main,
            address: None,
            epoch: self.epoch(),
            saved: 0,
            stopping: false,
        };
        let ended = tokio::select! {
            ended = run(context, params) => ended,
            Some(why) = escalated.recv() => Err(why),
        };
        self.end_children(Parent::Main, STOP_GRACE).await;
        ended
    }

    /// Ends what this worker's main function started, after it was cut off.
    pub(super) async fn end_main(&self) {
        self.end_children(Parent::Main, STOP_GRACE).await;
    }

    /// Ends the host. What runs here ends with the process.
    pub(super) fn shut(&self) {
        if let Some(host) = self.0.host.get() {
            host.stop(None);
        }
        lock(&self.0.running).values().for_each(|running| running.kill());
    }

    pub(super) fn role(&self) -> Role {
        Role::Worker { job: self.0.job, worker: self.0.worker }
    }

    pub(super) fn node(&self) -> &Node {
        &self.0.node
    }

    pub(super) fn snapshots(&self) -> Arc<dyn SnapshotStore> {
        self.0.snapshots.clone()
    }

    pub(super) fn directory(&self) -> &Directory {
        &self.0.directory
    }

    pub(super) fn streams(&self) -> &Streams {
        &self.0.streams
    }

    pub(super) fn letters(&self) -> &DeadLetters {
        &self.0.letters
    }

    pub(super) async fn pause(&self) {
        tokio::time::sleep(PAUSE).await;
    }

    pub(super) fn tell_host(&self, message: HostMsg) {
        // Without a host the process is ending; whoever waits for an answer is told by the end of its channel.
        if let Some(host) = self.0.host.get() {
            let _ = host.cast(message);
        }
    }

    /// Lets in the workers of the membership in force.
    pub(super) fn members_only(&self) -> impl Fn(&Role) -> bool + Send + Sync + 'static {
        let (job, inner) = (self.0.job, Arc::downgrade(&self.0));
        move |role| match role {
            Role::Worker { job: theirs, worker } if *theirs == job => {
                inner.upgrade().is_some_and(|inner| lock(&inner.view).members.contains_key(worker))
            }
            _ => false,
        }
    }

    /// Members that are not cut off.
    pub(super) fn usable_workers(&self) -> Vec<WorkerId> {
        let view = lock(&self.0.view);
        view.members.keys().filter(|worker| !view.suspects.contains(worker)).copied().collect()
    }

    pub(super) fn next_number(&self) -> u64 {
        self.0.last_number.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn add(&self, running: Arc<Running>) {
        lock(&self.0.running).insert(running.of, running);
    }

    pub(super) fn remove(&self, running: &Running) {
        lock(&self.0.running).remove(&running.of);
    }

    pub(super) fn incarnation(&self, of: Incarnation) -> Option<Arc<Running>> {
        lock(&self.0.running).get(&of).cloned()
    }

    pub(super) fn all_running(&self) -> Vec<Arc<Running>> {
        lock(&self.0.running).values().cloned().collect()
    }

    pub(super) fn by_number(&self, number: u64) -> Option<Arc<Running>> {
        lock(&self.0.running).values().find(|running| running.number == number).cloned()
    }

    /// What runs here and is supervised by another worker.
    pub(super) fn started_for(&self, worker: WorkerId) -> Vec<Arc<Running>> {
        lock(&self.0.running).values().filter(|running| running.of.home == worker).cloned().collect()
    }

    pub(super) async fn start_here(&self, start: StartActor) -> Result<(), String> {
        if self.running() >= RUNNING_MAX {
            return Err(format!("{} runs {RUNNING_MAX} actors, as many as it may", self.worker()));
        }
        let kind = self.0.program.find_kind(&start.kind)?;
        let home = start.of.home;
        let running = kind(self.clone(), start).await?;
        // Its supervisor may have been lost while it started.
        let is_member = lock(&self.0.view).members.contains_key(&home);
        if !is_member {
            running.kill();
        }
        Ok(())
    }

    /// Ends all children of a parent that lives here, and waits until they have ended.
    pub(super) async fn end_children(&self, parent: Parent, grace: Duration) {
        let (reply, ended) = oneshot::channel();
        self.tell_host(HostMsg::EndChildren { parent, grace, reply });
        // Dropped without an answer, the host is gone and the children with it.
        let _ = ended.await;
    }
}

impl fmt::Debug for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "System({} of {})", self.0.worker, self.0.job)
    }
}
