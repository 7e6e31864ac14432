//! Which worker carries which logical shards: contiguous blocks, as even as can be.

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
    let (base, longer) = match workers {
        0 => return Vec::new(),
        workers => (shards / workers, shards % workers),
    };
    let mut start = 0;
    (0..workers)
        .map(|worker| {
            let end = start + base + u32::from(worker < longer);
            let block = ShardRange { start, end };
            start = end;
            block
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
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
