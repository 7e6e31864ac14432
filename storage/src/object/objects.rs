//! Blocking access to one place in an object store.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use tokio::runtime::Runtime;

use super::RemoteUri;
use super::access::{Access, build};

/// Requests of one call that are under way at once. With chunks of 8 MiB this bounds what a call holds in memory.
const PARALLEL_MAX: usize = 4;

/// Objects that one listing gives; each takes some hundred bytes of memory.
const LISTED_MAX: usize = 200_000;

/// Why a store did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// There is no such object.
    #[error("there is no {key}")]
    NotFound {
        /// Its URI.
        key: String,
    },
    /// The object is larger than what is read at once.
    #[error("{key} has {bytes} bytes, more than the {bytes_max} that are expected there")]
    TooLarge {
        /// Its URI.
        key: String,
        /// Its size.
        bytes: u64,
        /// The most that is read.
        bytes_max: u64,
    },
    /// The store does not let us.
    #[error(
        "{key} may not be read or written with the credentials in the environment; check AWS_ACCESS_KEY_ID, \
         AWS_SECRET_ACCESS_KEY and the rights on the bucket"
    )]
    Denied {
        /// What was asked for.
        key: String,
        /// What the store said.
        #[source]
        source: Box<object_store::Error>,
    },
    /// The store cannot be opened with what is in the environment.
    #[error("the object store {uri} is not set up; check the environment (AWS_REGION, AWS_ENDPOINT_URL and so on)")]
    Setup {
        /// The place.
        uri: String,
        /// What is wrong.
        #[source]
        source: Box<object_store::Error>,
    },
    /// The store failed, or did not answer in time, more often than we were ready to ask.
    #[error("the object store failed to {action} {key}")]
    Failed {
        /// What it was asked to do.
        action: &'static str,
        /// With which object.
        key: String,
        /// What it said last.
        #[source]
        source: Box<object_store::Error>,
    },
    /// The store failed, and the environment holds no credentials for it.
    #[error(
        "the object store failed to {action} {key}, and there are no credentials in the environment; set {variables} \
         for `neap up` (and for the command that says this)"
    )]
    NoCredentials {
        /// What it was asked to do.
        action: &'static str,
        /// With which object.
        key: String,
        /// What to set.
        variables: &'static str,
        /// What it said last.
        #[source]
        source: Box<object_store::Error>,
    },
    /// The object is not the one any more that was looked at.
    #[error("{key} was changed in the object store while it was read; put it back, or run the job anew")]
    Changed {
        /// Its URI.
        key: String,
    },
    /// More objects than are listed.
    #[error("there are more than {objects_max} objects below {key}; name a prefix or a pattern with fewer")]
    TooMany {
        /// The prefix.
        key: String,
        /// The most that are listed.
        objects_max: usize,
    },
    /// The threads that speak with stores cannot be started.
    #[error("no thread can be started to speak with the object store")]
    NoThread(#[source] io::Error),
}

impl ObjectError {
    /// Whether the same may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Failed { .. } | Self::NoCredentials { .. } | Self::NoThread(_))
    }
}

/// What became of a [`Objects::create`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The object is there now.
    New,
    /// There was one of that name; it is as it was.
    AlreadyThere,
}

/// An object as the store tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its key below the place; empty for the place itself.
    pub key: String,
    /// Its size.
    pub bytes: u64,
    /// What the store calls its content, where it says.
    pub etag: Option<String>,
}

/// A place in an object store. Cheap to clone.
#[derive(Clone)]
pub struct Objects {
    pub(super) store: Arc<dyn ObjectStore>,
    prefix: Path,
    shown: String,
    /// The variables that would hold credentials, where none of them is set.
    no_credentials: Option<&'static str>,
}

/// Without the client: it holds secrets.
impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Objects").field(&self.shown).finish()
    }
}

