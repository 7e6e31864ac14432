//! The order of samples: a function of (seed, epoch, logical shard, step) and of nothing else.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::assignment::ShardRange;

/// The order in which one epoch uses the samples of a data set.
///
/// A seeded Fisher-Yates shuffle of all sample ids; step `t` uses positions `t·B .. (t+1)·B`, cut evenly over the
/// logical shards. The last step of an epoch is shorter where the batch does not divide the data, so that every sample
/// is used exactly once.
#[derive(Debug, Clone)]
pub struct SampleOrder {
    samples: Vec<u32>,
    global_batch: u32,
    logical_shards: u32,
}

/// The positions of an epoch's order that one step, or one logical shard of a step, uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepSlice {
    /// First position.
    pub start: usize,
    /// One past the last position.
    pub end: usize,
}

impl StepSlice {
    /// How many samples.
    pub fn len(self) -> usize {
        self.end - self.start
    }

    /// Whether the shard has nothing to do in this step.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }
}

impl SampleOrder {
    /// The order of `samples` sample ids in `epoch`; `seed: None` keeps the order of the file.
    ///
    /// # Panics
    ///
    /// If `global_batch` or `logical_shards` is 0; a valid job file has neither.
    pub fn new(samples: u32, seed: Option<u64>, epoch: u32, global_batch: u32, logical_shards: u32) -> Self {
        assert!(global_batch > 0 && logical_shards > 0, "a valid job has a batch and a logical shard");
        let mut order: Vec<u32> = (0..samples).collect();
        if let Some(seed) = seed {
            shuffle(&mut order, seed, epoch);
        }
        Self { samples: order, global_batch, logical_shards }
    }

    /// How many steps the epoch has; the last may be shorter.
    pub fn steps(&self) -> u64 {
        (self.samples.len() as u64).div_ceil(u64::from(self.global_batch))
    }

    /// The positions that `step` of the epoch uses; empty past its end.
    pub fn step(&self, step: u64) -> StepSlice {
        let total = self.samples.len();
        let start =
            usize::try_from(step.saturating_mul(u64::from(self.global_batch))).map_or(total, |at| at.min(total));
        StepSlice { start, end: (start + self.global_batch as usize).min(total) }
    }

    /// The positions that one logical shard uses in `step`. Shards cut the step into contiguous parts whose lengths
    /// differ by at most one.
    pub fn shard(&self, step: u64, shard: u32) -> StepSlice {
        let whole = self.step(step);
        let cut = |shard: u32| whole.start + whole.len() * shard as usize / self.logical_shards as usize;
        StepSlice { start: cut(shard), end: cut(shard + 1) }
    }

    /// The positions that a block of logical shards uses in `step`: one contiguous part.
    pub fn block(&self, step: u64, block: ShardRange) -> StepSlice {
        StepSlice { start: self.shard(step, block.start).start, end: self.shard(step, block.end - 1).end }
    }

    /// The sample ids at these positions.
    pub fn ids(&self, slice: StepSlice) -> &[u32] {
        &self.samples[slice.start..slice.end]
    }
}

/// Fisher-Yates with ChaCha8, one stream an epoch. Bounded draws by multiply-shift with rejection (Lemire 2019), written
/// out here because the order is part of a job's result and must not change with a library's version.
fn shuffle(order: &mut [u32], seed: u64, epoch: u32) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(u64::from(epoch));
    for last in (1..order.len()).rev() {
        let other = draw_below(&mut rng, last as u32 + 1);
        order.swap(last, other as usize);
    }
}

fn draw_below(rng: &mut ChaCha8Rng, bound: u32) -> u32 {
    let threshold = bound.wrapping_neg() % bound;
    loop {
        let product = u64::from(rng.next_u32()) * u64::from(bound);
        if product as u32 >= threshold {
            return (product >> 32) as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids_of_epoch(order: &SampleOrder, shards: u32) -> Vec<u32> {
        (0..order.steps())
            .flat_map(|step| (0..shards).map(move |shard| (step, shard)))
            .flat_map(|(step, shard)| order.ids(order.shard(step, shard)).to_vec())
            .collect()
    }

    proptest! {
        #[test]
        fn an_epoch_uses_every_sample_once(samples in 0u32..3_000, epoch in 0u32..5, shards in 1u32..17, per_shard in 1u32..40) {
            let order = SampleOrder::new(samples, Some(7), epoch, shards * per_shard, shards);
            let mut used = ids_of_epoch(&order, shards);
            used.sort_unstable();
            prop_assert_eq!(used, (0..samples).collect::<Vec<_>>());
        }

        #[test]
        fn a_block_is_its_shards_in_a_row(samples in 1u32..500, step in 0u64..20, start in 0u32..8, more in 1u32..8) {
            let order = SampleOrder::new(samples, Some(1), 0, 64, 16);
            let block = ShardRange { start, end: start + more };
            let one_by_one: Vec<u32> = block.iter().flat_map(|shard| order.ids(order.shard(step, shard)).to_vec()).collect();
            prop_assert_eq!(order.ids(order.block(step, block)).to_vec(), one_by_one);
        }
    }

    #[test]
    fn epochs_and_seeds_give_different_orders() {
        let first = |seed, epoch| {
            SampleOrder::new(1_000, Some(seed), epoch, 100, 4).ids(StepSlice { start: 0, end: 20 }).to_vec()
        };
        assert_ne!(first(1, 0), first(1, 1));
        assert_ne!(first(1, 0), first(2, 0));
        assert_eq!(first(1, 0), first(1, 0));
    }

    #[test]
    fn the_order_never_changes_between_versions() {
        let order = SampleOrder::new(10, Some(7), 3, 10, 1);
        assert_eq!(order.ids(order.step(0)), [2, 3, 8, 6, 9, 7, 0, 4, 1, 5]);
    }
}
