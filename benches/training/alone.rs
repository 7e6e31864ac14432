//! burn alone: the same network and optimiser as a plain loop, on one thread.

use std::time::Instant;

use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::{BATCH, Measurement, STEPS, usage};

/// Batches made beforehand and used in turns.
const BATCHES: usize = 64;

/// Steps before the measurement.
const WARM_UP: usize = 20;

#[derive(Module, Debug)]
struct Network {
    layer1: Linear,
    layer2: Linear,
    layer3: Linear,
}

impl Network {
    fn forward(&self, samples: Tensor<2>) -> Tensor<2> {
        let hidden = relu(self.layer1.forward(samples));
        self.layer3.forward(relu(self.layer2.forward(hidden)))
    }
}

/// Trains on a thread of its own, to which burn's parallel loops are bound.
pub(crate) fn run() -> Measurement {
    std::thread::spawn(train).join().expect("burn alone trains")
}

fn train() -> Measurement {
    rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build().expect("a pool of this thread");
    let device = Device::flex().autodiff();
    let mut model = Network {
        layer1: LinearConfig::new(784, 256).init(&device),
        layer2: LinearConfig::new(256, 128).init(&device),
        layer3: LinearConfig::new(128, 10).init(&device),
    };
    let mut optimiser = SgdConfig::new().init();
    let loss = CrossEntropyLossConfig::new().init(&device);
    let batches: Vec<(TensorData, TensorData)> = (0..BATCHES).map(batch).collect();
    let mut started = (Instant::now(), 0.0);
    for step in 0..WARM_UP + STEPS {
        if step == WARM_UP {
            started = (Instant::now(), usage::cpu_seconds(std::process::id()));
        }
        let (features, classes) = batches[step % BATCHES].clone();
        let samples = Tensor::<2>::from_data(features, &device);
        let classes = Tensor::<1, Int>::from_data(classes, &device);
        let gradients = loss.forward(model.forward(samples), classes).backward();
        let gradients = GradientsParams::from_grads(gradients, &model);
        model = optimiser.step(0.1, model, gradients);
    }
    Measurement {
        wall_seconds: started.0.elapsed().as_secs_f64(),
        cpu_seconds: usage::cpu_seconds(std::process::id()) - started.1,
        samples: STEPS * BATCH,
    }
}

fn batch(number: usize) -> (TensorData, TensorData) {
    let value = |at: usize| ((at * 7_919 + number * 104_729) % 256) as f32 / 128.0 - 1.0;
    let features: Vec<f32> = (0..BATCH * 784).map(value).collect();
    let classes: Vec<i64> = (0..BATCH).map(|at| ((at * 31 + number) % 10) as i64).collect();
    (TensorData::new(features, [BATCH, 784]), TensorData::new(classes, [BATCH]))
}
