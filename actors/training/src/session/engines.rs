//! What trains in this process: actors that other processes reach, and the threads behind them.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError};
use std::time::Duration;

use neap_runtime::wire::training::{
    LOADER_ACTOR, LoaderProtocol, SERVER_ACTOR, ServerProtocol, TRAINER_ACTOR, TrainerHello, TrainerProtocol,
};
use neap_runtime::wire::worker::{FailureKind, Membership};
use neap_runtime::workload::WorkerContext;
use neap_runtime::{Access, Node, Role};
use neap_scheduler::elastic::ShardRange;
use neap_scheduler::model::WorkerId;
use ractor::{Actor, ActorRef};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::SessionError;
use super::follow::{self, ServerAddress};
use crate::entry::{Entries, EntryError, Guarded};
use crate::init::PartlyFrozen;
use crate::job::TrainJob;
use crate::links::{GRADIENTS_QUEUE_MAX, Outbox, ServerLink, TrainerLink};
use crate::loader::{FetchError, JobData, LoaderActor, LoaderMsg, LocalData, RemoteData};
use crate::model::Network;
use crate::reduction::Buffers;
use crate::server::{Keeper, ServerActor, ServerEvent, ServerHandle, ServerMsg, ServerSetup};
use crate::trainer::{Crew, TrainerActor, TrainerEvent, TrainerMsg, TrainerThread, compute_alone};

/// Rounds of asking the other workers what the data is; with the pause, about ten seconds.
const DESCRIBE_ROUNDS_MAX: u32 = 50;
const DESCRIBE_PAUSE: Duration = Duration::from_millis(200);

/// The actors, and the queues of the threads behind them.
pub(super) struct Actors {
    loader: ActorRef<LoaderMsg>,
    trainer: ActorRef<TrainerMsg>,
    server: ActorRef<ServerMsg>,
    trainer_thread: SyncSender<TrainerEvent>,
    server_thread: SyncSender<ServerEvent>,
    /// Taken by the threads once the data is known.
    waiting: Option<(Receiver<TrainerEvent>, Receiver<ServerEvent>)>,
}

impl Actors {
    /// Starts and registers the actors.
    pub(super) async fn start(node: &Node, job: &TrainJob, outbox: &Outbox) -> Result<Self, SessionError> {
        let (trainer_thread, trainer_events) = TrainerThread::queue();
        let (server_thread, server_events) = ServerHandle::queue();
        let loader = spawn("the data loader", LoaderActor).await?;
        let trainer = spawn("the trainer", TrainerActor { thread: trainer_thread.clone() }).await?;
        let server =
            ServerActor { job: job.id, node: node.clone(), thread: server_thread.clone(), outbox: outbox.clone() };
        let server = spawn("the parameter server", server).await?;
        let workers = || Access::workers_of(job.id);
        node.register::<LoaderProtocol, _>(LOADER_ACTOR, loader.clone(), workers())
            .and_then(|_| node.register::<TrainerProtocol, _>(TRAINER_ACTOR, trainer.clone(), workers()))
            .and_then(|_| node.register::<ServerProtocol, _>(SERVER_ACTOR, server.clone(), workers()))
            .map_err(|error| SessionError::Start { what: "the job's actors", reason: error.to_string() })?;
        let waiting = Some((trainer_events, server_events));
        Ok(Self { loader, trainer, server, trainer_thread, server_thread, waiting })
    }
}

impl Drop for Actors {
    fn drop(&mut self) {
        self.loader.stop(None);
        self.trainer.stop(None);
        self.server.stop(None);
    }
}

async fn spawn<A>(what: &'static str, actor: A) -> Result<ActorRef<A::Msg>, SessionError>
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
    data: Data,
    /// The server of this process, once the data is known.
    server: Option<ServerHandle>,
    /// The way to a server in another process.
    follower: Option<JoinHandle<()>>,
}

enum Data {
    Known(Arc<JobData>),
    /// This process cannot read it; another worker will be asked.
    Elsewhere(FetchError),
}

