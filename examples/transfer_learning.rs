//! What a network has learnt on one task is the beginning of another: trained on the digits 0 to 4, its lower layers are taken
//! over, kept as they are, and only a new last layer learns to tell 5 to 9 apart, from 40 samples.
//!
//!     cargo run --example transfer_learning
//!
//! brings up a cluster in a folder of its own, trains on the digits in `examples/data`, prints the accuracies, and leaves
//! nothing behind. Weights of PyTorch are taken over in the same way: `train.init.uri` also names a `state_dict` (`.pt`,
//! `.pth`) or a safetensors file of another program, on a disk or in an object store (`s3://bucket/weights.pt`). A linear
//! layer called `encoder.0` there becomes the `trunk.first` here with `rename: {encoder.0: trunk.first}`; what PyTorch keeps
//! as `[out, in]` is turned, F16, BF16 and F64 become F32.

use std::fs;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use neap::Cluster;
use neap::prelude::*;

const HIDDEN: [usize; 2] = [48, 32];

/// Samples of the second task that are learnt from.
const FEW: usize = 40;

/// The network of the first task: three layers, side by side.
#[derive(Module, Debug)]
struct Source {
    first: Linear,
    second: Linear,
    scores: Linear,
}

impl Model for Source {
    const NAME: &'static str = "transfer_learning::Source";
    type Params = NoParams;

    fn build(sample: SampleShape, outputs: usize, _: &NoParams, device: &Device) -> Result<Self, EntryError> {
        Ok(Self {
            first: LinearConfig::new(sample.len(), HIDDEN[0]).init(device),
            second: LinearConfig::new(HIDDEN[0], HIDDEN[1]).init(device),
            scores: LinearConfig::new(HIDDEN[1], outputs).init(device),
        })
    }

    fn forward(&self, samples: Tensor<4>) -> Tensor<2> {
        let hidden = relu(self.first.forward(samples.flatten::<2>(1, 3)));
        self.scores.forward(relu(self.second.forward(hidden)))
    }
}

/// What the second task takes over.
#[derive(Module, Debug)]
struct Trunk {
    first: Linear,
    second: Linear,
}

/// The network of the second task: its tensors have other names, and its last layer is new.
#[derive(Module, Debug)]
struct Transferred {
    trunk: Trunk,
    head: Linear,
}

impl Model for Transferred {
    const NAME: &'static str = "transfer_learning::Transferred";
    type Params = NoParams;

    fn build(sample: SampleShape, outputs: usize, _: &NoParams, device: &Device) -> Result<Self, EntryError> {
        let trunk = Trunk {
            first: LinearConfig::new(sample.len(), HIDDEN[0]).init(device),
            second: LinearConfig::new(HIDDEN[0], HIDDEN[1]).init(device),
        };
        Ok(Self { trunk, head: LinearConfig::new(HIDDEN[1], outputs).init(device) })
    }

    fn forward(&self, samples: Tensor<4>) -> Tensor<2> {
        let hidden = relu(self.trunk.first.forward(samples.flatten::<2>(1, 3)));
        self.head.forward(relu(self.trunk.second.forward(hidden)))
    }
}

fn entries() -> Entries {
    Entries::builtin().with_model::<Source>().with_model::<Transferred>()
}

/// Writes the digits of some classes to a file of their own; says how many there are.
fn cut(digits: &str, classes: std::ops::Range<u8>, to: &Path) -> std::io::Result<usize> {
    let is_meant = |line: &&str| {
        line.rsplit(',').next().and_then(|label| label.parse::<u8>().ok()).is_some_and(|label| classes.contains(&label))
    };
    let mut lines = digits.lines();
    let header = lines.next().unwrap_or_default();
    let rows: Vec<&str> = lines.filter(is_meant).collect();
    fs::write(to, format!("{header}\n{}\n", rows.join("\n")))?;
    Ok(rows.len())
}

/// Trains `entry` on the first rows of a file and tests it on the rest; gives the accuracy and the model's file.
fn train(
    cluster: &Cluster,
    name: &str,
    entry: &str,
    (file, learn_from, rows): (&Path, usize, usize),
    more: &str,
) -> Result<(f64, PathBuf), Box<dyn std::error::Error>> {
    let file = file.display();
    let job = cluster.run(
        name,
        &format!(
            "version: 1
kind: train
name: {name}
data:
  train: {{uri: {file}, split: {{rows: 0..{learn_from}}}, label: label, shuffle: {{seed: 7}}}}
  eval: {{uri: {file}, split: {{rows: {learn_from}..{rows}}}, label: label}}
train:
  entry: {entry}
  global_batch: 16
  {more}
"
        ),
    )?;
    let result = job.result.ok_or("the job has no result")?;
    Ok((result.eval_accuracy.ok_or("the job has no accuracy")?, result.model_path.into()))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // As a worker of the jobs below, the program ends here.
    neap::worker_main(entries());

    let folder = tempfile::tempdir()?;
    let digits = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/digits.csv"))?;
    let (low, high) = (folder.path().join("low.csv"), folder.path().join("high.csv"));
    let (low_rows, high_rows) = (cut(&digits, 0..5, &low)?, cut(&digits, 5..10, &high)?);
    let cluster = Cluster::up(entries(), folder.path().join("home"))?;

    let params = "params: {optimizer: adam, lr: 0.003}";
    let whole = (low.as_path(), low_rows * 4 / 5, low_rows);
    let (source, weights) = train(&cluster, "source", Source::NAME, whole, &format!("epochs: 10\n  {params}"))?;

    // The file's `first` and `second` are the model's trunk, and stay as they are; `scores` is not wanted, `head` is drawn anew.
    let init = format!(
        "init:
    uri: {}
    rename: {{first: trunk.first, second: trunk.second}}
    ignore: [scores]
    fresh: [head]
    freeze: [trunk]",
        weights.display()
    );
    let few = (high.as_path(), FEW, high_rows);
    let taught = format!("epochs: 30\n  {params}");
    let (transferred, _) = train(&cluster, "transferred", Transferred::NAME, few, &format!("{taught}\n  {init}"))?;
    // The same network on the same samples, from nothing.
    let (alone, _) = train(&cluster, "alone", Transferred::NAME, few, &taught)?;

    println!("digits 0 to 4, {} samples: accuracy {source:.3}", whole.1);
    println!("digits 5 to 9, {FEW} samples, lower layers taken over: accuracy {transferred:.3}");
    println!("digits 5 to 9, {FEW} samples, from nothing: accuracy {alone:.3}");
    Ok(())
}
