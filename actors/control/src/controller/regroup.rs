//! Who carries a job from now on. A membership changes when workers come, go, or do not reach each other; each change
//! has a new epoch, and everything sent under the old one is refused where it arrives.

use std::net::SocketAddr;

use neap_runtime::wire::worker::{CheckpointRef, Member, Membership, WorkerCommand, WorkerNode};
use neap_scheduler::elastic::{Candidate, Grouping, Load, ServerRule, group};
use neap_scheduler::model::{JobId, JobState, MembershipEpoch, Millis, NodeId, NodeState, RecoverReason, WorkerId};
use neap_scheduler::spec::{Locality, Strategy};
use neap_storage::record::{MemberRecord, Record};

use super::Controller;
use super::live::Saving;
use crate::clock;
use crate::state::{JobEntry, WorkerEntry};

/// How long a planned change waits for the checkpoint it asked for. A step and a local write take far less; whoever has
/// to go may go without it, at the price of the steps since the last one.
const SAVE_WAIT: Millis = Millis::new(4_000);

/// How long before a node is taken back its own actors are no longer waited for: time for the membership without it.
const VACATE_MARGIN: Millis = Millis::new(1_000);

impl Controller {
    /// Brings a job's membership in line with the workers that are there.
    pub(super) async fn regroup(&mut self, job: JobId) {
        let Some(entry) = self.state.jobs.get(&job) else { return };
        if entry.state.is_terminal() || entry.state == JobState::Stopping || self.live.ending_all.is_some() {
            return;
        }
        self.note_loss(job).await;
        let Some(entry) = self.state.jobs.get(&job) else { return };
        // After a loss the job goes on first, with the servers it has; it spreads out later.
        let Some(mut wanted) = self.wanted_grouping(entry, self.members_are_there(entry)) else {
            self.give_up_workers(job).await;
            return;
        };
        let waits = self.would_only_spread(entry, &wanted) && !self.saved_to_spread(job);
        if waits {
            // More servers are no reason to lose steps: without a checkpoint everything stays where it is.
            let entry = self.state.jobs.get(&job);
            let Some(kept) = entry.and_then(|entry| self.wanted_grouping(entry, false)) else { return };
            wanted = kept;
        }
        let Some(entry) = self.state.jobs.get(&job) else { return };
        self.live.giving_up.remove(&job);
        if self.is_current(entry, &wanted) {
            if !waits {
                self.live.saving.remove(&job);
            }
            return;
        }
        let why = self.reason_to_regroup(entry, &wanted);
        if self.members_are_there(entry) && !self.saved(job) {
            return;
        }
        self.change_membership(job, &wanted, why).await;
    }

    /// Lets go of a job's workers that all have to go, once its state is saved. It starts again from there when it has nodes.
    async fn give_up_workers(&mut self, job: JobId) {
        let Some(why) = self.live.giving_up.get(&job).cloned() else { return };
        let Some(entry) = self.state.jobs.get(&job) else { return };
        if self.members_are_there(entry) && !self.saved(job) {
            return;
        }
        self.live.giving_up.remove(&job);
        self.live.saving.remove(&job);
        self.live.given_up.insert(job);
        let record = self.recovering(job, RecoverReason::Preempted, why);
        self.commit_event(record.into_iter().collect()).await;
    }

    /// A new epoch for the workers that are there, whether or not they are the same ones.
    pub(super) async fn regroup_now(&mut self, job: JobId, why: String) -> bool {
        let Some(entry) = self.state.jobs.get(&job) else { return true };
        match self.wanted_grouping(entry, false) {
            Some(wanted) => self.change_membership(job, &wanted, why).await,
            None => true,
        }
    }

    /// Writes down that a running job lost a member.
    async fn note_loss(&mut self, job: JobId) {
        let Some(entry) = self.state.jobs.get(&job) else { return };
        if entry.membership.is_none() || self.members_are_there(entry) || self.live.given_up.contains(&job) {
            return;
        }
        let reason = self.loss_reason(entry);
        let missing: Vec<_> = self.missing(entry).iter().map(ToString::to_string).collect();
        let why = format!("{} lost", missing.join(", "));
        if let Some(record) = self.recovering(job, reason, why) {
            self.commit_event(vec![record]).await;
        }
    }

    fn loss_reason(&self, entry: &JobEntry) -> RecoverReason {
        let members = entry.membership.iter().flat_map(|group| &group.members);
        let noticed = |member: &MemberRecord| {
            self.state.nodes.get(&member.node).is_some_and(|node| node.notice_until.is_some())
                && !self.live.workers.contains_key(&member.worker)
        };
        if members.into_iter().any(noticed) { RecoverReason::Preempted } else { RecoverReason::NodeLost }
    }

