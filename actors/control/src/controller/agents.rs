//! Agents: joining, registering, leases, silence, and what the provider sees of their nodes.

use std::collections::BTreeSet;

use neap_runtime::Role;
use neap_runtime::remote::Inbound;
use neap_runtime::wire::agent::{
    AgentCommand, AgentReply, AgentReport, AgentRequest, ControlProtocol, Register, RunningWorker,
};
use neap_runtime::wire::device::limited;
use neap_runtime::wire::worker::WorkerCommand;
use neap_scheduler::model::{JobId, Millis, NodeId, NodeState, WorkerId};
use neap_storage::record::Record;
use ractor::RpcReplyPort;

use super::live::LiveWorker;
use super::{Changed, Controller};
use crate::clock;
use crate::provider::ProviderEvent;

/// How long a retired or ended worker may take to exit.
pub(super) const WORKER_GRACE_MS: u64 = 2_000;

impl Controller {
    pub(super) async fn agent_says(&mut self, inbound: Inbound<ControlProtocol>) -> Changed {
        match inbound {
            Inbound::Call { from: Role::Node(node), request, reply, credit: _credit } => {
                let (answer, changed) = self.agent_asks(node, request).await;
                // Without an answer the agent asks again: nothing was written down.
                if let Some(answer) = answer {
                    reply.send(answer);
                }
                changed
            }
            Inbound::Cast { from: Role::Node(node), message, credit: _credit } => {
                self.log(node, message).await;
                Changed::No
            }
            _ => Changed::No,
        }
    }

    async fn agent_asks(&mut self, node: NodeId, request: AgentRequest) -> (Option<AgentReply>, Changed) {
        if let Some(reason) = self.unwanted(node) {
            return (Some(AgentReply::Refused { reason }), Changed::No);
        }
        match request {
            AgentRequest::Register(register) => {
                let registered = register.node == node && self.register(register).await;
                (registered.then(|| self.granted()), Changed::Yes)
            }
            AgentRequest::Renew => {
                self.extend_lease(node);
                (Some(self.granted()), Changed::No)
            }
            AgentRequest::Report(AgentReport::Devices(devices)) => {
                self.extend_lease(node);
                self.live.devices.insert(node, limited(devices));
                (Some(AgentReply::Noted), Changed::No)
            }
            AgentRequest::Report(report) => {
                self.extend_lease(node);
                let noted = self.report(node, report).await;
                (noted.then_some(AgentReply::Noted), Changed::Yes)
            }
        }
    }

    fn unwanted(&self, node: NodeId) -> Option<String> {
        match self.state.nodes.get(&node) {
            None => Some(format!("{node} was never rented by this cluster")),
            Some(entry) if entry.state.is_terminal() => Some(format!("{node} is {}: {}", entry.state, entry.why)),
            Some(_) => None,
        }
    }

    fn granted(&self) -> AgentReply {
        let config = &self.parts.config;
        AgentReply::Granted { ttl_ms: config.lease_ms, renew_ms: config.lease_ms / 3, dead_man_ms: config.dead_man_ms }
    }

    fn extend_lease(&mut self, node: NodeId) {
        self.live.lease_until.insert(node, clock::now() + Millis::new(self.parts.config.lease_ms));
    }

    /// A node's first word on a connection. `false` if it could not be written down.
    async fn register(&mut self, register: Register) -> bool {
        let node = register.node;
        let running: Vec<WorkerId> = register.workers.iter().map(|worker| worker.worker).collect();
        let mut records = self.ready_records(node);
        for (job, worker) in self.state.workers_on(node) {
            if !running.contains(&worker) {
                let why = "not there any more when its node registered".to_owned();
                records.push(Record::WorkerEnded { job, worker, node, at: clock::now(), why });
            }
        }
        if !records.is_empty() && !self.commit_event(records).await {
            return false;
        }
        let peer = self.parts.node.peers().into_iter().rev().find(|peer| peer.role() == Role::Node(node));
        if let Some(peer) = peer {
            self.live.link(node, peer);
        }
        self.extend_lease(node);
        self.live.awaited.remove(&node);
        self.live.agent_pids.insert(node, register.pid);
        for worker in register.workers {
            self.worker_found(node, worker);
        }
        true
    }

    fn ready_records(&self, node: NodeId) -> Vec<Record> {
        let why = "its agent registered";
        let to = match self.state.nodes.get(&node).map(|entry| entry.state) {
            Some(NodeState::Booting) => {
                // Its token was used before this control plane wrote it down.
                let joining = self.node_record(node, NodeState::Joining, "its agent joined");
                let at = clock::now();
                let ready = Record::NodeStateChanged { node, at, state: NodeState::Ready, why: why.to_owned() };
                return joining.into_iter().chain([ready]).collect();
            }
            Some(NodeState::Joining | NodeState::Unreachable) => NodeState::Ready,
            _ => return Vec::new(),
        };
        self.node_record(node, to, why).into_iter().collect()
    }

