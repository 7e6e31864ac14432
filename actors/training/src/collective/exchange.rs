//! How gradients become their sum at every worker: along the fixed tree, or around a ring.

use neap_runtime::BulkBuffer;
use neap_runtime::wire::collective::CollectiveContent;
use neap_scheduler::elastic::TreeNode;
use neap_scheduler::model::WorkerId;

use super::group::Group;
use super::payload::Outgoing;
use super::ring::RingExchange;
use super::tree::TreeExchange;
use crate::reduction::{Buffers, Part};

/// One membership's exchange, step after step.
pub(crate) enum Exchange {
    /// In the fixed order.
    Tree(TreeExchange),
    /// In an order that depends on the workers.
    Ring(RingExchange),
}

/// What followed from something that was computed or has arrived.
#[derive(Default)]
pub(crate) struct Outcome {
    /// What is to be sent.
    pub(crate) send: Vec<Outgoing>,
    /// The sum of the step, where it is complete now.
    pub(crate) sum: Option<Sum>,
}

/// The sum of everybody's gradients for a step.
pub(crate) struct Sum {
    /// The step.
    pub(crate) step: u64,
    /// The sum, with the losses and samples of all logical shards in order.
    pub(crate) part: Part<Vec<f32>>,
}

/// Why something that has arrived was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Of another step, or there already: ordinary after a connection was made anew.
    #[error("it belongs to another step")]
    Late,
    /// Not what this worker should send.
    #[error("{0}")]
    Wrong(String),
}

impl Outcome {
    /// The same, after what is to be sent before.
    pub(crate) fn after(mut self, mut before: Vec<Outgoing>) -> Self {
        before.append(&mut self.send);
        Self { send: before, sum: self.sum }
    }
}

impl Exchange {
    /// The exchange of a group; `strict` for the fixed order.
    pub(crate) fn new(group: Group, buffers: Buffers, strict: bool) -> Self {
        match strict {
            true => Self::Tree(TreeExchange::new(group, buffers)),
            false => Self::Ring(RingExchange::new(group, buffers)),
        }
    }

    /// Begins a step with what this worker has summed up of it.
    ///
    /// # Errors
    ///
    /// [`Refusal`] where that, or what others had sent before, is not what it should be.
    pub(crate) fn start(&mut self, step: u64, parts: Vec<(TreeNode, Part<Vec<f32>>)>) -> Result<Outcome, Refusal> {
        match self {
            Self::Tree(tree) => tree.start(step, parts),
            Self::Ring(ring) => ring.start(step, parts),
        }
    }

