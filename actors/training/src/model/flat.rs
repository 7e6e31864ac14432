//! A burn module with its parameters in and its gradients out as flat buffers, on burn's CPU backend.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};

use super::{Layout, Write};

/// A module with what lies where in its flat buffer.
pub(super) struct Flat<M> {
    /// On the device with autodiff. `None` only while new parameters are mapped into it.
    module: Option<M>,
    layout: Layout,
    device: Device,
}

impl<M: Module> Flat<M> {
    /// Takes over a module that was built on `device`.
    pub(super) fn new(module: M, device: Device) -> Self {
        Self { layout: Layout::of(&module), module: Some(module), device }
    }

    /// Where modules that are to be trained are built.
    pub(super) fn training_device() -> Device {
        Device::flex().autodiff()
    }

    /// Where modules only predict.
    pub(super) fn prediction_device() -> Device {
        Device::flex()
    }

    pub(super) fn module(&self) -> &M {
        self.module.as_ref().expect("the module is put back right after it is mapped")
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(super) fn device(&self) -> &Device {
        &self.device
    }

    /// Takes over parameters.
    pub(super) fn load(&mut self, parameters: &[f32]) {
        assert_eq!(parameters.len(), self.layout.len(), "callers check lengths where parameters come in");
        let mut loader = Loader { rest: parameters, device: &self.device };
        self.module = self.module.take().map(|module| module.map(&mut loader));
    }

    /// Puts the gradient of what was differentiated into `gradient`.
    pub(super) fn collect(&self, mut gradients: Gradients, gradient: &mut [f32], how: Write) {
        let mut collector = GradientCollector { gradients: &mut gradients, rest: gradient, how };
        self.module().visit(&mut collector);
    }

    /// The module for predicting, without a record of what it does.
    pub(super) fn valid(&self) -> M {
        self.module().valid()
    }
}

struct Loader<'a> {
    rest: &'a [f32],
    device: &'a Device,
}

impl ModuleMapper for Loader<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let shape = param.lazy_shape();
        let (values, rest) = self.rest.split_at(shape.num_elements());
        self.rest = rest;
        let tensor = Tensor::<D>::from_data(TensorData::new(values.to_vec(), shape), self.device);
        Param::initialized(param.id, tensor.require_grad())
    }
}

struct GradientCollector<'a, 'b> {
    gradients: &'a mut Gradients,
    rest: &'b mut [f32],
    how: Write,
}

impl ModuleVisitor for GradientCollector<'_, '_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let (out, rest) = std::mem::take(&mut self.rest).split_at_mut(param.lazy_shape().num_elements());
        self.rest = rest;
        let data = param.val().grad_remove(self.gradients).map(Tensor::into_data);
        let values = data.as_ref().map(|data| data.as_slice::<f32>().expect("gradients are floats"));
        match (values, self.how) {
            (Some(values), Write::Replace) => out.copy_from_slice(values),
            (Some(values), Write::Add) => out.iter_mut().zip(values).for_each(|(out, value)| *out += value),
            // A parameter that the loss does not depend on.
            (None, Write::Replace) => out.fill(0.0),
            (None, Write::Add) => {}
        }
    }
}
