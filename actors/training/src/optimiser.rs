//! Optimisers over the flat buffer, one pass over memory a step.
//!
//! The formulas are those of burn 0.22 (`SgdConfig` with dampening 0, `AdamConfig`, `AdamWConfig`), so that a job gives what the same
//! burn program gives. Every value depends on its own position only: the result has no order of summation to keep.

use crate::wide::wide;

/// Which optimiser, and its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OptimiserSettings {
    /// Stochastic gradient descent with momentum.
    Sgd(SgdSettings),
    /// Adam (Kingma and Ba 2015).
    Adam(AdamSettings),
    /// Adam whose pull towards 0 is taken from the parameters and not put into the gradient (Loshchilov and Hutter 2019).
    AdamW(AdamSettings),
}

impl OptimiserSettings {
    /// The pull of every parameter towards 0.
    pub fn weight_decay(&self) -> f32 {
        match self {
            Self::Sgd(sgd) => sgd.weight_decay,
            Self::Adam(adam) | Self::AdamW(adam) => adam.weight_decay,
        }
    }
}

/// How far one step goes, beside what the settings say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    /// The step size is multiplied by this: what a schedule says.
    pub rate: f32,
    /// The gradient is multiplied by this: what clipping says.
    pub gradient: f32,
}

impl Scale {
    /// Neither schedule nor clipping. Multiplying by 1 changes no bit.
    pub const ONE: Self = Self { rate: 1.0, gradient: 1.0 };
}

/// Which part of a step is taken: so many of its equal parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Parts that are taken, at least 1.
    pub parts: u32,
    /// Parts of a whole step.
    pub whole: u32,
}

impl Share {
    /// The share as a number from 0 to 1.
    pub fn portion(self) -> f64 {
        f64::from(self.parts) / f64::from(self.whole)
    }
}

/// Settings of stochastic gradient descent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdSettings {
    /// Step size.
    pub lr: f32,
    /// Share of the last step's velocity that is kept; 0 for none.
    pub momentum: f32,
    /// Pull towards 0, added to the gradient.
    pub weight_decay: f32,
}

/// Settings of Adam.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamSettings {
    /// Step size.
    pub lr: f32,
    /// Decay of the mean of gradients.
    pub beta1: f32,
    /// Decay of the mean of their squares.
    pub beta2: f32,
    /// Keeps the division away from 0.
    pub epsilon: f32,
    /// Pull towards 0: added to the gradient (Adam), or taken off the parameters (AdamW).
    pub weight_decay: f32,
}

/// An optimiser with its state.
#[derive(Debug, Clone)]
pub struct Optimiser {
    settings: OptimiserSettings,
    /// Steps taken, or parts of steps.
    time: u64,
    /// One buffer of the parameters' length each: velocity (SGD with momentum), or both moments (Adam).
    moments: Vec<Vec<f32>>,
}

impl Optimiser {
    /// A fresh optimiser for `length` parameters.
    pub fn new(settings: OptimiserSettings, length: usize) -> Self {
        let buffers = match settings {
            OptimiserSettings::Sgd(SgdSettings { momentum: 0.0, .. }) => 0,
            OptimiserSettings::Sgd(_) => 1,
            OptimiserSettings::Adam(_) | OptimiserSettings::AdamW(_) => 2,
        };
        Self { settings, time: 0, moments: vec![vec![0.0; length]; buffers] }
    }

    /// The optimiser as it was after `time` steps; `None` where these are not its buffers.
    pub fn restore(settings: OptimiserSettings, length: usize, time: u64, moments: Vec<Vec<f32>>) -> Option<Self> {
        let fresh = Self::new(settings, length);
        let fits = fresh.moments.len() == moments.len() && moments.iter().all(|buffer| buffer.len() == length);
        fits.then_some(Self { time, moments, ..fresh })
    }

    /// Steps taken; parts of steps where they are taken in parts.
    pub fn time(&self) -> u64 {
        self.time
    }

    /// The state's buffers.
    pub fn moments(&self) -> &[Vec<f32>] {
        &self.moments
    }

    /// The state's buffers, for good.
    pub fn into_moments(self) -> Vec<Vec<f32>> {
        self.moments
    }

