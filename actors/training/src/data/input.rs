//! What the model sees of a stored sample: numbers at mean 0 and deviation 1, categories as one feature each. Fitted once
//! over the training data, applied to both, and stored with the model.

use super::SampleShape;
use crate::wide::wide;

/// Below this a feature counts as constant and is only moved, not scaled.
const DEVIATION_MIN: f64 = 1.0e-9;

/// What stored values become before the model sees them.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// All values share one meaning: the pixels of an image, or the columns `p0`, `p1`, `p2` and so on of a table of bytes.
    Uniform {
        /// What is taken from a value.
        mean: f32,
        /// What the rest is multiplied with.
        scale: f32,
    },
    /// The columns of a table.
    Columns(Vec<InputColumn>),
}

/// A column of a table, as the model sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct InputColumn {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub kind: ColumnKind,
}

/// What a column holds.
#[derive(Debug, Clone, PartialEq)]
pub enum ColumnKind {
    /// Numbers: one feature. A missing one is taken for the mean.
    Number {
        /// Over the training data.
        mean: f32,
        /// What a number less the mean is multiplied with.
        scale: f32,
        /// Whether any was missing in the training data: then a second feature is 1 where one is.
        indicator: bool,
    },
    /// Categories, sorted: one feature each, 1 for the sample's own; and a last one for any that the training data has
    /// not.
    Category(Vec<String>),
}

impl Input {
    /// Values that share one meaning.
    pub fn uniform(mean: f32, scale: f32) -> Self {
        Self::Uniform { mean, scale }
    }

    /// The statistics of bytes, exactly: counts of whole numbers.
    pub(crate) fn of_bytes(counts: &[u64; 256]) -> Self {
        let total = counts.iter().sum::<u64>().max(1) as f64;
        let weighted =
            |power: i32| counts.iter().zip(0u16..).map(|(&n, v)| n as f64 * f64::from(v).powi(power)).sum::<f64>();
        let mean = weighted(1) / total;
        let deviation = (weighted(2) / total - mean * mean).max(0.0).sqrt();
        Self::uniform(mean as f32, scale_of(deviation))
    }

    /// How many stored values a sample of `shape` has.
    pub fn stored_width(&self, shape: SampleShape) -> usize {
        match self {
            Self::Uniform { .. } => shape.len(),
            Self::Columns(columns) => columns.len(),
        }
    }

    /// How many features a row of these columns becomes.
    pub(crate) fn features(columns: &[InputColumn]) -> usize {
        columns.iter().map(|column| column.kind.features()).sum()
    }

    /// The columns of a table whose columns are apart.
    pub fn columns(&self) -> &[InputColumn] {
        match self {
            Self::Uniform { .. } => &[],
            Self::Columns(columns) => columns,
        }
    }

    /// What is taken from each feature: one value for all, or one a feature.
    pub fn mean(&self) -> Vec<f32> {
        self.per_feature(0.0, |mean, _| mean)
    }

    /// What each feature is then multiplied with: one value for all, or one a feature.
    pub fn scale(&self) -> Vec<f32> {
        self.per_feature(1.0, |_, scale| scale)
    }

    fn per_feature(&self, other: f32, pick: impl Fn(f32, f32) -> f32) -> Vec<f32> {
        let columns = match self {
            Self::Uniform { mean, scale } => return vec![pick(*mean, *scale)],
            Self::Columns(columns) => columns,
        };
        let mut values = Vec::with_capacity(Self::features(columns));
        for column in columns {
            match &column.kind {
                ColumnKind::Number { mean, scale, indicator } => {
                    values.push(pick(*mean, *scale));
                    values.extend(indicator.then_some(other));
                }
                ColumnKind::Category(_) => values.extend(std::iter::repeat_n(other, column.kind.features())),
            }
        }
        values
    }

