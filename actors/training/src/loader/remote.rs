//! A job's data, asked of the data loaders of other workers.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use neap_runtime::RemoteRef;
use neap_runtime::wire::training::{DataSet, LoaderProtocol, LoaderReply, LoaderRequest};
use tokio::runtime::Handle;

use super::{DataFacts, FetchError};
use crate::data::{Input, TargetInfo, Targets};
use crate::model::Batch;

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Features asked for in one request: well below what one message may hold.
const REQUEST_BYTES_MAX: usize = 256 * 1024;

/// Rounds through all workers before the data counts as out of reach; with the pause, about ten seconds.
const ROUNDS_MAX: u32 = 50;
const ROUND_PAUSE: Duration = Duration::from_millis(200);

/// The way to data that this process cannot read.
pub struct RemoteData {
    facts: DataFacts,
    runtime: Handle,
    loaders: Mutex<Vec<RemoteRef<LoaderProtocol>>>,
}

impl RemoteData {
    /// Asks one worker what the data is.
    ///
    /// # Errors
    ///
    /// [`FetchError`] where it cannot read the data either.
    pub async fn describe(loader: &RemoteRef<LoaderProtocol>) -> Result<DataFacts, FetchError> {
        match loader.call(LoaderRequest::Describe, REQUEST_TIMEOUT).await {
            Ok(LoaderReply::Description(description)) => checked(description.into()),
            Ok(LoaderReply::Unavailable(reason)) => Err(FetchError::Unavailable(reason)),
            Ok(LoaderReply::Samples { .. }) => Err(FetchError::Unavailable("an answer to another question".to_owned())),
            Err(error) => Err(FetchError::Unavailable(error.to_string())),
        }
    }

    /// Data with these facts, to be had from `loaders`.
    pub fn new(facts: DataFacts, runtime: Handle, loaders: Vec<RemoteRef<LoaderProtocol>>) -> Self {
        Self { facts, runtime, loaders: Mutex::new(loaders) }
    }

    /// What everybody has to know.
    pub fn facts(&self) -> &DataFacts {
        &self.facts
    }

    /// Replaces the workers to ask.
    pub fn set_loaders(&self, loaders: Vec<RemoteRef<LoaderProtocol>>) {
        *self.loaders.lock().unwrap_or_else(PoisonError::into_inner) = loaders;
    }

    /// The samples with these ids as the model sees them, and how many bytes of them came. Blocks.
    ///
    /// # Errors
    ///
    /// [`FetchError`] where nobody has answered for a while.
    pub fn batch(&self, set: DataSet, ids: &[u32]) -> Result<(Batch, u64), FetchError> {
        let per_request = (REQUEST_BYTES_MAX / (self.stored_width() * size_of::<f32>())).max(1);
        let (mut batch, mut bytes) = (Batch::default(), 0);
        for ids in ids.chunks(per_request) {
            bytes += self.fetch(set, ids, &mut batch)?;
        }
        Ok((batch, bytes))
    }

    fn stored_width(&self) -> usize {
        self.facts.input.stored_width(self.facts.shape)
    }

    fn fetch(&self, set: DataSet, ids: &[u32], batch: &mut Batch) -> Result<u64, FetchError> {
        let mut last = "no other worker is known".to_owned();
        for _ in 0..ROUNDS_MAX {
            let loaders = self.loaders.lock().unwrap_or_else(PoisonError::into_inner).clone();
            for loader in loaders {
                let request = LoaderRequest::Samples { set, ids: ids.to_vec() };
                match self.runtime.block_on(loader.call(request, REQUEST_TIMEOUT)) {
                    Ok(reply) => match decode(&reply, &self.facts, ids.len(), batch) {
                        Ok(bytes) => return Ok(bytes),
                        Err(reason) => last = reason,
                    },
                    Err(error) => last = error.to_string(),
                }
            }
            std::thread::sleep(ROUND_PAUSE);
        }
        Err(FetchError::Unavailable(last))
    }
}

