//! One step of the all-reduce in the fixed order: the same bits for any workers.
//!
//! ```text
//! every worker ── slices of its sums, to the owner of each segment ──▶ owner adds along the reduction tree
//! owner        ── its segment of the sum, to everybody             ──▶ everybody has the whole sum
//! ```
//!
//! Each worker sends, and receives, about twice the gradient whatever the number of workers (a block that does not match
//! the tree has several sums to send). The machine is pure: it is told what was computed and what has arrived, and says
//! what to send. It holds what belongs to the next step: a worker may have finished this one a little earlier.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use neap_runtime::BulkBuffer;
use neap_runtime::wire::collective::{CollectiveContent, SlicePart};
use neap_scheduler::elastic::TreeNode;
use neap_scheduler::model::WorkerId;

use super::exchange::{Outcome, Refusal, Sum};
use super::group::Group;
use super::payload::{Outgoing, Piece, Slices, Tail, cut_segment, cut_slices, floats};
use crate::reduction::{Buffers, Floats, Part, Reducer};

/// The exchange along the tree.
pub(crate) struct TreeExchange {
    group: Group,
    /// Buffers of the whole gradient's length, shared with who computes and who steps.
    buffers: Buffers,
    /// Buffers of a segment's length.
    segments: Buffers,
    current: Option<Current>,
    /// Slices of a step that has not begun here, at most one message a worker.
    early: BTreeMap<usize, (u64, Slices)>,
}

/// The step that is being added up.
struct Current {
    step: u64,
    reducer: Reducer,
    /// Whose slices are in.
    sliced: BTreeSet<usize>,
    /// Whose segments of the sum are in.
    summed: BTreeSet<usize>,
    /// Samples and losses of all shards, once the own segment is complete.
    tail: Option<Tail>,
    whole: Vec<f32>,
}

impl TreeExchange {
    pub(crate) fn new(group: Group, buffers: Buffers) -> Self {
        Self { group, buffers, segments: Buffers::default(), current: None, early: BTreeMap::new() }
    }

    /// Begins a step with what this worker has summed up of it.
    pub(crate) fn start(&mut self, step: u64, parts: Vec<(TreeNode, Part<Vec<f32>>)>) -> Result<Outcome, Refusal> {
        let parts = match <[_; 1]>::try_from(parts) {
            // One worker carries everything and has summed it up.
            Ok([(_, part)]) if self.group.len() == 1 => {
                return Ok(Outcome { send: Vec::new(), sum: Some(Sum { step, part }) });
            }
            Ok(one) => one.into(),
            Err(parts) => parts,
        };
        let (me, mut send) = (self.group.me(), Vec::new());
        let mut header = Vec::with_capacity(parts.len());
        let mut tail = Tail::default();
        let mut gradients = Vec::with_capacity(parts.len());
        let mut own = Vec::with_capacity(parts.len());
        for (node, part) in parts {
            let mut slice = self.segments.take(self.group.segment(me).len());
            slice.copy_from_slice(&part.gradient[self.group.segment(me)]);
            header.push(SlicePart {
                level: node.level,
                index: node.index,
                samples: part.samples.len() as u32,
                losses: part.losses.len() as u32,
            });
            tail.samples.extend(&part.samples);
            tail.losses.extend(&part.losses);
            gradients.push(self.buffers.lend(part.gradient));
            let gradient: Box<dyn Floats> = Box::new(slice);
            own.push((node, Part { gradient, losses: part.losses, samples: part.samples }));
        }
        for at in self.group.others() {
            let piece = |gradient: &Arc<Vec<f32>>| Piece { values: gradient.clone(), range: self.group.segment(at) };
            send.push(Outgoing {
                to: self.group.worker(at),
                content: CollectiveContent::Slices { step, parts: header.clone() },
                pieces: gradients.iter().map(piece).collect(),
                tail: tail.clone(),
            });
        }
        self.current = Some(Current {
            step,
            reducer: Reducer::new(self.group.tree()),
            sliced: BTreeSet::new(),
            summed: BTreeSet::new(),
            tail: None,
            whole: self.buffers.take(self.group.length()),
        });
        let mut outcome = self.add(me, own)?.after(send);
        for (at, (early, slices)) in std::mem::take(&mut self.early) {
            if early == step {
                outcome = self.add(at, slices)?.after(outcome.send);
            }
        }
        Ok(outcome)
    }

