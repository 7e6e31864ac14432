//! What a network has learnt on one task is the beginning of another: trained to tell ten digits apart, its lower layers are
//! taken over, kept as they are, and only a new last layer learns from 24 samples how many loops a digit has: none as in 3, one as
//! in 6, two as in 8.
//!
//!     cargo run --example transfer_learning
//!
//! brings up a cluster in a folder of its own, trains on the digits in `examples/data`, prints the accuracies beside that of the
//! same network that begins from nothing, and leaves nothing behind. Taking over helps where the second task needs what the
//! first had to tell apart: a network that was trained on the digits 0 to 4 alone is a worse beginning for 5 to 9 than none.
//! Weights of PyTorch are taken over in the same way: `train.init.uri` also names a `state_dict` (`.pt`,
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

const HIDDEN: [usize; 2] = [64, 32];

/// Samples of the first task, those of them that are learnt from, and samples of the second that are learnt from.
const FIRST: usize = 1_000;
const MANY: usize = 800;
const FEW: usize = 24;

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

/// How many loops a digit has, as a class.
fn loops(digit: &str) -> &'static str {
    match digit {
        "8" => "two",
        "0" | "4" | "6" | "9" => "one",
        _ => "none",
    }
}

/// Writes the digits that the first task does not have, with their loops as labels; says how many there are.
fn write_second_task(digits: &str, to: &Path) -> std::io::Result<usize> {
    let mut lines = digits.lines();
    let header = lines.next().unwrap_or_default();
    let relabelled = |line: &str| line.rsplit_once(',').map(|(pixels, digit)| format!("{pixels},{}\n", loops(digit)));
    let rows: Vec<String> = lines.skip(FIRST).filter_map(relabelled).collect();
    fs::write(to, format!("{header}\n{}", rows.concat()))?;
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
  global_batch: 8
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
    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/digits.csv");
    let second = folder.path().join("loops.csv");
    let rows = write_second_task(&fs::read_to_string(&digits)?, &second)?;
    let cluster = Cluster::up(entries(), folder.path().join("home"))?;

    let taught = "epochs: 30\n  params: {optimizer: adam, lr: 0.003}";
    let (source, weights) = train(&cluster, "source", Source::NAME, (&digits, MANY, FIRST), taught)?;

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
    let few = (second.as_path(), FEW, rows);
    let taught = "epochs: 60\n  params: {optimizer: adam, lr: 0.01}";
    let (transferred, _) = train(&cluster, "transferred", Transferred::NAME, few, &format!("{taught}\n  {init}"))?;
    // The same network with the same settings on the same samples, from nothing.
    let (alone, _) = train(&cluster, "alone", Transferred::NAME, few, taught)?;

    println!("digits, {MANY} samples: accuracy {source:.3}");
    println!("loops, {FEW} samples, lower layers taken over: accuracy {transferred:.3}");
    println!("loops, {FEW} samples, from nothing: accuracy {alone:.3}");
    Ok(())
}
