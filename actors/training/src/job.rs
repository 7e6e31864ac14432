//! The job as the training sees it: the launch data, checked and in the words of the core.

use std::path::PathBuf;

use neap_runtime::wire::training::{self, Backend, Every, Init, Length, Param, Strategy, TrainLaunch};
use neap_scheduler::model::{JobId, Location, Millis};
use neap_scheduler::spec::{CheckpointEvery, Consistency, DataSpec, Locality, ParamValue, TrainLength};

use crate::compress::Compression;
use crate::entry::{Entries, EntryError, Params};
use crate::init::InitWeights;
use crate::schedule::Schedule;
use crate::update::UpdateSettings;

/// Training and evaluation data may each take this part of a worker's memory. The rest is for parameters, gradients and
/// batches.
const DATA_MEMORY_PART: u64 = 4;

/// A training job.
#[derive(Debug, Clone)]
pub(crate) struct TrainJob {
    /// The job.
    pub(crate) id: JobId,
    /// Its name.
    pub(crate) name: String,
    /// Digest of what defines the result.
    pub(crate) spec_hash: String,
    /// What computes.
    pub(crate) backend: Backend,
    /// The entry.
    pub(crate) entry: String,
    /// Its settings, complete.
    pub(crate) params: Params,
    /// What they say about steps.
    pub(crate) update: UpdateSettings,
    /// The training data.
    pub(crate) train_data: DataSpec,
    /// The evaluation data.
    pub(crate) eval_data: Option<DataSpec>,
    /// Seed of the initial parameters.
    pub(crate) seed: u64,
    /// The weights it begins with.
    pub(crate) init: Option<InitWeights>,
    /// Samples a step.
    pub(crate) global_batch: u32,
    /// Parts a step is cut into.
    pub(crate) logical_shards: u32,
    /// Samples of a part that are computed at once, at most.
    pub(crate) micro_batch: u32,
    /// When workers wait for each other.
    pub(crate) consistency: Consistency,
    /// When it ends.
    pub(crate) length: TrainLength,
    /// How gradients become a step.
    pub(crate) strategy: Strategy,
    /// Whether the result must be bit-identical whatever the workers.
    pub(crate) strict: bool,
    /// How gradients are made smaller on their way to a server in another process.
    pub(crate) compression: Option<Compression>,
    /// Where checkpoints go.
    pub(crate) checkpoint_place: Location,
    /// How often.
    pub(crate) checkpoint_every: CheckpointEvery,
    /// How many are kept.
    pub(crate) checkpoint_keep: usize,
    /// Whether another worker follows the parameter server's state.
    pub(crate) has_replicas: bool,
    /// Where the model and its card go.
    pub(crate) model_folder: PathBuf,
    /// Bytes of memory that one data set may take; larger ones lie on disk.
    pub(crate) data_memory: u64,
}

