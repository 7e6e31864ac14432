//! The same numbers as on the CPU backend, up to rounding.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::tanh;
use burn::tensor::{Device, Tensor, TensorData};
use neap::prelude::*;
use neap::scheduler::spec::ParamValue;
use neap::training::data::Targets;
use neap::training::device::ComputeDevice;
use neap::training::model::{Batch, Network, Write};

use crate::wgpu;

/// How far two gradients may be apart, as a share of their largest value. Both sum some hundred products of 32-bit floats
/// (2⁻²⁴ each) in their own order; a wrong kernel is off by far more.
const TOLERANCE: f32 = 2e-5;

const SAMPLES: usize = 24;

fn ten() -> TargetInfo {
    TargetInfo::Classes((0..10).map(|class| class.to_string()).collect())
}

/// Samples that look like noise and are the same each time.
fn batch(shape: SampleShape, targets: Targets) -> Batch {
    let count = targets.len() * shape.len();
    Batch { features: (0..count).map(|at| ((at * 7_919) % 1_009) as f32 / 504.0 - 1.0).collect(), targets }
}

fn classes() -> Targets {
    Targets::Classes((0..SAMPLES).map(|at| (at * 7 % 10) as u16).collect())
}

fn network(entries: &Entries, device: &ComputeDevice, entry: &str, shape: SampleShape) -> Box<dyn Network> {
    let given: BTreeMap<String, ParamValue> = BTreeMap::new();
    let params = entries.params(entry, &given).unwrap();
    let mut network = entries.build(device, entry, shape, &ten(), &params).unwrap();
    let initial = network.layout().initial(3);
    network.load(&initial);
    network
}

fn assert_close(ours: &[f32], theirs: &[f32], what: &str) {
    let largest = theirs.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let apart = ours.iter().zip(theirs).fold(0.0f32, |apart, (ours, theirs)| apart.max((ours - theirs).abs()));
    assert!(largest > 1e-4, "{what}: a gradient of zeros says nothing");
    assert!(apart <= TOLERANCE * largest, "{what}: apart by {apart}, the largest value is {largest}");
}

/// Loss, gradient and metrics of one batch on both devices.
fn compare(entries: &Entries, device: &ComputeDevice, entry: &str, shape: SampleShape) {
    let flex = ComputeDevice::flex();
    let [mut ours, mut theirs] = [device, &flex].map(|device| network(entries, device, entry, shape));
    let batch = || batch(shape, classes());
    let length = theirs.layout().len();
    let [mut our_gradient, mut their_gradient] = [vec![1.0; length], vec![1.0; length]];
    let weight = 1.0 / SAMPLES as f32;
    let our_loss = ours.gradient(batch(), weight, &mut our_gradient, Write::Replace);
    let their_loss = theirs.gradient(batch(), weight, &mut their_gradient, Write::Replace);
    assert!((our_loss - their_loss).abs() <= 1e-5 * their_loss.abs(), "{entry}: {our_loss} {their_loss}");
    assert_close(&our_gradient, &their_gradient, entry);
    ours.gradient(batch(), weight, &mut our_gradient, Write::Add);
    theirs.gradient(batch(), weight, &mut their_gradient, Write::Add);
    assert_close(&our_gradient, &their_gradient, &format!("{entry}, added"));
    let (our_score, their_score) = (ours.score(batch()), theirs.score(batch()));
    assert!((our_score.loss - their_score.loss).abs() <= 1e-5 * their_score.loss.abs(), "{entry}");
    assert_eq!(our_score.metrics, their_score.metrics, "{entry}");
}

#[test]
fn the_builtin_networks_have_the_gradients_of_the_cpu_backend() {
    let Some(device) = wgpu("the_builtin_networks_have_the_gradients_of_the_cpu_backend") else { return };
    let square = |side| SampleShape { height: side, width: side, channels: 1 };
    compare(&Entries::builtin(), &device, "mlp", square(8));
    compare(&Entries::builtin(), &device, "logistic", square(8));
    compare(&Entries::builtin(), &device, "cnn", square(28));
}

#[test]
fn a_gradient_has_the_same_bits_each_time() {
    let Some(device) = wgpu("a_gradient_has_the_same_bits_each_time") else { return };
    let shape = SampleShape { height: 28, width: 28, channels: 1 };
    let gradient = || {
        let mut network = network(&Entries::builtin(), &device, "cnn", shape);
        let mut gradient = vec![0.0; network.layout().len()];
        network.gradient(batch(shape, classes()), 0.125, &mut gradient, Write::Replace);
        gradient.into_iter().map(f32::to_bits).collect::<Vec<_>>()
    };
    let first = gradient();
    assert!((0..3).all(|_| gradient() == first), "the same batch gave another gradient");
}

/// A network with items, batches and a loss of its own.
#[derive(Module, Debug)]
struct Own {
    hidden: Linear,
    out: Linear,
}

impl Entry for Own {
    const NAME: &'static str = "tests::Own";
    const METRICS: &'static [&'static str] = &["distance"];
    type Params = NoParams;
    type Item = (Vec<f32>, f32);
    type Batch = (Tensor<2>, Tensor<1>);

    fn build(data: &DataShape, _: &NoParams, device: &Device) -> Result<Self, EntryError> {
        Ok(Self {
            hidden: LinearConfig::new(data.sample.len(), 12).init(device),
            out: LinearConfig::new(12, 1).init(device),
        })
    }

    fn item(sample: Sample<'_>) -> Self::Item {
        let wanted = match sample.target {
            Target::Class(class) => f32::from(class),
            Target::Value(value) => value,
        };
        (sample.features.to_vec(), wanted)
    }

    fn batch(items: Vec<Self::Item>, device: &Device) -> Self::Batch {
        let (count, width) = (items.len(), items.first().map_or(0, |(features, _)| features.len()));
        let (features, wanted): (Vec<_>, Vec<_>) = items.into_iter().unzip();
        let features = TensorData::new(features.concat(), [count, width]);
        (Tensor::from_data(features, device), Tensor::from_data(TensorData::new(wanted, [count]), device))
    }

    fn losses(&self, (features, wanted): &Self::Batch) -> Tensor<1> {
        let out = self.out.forward(tanh(self.hidden.forward(features.clone()))).squeeze_dim::<1>(1);
        (out - wanted.clone()).powf_scalar(2.0)
    }

    fn evaluate(&self, batch: &Self::Batch) -> Evaluation {
        let losses = self.losses(batch);
        Evaluation { metrics: vec![losses.clone().sqrt().round()], losses }
    }
}

#[test]
fn an_own_network_trains_as_on_the_cpu_backend() {
    let Some(device) = wgpu("an_own_network_trains_as_on_the_cpu_backend") else { return };
    let entries = Entries::none().with::<Own>();
    let shape = SampleShape { height: 1, width: 10, channels: 1 };
    compare(&entries, &device, Own::NAME, shape);
    let mut own = network(&entries, &device, Own::NAME, shape);
    let mut parameters = own.layout().initial(3);
    let mut gradient = vec![0.0; parameters.len()];
    let mut loss = || {
        own.load(&parameters);
        let loss = own.gradient(batch(shape, classes()), 1.0 / SAMPLES as f32, &mut gradient, Write::Replace);
        parameters.iter_mut().zip(&gradient).for_each(|(value, slope)| *value -= 0.01 * slope);
        loss
    };
    let first = loss();
    let last = (0..30).map(|_| loss()).last().unwrap();
    assert!(last < first / 2.0, "{first} only fell to {last}");
}
