//! What the two processes say to each other over the actor network.

use neap_runtime::Protocol;
use serde::{Deserialize, Serialize};

/// 64 bytes that no encoding makes smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Block(pub(crate) [u8; 32], pub(crate) [u8; 32]);

impl Block {
    pub(crate) const SAMPLE: Self = Self([7; 32], [9; 32]);
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// The block back.
    Echo(Block),
    /// An answer once this many casts have been handled since the start.
    Casts(u64),
    /// An answer once the payload with this number has been handled.
    Bulk(u64),
    /// The processor time used so far, in microseconds.
    Cpu,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Echo(Block),
    Done,
    Cpu(u64),
}

pub(crate) struct Talk;

impl Protocol for Talk {
    const NAME: &'static str = "bench-talk";
    type Cast = Block;
    type Request = Ask;
    type Reply = Answer;
    type BulkHeader = u64;
}

/// Processor time of this process so far, in microseconds; the kernel counts in steps of 10 ms.
pub(crate) fn cpu_us() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks = |field: usize| fields.split_whitespace().nth(field).unwrap().parse::<u64>().unwrap();
    (ticks(11) + ticks(12)) * 10_000
}
