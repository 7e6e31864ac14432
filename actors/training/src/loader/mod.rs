//! The data loader of a worker process: reads the job's data, prepares batches ahead of time, serves other workers.
//!
//! [`JobData`] is the data, read here or asked of other workers; [`Feed`] prepares the batches of one assignment on
//! threads of its own; [`LoaderActor`] answers workers that cannot read the data themselves.

mod actor;
mod feed;
mod local;
mod remote;
mod usage;

use std::sync::Arc;

use neap_runtime::RemoteRef;
use neap_runtime::wire::training::{DataSet, LoaderProtocol};

use actor::STILL_READING;
pub use actor::{LoaderActor, LoaderMsg};
pub use feed::{Feed, FeedError, ShardBatch, StepBatch};
pub use local::LocalData;
pub use remote::RemoteData;
pub use usage::{Totals, Usage};

use crate::data::{DataError, Input, SampleShape, TargetInfo};
use crate::model::Batch;

/// What everybody has to know about a job's data.
#[derive(Debug, Clone, PartialEq)]
pub struct DataFacts {
    /// Samples of the training data.
    pub train_samples: u32,
    /// Samples of the evaluation data, where there is any.
    pub eval_samples: Option<u32>,
    /// The shape of a sample.
    pub shape: SampleShape,
    /// What there is to predict.
    pub target: TargetInfo,
    /// What stored values become: fitted on the training data, applied to both.
    pub input: Input,
    /// Digest of the training data.
    pub train_digest: [u8; 32],
    /// Digest of the evaluation data.
    pub eval_digest: Option<[u8; 32]>,
}

/// Why samples could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The data itself is at fault.
    #[error(transparent)]
    Data(#[from] DataError),
    /// No worker that could be reached has them.
    #[error("no worker of the job can read the data; the last one asked said: {0}")]
    Unavailable(String),
}

impl FetchError {
    /// Whether the worker that was asked may have the data later.
    pub fn is_still_reading(&self) -> bool {
        matches!(self, Self::Unavailable(reason) if reason == STILL_READING)
    }

    /// What happened, with all causes.
    pub fn text(&self) -> String {
        match self {
            Self::Data(error) => error.text(),
            Self::Unavailable(_) => self.to_string(),
        }
    }
}

/// How batches are prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoaderSettings {
    /// Steps prepared ahead at most.
    pub steps_ahead: u32,
    /// Threads that prepare them.
    pub threads: u32,
}

/// A job's data, wherever it is.
pub struct JobData {
    source: Source,
    settings: LoaderSettings,
    usage: Usage,
}

enum Source {
    /// Read by this process.
    Local(Arc<LocalData>),
    /// Asked of other workers.
    Remote(RemoteData),
}

impl JobData {
    /// Data that this process has read.
    pub fn local(data: Arc<LocalData>, settings: LoaderSettings) -> Self {
        let usage = Usage::default();
        usage.fetched(data.fetched_bytes());
        Self { source: Source::Local(data), settings, usage }
    }

    /// Data to be had from other workers.
    pub fn remote(data: RemoteData, settings: LoaderSettings) -> Self {
        Self { source: Source::Remote(data), settings, usage: Usage::default() }
    }

    /// Whether this process has read it.
    pub fn is_local(&self) -> bool {
        matches!(self.source, Source::Local(_))
    }

    /// Replaces the workers to ask, where others are asked.
    pub fn set_loaders(&self, loaders: Vec<RemoteRef<LoaderProtocol>>) {
        if let Source::Remote(remote) = &self.source {
            remote.set_loaders(loaders);
        }
    }

    /// What everybody has to know.
    pub fn facts(&self) -> &DataFacts {
        match &self.source {
            Source::Local(local) => local.facts(),
            Source::Remote(remote) => remote.facts(),
        }
    }

    /// How batches are prepared.
    pub fn settings(&self) -> LoaderSettings {
        self.settings
    }

    /// What it cost so far.
    pub fn usage(&self) -> &Usage {
        &self.usage
    }

    /// The samples with these ids. Blocks; not for asynchronous code.
    ///
    /// # Errors
    ///
    /// [`FetchError`] where they cannot be had.
    pub fn batch(&self, set: DataSet, ids: &[u32]) -> Result<Batch, FetchError> {
        match &self.source {
            Source::Local(local) => {
                let batch = local.batch(set, ids)?;
                self.usage.local(ids.len() as u64 * local.stored_bytes(set));
                Ok(batch)
            }
            Source::Remote(remote) => {
                let (batch, bytes) = remote.batch(set, ids)?;
                self.usage.remote(bytes);
                Ok(batch)
            }
        }
    }
}
