//! What trains in this process: actors that other processes reach, and the threads behind them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError};
use std::time::Duration;

use neap_runtime::wire::training::{
    Backend, LOADER_ACTOR, LoaderProtocol, SEGMENT_ACTOR, SERVER_ACTOR, SegmentProtocol, ServerProtocol, Strategy,
    TRAINER_ACTOR, TrainerHello, TrainerProtocol,
};
use neap_runtime::wire::worker::Membership;
use neap_runtime::workload::WorkerContext;
use neap_runtime::{Access, Node, RegisterError, Role};
use neap_scheduler::elastic::ShardRange;
use neap_scheduler::model::WorkerId;
use ractor::{Actor, ActorRef};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::SessionError;
use super::collective::Collective;
use super::follow::{self, ServerAddress};
use crate::collective::{CollectiveEvent, CollectiveThread};
use crate::data::Storage;
use crate::device::ComputeDevice;
use crate::entry::{Entries, EntryError, Guarded};
use crate::init::PartlyFrozen;
use crate::job::TrainJob;
use crate::links::{GRADIENTS_QUEUE_MAX, Outbox, SEGMENT_QUEUE_MAX, SegmentLink, ServerLink, TrainerLink};
use crate::loader::{FetchError, JobData, LoaderActor, LoaderMsg, LoaderSettings, LocalData, RemoteData};
use crate::model::Network;
use crate::reduction::Buffers;
use crate::server::{Keeper, SegmentActor, SegmentMsg, ServerActor, ServerEvent, ServerHandle, ServerMsg, ServerSetup};
use crate::trainer::{Crew, TrainerActor, TrainerEvent, TrainerMsg, TrainerSetup, TrainerThread, compute_alone};

/// Rounds of asking the other workers what the data is; with the pause, about ten seconds.
const DESCRIBE_ROUNDS_MAX: u32 = 50;
const DESCRIBE_PAUSE: Duration = Duration::from_millis(200);

/// Threads that prepare batches: at least two, so that one prepares while the other waits for a disk or a network; and one
/// more for every so many threads that compute (copying and scaling a sample costs a small part of what a model does with it).
const LOADER_THREADS_MIN: u32 = 2;
const COMPUTE_PER_LOADER: u32 = 8;

/// Where data sets lie in the node's cache.
const DATA_CACHE: &str = "data";

/// The actors, and the queues of the threads behind them.
pub(super) struct Actors {
    loader: ActorRef<LoaderMsg>,
    trainer: ActorRef<TrainerMsg>,
    server: ActorRef<ServerMsg>,
    segment: ActorRef<SegmentMsg>,
    trainer_thread: SyncSender<TrainerEvent>,
    server_thread: SyncSender<ServerEvent>,
    /// Taken by the threads once the data is known.
    waiting: Option<(Receiver<TrainerEvent>, Receiver<ServerEvent>)>,
    /// In place of trainer and server, where the job asks for it.
    collective: Option<Collective>,
}

impl Actors {
    /// Starts and registers the actors.
    pub(super) async fn start(node: &Node, job: &TrainJob, outbox: &Outbox) -> Result<Self, SessionError> {
        let (trainer_thread, trainer_events) = TrainerThread::queue();
        let (server_thread, server_events) = ServerHandle::queue();
        let loader = spawn("the data loader", LoaderActor).await?;
        let trainer = spawn("the trainer", TrainerActor { thread: trainer_thread.clone() }).await?;
        let server = ServerActor {
            job: job.id,
            node: node.clone(),
            thread: server_thread.clone(),
            outbox: outbox.clone(),
            coded: job.compression.is_some(),
        };
        let server = spawn("the parameter server", server).await?;
        let segment = SegmentActor { job: job.id, thread: server_thread.clone() };
        let segment = spawn("the parameter server", segment).await?;
        let workers = || Access::workers_of(job.id);
        let failed = |error: RegisterError| SessionError::Start { what: "the job's actors", reason: error.to_string() };
        node.register::<LoaderProtocol, _>(LOADER_ACTOR, loader.clone(), workers()).map_err(failed)?;
        let collective = match job.strategy {
            Strategy::AllReduce => Some(Collective::start(node, job).await?),
            Strategy::ParameterServer => {
                node.register::<TrainerProtocol, _>(TRAINER_ACTOR, trainer.clone(), workers())
                    .and_then(|_| node.register::<ServerProtocol, _>(SERVER_ACTOR, server.clone(), workers()))
                    .and_then(|_| node.register::<SegmentProtocol, _>(SEGMENT_ACTOR, segment.clone(), workers()))
                    .map_err(failed)?;
                None
            }
        };
        let waiting = Some((trainer_events, server_events));
        Ok(Self { loader, trainer, server, segment, trainer_thread, server_thread, waiting, collective })
    }
}

