//! Where files may lie: a local path, or a place in an object store (S3, Google Cloud Storage, Azure).
//!
//! [`Location`] is a URI that was read; nothing is opened by it. [`Objects`] opens a place in an object store; its calls block, and may be
//! made from any thread. [`ObjectCache`] keeps copies of whole objects on a node. Credentials, region and endpoint come from the
//! environment ([`Access`]: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT_URL` and so on; `GOOGLE_…`,
//! `AZURE_…`), never from a URI, so that none is ever written to a job file, a journal or a log.
//!
//! A request that fails for a reason that may pass is repeated with growing pauses, as long as [`Patience`] lasts.
//! Not here: what is stored, and in which order.

mod access;
mod cache;
mod download;
mod objects;

pub use access::{Access, Patience};
pub use cache::{CacheError, CachedObject, ObjectCache};
pub use download::DownloadError;
pub use neap_scheduler::model::{Location, RemoteObjects, RemoteUri, UriError};
pub use objects::{Created, ObjectError, ObjectInfo, Objects};