    /// Workers that could be members: up, on a node that answers and stays.
    fn candidates(&self, entry: &JobEntry) -> Vec<Candidate> {
        let usable = |worker: &&WorkerEntry| {
            let node = self.state.nodes.get(&worker.node);
            let stays = node.is_some_and(|node| node.state == NodeState::Ready && node.notice_until.is_none());
            stays
                && self.live.answers(worker.node)
                && self.live.workers.contains_key(&worker.id)
                && !self.live.retiring.contains(&worker.id)
                && !self.live.ending.contains(&worker.id)
        };
        entry
            .workers
            .values()
            .filter(usable)
            .map(|worker| Candidate {
                worker: worker.id,
                bare_server: worker.bare_server,
                load: self.load(entry, worker.id),
            })
            .collect()
    }

    /// What a worker carries, and how fast it was seen to be.
    fn load(&self, entry: &JobEntry, worker: WorkerId) -> Load {
        let mut members = entry.membership.iter().flat_map(|group| &group.members);
        let carried =
            members.find(|member| member.worker == worker).map_or(0, |member| member.shards.1 - member.shards.0);
        Load { carried, shard_us: self.live.paces.get(&worker).copied(), holds_data: self.holds_data(entry, worker) }
    }

    /// Whether a worker was seen to read the job's data on its own node, where that matters to the job.
    fn holds_data(&self, entry: &JobEntry, worker: WorkerId) -> bool {
        if entry.spec.data.get("train").is_some_and(|data| data.locality == Locality::Ignore) {
            return false;
        }
        let used = self.live.data_used.get(&entry.id).and_then(|used| used.get(&worker));
        used.is_some_and(|used| used.local_bytes > 0)
    }

    /// The grouping of the candidates, with further parameter servers where they may `grow`; `None` while there are too few
    /// candidates.
    fn wanted_grouping(&self, entry: &JobEntry, grow: bool) -> Option<Grouping> {
        let candidates = self.candidates(entry);
        let trainers = candidates.iter().filter(|candidate| !candidate.bare_server).count();
        if trainers < entry.spec.workers.min as usize {
            return None;
        }
        let rule = ServerRule {
            current: entry.membership.as_ref().map_or(&[][..], |group| &group.servers),
            replicas: entry.membership.as_ref().map_or(&[][..], |group| &group.replicas),
            count: entry.spec.train().map_or(1, |train| train.servers),
            replica_count: entry.spec.train().map_or(0, |train| train.replicas),
            separate: entry.spec.separate_server(),
            grow,
        };
        // Own actors are cut into no shards: every worker is a member.
        let shards = entry.spec.train().map_or(trainers as u32, |train| train.logical_shards);
        group(&candidates, shards, rule)
    }

    /// Whether the servers there are could all stay, and others would join them.
    fn would_only_spread(&self, entry: &JobEntry, wanted: &Grouping) -> bool {
        let Some(current) = entry.membership.as_ref().filter(|_| self.members_are_there(entry)) else { return false };
        wanted.servers.len() > current.servers.len() && wanted.servers.starts_with(&current.servers)
    }

    /// Asks for the checkpoint that a move of the parameters to further servers begins with; whether it is there.
    fn saved_to_spread(&mut self, job: JobId) -> bool {
        let current = self.state.jobs.get(&job).and_then(|entry| entry.membership.as_ref());
        let Some((epoch, lead)) = current.and_then(|group| Some((group.epoch, group.lead()?))) else { return false };
        self.ask_to_save(job, epoch, lead).done
    }

    fn is_current(&self, entry: &JobEntry, wanted: &Grouping) -> bool {
        let Some(current) = &entry.membership else { return false };
        let same = |(member, (worker, block)): (&MemberRecord, &(WorkerId, neap_scheduler::elastic::ShardRange))| {
            member.worker == *worker && member.shards == (block.start, block.end)
        };
        current.servers == wanted.servers
            && current.replicas == wanted.replicas
            && current.members.len() == wanted.members.len()
            && current.members.iter().zip(&wanted.members).all(same)
    }

    fn missing(&self, entry: &JobEntry) -> Vec<WorkerId> {
        let members = entry.membership.iter().flat_map(|group| &group.members);
        members.filter(|member| !self.live.workers.contains_key(&member.worker)).map(|member| member.worker).collect()
    }

    /// Whether everyone in the membership in force is still up, so that there is no hurry to change it.
    fn members_are_there(&self, entry: &JobEntry) -> bool {
        entry.membership.is_some() && self.missing(entry).is_empty()
    }

