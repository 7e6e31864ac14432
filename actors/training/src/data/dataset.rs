//! A data set: samples as they are stored, what they become, and what is to be predicted.

use neap_scheduler::spec::OrderSpec;
use serde::{Deserialize, Serialize};

use super::rows::{Built, BuiltRows};
use super::store::{self, Description};
use super::table::TableColumns;
use super::{ColumnKind, DataError, Input, InputColumn, Row, Rows, SampleShape, Storage, TargetInfo, Targets};

/// A data set.
#[derive(Debug)]
pub struct Dataset {
    rows: Rows,
    targets: Targets,
    meaning: Meaning,
}

/// What the samples of a data set mean.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Meaning {
    /// The shape of a sample as the model sees it.
    pub(super) shape: SampleShape,
    pub(super) input: Input,
    pub(super) target: TargetInfo,
    /// Where it is a table.
    pub(super) table: Option<TableColumns>,
    /// Of the stored values, the targets and what they mean.
    pub(super) digest: [u8; 32],
}

impl Dataset {
    /// Puts together what was read. Where it is in a file, that gets the name `key`.
    pub(super) fn complete(
        built: Built,
        mut meaning: Meaning,
        storage: &Storage,
        key: &[u8; 32],
    ) -> Result<Self, DataError> {
        meaning.digest = meaning.digest_with(&built);
        let Built { rows, width, targets, .. } = built;
        let rows = match rows {
            BuiltRows::Memory(rows) => rows,
            BuiltRows::File(file) => {
                let description = Description {
                    samples: targets.len() as u64,
                    row_values: meaning.input.stored_width(meaning.shape) as u64,
                    wide: width == super::rows::Width::Float,
                    values: matches!(targets, Targets::Values(_)),
                    meaning: StoredMeaning::from(&meaning),
                };
                Rows::Stored(file.finish(storage, key, &targets, &description)?)
            }
        };
        Ok(Self { rows, targets, meaning })
    }

    /// The data set in the node's cache under a key, where there is one.
    pub(super) fn cached(storage: &Storage, key: &[u8; 32]) -> Option<Self> {
        let (rows, targets, description) = store::load::<StoredMeaning>(storage, key)?;
        let meaning = description.meaning.restore()?;
        let fits = meaning.input.stored_width(meaning.shape) as u64 == description.row_values;
        fits.then_some(Self { rows: Rows::Stored(rows), targets, meaning })
    }

    /// How many samples.
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// The shape of one sample as the model sees it.
    pub fn shape(&self) -> SampleShape {
        self.meaning.shape
    }

    /// The stored values.
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// How many values of a sample are stored.
    pub fn stored_width(&self) -> usize {
        self.meaning.input.stored_width(self.meaning.shape)
    }

    /// What stored values become.
    pub fn input(&self) -> &Input {
        &self.meaning.input
    }

    /// What there is to predict.
    pub fn target_info(&self) -> &TargetInfo {
        &self.meaning.target
    }

    /// What is to be predicted of each sample.
    pub fn targets(&self) -> &Targets {
        &self.targets
    }

    /// Digest (blake3) of the stored values, the targets and what they mean: what the model was trained on, however it
    /// was stored.
    pub fn digest(&self) -> [u8; 32] {
        self.meaning.digest
    }

    pub(super) fn meaning(&self) -> &Meaning {
        &self.meaning
    }

    /// Prepares for reading in this order, with so much memory for what lies on disk.
    pub fn prepare_for(&mut self, order: OrderSpec, memory_max: u64) {
        if let Rows::Stored(stored) = &mut self.rows {
            stored.read_for(order, memory_max);
        }
    }

    /// The features of these samples as a model with this input sees them, appended to `out`.
    ///
    /// # Errors
    ///
    /// [`DataError::Unreadable`] where they lie in a file that cannot be read.
    ///
    /// # Panics
    ///
    /// If an id is not below [`Self::len`].
    pub fn gather(&self, ids: &[u32], input: &Input, out: &mut Vec<f32>) -> Result<(), DataError> {
        self.rows.visit(ids, self.stored_width(), |row| match row {
            Row::Bytes(bytes) => input.apply_bytes(bytes, out),
            Row::Floats(floats) => input.apply_floats(floats, out),
        })
    }

    /// This data set with the class numbers of `training`, for evaluation.
    ///
    /// # Errors
    ///
    /// A sentence where the two do not fit together.
    pub fn aligned_with(mut self, shape: SampleShape, training: &TargetInfo) -> Result<Self, String> {
        let own = self.meaning.shape;
        if own != shape {
            return Err(format!(
                "its samples are {}×{}×{}, those of the training data {}×{}×{}",
                own.height, own.width, own.channels, shape.height, shape.width, shape.channels
            ));
        }
        match (&mut self.targets, training) {
            (Targets::Classes(classes), TargetInfo::Classes(names)) => {
                renumber(classes, self.meaning.target.class_names(), names)?;
                self.meaning.target = training.clone();
                Ok(self)
            }
            (Targets::Values(_), TargetInfo::Value) => Ok(self),
            (Targets::Classes(_), TargetInfo::Value) => Err("it has classes, the training data values".to_owned()),
            (Targets::Values(_), TargetInfo::Classes(_)) => Err("it has values, the training data classes".to_owned()),
        }
    }
}

