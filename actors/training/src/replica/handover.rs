//! A training state on its way from one worker to another: buffer by buffer, taken up when all of them are there.

use std::collections::BTreeMap;
use std::sync::Arc;

use neap_runtime::BulkBuffer;
use neap_runtime::wire::collective::{EpochEnd, StateMark, StatePart};
use neap_scheduler::model::WorkerId;

use super::Replica;
use crate::collective::{Piece, floats};
use crate::job::TrainJob;
use crate::optimiser::Optimiser;
use crate::schedule::Schedule;
use crate::state::{EpochSummary, Snapshot, TrainingState};

/// Buffers a state may have: the parameters, what the optimisers keep beside them, and the parameters of an earlier step.
const STATE_BUFFERS_MAX: u32 = 8;

/// A state in the form it travels in.
pub(crate) fn parts_of(replica: &Replica) -> Vec<(StatePart, Piece)> {
    let Snapshot { parameters, moments, optimiser_time, epoch_loss, last_epoch_loss, .. } = replica.state.snapshot();
    let earlier = replica.last_epoch().filter(|(_, end)| end.step != replica.state.step());
    let earlier = earlier.map(|(_, end)| end.parameters.clone());
    let state = std::iter::once(parameters).chain(moments.into_iter().map(Arc::new));
    let buffers: Vec<_> = state.chain(earlier).collect();
    let count = buffers.len() as u32;
    let part = |buffer: u32| StatePart {
        mark: replica.mark(),
        buffer,
        buffers: count,
        optimiser_time,
        epoch_loss,
        last_epoch_loss,
        epoch_end: replica.last_epoch().map(|(summary, _)| EpochEnd {
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
        let kept = Optimiser::new(job.update.optimiser, 0).moments().len();
        let earlier = if payloads.len() > 1 + kept { payloads.pop() } else { None };
        let moments = payloads.split_off(1);
        let parameters = Arc::new(payloads.remove(0));
        let snapshot = Snapshot {
            step: first.mark.step,
            parameters: parameters.clone(),
            optimiser_time: first.optimiser_time,
            moments,
            epoch_loss: first.epoch_loss,
            last_epoch_loss: first.last_epoch_loss,
            relaxed: None,
        };
        let state = TrainingState::restore(schedule, job.update, length, snapshot).ok_or_else(wrong)?;
        let last_epoch = first.epoch_end.map(|end| {
            let step = match earlier.is_some() {
                true => (u64::from(end.epoch) + 1).saturating_mul(schedule.steps_per_epoch()),
                false => first.mark.step,
            };
            let EpochEnd { epoch, samples, sample_digest, train_loss } = end;
            let parameters = earlier.map_or(parameters, Arc::new);
            let end = Snapshot { step, parameters, ..state.without_moments() };
            (EpochSummary { epoch, samples, sample_digest, train_loss }, end)
        });
        let StateMark { membership, .. } = first.mark;
        Ok(Some(Replica::new(state, membership, last_epoch)))
    }
}
