//! The threads that compute gradients, each with a network of its own.
//!
//! burn's CPU backend would spread one small operation over all cores, which costs more than it brings. Instead each
//! logical shard is computed on one thread, and a worker with several threads computes several shards at once. Which
//! thread computed a shard leaves no trace in its gradient.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use neap_scheduler::elastic::{ReductionTree, ShardRange, TreeNode};

use crate::links::ParameterValues;
use crate::loader::{ShardBatch, StepBatch};
use crate::model::{Batch, Network, Write};
use crate::reduction::{Buffers, Leaves, Part, reduce_block};

/// The computing threads of a worker: the caller's own, and helpers.
pub(crate) struct Crew {
    own: Box<dyn Network>,
    helpers: Vec<SyncSender<Task>>,
    results: Receiver<(u32, Part<Vec<f32>>)>,
    buffers: Buffers,
}

enum Task {
    Load(Arc<ParameterValues>),
    Compute { shard: u32, batch: ShardBatch, weight: f32 },
}

/// Tasks that may wait for one helper; a step's block is dealt out as far as this allows, the rest is the caller's.
const HELPER_QUEUE_MAX: usize = 64;

impl Crew {
    /// A crew of one thread a network; the first network is for the caller's thread.
    ///
    /// # Errors
    ///
    /// Where a thread cannot be started.
    pub(crate) fn new(own: Box<dyn Network>, others: Vec<Box<dyn Network>>, buffers: Buffers) -> std::io::Result<Self> {
        let (done, results) = sync_channel(HELPER_QUEUE_MAX);
        let helpers = others
            .into_iter()
            .map(|network| start_helper(network, buffers.clone(), done.clone()))
            .collect::<std::io::Result<_>>()?;
        Ok(Self { own, helpers, results, buffers })
    }

    /// How many parameters the networks have.
    pub(crate) fn parameters(&self) -> usize {
        self.own.layout().len()
    }

    /// Computes the gradients of a block of shards and adds them up along the tree.
    pub(crate) fn compute(
        &mut self,
        tree: ReductionTree,
        block: ShardRange,
        parameters: ParameterValues,
        step: StepBatch,
    ) -> Vec<(TreeNode, Part<Vec<f32>>)> {
        let weight = 1.0 / step.step_samples.max(1) as f32;
        if self.helpers.is_empty() {
            self.own.load(parameters.values());
            // Given back before the server needs them: then it can change them in place.
            drop(parameters);
            let mut leaves = InTurn { network: self.own.as_mut(), batches: step.shards.into_iter(), weight };
            return reduce_block(tree, block, &self.buffers, &mut leaves);
        }
        let batches = block.iter().zip(step.shards).collect();
        let parts = self.compute_together(Arc::new(parameters), batches, weight);
        reduce_block(tree, block, &self.buffers, &mut Done(parts.into_iter()))
    }

    fn compute_together(
        &mut self,
        parameters: Arc<ParameterValues>,
        batches: Vec<(u32, ShardBatch)>,
        weight: f32,
    ) -> Vec<Option<Part<Vec<f32>>>> {
        let first = batches.first().map_or(0, |&(shard, _)| shard);
        let mut parts: Vec<Option<Part<Vec<f32>>>> = batches.iter().map(|_| None).collect();
        for helper in &self.helpers {
            helper.send(Task::Load(parameters.clone())).expect("a helper ends only with its crew");
        }
        let (crew, mut mine, mut outstanding) = (self.helpers.len() + 1, Vec::new(), 0);
        for (at, (shard, batch)) in batches.into_iter().enumerate() {
            match (at % crew).checked_sub(1).filter(|_| at / crew < HELPER_QUEUE_MAX - 1) {
                Some(helper) => {
                    let task = Task::Compute { shard, batch, weight };
                    self.helpers[helper].send(task).expect("a helper ends only with its crew");
                    outstanding += 1;
                }
                None => mine.push((shard, batch)),
            }
        }
        self.own.load(parameters.values());
        drop(parameters);
        for (shard, batch) in mine {
            parts[(shard - first) as usize] = Some(compute_shard(self.own.as_mut(), &self.buffers, batch, weight));
        }
        for _ in 0..outstanding {
            let (shard, part) = self.results.recv().expect("a helper ends only with its crew");
            parts[(shard - first) as usize] = Some(part);
        }
        parts
    }
}

