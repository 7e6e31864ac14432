//! A burn module with its parameters in and its gradients out as flat buffers, on any device.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData, Transaction};

use super::{Layout, Write};
use crate::device::{ComputeDevice, lost};
use crate::reduction::add;

/// A module with what lies where in its flat buffer.
pub(super) struct Flat<M> {
    /// On the device with autodiff. `None` only while new parameters are mapped into it.
    module: Option<M>,
    layout: Layout,
    training: Device,
    prediction: Device,
}

impl<M: Module> Flat<M> {
    /// Builds a module on `device`.
    ///
    /// # Errors
    ///
    /// As `build`.
    pub(super) fn build<E>(device: &ComputeDevice, build: impl FnOnce(&Device) -> Result<M, E>) -> Result<Self, E> {
        let training = device.training();
        let module = build(&training)?;
        Ok(Self { layout: Layout::of(&module), module: Some(module), training, prediction: device.prediction() })
    }

    pub(super) fn module(&self) -> &M {
        self.module.as_ref().expect("the module is put back right after it is mapped")
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Where what is differentiated is computed.
    pub(super) fn training_device(&self) -> &Device {
        &self.training
    }

    /// Where the module only predicts.
    pub(super) fn prediction_device(&self) -> &Device {
        &self.prediction
    }

    /// Takes over parameters.
    pub(super) fn load(&mut self, parameters: &[f32]) {
        assert_eq!(parameters.len(), self.layout.len(), "callers check lengths where parameters come in");
        let mut loader = Loader { rest: parameters, device: &self.training };
        self.module = self.module.take().map(|module| module.map(&mut loader));
    }

    /// Puts the gradient of what was differentiated into `gradient`. It comes from the device in one transfer.
    ///
    /// # Panics
    ///
    /// With [`crate::device::DeviceError::Lost`] where it does not come.
    pub(super) fn collect(&self, mut gradients: Gradients, gradient: &mut [f32], how: Write) {
        let mut asked =
            GradientVisitor { gradients: &mut gradients, transfer: Transaction::default(), parts: Vec::new() };
        self.module().visit(&mut asked);
        let GradientVisitor { transfer, parts, .. } = asked;
        let mut arrived = transfer.try_execute().unwrap_or_else(|error| lost(&error)).into_iter();
        let mut rest = gradient;
        for Part { length, has_gradient } in parts {
            let (out, after) = rest.split_at_mut(length);
            rest = after;
            let data = has_gradient.then(|| arrived.next().expect("as many tensors come as were asked for"));
            let values = data.as_ref().map(|data| data.as_slice::<f32>().expect("gradients are floats"));
            match (values, how) {
                (Some(values), Write::Replace) => out.copy_from_slice(values),
                (Some(values), Write::Add) => add(out, values),
                // A parameter that the loss does not depend on.
                (None, Write::Replace) => out.fill(0.0),
                (None, Write::Add) => {}
            }
        }
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

/// Asks for the gradients of all parameters, in their order.
struct GradientVisitor<'a> {
    gradients: &'a mut Gradients,
    transfer: Transaction,
    parts: Vec<Part>,
}

/// What one parameter has of the gradient.
struct Part {
    length: usize,
    has_gradient: bool,
}

impl ModuleVisitor for GradientVisitor<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let gradient = param.val().grad_remove(self.gradients);
        self.parts.push(Part { length: param.lazy_shape().num_elements(), has_gradient: gradient.is_some() });
        if let Some(gradient) = gradient {
            self.transfer = std::mem::take(&mut self.transfer).register(gradient);
        }
    }
}
