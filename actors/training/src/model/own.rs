//! An [`Entry`] as a [`Network`]: items, batches, loss and metrics are the entry's own.

use burn::tensor::{Device, Tensor};

use super::flat::Flat;
use super::{Batch, DataShape, Entry, Evaluation, Layout, Network, Sample, Score, Write};
use crate::device::{ComputeDevice, read};
use crate::entry::EntryError;

/// An [`Entry`] with its flat buffer.
pub struct OwnNetwork<E: Entry> {
    flat: Flat<E>,
    data: DataShape,
}

impl<E: Entry> OwnNetwork<E> {
    /// Builds the entry's network on the processor.
    ///
    /// # Errors
    ///
    /// As [`Entry::build`].
    pub fn new(data: DataShape, params: &E::Params) -> Result<Self, EntryError> {
        Self::on(&ComputeDevice::flex(), data, params)
    }

    /// Builds the entry's network on a device.
    ///
    /// # Errors
    ///
    /// As [`Entry::build`].
    pub fn on(device: &ComputeDevice, data: DataShape, params: &E::Params) -> Result<Self, EntryError> {
        let flat = Flat::build(device, |device| E::build(&data, params, device))?;
        Ok(Self { flat, data })
    }

    fn batch(&self, batch: &Batch, device: &Device) -> E::Batch {
        let shape = self.data.sample;
        let samples = batch.features.chunks_exact(shape.len().max(1)).enumerate();
        let item = |(at, features)| E::item(Sample { features, shape, target: batch.targets.get(at) });
        E::batch(samples.map(item).collect(), device)
    }
}

impl<E: Entry> Network for OwnNetwork<E> {
    fn layout(&self) -> &Layout {
        self.flat.layout()
    }

    fn metrics(&self) -> &[&'static str] {
        E::METRICS
    }

    fn load(&mut self, parameters: &[f32]) {
        self.flat.load(parameters);
    }

    fn gradient(&mut self, batch: Batch, weight: f32, gradient: &mut [f32], how: Write) -> f64 {
        let count = batch.targets.len();
        let losses = self.flat.module().losses(&self.batch(&batch, self.flat.training_device()));
        let sum = sum_of::<E>("loss", losses.clone().inner(), count);
        self.flat.collect((losses.sum() * weight).backward(), gradient, how);
        sum
    }

    fn score(&self, batch: Batch) -> Score {
        let count = batch.targets.len();
        let Evaluation { losses, metrics } =
            self.flat.valid().evaluate(&self.batch(&batch, self.flat.prediction_device()));
        assert_eq!(metrics.len(), E::METRICS.len(), "`{}` names as many metrics as it computes", E::NAME);
        let metrics = metrics.into_iter().zip(E::METRICS).map(|(values, name)| sum_of::<E>(name, values, count));
        Score { loss: sum_of::<E>("loss", losses, count), metrics: metrics.collect() }
    }
}

/// The sum of one value a sample, added up in the samples' order.
///
/// # Panics
///
/// Where an entry gives another number of values: its results would depend on how a step is cut into shards.
fn sum_of<E: Entry>(what: &str, values: Tensor<1>, samples: usize) -> f64 {
    let values = read(values).try_into_vec::<f32>().unwrap_or_default();
    assert_eq!(values.len(), samples, "`{}` must give one {what} a sample, as floats, and no mean or sum", E::NAME);
    values.iter().map(|&value| f64::from(value)).sum()
}

#[cfg(test)]
mod tests {
    use burn::module::Module;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::TensorData;

    use super::*;
    use crate::data::{SampleShape, Target, TargetInfo, Targets};
    use crate::model::{NoParams, StandardNetwork};

    /// Linear regression with everything of its own.
    #[derive(Module, Debug)]
    struct Own {
        linear: Linear,
    }

    impl Entry for Own {
        const NAME: &'static str = "tests::Own";
        const METRICS: &'static [&'static str] = &["within_one"];
        type Params = NoParams;
        type Item = (Vec<f32>, f32);
        type Batch = (Tensor<2>, Tensor<1>);

        fn build(data: &DataShape, _: &NoParams, device: &Device) -> Result<Self, EntryError> {
            Ok(Self { linear: LinearConfig::new(data.sample.len(), 1).init(device) })
        }

        fn item(sample: Sample<'_>) -> Self::Item {
            match sample.target {
                Target::Value(value) => (sample.features.to_vec(), value),
                Target::Class(class) => (sample.features.to_vec(), f32::from(class)),
            }
        }

        fn batch(items: Vec<Self::Item>, device: &Device) -> Self::Batch {
            let (count, width) = (items.len(), items.first().map_or(0, |(features, _)| features.len()));
            let (features, values): (Vec<_>, Vec<_>) = items.into_iter().unzip();
            let features = TensorData::new(features.concat(), [count, width]);
            (Tensor::from_data(features, device), Tensor::from_data(TensorData::new(values, [count]), device))
        }

        fn losses(&self, (features, values): &Self::Batch) -> Tensor<1> {
            (self.linear.forward(features.clone()).squeeze_dim::<1>(1) - values.clone()).powf_scalar(2.0)
        }

        fn evaluate(&self, batch: &Self::Batch) -> Evaluation {
            let losses = self.losses(batch);
            Evaluation { metrics: vec![losses.clone().lower_elem(1.0).float()], losses }
        }
    }

    /// The same as a model with the standard loss.
    #[derive(Module, Debug)]
    struct Standard {
        linear: Linear,
    }

    impl crate::model::Model for Standard {
        const NAME: &'static str = "tests::Standard";
        type Params = NoParams;

        fn build(shape: SampleShape, outputs: usize, _: &NoParams, device: &Device) -> Result<Self, EntryError> {
            Ok(Self { linear: LinearConfig::new(shape.len(), outputs).init(device) })
        }

        fn forward(&self, samples: Tensor<4>) -> Tensor<2> {
            self.linear.forward(samples.flatten(1, 3))
        }
    }

    #[test]
    fn a_loss_of_ones_own_gives_the_gradient_that_the_standard_one_gives() {
        let sample = SampleShape { height: 1, width: 3, channels: 1 };
        let mut own = OwnNetwork::<Own>::new(DataShape { sample, target: TargetInfo::Value }, &NoParams {}).unwrap();
        let mut standard = StandardNetwork::<Standard>::new(sample, &TargetInfo::Value, &NoParams {}).unwrap();
        let initial = own.layout().initial(5);
        let batch = Batch {
            features: (0..12).map(|at| (at as f32).sin()).collect(),
            targets: Targets::Values(vec![0.2, 3.0, -0.1, 0.4]),
        };
        let gradient = |network: &mut dyn Network| {
            network.load(&initial);
            let mut gradient = vec![1.0; initial.len()];
            let loss = network.gradient(batch.clone(), 0.25, &mut gradient, Write::Add);
            gradient.push(loss as f32);
            gradient
        };
        for (own, standard) in gradient(&mut own).iter().zip(gradient(&mut standard)) {
            assert!((own - standard).abs() < 1e-6, "{own} {standard}");
        }
        let score = own.score(batch.clone());
        assert!((score.loss - standard.score(batch).loss).abs() < 1e-6);
        assert_eq!(score.metrics, [3.0]);
    }
}
