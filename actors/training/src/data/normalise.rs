//! Features to mean 0 and deviation 1, with statistics taken once over the training data.

use super::{Dataset, Features};

/// Below this a feature counts as constant and is only moved, not scaled.
const DEVIATION_MIN: f64 = 1.0e-9;

/// What is taken from a feature, and what the rest is multiplied with: one pair for all features (images), or a pair a
/// feature (tables).
#[derive(Debug, Clone, PartialEq)]
pub struct Normalisation {
    mean: Vec<f32>,
    scale: Vec<f32>,
    /// The normalised value of every byte, where one pair serves all features.
    table: Vec<f32>,
}

impl Normalisation {
    /// The statistics of a data set. Bytes are taken for an image, whose values share one meaning.
    pub fn of(data: &Dataset) -> Self {
        let (mean, scale) = match data.features() {
            Features::Bytes(bytes) => {
                let (mean, scale) = of_bytes(bytes);
                (vec![mean], vec![scale])
            }
            Features::Floats(floats) => of_columns(floats, data.shape().len()),
        };
        Self::from_parts(mean, scale)
    }

    /// The normalisation with these parts; both have one entry, or one a feature.
    pub fn from_parts(mean: Vec<f32>, scale: Vec<f32>) -> Self {
        let table = match (&mean[..], &scale[..]) {
            (&[mean], &[scale]) => (0..=u8::MAX).map(|byte| (f32::from(byte) - mean) * scale).collect(),
            _ => Vec::new(),
        };
        Self { mean, scale, table }
    }

    /// What is taken from a feature.
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// What a feature is then multiplied with.
    pub fn scale(&self) -> &[f32] {
        &self.scale
    }

    pub(crate) fn apply_bytes(&self, sample: &[u8], out: &mut Vec<f32>) {
        match <&[f32; 256]>::try_from(&self.table[..]) {
            Ok(table) => out.extend(sample.iter().map(|&byte| table[usize::from(byte)])),
            Err(_) => {
                let pairs = self.mean.iter().zip(&self.scale);
                out.extend(sample.iter().zip(pairs).map(|(&byte, (mean, scale))| (f32::from(byte) - mean) * scale));
            }
        }
    }

    pub(crate) fn apply_floats(&self, sample: &[f32], out: &mut Vec<f32>) {
        let pairs = self.mean.iter().cycle().zip(self.scale.iter().cycle());
        out.extend(sample.iter().zip(pairs).map(|(value, (mean, scale))| (value - mean) * scale));
    }
}

/// Exact: counts of whole numbers.
fn of_bytes(bytes: &[u8]) -> (f32, f32) {
    let mut counts = [0u64; 256];
    bytes.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
    let total = bytes.len().max(1) as f64;
    let weighted =
        |power: i32| (0..256_u16).map(|v| counts[usize::from(v)] as f64 * f64::from(v).powi(power)).sum::<f64>();
    let mean = weighted(1) / total;
    let deviation = (weighted(2) / total - mean * mean).max(0.0).sqrt();
    (mean as f32, scale_of(deviation))
}

fn of_columns(floats: &[f32], columns: usize) -> (Vec<f32>, Vec<f32>) {
    let rows = (floats.len() / columns.max(1)).max(1) as f64;
    let mut mean = vec![0f64; columns];
    for row in floats.chunks_exact(columns.max(1)) {
        mean.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
    }
    mean.iter_mut().for_each(|sum| *sum /= rows);
    let mut squares = vec![0f64; columns];
    for row in floats.chunks_exact(columns.max(1)) {
        for ((sum, &value), mean) in squares.iter_mut().zip(row).zip(&mean) {
            *sum += (f64::from(value) - mean).powi(2);
        }
    }
    let scale = squares.iter().map(|sum| scale_of((sum / rows).sqrt())).collect();
    (mean.into_iter().map(|mean| mean as f32).collect(), scale)
}

fn scale_of(deviation: f64) -> f32 {
    if deviation < DEVIATION_MIN { 1.0 } else { (1.0 / deviation) as f32 }
}

#[cfg(test)]
mod tests {
    use super::super::SampleShape;
    use super::*;

    fn normalised(features: Features, width: u32) -> Vec<f32> {
        let samples = match &features {
            Features::Bytes(bytes) => bytes.len(),
            Features::Floats(floats) => floats.len(),
        } / width as usize;
        let shape = SampleShape { height: 1, width, channels: 1 };
        let data = Dataset::new(shape, features, vec![0; samples], vec!["0".into()]);
        let mut out = Vec::new();
        data.gather(&(0..samples as u32).collect::<Vec<_>>(), &Normalisation::of(&data), &mut out);
        out
    }

    #[test]
    fn bytes_share_one_mean_and_deviation() {
        assert_eq!(normalised(Features::Bytes(vec![0, 255, 0, 255]), 2), [-1.0, 1.0, -1.0, 1.0]);
    }

    #[test]
    fn columns_of_a_table_are_apart_and_a_constant_one_is_zero() {
        let features = Features::Floats(vec![1.0, 500.0, 7.0, 3.0, 700.0, 7.0]);
        assert_eq!(normalised(features, 3), [-1.0, -1.0, 0.0, 1.0, 1.0, 0.0]);
    }
}