    /// Takes in what another worker has sent.
    pub(crate) fn receive(
        &mut self,
        from: WorkerId,
        content: CollectiveContent,
        payload: BulkBuffer,
    ) -> Result<Outcome, Refusal> {
        let at = self.group.position(from).ok_or_else(|| Refusal::Wrong(format!("{from} carries nothing")))?;
        match content {
            CollectiveContent::Slices { step, parts } => self.receive_slices(at, step, &parts, payload),
            CollectiveContent::Sum { step } => self.receive_sum(at, step, &payload),
            CollectiveContent::Hop { .. } | CollectiveContent::State(_) => {
                Err(Refusal::Wrong(format!("{from} sent something else than slices and sums")))
            }
        }
    }

    fn receive_slices(
        &mut self,
        at: usize,
        step: u64,
        parts: &[SlicePart],
        payload: BulkBuffer,
    ) -> Result<Outcome, Refusal> {
        let tree = self.group.tree();
        let announced = parts.iter().map(|part| (TreeNode { level: part.level, index: part.index }, part.losses));
        let carried = tree.cover(self.group.block(at)).into_iter().map(|node| (node, tree.covers(node).len()));
        if !announced.eq(carried) {
            return Err(Refusal::Wrong(format!("{} sent other parts than it carries", self.group.worker(at))));
        }
        let slices = cut_slices(parts, payload, self.group.segment(self.group.me()).len())
            .map_err(|error| Refusal::Wrong(format!("{}: {error}", self.group.worker(at))))?;
        match &self.current {
            Some(current) if step == current.step => self.add(at, slices),
            Some(current) if step != current.step + 1 => Err(Refusal::Late),
            // Sent again over a new connection, an older step's may arrive after the next one's.
            _ if self.early.get(&at).is_some_and(|(known, _)| *known >= step) => Err(Refusal::Late),
            _ => {
                self.early.insert(at, (step, slices));
                Ok(Outcome::default())
            }
        }
    }

    /// Adds one worker's slices. With the last ones the own segment is complete, and sent to everybody.
    fn add(&mut self, at: usize, slices: Slices) -> Result<Outcome, Refusal> {
        let Some(current) = &mut self.current else { return Err(Refusal::Late) };
        if !current.sliced.insert(at) {
            return Err(Refusal::Late);
        }
        let mut complete = None;
        for (node, part) in slices {
            complete = current.reducer.insert(node, part, &self.segments);
        }
        let Some(Part { gradient, losses, samples }) = complete else { return Ok(Outcome::default()) };
        current.tail = Some(Tail { samples, losses });
        let me = self.group.me();
        current.whole[self.group.segment(me)].copy_from_slice(gradient.values());
        current.summed.insert(me);
        let segment = match gradient.into_vec() {
            Some(segment) => segment,
            None => {
                let mut segment = self.segments.take(self.group.segment(me).len());
                segment.copy_from_slice(&current.whole[self.group.segment(me)]);
                segment
            }
        };
        let (segment, step) = (self.segments.lend(segment), current.step);
        let send = self.group.others().map(|other| Outgoing {
            to: self.group.worker(other),
            content: CollectiveContent::Sum { step },
            pieces: vec![Piece::whole(segment.clone())],
            tail: Tail::default(),
        });
        Ok(Outcome { send: send.collect(), sum: self.finish_if_done() })
    }

    fn receive_sum(&mut self, at: usize, step: u64, payload: &BulkBuffer) -> Result<Outcome, Refusal> {
        let current = self.current.as_mut().filter(|current| current.step == step).ok_or(Refusal::Late)?;
        let segment = self.group.segment(at);
        cut_segment(payload, segment.len(), 0, 0)
            .map_err(|error| Refusal::Wrong(format!("{}: {error}", self.group.worker(at))))?;
        if !current.summed.insert(at) {
            return Err(Refusal::Late);
        }
        current.whole[segment].copy_from_slice(floats(payload));
        Ok(Outcome { send: Vec::new(), sum: self.finish_if_done() })
    }

    /// The whole sum, once all segments are in.
    fn finish_if_done(&mut self) -> Option<Sum> {
        let current = self.current.take_if(|current| current.summed.len() == self.group.len())?;
        let Tail { samples, losses } = current.tail.expect("the own segment is complete, and with it the tail");
        Some(Sum { step: current.step, part: Part { gradient: current.whole, losses, samples } })
    }
}
