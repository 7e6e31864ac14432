//! A training state on its way from one worker to another: buffer by buffer, taken up when all of them are there.

use std::collections::BTreeMap;
use std::sync::Arc;

use neap_runtime::BulkBuffer;
use neap_runtime::wire::collective::{EpochEnd, StateMark, StatePart};
use neap_scheduler::model::WorkerId;

use super::payload::{Piece, floats};
use super::replica::Replica;
use crate::job::TrainJob;
use crate::schedule::Schedule;
use crate::state::{EpochSummary, Snapshot, TrainingState};

/// Buffers a state may have: the parameters and what the optimisers keep beside them.
const STATE_BUFFERS_MAX: u32 = 8;

/// A state in the form it travels in.
pub(crate) fn parts_of(replica: &Replica) -> Vec<(StatePart, Piece)> {
    let Snapshot { parameters, moments, optimiser_time, epoch_loss, last_epoch_loss, .. } = replica.state.snapshot();
    let buffers: Vec<_> = std::iter::once(parameters).chain(moments.into_iter().map(Arc::new)).collect();
    let count = buffers.len() as u32;
    let part = |buffer: u32| StatePart {
        mark: replica.mark(),
        buffer,
        buffers: count,
        optimiser_time,
        epoch_loss,
        last_epoch_loss,
        epoch_end: replica.epoch_end().map(|summary| EpochEnd {
            epoch: summary.epoch,
            samples: summary.samples,
            sample_digest: summary.sample_digest,
            train_loss: summary.train_loss,
        }),
    };
    buffers.into_iter().zip(0..).map(|(values, buffer)| (part(buffer), Piece::whole(values))).collect()
}

/// The buffers that have come in.
#[derive(Default)]
pub(crate) struct Incoming {
    buffers: BTreeMap<(WorkerId, u32), (StatePart, BulkBuffer)>,
}

/// A state that does not fit the job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{from} sent a training state of another job or version")]
pub(crate) struct StateError {
    from: WorkerId,
}

impl Incoming {
    /// Keeps a buffer. One of another length than the job's parameters, or beyond what a state has, is dropped.
    pub(crate) fn add(&mut self, from: WorkerId, part: StatePart, payload: BulkBuffer, length: usize) -> bool {
        let fits = payload.len() == length * size_of::<f32>() && part.buffer < part.buffers;
        let fits = fits && part.buffers <= STATE_BUFFERS_MAX;
        if fits {
            self.buffers.insert((from, part.buffer), (part, payload));
        }
        fits
    }

    /// The state that `from` has sent, once it is complete.
    ///
    /// # Errors
    ///
    /// [`StateError`] where its buffers do not belong together, or not to this job.
    pub(crate) fn take(
        &mut self,
        from: WorkerId,
        job: &TrainJob,
        schedule: Schedule,
        length: usize,
    ) -> Result<Option<Replica>, StateError> {
        let Some((first, _)) = self.buffers.get(&(from, 0)) else { return Ok(None) };
        let first = first.clone();
        let whole = (0..first.buffers).all(|buffer| self.buffers.contains_key(&(from, buffer)));
        if !whole {
            return Ok(None);
        }
        let buffers = std::mem::take(&mut self.buffers).into_iter().filter(|((sender, _), _)| *sender == from);
        let (parts, mut payloads): (Vec<_>, Vec<_>) =
            buffers.map(|(_, (part, payload))| (part, floats(&payload).to_vec())).unzip();
        let alike = |part: &StatePart| StatePart { buffer: 0, ..part.clone() } == first;
        let wrong = || StateError { from };
        if !parts.iter().all(alike) {
            return Err(wrong());
        }
        let moments = payloads.split_off(1);
        let snapshot = Snapshot {
            step: first.mark.step,
            parameters: Arc::new(payloads.remove(0)),
            optimiser_time: first.optimiser_time,
            moments,
            epoch_loss: first.epoch_loss,
            last_epoch_loss: first.last_epoch_loss,
            relaxed: None,
        };
        let state = TrainingState::restore(schedule, job.update, length, snapshot).ok_or_else(wrong)?;
        let epoch_end = first.epoch_end.map(|end| EpochSummary {
            epoch: end.epoch,
            samples: end.samples,
            sample_digest: end.sample_digest,
            train_loss: end.train_loss,
        });
        let StateMark { membership, .. } = first.mark;
        Ok(Some(Replica::new(state, membership, epoch_end)))
    }
}
