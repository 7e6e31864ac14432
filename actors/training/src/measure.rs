//! How fast this machine trains a job: some of its steps, computed on one thread and thrown away.
//!
//! What is measured is loading and computing; the exchange of parameters and the optimiser are not in it. For a job of a
//! few processors on one machine that is most of it; over a slow network it is the lower bound.

use std::sync::Arc;
use std::time::{Duration, Instant};

use neap_runtime::wire::training::{DataSet, TrainLaunch};
use neap_storage::object::{Access, Patience};

use crate::data::{DataError, Storage, Stores};
use crate::device::{ComputeDevice, DeviceError};
use crate::entry::{Entries, EntryError};
use crate::job::TrainJob;
use crate::loader::LocalData;
use crate::model::{Network, Write};
use crate::schedule::Schedule;
use crate::trainer::compute_alone;

/// Data in an object store are fetched to measure a job up to this size, by somebody who waits for the plan.
const FETCHED_BYTES_MAX: u64 = 64 << 20;

/// How long a store is waited for then.
const STORE_PATIENCE: Patience =
    Patience { request: Duration::from_secs(5), total: Duration::from_secs(5), retries_max: 3 };

/// What a job has to do, and how fast one thread does it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Samples of the whole job, all epochs together.
    pub samples: u64,
    /// Samples a second on one thread.
    pub samples_per_second: f64,
    /// Samples between two checkpoints, where it writes them regularly.
    pub samples_per_checkpoint: Option<u64>,
}

/// Why a job cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// Its data cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Its entry does not take its settings or its data.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// There is nothing to compute it on.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The thread that measures did not end well.
    #[error("the measurement crashed; this is a fault of the entry, or of Neap")]
    Crashed,
}

/// Reads the job's data and computes its first steps, again and again, for about `time`.
///
/// # Errors
///
/// [`MeasureError`].
pub fn measure(launch: TrainLaunch, entries: &Entries, time: Duration) -> Result<Measured, MeasureError> {
    let (job, entries) = (TrainJob::new(launch, entries)?, entries.clone());
    let run = move || {
        compute_alone();
        let device = ComputeDevice::open(job.backend)?;
        let stores = Stores::new(Access::from_environment().patient(STORE_PATIENCE)).with_most(FETCHED_BYTES_MAX);
        let storage = Storage { memory_max: job.data_memory, cache: None, stores: Arc::new(stores) };
        let data = LocalData::open(&job.train_data, None, &storage)?;
        let schedule = job.schedule(data.facts().train_samples);
        let facts = data.facts();
        let mut network = entries.build(&device, &job.entry, facts.shape, &facts.target, &job.params)?;
        let initial = network.layout().initial(job.seed);
        network.load(&initial);
        let samples_per_second = rate(network.as_mut(), &data, &schedule, time)?;
        let per_checkpoint = (0..schedule.steps_total()).find(|&step| checkpoint_after(&job, &schedule, step));
        Ok(Measured {
            samples: schedule.samples_before(schedule.steps_total()),
            samples_per_second,
            samples_per_checkpoint: per_checkpoint.map(|step| schedule.samples_before(step + 1)),
        })
    };
    std::thread::spawn(run).join().map_err(|_| MeasureError::Crashed)?
}

fn checkpoint_after(job: &TrainJob, schedule: &Schedule, step: u64) -> bool {
    let ends_epoch = schedule.place(step + 1).1 == 0;
    job.checkpoint_due(step + 1, ends_epoch.then_some(schedule.place(step).0))
}

/// Samples a second over whole steps; the first one only warms up.
fn rate(network: &mut dyn Network, data: &LocalData, schedule: &Schedule, time: Duration) -> Result<f64, DataError> {
    let mut gradient = vec![0.0; network.layout().len()];
    let order = schedule.order(0);
    let mut step = |cursor: u64| {
        for shard in 0..schedule.logical_shards {
            for piece in schedule.pieces(order.ids(order.shard(cursor, shard))) {
                network.gradient(data.batch(DataSet::Train, piece)?, 1.0, &mut gradient, Write::Replace);
            }
        }
        Ok::<_, DataError>(order.step(cursor).len() as u64)
    };
    step(0)?;
    let (started, mut samples) = (Instant::now(), 0);
    for cursor in (0..schedule.steps_per_epoch()).cycle() {
        samples += step(cursor)?;
        if started.elapsed() >= time {
            break;
        }
    }
    Ok(samples as f64 / started.elapsed().as_secs_f64().max(f64::MIN_POSITIVE))
}

#[cfg(test)]
mod tests {
    use neap_runtime::wire::training::LaunchPlace;
    use neap_scheduler::model::JobId;
    use neap_scheduler::spec::{ParseContext, parse};

    use super::*;

    fn launch(lines: &str) -> TrainLaunch {
        let data = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/data/digits.csv");
        let text = format!(
            "version: 1\nkind: train\ndata: {{train: {{uri: {data}, split: {{rows: 0..100}}, label: label}}}}\n\
             train: {{entry: mlp, epochs: 3, global_batch: 40}}\n{lines}"
        );
        let entries = Entries::builtin().infos();
        let context = ParseContext { base_dir: "/".to_owned(), entries, ..ParseContext::default() };
        let spec = parse(&text, &context).unwrap().spec;
        let place = LaunchPlace {
            init_digest: None,
            job: JobId::new(1),
            job_name: "measured".to_owned(),
            spec_hash: String::new(),
            checkpoint_folder: "/nowhere".to_owned(),
            model_folder: "/nowhere".to_owned(),
        };
        TrainLaunch::new(&spec, spec.train().unwrap(), place)
    }

    #[test]
    fn all_epochs_count_and_checkpoints_are_found() {
        let measured = measure(launch(""), &Entries::builtin(), Duration::ZERO).unwrap();
        assert_eq!((measured.samples, measured.samples_per_checkpoint), (300, Some(100)));
        assert!(measured.samples_per_second > 0.0);
        let none = measure(launch("checkpoint: {every: none}\n"), &Entries::builtin(), Duration::ZERO).unwrap();
        assert_eq!(none.samples_per_checkpoint, None);
        let steps = measure(launch("checkpoint: {every: 2steps}\n"), &Entries::builtin(), Duration::ZERO).unwrap();
        assert_eq!(steps.samples_per_checkpoint, Some(80));
    }
}
