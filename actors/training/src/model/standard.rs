//! A [`Model`] as a [`Network`]: the loss and the metrics follow from what is to be predicted.
//!
//! The gradient of the loss with respect to the scores has a closed form (softmax minus one-hot; twice the error), so it is
//! computed here and pushed into burn's backward pass; that is cheaper than recording the loss in the graph.

use burn::tensor::{Device, Tensor, TensorData};
use neap_runtime::wire::worker::ACCURACY;

use super::flat::Flat;
use super::{Batch, Layout, Model, Network, Score, Write};
use crate::data::{SampleShape, TargetInfo, Targets};
use crate::device::{ComputeDevice, read};
use crate::entry::EntryError;

/// The mean absolute error, in the unit of the values.
const MAE: &str = "mae";

/// A [`Model`] with its flat buffer.
pub struct StandardNetwork<M: Model> {
    flat: Flat<M>,
    shape: SampleShape,
    outputs: usize,
    metrics: [&'static str; 1],
}

impl<M: Model> StandardNetwork<M> {
    /// Builds the model on the processor.
    ///
    /// # Errors
    ///
    /// As [`Model::build`].
    pub fn new(shape: SampleShape, target: &TargetInfo, params: &M::Params) -> Result<Self, EntryError> {
        Self::on(&ComputeDevice::flex(), shape, target, params)
    }

    /// Builds the model on a device.
    ///
    /// # Errors
    ///
    /// As [`Model::build`].
    pub fn on(
        device: &ComputeDevice,
        shape: SampleShape,
        target: &TargetInfo,
        params: &M::Params,
    ) -> Result<Self, EntryError> {
        let outputs = target.outputs();
        let flat = Flat::build(device, |device| M::build(shape, outputs, params, device))?;
        let metrics = match target {
            TargetInfo::Classes(_) => [ACCURACY],
            TargetInfo::Value => [MAE],
        };
        Ok(Self { flat, shape, outputs, metrics })
    }

    fn samples(&self, features: Vec<f32>, count: usize, device: &Device) -> Tensor<4> {
        let SampleShape { height, width, channels } = self.shape;
        let shape = [count, channels as usize, height as usize, width as usize];
        Tensor::from_data(TensorData::new(features, shape), device)
    }
}

impl<M: Model> Network for StandardNetwork<M> {
    fn layout(&self) -> &Layout {
        self.flat.layout()
    }

    fn metrics(&self) -> &[&'static str] {
        &self.metrics
    }

    fn load(&mut self, parameters: &[f32]) {
        self.flat.load(parameters);
    }

    fn gradient(&mut self, batch: Batch, weight: f32, gradient: &mut [f32], how: Write) -> f64 {
        let Batch { features, targets } = batch;
        let device = self.flat.training_device();
        let scores = self.flat.module().forward(self.samples(features, targets.len(), device));
        let mut slopes = read(scores.clone().inner()).try_into_vec::<f32>().expect("scores are floats");
        let score = loss(&mut slopes, &targets, self.outputs, weight);
        let slopes = Tensor::<2>::from_data(TensorData::new(slopes, [targets.len(), self.outputs]), device);
        self.flat.collect((scores * slopes).sum().backward(), gradient, how);
        score.loss
    }

