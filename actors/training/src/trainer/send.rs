//! The gradients of a step on their way to the servers, each its segment.
//!
//! Losses and samples go to the first server: it alone keeps the job's books. In one process the only server is handed the
//! gradients themselves; what several servers get is cut out, without a copy for those in other processes.

use std::ops::Range;
use std::sync::Arc;

use neap_runtime::BulkSlice;
use neap_runtime::wire::training::{GradientHeader, GradientPart};
use neap_scheduler::elastic::TreeNode;
use neap_scheduler::model::{MembershipEpoch, WorkerId};

use crate::compress::{Compression, Residuals};
use crate::links::{Gradients, OutgoingGradients, ServerLink};
use crate::reduction::{Buffers, Floats, Part};
use crate::segments::Cut;
use crate::server::{ServerEvent, ServerHandle};

/// Whose gradients of which step.
#[derive(Clone, Copy)]
pub(super) struct Sender {
    pub(super) worker: WorkerId,
    pub(super) membership: MembershipEpoch,
    pub(super) step: u64,
}

type Parts<F> = Vec<(TreeNode, Part<F>)>;

impl Sender {
    /// Hands the parts to all servers.
    pub(super) fn send(
        self,
        servers: &[ServerLink],
        cut: Cut,
        parts: Parts<Vec<f32>>,
        mut coder: Option<Coder<'_>>,
        buffers: &Buffers,
    ) {
        if let [ServerLink::Local(server)] = servers {
            return self.hand_over(server, moved(parts));
        }
        let parts: Parts<Arc<Vec<f32>>> =
            parts.into_iter().map(|(node, part)| (node, part.map(|gradient| buffers.lend(gradient)))).collect();
        for (at, (server, segment)) in servers.iter().zip(cut.segments(servers.len())).enumerate() {
            let keeps_books = at == 0;
            match server {
                ServerLink::Local(server) => self.hand_over(server, copied(&parts, &segment, keeps_books, buffers)),
                ServerLink::Remote(server) => {
                    let slice = |node, gradient: &Arc<Vec<f32>>| match &mut coder {
                        None => BulkSlice::from_vec_range(gradient.clone(), segment.clone()),
                        Some(coder) => BulkSlice::from_vec(coder.code(node, gradient, &segment, buffers)),
                    };
                    // A task that has ended has told the session why.
                    let _ = server.blocking_send(self.outgoing(&parts, keeps_books, slice));
                }
            }
        }
    }

    fn hand_over(self, server: &ServerHandle, parts: Parts<Box<dyn Floats>>) {
        let Self { worker, membership, step } = self;
        server.handle(ServerEvent::Gradients(Gradients { membership, worker, step, parts }));
    }

    /// The message to one server; `slice` gives what it is sent of a part.
    fn outgoing(
        self,
        parts: &Parts<Arc<Vec<f32>>>,
        keeps_books: bool,
        mut slice: impl FnMut(TreeNode, &Arc<Vec<f32>>) -> BulkSlice,
    ) -> OutgoingGradients {
        let mut header = GradientHeader { membership: self.membership, step: self.step, parts: Vec::new() };
        let (mut gradients, mut ids) = (Vec::new(), Vec::new());
        for (node, part) in parts {
            let (losses, samples) = part.books(keeps_books);
            header.parts.push(GradientPart {
                level: node.level,
                index: node.index,
                shard_losses: losses.to_vec(),
                samples: samples.len() as u32,
            });
            gradients.push(slice(*node, &part.gradient));
            ids.extend_from_slice(samples);
        }
        OutgoingGradients { header, gradients, samples: ids }
    }
}

/// Makes gradients smaller on their way to another process.
pub(super) struct Coder<'a> {
    pub(super) compression: Compression,
    pub(super) residuals: &'a mut Residuals,
}

impl Coder<'_> {
    /// The code of one segment of a node's gradient.
    fn code(&mut self, node: TreeNode, gradient: &[f32], segment: &Range<usize>, buffers: &Buffers) -> Arc<Vec<f32>> {
        let mut code = buffers.take(self.compression.words(segment.len()));
        self.residuals.encode(self.compression, (node, segment.start), &gradient[segment.clone()], &mut code);
        buffers.lend(code)
    }
}

fn boxed(gradient: Vec<f32>) -> Box<dyn Floats> {
    Box::new(gradient)
}

/// For the only server, in this process.
fn moved(parts: Parts<Vec<f32>>) -> Parts<Box<dyn Floats>> {
    parts.into_iter().map(|(node, part)| (node, part.map(boxed))).collect()
}

/// For one of several servers, in this process.
fn copied(
    parts: &Parts<Arc<Vec<f32>>>,
    segment: &Range<usize>,
    keeps_books: bool,
    buffers: &Buffers,
) -> Parts<Box<dyn Floats>> {
    let cut_out = |(node, part): &(TreeNode, Part<Arc<Vec<f32>>>)| {
        let mut gradient = buffers.take(segment.len());
        gradient.copy_from_slice(&part.gradient[segment.clone()]);
        let (losses, samples) = part.books(keeps_books);
        (*node, Part { gradient: boxed(gradient), losses: losses.to_vec(), samples: samples.to_vec() })
    };
    parts.iter().map(cut_out).collect()
}

impl<F> Part<F> {
    /// Its losses and samples for a server that keeps the books, nothing for the others.
    fn books(&self, keeps: bool) -> (&[f64], &[u32]) {
        if keeps { (&self.losses, &self.samples) } else { (&[], &[]) }
    }

    fn map<G>(self, gradient: impl FnOnce(F) -> G) -> Part<G> {
        Part { gradient: gradient(self.gradient), losses: self.losses, samples: self.samples }
    }
}

#[cfg(test)]
mod tests {
    use neap_scheduler::elastic::ReductionTree;

    use super::*;
    use crate::reduction::Reducer;

    #[test]
    fn a_gradient_goes_to_the_server_of_the_same_process_and_back_in_the_same_memory() {
        let buffers = Buffers::default();
        let gradient = buffers.take(5);
        let memory = gradient.as_ptr();
        let tree = ReductionTree::new(1);
        let part = Part { gradient, losses: vec![1.0], samples: vec![7] };
        let (node, part) = moved(vec![(tree.root(), part)]).remove(0);
        assert_eq!(part.gradient.values().as_ptr(), memory);
        let sum = Reducer::new(tree).insert(node, part, &buffers).unwrap();
        assert_eq!(sum.gradient.values().as_ptr(), memory);
        buffers.put(sum.gradient.into_vec().unwrap());
        let taken = buffers.take(5);
        assert_eq!(taken.as_ptr(), memory);
    }
}