    /// Before a planned change: whether the state is saved, where the job wants that, or need not be.
    fn saved(&mut self, job: JobId) -> bool {
        let Some(entry) = self.state.jobs.get(&job) else { return true };
        let Some(current) = &entry.membership else { return true };
        let (epoch, Some(lead)) = (current.epoch, current.lead()) else { return true };
        let leaves = |member: &MemberRecord| {
            self.live.retiring.contains(&member.worker)
                || self.state.nodes.get(&member.node).is_some_and(|node| node.notice_until.is_some())
        };
        let serves = |member: &MemberRecord| current.servers.contains(&member.worker);
        let replicates = |member: &MemberRecord| current.replicas.contains(&member.worker);
        // A replica that stays has the state.
        let kept = current.members.iter().any(|member| replicates(member) && !leaves(member));
        let server_leaves = !kept && current.members.iter().any(|member| serves(member) && leaves(member));
        let someone_leaves = current.members.iter().any(leaves);
        if !(server_leaves || someone_leaves && entry.spec.checkpoint.on_notice) {
            return true;
        }
        let leaving: Vec<(WorkerId, NodeId)> =
            current.members.iter().filter(|member| leaves(member)).map(|member| (member.worker, member.node)).collect();
        if entry.spec.train().is_none() {
            return self.vacated(job, epoch, &leaving);
        }
        let saving = self.ask_to_save(job, epoch, lead);
        saving.done || saving.until <= clock::now()
    }

    /// Whether the own actors of the workers that have to go have heard of it and moved, or had their time.
    fn vacated(&mut self, job: JobId, epoch: MembershipEpoch, leaving: &[(WorkerId, NodeId)]) -> bool {
        if leaving.iter().all(|(worker, _)| self.live.vacated.contains(worker)) {
            return true;
        }
        let now = clock::now();
        if let Some(saving) = self.live.saving.get(&job).filter(|saving| saving.epoch == epoch) {
            return saving.until <= now;
        }
        let ends =
            leaving.iter().map(|(_, node)| match self.state.nodes.get(node).and_then(|node| node.notice_until) {
                Some(deadline) => Millis::new(deadline.get().saturating_sub(VACATE_MARGIN.get())),
                None => now + SAVE_WAIT,
            });
        let until = ends.min().unwrap_or(now);
        self.live.saving.insert(job, Saving { epoch, until, done: false });
        self.tell_nodes(job, None);
        until <= now
    }

    /// Asks a job's server for a checkpoint, once a membership; how that stands.
    pub(super) fn ask_to_save(&mut self, job: JobId, epoch: MembershipEpoch, server: WorkerId) -> Saving {
        if self.state.jobs.get(&job).is_some_and(|job| job.spec.train().is_none()) {
            // Own actors save their states when they have something to save.
            return Saving { epoch, until: clock::now(), done: true };
        }
        if let Some(saving) = self.live.saving.get(&job).filter(|saving| saving.epoch == epoch) {
            return *saving;
        }
        let saving = Saving { epoch, until: clock::now() + SAVE_WAIT, done: false };
        self.live.saving.insert(job, saving);
        self.tell_worker(job, server, WorkerCommand::SaveNow { epoch });
        saving
    }

    fn reason_to_regroup(&self, entry: &JobEntry, wanted: &Grouping) -> String {
        let Some(current) = &entry.membership else { return "the workers it starts with are up".to_owned() };
        let missing = self.missing(entry);
        if !missing.is_empty() {
            let missing: Vec<_> = missing.iter().map(ToString::to_string).collect();
            return format!("{} lost", missing.join(", "));
        }
        let leaving: Vec<_> = current
            .members
            .iter()
            .filter(|member| !self.candidates(entry).iter().any(|candidate| candidate.worker == member.worker))
            .map(|member| member.worker.to_string())
            .collect();
        if !leaving.is_empty() {
            return format!("{} has to go", leaving.join(", "));
        }
        let joins = |(worker, _): &(WorkerId, _)| !current.members.iter().any(|member| member.worker == *worker);
        match wanted.members.iter().any(joins) {
            true => "a worker has joined".to_owned(),
            false => format!("shards are dealt by speed: {}", self.paces_text(wanted)),
        }
    }

    /// How long each member takes for a logical shard, in words.
    fn paces_text(&self, wanted: &Grouping) -> String {
        let measured = wanted.members.iter().filter_map(|(worker, _)| Some((worker, self.live.paces.get(worker)?)));
        let told = measured.map(|(worker, &us)| format!("{worker} takes {:.1} ms for one", us as f64 / 1_000.0));
        told.collect::<Vec<_>>().join(", ")
    }