    fn score(&self, batch: Batch) -> Score {
        let Batch { features, targets } = batch;
        let samples = self.samples(features, targets.len(), self.flat.prediction_device());
        let scores = self.flat.valid().forward(samples);
        let mut scores = read(scores).try_into_vec::<f32>().expect("scores are floats");
        loss(&mut scores, &targets, self.outputs, 0.0)
    }
}

/// Replaces the scores by the slope of `weight × Σ loss` with respect to them.
fn loss(scores: &mut [f32], targets: &Targets, outputs: usize, weight: f32) -> Score {
    match targets {
        Targets::Classes(classes) => cross_entropy(scores, classes, outputs, weight),
        Targets::Values(values) => squared_error(scores, values, weight),
    }
}

fn cross_entropy(scores: &mut [f32], classes: &[u16], class_count: usize, weight: f32) -> Score {
    let (mut sum_of_losses, mut correct) = (0.0, 0u64);
    for (row, &class) in scores.chunks_exact_mut(class_count).zip(classes) {
        let class = usize::from(class);
        let (best, highest) = highest_of(row);
        correct += u64::from(best == class);
        let shifted = row[class] - highest;
        let mut sum = 0.0f32;
        for value in row.iter_mut() {
            *value = (*value - highest).exp();
            sum += *value;
        }
        sum_of_losses += f64::from(sum).ln() - f64::from(shifted);
        let factor = weight / sum;
        row.iter_mut().for_each(|value| *value *= factor);
        row[class] -= weight;
    }
    Score { loss: sum_of_losses, metrics: vec![correct as f64] }
}

fn squared_error(scores: &mut [f32], values: &[f32], weight: f32) -> Score {
    let (mut squares, mut distances) = (0.0, 0.0);
    for (score, &value) in scores.iter_mut().zip(values) {
        let error = *score - value;
        squares += f64::from(error) * f64::from(error);
        distances += f64::from(error).abs();
        *score = 2.0 * weight * error;
    }
    Score { loss: squares, metrics: vec![distances] }
}

/// The first of the highest values, and where it is.
fn highest_of(row: &[f32]) -> (usize, f32) {
    let start = (0, f32::NEG_INFINITY);
    row.iter().enumerate().fold(start, |best, (at, &value)| if value > best.1 { (at, value) } else { best })
}

#[cfg(test)]
mod tests {
    use burn::module::{Module, ModuleVisitor, Param};
    use burn::nn::loss::CrossEntropyLossConfig;
    use burn::tensor::Int;

    use super::*;
    use crate::model::{Mlp, MlpParams};

    const SHAPE: SampleShape = SampleShape { height: 1, width: 6, channels: 1 };

    fn network(target: &TargetInfo) -> StandardNetwork<Mlp> {
        let mut network = StandardNetwork::new(SHAPE, target, &MlpParams { hidden1: 5, hidden2: 4 }).unwrap();
        let initial = network.layout().initial(1);
        network.load(&initial);
        network
    }

    fn three_classes() -> StandardNetwork<Mlp> {
        network(&TargetInfo::Classes(["a", "b", "c"].map(str::to_owned).to_vec()))
    }

    fn batch(count: usize) -> Batch {
        let features = (0..count * 6).map(|at| ((at * 7919) % 101) as f32 / 50.0 - 1.0).collect();
        Batch { features, targets: Targets::Classes((0..count).map(|at| (at % 3) as u16).collect()) }
    }

    fn flat(network: &StandardNetwork<Mlp>) -> Vec<f32> {
        struct Flat(Vec<f32>);
        impl ModuleVisitor for Flat {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                self.0.extend_from_slice(param.val().into_data().as_slice::<f32>().unwrap());
            }
        }
        let mut flat = Flat(Vec::new());
        network.flat.module().visit(&mut flat);
        flat.0
    }

    #[test]
    fn parameters_survive_the_flat_buffer_bit_by_bit() {
        let mut network = three_classes();
        let values: Vec<f32> = (0..network.layout().len()).map(|at| (at as f32).sin() * 1e-3).collect();
        network.load(&values);
        assert_eq!(flat(&network), values);
        let names: Vec<&str> = network.layout().places().iter().map(|place| &place.name[..]).collect();
        assert_eq!(
            names,
            ["layer1.weight", "layer1.bias", "layer2.weight", "layer2.bias", "layer3.weight", "layer3.bias"]
        );
    }

