//! The order of samples: a function of (seed, epoch, logical shard, step) and of nothing else.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::assignment::ShardRange;
use crate::spec::OrderSpec;

/// The order in which one epoch uses the samples of a data set.
///
/// A seeded Fisher-Yates shuffle of all sample ids, or with a window one that reads a file in long runs: the micro-shards
/// (so many samples in a row) are shuffled as wholes, laid end to end, and cut into windows, and each window's samples
/// are shuffled among themselves. A window's samples lie in `window / micro_shard` runs, so that whoever holds one window
/// in memory reads every run once an epoch. What it costs in quality is that neighbours in the file stay in one window:
/// two samples of one micro-shard meet in a step with a chance of about `batch / window` instead of `batch / samples`.
/// Where a sample comes in the epoch is as even as without a window, because the micro-shards are shuffled over all of it.
///
/// Step `t` uses positions `t·B .. (t+1)·B`, cut evenly over the
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
    /// The order of `samples` sample ids in `epoch`.
    ///
    /// # Panics
    ///
    /// If `global_batch` or `logical_shards` is 0; a valid job file has neither.
    pub fn new(samples: u32, order: OrderSpec, epoch: u32, global_batch: u32, logical_shards: u32) -> Self {
        assert!(global_batch > 0 && logical_shards > 0, "a valid job has a batch and a logical shard");
        let mut ids: Vec<u32> = (0..samples).collect();
        if let Some(seed) = order.seed {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(u64::from(epoch));
            match order.window {
                None => shuffle(&mut ids, &mut rng),
                Some(window) => ids = windowed(samples, window, order.micro_shard, &mut rng),
            }
        }
        Self { samples: ids, global_batch, logical_shards }
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

/// The micro-shards in a drawn order, then each window's samples.
fn windowed(samples: u32, window: u32, micro_shard: u32, rng: &mut ChaCha8Rng) -> Vec<u32> {
    let micro_shard = micro_shard.clamp(1, samples.max(1));
    let mut runs: Vec<u32> = (0..samples.div_ceil(micro_shard)).collect();
    shuffle(&mut runs, rng);
    let per_window = (window / micro_shard).max(1) as usize;
    let mut ids = Vec::with_capacity(samples as usize);
    for runs in runs.chunks(per_window) {
        let start = ids.len();
        for run in runs {
            let first = run * micro_shard;
            ids.extend(first..first.saturating_add(micro_shard).min(samples));
        }
        shuffle(&mut ids[start..], rng);
    }
    ids
}

/// Fisher-Yates with ChaCha8, one stream an epoch. Bounded draws by multiply-shift with rejection (Lemire 2019), written
/// out here because the order is part of a job's result and must not change with a library's version.
fn shuffle(order: &mut [u32], rng: &mut ChaCha8Rng) {
    for last in (1..order.len()).rev() {
        let other = draw_below(rng, last as u32 + 1);
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

    fn shuffled(seed: u64) -> OrderSpec {
        OrderSpec { seed: Some(seed), window: None, micro_shard: 256 }
    }

    fn windowed(window: u32, micro_shard: u32) -> OrderSpec {
        OrderSpec { seed: Some(5), window: Some(window), micro_shard }
    }

    proptest! {
        #[test]
        fn an_epoch_uses_every_sample_once(samples in 0u32..3_000, epoch in 0u32..5, shards in 1u32..17, per_shard in 1u32..40) {
            let order = SampleOrder::new(samples, shuffled(7), epoch, shards * per_shard, shards);
            let mut used = ids_of_epoch(&order, shards);
            used.sort_unstable();
            prop_assert_eq!(used, (0..samples).collect::<Vec<_>>());
        }

        #[test]
        fn a_window_loses_and_repeats_nothing(samples in 0u32..3_000, window in 1u32..4_000, micro_shard in 1u32..300) {
            let order = SampleOrder::new(samples, windowed(window, micro_shard), 2, 64, 8);
            let mut used = ids_of_epoch(&order, 8);
            used.sort_unstable();
            prop_assert_eq!(used, (0..samples).collect::<Vec<_>>());
        }

        #[test]
        fn a_window_holds_few_runs_of_the_file(samples in 1u32..3_000, per_window in 1u32..20, micro_shard in 1u32..100) {
            let window = per_window * micro_shard;
            let order = SampleOrder::new(samples, windowed(window, micro_shard), 1, 64, 8);
            let ids = order.ids(StepSlice { start: 0, end: samples as usize });
            // The short last run may shift the cuts by less than one window.
            for part in ids.chunks(window as usize) {
                let mut runs: Vec<u32> = part.iter().map(|id| id / micro_shard).collect();
                runs.sort_unstable();
                runs.dedup();
                prop_assert!(runs.len() <= 2 * per_window as usize, "{} runs in a window of {}", runs.len(), per_window);
            }
        }

        #[test]
        fn a_block_is_its_shards_in_a_row(samples in 1u32..500, step in 0u64..20, start in 0u32..8, more in 1u32..8) {
            let order = SampleOrder::new(samples, shuffled(1), 0, 64, 16);
            let block = ShardRange { start, end: start + more };
            let one_by_one: Vec<u32> = block.iter().flat_map(|shard| order.ids(order.shard(step, shard)).to_vec()).collect();
            prop_assert_eq!(order.ids(order.block(step, block)).to_vec(), one_by_one);
        }
    }

    #[test]
    fn epochs_and_seeds_give_different_orders() {
        let first = |seed, epoch| {
            SampleOrder::new(1_000, shuffled(seed), epoch, 100, 4).ids(StepSlice { start: 0, end: 20 }).to_vec()
        };
        assert_ne!(first(1, 0), first(1, 1));
        assert_ne!(first(1, 0), first(2, 0));
        assert_eq!(first(1, 0), first(1, 0));
    }

    #[test]
    fn the_order_never_changes_between_versions() {
        let order = SampleOrder::new(10, shuffled(7), 3, 10, 1);
        assert_eq!(order.ids(order.step(0)), [2, 3, 8, 6, 9, 7, 0, 4, 1, 5]);
        let order = SampleOrder::new(10, windowed(4, 2), 3, 10, 1);
        assert_eq!(order.ids(order.step(0)), [9, 2, 8, 3, 5, 6, 4, 7, 0, 1]);
    }

    /// How far samples move on average, as a share of the data: 1/3 where every place is as likely as every other.
    fn mean_move(order: &SampleOrder, samples: u32) -> f64 {
        let ids = order.ids(StepSlice { start: 0, end: samples as usize });
        let moved: u64 = (0..samples).zip(ids).map(|(place, &id)| u64::from(place.abs_diff(id))).sum();
        moved as f64 / f64::from(samples) / f64::from(samples)
    }

    /// Which part of the neighbours in the file are used in the same step.
    fn neighbours_in_a_step(order: &SampleOrder, samples: u32) -> f64 {
        let mut step_of = vec![0; samples as usize];
        for step in 0..order.steps() {
            order.ids(order.step(step)).iter().for_each(|&id| step_of[id as usize] = step);
        }
        let together = step_of.windows(2).filter(|pair| pair[0] == pair[1]).count();
        together as f64 / f64::from(samples)
    }

    #[test]
    fn a_window_moves_samples_as_far_as_a_whole_shuffle_and_parts_neighbours_by_its_size() {
        let (samples, batch) = (65_536, 64);
        let make = |spec| SampleOrder::new(samples, spec, 0, batch, 1);
        let whole = make(shuffled(5));
        assert!((mean_move(&whole, samples) - 1.0 / 3.0).abs() < 0.01);
        for (window, micro_shard) in [(4_096, 64), (8_192, 256)] {
            let order = make(windowed(window, micro_shard));
            // 256 micro-shards are few, so their mean move scatters more.
            assert!((mean_move(&order, samples) - 1.0 / 3.0).abs() < 0.05, "{}", mean_move(&order, samples));
            let expected = f64::from(batch) / f64::from(window);
            let found = neighbours_in_a_step(&order, samples);
            assert!((0.7..1.1).contains(&(found / expected)), "{found} of the neighbours, expected {expected}");
        }
    }
}
