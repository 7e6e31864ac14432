//! What lies where in the flat buffer of a model's parameters.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

/// The kind of a linear layer.
const LINEAR: &str = "Struct:Linear";

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
    /// What kind of module each tensor belongs to, as burn's derive names it.
    kinds: Vec<String>,
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

    /// Whether a place is the weight of a linear layer, which burn keeps as `[in, out]`.
    pub fn is_linear_weight(&self, place: &TensorPlace) -> bool {
        let at = self.places.iter().position(|other| other.start == place.start && other.name == place.name);
        place.shape.len() == 2 && at.is_some_and(|at| self.kinds[at] == LINEAR)
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
    kinds: Vec<String>,
    layout: Layout,
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.push(name.to_owned());
        self.kinds.push(container_type.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
        self.kinds.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let shape = param.lazy_shape().as_slice().to_vec();
        let start = self.layout.len();
        self.layout.places.push(TensorPlace { name: self.path.join("."), shape, start });
        // Lists and the like are between a module and what it belongs to.
        let kind = self.kinds.iter().rev().find(|kind| kind.starts_with("Struct:") || kind.starts_with("Enum:"));
        self.layout.kinds.push(kind.cloned().unwrap_or_default());
    }
}