    #[test]
    fn the_gradient_is_the_one_of_burns_own_loss() {
        let mut network = three_classes();
        let mut ours = vec![0.0; network.layout().len()];
        let loss = network.gradient(batch(9), 1.0 / 9.0, &mut ours, Write::Replace);
        let Batch { features, targets } = batch(9);
        let Targets::Classes(classes) = targets else { unreachable!() };
        let device = Device::flex().autodiff();
        let samples = Tensor::<4>::from_data(TensorData::new(features, [9, 1, 1, 6]), &device);
        let classes: Vec<i64> = classes.into_iter().map(i64::from).collect();
        let classes = Tensor::<1, Int>::from_data(TensorData::new(classes, [9]), &device);
        let theirs =
            CrossEntropyLossConfig::new().init(&device).forward(network.flat.module().forward(samples), classes);
        let mean = theirs.clone().into_scalar::<f32>();
        assert!((loss / 9.0 - f64::from(mean)).abs() < 1e-6);
        let mut expected = vec![0.0; ours.len()];
        network.flat.collect(theirs.backward(), &mut expected, Write::Replace);
        for (ours, theirs) in ours.iter().zip(&expected) {
            assert!((ours - theirs).abs() < 1e-6, "{ours} {theirs}");
        }
    }

    #[test]
    fn the_sum_over_shards_is_the_gradient_of_the_whole_batch() {
        let mut network = three_classes();
        let mut whole = vec![0.0; network.layout().len()];
        let loss = network.gradient(batch(12), 1.0 / 12.0, &mut whole, Write::Replace);
        let mut sum = vec![0.0; whole.len()];
        let mut shard_losses = 0.0;
        let Batch { features, targets } = batch(12);
        for shard in 0..3 {
            let part = Batch {
                features: features[shard * 24..(shard + 1) * 24].to_vec(),
                targets: targets.pick(&[0, 1, 2, 3].map(|at| shard as u32 * 4 + at)),
            };
            shard_losses += network.gradient(part, 1.0 / 12.0, &mut sum, Write::Add);
        }
        assert!((loss - shard_losses).abs() < 1e-5);
        for (whole, sum) in whole.iter().zip(&sum) {
            assert!((whole - sum).abs() < 1e-6, "{whole} {sum}");
        }
    }

    #[test]
    fn scores_count_what_is_right() {
        let mut scores = [2.0, 1.0, 0.0, 0.0, 0.0, 3.0];
        let score = cross_entropy(&mut scores, &[0, 1], 3, 1.0);
        assert_eq!(score.metrics, [1.0]);
        assert!(scores.iter().sum::<f32>().abs() < 1e-6);
        let first = (1.0f64 + (-1.0f64).exp() + (-2.0f64).exp()).ln();
        let second = ((-3.0f64).exp() * 2.0 + 1.0).ln() + 3.0;
        assert!((score.loss - first - second).abs() < 1e-6);
    }

    #[test]
    fn the_gradient_of_the_squared_error_is_the_one_of_burns_own_loss() {
        let mut network = network(&TargetInfo::Value);
        let values = vec![0.5, -1.0, 2.0, 0.0];
        let features = batch(4).features;
        let mut ours = vec![0.0; network.layout().len()];
        let ours_batch = Batch { features: features.clone(), targets: Targets::Values(values.clone()) };
        let loss = network.gradient(ours_batch.clone(), 0.25, &mut ours, Write::Replace);
        let device = Device::flex().autodiff();
        let samples = Tensor::<4>::from_data(TensorData::new(features, [4, 1, 1, 6]), &device);
        let values = Tensor::<2>::from_data(TensorData::new(values, [4, 1]), &device);
        let theirs = (network.flat.module().forward(samples) - values).powf_scalar(2.0).mean();
        assert!((loss / 4.0 - f64::from(theirs.clone().into_scalar::<f32>())).abs() < 1e-6);
        let mut expected = vec![0.0; ours.len()];
        network.flat.collect(theirs.backward(), &mut expected, Write::Replace);
        for (ours, theirs) in ours.iter().zip(&expected) {
            assert!((ours - theirs).abs() < 1e-6, "{ours} {theirs}");
        }
        assert_eq!(network.metrics(), [MAE]);
        assert!(network.score(ours_batch).metrics[0] > 0.0);
    }
}
