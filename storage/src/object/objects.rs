//! Blocking access to one place in an object store.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::ops::Range;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig,
};
use tokio::runtime::Runtime;

use super::RemoteUri;

/// Requests of one call that are under way at once. With chunks of 8 MiB this bounds what a call holds in memory.
const PARALLEL_MAX: usize = 4;

/// What the names of variables about stores begin with.
const PREFIXES: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];

/// How long is waited for a connection.
const CONNECT_WAIT: Duration = Duration::from_secs(5);

/// How long a store is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For the answer to one request, its body included.
    pub request: Duration,
    /// From the first try of a request; after that it is not repeated.
    pub total: Duration,
    /// How often a request is repeated at most.
    pub retries_max: usize,
}

impl Default for Patience {
    /// A request may take 30 s (8 MiB at 2 Mbit/s), and a store may be away for a minute.
    fn default() -> Self {
        Self { request: Duration::from_secs(30), total: Duration::from_secs(60), retries_max: 10 }
    }
}

/// How stores are reached: the variables that name credentials, region and endpoint, and for how long.
#[derive(Clone)]
pub struct Access {
    /// How long a store is waited for.
    pub patience: Patience,
    variables: Vec<(String, String)>,
}

impl Access {
    /// With what the environment of this process says.
    pub fn from_environment() -> Self {
        let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        Self::with_variables(std::env::vars_os().filter_map(text))
    }

    /// With these variables instead.
    pub fn with_variables(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let ours = |(name, _): &(String, String)| PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        Self { patience: Patience::default(), variables: variables.into_iter().filter(ours).collect() }
    }

    /// With another patience.
    pub fn patient(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    /// The settings among the variables that the builder of a store knows.
    fn settings<K: FromStr>(&self) -> impl Iterator<Item = (K, &str)> {
        self.variables
            .iter()
            .filter_map(|(name, value)| Some((name.to_ascii_lowercase().parse().ok()?, value.as_str())))
    }

    /// Whether an endpoint without TLS is named, as that of a store on one's own network; only then is it spoken to
    /// without.
    fn endpoint_is_plain(&self) -> bool {
        self.variables.iter().any(|(name, value)| name.contains("ENDPOINT") && value.starts_with("http://"))
    }
}

/// Without the values: there are secrets among them.
impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.variables.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Access").field("patience", &self.patience).field("variables", &names).finish()
    }
}

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
        source: object_store::Error,
    },
    /// The store cannot be opened with what is in the environment.
    #[error("the object store {uri} is not set up; check the environment (AWS_REGION, AWS_ENDPOINT_URL and so on)")]
    Setup {
        /// The place.
        uri: String,
        /// What is wrong.
        #[source]
        source: object_store::Error,
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
        source: object_store::Error,
    },
    /// The threads that speak with stores cannot be started.
    #[error("no thread can be started to speak with the object store")]
    NoThread(#[source] io::Error),
}

impl ObjectError {
    /// Whether the same may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Failed { .. } | Self::NoThread(_))
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

/// An object as a listing tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its key below the place.
    pub key: String,
    /// Its size.
    pub bytes: u64,
}

/// A place in an object store. Cheap to clone.
#[derive(Clone)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    shown: String,
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
        let store = build(uri, access).map_err(|source| ObjectError::Setup { uri: uri.to_string(), source })?;
        Ok(Self { store, prefix: Path::from(uri.prefix()), shown: uri.to_string() })
    }

    /// A place in `store`, shown to people as `uri`. For tests that bring a store of their own.
    #[cfg(test)]
    pub(crate) fn over(store: Arc<dyn ObjectStore>, uri: &RemoteUri) -> Self {
        Self { store, prefix: Path::from(uri.prefix()), shown: uri.to_string() }
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
        let listed = blocking(|| self.store.list(Some(&path)).try_collect::<Vec<_>>())?;
        let listed = listed.map_err(|error| self.named("list", under, error))?;
        let info = |meta: object_store::ObjectMeta| {
            let key = meta.location.prefix_match(&self.prefix)?.map(|part| part.as_ref().to_owned());
            Some(ObjectInfo { key: key.collect::<Vec<_>>().join("/"), bytes: meta.size })
        };
        let mut infos: Vec<ObjectInfo> = listed.into_iter().filter_map(info).collect();
        infos.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(infos)
    }

    /// The size of an object.
    ///
    /// # Errors
    ///
    /// [`ObjectError`].
    pub fn size(&self, key: &str) -> Result<u64, ObjectError> {
        let path = self.path(key);
        let meta = blocking(|| self.store.head(&path))?.map_err(|error| self.named("look at", key, error))?;
        Ok(meta.size)
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

    fn full(&self, key: &str) -> String {
        format!("{}/{key}", self.shown)
    }

    fn named(&self, action: &'static str, key: &str, error: object_store::Error) -> ObjectError {
        let key = self.full(key);
        match error {
            object_store::Error::NotFound { .. } => ObjectError::NotFound { key },
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                ObjectError::Denied { key, source: error }
            }
            source => ObjectError::Failed { action, key, source },
        }
    }
}

fn build(uri: &RemoteUri, access: &Access) -> object_store::Result<Arc<dyn ObjectStore>> {
    // TLS to stores comes from the same provider as everywhere else. Somebody may have chosen it already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let patience = access.patience;
    let retry = RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(10),
            base: 2.0,
        },
        max_retries: patience.retries_max,
        retry_timeout: patience.total,
    };
    let client = ClientOptions::new()
        .with_connect_timeout(CONNECT_WAIT.min(patience.request))
        .with_timeout(patience.request)
        .with_allow_http(access.endpoint_is_plain());
    // Only the bucket: the prefix is ours, and stays out of what the store is given.
    let bucket = uri.bucket();
    Ok(match uri.scheme() {
        "gs" => Arc::new(
            access
                .settings()
                .fold(GoogleCloudStorageBuilder::new(), |builder, (key, value)| builder.with_config(key, value))
                .with_bucket_name(bucket)
                .with_client_options(client)
                .with_retry(retry)
                .build()?,
        ),
        "az" => Arc::new(
            access
                .settings()
                .fold(MicrosoftAzureBuilder::new(), |builder, (key, value)| builder.with_config(key, value))
                .with_container_name(bucket)
                .with_client_options(client)
                .with_retry(retry)
                .build()?,
        ),
        _ => Arc::new(
            access
                .settings()
                .fold(AmazonS3Builder::new(), |builder, (key, value)| builder.with_config(key, value))
                .with_bucket_name(bucket)
                .with_client_options(client)
                .with_retry(retry)
                .build()?,
        ),
    })
}

/// Waits for what `call` does on a thread of its own, so that callers may be anything, also a thread of another runtime. The
/// runtime's own thread moves the bytes.
fn blocking<F>(call: impl FnOnce() -> F + Send) -> Result<F::Output, ObjectError>
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
        assert_eq!(one.list("").unwrap(), [ObjectInfo { key: "a/x".to_owned(), bytes: 3 }]);
        assert_eq!(one.get("a/x", 3).unwrap(), "xyz");
        assert_eq!(one.get_range("a/x", 1..9).unwrap(), "yz");
        assert_eq!(one.size("a/x").unwrap(), 3);
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
