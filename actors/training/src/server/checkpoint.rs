//! The training state as a checkpoint, and back.

use std::sync::Arc;

use neap_scheduler::model::{Location, MembershipEpoch};
use neap_storage::checkpoint::{CheckpointError, CheckpointStore, Meta, Published};
use serde::{Deserialize, Serialize};

use super::keeper::chain;
use crate::init::InitError;
use crate::job::TrainJob;
use crate::schedule::Schedule;
use crate::state::{RelaxedPosition, Snapshot};

const PARAMETERS: &str = "parameters";
const MOMENTS: [&str; 2] = ["moment-1", "moment-2"];

/// What the state has beyond its buffers. Floats as their bits: what is read back is what was written.
#[derive(Serialize, Deserialize)]
struct Extra {
    /// What the state belongs to; another job file makes it useless.
    spec_hash: String,
    optimiser_time: u64,
    epoch_loss_bits: u64,
    last_epoch_loss_bits: u64,
    /// The random generators' state: initial parameters and sample orders are functions of these and of the epoch.
    seed: u64,
    shuffle_seed: Option<u64>,
    /// Where the logical shards do not go in step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    relaxed: Option<Relaxed>,
}

/// How far each logical shard has come.
#[derive(Serialize, Deserialize)]
struct Relaxed {
    clocks: Vec<u64>,
    epoch_loss_bits: Vec<u64>,
}

/// Why a checkpoint cannot be gone on from.
#[derive(Debug, thiserror::Error)]
pub(super) enum RestoreError {
    /// It cannot be read, and neither can an earlier one.
    #[error("failed to read a checkpoint")]
    Store(#[from] CheckpointError),
    /// There is no checkpoint to go on from, and the weights to begin with cannot be used.
    #[error(transparent)]
    Init(#[from] InitError),
    /// It is a checkpoint, but not one of this job.
    #[error("checkpoint {name} does not belong to this job: {why}; give the job another `checkpoint.uri`")]
    Foreign {
        /// Its name.
        name: String,
        /// What does not fit.
        why: String,
    },
}

impl RestoreError {
    /// What happened, with all causes.
    pub(super) fn text(&self) -> String {
        chain(self)
    }
}

/// Publishes a snapshot.
pub(super) fn publish(
    store: &CheckpointStore,
    job: &TrainJob,
    schedule: &Schedule,
    membership: MembershipEpoch,
    snapshot: &Snapshot,
) -> Result<Published, CheckpointError> {
    let (epoch, cursor) = schedule.place(snapshot.step);
    let extra = Extra {
        spec_hash: job.spec_hash.clone(),
        optimiser_time: snapshot.optimiser_time,
        epoch_loss_bits: snapshot.epoch_loss.to_bits(),
        last_epoch_loss_bits: snapshot.last_epoch_loss.to_bits(),
        seed: job.seed,
        shuffle_seed: schedule.shuffle_seed,
        relaxed: snapshot.relaxed.as_ref().map(|relaxed| Relaxed {
            clocks: relaxed.clocks.clone(),
            epoch_loss_bits: relaxed.epoch_losses.iter().map(|loss| loss.to_bits()).collect(),
        }),
    };
    let extra = serde_json::to_value(extra).map_err(|error| CheckpointError::BadPart(error.to_string()))?;
    let meta = Meta { membership, step: snapshot.step, epoch, cursor, extra };
    let mut parts: Vec<(&str, &[u8])> = vec![(PARAMETERS, bytemuck::cast_slice(&snapshot.parameters))];
    parts.extend(MOMENTS.iter().zip(&snapshot.moments).map(|(name, moment)| (*name, bytemuck::cast_slice(moment))));
    store.publish(&meta, &parts)
}

/// The store of a checkpoint and its name there: the job's own, or that of the job this one begins with.
pub(super) fn find<'a>(name: &'a str, job: &TrainJob) -> Result<(CheckpointStore, &'a str), RestoreError> {
    let Some((place, name)) = name.rsplit_once('/') else {
        return Ok((CheckpointStore::open_at(&job.checkpoint_place)?, name));
    };
    let place = Location::parse(place)
        .map_err(|error| RestoreError::Foreign { name: name.to_owned(), why: error.to_string() })?;
    Ok((CheckpointStore::open_at(&place)?, name))
}

/// Loads the checkpoint of this name; where it is damaged or gone, the newest one that is whole. `None` where there is
/// none at all: then the job starts over.
pub(super) fn load(store: &CheckpointStore, name: &str, job: &TrainJob) -> Result<Option<Snapshot>, RestoreError> {
    let loaded = match store.load(name) {
        Ok(loaded) => Some(loaded),
        Err(error) => {
            tracing::warn!(%error, "going back to the newest checkpoint that is whole");
            store.load_latest()?
        }
    };
    let Some(mut loaded) = loaded else { return Ok(None) };
    let foreign = |why: &str| RestoreError::Foreign { name: loaded.name.clone(), why: why.to_owned() };
    let extra: Extra =
        serde_json::from_value(loaded.meta.extra.clone()).map_err(|error| foreign(&error.to_string()))?;
    if extra.spec_hash != job.spec_hash {
        return Err(foreign("it was written for another job file"));
    }
    let parameters =
        loaded.parts.get(PARAMETERS).and_then(|bytes| floats(bytes)).ok_or_else(|| foreign("no parameters"))?;
    let moments = MOMENTS.iter().map_while(|name| loaded.parts.remove(*name));
    let moments = moments.map(|bytes| floats(&bytes)).collect::<Option<Vec<_>>>();
    Ok(Some(Snapshot {
        step: loaded.meta.step,
        parameters: Arc::new(parameters),
        optimiser_time: extra.optimiser_time,
        moments: moments.unwrap_or_default(),
        epoch_loss: f64::from_bits(extra.epoch_loss_bits),
        last_epoch_loss: f64::from_bits(extra.last_epoch_loss_bits),
        relaxed: extra.relaxed.map(|relaxed| RelaxedPosition {
            clocks: relaxed.clocks,
            epoch_losses: relaxed.epoch_loss_bits.into_iter().map(f64::from_bits).collect(),
        }),
    }))
}

fn floats(bytes: &[u8]) -> Option<Vec<f32>> {
    bytes.len().is_multiple_of(4).then(|| bytemuck::pod_collect_to_vec(bytes))
}