impl Drop for Actors {
    fn drop(&mut self) {
        self.loader.stop(None);
        self.trainer.stop(None);
        self.server.stop(None);
        self.segment.stop(None);
    }
}

pub(super) async fn spawn<A>(what: &'static str, actor: A) -> Result<ActorRef<A::Msg>, SessionError>
where
    A: Actor<Arguments = ()>,
{
    let started = Actor::spawn(None, actor, ()).await;
    started.map(|(actor, _)| actor).map_err(|error| SessionError::Start { what, reason: error.to_string() })
}

/// Everything that trains in this process.
pub(super) struct Engines {
    actors: Actors,
    job: Arc<TrainJob>,
    entries: Entries,
    worker: WorkerId,
    node: Node,
    compute_threads: u32,
    device: ComputeDevice,
    loader: LoaderSettings,
    data: Data,
    /// The server of this process, once the data is known.
    server: Option<ServerHandle>,
    /// The trainer's ways to servers in other processes.
    followers: Vec<JoinHandle<()>>,
    /// The ways from this process's server or replica to the other servers.
    links: Vec<JoinHandle<()>>,
}

/// What the threads are made of.
struct Built {
    crew: Crew,
    keeper: Keeper,
    setup: ServerSetup,
}

fn no_thread(error: std::io::Error) -> SessionError {
    SessionError::Start { what: "a thread", reason: error.to_string() }
}

enum Data {
    Known(Arc<JobData>),
    /// This process cannot read it; another worker will be asked.
    Elsewhere(FetchError),
}

impl Engines {
    /// Opens the device, and reads the data where this process can.
    pub(super) async fn new(
        actors: Actors,
        job: Arc<TrainJob>,
        entries: Entries,
        context: &WorkerContext,
    ) -> Result<Self, SessionError> {
        let backend = job.backend;
        let device = tokio::task::spawn_blocking(move || ComputeDevice::open(backend));
        let device = device.await.map_err(|_| SessionError::Panicked("device"))??;
        tracing::info!(%device, "computes on");
        let reader = job.clone();
        let loader = LoaderSettings {
            steps_ahead: job.train_data.prefetch,
            threads: context.compute_threads.div_ceil(COMPUTE_PER_LOADER).max(LOADER_THREADS_MIN),
        };
        let cache = Some(context.cache.join(DATA_CACHE));
        let storage = Storage { memory_max: job.data_memory, cache, ..Storage::default() };
        let opened = tokio::task::spawn_blocking(move || {
            LocalData::open(&reader.train_data, reader.eval_data.as_ref(), &storage)
        });
        let opened = opened.await.map_err(|_| SessionError::Panicked("data-loader"))?;
        let (data, told) = match opened {
            Ok(local) => {
                let local = Arc::new(local);
                (Data::Known(Arc::new(JobData::local(local.clone(), loader))), Ok(local))
            }
            Err(error) if error.is_local() && job.asks_others_for_data() => {
                let text = error.text();
                tracing::warn!(error = text, "the data is not here; other workers will be asked");
                (Data::Elsewhere(error.into()), Err(text))
            }
            Err(error) => return Err(error.into()),
        };
        // The actor lives as long as this struct.
        let _ = actors.loader.cast(LoaderMsg::Opened(told));
        Ok(Self {
            actors,
            job,
            entries,
            worker: context.worker,
            node: context.node.clone(),
            compute_threads: context.compute_threads,
            device,
            loader,
            data,
            server: None,
            followers: Vec::new(),
            links: Vec::new(),
        })
    }

    /// Takes up what this worker has to do under a membership.
    pub(super) async fn adopt(&mut self, membership: &Membership, outbox: &Outbox) -> Result<(), SessionError> {
        self.forget_ways();
        let data = self.find_data(membership).await?;
        if let Some(events) = self.actors.collective.as_mut().and_then(Collective::take_events) {
            let tried = self.try_out(&data)?;
            outcome(tried).await?;
            self.start_collective(&data, outbox, events)?;
        }
        if let Some(collective) = &mut self.actors.collective {
            return collective.adopt(membership, self.worker, &self.node, &self.job, outbox);
        }
        if let Some((trainer_events, server_events)) = self.actors.waiting.take() {
            let tried = self.try_out(&data)?;
            outcome(tried).await?;
            self.server = Some(self.start_threads(&data, outbox, trainer_events, server_events)?);
        }
        self.take_role(membership, outbox)?;
        let block = membership.member(self.worker).map(|own| ShardRange { start: own.shard_start, end: own.shard_end });
        let Some(block) = block.filter(|block| !block.is_empty()) else {
            return self.tell_trainer(TrainerEvent::Release);
        };
        let hello = TrainerHello {
            membership: membership.epoch,
            worker: self.worker,
            data_digest: data.facts().train_digest,
            device: self.device.model().to_owned(),
        };
        let followed = TrainerMsg::Follow { membership: membership.epoch, servers: membership.servers.clone() };
        // The actor lives as long as this struct.
        let _ = self.actors.trainer.cast(followed);
        let (mut servers, mut remote, mut own) = (Vec::new(), Vec::new(), false);
        for &worker in &membership.servers {
            match (self.address_of(membership, worker), &self.server) {
                (None, Some(server)) if worker == self.worker => {
                    servers.push(ServerLink::Local(server.clone()));
                    own = true;
                }
                (Some(address), _) => {
                    let (gradients, queue) = mpsc::channel(GRADIENTS_QUEUE_MAX);
                    servers.push(ServerLink::Remote(gradients));
                    remote.push((address, queue));
                }
                (None, _) => return self.tell_trainer(TrainerEvent::Release),
            }
        }
        self.tell_trainer(TrainerEvent::Assign { membership: membership.epoch, block, servers })?;
        for (address, queue) in remote {
            let follow = follow::follow(self.node.clone(), address, hello.clone(), queue, outbox.clone());
            self.followers.push(tokio::spawn(follow));
        }
        match own {
            true => {
                let link = TrainerLink::Local(self.actors.trainer_thread.clone());
                self.tell_server(ServerEvent::Attach { hello, link })
            }
            false => Ok(()),
        }
    }

    /// Serves where the membership says so, with a way to the other servers: to all of them and to the replica for the first,
    /// to the first for the others.
    fn take_role(&mut self, membership: &Membership, outbox: &Outbox) -> Result<(), SessionError> {
        let Some(place) = membership.segment_of(self.worker) else { return self.replicate(membership, outbox) };
        let (others, replicas) = match place {
            0 => (&membership.servers[1..], &membership.replicas[..]),
            _ => (&membership.servers[..1], &[][..]),
        };
        let mut links = BTreeMap::new();
        for &worker in others.iter().chain(replicas) {
            let Some(link) = self.link_to(membership, worker, outbox) else {
                // Without all of its servers nothing is served: a step would be made in part.
                return self.tell_server(ServerEvent::Retire);
            };
            links.insert(worker, link);
        }
        self.tell_server(ServerEvent::Serve { membership: membership.clone(), place, links })
    }

    /// Holds a replica of the server's state where the membership says so.
    fn replicate(&mut self, membership: &Membership, outbox: &Outbox) -> Result<(), SessionError> {
        let replicates = membership.replicas.contains(&self.worker);
        let link = if replicates { self.link_to(membership, membership.server, outbox) } else { None };
        self.tell_server(match link {
            Some(link) => ServerEvent::Replicate { membership: membership.clone(), link },
            None => ServerEvent::Retire,
        })
    }

    /// A new way from this process's server or replica to another one.
    fn link_to(&mut self, membership: &Membership, worker: WorkerId, outbox: &Outbox) -> Option<SegmentLink> {
        let Some(address) = self.address_of(membership, worker) else {
            tracing::error!(server = %worker, "a parameter server or replica that is no member");
            return None;
        };
        let (messages, queue) = mpsc::channel(SEGMENT_QUEUE_MAX);
        let link = follow::link(self.node.clone(), address, membership.epoch, queue, outbox.clone());
        self.links.push(tokio::spawn(link));
        Some(SegmentLink(messages))
    }

    /// Where another member of the membership is.
    fn address_of(&self, membership: &Membership, worker: WorkerId) -> Option<ServerAddress> {
        let member = membership.member(worker).filter(|member| member.worker != self.worker)?;
        let role = Role::Worker { job: self.job.id, worker };
        Some(ServerAddress { worker, role, addr: member.addr })
    }

    /// Nobody is reached any more under the membership that ends.
    fn forget_ways(&mut self) {
        self.followers.drain(..).chain(self.links.drain(..)).for_each(|way| way.abort());
        self.actors.collective.iter_mut().for_each(Collective::disconnect);
    }

    /// Whether every worker needs every other one.
    pub(super) fn all_exchange(&self) -> bool {
        self.actors.collective.is_some()
    }

    /// Saves the state where this worker serves.
    pub(super) fn save(&self) -> Result<(), SessionError> {
        if let Some(collective) = &self.actors.collective {
            return collective.save();
        }
        match self.actors.waiting {
            Some(_) => Ok(()),
            None => self.tell_server(ServerEvent::Save),
        }
    }

    /// Ends the work; returns when what was begun is finished.
    pub(super) async fn stop(&mut self, save: bool) -> Result<(), SessionError> {
        self.followers.drain(..).for_each(|follower| follower.abort());
        if let Some(collective) = &mut self.actors.collective {
            return collective.stop(save).await;
        }
        if self.actors.waiting.is_some() {
            return Ok(());
        }
        self.tell_trainer(TrainerEvent::Release)?;
        let (done, finished) = oneshot::channel();
        self.tell_server(ServerEvent::Stop { save, done })?;
        finished.await.map_err(|_| SessionError::Panicked("keeper"))
    }

    async fn find_data(&mut self, membership: &Membership) -> Result<Arc<JobData>, SessionError> {
        let reason = match &self.data {
            Data::Known(data) if data.is_local() => return Ok(data.clone()),
            Data::Known(_) => None,
            Data::Elsewhere(error) => Some(error.text()),
        };
        let mut loaders = Vec::new();
        for member in membership.members.iter().filter(|member| member.worker != self.worker) {
            let role = Role::Worker { job: self.job.id, worker: member.worker };
            match follow::connect(&self.node, member.addr, role).await {
                Ok(peer) => loaders.push(peer.actor::<LoaderProtocol>(LOADER_ACTOR)),
                Err(error) => tracing::debug!(%error, worker = %member.worker, "not reached for data"),
            }
        }
        if let Data::Known(data) = &self.data {
            data.set_loaders(loaders);
            return Ok(data.clone());
        }
        let mut rounds = 0;
        while rounds < DESCRIBE_ROUNDS_MAX {
            // Who is still reading it may take as long as a download takes, and says when it has failed.
            let mut still_reading = false;
            for loader in &loaders {
                match RemoteData::describe(loader).await {
                    Ok(facts) => {
                        let remote = RemoteData::new(facts, Handle::current(), loaders.clone());
                        let data = Arc::new(JobData::remote(remote, self.loader));
                        self.data = Data::Known(data.clone());
                        return Ok(data);
                    }
                    Err(error) => {
                        still_reading |= error.is_still_reading();
                        tracing::debug!(%error, "a worker without the data");
                    }
                }
            }
            rounds += u32::from(!still_reading);
            tokio::time::sleep(DESCRIBE_PAUSE).await;
        }
        Err(FetchError::Unavailable(reason.unwrap_or_default()).into())
    }

    /// Lets the entry compute one sample, away from the threads that serve the network.
    fn try_out(&self, data: &Arc<JobData>) -> Result<TryOut, SessionError> {
        let (entries, job, facts) = (self.entries.clone(), self.job.clone(), data.facts());
        let device = self.device.clone();
        let (shape, target) = (facts.shape, facts.target.clone());
        let (done, tried) = oneshot::channel();
        let try_out = move || {
            compute_alone();
            // Nobody listens any more where the worker is ending.
            let _ = done.send(entries.try_out(&device, &job.entry, shape, &target, &job.params));
        };
        let failed = |error: std::io::Error| SessionError::Start { what: "a thread", reason: error.to_string() };
        std::thread::Builder::new().name("try-out".to_owned()).spawn(try_out).map_err(failed)?;
        Ok(tried)
    }

    fn start_threads(
        &self,
        data: &Arc<JobData>,
        outbox: &Outbox,
        trainer_events: Receiver<TrainerEvent>,
        server_events: Receiver<ServerEvent>,
    ) -> Result<ServerHandle, SessionError> {
        let Built { crew, keeper, setup } = self.build(data, outbox)?;
        let trainer = TrainerSetup {
            worker: self.worker,
            data: data.clone(),
            schedule: setup.schedule,
            compression: self.job.compression,
            buffers: setup.buffers.clone(),
            outbox: outbox.clone(),
        };
        let server = ServerHandle::start(setup, keeper, server_events).map_err(no_thread)?;
        TrainerThread::start(trainer, crew, trainer_events).map_err(no_thread)?;
        Ok(server)
    }

    fn start_collective(
        &self,
        data: &Arc<JobData>,
        outbox: &Outbox,
        events: Receiver<CollectiveEvent>,
    ) -> Result<(), SessionError> {
        let Built { crew, keeper, setup } = self.build(data, outbox)?;
        CollectiveThread::start(self.worker, setup, data.clone(), crew, keeper, events).map_err(no_thread)
    }

    /// What the threads are made of.
    fn build(&self, data: &Arc<JobData>, outbox: &Outbox) -> Result<Built, SessionError> {
        keep_freed_memory();
        let facts = data.facts();
        let schedule = self.job.schedule(facts.train_samples);
        let build = || -> Result<Box<dyn Network>, EntryError> {
            let (entry, outbox) = (&self.job.entry, outbox.clone());
            let network = self.entries.build(&self.device, entry, facts.shape, &facts.target, &self.job.params)?;
            let tell = move |error: EntryError| outbox.fail(error.kind(), error.to_string());
            Ok(Box::new(Guarded::new(network, &self.device, entry, facts.shape, &facts.target, tell)))
        };
        let own = build()?;
        let layout = own.layout().clone();
        let frozen = self.job.init.as_ref().map(|init| init.frozen(&layout)).transpose()?.unwrap_or_default();
        let helpers = match self.device.backend() {
            Backend::Flex => self.compute_threads.min(self.job.logical_shards).saturating_sub(1),
            // A card computes one shard with all it has; more threads would only need more of its memory.
            Backend::Wgpu | Backend::Cuda => 0,
        };
        let own = PartlyFrozen::over(own, &frozen);
        let help = |_| build().map(|network| PartlyFrozen::over(network, &frozen));
        let others = (0..helpers).map(help).collect::<Result<Vec<_>, _>>()?;
        let buffers = Buffers::default();
        let crew = Crew::new(own, others, buffers.clone()).map_err(no_thread)?;
        let (job, device) = (self.job.clone(), self.device.clone());
        let keeper = Keeper::start(job, data.clone(), schedule, build()?, device, outbox.clone()).map_err(no_thread)?;
        let setup = ServerSetup {
            job: self.job.clone(),
            schedule,
            layout,
            data_digest: facts.train_digest,
            device: self.device.clone(),
            buffers,
            outbox: outbox.clone(),
        };
        Ok(Built { crew, keeper, setup })
    }

    fn tell_server(&self, event: ServerEvent) -> Result<(), SessionError> {
        tell(&self.actors.server_thread, event, "server")
    }

    fn tell_trainer(&self, event: TrainerEvent) -> Result<(), SessionError> {
        tell(&self.actors.trainer_thread, event, "trainer")
    }
}

/// How an entry's first sample went, once it is computed.
type TryOut = oneshot::Receiver<Result<(), EntryError>>;

async fn outcome(tried: TryOut) -> Result<(), SessionError> {
    tried.await.map_err(|_| SessionError::Panicked("try-out"))??;
    Ok(())
}

impl Drop for Engines {
    fn drop(&mut self) {
        self.forget_ways();
    }
}

/// A step frees and asks for the same few MB again and again. glibc's malloc gives them back to the system each time
/// (its trim threshold starts at 128 KiB), and the page faults that follow cost 10 to 20 % of a small model's step. The
/// threshold adapts to the largest mapped block that was ever freed, twice its size: freeing one just below the limit of
/// 32 MiB for such blocks lifts it to about 62 MiB. The block is never touched, and other allocators do not mind it.
fn keep_freed_memory() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(31 << 20)));
}

pub(super) fn tell<T>(thread: &SyncSender<T>, event: T, name: &'static str) -> Result<(), SessionError> {
    thread.try_send(event).map_err(|error| match error {
        TrySendError::Full(_) => SessionError::Hangs(name),
        TrySendError::Disconnected(_) => SessionError::Panicked(name),
    })
}
