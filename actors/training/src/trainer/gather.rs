//! The parameters of a step, put together from the segments that several servers send.

use neap_runtime::wire::training::ParametersHeader;

use crate::links::ParameterValues;
use crate::segments::Cut;

/// The segments that have come in for one step. Parameters of a single server are whole as they come.
pub(super) struct Gather {
    cut: Cut,
    step: u64,
    pieces: Vec<Option<ParameterValues>>,
}

impl Gather {
    /// Nothing has come in yet from so many servers.
    pub(super) fn new(cut: Cut, servers: usize) -> Self {
        Self { cut, step: 0, pieces: (0..servers).map(|_| None).collect() }
    }

    /// Takes a segment in; the whole parameters once the last one of a step is there. What does not fit the model, or is
    /// of an earlier step than others, is left aside.
    pub(super) fn take(&mut self, header: &ParametersHeader, values: ParameterValues) -> Option<ParameterValues> {
        let segments = self.cut.segments(self.pieces.len());
        let at = header.segment as usize;
        let (found, expected) = (values.values().len(), segments.get(at).map(std::ops::Range::len));
        if expected != Some(found) {
            tracing::error!(segment = at, found, expected, "parameters of another model ignored");
            return None;
        }
        if segments.len() == 1 {
            return Some(values);
        }
        if header.step < self.step {
            return None;
        }
        if header.step > self.step {
            self.pieces.iter_mut().for_each(|piece| *piece = None);
            self.step = header.step;
        }
        self.pieces[at] = Some(values);
        if self.pieces.iter().any(Option::is_none) {
            return None;
        }
        let pieces = self.pieces.iter_mut().filter_map(Option::take);
        let mut joined = Vec::with_capacity(self.cut.length());
        pieces.for_each(|piece| joined.extend_from_slice(piece.values()));
        Some(ParameterValues::Joined(joined))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use neap_scheduler::model::MembershipEpoch;

    use super::*;

    fn header(step: u64, segment: u32) -> ParametersHeader {
        ParametersHeader { membership: MembershipEpoch(1), step, segment, shard_start: 0, shard_end: 1 }
    }

    fn values(range: std::ops::Range<usize>, add: f32) -> ParameterValues {
        ParameterValues::Shared(Arc::new(range.map(|at| at as f32 + add).collect()))
    }

    #[test]
    fn a_step_is_computed_with_parameters_of_one_step_only() {
        let cut = Cut::new(700);
        let segments = cut.segments(2);
        let mut gather = Gather::new(cut, 2);
        let mut take = |step, segment: u32, add| {
            let values = values(segments[segment as usize].clone(), add);
            gather.take(&header(step, segment), values).map(|whole| whole.values().to_vec())
        };
        assert_eq!(take(0, 1, 0.0), None);
        // The other server has not made step 0 yet, or this one has made it twice over.
        assert_eq!(take(1, 0, 0.5), None);
        assert_eq!(take(0, 1, 0.0), None);
        let whole: Vec<f32> = (0..700).map(|at| at as f32 + 0.5).collect();
        assert_eq!(take(1, 1, 0.5), Some(whole));
        assert_eq!(take(1, 1, 0.5), None);
    }

    #[test]
    fn segments_of_another_model_are_left_aside() {
        let mut gather = Gather::new(Cut::new(700), 1);
        assert!(gather.take(&header(0, 0), values(0..699, 0.0)).is_none());
        assert!(gather.take(&header(0, 1), values(0..700, 0.0)).is_none());
        assert!(gather.take(&header(0, 0), values(0..700, 0.0)).is_some());
    }
}