fn start_helper(
    mut network: Box<dyn Network>,
    buffers: Buffers,
    done: SyncSender<(u32, Part<Vec<f32>>)>,
) -> std::io::Result<SyncSender<Task>> {
    let (sender, tasks) = sync_channel(HELPER_QUEUE_MAX);
    let help = move || {
        compute_alone();
        for task in tasks {
            match task {
                Task::Load(parameters) => network.load(parameters.values()),
                Task::Compute { shard, batch, weight } => {
                    let part = compute_shard(network.as_mut(), &buffers, batch, weight);
                    if done.send((shard, part)).is_err() {
                        return;
                    }
                }
            }
        }
    };
    std::thread::Builder::new().name("trainer-helper".to_owned()).spawn(help)?;
    Ok(sender)
}

/// Keeps burn's CPU backend on the calling thread: its parallel loops see a pool of one thread, this one.
pub(crate) fn compute_alone() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
    if let Err(error) = pool {
        tracing::warn!(%error, "burn will use all cores");
    }
}

/// Shards that are computed when the tree asks for them, on the caller's thread.
struct InTurn<'a> {
    network: &'a mut dyn Network,
    batches: std::vec::IntoIter<ShardBatch>,
    weight: f32,
}

impl InTurn<'_> {
    fn next(&mut self) -> ShardBatch {
        self.batches.next().expect("the tree is walked in shard order, and a step has all shards of its block")
    }
}

impl Leaves for InTurn<'_> {
    fn make(&mut self, _: u32, buffers: &Buffers) -> Part<Vec<f32>> {
        let batch = self.next();
        compute_shard(self.network, buffers, batch, self.weight)
    }

    fn add(&mut self, _: u32, buffers: &Buffers, sum: &mut Part<Vec<f32>>) {
        let shard = self.next();
        let loss = match <[Batch; 1]>::try_from(shard.pieces) {
            Ok([whole]) => self.network.gradient(whole, self.weight, &mut sum.gradient, Write::Add),
            // As if zeros were added, which is what happens where another worker carries the shard.
            Err(none) if none.is_empty() => {
                sum.gradient.iter_mut().for_each(|value| *value += 0.0);
                0.0
            }
            // The pieces are one sum before they are part of another one, wherever the shard is carried.
            Err(pieces) => {
                let mut gradient = buffers.take(sum.gradient.len());
                let loss = accumulate(self.network, pieces, self.weight, &mut gradient);
                sum.gradient.iter_mut().zip(&gradient).for_each(|(sum, value)| *sum += value);
                buffers.put(gradient);
                loss
            }
        };
        sum.losses.push(loss);
        sum.samples.extend(shard.ids);
    }
}

/// Shards that were computed before.
struct Done(std::vec::IntoIter<Option<Part<Vec<f32>>>>);

impl Leaves for Done {
    fn make(&mut self, _: u32, _: &Buffers) -> Part<Vec<f32>> {
        self.0.next().flatten().expect("every shard of the block was computed once")
    }
}

/// The gradient of one shard, weighted so that the sum over the step's shards is the mean over its samples. A shard
/// without samples has the gradient 0.
fn compute_shard(network: &mut dyn Network, buffers: &Buffers, shard: ShardBatch, weight: f32) -> Part<Vec<f32>> {
    let mut gradient = buffers.take(network.layout().len());
    let loss = accumulate(network, shard.pieces, weight, &mut gradient);
    Part { gradient, losses: vec![loss], samples: shard.ids }
}

/// Replaces `gradient` by the sum over the pieces, in their order. The network holds one piece at a time, so their size is
/// what bounds its memory.
fn accumulate(network: &mut dyn Network, pieces: Vec<Batch>, weight: f32, gradient: &mut [f32]) -> f64 {
    if pieces.is_empty() {
        gradient.fill(0.0);
    }
    let ways = std::iter::once(Write::Replace).chain(std::iter::repeat(Write::Add));
    pieces.into_iter().zip(ways).map(|(piece, how)| network.gradient(piece, weight, gradient, how)).sum()
}
