//! What Neap keeps on disk, and how it survives crashes, full disks and flipped bits.
//!
//! ```text
//! <home>/journal/             the truth, one writer                                        [`journal`], [`record`]
//!   journal.neap              header, then records: length, crc32c, sequence, chained blake3, JSON payload
//!   journal.head              the anchor: a sequence and hash that the journal must still reach
//!   journal.lock              held by the one process that writes
//!   journal.torn.<seq>        bytes of an append that a crash cut short, kept for a look
//! <home>/projection/          an index over the journal, may be deleted at any time         [`projection`]
//!   db/                       sled
//!   projection.bad-<n>/       an index that did not match the journal, kept for a look
//! <checkpoint folder>/        the training state of one job, written by its workers         [`checkpoint`]
//!   checkpoint-e<membership>-s<step>-<digest>/
//!     manifest.json           sizes and hashes of all chunks, what the state is of
//!     <part>.<chunk>          at most 4 MiB each
//!   fence                     the oldest membership epoch that may still publish
//!   fence.lock                held for the moment of a fence or a publish
//!   tmp-e<membership>-…/      a publish under way, or one that a crash cut short
//! s3://bucket/prefix/         the same in an object store: chunks of 8 MiB, and a log in place of the fence
//!   log/<number>              which checkpoints there are, and the fence
//! <model folder>/             a trained model                                               [`model`]
//!   model.safetensors, model.json
//! <artifact folder>/          programs of users, each under the hash of its content          [`artifact`]
//! <node cache>/data/objects/  copies of objects of a store, each under the hash of its content  [`object`]
//! ```
//!
//! Everything here blocks; asynchronous callers use `spawn_blocking`. Only [`object`] has threads of its own.
//! Nothing here decides: what to write, when, and what follows from it is up to the control plane and the workers.
//!
//! Read in this order: [`journal`], [`record`], [`projection`], [`ledger`], [`object`], [`checkpoint`], [`model`],
//! [`artifact`].

#![forbid(unsafe_code)]

pub mod journal;

pub mod record;

pub mod projection;

pub mod ledger;

pub mod object;

pub mod checkpoint;

pub mod model;

pub mod artifact;

mod durable;

pub use artifact::{ArtifactError, ArtifactStore};
pub use checkpoint::{CheckpointError, CheckpointStore};
pub use journal::{Entry, Journal, JournalError, Seq};
pub use ledger::Bill;
pub use object::Location;
pub use projection::{Projection, ProjectionError};
pub use record::{Record, RecordError};
