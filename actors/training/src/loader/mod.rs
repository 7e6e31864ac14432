//! The data loader of a worker process: reads the job's data, prepares batches ahead of time, serves other workers.
//!
//! [`JobData`] is the data, read here or asked of other workers; [`Feed`] prepares the batches of one assignment on a
//! thread of its own; [`LoaderActor`] answers workers that cannot read the data themselves.

mod actor;
mod feed;
mod local;
mod remote;

use std::sync::Arc;

use neap_runtime::wire::training::DataSet;

pub use actor::{LoaderActor, LoaderMsg};
pub use feed::{Feed, FeedError, ShardBatch, StepBatch};
pub use local::LocalData;
pub use remote::RemoteData;

use crate::data::{DataError, Normalisation, SampleShape, TargetInfo};
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
    /// Taken over the training data, applied to both.
    pub normalisation: Normalisation,
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

/// A job's data, wherever it is.
pub enum JobData {
    /// Read by this process.
    Local(Arc<LocalData>),
    /// Asked of other workers.
    Remote(Box<RemoteData>),
}

impl JobData {
    /// What everybody has to know.
    pub fn facts(&self) -> &DataFacts {
        match self {
            Self::Local(local) => local.facts(),
            Self::Remote(remote) => remote.facts(),
        }
    }

    /// The samples with these ids. Blocks; not for asynchronous code.
    ///
    /// # Errors
    ///
    /// [`FetchError`] where they cannot be had.
    pub fn batch(&self, set: DataSet, ids: &[u32]) -> Result<Batch, FetchError> {
        match self {
            Self::Local(local) => Ok(local.batch(set, ids)),
            Self::Remote(remote) => remote.batch(set, ids),
        }
    }
}
