//! One server's segment of the parameters: the gradients that come in for it, and the steps it makes.
//!
//! A step has two phases. When all parts of a gradient have come in the segment is *prepared*: nothing has changed yet, and
//! [`Prepared`] says what the commit has to know of it. [`Segment::apply`] then makes the step. Between the two lies the
//! decision of whoever keeps the job's books, over all segments at once.

use std::ops::Range;
use std::sync::Arc;

use neap_scheduler::elastic::{ReductionTree, TreeNode};

use crate::finite::first_not_finite;
use crate::optimiser::{Optimiser, Scale};
use crate::parameters::Parameters;
use crate::reduction::{Buffers, Floats, Part, Reducer};
use crate::segments::Cut;
use crate::state::Snapshot;
use crate::update::UpdateSettings;

/// A contiguous part of the flat buffer with its optimiser.
pub struct Segment {
    range: Range<usize>,
    cut: Cut,
    /// Whether a commit needs to know how long the gradient is.
    measured: bool,
    parameters: Parameters,
    optimiser: Optimiser,
    step: u64,
    reducer: Reducer,
    /// The whole gradient of the step, once it is there.
    sum: Option<Part<Box<dyn Floats>>>,
    buffers: Buffers,
}

/// What a commit has to know of a segment whose gradient is complete.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Prepared {
    /// The sum of squares of each chunk of the gradient; nothing where no length limits it.
    pub squares: Vec<f64>,
    /// The first value of the gradient that is not finite, by its position in the flat buffer.
    pub not_finite: Option<usize>,
}

impl Segment {
    /// The part `range` of a whole state; `None` where that does not fit the settings or the cut.
    pub fn new(
        tree: ReductionTree,
        cut: Cut,
        range: Range<usize>,
        settings: &UpdateSettings,
        whole: Snapshot,
    ) -> Option<Self> {
        let own = |buffer: &[f32]| buffer.get(range.clone()).map(<[f32]>::to_vec);
        if whole.parameters.len() != cut.length() || whole.relaxed.is_some() {
            return None;
        }
        let all = range.len() == cut.length();
        let parameters = if all { whole.parameters } else { Arc::new(own(&whole.parameters)?) };
        let moments =
            if all { whole.moments } else { whole.moments.iter().map(|moment| own(moment)).collect::<Option<_>>()? };
        let optimiser = Optimiser::restore(settings.optimiser, range.len(), whole.optimiser_time, moments)?;
        Some(Self {
            range,
            cut,
            measured: settings.clip_norm.is_some(),
            parameters: Parameters::new(parameters),
            optimiser,
            step: whole.step,
            reducer: Reducer::new(tree),
            sum: None,
            buffers: Buffers::default(),
        })
    }

    /// Shares the buffers of whoever computes in this process.
    #[must_use]
    pub fn with_buffers(self, buffers: Buffers) -> Self {
        Self { buffers, ..self }
    }

    /// Its positions in the flat buffer.
    pub fn range(&self) -> &Range<usize> {
        &self.range
    }

    /// Steps made.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The parameters after these steps.
    pub fn parameters(&self) -> &Arc<Vec<f32>> {
        self.parameters.shared()
    }

    /// The optimiser's state.
    pub fn optimiser(&self) -> &Optimiser {
        &self.optimiser
    }

    /// The whole gradient of the step, with its losses and samples, once it is there.
    pub fn sum(&self) -> Option<&Part<Box<dyn Floats>>> {
        self.sum.as_ref()
    }

    /// Takes a part of the step's gradient in; the last one prepares the step.
    pub fn insert(&mut self, node: TreeNode, part: Part<Box<dyn Floats>>) -> bool {
        if self.sum.is_none() {
            self.sum = self.reducer.insert(node, part, &self.buffers);
        }
        self.sum.is_some()
    }

    /// What the commit has to know; nothing while the gradient is not complete.
    pub fn prepared(&self) -> Option<Prepared> {
        let gradient = self.sum.as_ref()?.gradient.values();
        let squares = if self.measured { self.cut.squares(gradient).collect() } else { Vec::new() };
        let not_finite = first_not_finite(gradient).map(|at| self.range.start + at);
        Some(Prepared { squares, not_finite })
    }

    /// Makes the prepared step; returns its gradient's losses and samples. `None` where no step is prepared.
    pub fn apply(&mut self, scale: Scale) -> Option<Part<()>> {
        let sum = self.sum.take()?;
        self.optimiser.step(self.parameters.to_mut(), sum.gradient.values(), scale);
        self.step += 1;
        sum.gradient.into_vec().into_iter().for_each(|buffer| self.buffers.put(buffer));
        Some(Part { gradient: (), losses: sum.losses, samples: sum.samples })
    }

    /// Forgets the parts of an incomplete gradient; a prepared step stays prepared.
    pub fn abandon_parts(&mut self) {
        self.reducer.clear(&self.buffers);
    }

    /// Forgets everything of the step that is under way.
    pub fn abandon_step(&mut self) {
        self.abandon_parts();
        let gradient = self.sum.take().and_then(|sum| sum.gradient.into_vec());
        gradient.into_iter().for_each(|buffer| self.buffers.put(buffer));
    }
}
