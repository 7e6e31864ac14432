//! Carrying a plan out. What is rented and what is started is written down first, many at a time: a disk that is waited for
//! once a node would set the pace.

use std::mem::discriminant;

use neap_runtime::Role;
use neap_runtime::codec::{self, CodecError};
use neap_runtime::join::JoinToken;
use neap_runtime::wire::actors::{ACTORS_WORKLOAD, ActorsLaunch};
use neap_runtime::wire::agent::{AgentCommand, StartWorker};
use neap_runtime::wire::training::{LaunchPlace, TRAIN_WORKLOAD, TrainLaunch};
use neap_runtime::workload::{LAUNCH_BYTES_MAX, LAUNCH_VERSION};
use neap_scheduler::model::{
    ContentHash, FailReason, JobId, JobState, Location, Millis, NodeId, NodeState, Offer, WorkerId,
};
use neap_scheduler::policy::{Action, PlacedRole, Plan, RetireReason};
use neap_scheduler::spec::Work;
use neap_storage::record::Record;

use super::Controller;
use crate::clock;
use crate::provider::StartNode;
use crate::state::JobEntry;

/// How long a join token can be used: a node that has not joined by then never will.
const TOKEN_LIFE: Millis = Millis::from_secs(15 * 60);

/// Actions that are written down at once: enough that the disk is not waited for, few enough that other messages are not
/// kept waiting for long.
const BATCH_MAX: usize = 256;

impl Controller {
    pub(super) async fn carry_out(&mut self, plan: &Plan) {
        self.live.generation.0 += 1;
        for alike in plan.actions.chunk_by(|one, other| discriminant(one) == discriminant(other)) {
            for batch in alike.chunks(BATCH_MAX) {
                self.carry_out_alike(batch).await;
            }
        }
    }

    /// Carries out actions of one kind.
    async fn carry_out_alike(&mut self, actions: &[Action]) {
        match actions.first() {
            Some(Action::Acquire { .. }) => self.acquire(actions).await,
            Some(Action::Start { .. }) => self.start_workers(actions).await,
            Some(Action::Retire { .. } | Action::Release { .. }) => {
                for action in actions {
                    match action {
                        Action::Retire { job, worker, reason } => self.retire(*job, *worker, *reason),
                        Action::Release { node, reason } => self.release(*node, &reason.to_string()).await,
                        Action::Acquire { .. } | Action::Start { .. } => {}
                    }
                }
            }
            None => {}
        }
    }

    async fn acquire(&mut self, actions: &[Action]) {
        let offers = self.offers();
        let (mut records, mut starts) = (Vec::new(), Vec::new());
        for action in actions {
            let Action::Acquire { job, offer, reason } = action else { continue };
            let Some(offer) = offers.iter().find(|one| one.name == *offer) else { continue };
            let node = self.state.next_node(starts.len() as u64);
            if !self.set_aside(*job, node, offer.price) {
                continue;
            }
            tracing::info!(%node, %job, offer = offer.name, %reason, "renting a node");
            let token = JoinToken::generate(self.parts.authority.fingerprint());
            records.extend(self.intent(node, *job, offer, &token));
            starts.push(self.order(node, offer, token));
        }
        if self.commit_event(records).await {
            starts.into_iter().for_each(|start| self.parts.provider.start(start));
        }
    }

    /// What is written down before a node is rented.
    fn intent(&self, node: NodeId, job: JobId, offer: &Offer, token: &JoinToken) -> [Record; 2] {
        let at = clock::now();
        let client_token = blake3::hash(format!("{}/{node}", self.state.cluster).as_bytes()).to_hex().to_string();
        let requested = Record::NodeRequested {
            node,
            offer: offer.name.clone(),
            size: offer.size,
            market: offer.market,
            price: offer.price,
            for_job: Some(job),
            client_token,
            at,
        };
        let secret_hash = hex::encode(token.secret_hash());
        [requested, Record::JoinTokenMade { node, secret_hash, expires_at: at + TOKEN_LIFE }]
    }

    fn order(&self, node: NodeId, offer: &Offer, token: JoinToken) -> StartNode {
        StartNode {
            node,
            offer: offer.name.clone(),
            size: offer.size,
            market: offer.market,
            token,
            join: self.parts.addresses.join,
            control: self.parts.addresses.control,
        }
    }