impl TrainJob {
    /// The job of a launch.
    ///
    /// # Errors
    ///
    /// [`EntryError`] where the entry does not exist or does not take its settings.
    pub(crate) fn new(launch: TrainLaunch, entries: &Entries) -> Result<Self, EntryError> {
        let given = launch.params.into_iter().map(|(name, value)| (name, param(value))).collect();
        let params = entries.params(&launch.entry, &given)?;
        let positive = |name: &str, value: u32| match value {
            0 => Err(EntryError::Param { name: name.to_owned(), fault: "must be at least 1".to_owned() }),
            _ => Ok(value),
        };
        let update = params.update()?;
        if launch.init.as_ref().is_some_and(|init| !init.freeze.is_empty()) && update.optimiser.weight_decay() != 0.0 {
            let fault =
                "pulls every tensor towards 0, also those that `train.init.freeze` keeps; set it to 0".to_owned();
            return Err(EntryError::Param { name: "weight_decay".to_owned(), fault });
        }
        Ok(Self {
            id: launch.job,
            name: launch.job_name,
            spec_hash: launch.spec_hash,
            update,
            params,
            backend: launch.backend,
            entry: launch.entry,
            train_data: launch.train_data.into(),
            eval_data: launch.eval_data.map(DataSpec::from),
            seed: launch.seed,
            init: launch.init.map(init_weights),
            global_batch: positive("global_batch", launch.global_batch)?,
            logical_shards: positive("logical_shards", launch.logical_shards)?,
            micro_batch: positive("micro_batch", launch.micro_batch.unwrap_or(launch.global_batch))?,
            consistency: match launch.consistency {
                training::Consistency::Sync => Consistency::Sync,
                training::Consistency::Ssp(staleness) => Consistency::Ssp { staleness },
                training::Consistency::Async => Consistency::Async,
            },
            length: match launch.length {
                Length::Epochs(epochs) => TrainLength::Epochs(epochs),
                Length::Steps(steps) => TrainLength::Steps(steps),
            },
            strategy: launch.strategy,
            strict: launch.strict,
            compression: launch.compression.map(compression).transpose()?,
            checkpoint_place: checkpoint_place(&launch.checkpoint_folder)?,
            checkpoint_every: match launch.checkpoint_every {
                Every::Auto => CheckpointEvery::Auto,
                Every::Epochs(epochs) => CheckpointEvery::Epochs(epochs),
                Every::Steps(steps) => CheckpointEvery::Steps(steps),
                Every::Millis(time) => CheckpointEvery::Time(Millis::new(time)),
                Every::Never => CheckpointEvery::Never,
            },
            checkpoint_keep: launch.checkpoint_keep as usize,
            has_replicas: launch.replicas > 0,
            model_folder: launch.model_folder.into(),
            data_memory: (launch.memory_mib << 20) / DATA_MEMORY_PART,
        })
    }

    /// Whether a worker that cannot read the data asks the others for it.
    pub(crate) fn asks_others_for_data(&self) -> bool {
        [Some(&self.train_data), self.eval_data.as_ref()]
            .into_iter()
            .flatten()
            .all(|data| data.locality != Locality::Require)
    }

    /// The order of its work over this much training data.
    pub(crate) fn schedule(&self, samples: u32) -> Schedule {
        Schedule {
            samples,
            global_batch: self.global_batch,
            logical_shards: self.logical_shards,
            micro_batch: self.micro_batch,
            order: self.train_data.order,
            length: self.length,
        }
    }

    /// Whether a checkpoint is due after `step` steps as far as steps and epochs decide it; `epoch` where the last of them
    /// ended one.
    pub(crate) fn checkpoint_due(&self, step: u64, epoch: Option<u32>) -> bool {
        match self.checkpoint_every {
            CheckpointEvery::Auto => epoch.is_some(),
            CheckpointEvery::Epochs(every) => epoch.is_some_and(|epoch| (epoch + 1).is_multiple_of(every.max(1))),
            CheckpointEvery::Steps(every) => step.is_multiple_of(every.max(1)),
            CheckpointEvery::Time(_) | CheckpointEvery::Never => false,
        }
    }
}

fn compression(compression: training::Compression) -> Result<Compression, EntryError> {
    match compression {
        training::Compression::Bf16 => Ok(Compression::Bf16),
        training::Compression::TopK { share } if share > 0.0 && share <= 1.0 => Ok(Compression::TopK { share }),
        training::Compression::TopK { share } => {
            let fault = format!("must be above 0 and at most 1, not {share}");
            Err(EntryError::Param { name: "topk_share".to_owned(), fault })
        }
    }
}

fn init_weights(init: Init) -> InitWeights {
    let Init { path, digest, rename, fresh, ignore, freeze } = init;
    InitWeights { path: path.into(), digest, rename: rename.into_iter().collect(), fresh, ignore, freeze }
}

fn checkpoint_place(text: &str) -> Result<Location, EntryError> {
    Location::parse(text)
        .map_err(|error| EntryError::Param { name: "checkpoint.uri".to_owned(), fault: error.to_string() })
}

fn param(param: Param) -> ParamValue {
    match param {
        Param::Int(value) => ParamValue::Int(value),
        Param::Float(value) => ParamValue::Float(value),
        Param::Text(value) => ParamValue::Text(value),
        Param::Bool(value) => ParamValue::Bool(value),
    }
}
