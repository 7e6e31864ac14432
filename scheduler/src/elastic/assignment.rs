//! Which worker carries which logical shards: contiguous blocks, as even as can be, or by speed where that pays.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// How much sooner a step has to be done, in thousandths, before shards are dealt in another way for it. Moving shards costs
/// about a step, and what was measured is never exact: where every measurement is off by up to a tenth, the answer to the
/// same question stays the same, since 0.9 / 1.1 of the time is more than this leaves.
pub const GAIN_PERMILLE_MIN: u64 = 200;

/// A block of logical shards, `start..end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ShardRange {
    /// First shard.
    pub start: u32,
    /// One past the last shard.
    pub end: u32,
}

impl ShardRange {
    /// How many shards.
    pub fn len(self) -> u32 {
        self.end - self.start
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// The shards in order.
    pub fn iter(self) -> std::ops::Range<u32> {
        self.start..self.end
    }
}

/// Deals `shards` logical shards to `workers` workers in contiguous blocks whose lengths differ by at most one; the
/// first workers get the longer ones. Contiguous blocks let a worker add up what the fixed tree allows before sending.
///
/// Workers beyond the number of shards get an empty block.
pub fn assign(shards: u32, workers: u32) -> Vec<ShardRange> {
    blocks(&even(shards, workers))
}

/// The blocks of these lengths, one after the other.
pub fn blocks(lengths: &[u32]) -> Vec<ShardRange> {
    let mut start = 0;
    let block = |&length: &u32| {
        let block = ShardRange { start, end: start + length };
        start = block.end;
        block
    };
    lengths.iter().map(block).collect()
}

fn even(shards: u32, workers: u32) -> Vec<u32> {
    (0..workers).map(|worker| shards / workers + u32::from(worker < shards % workers)).collect()
}

/// What is known of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Shards that it carries now.
    pub carried: u32,
    /// Microseconds that it takes for a shard, once that was measured.
    pub shard_us: Option<u64>,
    /// Whether it reads the data itself; others have to ask.
    pub holds_data: bool,
}

/// How many shards each of these workers is to carry, at least one each where there are as many.
///
/// A step ends with the slowest worker. So where what was measured says that a step would be done sooner by
/// [`GAIN_PERMILLE_MIN`], a slow worker gets fewer shards; otherwise the workers keep what they carry, or share evenly if they
/// do not carry all shards among them; what cannot be shared evenly goes to those that hold the data first. A worker that was
/// not measured counts as one in the middle.
pub fn balance(shards: u32, workers: &[Load]) -> Vec<u32> {
    let carried: Vec<u32> = workers.iter().map(|worker| worker.carried).collect();
    let keeps = carried.iter().all(|&carried| carried > 0) && carried.iter().sum::<u32>() == shards;
    let usual = if keeps { carried } else { even_by_data(shards, workers) };
    let Some(times) = shard_times(workers).filter(|times| times.len() <= shards as usize) else { return usual };
    let best = by_speed(shards, &times);
    let usual_us = step_us(&usual, &times);
    let gain_us = usual_us.saturating_mul(GAIN_PERMILLE_MIN) / 1_000;
    if step_us(&best, &times) <= usual_us - gain_us { best } else { usual }
}

/// As even as can be: one more for the first of those that hold the data, then for the first of the others.
fn even_by_data(shards: u32, workers: &[Load]) -> Vec<u32> {
    let mut first: Vec<usize> = (0..workers.len()).collect();
    first.sort_by_key(|&at| !workers[at].holds_data);
    let mut lengths = vec![0; workers.len()];
    first.into_iter().zip(even(shards, workers.len() as u32)).for_each(|(at, length)| lengths[at] = length);
    lengths
}

/// What each worker takes for a shard; `None` where nothing was measured.
fn shard_times(workers: &[Load]) -> Option<Vec<u64>> {
    let mut measured: Vec<u64> = workers.iter().filter_map(|worker| worker.shard_us).collect();
    measured.sort_unstable();
    let middle = *measured.get(measured.len().saturating_sub(1) / 2)?;
    Some(workers.iter().map(|worker| worker.shard_us.unwrap_or(middle).max(1)).collect())
}

/// How long a step takes.
fn step_us(lengths: &[u32], times: &[u64]) -> u64 {
    lengths.iter().zip(times).map(|(&length, &time)| time.saturating_mul(u64::from(length))).max().unwrap_or(0)
}

