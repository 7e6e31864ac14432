//! Own actors: what a program of its own runs over the workers of a job, instead of a training.
//!
//! ```text
//! worker w1 (names the main function)             worker w2
//! System ── Host ── main function                 System ── Host
//!             ├──▶ Shell<A>  main/a                          ├──▶ Shell<B>  main/b       started for w1
//!             │      └─ supervises main/a/c ───QUIC─────────▶└──▶ Shell<C>  main/a/c     started for w1
//!             └─ directory: where main/a, main/b, main/a/c run
//! ```
//!
//! Whoever starts an actor supervises it: the host of its worker keeps where it runs, decides whether it is started
//! again after a failure, and where, and answers whoever asks for it. So no directory is needed that everybody depends
//! on: an actor's life depends on its supervisor's anyway. A [`Handle`] names supervisor and child, not a place; it can
//! be sent in messages and finds the actor again after it moved.
//!
//! What holds: an actor's messages are handled one after the other. An actor that fails (panics, gives an error) is
//! started again where it is, with the messages that wait for it; a message that fails it [`POISON_CRASHES`] times is a
//! dead letter. An actor whose worker is lost is started again elsewhere, without the messages that waited there.
//! Whoever is told that a worker is lost cuts its connections to it, and a worker that sees its actors' supervisor cut
//! off ends them: so two incarnations of an actor do not go on side by side, and state is saved under the newest
//! membership only. An actor whose node has to go hears of it and moves, with nothing lost: see `leave`. See
//! `docs/adr/0019-own-actors.md` and `docs/adr/0023-own-actors-leave-in-order.md`.
//!
//! Read in this order: [`actor`] (what one writes), [`handle`] (messages), [`context`] (what an actor can do), `children`
//! with `supervision` and `placement` (pure: what follows from what), `host` (carries it out), `shell` (runs one actor), `leave`.

pub mod actor;
pub mod context;
pub mod handle;
pub mod program;
pub mod snapshot;
pub mod stream;
pub mod workload;

mod address;
mod alone;
mod children;
mod dead_letters;
mod directory;
mod host;
mod leave;
mod node;
mod placement;
mod reach;
mod running;
mod shell;
mod supervision;

pub use actor::{Actor, ChildExit, Fault, Never};
pub use address::Address;
pub use children::Exit;
pub use context::{Context, Spawn, SpawnError};
pub use dead_letters::{DEAD_LETTERS_MAX, DeadLetter};
pub use handle::{ActorError, Handle};
pub use leave::Notice;
pub use node::System;
pub use placement::{NodeFault, Placement};
pub use program::Program;
pub use shell::POISON_CRASHES;
pub use snapshot::{SnapshotError, SnapshotId, SnapshotStore};
pub use stream::{ITEM_BYTES_MAX, ItemSender, Items, STREAM_ITEMS_MAX, StreamError};
pub use supervision::{BACKOFF_FIRST, BACKOFF_MAX, OnFailure, RESTART_WINDOW, RESTARTS_MAX};