impl Engines {
    /// Reads the data where this process can.
    pub(super) async fn new(
        actors: Actors,
        job: Arc<TrainJob>,
        entries: Entries,
        context: &WorkerContext,
    ) -> Result<Self, SessionError> {
        let reader = job.clone();
        let opened =
            tokio::task::spawn_blocking(move || LocalData::open(&reader.train_data, reader.eval_data.as_ref()));
        let opened = opened.await.map_err(|_| SessionError::Panicked("data-loader"))?;
        let (data, told) = match opened {
            Ok(local) => {
                let local = Arc::new(local);
                (Data::Known(Arc::new(JobData::Local(local.clone()))), Ok(local))
            }
            Err(error) if error.is_local() => {
                tracing::warn!(%error, "the data is not here; other workers will be asked");
                let text = error.to_string();
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
            data,
            server: None,
            follower: None,
        })
    }

    /// Takes up what this worker has to do under a membership.
    pub(super) async fn adopt(&mut self, membership: &Membership, outbox: &Outbox) -> Result<(), SessionError> {
        if let Some(follower) = self.follower.take() {
            follower.abort();
        }
        let data = self.find_data(membership).await?;
        if let Some((trainer_events, server_events)) = self.actors.waiting.take() {
            let tried = self.try_out(&data)?;
            tried.await.map_err(|_| SessionError::Panicked("try-out"))??;
            self.server = Some(self.start_threads(&data, outbox, trainer_events, server_events)?);
        }
        let serves = membership.server == self.worker;
        self.tell_server(match serves {
            true => ServerEvent::Serve(membership.clone()),
            false => ServerEvent::Retire,
        })?;
        let block = membership.member(self.worker).map(|own| ShardRange { start: own.shard_start, end: own.shard_end });
        let Some(block) = block.filter(|block| !block.is_empty()) else {
            return self.tell_trainer(TrainerEvent::Release);
        };
        let hello =
            TrainerHello { membership: membership.epoch, worker: self.worker, data_digest: data.facts().train_digest };
        if let Some(server) = self.server.clone().filter(|_| serves) {
            let server = ServerLink::Local(server);
            self.tell_trainer(TrainerEvent::Assign { membership: membership.epoch, block, server })?;
            let link = TrainerLink::Local(self.actors.trainer_thread.clone());
            return self.tell_server(ServerEvent::Attach { hello, link });
        }
        let Some(server) = membership.member(membership.server) else {
            return self.tell_trainer(TrainerEvent::Release);
        };
        let address = ServerAddress {
            worker: server.worker,
            role: Role::Worker { job: self.job.id, worker: server.worker },
            addr: server.addr,
        };
        let (gradients, queue) = mpsc::channel(GRADIENTS_QUEUE_MAX);
        let followed = TrainerMsg::Follow { membership: membership.epoch, server: server.worker };
        // The actor lives as long as this struct.
        let _ = self.actors.trainer.cast(followed);
        let server = ServerLink::Remote(gradients);
        self.tell_trainer(TrainerEvent::Assign { membership: membership.epoch, block, server })?;
        let follow = follow::follow(self.node.clone(), address, hello, queue, outbox.clone());
        self.follower = Some(tokio::spawn(follow));
        Ok(())
    }

    /// Saves the state where this worker serves.
    pub(super) fn save(&self) -> Result<(), SessionError> {
        match self.actors.waiting {
            Some(_) => Ok(()),
            None => self.tell_server(ServerEvent::Save),
        }
    }

    /// Ends the work; returns when what was begun is finished.
    pub(super) async fn stop(&mut self, save: bool) -> Result<(), SessionError> {
        if let Some(follower) = self.follower.take() {
            follower.abort();
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
            Data::Known(data) if matches!(**data, JobData::Local(_)) => return Ok(data.clone()),
            Data::Known(_) => None,
            Data::Elsewhere(error) => Some(error.to_string()),
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
            if let JobData::Remote(remote) = &**data {
                remote.set_loaders(loaders);
            }
            return Ok(data.clone());
        }
        // Others may still be reading it.
        for _ in 0..DESCRIBE_ROUNDS_MAX {
            for loader in &loaders {
                match RemoteData::describe(loader).await {
                    Ok(facts) => {
                        let remote = RemoteData::new(facts, Handle::current(), loaders.clone());
                        let data = Arc::new(JobData::Remote(Box::new(remote)));
                        self.data = Data::Known(data.clone());
                        return Ok(data);
                    }
                    Err(error) => tracing::debug!(%error, "a worker without the data"),
                }
            }
            tokio::time::sleep(DESCRIBE_PAUSE).await;
        }
        Err(FetchError::Unavailable(reason.unwrap_or_default()).into())
    }