    /// Takes in what another worker has sent.
    ///
    /// # Errors
    ///
    /// [`Refusal`] where it is not taken; nothing has changed then.
    pub(crate) fn receive(
        &mut self,
        from: WorkerId,
        content: CollectiveContent,
        payload: BulkBuffer,
    ) -> Result<Outcome, Refusal> {
        match self {
            Self::Tree(tree) => tree.receive(from, content, payload),
            Self::Ring(ring) => ring.receive(from, content, payload),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use neap_scheduler::elastic::{ReductionTree, ShardRange, assign};
    use proptest::prelude::*;

    use super::super::group::tests::membership;
    use super::super::payload::tests::carried;
    use super::*;
    use crate::reduction::{Leaves, reduce_block};

    /// A gradient of `length` values that differs by step, shard and place.
    fn gradient(step: u64, shard: u32, length: usize) -> Vec<f32> {
        (0..length).map(|at| ((step * 31 + u64::from(shard) * 7 + at as u64) as f32 * 0.37).sin() * 1e3).collect()
    }

    struct Shards {
        step: u64,
        length: usize,
    }

    impl Leaves for Shards {
        fn make(&mut self, shard: u32, _: &Buffers) -> Part<Vec<f32>> {
            Part {
                gradient: gradient(self.step, shard, self.length),
                losses: vec![f64::from(shard) + 0.5],
                samples: vec![shard * 2, shard * 2 + 1],
            }
        }
    }

    /// Workers that exchange gradients over a network which delivers in any order.
    struct Network {
        tree: ReductionTree,
        shards: u32,
        length: usize,
        steps: u64,
        machines: Vec<Exchange>,
        at_step: Vec<u64>,
        under_way: Vec<(usize, Outgoing)>,
        delivered: BTreeSet<(usize, WorkerId, String)>,
        sums: Vec<Vec<Part<Vec<f32>>>>,
    }

    impl Network {
        fn new(workers: u32, shards: u32, length: usize, strict: bool, steps: u64) -> Self {
            let (membership, tree) = (membership(1, workers, shards, 1), ReductionTree::new(shards));
            let machine = |number: u64| {
                let group = Group::new(&membership, WorkerId::new(number), tree, length).unwrap();
                Exchange::new(group, Buffers::default(), strict)
            };
            let machines: Vec<_> = (1..=u64::from(workers)).map(machine).collect();
            let sums = machines.iter().map(|_| Vec::new()).collect();
            let at_step = vec![0; machines.len()];
            let (under_way, delivered) = (Vec::new(), BTreeSet::new());
            let mut network = Self { tree, shards, length, steps, machines, at_step, under_way, delivered, sums };
            (0..network.machines.len()).for_each(|at| network.start(at));
            network
        }

        fn block(&self, at: usize) -> ShardRange {
            assign(self.shards, self.machines.len() as u32)[at]
        }

        fn start(&mut self, at: usize) {
            let step = self.at_step[at];
            if step < self.steps {
                let mut leaves = Shards { step, length: self.length };
                let parts = reduce_block(self.tree, self.block(at), &Buffers::default(), &mut leaves);
                let outcome = self.machines[at].start(step, parts).unwrap();
                self.follow(at, outcome);
            }
        }

        fn follow(&mut self, at: usize, outcome: Outcome) {
            self.under_way.extend(outcome.send.into_iter().map(|outgoing| (at, outgoing)));
            if let Some(sum) = outcome.sum {
                assert_eq!(sum.step, self.at_step[at]);
                self.sums[at].push(sum.part);
                self.at_step[at] += 1;
                self.start(at);
            }
        }

        /// Delivers whatever is under way, in the order that `picks` say; some messages a second time later.
        fn run(&mut self, picks: &[(prop::sample::Index, bool)]) {
            let mut again = Vec::new();
            for (pick, twice) in picks.iter().cycle() {
                self.under_way.append(&mut again);
                if self.under_way.is_empty() {
                    return;
                }
                let (from, outgoing) = self.under_way.swap_remove(pick.index(self.under_way.len()));
                let new = self.delivered.insert((from, outgoing.to, format!("{:?}", outgoing.content)));
                if *twice && new {
                    again.push((from, outgoing.clone()));
                }
                match self.deliver(from, &outgoing) {
                    Ok(outcome) => self.follow(outgoing.to.number() as usize - 1, outcome),
                    Err(refusal) => assert_eq!((refusal, new), (Refusal::Late, false)),
                }
            }
        }

        fn deliver(&mut self, from: usize, outgoing: &Outgoing) -> Result<Outcome, Refusal> {
            let machine = &mut self.machines[outgoing.to.number() as usize - 1];
            machine.receive(WorkerId::new(from as u64 + 1), outgoing.content.clone(), carried(outgoing))
        }
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    proptest! {
        #[test]
        fn every_worker_gets_the_sum_of_every_step_in_whatever_order_messages_arrive(
            shards in 1u32..12,
            workers in 1u32..9,
            length in 0usize..40,
            strict in any::<bool>(),
            picks in prop::collection::vec((any::<prop::sample::Index>(), prop::bool::weighted(0.2)), 1..60),
        ) {
            let (workers, steps) = (workers.min(shards), 3);
            let mut network = Network::new(workers, shards, length, strict, steps);
            network.run(&picks);
            for step in 0..steps {
                let all = ShardRange { start: 0, end: shards };
                let mut leaves = Shards { step, length };
                let (_, alone) = reduce_block(network.tree, all, &Buffers::default(), &mut leaves).remove(0);
                for sums in &network.sums {
                    let sum = &sums[step as usize];
                    prop_assert_eq!((&sum.samples, &sum.losses), (&alone.samples, &alone.losses));
                    // Whatever the order, all workers have the same bits.
                    prop_assert_eq!(bits(&sum.gradient), bits(&network.sums[0][step as usize].gradient));
                    match strict {
                        true => prop_assert_eq!(bits(&sum.gradient), bits(&alone.gradient)),
                        false => {
                            let close = |(ours, theirs): (&f32, &f32)| (ours - theirs).abs() <= 1e-2;
                            prop_assert!(sum.gradient.iter().zip(&alone.gradient).all(close));
                        }
                    }
                }
            }
            prop_assert!(network.sums.iter().all(|sums| sums.len() == steps as usize));
        }

        #[test]
        fn around_the_ring_a_worker_sends_to_its_neighbour_and_no_more_than_it_must(
            workers in 2u32..9, length in 0usize..50,
        ) {
            let mut network = Network::new(workers, 8, length, false, 1);
            let mut sent = vec![0; workers as usize];
            while let Some((from, outgoing)) = network.under_way.pop() {
                let to = outgoing.to.number() as usize - 1;
                prop_assert_eq!(to, (from + 1) % workers as usize);
                sent[from] += outgoing.pieces.iter().map(|piece| piece.range.len()).sum::<usize>();
                let outcome = network.deliver(from, &outgoing).unwrap();
                network.follow(to, outcome);
            }
            // Segments differ by one value.
            let least = 2 * (workers as usize - 1) * length / workers as usize;
            prop_assert!(sent.iter().all(|&sent| sent.abs_diff(least) <= 2 * workers as usize), "{sent:?} {least}");
        }
    }

    #[test]
    fn what_a_worker_does_not_carry_is_refused() {
        for strict in [true, false] {
            let mut network = Network::new(3, 6, 10, strict, 1);
            let (from, outgoing) =
                network.under_way.iter().find(|(_, one)| one.to == WorkerId::new(1)).unwrap().clone();
            let (sender, payload) = (WorkerId::new(from as u64 + 1), carried(&outgoing));
            let stranger = network.machines[0].receive(WorkerId::new(9), outgoing.content.clone(), payload);
            assert!(matches!(stranger, Err(Refusal::Wrong(_))));
            let short = network.machines[0].receive(sender, outgoing.content.clone(), vec![0.0; 3].into());
            assert!(matches!(short, Err(Refusal::Wrong(_))));
            let other = WorkerId::new(if from == 1 { 3 } else { 2 });
            let forged = network.machines[0].receive(other, outgoing.content.clone(), carried(&outgoing));
            assert!(matches!(forged, Err(Refusal::Wrong(_))));
            // And after all that the right one is still taken.
            assert!(network.machines[0].receive(sender, outgoing.content.clone(), carried(&outgoing)).is_ok());
        }
    }
}