    async fn change_membership(&mut self, job: JobId, wanted: &Grouping, why: String) -> bool {
        let Some(entry) = self.state.jobs.get(&job) else { return true };
        let node_of = |worker: WorkerId| entry.workers.get(&worker).map(|worker| worker.node);
        let member = |&(worker, block): &(WorkerId, neap_scheduler::elastic::ShardRange)| {
            Some(MemberRecord { worker, node: node_of(worker)?, shards: (block.start, block.end) })
        };
        let Some(members) = wanted.members.iter().map(member).collect::<Option<Vec<_>>>() else { return true };
        let stays = entry.leaves_state(members.iter().map(|member| member.worker), &wanted.servers);
        let restore = if stays { None } else { entry.checkpoint.clone() };
        let Some((&server, more_servers)) = wanted.servers.split_first() else { return true };
        let changed = Record::MembershipChanged {
            job,
            epoch: entry.epoch().next(),
            members,
            server,
            more_servers: more_servers.to_vec(),
            replicas: wanted.replicas.clone(),
            restore,
            at: clock::now(),
            why: why.clone(),
        };
        let state = match entry.state {
            JobState::Running => self.job_record(job, JobState::Resizing, why),
            JobState::Pending(_) | JobState::Provisioning => self.job_record(job, JobState::Running, why),
            _ => None,
        };
        if !self.commit_event(std::iter::once(changed).chain(state).collect()).await {
            return false;
        }
        self.live.saving.remove(&job);
        self.live.given_up.remove(&job);
        self.tell_membership(job, None);
        true
    }

    /// Tells the members (or one of them) who carries the job.
    pub(super) fn tell_membership(&self, job: JobId, only: Option<WorkerId>) {
        let Some(membership) = self.membership_message(job) else { return };
        self.tell_nodes(job, only);
        let told = membership.members.iter().map(|member| member.worker);
        for worker in told.filter(|worker| only.is_none_or(|only| only == *worker)).collect::<Vec<_>>() {
            self.tell_worker(job, worker, WorkerCommand::Membership(membership.clone()));
        }
    }

    /// Tells the members of a job of own actors (or one of them) where all of them run, and which of them have to go.
    pub(super) fn tell_nodes(&self, job: JobId, only: Option<WorkerId>) {
        let Some(entry) = self.state.jobs.get(&job).filter(|entry| entry.spec.train().is_none()) else { return };
        let Some(group) = &entry.membership else { return };
        let now = clock::now();
        let leaves_in = |member: &MemberRecord| {
            let notice = self.state.nodes.get(&member.node).and_then(|node| node.notice_until);
            let retired = self.live.retiring.contains(&member.worker).then_some(SAVE_WAIT);
            notice.map(|deadline| deadline.since(now)).or(retired).map(Millis::get)
        };
        let nodes: Vec<WorkerNode> = group
            .members
            .iter()
            .map(|member| WorkerNode { worker: member.worker, node: member.node, leaves_in_ms: leaves_in(member) })
            .collect();
        let told = group.members.iter().map(|member| member.worker);
        for worker in told.filter(|worker| only.is_none_or(|only| only == *worker)) {
            self.tell_worker(job, worker, WorkerCommand::Nodes(nodes.clone()));
        }
    }

    fn membership_message(&self, job: JobId) -> Option<Membership> {
        let entry = self.state.jobs.get(&job)?;
        let current = entry.membership.as_ref()?;
        let all_reduce = entry.spec.train().is_some_and(|train| train.strategy == Strategy::AllReduce);
        // In an all-reduce the workers know best whether one of them has the state: whoever was just taken in may not have it
        // yet.
        let restore = if all_reduce { entry.checkpoint.as_ref() } else { current.restore.as_ref() };
        let addr = |worker: WorkerId| -> Option<SocketAddr> { Some(self.live.workers.get(&worker)?.addr) };
        let member = |member: &MemberRecord| {
            let (shard_start, shard_end) = member.shards;
            Some(Member { worker: member.worker, addr: addr(member.worker)?, shard_start, shard_end })
        };
        Some(Membership {
            epoch: current.epoch,
            members: current.members.iter().map(member).collect::<Option<_>>()?,
            server: current.lead()?,
            servers: current.servers.clone(),
            restore: restore.map(|checkpoint| CheckpointRef { name: checkpoint.uri.clone(), step: checkpoint.step }),
            losses_per_1000_h: self.losses_per_1000_h(entry, &self.running_times()),
            replicas: current.replicas.clone(),
        })
    }
}
