//! What peers can reach here: registered actors and factories, who may reach them, and how much they may send.
//!
//! ```text
//! Supervisor (one a node, started by Node::start)
//! ├─ supervises actors that peers started through factories: a panic ends that actor only
//! └─ monitors actors registered by this process: their own supervisors restart them
//! ```
//! Either way the end of an actor takes its names out of the registry and tells whoever watches it.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use neap_scheduler::model::{JobId, NodeId};
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, ActorStatus, SupervisionEvent};

use crate::frame::{self, Exit, Exited, Refusal, tag};
use crate::identity::Role;
use crate::inbound::{InChannel, Receiver};
use crate::lock;
use crate::writer::{Urgency, Writer};

/// How many messages one peer may have waiting at one actor unless its registration says otherwise.
pub const MAILBOX_MESSAGES_MAX: u32 = 4096;

/// How many bytes of bulk payloads one peer may have waiting at one actor unless its registration says otherwise. It is
/// also the largest payload that the actor takes in one piece.
pub const MAILBOX_BULK_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// How long a name may be.
pub const NAME_BYTES_MAX: usize = 256;

/// How much one peer may have waiting at one actor. At the limit its senders wait, or get `Busy`; nobody else notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MailboxLimits {
    /// Messages of all kinds; at least 16.
    pub messages: u32,
    /// Bytes of bulk payloads; also the largest payload taken in one piece.
    pub bulk_bytes: u64,
}

impl Default for MailboxLimits {
    fn default() -> Self {
        Self { messages: MAILBOX_MESSAGES_MAX, bulk_bytes: MAILBOX_BULK_BYTES_MAX }
    }
}

/// Who may talk to an actor, watch it, or use a factory, and how much each of them may have waiting. Nobody, unless said
/// otherwise.
#[derive(Clone)]
pub struct Access {
    who: Arc<dyn Fn(&Role) -> bool + Send + Sync>,
    limits: MailboxLimits,
}

impl Access {
    /// Nobody.
    pub fn nobody() -> Self {
        Self::only(|_| false)
    }

    /// Those whom the predicate lets in.
    pub fn only(who: impl Fn(&Role) -> bool + Send + Sync + 'static) -> Self {
        Self { who: Arc::new(who), limits: MailboxLimits::default() }
    }

    /// The control plane.
    pub fn control() -> Self {
        Self::only(|role| *role == Role::Control)
    }

    /// The agent of one node.
    pub fn node(node: NodeId) -> Self {
        Self::only(move |role| *role == Role::Node(node))
    }

    /// The agents of all nodes.
    pub fn nodes() -> Self {
        Self::only(|role| matches!(role, Role::Node(_)))
    }

    /// The workers of one job.
    pub fn workers_of(job: JobId) -> Self {
        Self::only(move |role| matches!(role, Role::Worker { job: theirs, .. } if *theirs == job))
    }

    /// The same, with other limits than the default.
    #[must_use]
    pub fn with_limits(self, limits: MailboxLimits) -> Self {
        Self { limits, ..self }
    }

    /// Whether this role may.
    pub fn allows(&self, role: &Role) -> bool {
        (self.who)(role)
    }

    /// How much each peer may have waiting.
    pub fn limits(&self) -> MailboxLimits {
        self.limits
    }
}

impl Default for Access {
    fn default() -> Self {
        Self::nobody()
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// A name that cannot be registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// Another actor or factory has it.
    #[error("`{0}` is already registered")]
    Taken(String),
    /// Empty, or longer than a name may be.
    #[error("`{0}` is empty or longer than {NAME_BYTES_MAX} bytes")]
    BadName(String),
    /// The actor has ended.
    #[error("the actor to be registered as `{0}` has ended")]
    Ended(String),
}

/// An actor's entry among those that peers can reach. It lasts as long as the actor, whatever becomes of this value.
#[derive(Debug)]
pub struct Registration {
    registry: Weak<Registry>,
    entry: Arc<Entry>,
}

impl Registration {
    /// Ends it before the actor ends: peers get [`crate::RemoteError::NoSuchActor`] from now on.
    pub fn unregister(self) {
        if let Some(registry) = self.registry.upgrade() {
            registry.remove(&self.entry);
        }
        self.entry.end(&Exit::Stopped(Some("no longer registered".to_owned())));
    }