    /// The features of one sample stored as bytes, appended.
    pub(crate) fn apply_bytes(&self, sample: &[u8], out: &mut Vec<f32>) {
        match self {
            &Self::Uniform { mean, scale } => {
                wide(|| out.extend(sample.iter().map(|&byte| (f32::from(byte) - mean) * scale)));
            }
            Self::Columns(columns) => apply(columns, sample.iter().map(|&byte| f32::from(byte)), out),
        }
    }

    /// The features of one sample stored as floats, appended.
    pub(crate) fn apply_floats(&self, sample: &[f32], out: &mut Vec<f32>) {
        match self {
            &Self::Uniform { mean, scale } => {
                let feature = |&value: &f32| if value.is_nan() { 0.0 } else { (value - mean) * scale };
                wide(|| out.extend(sample.iter().map(feature)));
            }
            Self::Columns(columns) => apply(columns, sample.iter().copied(), out),
        }
    }
}

impl ColumnKind {
    /// How long its texts are together.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Number { .. } => 0,
            Self::Category(values) => values.iter().map(String::len).sum(),
        }
    }

    /// How many features it becomes.
    pub fn features(&self) -> usize {
        match self {
            Self::Number { indicator, .. } => 1 + usize::from(*indicator),
            Self::Category(values) => values.len() + 1,
        }
    }
}

fn apply(columns: &[InputColumn], sample: impl Iterator<Item = f32>, out: &mut Vec<f32>) {
    for (column, value) in columns.iter().zip(sample) {
        match &column.kind {
            ColumnKind::Number { mean, scale, indicator } => {
                out.push(if value.is_nan() { 0.0 } else { (value - mean) * scale });
                out.extend(indicator.then_some(f32::from(u8::from(value.is_nan()))));
            }
            ColumnKind::Category(values) => {
                let start = out.len();
                out.resize(start + values.len() + 1, 0.0);
                // Whatever is not one of them is the unknown one; what comes over the wire is not trusted to be.
                let code = if (0.0..values.len() as f32).contains(&value) { value as usize } else { values.len() };
                out[start + code] = 1.0;
            }
        }
    }
}

/// One over the deviation, or 1 for a constant.
pub(crate) fn scale_of(deviation: f64) -> f32 {
    if deviation < DEVIATION_MIN { 1.0 } else { (1.0 / deviation) as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_share_one_mean_and_deviation() {
        let mut counts = [0; 256];
        (counts[0], counts[255]) = (2, 2);
        let input = Input::of_bytes(&counts);
        let mut out = Vec::new();
        input.apply_bytes(&[0, 255], &mut out);
        input.apply_floats(&[0.0, 255.0, f32::NAN], &mut out);
        assert_eq!(out, [-1.0, 1.0, -1.0, 1.0, 0.0]);
        assert_eq!((input.mean(), input.scale()), (vec![127.5], vec![1.0 / 127.5]));
    }

    #[test]
    fn columns_become_features() {
        let number = |indicator| ColumnKind::Number { mean: 10.0, scale: 0.5, indicator };
        let column = |name: &str, kind| InputColumn { name: name.to_owned(), kind };
        let origins = ColumnKind::Category(["EWR", "JFK"].map(str::to_owned).to_vec());
        let columns = vec![column("a", number(false)), column("b", number(true)), column("origin", origins)];
        assert_eq!(Input::features(&columns), 6);
        let input = Input::Columns(columns);
        let features = |sample: &[f32]| {
            let mut out = Vec::new();
            input.apply_floats(sample, &mut out);
            out
        };
        assert_eq!(features(&[12.0, 8.0, 1.0]), [1.0, -1.0, 0.0, 0.0, 1.0, 0.0]);
        assert_eq!(features(&[f32::NAN, f32::NAN, 2.0]), [0.0, 0.0, 1.0, 0.0, 0.0, 1.0]);
        for strange in [f32::NAN, -1.0, 1e9] {
            assert_eq!(features(&[10.0, 10.0, strange])[3..], [0.0, 0.0, 1.0], "{strange}");
        }
        assert_eq!(input.mean(), [10.0, 10.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(input.scale(), [0.5, 0.5, 1.0, 1.0, 1.0, 1.0]);
    }
}
