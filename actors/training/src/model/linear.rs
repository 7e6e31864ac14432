//! `linear` and `logistic`: one linear layer over the flattened sample, for values and for classes.
//!
//! Both are fitted by the optimiser of the job like every other entry. With the squared error the first is linear
//! regression, with the cross-entropy the second is (multinomial) logistic regression; `weight_decay` makes them ridge.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::{Model, NoParams};
use crate::data::SampleShape;
use crate::entry::EntryError;

/// The built-in entry `linear`.
#[derive(Module, Debug)]
pub struct LinearRegression {
    layer: Linear,
}

impl Model for LinearRegression {
    const NAME: &'static str = "linear";
    type Params = NoParams;

    fn build(shape: SampleShape, outputs: usize, _: &NoParams, device: &Device) -> Result<Self, EntryError> {
        match outputs {
            1 => Ok(Self { layer: LinearConfig::new(shape.len(), 1).init(device) }),
            classes => Err(EntryError::Target {
                entry: Self::NAME,
                found: format!("{classes} classes"),
                wanted: "a value: use `logistic`, or say `data.train.target: value`",
            }),
        }
    }

    fn forward(&self, samples: Tensor<4>) -> Tensor<2> {
        self.layer.forward(samples.flatten(1, 3))
    }
}

/// The built-in entry `logistic`.
#[derive(Module, Debug)]
pub struct LogisticRegression {
    layer: Linear,
}

impl Model for LogisticRegression {
    const NAME: &'static str = "logistic";
    type Params = NoParams;

    fn build(shape: SampleShape, outputs: usize, _: &NoParams, device: &Device) -> Result<Self, EntryError> {
        match outputs {
            0 | 1 => Err(EntryError::Target {
                entry: Self::NAME,
                found: "a value, or a single class".to_owned(),
                wanted: "two classes or more: use `linear`, or say `data.train.target: class`",
            }),
            classes => Ok(Self { layer: LinearConfig::new(shape.len(), classes).init(device) }),
        }
    }

    fn forward(&self, samples: Tensor<4>) -> Tensor<2> {
        self.layer.forward(samples.flatten(1, 3))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{TargetInfo, Targets};
    use crate::model::{Batch, Network, StandardNetwork, Write};

    const SHAPE: SampleShape = SampleShape { height: 1, width: 2, channels: 1 };

    /// Plain gradient descent on one batch.
    fn fit(network: &mut dyn Network, batch: &Batch, rate: f32) -> Vec<f32> {
        let weight = 1.0 / batch.targets.len() as f32;
        let mut parameters = vec![0.0; network.layout().len()];
        let mut gradient = parameters.clone();
        for _ in 0..600 {
            network.load(&parameters);
            network.gradient(batch.clone(), weight, &mut gradient, Write::Replace);
            parameters.iter_mut().zip(&gradient).for_each(|(value, slope)| *value -= rate * slope);
        }
        parameters
    }

    #[test]
    fn linear_finds_the_line_that_the_values_lie_on() {
        let features = vec![-1.0, 0.5, 0.0, -1.0, 1.0, 1.0, 2.0, 0.0];
        let values = features.chunks(2).map(|row| 3.0 * row[0] - 2.0 * row[1] + 0.5).collect();
        let mut network = StandardNetwork::<LinearRegression>::new(SHAPE, &TargetInfo::Value, &NoParams {}).unwrap();
        let found = fit(&mut network, &Batch { features, targets: Targets::Values(values) }, 0.1);
        for (found, expected) in found.iter().zip([3.0, -2.0, 0.5]) {
            assert!((found - expected).abs() < 1e-3, "{found} {expected}");
        }
    }

    #[test]
    fn logistic_parts_two_classes() {
        let classes = TargetInfo::Classes(vec!["a".into(), "b".into()]);
        let features = vec![-1.0, 0.5, -2.0, -1.0, 1.0, 1.0, 2.0, 0.0];
        let batch = Batch { features, targets: Targets::Classes(vec![0, 0, 1, 1]) };
        let mut network = StandardNetwork::<LogisticRegression>::new(SHAPE, &classes, &NoParams {}).unwrap();
        let parameters = fit(&mut network, &batch, 0.5);
        network.load(&parameters);
        assert_eq!(network.score(batch).metrics, [4.0]);
    }

    #[test]
    fn each_says_what_it_predicts() {
        let classes = TargetInfo::Classes(vec!["a".into(), "b".into(), "c".into()]);
        let error = StandardNetwork::<LinearRegression>::new(SHAPE, &classes, &NoParams {}).err().unwrap().to_string();
        assert!(error.contains("`linear` cannot predict 3 classes; it predicts a value"), "{error}");
        let error = StandardNetwork::<LogisticRegression>::new(SHAPE, &TargetInfo::Value, &NoParams {}).err().unwrap();
        assert!(error.to_string().contains("`logistic` cannot predict a value"), "{error}");
    }
}