impl Objects {
    /// Opens a place; nothing is asked of the store yet.
    ///
    /// # Errors
    ///
    /// [`ObjectError::Setup`] where the environment does not say what is needed.
    pub fn open(uri: &RemoteUri, access: &Access) -> Result<Self, ObjectError> {
        let store = build(uri, access)
            .map_err(|source| ObjectError::Setup { uri: uri.to_string(), source: Box::new(source) })?;
        let no_credentials = access.no_credentials(uri.scheme());
        Ok(Self { store, prefix: Path::from(uri.prefix()), shown: uri.to_string(), no_credentials })
    }

    /// A place in `store`, shown to people as `uri`. For tests that bring a store of their own.
    #[cfg(test)]
    pub(crate) fn over(store: Arc<dyn ObjectStore>, uri: &RemoteUri) -> Self {
        Self { store, prefix: Path::from(uri.prefix()), shown: uri.to_string(), no_credentials: None }
    }

    /// The place's URI.
    pub fn uri(&self) -> &str {
        &self.shown
    }

    /// All objects whose key begins with the segments `under` (all there are for an empty one), sorted by key.
    ///
    /// # Errors
    ///
    /// [`ObjectError`].
    pub fn list(&self, under: &str) -> Result<Vec<ObjectInfo>, ObjectError> {
        let path = self.path(under);
        let listed = blocking(|| self.store.list(Some(&path)).take(LISTED_MAX + 1).try_collect::<Vec<_>>())?;
        let listed = listed.map_err(|error| self.named("list", under, error))?;
        if listed.len() > LISTED_MAX {
            return Err(ObjectError::TooMany { key: self.full(under), objects_max: LISTED_MAX });
        }
        let info = |meta: object_store::ObjectMeta| {
            let key = meta.location.prefix_match(&self.prefix)?.map(|part| part.as_ref().to_owned());
            Some(ObjectInfo { key: key.collect::<Vec<_>>().join("/"), bytes: meta.size, etag: meta.e_tag })
        };
        let mut infos: Vec<ObjectInfo> = listed.into_iter().filter_map(info).collect();
        infos.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(infos)
    }

    /// An object as it is now; an empty `key` is the place itself.
    ///
    /// # Errors
    ///
    /// [`ObjectError`].
    pub fn look_at(&self, key: &str) -> Result<ObjectInfo, ObjectError> {
        let path = self.path(key);
        let meta = blocking(|| self.store.head(&path))?.map_err(|error| self.named("look at", key, error))?;
        Ok(ObjectInfo { key: key.to_owned(), bytes: meta.size, etag: meta.e_tag })
    }

    /// A whole object of at most `bytes_max`.
    ///
    /// # Errors
    ///
    /// [`ObjectError`].
    pub fn get(&self, key: &str, bytes_max: u64) -> Result<Bytes, ObjectError> {
        blocking(|| self.fetch(key, bytes_max))?
    }

    /// Many whole objects of at most `bytes_max` each, several at once; each is given to `take` with its number, in any
    /// order.
    ///
    /// # Errors
    ///
    /// The first one there is.
    pub fn get_all(
        &self,
        keys: &[String],
        bytes_max: u64,
        mut take: impl FnMut(usize, &[u8]) + Send,
    ) -> Result<(), ObjectError> {
        let all = move || async move {
            let fetches = keys.iter().enumerate().map(|(index, key)| async move {
                let bytes = self.fetch(key, bytes_max).await?;
                Ok::<_, ObjectError>((index, bytes))
            });
            let mut fetched = stream::iter(fetches).buffer_unordered(PARALLEL_MAX);
            while let Some((index, bytes)) = fetched.try_next().await? {
                take(index, &bytes);
            }
            Ok(())
        };
        blocking(all)?
    }

    /// Some of the bytes of an object; fewer where it ends before.
    ///
    /// # Errors
    ///
    /// [`ObjectError`].
    pub fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, ObjectError> {
        let path = self.path(key);
        blocking(|| self.store.get_range(&path, range))?.map_err(|error| self.named("read", key, error))
    }