    /// Lets the entry compute one sample, away from the threads that serve the network.
    fn try_out(&self, data: &Arc<JobData>) -> Result<oneshot::Receiver<Result<(), EntryError>>, SessionError> {
        let (entries, job, facts) = (self.entries.clone(), self.job.clone(), data.facts());
        let (shape, target) = (facts.shape, facts.target.clone());
        let (done, tried) = oneshot::channel();
        let try_out = move || {
            compute_alone();
            // Nobody listens any more where the worker is ending.
            let _ = done.send(entries.try_out(&job.entry, shape, &target, &job.params));
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
        keep_freed_memory();
        let facts = data.facts();
        let schedule = self.job.schedule(facts.train_samples);
        let build = || -> Result<Box<dyn Network>, EntryError> {
            let (entry, outbox) = (&self.job.entry, outbox.clone());
            let network = self.entries.build(entry, facts.shape, &facts.target, &self.job.params)?;
            let tell = move |error: EntryError| outbox.fail(FailureKind::User, error.to_string());
            Ok(Box::new(Guarded::new(network, entry, facts.shape, &facts.target, tell)))
        };
        let own = build()?;
        let layout = own.layout().clone();
        let frozen = self.job.init.as_ref().map(|init| init.frozen(&layout)).transpose()?.unwrap_or_default();
        let helpers = self.compute_threads.min(self.job.logical_shards).saturating_sub(1);
        let own = PartlyFrozen::over(own, &frozen);
        let help = |_| build().map(|network| PartlyFrozen::over(network, &frozen));
        let others = (0..helpers).map(help).collect::<Result<Vec<_>, _>>()?;
        let buffers = Buffers::default();
        let failed = |error: std::io::Error| SessionError::Start { what: "a thread", reason: error.to_string() };
        let crew = Crew::new(own, others, buffers.clone()).map_err(failed)?;
        let keeper =
            Keeper::start(self.job.clone(), data.clone(), schedule, build()?, outbox.clone()).map_err(failed)?;
        let setup = ServerSetup {
            job: self.job.clone(),
            schedule,
            layout,
            data_digest: facts.train_digest,
            buffers: buffers.clone(),
            outbox: outbox.clone(),
        };
        let server = ServerHandle::start(setup, keeper, server_events).map_err(failed)?;
        TrainerThread::start(self.worker, data.clone(), schedule, crew, buffers, outbox.clone(), trainer_events)
            .map_err(failed)?;
        Ok(server)
    }

    fn tell_server(&self, event: ServerEvent) -> Result<(), SessionError> {
        tell(&self.actors.server_thread, event, "server")
    }

    fn tell_trainer(&self, event: TrainerEvent) -> Result<(), SessionError> {
        tell(&self.actors.trainer_thread, event, "trainer")
    }
}

impl Drop for Engines {
    fn drop(&mut self) {
        if let Some(follower) = self.follower.take() {
            follower.abort();
        }
    }
}

/// A step frees and asks for the same few MB again and again. glibc's malloc gives them back to the system each time
/// (its trim threshold starts at 128 KiB), and the page faults that follow cost 10 to 20 % of a small model's step. The
/// threshold adapts to the largest mapped block that was ever freed, twice its size: freeing one just below the limit of
/// 32 MiB for such blocks lifts it to about 62 MiB. The block is never touched, and other allocators do not mind it.
fn keep_freed_memory() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(31 << 20)));
}

fn tell<T>(thread: &SyncSender<T>, event: T, name: &'static str) -> Result<(), SessionError> {
    thread.try_send(event).map_err(|error| match error {
        TrySendError::Full(_) => SessionError::Hangs(name),
        TrySendError::Disconnected(_) => SessionError::Panicked(name),
    })
}