    /// Takes no more senders, and tells those that there are to send no more: they get [`crate::RemoteError::NoSuchActor`].
    /// What they sent before is still handed to the actor.
    pub fn close(&self) {
        let channels = {
            let mut channels = lock(&self.entry.channels);
            channels.closed = true;
            channels.open.clone()
        };
        channels.iter().filter_map(Weak::upgrade).for_each(|channel| channel.close());
    }

    /// After [`Self::close`]: whether all senders know, and everything that they sent is handled.
    pub fn is_quiet(&self) -> bool {
        // A message that waits keeps its credit, and the credit its channel.
        lock(&self.entry.channels).open.iter().all(|channel| channel.strong_count() == 0)
    }
}

/// A registered actor.
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) protocol: &'static str,
    pub(crate) access: Access,
    pub(crate) receiver: Box<dyn Receiver>,
    actor: ActorCell,
    ended: AtomicBool,
    watchers: Mutex<Vec<Watcher>>,
    channels: Mutex<Channels>,
}

/// Over which channels peers send to an actor.
#[derive(Default)]
struct Channels {
    open: Vec<Weak<InChannel>>,
    closed: bool,
}

/// A peer that wants to know when an actor ends.
struct Watcher {
    writer: Arc<Writer>,
    watch: u64,
}

impl Entry {
    /// Whether messages still have somewhere to go.
    pub(crate) fn is_alive(&self) -> bool {
        !self.ended.load(Ordering::Relaxed) && self.actor.get_status() < ActorStatus::Stopping
    }

    /// Notes that a peer can send over this channel; tells it at once where it must not any more.
    pub(crate) fn add_channel(&self, channel: &Arc<InChannel>) {
        let mut channels = lock(&self.channels);
        channels.open.retain(|known| known.strong_count() > 0);
        channels.open.push(Arc::downgrade(channel));
        if channels.closed {
            channel.close();
        }
    }

    /// Adds a watcher; `false` where the actor has ended.
    pub(crate) fn watch(&self, writer: &Arc<Writer>, watch: u64) -> bool {
        let mut watchers = lock(&self.watchers);
        if self.ended.load(Ordering::Relaxed) || self.actor.get_status() == ActorStatus::Stopped {
            return false;
        }
        watchers.retain(|watcher| !watcher.writer.is_shut());
        watchers.push(Watcher { writer: writer.clone(), watch });
        true
    }

    /// Removes a watcher.
    pub(crate) fn unwatch(&self, writer: &Arc<Writer>, watch: u64) {
        lock(&self.watchers).retain(|watcher| watcher.watch != watch || !Arc::ptr_eq(&watcher.writer, writer));
    }