    /// Writes an object, also over an earlier one.
    ///
    /// # Errors
    ///
    /// [`ObjectError`].
    pub fn put(&self, key: &str, bytes: Bytes) -> Result<(), ObjectError> {
        let path = self.path(key);
        let put = blocking(|| self.store.put(&path, PutPayload::from_bytes(bytes)))?;
        put.map(|_| ()).map_err(|error| self.named("write", key, error))
    }

    /// Writes many objects, several at once. `wrote` hears of each.
    ///
    /// # Errors
    ///
    /// The first one there is; then others may have been written or not.
    pub fn put_all<'a>(
        &self,
        objects: impl Iterator<Item = (String, &'a [u8])> + Send,
        mut wrote: impl FnMut() + Send,
    ) -> Result<(), ObjectError> {
        let all = move || async move {
            // Copied when its turn comes, not before.
            let puts = objects.map(|(key, bytes)| async move {
                let payload = PutPayload::from_bytes(Bytes::copy_from_slice(bytes));
                self.store.put(&self.path(&key), payload).await.map_err(|error| self.named("write", &key, error))
            });
            let mut written = stream::iter(puts).buffer_unordered(PARALLEL_MAX);
            while written.try_next().await?.is_some() {
                wrote();
            }
            Ok(())
        };
        blocking(all)?
    }

    /// Writes an object unless there is one of that name.
    ///
    /// # Errors
    ///
    /// [`ObjectError`]. After [`ObjectError::Failed`] it may be there or not.
    pub fn create(&self, key: &str, bytes: Bytes) -> Result<Created, ObjectError> {
        let path = self.path(key);
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match blocking(|| self.store.put_opts(&path, PutPayload::from_bytes(bytes), options))? {
            Ok(_) => Ok(Created::New),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(Created::AlreadyThere)
            }
            Err(error) => Err(self.named("write", key, error)),
        }
    }

    /// Deletes objects, several at once; those that are not there are as good as deleted.
    ///
    /// # Errors
    ///
    /// The first one there is; then others may have been deleted or not.
    pub fn delete_all(&self, keys: &[String]) -> Result<(), ObjectError> {
        let all = move || async move {
            let deletes = keys.iter().map(|key| async move {
                match self.store.delete(&self.path(key)).await {
                    Err(object_store::Error::NotFound { .. }) => Ok(()),
                    deleted => deleted.map_err(|error| self.named("delete", key, error)),
                }
            });
            stream::iter(deletes).buffer_unordered(PARALLEL_MAX).try_collect::<()>().await
        };
        blocking(all)?
    }

    async fn fetch(&self, key: &str, bytes_max: u64) -> Result<Bytes, ObjectError> {
        let named = |error| self.named("read", key, error);
        let found = self.store.get(&self.path(key)).await.map_err(named)?;
        let bytes = found.meta.size;
        if bytes > bytes_max {
            return Err(ObjectError::TooLarge { key: self.full(key), bytes, bytes_max });
        }
        found.bytes().await.map_err(named)
    }

    fn path(&self, key: &str) -> Path {
        key.split('/')
            .filter(|segment| !segment.is_empty())
            .fold(self.prefix.clone(), |path, segment| path.join(segment))
    }

    /// The path of an object that a listing has named: as the store writes it.
    pub(super) fn listed_path(&self, key: &str) -> Path {
        Path::parse(format!("{}/{key}", self.prefix)).unwrap_or_else(|_| self.path(key))
    }

    /// The URI of an object.
    pub fn full(&self, key: &str) -> String {
        let slash = if key.is_empty() { "" } else { "/" };
        format!("{}{slash}{key}", self.shown)
    }

    pub(super) fn named(&self, action: &'static str, key: &str, error: object_store::Error) -> ObjectError {
        let key = self.full(key);
        match error {
            object_store::Error::NotFound { .. } => ObjectError::NotFound { key },
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                ObjectError::Denied { key, source: Box::new(error) }
            }
            object_store::Error::Precondition { .. } => ObjectError::Changed { key },
            source => match self.no_credentials {
                Some(variables) => ObjectError::NoCredentials { action, key, variables, source: Box::new(source) },
                None => ObjectError::Failed { action, key, source: Box::new(source) },
            },
        }
    }
}

