//! A model of one's own: its network, its loss, its metrics and its hyper-parameters, trained by a job whose artifact is this
//! very program.
//!
//!     cargo run --example custom_model
//!
//! brings up a cluster in a folder of its own, trains on the digits in `examples/data`, prints the accuracy and the bill,
//! and leaves nothing behind. With another cluster, build it and name it in a job file: `artifact: target/debug/examples/…`.

use std::path::Path;

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::{log_softmax, relu};
use burn::tensor::{Device, Int, Tensor, TensorData};
use neap::Cluster;
use neap::prelude::*;
use schemars::JsonSchema;
use serde::Deserialize;

/// What a job file may say under `train.params`; it is checked there, with these bounds.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
struct SmoothParams {
    /// Width of the hidden layer.
    #[schemars(range(min = 1, max = 4096))]
    hidden: usize,
    /// How much of the certainty is spread over the other classes.
    #[schemars(range(min = 0.0, max = 0.5))]
    smoothing: f64,
}

impl Default for SmoothParams {
    fn default() -> Self {
        Self { hidden: 64, smoothing: 0.1 }
    }
}

/// A network with label smoothing: it is taught to be sure, but not too sure.
#[derive(Module, Debug)]
struct Smooth {
    hidden: Linear,
    scores: Linear,
    smoothing: f64,
}

/// Pixels, and the class of each sample.
type Digits = (Tensor<2>, Tensor<2, Int>);

impl Smooth {
    /// Logarithms of the probability of each class.
    fn log_probabilities(&self, pixels: &Tensor<2>) -> Tensor<2> {
        log_softmax(self.scores.forward(relu(self.hidden.forward(pixels.clone()))), 1)
    }
}

impl Entry for Smooth {
    const NAME: &'static str = "custom_model::Smooth";
    const BATCH: u32 = 64;
    const METRICS: &'static [&'static str] = &["accuracy", "top_2"];
    type Params = SmoothParams;
    type Item = (Vec<f32>, i64);
    type Batch = Digits;

    fn build(data: &DataShape, params: &SmoothParams, device: &Device) -> Result<Self, EntryError> {
        Ok(Self {
            hidden: LinearConfig::new(data.sample.len(), params.hidden).init(device),
            scores: LinearConfig::new(params.hidden, data.target.outputs()).init(device),
            smoothing: params.smoothing,
        })
    }

    fn item(sample: Sample<'_>) -> Self::Item {
        let class = match sample.target {
            Target::Class(class) => i64::from(class),
            Target::Value(value) => value as i64,
        };
        (sample.features.to_vec(), class)
    }

    fn batch(items: Vec<Self::Item>, device: &Device) -> Digits {
        let (count, width) = (items.len(), items.first().map_or(0, |(pixels, _)| pixels.len()));
        let (pixels, classes): (Vec<_>, Vec<_>) = items.into_iter().unzip();
        let pixels = Tensor::from_data(TensorData::new(pixels.concat(), [count, width]), device);
        (pixels, Tensor::from_data(TensorData::new(classes, [count, 1]), device))
    }

    /// Cross-entropy with the smoothed target: one loss a sample.
    fn losses(&self, (pixels, classes): &Digits) -> Tensor<1> {
        let log_probabilities = self.log_probabilities(pixels);
        let right = log_probabilities.clone().gather(1, classes.clone());
        let all = log_probabilities.mean_dim(1);
        (right * (self.smoothing - 1.0) - all * self.smoothing).squeeze_dim::<1>(1)
    }

    fn evaluate(&self, batch: &Digits) -> Evaluation {
        let (pixels, classes) = batch;
        let log_probabilities = self.log_probabilities(pixels);
        let right = log_probabilities.clone().gather(1, classes.clone());
        // How many classes were thought more likely than the right one.
        let before = log_probabilities.greater(right).float().sum_dim(1).squeeze_dim::<1>(1);
        let within = |places: f32| before.clone().lower_elem(places).float();
        Evaluation { losses: self.losses(batch), metrics: vec![within(0.5), within(1.5)] }
    }
}

fn entries() -> Entries {
    Entries::none().with::<Smooth>()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // As a worker of the job below, the program ends here.
    neap::worker_main(entries());

    let folder = tempfile::tempdir()?;
    let cluster = Cluster::up(Entries::builtin(), folder.path().join("home"))?;
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/digits.csv");
    let job = cluster.run(
        "smooth",
        &format!(
            "version: 1
kind: train
name: smooth
workers: 2
data:
  train: {{uri: {data}, split: {{rows: 0..1500}}, label: label, shuffle: {{seed: 7}}}}
  eval: {{uri: {data}, split: {{rows: 1500..1797}}, label: label}}
train:
  artifact: {program}
  entry: custom_model::Smooth
  epochs: 8
  params: {{hidden: 96, smoothing: 0.05, optimizer: adam, lr: 0.003}}
",
            data = data.display(),
            program = std::env::current_exe()?.display(),
        ),
    )?;

    let accuracy = job.result.and_then(|result| result.eval_accuracy).ok_or("the job has no accuracy")?;
    println!("accuracy {accuracy:.3} for {}", job.cost.total_micro_usd);
    Ok(())
}
