//! A burn model as a [`Network`]: parameters in and gradients out as flat buffers, on burn's CPU backend.
//!
//! The loss is the cross-entropy. Its gradient with respect to the scores has a closed form (softmax minus one-hot), so
//! it is computed here and pushed into burn's backward pass; that is cheaper than recording the loss in the graph.

use burn::module::{ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};

use super::{Batch, Layout, Model, Network, Score, Write};
use crate::data::SampleShape;
use crate::entry::{EntryError, Params};

/// A burn model with its flat buffer.
pub struct BurnNetwork<M: Model> {
    /// On the device with autodiff. `None` only while new parameters are mapped into it.
    model: Option<M>,
    layout: Layout,
    shape: SampleShape,
    classes: usize,
    device: Device,
}

impl<M: Model> BurnNetwork<M> {
    /// Builds the model.
    ///
    /// # Errors
    ///
    /// As [`Model::build`].
    pub fn new(shape: SampleShape, classes: usize, params: &Params) -> Result<Self, EntryError> {
        let device = Device::flex().autodiff();
        let model = M::build(shape, classes, params, &device)?;
        Ok(Self { layout: Layout::of(&model), model: Some(model), shape, classes, device })
    }

    fn model(&self) -> &M {
        self.model.as_ref().expect("the model is put back right after it is mapped")
    }

    fn samples(&self, batch: Batch, device: &Device) -> Tensor<4> {
        let SampleShape { height, width, channels } = self.shape;
        let shape = [batch.classes.len(), channels as usize, height as usize, width as usize];
        Tensor::from_data(TensorData::new(batch.features, shape), device)
    }
}

impl<M: Model> Network for BurnNetwork<M> {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn load(&mut self, parameters: &[f32]) {
        assert_eq!(parameters.len(), self.layout.len(), "callers check lengths where parameters come in");
        let mut loader = Loader { rest: parameters, device: &self.device };
        self.model = self.model.take().map(|model| model.map(&mut loader));
    }

    fn gradient(&mut self, batch: Batch, weight: f32, gradient: &mut [f32], how: Write) -> f64 {
        let classes = batch.classes.clone();
        let scores = self.model().forward(self.samples(batch, &self.device));
        let mut slopes = scores.clone().inner().into_data().try_into_vec::<f32>().expect("scores are floats");
        let score = cross_entropy(&mut slopes, &classes, self.classes, weight);
        let slopes = Tensor::<2>::from_data(TensorData::new(slopes, [classes.len(), self.classes]), &self.device);
        let mut gradients = (scores * slopes).sum().backward();
        let mut collector = GradientCollector { gradients: &mut gradients, rest: gradient, how };
        self.model().visit(&mut collector);
        score.loss
    }

    fn score(&self, batch: Batch) -> Score {
        let classes = batch.classes.clone();
        let samples = self.samples(batch, &Device::flex());
        let scores = self.model().valid().forward(samples);
        let mut scores = scores.into_data().try_into_vec::<f32>().expect("scores are floats");
        cross_entropy(&mut scores, &classes, self.classes, 0.0)
    }
}

/// Replaces the scores by the slope of `weight × Σ cross-entropy` with respect to them.
fn cross_entropy(scores: &mut [f32], classes: &[u16], class_count: usize, weight: f32) -> Score {
    let mut score = Score::default();
    for (row, &class) in scores.chunks_exact_mut(class_count).zip(classes) {
        let class = usize::from(class);
        let (best, highest) = highest_of(row);
        score.correct += u64::from(best == class);
        let shifted = row[class] - highest;
        let mut sum = 0.0f32;
        for value in row.iter_mut() {
            *value = (*value - highest).exp();
            sum += *value;
        }
        score.loss += f64::from(sum).ln() - f64::from(shifted);
        let factor = weight / sum;
        row.iter_mut().for_each(|value| *value *= factor);
        row[class] -= weight;
    }
    score
}

