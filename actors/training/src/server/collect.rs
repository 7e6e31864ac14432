//! A whole state of the training, collected from all servers for the keeper.
//!
//! It is of the step last committed, and the lead commits no other before it is complete: so it can be asked for again
//! under the next membership. Trainers compute the next step meanwhile.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use neap_runtime::BulkBuffer;
use neap_scheduler::model::{MembershipEpoch, WorkerId};

use super::keeper::KeeperJob;
use crate::segments::Cut;
use crate::state::{EpochSummary, Snapshot};

/// What a state is wanted for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Purpose {
    /// An epoch is complete; with `save` a checkpoint is due too.
    Epoch { summary: EpochSummary, save: bool },
    /// A checkpoint.
    Save,
    /// The training is complete.
    Finish { train_loss: f64 },
}

impl Purpose {
    /// What the keeper has to do with the state.
    pub(crate) fn job(self, membership: MembershipEpoch, snapshot: Snapshot) -> KeeperJob {
        match self {
            Self::Epoch { summary, save } => KeeperJob::Epoch { membership, summary, snapshot, save },
            Self::Save => KeeperJob::Save { membership, snapshot },
            Self::Finish { train_loss } => {
                let snapshot = Snapshot { moments: Vec::new(), ..snapshot };
                KeeperJob::Finish { membership, train_loss, snapshot }
            }
        }
    }
}

/// A state that is being collected.
pub(super) struct Collecting {
    /// The lead's own segment, and what is not cut.
    own: Snapshot,
    purposes: Vec<Purpose>,
    pieces: BTreeMap<WorkerId, BulkBuffer>,
}

impl Collecting {
    /// Begins with the lead's own part.
    pub(super) fn new(own: Snapshot) -> Self {
        Self { own, purposes: Vec::new(), pieces: BTreeMap::new() }
    }

    /// Steps committed in it.
    pub(super) fn step(&self) -> u64 {
        self.own.step
    }

    /// One more use of the state. The same one twice is one.
    pub(super) fn want(&mut self, purpose: Purpose) {
        if !self.purposes.contains(&purpose) {
            self.purposes.push(purpose);
        }
    }

    /// Forgets what has come in, to be asked for again.
    pub(super) fn restart(&mut self) {
        self.pieces.clear();
    }

    /// Takes a server's part in; `false` where it is not as long as it has to be.
    pub(super) fn take(&mut self, worker: WorkerId, segment: &Range<usize>, payload: BulkBuffer) -> bool {
        let wanted = segment.len() * (1 + self.own.moments.len());
        let fits = payload.as_f32().is_ok_and(|floats| floats.len() == wanted);
        if fits {
            self.pieces.insert(worker, payload);
        }
        fits
    }

    /// Whether the parts of all these servers are there.
    pub(super) fn has_all(&self, mut others: impl Iterator<Item = WorkerId>) -> bool {
        others.all(|worker| self.pieces.contains_key(&worker))
    }

    /// The whole state and what it is wanted for. The lead's own segment comes first, then those of the others in order.
    pub(super) fn join(self, cut: Cut, others: impl Iterator<Item = WorkerId>) -> (Snapshot, Vec<Purpose>) {
        let Self { own, purposes, pieces } = self;
        let whole = |own: &[f32]| {
            let mut whole = Vec::with_capacity(cut.length());
            whole.extend_from_slice(own);
            whole
        };
        let mut parameters = whole(&own.parameters);
        let mut moments: Vec<Vec<f32>> = own.moments.iter().map(|moment| whole(moment)).collect();
        let buffers = 1 + moments.len();
        for piece in others.filter_map(|worker| pieces.get(&worker)) {
            let floats = piece.as_f32().unwrap_or_default();
            let mut cuts = floats.chunks_exact((floats.len() / buffers).max(1));
            let mut append = |buffer: &mut Vec<f32>| buffer.extend_from_slice(cuts.next().unwrap_or_default());
            append(&mut parameters);
            moments.iter_mut().for_each(append);
        }
        (Snapshot { parameters: Arc::new(parameters), moments, ..own }, purposes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_joined_in_the_order_of_the_segments() {
        let cut = Cut::new(800);
        let segments = cut.segments(3);
        let floats = |range: &Range<usize>, add: usize| range.clone().map(move |at| (at + add) as f32);
        let own = Snapshot {
            step: 9,
            parameters: Arc::new(floats(&segments[0], 0).collect()),
            optimiser_time: 9,
            moments: vec![floats(&segments[0], 10_000).collect()],
            epoch_loss: 1.0,
            last_epoch_loss: 2.0,
            relaxed: None,
        };
        let payload = |range: &Range<usize>| -> BulkBuffer {
            floats(range, 0).chain(floats(range, 10_000)).collect::<Vec<f32>>().into()
        };
        let (first, second) = (WorkerId::new(7), WorkerId::new(3));
        let mut collecting = Collecting::new(own);
        collecting.want(Purpose::Save);
        collecting.want(Purpose::Save);
        assert!(!collecting.take(first, &segments[1], payload(&(0..5))));
        assert!(collecting.take(second, &segments[2], payload(&segments[2])));
        assert!(!collecting.has_all([first, second].into_iter()));
        assert!(collecting.take(first, &segments[1], payload(&segments[1])));
        assert!(collecting.has_all([first, second].into_iter()));
        let (whole, purposes) = collecting.join(cut, [first, second].into_iter());
        assert_eq!(*whole.parameters, floats(&(0..800), 0).collect::<Vec<_>>());
        assert_eq!(whole.moments, [floats(&(0..800), 10_000).collect::<Vec<_>>()]);
        assert_eq!((whole.step, purposes), (9, vec![Purpose::Save]));
    }
}