/// Facts that another worker sent: a sample has features, as many as the model is told.
fn checked(facts: DataFacts) -> Result<DataFacts, FetchError> {
    let features = match &facts.input {
        Input::Uniform { .. } => facts.shape.len(),
        Input::Columns(columns) => Input::features(columns),
    };
    match features > 0 && features == facts.shape.len() {
        true => Ok(facts),
        false => Err(FetchError::Unavailable("samples without features".to_owned())),
    }
}

/// Appends the samples of an answer; an answer that does not fit the facts changes nothing.
fn decode(reply: &LoaderReply, facts: &DataFacts, count: usize, batch: &mut Batch) -> Result<u64, String> {
    let LoaderReply::Samples { features, wide, targets } = reply else {
        return Err(match reply {
            LoaderReply::Unavailable(reason) => reason.clone(),
            _ => "an answer to another question".to_owned(),
        });
    };
    let stored_width = facts.input.stored_width(facts.shape);
    let values = count * stored_width;
    let width = if *wide { size_of::<f32>() } else { 1 };
    let decoded = decode_targets(targets, &facts.target).filter(|targets| targets.len() == count);
    let Some(decoded) = decoded.filter(|_| features.len() == values * width) else {
        return Err(format!("{} bytes and {} of targets for {count} samples", features.len(), targets.len()));
    };
    for sample in features.chunks_exact(stored_width * width) {
        if *wide {
            let floats: Vec<f32> = bytemuck::pod_collect_to_vec(sample);
            facts.input.apply_floats(&floats, &mut batch.features);
        } else {
            facts.input.apply_bytes(sample, &mut batch.features);
        }
    }
    batch.append_targets(decoded);
    Ok(features.len() as u64)
}

/// Targets as they travel; `None` where a class does not exist.
fn decode_targets(bytes: &[u8], target: &TargetInfo) -> Option<Targets> {
    match target {
        TargetInfo::Classes(names) => {
            let classes: Vec<u16> = bytemuck::pod_collect_to_vec(bytes);
            let known = classes.iter().all(|&class| usize::from(class) < names.len());
            (known && bytes.len().is_multiple_of(2)).then_some(Targets::Classes(classes))
        }
        TargetInfo::Value => {
            bytes.len().is_multiple_of(4).then(|| Targets::Values(bytemuck::pod_collect_to_vec(bytes)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::SampleShape;

    #[test]
    fn an_answer_that_does_not_fit_is_refused() {
        let facts = DataFacts {
            train_samples: 9,
            eval_samples: None,
            shape: SampleShape { height: 1, width: 2, channels: 1 },
            target: TargetInfo::Classes(vec!["a".into(), "b".into()]),
            input: Input::uniform(1.0, 2.0),
            train_digest: [0; 32],
            eval_digest: None,
        };
        let samples = |features: Vec<u8>, wide, targets: &[u8]| LoaderReply::Samples {
            features,
            wide,
            targets: targets.to_vec(),
        };
        let mut batch = Batch::default();
        decode(&samples(vec![1, 2], false, &[1, 0]), &facts, 1, &mut batch).unwrap();
        let wide = bytemuck::cast_slice::<f32, u8>(&[0.5, 1.5]).to_vec();
        decode(&samples(wide, true, &[0, 0]), &facts, 1, &mut batch).unwrap();
        assert_eq!(batch.features, [0.0, 2.0, -1.0, 1.0]);
        assert_eq!(batch.targets, Targets::Classes(vec![1, 0]));
        for bad in
            [samples(vec![1], false, &[1, 0]), samples(vec![1, 2], false, &[1]), samples(vec![1, 2], false, &[2, 0])]
        {
            assert!(decode(&bad, &facts, 1, &mut batch).is_err());
        }
        assert_eq!(batch.targets.len(), 2);
        let facts = DataFacts { target: TargetInfo::Value, ..facts };
        let mut batch = Batch::default();
        decode(&samples(vec![1, 2], false, &1.5f32.to_le_bytes()), &facts, 1, &mut batch).unwrap();
        assert_eq!(batch.targets, Targets::Values(vec![1.5]));
    }
}