    /// Takes one step along `gradient`.
    pub fn step(&mut self, parameters: &mut [f32], gradient: &[f32], scale: Scale) {
        assert_eq!(parameters.len(), gradient.len(), "gradients are checked where they come in");
        self.time += 1;
        let (settings, time) = (self.settings, self.time);
        wide(|| match (settings, &mut self.moments[..]) {
            (OptimiserSettings::Sgd(sgd), []) => plain_step(sgd, scale, parameters, gradient),
            (OptimiserSettings::Sgd(sgd), [velocity]) => momentum_step(sgd, scale, parameters, gradient, velocity),
            (OptimiserSettings::Adam(adam), [first, second]) => {
                adam_step(adam, scale, Forgotten::after(adam, time), parameters, gradient, first, second);
            }
            (OptimiserSettings::AdamW(adam), [first, second]) => {
                let pulled = pull(adam, scale, parameters);
                adam_step(pulled, scale, Forgotten::after(adam, time), parameters, gradient, first, second);
            }
            _ => unreachable!("the constructors make the buffers that the settings need"),
        });
    }

    /// Takes a part of a step along `gradient`, which is what this part adds to the step's whole gradient. For jobs all of
    /// whose steps are taken in parts: the optimiser's time then counts parts, so `share.whole` is the same in all calls.
    ///
    /// `gradient` over its share is an estimate of the whole gradient, less exact than the whole one. A part goes its share of
    /// the way along that estimate, and what the optimiser remembers fades by the share's power: parts that make up a step
    /// forget as much as the step at once would, and a gradient that stays the same leads as far. A share of 1 is
    /// [`Self::step`].
    pub fn step_part(&mut self, parameters: &mut [f32], gradient: &[f32], scale: Scale, share: Share) {
        assert_eq!(parameters.len(), gradient.len(), "gradients are checked where they come in");
        self.time += u64::from(share.parts);
        let portion = share.portion();
        let part = Scale { rate: scale.rate * portion as f32, gradient: scale.gradient / portion as f32 };
        let faded = |kept: f32| f64::from(kept).powf(portion) as f32;
        let faded_adam =
            |adam: AdamSettings| AdamSettings { beta1: faded(adam.beta1), beta2: faded(adam.beta2), ..adam };
        let time = self.time as f64 / f64::from(share.whole);
        let forgotten = |adam| Forgotten::after_steps(adam, time);
        let settings = self.settings;
        wide(|| match (settings, &mut self.moments[..]) {
            (OptimiserSettings::Sgd(sgd), []) => {
                let sgd = SgdSettings { weight_decay: sgd.weight_decay * portion as f32, ..sgd };
                plain_step(sgd, scale, parameters, gradient);
            }
            (OptimiserSettings::Sgd(sgd), [velocity]) => {
                let momentum = faded(sgd.momentum);
                // A gradient that stays the same leads to the same velocity, however often a step it is added.
                let gain = (1.0 - momentum) / (1.0 - sgd.momentum);
                let sgd = SgdSettings { momentum, weight_decay: sgd.weight_decay * gain, ..sgd };
                momentum_step(sgd, Scale { gradient: part.gradient * gain, ..part }, parameters, gradient, velocity);
            }
            (OptimiserSettings::Adam(adam), [first, second]) => {
                adam_step(faded_adam(adam), part, forgotten(adam), parameters, gradient, first, second);
            }
            (OptimiserSettings::AdamW(adam), [first, second]) => {
                let pulled = faded_adam(pull(adam, part, parameters));
                adam_step(pulled, part, forgotten(adam), parameters, gradient, first, second);
            }
            _ => unreachable!("the constructors make the buffers that the settings need"),
        });
    }
}

/// How much of Adam's first moments, which are 0, is left: what the corrections of its means take out.
#[derive(Clone, Copy)]
struct Forgotten {
    first: f32,
    second: f32,
}

impl Forgotten {
    fn after(AdamSettings { beta1, beta2, .. }: AdamSettings, time: u64) -> Self {
        // Past this many steps both are 0 for every beta below 0.999 999.
        let exponent = i32::try_from(time).unwrap_or(i32::MAX);
        Self { first: beta1.powi(exponent), second: beta2.powi(exponent) }
    }

    fn after_steps(AdamSettings { beta1, beta2, .. }: AdamSettings, steps: f64) -> Self {
        Self { first: f64::from(beta1).powf(steps) as f32, second: f64::from(beta2).powf(steps) as f32 }
    }
}

/// AdamW's pull towards 0, taken off the parameters; the settings for the rest of the step.
#[inline(always)]
fn pull(adam: AdamSettings, scale: Scale, parameters: &mut [f32]) -> AdamSettings {
    let kept = 1.0 - adam.lr * scale.rate * adam.weight_decay;
    parameters.iter_mut().for_each(|parameter| *parameter *= kept);
    AdamSettings { weight_decay: 0.0, ..adam }
}

