//! How stores are reached: what the environment says about them, and for how long they are waited for.

use std::ffi::OsString;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use super::RemoteUri;

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

    /// The variables that would hold credentials for a kind of store, where none of them is set. A machine in a cloud may
    /// have some all the same.
    pub(super) fn no_credentials(&self, scheme: &str) -> Option<&'static str> {
        let (begins, variables) = match scheme {
            "gs" => (&["GOOGLE_"][..], "GOOGLE_SERVICE_ACCOUNT"),
            "az" => (&["AZURE_"][..], "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY"),
            _ => (
                &["AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_", "AWS_CONTAINER_", "AWS_SKIP_SIGNATURE"][..],
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            ),
        };
        let any = self.variables.iter().any(|(name, _)| begins.iter().any(|begin| name.starts_with(begin)));
        (!any).then_some(variables)
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

/// The client of the store that holds a place.
pub(super) fn build(uri: &RemoteUri, access: &Access) -> object_store::Result<Arc<dyn ObjectStore>> {
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