    fn end(&self, exit: &Exit) {
        let watchers = {
            let mut watchers = lock(&self.watchers);
            self.ended.store(true, Ordering::Relaxed);
            std::mem::take(&mut *watchers)
        };
        for watcher in watchers {
            let exited = Exited { watch: watcher.watch, exit: exit.clone() };
            let sent =
                watcher.writer.push_notice(Urgency::Now, |buffer| frame::put_struct(buffer, tag::EXITED, &exited));
            if let Err(error) = sent {
                tracing::error!(%error, actor = self.name, "an exit could not be told");
            }
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("name", &self.name).field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

/// Starts an actor for a peer; gives back the name it is registered under.
pub(crate) type StartActor = dyn Fn(Role, Vec<u8>) -> Starting + Send + Sync;

/// An actor that is being started.
pub(crate) type Starting = Pin<Box<dyn Future<Output = Result<String, Refusal>> + Send>>;

pub(crate) struct Factory {
    pub(crate) protocol: &'static str,
    pub(crate) access: Access,
    pub(crate) start: Box<StartActor>,
}

/// Names and what they lead to.
#[derive(Default)]
pub(crate) struct Registry {
    actors: Mutex<HashMap<String, Arc<Entry>>>,
    factories: Mutex<HashMap<String, Arc<Factory>>>,
    started: AtomicU64,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}

impl Registry {
    pub(crate) fn add(
        self: &Arc<Self>,
        name: &str,
        protocol: &'static str,
        access: Access,
        actor: ActorCell,
        receiver: Box<dyn Receiver>,
    ) -> Result<Registration, RegisterError> {
        check_name(name)?;
        let entry = Arc::new(Entry {
            name: name.to_owned(),
            protocol,
            access,
            receiver,
            actor,
            ended: AtomicBool::new(false),
            watchers: Mutex::default(),
            channels: Mutex::default(),
        });
        let mut actors = lock(&self.actors);
        if actors.get(name).is_some_and(|other| other.is_alive()) {
            return Err(RegisterError::Taken(name.to_owned()));
        }
        actors.insert(name.to_owned(), entry.clone());
        Ok(Registration { registry: Arc::downgrade(self), entry })
    }

    pub(crate) fn add_factory(&self, name: &str, factory: Factory) -> Result<(), RegisterError> {
        check_name(name)?;
        let mut factories = lock(&self.factories);
        if factories.contains_key(name) {
            return Err(RegisterError::Taken(name.to_owned()));
        }
        factories.insert(name.to_owned(), Arc::new(factory));
        Ok(())
    }

    /// The living actor of this name, unless it takes no more senders.
    pub(crate) fn actor(&self, name: &str) -> Option<Arc<Entry>> {
        lock(&self.actors).get(name).filter(|entry| entry.is_alive() && !lock(&entry.channels).closed).cloned()
    }

    pub(crate) fn factory(&self, name: &str) -> Option<Arc<Factory>> {
        lock(&self.factories).get(name).cloned()
    }

    /// A name for the next actor of a factory.
    pub(crate) fn fresh_name(&self, factory: &str) -> String {
        format!("{factory}/{}", self.started.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn remove(&self, entry: &Arc<Entry>) {
        let mut actors = lock(&self.actors);
        if actors.get(&entry.name).is_some_and(|current| Arc::ptr_eq(current, entry)) {
            actors.remove(&entry.name);
        }
    }

    /// An actor has ended: its names are free, and its watchers are told.
    pub(crate) fn exited(&self, actor: ActorId, exit: &Exit) {
        let ended: Vec<_> =
            lock(&self.actors).values().filter(|entry| entry.actor.get_id() == actor).cloned().collect();
        for entry in ended {
            self.remove(&entry);
            entry.end(exit);
        }
    }
}

fn check_name(name: &str) -> Result<(), RegisterError> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(RegisterError::BadName(frame::short(name)));
    }
    Ok(())
}

/// Supervises what peers start, and watches what this process registers.
pub(crate) struct Supervisor;

/// The supervisor has no messages; it lives on supervision events.
pub(crate) enum SupervisorMsg {}

impl Actor for Supervisor {
    type Msg = SupervisorMsg;
    type State = Arc<Registry>;
    type Arguments = Arc<Registry>;

    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        registry: Arc<Registry>,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(registry)
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        registry: &mut Arc<Registry>,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorTerminated(actor, _, reason) => {
                registry.exited(actor.get_id(), &Exit::Stopped(reason.map(|reason| frame::short(&reason))));
            }
            SupervisionEvent::ActorFailed(actor, error) => {
                tracing::warn!(actor = %actor.get_id(), %error, "a registered actor failed");
                registry.exited(actor.get_id(), &Exit::Failed(frame::short(&error.to_string())));
            }
            _ => {}
        }
        Ok(())
    }
}
