//! What an actor, or the main function, can do beyond answering messages.

use std::fmt;
use std::time::Duration;

use neap_scheduler::model::{MembershipEpoch, NodeId, WorkerId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::actor::Actor;
use super::address::{Address, encode};
use super::children::{ChildSpec, Parent};
use super::handle::Handle;
use super::host::{HostMsg, StartInfo};
use super::leave::Notice;
use super::node::System;
use super::placement::{NodeFault, Placement};
use super::snapshot::{SNAPSHOT_BYTES_MAX, SnapshotError, SnapshotId};
use super::supervision::OnFailure;

/// Messages of each worker that may wait for an actor unless it is started with another number.
pub const MAILBOX_MESSAGES: u32 = 1024;

/// How long a path in the tree may be.
const PATH_BYTES_MAX: usize = 200;

/// How an actor is started.
#[derive(Debug, Clone)]
pub struct Spawn {
    name: String,
    placement: Placement,
    on_failure: OnFailure,
    mailbox: u32,
}

impl Spawn {
    /// Under a name that no other child of the same parent has: lowercase letters, digits and `-`. It is the name that
    /// logs use and that the actor's saved state is found by.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            placement: Placement::default(),
            on_failure: OnFailure::default(),
            mailbox: MAILBOX_MESSAGES,
        }
    }

    /// On which worker.
    #[must_use]
    pub fn on(self, placement: Placement) -> Self {
        Self { placement, ..self }
    }

    /// What happens when it fails.
    #[must_use]
    pub fn on_failure(self, on_failure: OnFailure) -> Self {
        Self { on_failure, ..self }
    }

    /// How many messages of each worker may wait for it, at least 16. Beyond that senders wait, or are told that it is
    /// busy.
    #[must_use]
    pub fn mailbox(self, messages: u32) -> Self {
        Self { mailbox: messages.max(16), ..self }
    }
}

/// Why an actor was not started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpawnError {
    /// Not a name.
    #[error("`{0}` is no name of an actor: use lowercase letters, digits and `-`, and fewer levels if it is long")]
    BadName(String),
    /// Another child has it.
    #[error("there is a child `{0}` already")]
    NameTaken(String),
    /// No worker to start it on.
    #[error("there is no worker to start `{0}` on")]
    NoWorker(String),
    /// The node that was named carries no worker that can run it.
    #[error("`{name}` cannot be started on {node}: {fault}")]
    Node {
        /// The actor's name.
        name: String,
        /// The node.
        node: NodeId,
        /// Why not.
        fault: NodeFault,
    },
    /// Its worker has as many actors as it may.
    #[error("this worker supervises {0} actors, as many as it may")]
    TooMany(usize),
    /// The arguments are too large or cannot be encoded.
    #[error("the arguments of `{name}` cannot be sent: {why}")]
    Args {
        /// The name.
        name: String,
        /// Why.
        why: String,
    },
    /// It did not start.
    #[error("`{name}` did not start: {why}")]
    Failed {
        /// The name.
        name: String,
        /// Why.
        why: String,
    },
    /// The process is ending.
    #[error("this worker is ending")]
    Ending,
}

/// What an actor or the main function can do. Everything it starts is its child: it ends with it.
pub struct Context {
    pub(super) system: System,
    pub(super) path: String,
    pub(super) me: Parent,
    pub(super) address: Option<Address>,
    /// The membership under which this incarnation began. Whoever takes its place begins under a later one, and from then on
    /// nothing is saved under this one.
    pub(super) epoch: MembershipEpoch,
    /// The number of the last state saved.
    pub(super) saved: u64,
    pub(super) stopping: bool,
}

impl Context {
    /// This actor's place in the tree, as in `main/reducer-1`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The worker it runs on.
    pub fn worker(&self) -> WorkerId {
        self.system.worker()
    }

    /// The workers of the job, this one among them. They come and go: after a while it may be others.
    pub fn workers(&self) -> Vec<WorkerId> {
        self.system.workers()
    }

    /// The node it runs on; `None` where that was not told.
    pub fn node(&self) -> Option<NodeId> {
        self.system.node_of(self.worker())
    }

    /// The nodes that the job's workers run on, in the order of the workers.
    pub fn nodes(&self) -> Vec<NodeId> {
        self.workers().into_iter().filter_map(|worker| self.system.node_of(worker)).collect()
    }

    /// Waits until the node it runs on has to go. For the main function, and for tasks of actors; an actor itself hears of
    /// it by [`Actor::notice`]. The main function is run again on another worker once the [`Notice`] is dropped.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// async fn example(context: Context, (): ()) -> Result<(), Fault> {
    ///     let work = tokio::time::sleep(Duration::from_millis(10));
    ///     tokio::select! {
    ///         () = work => {}
    ///         notice = context.notice() => println!("to be saved within {:?}", notice.left()),
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub async fn notice(&self) -> Notice {
        self.system.notice().await
    }

