//! Loops over long rows of numbers, with the widest instructions the processor has.

use pulp::Arch;

/// Runs `work` compiled for the processor at hand; its loops may then take 8 or 16 numbers at once. That changes no bit: the
/// compiler neither reorders sums nor fuses products, so every number comes from the same operations.
#[inline(always)]
pub(crate) fn wide<R>(work: impl FnOnce() -> R) -> R {
    Arch::new().dispatch(work)
}
