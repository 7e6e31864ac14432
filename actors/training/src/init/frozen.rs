//! Parameters that stay as they are: their gradient is 0, so no optimiser moves them, and no norm counts them. What pulls
//! parameters without a gradient, weight decay, is refused beside it.

use std::ops::Range;

use crate::model::{Batch, Layout, Network, Score, Write};

/// A network some of whose parameters stay as they are: their gradient is 0.
pub(crate) struct PartlyFrozen {
    network: Box<dyn Network>,
    frozen: Vec<Range<usize>>,
}

impl PartlyFrozen {
    /// `network` itself where nothing is frozen.
    pub(crate) fn over(network: Box<dyn Network>, frozen: &[Range<usize>]) -> Box<dyn Network> {
        match frozen.is_empty() {
            true => network,
            false => Box::new(Self { network, frozen: frozen.to_vec() }),
        }
    }
}

impl Network for PartlyFrozen {
    fn layout(&self) -> &Layout {
        self.network.layout()
    }

    fn metrics(&self) -> &[&'static str] {
        self.network.metrics()
    }

    fn load(&mut self, parameters: &[f32]) {
        self.network.load(parameters);
    }

    fn gradient(&mut self, batch: Batch, weight: f32, gradient: &mut [f32], how: Write) -> f64 {
        let loss = self.network.gradient(batch, weight, gradient, how);
        for range in &self.frozen {
            gradient[range.clone()].fill(0.0);
        }
        loss
    }

    fn score(&self, batch: Batch) -> Score {
        self.network.score(batch)
    }
}