    /// What this worker's process knows.
    pub fn system(&self) -> &System {
        &self.system
    }

    /// A handle of this actor, to be sent to others; `None` for the main function and for another type.
    pub fn me<A: Actor>(&self) -> Option<Handle<A>> {
        let address = self.address.as_ref().filter(|address| address.kind == A::NAME)?;
        Some(Handle::new(self.system.clone(), address.clone()))
    }

    /// Starts an actor as a child of this one, and waits until it has started.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// async fn example(context: Context, (): ()) -> Result<(), Fault> {
    ///     // Where the scheduler's nodes have the least to do; `Placement::Spread`, `On(worker)` and `Node(node)` are other ways.
    ///     let log = context.spawn::<Log>(Spawn::named("log").on(Placement::Any).mailbox(64), &()).await?;
    ///     let here = context.node().ok_or("a node")?;
    ///     context.spawn::<Log>(Spawn::named("here").on(Placement::Node(here)), &()).await?;
    ///     let nowhere = Spawn::named("nowhere").on(Placement::On("w99".parse()?));
    ///     assert_eq!(context.spawn::<Log>(nowhere, &()).await, Err(SpawnError::NoWorker("nowhere".to_owned())));
    ///     context.stop_child(&log, Duration::from_secs(5)).await;
    ///     assert_eq!(log.ended().await?, Exit::Stopped);
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`SpawnError`].
    pub async fn spawn<A: Actor>(&self, spawn: Spawn, args: &A::Args) -> Result<Handle<A>, SpawnError> {
        let Spawn { name, placement, on_failure, mailbox } = spawn;
        let path = format!("{}/{name}", self.path);
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || !name.bytes().all(is_name) || path.len() > PATH_BYTES_MAX {
            return Err(SpawnError::BadName(name));
        }
        let args = encode(args).map_err(|error| SpawnError::Args { name: name.clone(), why: error.to_string() })?;
        let kind = A::NAME.to_owned();
        let spec = ChildSpec { parent: self.me, name, kind: kind.clone(), placement, on_failure };
        let (reply, answer) = tokio::sync::oneshot::channel();
        let info = StartInfo { path, kind: kind.clone(), args, mailbox };
        self.system.tell_host(HostMsg::Spawn { spec, info, reply });
        let child = answer.await.map_err(|_| SpawnError::Ending)??;
        let address = Address { kind, home: self.system.worker(), child };
        Ok(Handle::new(self.system.clone(), address))
    }

    /// Ends a child: it handles what waits for it, for at most `grace`. Returns when it has ended; at once where the actor
    /// is no child of this one.
    pub async fn stop_child<A: Actor>(&self, child: &Handle<A>, grace: Duration) {
        let address = child.address();
        if address.home != self.system.worker() {
            return;
        }
        let (parent, child) = (self.me, address.child);
        let (reply, ended) = tokio::sync::oneshot::channel();
        self.system.tell_host(HostMsg::StopChild { parent, child, grace, reply });
        // Dropped without an answer, the host is gone and its children with it.
        let _ = ended.await;
    }

    /// Ends this actor once the message at hand is handled. What waits in its mailbox is not handled any more.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// Saves the actor's state. When it returns, a later incarnation gets this state from [`Self::restored`]. Saved as
    /// JSON: fields with defaults can be added later.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// async fn example(mut context: Context, (): ()) -> Result<(), Fault> {
    ///     let runs = context.restored::<u64>().await?.unwrap_or_default() + 1;
    ///     context.save(&runs).await?;
    ///     assert_eq!(context.restored().await?, Some(1));
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Fenced`] where the actor has been started elsewhere.
    pub async fn save<T: Serialize>(&mut self, state: &T) -> Result<(), SnapshotError> {
        let bytes = serde_json::to_vec(state).map_err(SnapshotError::Form)?;
        if bytes.len() > SNAPSHOT_BYTES_MAX {
            return Err(SnapshotError::TooLarge(bytes.len()));
        }
        self.saved += 1;
        let id = SnapshotId { path: self.path.clone(), epoch: self.epoch, number: self.saved };
        let store = self.system.snapshots();
        blocking(move || store.save(&id, &bytes)).await
    }

    /// The state that was last saved at this place in the tree, by whatever incarnation, also of an earlier run of the
    /// main function.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`] where there is one that cannot be read.
    pub async fn restored<T: DeserializeOwned>(&self) -> Result<Option<T>, SnapshotError> {
        let (store, path, epoch) = (self.system.snapshots(), self.path.clone(), self.epoch);
        let bytes = blocking(move || store.load(&path, epoch)).await?;
        bytes.map(|bytes| serde_json::from_slice(&bytes).map_err(SnapshotError::Form)).transpose()
    }
}

/// Runs what waits for a disk on a thread that may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SnapshotError> + Send + 'static,
) -> Result<T, SnapshotError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(SnapshotError::Store(Box::new(error))))
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({} on {})", self.path, self.system.worker())
    }
}
