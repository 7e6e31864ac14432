//! Between the workers of a job whose actors are its user's own, and how such a worker is launched.
//!
//! Two conversations: [`ActorHostProtocol`] between the hosts of two workers (start, stop, failures, where an actor is),
//! [`OwnActorProtocol`] for the messages of own actors, which travel as bytes: only the two actors know their types.

use bytes::Bytes;
use neap_scheduler::model::{MembershipEpoch, WorkerId};
use neap_scheduler::spec::ActorsSpec;
use serde::{Deserialize, Serialize};

use super::training::Param;
use crate::remote::Protocol;

/// The name of the workload of jobs of `kind: actors`.
pub const ACTORS_WORKLOAD: &str = "actors";

/// What a worker of a job of `kind: actors` is started with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActorsLaunch {
    /// The job's name.
    pub job_name: String,
    /// The registered name of its main function.
    pub main: String,
    /// What the main function is given.
    pub params: Vec<(String, Param)>,
    /// Where actors save their states: a folder, or a place in an object store.
    pub snapshot_place: String,
}

impl ActorsLaunch {
    /// The launch of a job.
    pub fn new(actors: &ActorsSpec, job_name: String, snapshot_place: String) -> Self {
        Self {
            job_name,
            main: actors.main.clone(),
            params: actors.params.iter().map(|(name, value)| (name.clone(), Param::from(value))).collect(),
            snapshot_place,
        }
    }
}

/// Host ↔ host. Every worker registers the actor `actor-host` for it.
#[derive(Debug)]
pub struct ActorHostProtocol;

/// The name under which a worker registers the actor of [`ActorHostProtocol`].
pub const ACTOR_HOST_ACTOR: &str = "actor-host";

impl Protocol for ActorHostProtocol {
    const NAME: &'static str = "actor-host";
    type Cast = HostCast;
    type Request = HostCall;
    type Reply = HostReply;
    type BulkHeader = ();
}

/// One incarnation of an actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Incarnation {
    /// The worker that supervises it.
    pub home: WorkerId,
    /// Its number there.
    pub child: u64,
    /// Its how many-th start this is, counted from 1.
    pub incarnation: u32,
}

/// What a host tells another without waiting for an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostCast {
    /// Nobody reads a stream any more.
    CloseStream(u64),
}

/// What a host asks another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostCall {
    /// The membership under which it is asked; another one than the receiver's is refused.
    pub epoch: MembershipEpoch,
    /// The request.
    pub request: HostRequest,
}

/// See [`HostCall`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostRequest {
    /// Start an actor. Its home is the worker that asks.
    Start(StartActor),
    /// End an actor that was started for the worker that asks.
    Stop {
        /// Which.
        of: Incarnation,
        /// How long it may take to handle what waits for it.
        grace_ms: u64,
    },
    /// An actor started for the worker that is asked has failed: what now?
    Failed {
        /// Which.
        of: Incarnation,
        /// Why.
        why: String,
    },
    /// An actor started for the worker that is asked has ended.
    Ended {
        /// Which.
        of: Incarnation,
        /// Why, where it failed.
        failed: Option<String>,
    },
    /// Where does a child of the worker that is asked run? Answered when it runs, has ended, or after a while.
    Locate {
        /// Its number.
        child: u64,
    },
    /// Has a child of the worker that is asked ended? Answered when it has, or after a while.
    AwaitEnd {
        /// Its number.
        child: u64,
    },
    /// The next items of a stream. Answered when there are any.
    NextItems {
        /// The stream.
        stream: u64,
    },
    /// A node has to go: an actor started for the worker that asks is to hear of it. Answered when it has, and has left.
    Leave {
        /// Which.
        of: Incarnation,
        /// Whether it stays where it is.
        stays: bool,
        /// How long the node is still there, in milliseconds.
        left_ms: u64,
    },
    /// An actor started for the worker that is asked has left, to start elsewhere.
    Left {
        /// Which.
        of: Incarnation,
    },
}

/// An actor to be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartActor {
    /// Which incarnation.
    pub of: Incarnation,
    /// Its place in the tree, as in `main/mapper-1`.
    pub path: String,
    /// The registered name of its type.
    pub kind: String,
    /// What it starts with.
    pub args: Bytes,
    /// How many messages of each worker may wait for it.
    pub mailbox: u32,
}

/// The answer to a [`HostCall`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostReply {
    /// Done, or noted.
    Done,
    /// One of the two does not know the other's membership yet, or not any more; this is the receiver's.
    Stale(MembershipEpoch),
    /// It cannot be done, and why.
    Refused(String),
    /// Start again where you are, after so many milliseconds.
    Restart(u64),
    /// End.
    End,
    /// It runs there, as this incarnation.
    At(WorkerId, u32),
    /// Neither up nor ended yet.
    NotYet,
    /// It has ended; with the reason where it failed.
    Gone(Option<String>),
    /// Items of a stream.
    Items {
        /// The next items, encoded.
        items: Vec<Bytes>,
        /// Whether and how the stream ended after them.
        end: Option<StreamEnd>,
    },
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamEnd {
    /// All items were sent.
    Finished,
    /// The actor went away or gave up before.
    Broken,
}

/// Messages of own actors.
#[derive(Debug)]
pub struct OwnActorProtocol;

impl Protocol for OwnActorProtocol {
    const NAME: &'static str = "own-actor";
    type Cast = Bytes;
    type Request = OwnRequest;
    type Reply = OwnReply;
    type BulkHeader = ();
}

/// A message with an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OwnRequest {
    /// One answer.
    Call(Bytes),
    /// Many items, read with [`HostRequest::NextItems`].
    Stream(Bytes),
}

/// The answer to an [`OwnRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OwnReply {
    /// The reply.
    Reply(Bytes),
    /// The stream's number at the actor's host.
    Stream(u64),
    /// The actor cannot handle it; it was laid aside as a dead letter.
    DeadLetter(String),
}