#[inline(always)]
fn plain_step(settings: SgdSettings, scale: Scale, parameters: &mut [f32], gradient: &[f32]) {
    let lr = settings.lr * scale.rate;
    for (parameter, &slope) in parameters.iter_mut().zip(gradient) {
        *parameter -= lr * (slope * scale.gradient + settings.weight_decay * *parameter);
    }
}

#[inline(always)]
fn momentum_step(
    SgdSettings { lr, momentum, weight_decay }: SgdSettings,
    scale: Scale,
    parameters: &mut [f32],
    gradient: &[f32],
    velocity: &mut [f32],
) {
    let lr = lr * scale.rate;
    for ((parameter, &slope), speed) in parameters.iter_mut().zip(gradient).zip(velocity) {
        *speed = slope * scale.gradient + weight_decay * *parameter + momentum * *speed;
        *parameter -= lr * *speed;
    }
}

#[inline(always)]
fn adam_step(
    AdamSettings { lr, beta1, beta2, epsilon, weight_decay }: AdamSettings,
    scale: Scale,
    forgotten: Forgotten,
    parameters: &mut [f32],
    gradient: &[f32],
    first: &mut [f32],
    second: &mut [f32],
) {
    let second_correction = (1.0 - forgotten.second).sqrt();
    let factor = second_correction / (1.0 - forgotten.first);
    let floor = epsilon * second_correction;
    let lr = lr * scale.rate;
    for (((parameter, &slope), mean), square) in parameters.iter_mut().zip(gradient).zip(first).zip(second) {
        let slope = slope * scale.gradient + weight_decay * *parameter;
        *mean = beta1 * *mean + (1.0 - beta1) * slope;
        *square = beta2 * *square + (1.0 - beta2) * slope * slope;
        *parameter -= lr * (*mean * factor / (square.sqrt() + floor));
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Param;
    use burn::nn::{Linear, LinearConfig};
    use burn::optim::decay::WeightDecayConfig;
    use burn::optim::momentum::MomentumConfig;
    use burn::optim::{AdamConfig, AdamWConfig, GradientsParams, ModuleOptimizer, SgdConfig};
    use burn::tensor::{Device, Tensor, TensorData};

    use super::*;

    const LENGTH: usize = 24;

    fn linear(values: &[f32]) -> Linear {
        let device = Device::flex().autodiff();
        let mut linear = LinearConfig::new(4, 6).with_bias(false).init(&device);
        let weight = Tensor::<2>::from_data(TensorData::new(values.to_vec(), [4, 6]), &device);
        linear.weight = Param::initialized(linear.weight.id, weight.require_grad());
        linear
    }

    fn check(settings: OptimiserSettings, mut theirs: ModuleOptimizer, lr: f64) {
        let mut parameters: Vec<f32> = (0..LENGTH).map(|at| (at as f32).sin()).collect();
        let mut model = linear(&parameters);
        let mut ours = Optimiser::new(settings, LENGTH);
        for step in 0..20 {
            let gradient: Vec<f32> = (0..LENGTH).map(|at| ((at * 7 + step * 3) as f32).cos() * 0.3).collect();
            ours.step(&mut parameters, &gradient, Scale::ONE);
            let mut gradients = GradientsParams::new();
            let tensor = Tensor::<2>::from_data(TensorData::new(gradient, [4, 6]), &Device::flex());
            gradients.register(model.weight.id, tensor);
            model = theirs.step(lr, model, gradients);
        }
        let theirs = model.weight.val().into_data().try_into_vec::<f32>().unwrap();
        for (ours, theirs) in parameters.iter().zip(&theirs) {
            assert!((ours - theirs).abs() < 1e-6, "{ours} {theirs}");
        }
    }

    #[test]
    fn sgd_is_burns_sgd() {
        let plain = SgdSettings { lr: 0.1, momentum: 0.0, weight_decay: 0.0 };
        check(OptimiserSettings::Sgd(plain), SgdConfig::new().init(), 0.1);
        let momentum = MomentumConfig { momentum: 0.9, dampening: 0.0, nesterov: false };
        let config = SgdConfig::new().with_momentum(Some(momentum.clone()));
        check(OptimiserSettings::Sgd(SgdSettings { momentum: 0.9, ..plain }), config.init(), 0.1);
        let config =
            SgdConfig::new().with_momentum(Some(momentum)).with_weight_decay(Some(WeightDecayConfig { penalty: 0.01 }));
        let settings = SgdSettings { momentum: 0.9, weight_decay: 0.01, ..plain };
        check(OptimiserSettings::Sgd(settings), config.init(), 0.1);
    }

    #[test]
    fn adam_is_burns_adam() {
        let settings = AdamSettings { lr: 0.01, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 };
        let config = AdamConfig::new().with_epsilon(1e-8);
        check(OptimiserSettings::Adam(settings), config.init(), 0.01);
    }

    #[test]
    fn adamw_is_burns_adamw() {
        let settings = AdamSettings { lr: 0.01, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.1 };
        let config = AdamWConfig::new().with_epsilon(1e-8).with_weight_decay(0.1);
        check(OptimiserSettings::AdamW(settings), config.init(), 0.01);
    }

    #[test]
    fn a_scaled_step_is_a_step_with_a_scaled_rate_and_gradient() {
        let settings = |lr| OptimiserSettings::Sgd(SgdSettings { lr, momentum: 0.9, weight_decay: 0.0 });
        let (mut scaled, mut plain) = (Optimiser::new(settings(0.5), 2), Optimiser::new(settings(0.125), 2));
        let (mut ours, mut theirs) = (vec![1.0, -1.0], vec![1.0, -1.0]);
        for _ in 0..3 {
            scaled.step(&mut ours, &[4.0, 8.0], Scale { rate: 0.25, gradient: 0.5 });
            plain.step(&mut theirs, &[2.0, 4.0], Scale::ONE);
        }
        assert_eq!(ours, theirs);
    }

    /// All kinds, with everything that a step has.
    fn kinds() -> [OptimiserSettings; 4] {
        let sgd = |momentum| OptimiserSettings::Sgd(SgdSettings { lr: 0.05, momentum, weight_decay: 0.01 });
        let adam = AdamSettings { lr: 0.01, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 };
        [sgd(0.0), sgd(0.9), OptimiserSettings::Adam(adam), OptimiserSettings::AdamW(adam)]
    }

    #[test]
    fn a_whole_step_as_one_part_is_the_step() {
        for settings in kinds() {
            let (mut whole, mut part) = (Optimiser::new(settings, 3), Optimiser::new(settings, 3));
            let (mut ours, mut theirs) = (vec![1.0, -2.0, 3.0], vec![1.0, -2.0, 3.0]);
            for step in 0..20 {
                let gradient = [0.1, (step as f32).sin(), -0.3];
                whole.step(&mut theirs, &gradient, Scale::ONE);
                part.step_part(&mut ours, &gradient, Scale::ONE, Share { parts: 8, whole: 8 });
            }
            for (ours, theirs) in ours.iter().zip(&theirs) {
                assert!((ours - theirs).abs() < 1e-5, "{settings:?}: {ours} {theirs}");
            }
        }
    }

    #[test]
    fn a_gradient_that_stays_the_same_leads_as_far_in_parts_of_any_size() {
        const STEPS: usize = 400;
        for settings in kinds() {
            let run = |sizes: &[u32]| {
                let mut optimiser = Optimiser::new(settings, 2);
                let mut parameters = vec![1.0_f32, -1.0];
                for _ in 0..STEPS {
                    for &parts in sizes {
                        let share = Share { parts, whole: 8 };
                        let gradient = [0.02, -0.01].map(|slope| slope * share.portion() as f32);
                        optimiser.step_part(&mut parameters, &gradient, Scale::ONE, share);
                    }
                }
                parameters
            };
            let whole = run(&[8]);
            for sizes in [&[4, 4][..], &[3, 5], &[1; 8]] {
                for (parts, whole) in run(sizes).iter().zip(&whole) {
                    let (went, should) = (parts - parts.signum(), whole - whole.signum());
                    assert!(
                        (went - should).abs() < 0.01 * should.abs().max(0.1),
                        "{settings:?} {sizes:?}: {parts} {whole}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_restored_optimiser_goes_on_as_if_nothing_had_happened() {
        let settings = OptimiserSettings::Adam(AdamSettings {
            lr: 0.01,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.1,
        });
        let mut one = Optimiser::new(settings, 3);
        let mut parameters = vec![1.0, 2.0, 3.0];
        one.step(&mut parameters, &[0.1, 0.2, 0.3], Scale::ONE);
        let mut other = Optimiser::restore(settings, 3, one.time(), one.moments().to_vec()).unwrap();
        let mut copy = parameters.clone();
        one.step(&mut parameters, &[0.3, 0.2, 0.1], Scale::ONE);
        other.step(&mut copy, &[0.3, 0.2, 0.1], Scale::ONE);
        assert_eq!(parameters, copy);
        assert!(Optimiser::restore(settings, 3, 1, vec![vec![0.0; 3]]).is_none());
    }
}
