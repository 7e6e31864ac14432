//! What is known only as long as this control plane runs: connections, addresses, progress. All of it is told again by
//! agents that register.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use neap_runtime::Peer;
use neap_runtime::remote::RemoteRef;
use neap_runtime::wire::agent::{AGENT_ACTOR, AgentCommand, AgentProtocol};
use neap_runtime::wire::device::Device;
use neap_runtime::wire::worker::DataUsed;
use neap_scheduler::autoscale::Launches;
use neap_scheduler::model::{Generation, JobId, MembershipEpoch, Millis, NodeId, NodeState, WorkerId};
use neap_storage::record::Record;

use super::Reply;
use super::deadlines::Deadlines;
use super::known::Advance;
use super::money::Money;
use crate::state::ClusterState;
use crate::views::ProgressView;

/// How often leases, notices and idle nodes are looked at; events are handled when they come.
pub(super) const TICK: Duration = Duration::from_millis(250);

/// How long a worker's crash holds its job back, doubled with every crash in a row.
const BACKOFF_FIRST: Millis = Millis::new(500);

/// The most a job is held back.
const BACKOFF_MAX: Millis = Millis::new(60_000);

/// How a worker is reached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LiveWorker {
    pub(super) addr: SocketAddr,
    pub(crate) pid: u32,
}

/// A checkpoint that was asked for before the membership changes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Saving {
    pub(super) epoch: MembershipEpoch,
    /// Not waited for longer than this.
    pub(super) until: Millis,
    pub(super) done: bool,
}

/// Crashes of a job's workers in a row.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Crashes {
    /// Since the last committed step.
    pub(super) in_a_row: u32,
    /// Those that count against `retry.max_restarts`.
    pub(super) charged: u32,
    pub(super) hold_until: Option<Millis>,
}

/// See the module.
pub(crate) struct Live {
    pub(super) started: Millis,
    pub(super) links: BTreeMap<NodeId, Link>,
    pub(super) lease_until: BTreeMap<NodeId, Millis>,
    pub(crate) agent_pids: BTreeMap<NodeId, u32>,
    /// What nodes can compute on, as they last said.
    pub(crate) devices: BTreeMap<NodeId, Vec<Device>>,
    pub(crate) workers: BTreeMap<WorkerId, LiveWorker>,
    pub(crate) retiring: BTreeSet<WorkerId>,
    /// Workers of own actors that have to go and are ready to.
    pub(super) vacated: BTreeSet<WorkerId>,
    /// Workers that were told to end.
    pub(crate) ending: BTreeSet<WorkerId>,
    pub(crate) progress: BTreeMap<JobId, ProgressView>,
    /// What each worker's data cost it, also of workers that are gone.
    pub(crate) data_used: BTreeMap<JobId, BTreeMap<WorkerId, DataUsed>>,
    /// Microseconds that workers take for a logical shard, as their parameter server last saw it.
    pub(super) paces: BTreeMap<WorkerId, u64>,
    pub(crate) first_step: BTreeMap<JobId, Millis>,
    /// Jobs that were training before this control plane: when they began is not known to it.
    pub(super) found_training: BTreeSet<JobId>,
    pub(super) saving: BTreeMap<JobId, Saving>,
    pub(super) stop_until: BTreeMap<JobId, Millis>,
    pub(super) crashes: BTreeMap<JobId, Crashes>,
    pub(super) idle_since: BTreeMap<NodeId, Millis>,
    pub(crate) versions: BTreeMap<JobId, u64>,
    pub(super) money: Money,
    /// How fast each job is.
    pub(super) advance: BTreeMap<JobId, Advance>,
    pub(super) launches: BTreeMap<String, Launches>,
    pub(super) deadlines: Deadlines,
    /// Jobs whose workers all have to go once their state is saved, and why.
    pub(super) giving_up: BTreeMap<JobId, String>,
    /// Jobs that have given up their workers and wait for others.
    pub(super) given_up: BTreeSet<JobId>,
    pub(super) generation: Generation,
    /// Nodes of an earlier control plane that have not registered yet; nothing is decided before they have, or this
    /// time has passed.
    pub(super) awaited: BTreeSet<NodeId>,
    pub(super) await_until: Millis,
    /// Set once all nodes are to be given back.
    pub(super) ending_all: Option<EndingAll>,
}

/// Everything is to be given back.
pub(super) struct EndingAll {
    pub(super) reply: Option<Reply<()>>,
    /// Checkpoints are not waited for longer than this.
    pub(super) save_until: Millis,
}

/// An agent that answers.
pub(super) struct Link {
    pub(super) peer: Peer,
    pub(super) agent: RemoteRef<AgentProtocol>,
}