    async fn start_workers(&mut self, actions: &[Action]) {
        let (mut records, mut starts) = (Vec::new(), Vec::new());
        for action in actions {
            let &Action::Start { job, node, role, reason } = action else { continue };
            let price = self.state.nodes.get(&node).map(|node| node.price).unwrap_or_default();
            if !self.set_aside(job, node, price) {
                continue;
            }
            let worker = self.state.next_worker(records.len() as u64);
            match self.launch(job, worker) {
                Ok(start) => {
                    tracing::info!(%job, %node, %reason, "starting a worker");
                    let server = role == PlacedRole::Server;
                    records.push(Record::WorkerStarted { job, worker, node, server, at: clock::now() });
                    let artifact = self.state.jobs.get(&job).and_then(|job| job.spec.artifact());
                    starts.push((node, command_for(artifact, start)));
                }
                Err(error) => self.fail_launch(job, &*error).await,
            }
        }
        if self.commit_event(records).await {
            starts.into_iter().for_each(|(node, command)| self.live.tell(node, command));
        }
    }

    async fn fail_launch(&mut self, job: JobId, error: &(dyn std::error::Error + Send + Sync)) {
        let why = format!("its workers cannot be launched: {error}");
        let record = self.job_record(job, JobState::Failed(FailReason::InvalidAtRuntime), why);
        self.commit_event(record.into_iter().collect()).await;
    }

    fn launch(&self, job: JobId, worker: WorkerId) -> Result<StartWorker, Box<dyn std::error::Error + Send + Sync>> {
        let entry = self.state.jobs.get(&job).ok_or("the job is gone")?;
        let version = entry.file.artifact.as_ref().map(|artifact| artifact.launch_version);
        if let Some(version) = version.filter(|version| *version != LAUNCH_VERSION) {
            return Err(format!(
                "its artifact was built with launch version {version} of Neap, and this is version {LAUNCH_VERSION}; build \
                 it again and hand the job in again"
            )
            .into());
        }
        let (workload, args) = self.work_of(entry)?;
        Ok(StartWorker {
            job,
            worker,
            identity: self.parts.authority.issue(Role::Worker { job, worker })?,
            compute_threads: entry.spec.resources.cpus.cores_ceil().max(1),
            workload: workload.to_owned(),
            args,
        })
    }

    /// Which workload does a job's work, and what it is started with.
    fn work_of(&self, entry: &JobEntry) -> Result<(&'static str, Vec<u8>), CodecError> {
        let place = self.checkpoint_place(entry).to_string();
        match &entry.spec.work {
            Work::Train(train) => {
                let place = LaunchPlace {
                    job: entry.id,
                    job_name: entry.name.clone(),
                    spec_hash: entry.spec_hash.clone(),
                    init_digest: entry.init_digest.clone(),
                    checkpoint_folder: place,
                    model_folder: self.parts.home.model(entry.id).to_string_lossy().into_owned(),
                };
                let launch = TrainLaunch::new(&entry.spec, train, place);
                Ok((TRAIN_WORKLOAD, codec::encode::<_, LAUNCH_BYTES_MAX>(&launch)?))
            }
            Work::Actors(actors) => {
                let launch = ActorsLaunch::new(actors, entry.name.clone(), place);
                Ok((ACTORS_WORKLOAD, codec::encode::<_, LAUNCH_BYTES_MAX>(&launch)?))
            }
        }
    }

    /// Where a job's checkpoints go. In a place that the job names it has a folder of its own, so that another run of the
    /// same file neither fences this one off nor mistakes its checkpoints for its own.
    pub(crate) fn checkpoint_place(&self, job: &JobEntry) -> Location {
        match &job.spec.checkpoint.place {
            Some(place) => place.join(&job.id.to_string()),
            None => Location::Local(self.parts.home.checkpoints(job.id)),
        }
    }

    fn retire(&mut self, job: JobId, worker: WorkerId, reason: RetireReason) {
        if matches!(reason, RetireReason::Preempted(_) | RetireReason::AwaitsSpot) {
            self.live.giving_up.insert(job, reason.to_string());
        }
        if self.live.retiring.insert(worker) {
            tracing::info!(%job, %worker, %reason, "retiring a worker");
        }
    }

    pub(super) async fn release(&mut self, node: NodeId, why: &str) {
        let record = self.node_record(node, NodeState::Releasing, why);
        if let Some(record) = record
            && self.commit_event(vec![record]).await
        {
            self.parts.provider.end(node);
        }
    }
}

/// Starts a worker from the program that its job brings along, or else from what every node runs.
fn command_for(artifact: Option<ContentHash>, start: StartWorker) -> AgentCommand {
    match artifact {
        Some(artifact) => AgentCommand::StartArtifact { artifact, start },
        None => AgentCommand::StartWorker(start),
    }
}
