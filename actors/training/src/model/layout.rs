//! What lies where in the flat buffer of a model's parameters.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

/// One tensor's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorPlace {
    /// Its name, for example `layer1.weight`.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its first position in the buffer.
    pub start: usize,
}

impl TensorPlace {
    /// How many values it has.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its positions in the buffer.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.start..self.start + self.len()
    }
}

/// The places of all tensors, in the order the model's module tree is visited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    places: Vec<TensorPlace>,
}

impl Layout {
    /// The layout of a module.
    pub fn of(module: &impl Module) -> Self {
        let mut collector = Collector::default();
        module.visit(&mut collector);
        collector.layout
    }

    /// The places, in order.
    pub fn places(&self) -> &[TensorPlace] {
        &self.places
    }

    /// The tensor that a position of the buffer belongs to.
    pub fn place_of(&self, at: usize) -> Option<&TensorPlace> {
        let after = self.places.partition_point(|place| place.range().end <= at);
        self.places.get(after).filter(|place| place.range().contains(&at))
    }

    /// How many values the buffer has.
    pub fn len(&self) -> usize {
        self.places.last().map_or(0, |place| place.range().end)
    }

    /// Whether the model has no parameters.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[derive(Default)]
struct Collector {
    path: Vec<String>,
    layout: Layout,
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let shape = param.lazy_shape().as_slice().to_vec();
        let start = self.layout.len();
        self.layout.places.push(TensorPlace { name: self.path.join("."), shape, start });
    }
}
