//! burn alone: the same network as a plain loop on one thread, with burn's own loss and optimiser.

use std::time::Instant;

use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::{Device, Int, Tensor, TensorData};
use neap_training::data::SampleShape;
use neap_training::model::Model;

use crate::results::Measurement;
use crate::usage;

/// Batches made beforehand and used in turns.
const BATCHES: usize = 64;

/// Steps before the measurement.
const WARM_UP: usize = 20;

const SHAPE: SampleShape = SampleShape { height: 28, width: 28, channels: 1 };
const CLASSES: usize = 10;

/// What the loop does.
#[derive(Clone, Copy)]
pub(crate) struct Loop {
    pub(crate) batch: usize,
    pub(crate) steps: usize,
    /// Whether each gradient is applied, or thrown away.
    pub(crate) learns: bool,
}

impl Loop {
    /// Runs it on a thread of its own, to which burn's parallel loops are bound.
    pub(crate) fn run<M: Model>(self, params: M::Params) -> Measurement {
        std::thread::spawn(move || self.train::<M>(&params)).join().expect("burn alone trains")
    }

    fn train<M: Model>(self, params: &M::Params) -> Measurement {
        let Self { batch, steps, learns } = self;
        rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build().expect("a pool of this thread");
        let device = Device::flex().autodiff();
        let mut model = M::build(SHAPE, CLASSES, params, &device).expect("a model for these images");
        let mut optimiser = SgdConfig::new().init();
        let loss = CrossEntropyLossConfig::new().init(&device);
        let batches: Vec<(TensorData, TensorData)> = (0..BATCHES).map(|number| make_batch(batch, number)).collect();
        let mut started = (Instant::now(), 0.0);
        for step in 0..WARM_UP + steps {
            if step == WARM_UP {
                started = (Instant::now(), usage::cpu_seconds(std::process::id()));
            }
            let (features, classes) = batches[step % BATCHES].clone();
            let samples = Tensor::<4>::from_data(features, &device);
            let classes = Tensor::<1, Int>::from_data(classes, &device);
            let gradients = loss.forward(model.forward(samples), classes).backward();
            let gradients = GradientsParams::from_grads(gradients, &model);
            if learns {
                model = optimiser.step(0.1, model, gradients);
            }
        }
        Measurement {
            wall_seconds: started.0.elapsed().as_secs_f64(),
            cpu_seconds: usage::cpu_seconds(std::process::id()) - started.1,
            units: (steps * batch) as f64,
            steps: steps as f64,
            peer: None,
        }
    }
}

fn make_batch(batch: usize, number: usize) -> (TensorData, TensorData) {
    let value = |at: usize| ((at * 7_919 + number * 104_729) % 256) as f32 / 128.0 - 1.0;
    let features: Vec<f32> = (0..batch * SHAPE.len()).map(value).collect();
    let classes: Vec<i64> = (0..batch).map(|at| ((at * 31 + number) % CLASSES) as i64).collect();
    (TensorData::new(features, [batch, 1, 28, 28]), TensorData::new(classes, [batch]))
}
