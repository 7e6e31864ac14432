//! Memory that this process asks for.

use std::alloc::System;
use std::ops::Sub;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

/// Counts what this process asks the system's allocator for.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Memory that a process asked for; what it gave back is not taken off.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Allocated {
    pub(crate) bytes: f64,
    pub(crate) count: f64,
}

impl Allocated {
    /// By this process so far. A buffer that grew counts with what was added to it.
    pub(crate) fn so_far() -> Self {
        let stats = ALLOCATOR.stats();
        Self { bytes: stats.bytes_allocated as f64, count: (stats.allocations + stats.reallocations) as f64 }
    }

    /// As a process writes it for another one.
    pub(crate) fn to_line(self) -> String {
        format!("allocated {} {}", self.bytes, self.count)
    }

    /// What a process wrote.
    pub(crate) fn from_line(line: &str) -> Option<Self> {
        let (bytes, count) = line.trim().strip_prefix("allocated ")?.split_once(' ')?;
        Some(Self { bytes: bytes.parse().ok()?, count: count.parse().ok()? })
    }

    /// Of each of so many steps.
    pub(crate) fn per(self, steps: u64) -> Self {
        Self { bytes: self.bytes / steps as f64, count: self.count / steps as f64 }
    }
}

impl Sub for Allocated {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { bytes: self.bytes - other.bytes, count: self.count - other.count }
    }
}
