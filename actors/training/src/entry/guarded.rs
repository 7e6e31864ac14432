//! Models are other people's code, and burn panics where shapes do not fit: here a panic becomes a fault of the entry, with
//! its name, what it was given and what it said.
//!
//! Before a job computes, [`Entries::try_out`] lets the entry compute one made-up sample. Whatever only goes wrong later is
//! told by [`Guarded`] before the panic goes on its way, so that the job fails with a reason instead of being tried again.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::{Entries, EntryError, Params};
use crate::data::{SampleShape, TargetInfo, Targets};
use crate::device::{ComputeDevice, DeviceError};
use crate::model::{Batch, Layout, Network, Score, Write};

impl Entries {
    /// Builds an entry's network and lets it compute the gradient and the score of one sample of zeros. Slow: a whole step
    /// forward and back.
    ///
    /// # Errors
    ///
    /// As [`Self::build`], and [`EntryError::Panicked`] where the entry panics, [`EntryError::Device`] where the device fails.
    pub fn try_out(
        &self,
        device: &ComputeDevice,
        entry: &str,
        sample: SampleShape,
        target: &TargetInfo,
        params: &Params,
    ) -> Result<(), EntryError> {
        let compute = || {
            let mut network = self.build(device, entry, sample, target, params)?;
            let batch = Batch {
                features: vec![0.0; sample.len()],
                targets: match target {
                    TargetInfo::Classes(_) => Targets::Classes(vec![0]),
                    TargetInfo::Value => Targets::Values(vec![0.0]),
                },
            };
            let initial = network.layout().initial(0);
            network.load(&initial);
            network.gradient(batch.clone(), 1.0, &mut vec![0.0; initial.len()], Write::Replace);
            network.score(batch);
            Ok(())
        };
        catch_unwind(AssertUnwindSafe(compute)).unwrap_or_else(|panic| {
            Err(EntryError::panicked(entry, device.model(), &given(1, sample, target), &*panic))
        })
    }
}

impl EntryError {
    fn panicked(entry: &str, device: &str, given: &str, panic: &(dyn Any + Send)) -> Self {
        let entry = entry.to_owned();
        match panic.downcast_ref::<DeviceError>() {
            Some(error) => Self::Device { entry, device: device.to_owned(), fault: error.clone() },
            None => Self::Panicked { entry, given: given.to_owned(), said: said(panic) },
        }
    }
}

/// What a panic said.
pub(crate) fn said(panic: &(dyn Any + Send)) -> String {
    let said = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    said.unwrap_or("nothing that can be shown").to_owned()
}

fn given(samples: usize, sample: SampleShape, target: &TargetInfo) -> String {
    let SampleShape { height, width, channels } = sample;
    let wanted = match target {
        TargetInfo::Classes(names) => format!("{} classes", names.len()),
        TargetInfo::Value => "a value".to_owned(),
    };
    format!("{samples} sample(s) of {height} x {width} x {channels} with {wanted} to predict")
}

/// A network that tells whom it may concern when its entry panics.
pub(crate) struct Guarded<F> {
    network: Box<dyn Network>,
    /// The model of the device that it computes on.
    device: String,
    entry: String,
    sample: SampleShape,
    target: TargetInfo,
    tell: F,
}

impl<F: Fn(EntryError) + Send> Guarded<F> {
    /// Guards a network of `entry` on `device`, for this data.
    pub(crate) fn new(
        network: Box<dyn Network>,
        device: &ComputeDevice,
        entry: &str,
        sample: SampleShape,
        target: &TargetInfo,
        tell: F,
    ) -> Self {
        let device = device.model().to_owned();
        Self { network, device, entry: entry.to_owned(), sample, target: target.clone(), tell }
    }
}

/// Whether it tells or not, the panic goes on: what the network was about to change is in no usable state.
fn guard<T>(tell: impl FnOnce(&(dyn Any + Send)), work: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        tell(&*panic);
        resume_unwind(panic)
    })
}