impl Live {
    pub(super) fn new(state: &ClusterState, now: Millis, lease: Millis) -> Self {
        let joined = |state| matches!(state, NodeState::Ready | NodeState::Draining | NodeState::Unreachable);
        let awaited: BTreeSet<_> = state.live_nodes().filter(|node| joined(node.state)).map(|node| node.id).collect();
        let lease_until = awaited.iter().map(|&node| (node, now + lease)).collect();
        Self {
            started: now,
            links: BTreeMap::new(),
            lease_until,
            agent_pids: BTreeMap::new(),
            devices: BTreeMap::new(),
            workers: BTreeMap::new(),
            retiring: BTreeSet::new(),
            vacated: BTreeSet::new(),
            ending: BTreeSet::new(),
            progress: BTreeMap::new(),
            data_used: BTreeMap::new(),
            paces: BTreeMap::new(),
            first_step: BTreeMap::new(),
            found_training: state.live_jobs().filter(|job| job.membership.is_some()).map(|job| job.id).collect(),
            saving: BTreeMap::new(),
            stop_until: BTreeMap::new(),
            crashes: BTreeMap::new(),
            idle_since: BTreeMap::new(),
            versions: BTreeMap::new(),
            money: Money::default(),
            advance: BTreeMap::new(),
            launches: BTreeMap::new(),
            deadlines: Deadlines::default(),
            giving_up: BTreeMap::new(),
            given_up: BTreeSet::new(),
            generation: Generation::default(),
            await_until: now + lease,
            awaited,
            ending_all: None,
        }
    }

    /// Whether a node's agent answers.
    pub(super) fn answers(&self, node: NodeId) -> bool {
        self.links.get(&node).is_some_and(|link| link.peer.is_alive())
    }

    /// Keeps a connection to an agent.
    pub(super) fn link(&mut self, node: NodeId, peer: Peer) {
        let agent = peer.actor::<AgentProtocol>(AGENT_ACTOR);
        self.links.insert(node, Link { peer, agent });
    }

    /// Tells an agent something, without waiting for it. An agent that does not take it is told again when it
    /// registers, or is lost.
    pub(super) fn tell(&self, node: NodeId, command: AgentCommand) {
        let Some(link) = self.links.get(&node) else { return };
        let agent = link.agent.clone();
        tokio::spawn(async move {
            if let Err(error) = agent.cast(command).await {
                tracing::warn!(%error, %node, "agent not told");
            }
        });
    }

    /// Keeps what follows from a record: versions for watchers, and no leftovers of what has ended.
    pub(super) fn note(&mut self, record: &Record) {
        match record {
            Record::WorkerEnded { job, worker, .. } => {
                self.workers.remove(worker);
                self.paces.remove(worker);
                self.retiring.remove(worker);
                self.vacated.remove(worker);
                self.ending.remove(worker);
                self.touch(*job);
            }
            Record::NodeStateChanged { node, state, .. } if state.is_terminal() => {
                self.links.remove(node);
                self.lease_until.remove(node);
                self.agent_pids.remove(node);
                self.devices.remove(node);
                self.idle_since.remove(node);
                self.awaited.remove(node);
            }
            Record::JobStateChanged { job, state, .. } => {
                if state.is_terminal() {
                    self.advance.remove(job);
                    self.giving_up.remove(job);
                    self.given_up.remove(job);
                }
                self.touch(*job);
            }
            Record::JobSubmitted { job, .. }
            | Record::WorkerStarted { job, .. }
            | Record::MembershipChanged { job, .. }
            | Record::CheckpointPublished { job, .. }
            | Record::JobFinished { job, .. }
            | Record::ActorsFinished { job, .. } => self.touch(*job),
            Record::EpochFinished(epoch) => self.touch(epoch.job),
            _ => {}
        }
    }

    /// A job's view has changed.
    pub(super) fn touch(&mut self, job: JobId) {
        *self.versions.entry(job).or_default() += 1;
    }

    /// A worker of a job ended by itself: hold the job back, longer each time.
    pub(super) fn crashed(&mut self, job: JobId, charged: bool, now: Millis) -> Crashes {
        let crashes = self.crashes.entry(job).or_default();
        let pause = BACKOFF_FIRST.get() << crashes.in_a_row.min(10);
        crashes.in_a_row += 1;
        crashes.charged += u32::from(charged);
        // The first one is restarted at once: a killed worker is no crash loop.
        crashes.hold_until = (crashes.in_a_row > 1).then(|| now + Millis::new(pause).min(BACKOFF_MAX));
        *crashes
    }
}