/// The first of the highest values, and where it is.
fn highest_of(row: &[f32]) -> (usize, f32) {
    let start = (0, f32::NEG_INFINITY);
    row.iter().enumerate().fold(start, |best, (at, &value)| if value > best.1 { (at, value) } else { best })
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
            // A parameter that the scores do not depend on.
            (None, Write::Replace) => out.fill(0.0),
            (None, Write::Add) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Module;
    use burn::nn::loss::CrossEntropyLossConfig;
    use burn::tensor::Int;

    use super::*;
    use crate::model::Mlp;
    use neap_scheduler::spec::ParamValue;

    const SHAPE: SampleShape = SampleShape { height: 1, width: 6, channels: 1 };

    fn network() -> BurnNetwork<Mlp> {
        let params = Params::new([("hidden1", ParamValue::Int(5)), ("hidden2", ParamValue::Int(4))]);
        let mut network = BurnNetwork::new(SHAPE, 3, &params).unwrap();
        let initial = network.layout().initial(1);
        network.load(&initial);
        network
    }

    fn batch(count: usize) -> Batch {
        let features = (0..count * 6).map(|at| ((at * 7919) % 101) as f32 / 50.0 - 1.0).collect();
        Batch { features, classes: (0..count).map(|at| (at % 3) as u16).collect() }
    }

    fn flat(network: &BurnNetwork<Mlp>) -> Vec<f32> {
        struct Flat(Vec<f32>);
        impl ModuleVisitor for Flat {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                self.0.extend_from_slice(param.val().into_data().as_slice::<f32>().unwrap());
            }
        }
        let mut flat = Flat(Vec::new());
        network.model().visit(&mut flat);
        flat.0
    }

    #[test]
    fn parameters_survive_the_flat_buffer_bit_by_bit() {
        let mut network = network();
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
        let mut network = network();
        let mut ours = vec![0.0; network.layout().len()];
        let loss = network.gradient(batch(9), 1.0 / 9.0, &mut ours, Write::Replace);
        let Batch { features, classes } = batch(9);
        let device = Device::flex().autodiff();
        let samples = Tensor::<4>::from_data(TensorData::new(features, [9, 1, 1, 6]), &device);
        let classes: Vec<i64> = classes.into_iter().map(i64::from).collect();
        let classes = Tensor::<1, Int>::from_data(TensorData::new(classes, [9]), &device);
        let theirs = CrossEntropyLossConfig::new().init(&device).forward(network.model().forward(samples), classes);
        let mean = theirs.clone().into_scalar::<f32>();
        assert!((loss / 9.0 - f64::from(mean)).abs() < 1e-6);
        let mut gradients = theirs.backward();
        let mut expected = vec![0.0; ours.len()];
        network.model().visit(&mut GradientCollector {
            gradients: &mut gradients,
            rest: &mut expected,
            how: Write::Replace,
        });
        for (ours, theirs) in ours.iter().zip(&expected) {
            assert!((ours - theirs).abs() < 1e-6, "{ours} {theirs}");
        }
    }

    #[test]
    fn the_sum_over_shards_is_the_gradient_of_the_whole_batch() {
        let mut network = network();
        let mut whole = vec![0.0; network.layout().len()];
        let loss = network.gradient(batch(12), 1.0 / 12.0, &mut whole, Write::Replace);
        let mut sum = vec![0.0; whole.len()];
        let mut shard_losses = 0.0;
        let Batch { features, classes } = batch(12);
        for shard in 0..3 {
            let part = Batch {
                features: features[shard * 24..(shard + 1) * 24].to_vec(),
                classes: classes[shard * 4..(shard + 1) * 4].to_vec(),
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
        assert_eq!(score.correct, 1);
        assert!(scores.iter().sum::<f32>().abs() < 1e-6);
        let first = (1.0f64 + (-1.0f64).exp() + (-2.0f64).exp()).ln();
        let second = ((-3.0f64).exp() * 2.0 + 1.0).ln() + 3.0;
        assert!((score.loss - first - second).abs() < 1e-6);
    }
}