/// Gives classes the numbers that their names have in the training data.
fn renumber(classes: &mut [u16], names: &[String], training: &[String]) -> Result<(), String> {
    let position = |name: &String| training.iter().position(|known| known == name);
    let mut used = vec![false; names.len()];
    classes.iter().for_each(|&class| used[usize::from(class)] = true);
    let numbers: Vec<Option<u16>> = names.iter().map(|name| position(name).map(|at| at as u16)).collect();
    if let Some(unknown) = (0..used.len()).find(|&class| used[class] && numbers[class].is_none()) {
        return Err(format!("its class `{}` does not occur in the training data", names[unknown]));
    }
    classes.iter_mut().for_each(|class| *class = numbers[usize::from(*class)].unwrap_or_default());
    Ok(())
}

impl Meaning {
    fn digest_with(&self, built: &Built) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for number in [self.shape.height, self.shape.width, self.shape.channels, built.targets.len() as u32] {
            hasher.update(&number.to_le_bytes());
        }
        hasher.update(if built.width == super::rows::Width::Byte { b"u8" } else { b"f32" });
        hasher.update(&built.digest).update(built.targets.as_bytes());
        self.target.class_names().iter().for_each(|name| {
            hasher.update(name.as_bytes()).update(&[0]);
        });
        for column in self.input.columns() {
            hasher.update(column.name.as_bytes()).update(&[1]);
            if let ColumnKind::Category(values) = &column.kind {
                values.iter().for_each(|value| {
                    hasher.update(value.as_bytes()).update(&[2]);
                });
            }
        }
        *hasher.finalize().as_bytes()
    }
}

/// [`Meaning`] as it is stored. Floats as their bits: what is read back is what was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct StoredMeaning {
    shape: [u32; 3],
    input: StoredInput,
    /// The classes; nothing where values are predicted.
    classes: Option<Vec<String>>,
    table: Option<StoredColumns>,
    digest: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum StoredInput {
    Uniform { mean: u32, scale: u32 },
    Columns(Vec<(String, StoredKind)>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum StoredKind {
    Number { mean: u32, scale: u32, indicator: bool },
    Category(Vec<String>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct StoredColumns {
    features: Vec<String>,
    categories: Vec<String>,
    label: String,
}

impl From<&Meaning> for StoredMeaning {
    fn from(meaning: &Meaning) -> Self {
        let column = |column: &InputColumn| {
            let kind = match &column.kind {
                ColumnKind::Number { mean, scale, indicator } => {
                    StoredKind::Number { mean: mean.to_bits(), scale: scale.to_bits(), indicator: *indicator }
                }
                ColumnKind::Category(values) => StoredKind::Category(values.clone()),
            };
            (column.name.clone(), kind)
        };
        Self {
            shape: [meaning.shape.height, meaning.shape.width, meaning.shape.channels],
            input: match &meaning.input {
                Input::Uniform { mean, scale } => StoredInput::Uniform { mean: mean.to_bits(), scale: scale.to_bits() },
                Input::Columns(columns) => StoredInput::Columns(columns.iter().map(column).collect()),
            },
            classes: match &meaning.target {
                TargetInfo::Classes(names) => Some(names.clone()),
                TargetInfo::Value => None,
            },
            table: meaning.table.as_ref().map(|table| StoredColumns {
                features: table.features.clone(),
                categories: table.categories.iter().cloned().collect(),
                label: table.label.clone(),
            }),
            digest: hex::encode(meaning.digest),
        }
    }
}

impl StoredMeaning {
    /// `None` where it was not written by this code.
    fn restore(self) -> Option<Meaning> {
        let [height, width, channels] = self.shape;
        let column = |(name, kind)| {
            let kind = match kind {
                StoredKind::Number { mean, scale, indicator } => {
                    ColumnKind::Number { mean: f32::from_bits(mean), scale: f32::from_bits(scale), indicator }
                }
                StoredKind::Category(values) => ColumnKind::Category(values),
            };
            InputColumn { name, kind }
        };
        let mut digest = [0; 32];
        hex::decode_to_slice(&self.digest, &mut digest).ok()?;
        Some(Meaning {
            shape: SampleShape { height, width, channels },
            input: match self.input {
                StoredInput::Uniform { mean, scale } => Input::uniform(f32::from_bits(mean), f32::from_bits(scale)),
                StoredInput::Columns(columns) => Input::Columns(columns.into_iter().map(column).collect()),
            },
            target: self.classes.map_or(TargetInfo::Value, TargetInfo::Classes),
            table: self.table.map(|table| TableColumns {
                features: table.features,
                categories: table.categories.into_iter().collect(),
                label: table.label,
            }),
            digest,
        })
    }
}