/// Waits for what `call` does on a thread of its own, so that callers may be anything, also a thread of another runtime. The
/// runtime's own thread moves the bytes.
pub(super) fn blocking<F>(call: impl FnOnce() -> F + Send) -> Result<F::Output, ObjectError>
where
    F: Future,
    F::Output: Send,
{
    static RUNTIME: LazyLock<io::Result<Runtime>> = LazyLock::new(|| {
        let builder = &mut tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).thread_name("object-store").enable_all().build()
    });
    let runtime = RUNTIME.as_ref().map_err(|error| ObjectError::NoThread(error.kind().into()))?;
    std::thread::scope(|scope| {
        let waiting = std::thread::Builder::new().name("object-store-call".to_owned());
        let waiting = waiting.spawn_scoped(scope, || runtime.block_on(call())).map_err(ObjectError::NoThread)?;
        waiting.join().map_err(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;
    use crate::object::Location;

    fn place(text: &str) -> RemoteUri {
        match Location::parse(text).unwrap() {
            Location::Remote(uri) => uri,
            Location::Local(path) => panic!("{}", path.display()),
        }
    }

    #[test]
    fn objects_are_kept_below_the_place() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let (one, other) = (place("s3://bucket/run/1"), place("s3://bucket/run/10"));
        let (one, other) = (Objects::over(store.clone(), &one), Objects::over(store, &other));
        one.put("a/x", Bytes::from_static(b"xyz")).unwrap();
        other.put("b", Bytes::from_static(b"other")).unwrap();
        let listed = one.list("").unwrap();
        assert_eq!(listed.iter().map(|info| (info.key.as_str(), info.bytes)).collect::<Vec<_>>(), [("a/x", 3)]);
        assert_eq!(one.look_at("a/x").unwrap(), listed[0]);
        assert_eq!(one.get("a/x", 3).unwrap(), "xyz");
        assert_eq!(one.get_range("a/x", 1..9).unwrap(), "yz");
        assert!(matches!(one.get("a/x", 2), Err(ObjectError::TooLarge { bytes: 3, bytes_max: 2, .. })));
        assert_eq!(one.get("b", 9).unwrap_err().to_string(), "there is no s3://bucket/run/1/b");
        one.delete_all(&["a/x".to_owned(), "gone".to_owned()]).unwrap();
        assert_eq!(one.list("").unwrap(), []);
    }

    #[test]
    fn an_object_is_created_once() {
        let objects = Objects::over(Arc::new(InMemory::new()), &place("s3://bucket"));
        assert_eq!(objects.create("head", Bytes::from_static(b"1")).unwrap(), Created::New);
        assert_eq!(objects.create("head", Bytes::from_static(b"2")).unwrap(), Created::AlreadyThere);
        assert_eq!(objects.get("head", 9).unwrap(), "1");
    }

    #[test]
    fn secrets_are_not_shown() {
        let variables =
            [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "hunter2"), ("AWS_REGION", "x"), ("HOME", "/root")];
        let access = Access::with_variables(variables.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let shown = format!("{access:?} {:?}", Objects::open(&place("s3://bucket/a"), &access).unwrap());
        assert!(shown.contains("AWS_SECRET_ACCESS_KEY") && !shown.contains("HOME"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn calls_may_come_from_a_runtime() {
        let objects = Objects::over(Arc::new(InMemory::new()), &place("s3://bucket"));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { objects.put("k", Bytes::from_static(b"v")).unwrap() });
        assert_eq!(objects.get("k", 1).unwrap(), "v");
    }
}
