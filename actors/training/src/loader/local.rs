//! A job's data, read by this process.

use neap_runtime::wire::training::{
    ColumnDescription, DataDescription, DataSet, InputDescription, LoaderReply, TargetDescription,
};
use neap_scheduler::spec::DataSpec;

use super::DataFacts;
use crate::data::{self, ColumnKind, DataError, Dataset, Input, InputColumn, Row, SampleShape, Storage, TargetInfo};
use crate::model::Batch;

/// A job's data, in memory or in this node's cache.
pub struct LocalData {
    train: Dataset,
    eval: Option<Dataset>,
    facts: DataFacts,
    fetched_bytes: u64,
}

impl LocalData {
    /// Reads the data. Blocks.
    ///
    /// # Errors
    ///
    /// [`DataError`] with the file, the position and what to do.
    pub fn open(train: &DataSpec, eval: Option<&DataSpec>, storage: &Storage) -> Result<Self, DataError> {
        let mut training = data::open(train, None, storage)?;
        let eval = eval.map(|spec| open_eval(spec, &training, storage)).transpose()?;
        training.prepare_for(train.order, storage.memory_max);
        let facts = DataFacts {
            train_samples: training.len() as u32,
            eval_samples: eval.as_ref().map(|eval| eval.len() as u32),
            shape: training.shape(),
            target: training.target_info().clone(),
            input: training.input().clone(),
            train_digest: training.digest(),
            eval_digest: eval.as_ref().map(Dataset::digest),
        };
        Ok(Self { train: training, eval, facts, fetched_bytes: storage.stores.fetched_bytes() })
    }

    /// Bytes of files that came from object stores to read it.
    pub fn fetched_bytes(&self) -> u64 {
        self.fetched_bytes
    }

    /// What everybody has to know.
    pub fn facts(&self) -> &DataFacts {
        &self.facts
    }

    /// The samples with these ids as the model sees them.
    ///
    /// # Errors
    ///
    /// [`DataError::Unreadable`] where they lie in a file that cannot be read any more.
    pub fn batch(&self, set: DataSet, ids: &[u32]) -> Result<Batch, DataError> {
        let Some(data) = self.set(set) else { return Ok(Batch::default()) };
        let mut features = Vec::with_capacity(ids.len() * self.facts.shape.len());
        data.gather(ids, &self.facts.input, &mut features)?;
        Ok(Batch { features, targets: data.targets().pick(ids) })
    }

    /// The bytes that a sample takes where it is stored.
    pub fn stored_bytes(&self, set: DataSet) -> u64 {
        self.set(set).map_or(0, |data| data.stored_width() as u64 * if data.rows().is_wide() { 4 } else { 1 })
    }

    /// The samples with these ids as they are stored; `None` where one does not exist.
    ///
    /// # Errors
    ///
    /// As [`Self::batch`].
    pub fn stored(&self, set: DataSet, ids: &[u32]) -> Result<Option<LoaderReply>, DataError> {
        let Some(data) = self.set(set).filter(|data| ids.iter().all(|&id| (id as usize) < data.len())) else {
            return Ok(None);
        };
        let mut features = Vec::new();
        data.rows().visit(ids, data.stored_width(), |row| match row {
            Row::Bytes(bytes) => features.extend_from_slice(bytes),
            Row::Floats(floats) => features.extend_from_slice(bytemuck::cast_slice(floats)),
        })?;
        let targets = data.targets().pick(ids).as_bytes().to_vec();
        Ok(Some(LoaderReply::Samples { features, wide: data.rows().is_wide(), targets }))
    }

    fn set(&self, set: DataSet) -> Option<&Dataset> {
        match set {
            DataSet::Train => Some(&self.train),
            DataSet::Eval => self.eval.as_ref(),
        }
    }
}

fn open_eval(spec: &DataSpec, training: &Dataset, storage: &Storage) -> Result<Dataset, DataError> {
    let malformed = |fault| DataError::Malformed {
        path: spec.path.clone(),
        fault,
        help: "evaluate on data of the same kind as `data.train`".to_owned(),
    };
    let eval = data::open(spec, Some(training), storage)?;
    eval.aligned_with(training.shape(), training.target_info()).map_err(malformed)
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
            input: describe(&facts.input),
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
            input: restore(description.input),
            train_digest: description.train_digest,
            eval_digest: description.eval_digest,
        }
    }
}

fn describe(input: &Input) -> InputDescription {
    let column = |column: &InputColumn| {
        let kind = match &column.kind {
            &ColumnKind::Number { mean, scale, indicator } => ColumnDescription::Number { mean, scale, indicator },
            ColumnKind::Category(values) => ColumnDescription::Category(values.clone()),
        };
        (column.name.clone(), kind)
    };
    match input {
        &Input::Uniform { mean, scale } => InputDescription::Uniform { mean, scale },
        Input::Columns(columns) => InputDescription::Columns(columns.iter().map(column).collect()),
    }
}

fn restore(input: InputDescription) -> Input {
    let column = |(name, kind)| {
        let kind = match kind {
            ColumnDescription::Number { mean, scale, indicator } => ColumnKind::Number { mean, scale, indicator },
            ColumnDescription::Category(values) => ColumnKind::Category(values),
        };
        InputColumn { name, kind }
    };
    match input {
        InputDescription::Uniform { mean, scale } => Input::uniform(mean, scale),
        InputDescription::Columns(columns) => Input::Columns(columns.into_iter().map(column).collect()),
    }
}
