//! One step of the all-reduce around a ring: every worker sends to its neighbour only, `2(W−1)/W` of the gradient in all,
//! the least there can be (Patarasu and Yuan 2009).
//!
//! Worker `i` begins with its own values of segment `i`; every segment that arrives is added to the own one, while that is
//! not done, and passed on. After `W−1` hops each worker holds one segment of the sum, after `2(W−1)` all of them. Sample ids
//! and losses travel along. In which order values are added depends on the workers, so the last bits do too; all workers
//! have the same ones, because each segment of the sum is finished by one worker.
//!
//! The machine is pure, as [`super::tree`]; hops arrive in any order and are taken in by their number.

use std::collections::BTreeMap;

use neap_runtime::BulkBuffer;
use neap_runtime::wire::collective::CollectiveContent;
use neap_scheduler::elastic::TreeNode;
use neap_scheduler::model::WorkerId;

use super::exchange::{Outcome, Refusal, Sum};
use super::group::Group;
use super::payload::{Outgoing, Piece, Tail, cut_segment, floats};
use crate::reduction::{Buffers, Part};

/// The exchange around the ring.
pub(crate) struct RingExchange {
    group: Group,
    buffers: Buffers,
    segments: Buffers,
    current: Option<Current>,
    /// Hops that cannot be taken in yet: of this step, and of the next one.
    early: BTreeMap<(u64, u32), Hop>,
}

struct Hop {
    segment: BulkBuffer,
    tail: Tail,
}

struct Current {
    step: u64,
    /// The own gradient, in which segments of the sum take the place of the own ones.
    values: Vec<f32>,
    /// Sample ids and losses by the position of their worker.
    tails: BTreeMap<usize, Tail>,
    /// The number of the next hop.
    next: u32,
}

impl RingExchange {
    pub(crate) fn new(group: Group, buffers: Buffers) -> Self {
        Self { group, buffers, segments: Buffers::default(), current: None, early: BTreeMap::new() }
    }

    /// Begins a step with what this worker has summed up of it.
    pub(crate) fn start(&mut self, step: u64, parts: Vec<(TreeNode, Part<Vec<f32>>)>) -> Result<Outcome, Refusal> {
        let me = self.group.me();
        let mut tail = Tail::default();
        let mut values: Option<Vec<f32>> = None;
        for (_, part) in parts {
            tail.samples.extend(part.samples);
            tail.losses.extend(part.losses);
            match &mut values {
                None => values = Some(part.gradient),
                Some(values) => {
                    values.iter_mut().zip(&part.gradient).for_each(|(sum, value)| *sum += value);
                    self.buffers.put(part.gradient);
                }
            }
        }
        let values = values.ok_or_else(|| Refusal::Wrong("this worker carries nothing".to_owned()))?;
        let mut outcome = Outcome::default();
        if self.group.len() > 1 {
            let mut segment = self.segments.take(self.group.segment(me).len());
            segment.copy_from_slice(&values[self.group.segment(me)]);
            outcome.send.push(self.hop(step, 0, segment, tail.clone()));
        }
        self.current = Some(Current { step, values, tails: BTreeMap::from([(me, tail)]), next: 0 });
        self.early.retain(|(early, _), _| *early >= step);
        Ok(self.go_on().after(outcome.send))
    }

    /// Takes in what another worker has sent.
    pub(crate) fn receive(
        &mut self,
        from: WorkerId,
        content: CollectiveContent,
        payload: BulkBuffer,
    ) -> Result<Outcome, Refusal> {
        let wrong = |what: &str| Refusal::Wrong(format!("{from} {what}"));
        let CollectiveContent::Hop { step, number, samples, losses } = content else {
            return Err(wrong("sent something else than a hop"));
        };
        if from != self.group.worker(self.before()) || number >= self.hops() {
            return Err(wrong("is not the neighbour, or goes around too often"));
        }
        let late = match &self.current {
            Some(current) => {
                step < current.step || step > current.step + 1 || step == current.step && number < current.next
            }
            None => false,
        };
        if late || self.early.contains_key(&(step, number)) {
            return Err(Refusal::Late);
        }
        let length = self.group.segment(self.segment_of(self.before(), number)).len();
        let tail = cut_segment(&payload, length, samples, losses)
            .map_err(|error| Refusal::Wrong(format!("{from}: {error}")))?;
        // A neighbour is at most one step ahead; what it can send until then is bounded by the hops of two steps.
        if self.early.len() >= 2 * self.hops() as usize {
            return Err(wrong("sent more hops than two steps have"));
        }
        self.early.insert((step, number), Hop { segment: payload, tail });
        Ok(self.go_on())
    }

    /// Takes in the hops whose turn it is.
    fn go_on(&mut self) -> Outcome {
        let mut outcome = Outcome::default();
        while let Some(current) = &self.current
            && let Some(hop) = self.early.remove(&(current.step, current.next))
        {
            outcome.send.extend(self.take_in(hop));
        }
        let hops = self.hops();
        if let Some(Current { step, values, tails, .. }) = self.current.take_if(|current| current.next == hops) {
            let mut tail = Tail::default();
            for one in tails.into_values() {
                tail.samples.extend(one.samples);
                tail.losses.extend(one.losses);
            }
            outcome.sum =
                Some(Sum { step, part: Part { gradient: values, losses: tail.losses, samples: tail.samples } });
        }
        outcome
    }

    /// Adds or keeps one segment, and passes it on.
    fn take_in(&mut self, hop: Hop) -> Option<Outgoing> {
        let number = self.current.as_ref()?.next;
        let at = self.segment_of(self.before(), number);
        let range = self.group.segment(at);
        let current = self.current.as_mut()?;
        current.next += 1;
        let step = current.step;
        let arrived = &floats(&hop.segment)[..range.len()];
        let own = &mut current.values[range];
        let adds = |number: u32| (number as usize) < self.group.len() - 1;
        if adds(number) {
            own.iter_mut().zip(arrived).for_each(|(own, arrived)| *own += arrived);
            // What comes along is that of the worker at whose place the segment began.
            current.tails.insert(at, hop.tail.clone());
        } else {
            own.copy_from_slice(arrived);
        }
        let mut segment = self.segments.take(own.len());
        segment.copy_from_slice(own);
        let tail = if adds(number + 1) { hop.tail } else { Tail::default() };
        (number + 1 < self.hops()).then(|| self.hop(step, number + 1, segment, tail))
    }

    fn hop(&self, step: u64, number: u32, segment: Vec<f32>, tail: Tail) -> Outgoing {
        let content = CollectiveContent::Hop {
            step,
            number,
            samples: tail.samples.len() as u32,
            losses: tail.losses.len() as u32,
        };
        let pieces = vec![Piece::whole(self.segments.lend(segment))];
        Outgoing { to: self.group.worker((self.group.me() + 1) % self.group.len()), content, pieces, tail }
    }

    /// Hops of a step.
    fn hops(&self) -> u32 {
        2 * (self.group.len() as u32 - 1)
    }

    /// The position of the neighbour that sends.
    fn before(&self) -> usize {
        (self.group.me() + self.group.len() - 1) % self.group.len()
    }

    /// Which segment the worker at a position sends at a hop: its own first, then the ones before that.
    fn segment_of(&self, sender: usize, number: u32) -> usize {
        (sender + self.group.len() - number as usize % self.group.len()) % self.group.len()
    }
}
