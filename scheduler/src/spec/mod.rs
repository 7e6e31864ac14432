//! Job files.

mod job;

pub use job::{
    CheckpointEvery, CheckpointSpec, DataFormat, DataPart, DataSpec, Determinism, JobSpec, OnPreempt, ParamValue,
    ServerPlacement, TrainLength, TrainSpec, WorkerRange,
};