impl<F: Fn(EntryError) + Send> Network for Guarded<F> {
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
        let Self { network, device, entry, sample, target, tell } = self;
        let samples = batch.targets.len();
        let tell = |panic: &(dyn Any + Send)| {
            tell(EntryError::panicked(entry, device, &given(samples, *sample, target), panic));
        };
        guard(tell, || network.gradient(batch, weight, gradient, how))
    }

    fn score(&self, batch: Batch) -> Score {
        let samples = batch.targets.len();
        let tell = |panic: &(dyn Any + Send)| {
            let given = given(samples, self.sample, &self.target);
            (self.tell)(EntryError::panicked(&self.entry, &self.device, &given, panic));
        };
        guard(tell, || self.network.score(batch))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use burn::module::Module;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::{Device, Tensor};

    use super::*;
    use crate::model::{Model, NoParams};

    /// Takes samples of 7 values, and says so nowhere.
    #[derive(Module, Debug)]
    struct Narrow {
        linear: Linear,
    }

    impl Model for Narrow {
        const NAME: &'static str = "tests::Narrow";
        type Params = NoParams;

        fn build(_: SampleShape, outputs: usize, _: &NoParams, device: &Device) -> Result<Self, EntryError> {
            Ok(Self { linear: LinearConfig::new(7, outputs).init(device) })
        }

        fn forward(&self, samples: Tensor<4>) -> Tensor<2> {
            assert!(samples.dims()[0] < 3, "no more than two at a time");
            self.linear.forward(samples.flatten(1, 3))
        }
    }

    fn shape(width: u32) -> SampleShape {
        SampleShape { height: 1, width, channels: 1 }
    }

    fn entries() -> Entries {
        Entries::none().with_model::<Narrow>()
    }

    #[test]
    fn shapes_that_do_not_fit_are_found_with_one_sample() {
        let params = entries().params("tests::Narrow", &[].into()).unwrap();
        let device = ComputeDevice::flex();
        let try_out = |width| entries().try_out(&device, "tests::Narrow", shape(width), &TargetInfo::Value, &params);
        assert_eq!(try_out(7), Ok(()));
        let error = try_out(8).unwrap_err().to_string();
        let start = "the entry `tests::Narrow` panicked over 1 sample(s) of 1 x 8 x 1 with a value to predict: ";
        assert!(error.starts_with(start), "{error}");
    }

    #[test]
    fn a_panic_later_on_is_told_and_goes_on() {
        let params = entries().params("tests::Narrow", &[].into()).unwrap();
        let device = ComputeDevice::flex();
        let network = entries().build(&device, "tests::Narrow", shape(7), &TargetInfo::Value, &params).unwrap();
        let (sender, told) = mpsc::channel();
        let mut guarded = Guarded::new(network, &device, "tests::Narrow", shape(7), &TargetInfo::Value, move |error| {
            sender.send(error).unwrap();
        });
        let mut gradient = vec![0.0; guarded.layout().len()];
        let batch =
            |samples: usize| Batch { features: vec![0.5; 7 * samples], targets: Targets::Values(vec![1.0; samples]) };
        guarded.gradient(batch(2), 1.0, &mut gradient, Write::Replace);
        assert!(told.try_recv().is_err());
        let panic = catch_unwind(AssertUnwindSafe(|| guarded.gradient(batch(3), 1.0, &mut gradient, Write::Replace)));
        assert!(panic.is_err());
        assert!(told.recv().unwrap().to_string().ends_with("no more than two at a time"));
        assert!(catch_unwind(AssertUnwindSafe(|| guarded.score(batch(3)))).is_err());
        assert!(told.recv().unwrap().to_string().contains("over 3 sample(s)"));
    }

    #[test]
    fn a_device_that_is_lost_is_told_as_such() {
        let lost = DeviceError::Lost("out of memory".to_owned());
        let panic = catch_unwind(|| std::panic::panic_any(lost.clone())).unwrap_err();
        let error = EntryError::panicked("mlp", "wgpu card", "anything", &*panic);
        let said =
            "the entry `mlp` was left by its device wgpu card: the device does not compute any more: out of memory";
        assert!(error.to_string().starts_with(said), "{error}");
    }
}