/// The lengths with which a step is done soonest: every shard goes where it is done first, after one each.
fn by_speed(shards: u32, times: &[u64]) -> Vec<u32> {
    let mut lengths = vec![1; times.len()];
    let done = |at: usize, length: u32| Reverse((times[at].saturating_mul(u64::from(length)), at));
    let mut first: BinaryHeap<_> = (0..times.len()).map(|at| done(at, 2)).collect();
    for _ in times.len() as u32..shards {
        let Some(Reverse((_, at))) = first.pop() else { break };
        lengths[at] += 1;
        first.push(done(at, lengths[at] + 1));
    }
    lengths
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Shards carried and microseconds a shard, 0 where that was not measured.
    type Workers = &'static [(u32, u64)];

    fn loads(workers: Workers) -> Vec<Load> {
        let load = |&(carried, time)| Load { carried, shard_us: (time > 0).then_some(time), holds_data: false };
        workers.iter().map(load).collect()
    }

    #[test]
    fn a_slow_worker_gets_fewer_shards_where_that_pays() {
        let cases: [(Workers, &[u32]); 9] = [
            // Nothing measured: as it is, or even.
            (&[(0, 0), (0, 0), (0, 0)], &[3, 3, 2]),
            (&[(6, 0), (2, 0)], &[6, 2]),
            // One that takes three times as long.
            (&[(4, 1_000), (4, 3_000)], &[6, 2]),
            (&[(3, 9_000), (3, 3_000), (2, 3_000)], &[1, 4, 3]),
            // A little slower does not pay.
            (&[(4, 1_000), (4, 1_200)], &[4, 4]),
            // Nobody carries nothing, however slow.
            (&[(4, 1_000), (4, 90_000)], &[7, 1]),
            // As fast again: back to even.
            (&[(6, 1_000), (2, 1_000)], &[4, 4]),
            // A newcomer counts as one in the middle.
            (&[(4, 1_000), (4, 4_000), (0, 0)], &[4, 1, 3]),
            (&[(8, 1_000), (0, 0)], &[4, 4]),
        ];
        for (workers, wanted) in cases {
            assert_eq!(balance(8, &loads(workers)), wanted, "{workers:?}");
        }
    }

    #[test]
    fn what_cannot_be_shared_evenly_goes_to_those_that_hold_the_data() {
        let load = |carried, holds_data| Load { carried, shard_us: None, holds_data };
        let new = [load(0, false), load(0, true), load(0, true)];
        assert_eq!(balance(8, &new), [2, 3, 3]);
        assert_eq!(balance(7, &new), [2, 3, 2]);
        assert_eq!(balance(3, &new), [1, 1, 1]);
        assert_eq!(balance(2, &[load(0, false), load(0, true)]), [1, 1]);
        // Nobody gives away what it has for that.
        assert_eq!(balance(3, &[load(2, false), load(1, true)]), [2, 1]);
    }

    /// Every way to deal `shards`, at least one each.
    fn ways(shards: u32, workers: usize) -> Vec<Vec<u32>> {
        if workers == 1 {
            return vec![vec![shards]];
        }
        let first = 1..=shards - (workers as u32 - 1);
        first
            .flat_map(|first| {
                ways(shards - first, workers - 1).into_iter().map(move |rest| [vec![first], rest].concat())
            })
            .collect()
    }

    fn answered(workers: &[Load], lengths: &[u32]) -> Vec<Load> {
        workers.iter().zip(lengths).map(|(worker, &carried)| Load { carried, ..*worker }).collect()
    }

    fn some_loads() -> impl Strategy<Value = Vec<Load>> {
        let load = (0u32..6, prop::option::of(100u64..20_000), any::<bool>());
        let load = load.prop_map(|(carried, shard_us, holds_data)| Load { carried, shard_us, holds_data });
        prop::collection::vec(load, 1..6)
    }

    proptest! {
        #[test]
        fn every_shard_is_dealt_and_the_answer_fed_back_changes_nothing(shards in 1u32..40, workers in some_loads()) {
            let lengths = balance(shards, &workers);
            prop_assert_eq!(lengths.iter().sum::<u32>(), shards);
            prop_assert!(workers.len() > shards as usize || lengths.iter().all(|&length| length > 0));
            prop_assert_eq!(balance(shards, &answered(&workers, &lengths)), lengths);
        }

        #[test]
        fn measurements_that_are_off_by_a_tenth_move_nothing(
            shards in 6u32..40,
            workers in some_loads(),
            off in prop::collection::vec(900u64..=1_100, 6),
        ) {
            // All are measured: a newcomer's speed is a guess that a measurement may well correct.
            let measured: Vec<Load> =
                workers.iter().map(|worker| Load { shard_us: Some(worker.shard_us.unwrap_or(5_000)), ..*worker }).collect();
            let lengths = balance(shards, &measured);
            prop_assume!(lengths == by_speed(shards, &shard_times(&measured).unwrap()));
            let again = answered(&measured, &lengths).into_iter().zip(off);
            let again: Vec<Load> =
                again.map(|(load, off)| Load { shard_us: load.shard_us.map(|time| time * off / 1_000), ..load }).collect();
            prop_assert_eq!(balance(shards, &again), lengths);
        }

        #[test]
        fn no_other_way_is_done_sooner(shards in 4u32..9, times in prop::collection::vec(1u64..5_000, 1..5)) {
            let best = step_us(&by_speed(shards, &times), &times);
            for other in ways(shards, times.len()) {
                prop_assert!(best <= step_us(&other, &times));
            }
        }

        #[test]
        fn every_shard_has_one_carrier(shards in 0u32..200, workers in 1u32..50) {
            let blocks = assign(shards, workers);
            let dealt: Vec<u32> = blocks.iter().flat_map(|block| block.iter()).collect();
            prop_assert_eq!(dealt, (0..shards).collect::<Vec<_>>());
            let lengths = blocks.iter().map(|block| block.len());
            prop_assert!(lengths.clone().max().unwrap() - lengths.min().unwrap() <= 1);
        }
    }
}