    /// A worker that runs on a node: keep how it is reached, tell it who carries its job; end it if it is not wanted.
    pub(super) fn worker_found(&mut self, node: NodeId, found: RunningWorker) {
        let RunningWorker { job, worker, pid, addr } = found;
        let wanted =
            self.state.jobs.get(&job).filter(|job| !job.state.is_terminal() && job.workers.contains_key(&worker));
        let Some(entry) = wanted else {
            self.end_worker(node, worker);
            return;
        };
        let is_member = entry.is_member(worker);
        let Some(addr) = addr else { return };
        self.live.workers.insert(worker, LiveWorker { addr, pid });
        self.live.touch(job);
        if is_member {
            self.tell_membership(job, Some(worker));
        }
    }

    pub(super) fn end_worker(&mut self, node: NodeId, worker: WorkerId) {
        self.live.ending.insert(worker);
        self.live.tell(node, AgentCommand::EndWorker { worker, grace_ms: WORKER_GRACE_MS });
    }

    pub(super) fn tell_worker(&self, job: JobId, worker: WorkerId, command: WorkerCommand) {
        let Some(node) = self.state.jobs.get(&job).and_then(|job| job.workers.get(&worker)).map(|worker| worker.node)
        else {
            return;
        };
        self.live.tell(node, AgentCommand::Worker { worker, command });
    }

    /// A connection is gone or silent. Whose node it was keeps its lease; its workers' shards go to others at once.
    pub(super) fn peer_down(&mut self, role: Role, why: &str) -> Changed {
        let Role::Node(node) = role else { return Changed::No };
        if self.live.answers(node) {
            // It has come back over another connection already.
            return Changed::No;
        }
        let stays = self.state.nodes.get(&node).is_some_and(|node| {
            !node.state.is_terminal() && node.state != NodeState::Releasing && node.notice_until.is_none()
        });
        if self.live.links.remove(&node).is_some() && stays {
            tracing::warn!(%node, why, "agent silent; its work is given to others");
        }
        for (job, worker) in self.state.workers_on(node) {
            self.live.workers.remove(&worker);
            self.live.touch(job);
        }
        Changed::Yes
    }

    /// Lets a node in that presents the hash of its token's secret: once, in time, as the node the token was made for.
    pub(super) async fn admit(
        &mut self,
        node: NodeId,
        hash: [u8; 32],
        reply: RpcReplyPort<Result<(), String>>,
    ) -> Changed {
        let answer = match self.state.tokens.get(&node) {
            None => Err(format!("no unused token for {node}")),
            Some((expected, _)) if *expected != hex::encode(hash) => Err(format!("wrong token for {node}")),
            Some((_, expires)) if *expires < clock::now() => Err(format!("the token for {node} has expired")),
            Some(_) => {
                let used = Record::JoinTokenUsed { node, at: clock::now() };
                let joining = self.node_record(node, NodeState::Joining, "its agent joined");
                let records = std::iter::once(used).chain(joining).collect();
                self.commit(records).await.map_err(|error| error.to_string())
            }
        };
        if let Err(why) = &answer {
            tracing::warn!(%node, why, "join refused");
        }
        let _ = reply.send(answer);
        Changed::No
    }

    pub(super) async fn provider_says(&mut self, event: ProviderEvent) -> Changed {
        let noticed = match &event {
            ProviderEvent::Notice { node, .. } => Some(*node),
            _ => None,
        };
        let records = match event {
            ProviderEvent::Started(node) => {
                self.node_record(node, NodeState::Booting, "the provider started it").into_iter().collect()
            }
            ProviderEvent::StartFailed(node, why) => {
                self.node_record(node, NodeState::Failed, why).into_iter().collect()
            }
            ProviderEvent::Notice { node, deadline } => self.notice_records(node, deadline),
            ProviderEvent::Gone(node, how) => self.gone_records(node, &how),
        };
        if !records.is_empty() && !self.commit_event(records).await {
            tracing::error!("an event of the provider was not written down; the next start finds it out by looking");
        }
        if let Some(node) = noticed {
            let jobs: BTreeSet<JobId> = self.state.workers_on(node).into_iter().map(|(job, _)| job).collect();
            jobs.into_iter().for_each(|job| self.tell_nodes(job, None));
        }
        Changed::Yes
    }

    fn notice_records(&self, node: NodeId, deadline: Millis) -> Vec<Record> {
        let first =
            self.state.nodes.get(&node).is_some_and(|node| node.notice_until.is_none() && !node.state.is_terminal());
        let at = clock::now();
        first.then_some(Record::PreemptionNotice { node, at, deadline }).into_iter().collect()
    }

    fn gone_records(&self, node: NodeId, how: &str) -> Vec<Record> {
        let Some(entry) = self.state.nodes.get(&node).filter(|node| !node.state.is_terminal()) else {
            return Vec::new();
        };
        let at = clock::now();
        let why = match (entry.state, entry.notice_until) {
            (NodeState::Releasing, _) => "given back".to_owned(),
            (_, Some(_)) => format!("taken back by the provider ({how})"),
            _ => format!("lost ({how})"),
        };
        let to = match entry.state {
            NodeState::Requested | NodeState::Booting | NodeState::Joining => NodeState::Failed,
            _ => NodeState::Released,
        };
        let ended =
            |(job, worker)| Record::WorkerEnded { job, worker, node, at, why: format!("{node} is gone: {why}") };
        let mut records: Vec<_> = self.state.workers_on(node).into_iter().map(ended).collect();
        records.extend(self.node_record(node, to, why.clone()));
        records
    }
}
