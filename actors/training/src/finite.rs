//! Values that are no numbers any more: where the first one is, and what a job that met one is told.
//!
//! What is found does not depend on the workers: losses are looked at in shard order and the gradient after it was added up
//! in its fixed order, so the same step says the same words whoever carried it.

use std::fmt::Write;

use crate::model::Layout;
use crate::wide::wide;

/// The bits of a float without its sign; those of infinity and of what is no number are the largest.
const MAGNITUDE: u32 = 0x7fff_ffff;
const INFINITY: u32 = 0x7f80_0000;

/// Losses that are listed one by one; of more only the number is said.
const LISTED_MAX: usize = 8;

/// Values of one block: scanned without looking at each, so that the scan runs at the speed of memory.
const BLOCK: usize = 4_096;

/// What to do about it.
const HELP: &str = "lower `train.params.lr`, set `train.params.clip_norm`, or look for such values in the data; the last checkpoint is kept";

/// The position of the first value that is infinite or no number.
pub fn first_not_finite(values: &[f32]) -> Option<usize> {
    let magnitude = |value: &f32| value.to_bits() & MAGNITUDE;
    let largest = |block: &[f32]| block.iter().map(magnitude).fold(0, u32::max);
    let at = wide(|| values.chunks(BLOCK).position(|block| largest(block) >= INFINITY))? * BLOCK;
    values[at..].iter().position(|value| !value.is_finite()).map(|within| at + within)
}

/// A step that cannot be made: a loss or a value of the gradient is not finite.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("step {step} has a loss or a gradient that is not finite")]
pub struct NotFinite {
    /// The step, counted from 0.
    pub step: u64,
    /// The logical shards whose loss is not finite, each with the sum of losses of its samples.
    pub losses: Vec<(u32, f64)>,
    /// The first value of the gradient that is not finite, by its position in the flat buffer.
    pub gradient: Option<usize>,
}

impl NotFinite {
    /// The fault of a step, if it has one. `losses` has one sum a logical shard, in order.
    pub fn find(step: u64, losses: &[f64], gradient: Option<usize>) -> Option<Self> {
        let bad = (0..).zip(losses.iter().copied()).filter(|(_, loss)| !loss.is_finite());
        let fault = Self { step, losses: bad.collect(), gradient };
        (!fault.losses.is_empty() || gradient.is_some()).then_some(fault)
    }

    /// The same fault where the losses were those of the logical shards from `first` on.
    #[must_use]
    pub fn with_shards_from(mut self, first: u32) -> Self {
        self.losses.iter_mut().for_each(|(shard, _)| *shard += first);
        self
    }

    /// What the owner of the job is told.
    pub fn describe(&self, layout: &Layout) -> String {
        // Users count steps as progress does: the first one makes 1.
        let mut text = format!("step {} was not made, its numbers are not finite: ", self.step + 1);
        let mut facts = Vec::new();
        if !self.losses.is_empty() {
            facts.push(losses(&self.losses));
        }
        if let Some(at) = self.gradient {
            facts.push(format!("the first such value of the gradient lies in {}", place(layout, at)));
        }
        text += &facts.join("; ");
        text + "; " + HELP
    }
}

/// The text for a state that is not finite after `step` steps, in the parameters or in the optimiser's moments.
pub fn describe_state(step: u64, parameters: &[f32], moments: &[Vec<f32>], layout: &Layout) -> Option<String> {
    let of_parameters = || first_not_finite(parameters).map(|at| ("parameters", at));
    let of_moments =
        || moments.iter().find_map(|moment| first_not_finite(moment)).map(|at| ("optimiser's moments", at));
    let (what, at) = of_parameters().or_else(of_moments)?;
    let place = place(layout, at);
    Some(format!("after step {step} the {what} are not finite; the first such value lies in {place}; {HELP}"))
}

fn losses(losses: &[(u32, f64)]) -> String {
    let mut text = "the loss of logical shard".to_owned() + if losses.len() == 1 { " " } else { "s " };
    for (at, (shard, loss)) in losses.iter().take(LISTED_MAX).enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        let _ = write!(text, "{comma}{shard} ({loss})");
    }
    if let Some(more) = losses.len().checked_sub(LISTED_MAX).filter(|&more| more > 0) {
        let _ = write!(text, " and {more} more");
    }
    text
}

fn place(layout: &Layout, at: usize) -> String {
    match layout.place_of(at) {
        Some(place) => format!("`{}` at value {} of {}", place.name, at - place.start, place.len()),
        None => format!("value {at}, which no tensor has"),
    }
}

#[cfg(test)]
mod tests {
    use burn::nn::LinearConfig;
    use burn::tensor::Device;
    use proptest::prelude::*;

    use super::*;

    fn layout() -> Layout {
        Layout::of(&LinearConfig::new(3, 2).init(&Device::flex()))
    }

    proptest! {
        #[test]
        fn the_first_such_value_is_found(length in 0usize..10_000, bad in prop::collection::vec((0usize..12_000, 0usize..3), 0..4)) {
            let mut values = vec![f32::MAX; length];
            let kinds = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
            for &(at, kind) in bad.iter().filter(|(at, _)| *at < length) {
                values[at] = kinds[kind];
            }
            let expected = values.iter().position(|value| !value.is_finite());
            prop_assert_eq!(first_not_finite(&values), expected);
        }
    }

    #[test]
    fn the_text_names_step_shards_and_layer() {
        assert_eq!(NotFinite::find(3, &[1.0, 2.0], None), None);
        let text = NotFinite::find(3, &[1.0, f64::NAN, f64::INFINITY], Some(7)).unwrap().describe(&layout());
        assert!(text.starts_with("step 4 was not made"), "{text}");
        assert!(text.contains("the loss of logical shards 1 (NaN), 2 (inf)"), "{text}");
        assert!(text.contains("gradient lies in `bias` at value 1 of 2"), "{text}");
        let many = NotFinite::find(0, &[f64::NAN; 11], None).unwrap().describe(&layout());
        assert!(many.contains("7 (NaN) and 3 more; lower"), "{many}");
        let one = NotFinite::find(0, &[0.0], Some(0)).unwrap().describe(&layout());
        assert!(!one.contains("loss of") && one.contains("`weight` at value 0 of 6"), "{one}");
    }

    #[test]
    fn a_state_is_looked_at_whole() {
        assert_eq!(describe_state(5, &[0.0; 8], &[vec![1.0; 8]], &layout()), None);
        let mut moment = vec![0.0; 8];
        moment[6] = f32::INFINITY;
        let text = describe_state(5, &[0.0; 8], &[vec![1.0; 8], moment], &layout()).unwrap();
        assert!(text.starts_with("after step 5 the optimiser's moments are not finite"), "{text}");
        assert!(text.contains("`bias` at value 0 of 2"), "{text}");
    }
}
