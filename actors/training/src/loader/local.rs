//! A job's data, read by this process.

use neap_runtime::wire::training::{DataDescription, DataSet, LoaderReply, TargetDescription};
use neap_scheduler::spec::DataSpec;

use super::DataFacts;
use crate::data::{self, DataError, Dataset, Features, Normalisation, SampleShape, TargetInfo};
use crate::model::Batch;

/// A job's data in memory.
pub struct LocalData {
    train: Dataset,
    eval: Option<Dataset>,
    facts: DataFacts,
}

impl LocalData {
    /// Reads the data. Blocks.
    ///
    /// # Errors
    ///
    /// [`DataError`] with the file, the position and what to do.
    pub fn open(train: &DataSpec, eval: Option<&DataSpec>) -> Result<Self, DataError> {
        let training = data::open(train)?;
        let eval = eval.map(|spec| open_eval(spec, &training)).transpose()?;
        let facts = DataFacts {
            train_samples: training.len() as u32,
            eval_samples: eval.as_ref().map(|eval| eval.len() as u32),
            shape: training.shape(),
            target: training.target_info().clone(),
            normalisation: Normalisation::of(&training),
            train_digest: training.digest(),
            eval_digest: eval.as_ref().map(Dataset::digest),
        };
        Ok(Self { train: training, eval, facts })
    }

    /// What everybody has to know.
    pub fn facts(&self) -> &DataFacts {
        &self.facts
    }

    /// The normalised samples with these ids.
    pub fn batch(&self, set: DataSet, ids: &[u32]) -> Batch {
        let Some(data) = self.set(set) else { return Batch::default() };
        let mut features = Vec::with_capacity(ids.len() * self.facts.shape.len());
        data.gather(ids, &self.facts.normalisation, &mut features);
        Batch { features, targets: data.targets().pick(ids) }
    }

    /// The samples with these ids as they are stored; `None` where one does not exist.
    pub fn stored(&self, set: DataSet, ids: &[u32]) -> Option<LoaderReply> {
        let data = self.set(set)?;
        if ids.iter().any(|&id| id as usize >= data.len()) {
            return None;
        }
        let length = data.shape().len();
        let ranges = ids.iter().map(|&id| id as usize * length..(id as usize + 1) * length);
        let (features, wide) = match data.features() {
            Features::Bytes(bytes) => (ranges.flat_map(|range| bytes[range].iter().copied()).collect(), false),
            Features::Floats(floats) => {
                (ranges.flat_map(|range| bytemuck::cast_slice(&floats[range]).iter().copied()).collect(), true)
            }
        };
        let targets = data.targets().pick(ids).as_bytes().to_vec();
        Some(LoaderReply::Samples { features, wide, targets })
    }

    fn set(&self, set: DataSet) -> Option<&Dataset> {
        match set {
            DataSet::Train => Some(&self.train),
            DataSet::Eval => self.eval.as_ref(),
        }
    }
}

fn open_eval(spec: &DataSpec, training: &Dataset) -> Result<Dataset, DataError> {
    let malformed = |fault| DataError::Malformed {
        path: spec.path.clone(),
        fault,
        help: "evaluate on data of the same kind as `data.train`".to_owned(),
    };
    data::open(spec)?.aligned_with(training.shape(), training.target_info()).map_err(malformed)
}

impl From<&DataFacts> for DataDescription {
    fn from(facts: &DataFacts) -> Self {
        let SampleShape { height, width, channels } = facts.shape;
        Self {
            train_samples: facts.train_samples,
            eval_samples: facts.eval_samples,
            shape: [height, width, channels],
            target: match &facts.target {
                TargetInfo::Classes(names) => TargetDescription::Classes(names.clone()),
                TargetInfo::Value => TargetDescription::Value,
            },
            mean: facts.normalisation.mean().to_vec(),
            scale: facts.normalisation.scale().to_vec(),
            train_digest: facts.train_digest,
            eval_digest: facts.eval_digest,
        }
    }
}

impl From<DataDescription> for DataFacts {
    fn from(description: DataDescription) -> Self {
        let [height, width, channels] = description.shape;
        Self {
            train_samples: description.train_samples,
            eval_samples: description.eval_samples,
            shape: SampleShape { height, width, channels },
            target: match description.target {
                TargetDescription::Classes(names) => TargetInfo::Classes(names),
                TargetDescription::Value => TargetInfo::Value,
            },
            normalisation: Normalisation::from_parts(description.mean, description.scale),
            train_digest: description.train_digest,
            eval_digest: description.eval_digest,
        }
    }
}
