//! A trained model on disk: the weights as safetensors, and a card that says what they are.
//!
//! Both files replace earlier ones as a whole. The card is written last and has the hash of the weights, so that a
//! crash between the two shows when they are read, and a card never speaks of weights that are not there.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use neap_scheduler::model::{JobId, Millis};
use serde::{Deserialize, Serialize};

use crate::durable;

/// The weights' file.
pub const MODEL_FILE: &str = "model.safetensors";
/// The card's file.
pub const CARD_FILE: &str = "model.json";
/// The format of the card that this code writes.
pub const CARD_FORMAT: u32 = 1;

/// What a model is, where it comes from and how good it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelCard {
    /// [`CARD_FORMAT`].
    pub format: u32,
    /// The job that trained it.
    pub job: JobId,
    /// The job's name.
    pub name: String,
    /// The registered entry that knows its shape, for example `mlp`.
    pub entry: String,
    /// blake3 of the job file, hexadecimal.
    pub spec_hash: String,
    /// blake3 of each data set by its name, hexadecimal.
    pub data_hash: BTreeMap<String, String>,
    /// The entry's parameters.
    pub params: serde_json::Map<String, serde_json::Value>,
    /// How good it is: `eval_accuracy`, `eval_loss`, `train_loss`. What is not a number is stored as `null`.
    #[serde(deserialize_with = "numbers_or_null")]
    pub metrics: BTreeMap<String, f64>,
    /// Steps trained.
    pub steps: u64,
    /// Passes over the data.
    pub epochs: u32,
    /// When training ended.
    pub created_at: Millis,
    /// What computed it: backend, model and driver of the device. Cards of earlier versions do not say it.
    #[serde(default)]
    pub device: String,
}

fn numbers_or_null<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, f64>, D::Error> {
    let stored = BTreeMap::<String, Option<f64>>::deserialize(deserializer)?;
    Ok(stored.into_iter().map(|(name, value)| (name, value.unwrap_or(f64::NAN))).collect())
}

/// A model that is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenModel {
    /// The weights.
    pub model_path: PathBuf,
    /// The card.
    pub card_path: PathBuf,
    /// blake3 of the weights, hexadecimal.
    pub blake3: String,
    /// The size of the weights.
    pub bytes: u64,
}

/// Why a model could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// There is no room. An earlier model in the folder is as it was.
    #[error("no space left in {} for a model of {bytes} bytes; free some space, then try again", folder.display())]
    Full {
        /// The folder.
        folder: PathBuf,
        /// The size of the weights.
        bytes: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The weights and the card do not belong together, or one of them is damaged.
    #[error("the model in {} is damaged: {why}", folder.display())]
    Damaged {
        /// The folder.
        folder: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Reading or writing failed.
    #[error("failed to {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// The card as it is stored: with what it needs to check the weights.
#[derive(Serialize, Deserialize)]
struct StoredCard {
    #[serde(flatten)]
    card: ModelCard,
    model_file: String,
    model_bytes: u64,
    model_blake3: String,
}

/// Writes `weights` (safetensors) and `card` into `folder`, which is created where it is missing.
///
/// # Errors
///
/// [`ModelError::Full`], [`ModelError::Io`]; an earlier model is then still whole.
pub fn write_model(folder: &Path, weights: &[u8], card: &ModelCard) -> Result<WrittenModel, ModelError> {
    let bytes = weights.len() as u64;
    let fail = |action, path: &Path, source| match durable::is_full(&source) {
        true => ModelError::Full { folder: folder.to_owned(), bytes, source },
        false => ModelError::Io { action, path: path.to_owned(), source },
    };
    durable::create_dir(folder).map_err(|source| fail("create", folder, source))?;
    let (model_path, card_path) = (folder.join(MODEL_FILE), folder.join(CARD_FILE));
    let blake3 = blake3::hash(weights).to_hex().to_string();
    let stored = StoredCard {
        card: card.clone(),
        model_file: MODEL_FILE.to_owned(),
        model_bytes: bytes,
        model_blake3: blake3.clone(),
    };
    let stored = serde_json::to_vec_pretty(&stored).map_err(|error| fail("write", &card_path, error.into()))?;
    // A server that was let go in the last step may be writing the same model.
    durable::replace_among_writers(&model_path, weights, durable::SHARED)
        .map_err(|source| fail("write", &model_path, source))?;
    durable::replace_among_writers(&card_path, &stored, durable::SHARED)
        .map_err(|source| fail("write", &card_path, source))?;
    Ok(WrittenModel { model_path, card_path, blake3, bytes })
}

/// Reads the weights and the card in `folder` and checks that they belong together.
///
/// # Errors
///
/// [`ModelError::Damaged`], [`ModelError::Io`].
pub fn read_model(folder: &Path) -> Result<(Vec<u8>, ModelCard), ModelError> {
    let read = |file: &str| {
        let path = folder.join(file);
        fs::read(&path).map_err(|source| ModelError::Io { action: "read", path, source })
    };
    let damaged = |why: String| ModelError::Damaged { folder: folder.to_owned(), why };
    let stored: StoredCard = serde_json::from_slice(&read(CARD_FILE)?)
        .map_err(|error| damaged(format!("{CARD_FILE} does not read: {error}")))?;
    let weights = read(MODEL_FILE)?;
    if blake3::hash(&weights).to_hex().as_str() != stored.model_blake3 {
        return Err(damaged(format!("{MODEL_FILE} is not the file that {CARD_FILE} was written for")));
    }
    Ok((weights, stored.card))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card() -> ModelCard {
        ModelCard {
            format: CARD_FORMAT,
            job: JobId::new(4),
            name: "digits".to_owned(),
            entry: "mlp".to_owned(),
            spec_hash: "ab".repeat(32),
            data_hash: [("train".to_owned(), "cd".repeat(32))].into(),
            params: [("hidden".to_owned(), serde_json::json!([64, 32]))].into_iter().collect(),
            metrics: [("eval_accuracy".to_owned(), 0.96875)].into(),
            steps: 120,
            epochs: 3,
            created_at: Millis::new(1_700_000_000_000),
            device: "flex x86_64".to_owned(),
        }
    }

    #[test]
    fn a_model_reads_back_and_is_replaced_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("models/digits");
        let first = write_model(&folder, b"first", &card()).unwrap();
        assert_eq!(first.bytes, 5);
        write_model(&folder, b"second", &card()).unwrap();
        assert_eq!(read_model(&folder).unwrap(), (b"second".to_vec(), card()));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
    }

    #[test]
    fn weights_that_the_card_does_not_know_are_damage() {
        let dir = tempfile::tempdir().unwrap();
        let written = write_model(dir.path(), b"weights", &card()).unwrap();
        fs::write(&written.model_path, b"weightz").unwrap();
        assert!(matches!(read_model(dir.path()), Err(ModelError::Damaged { .. })));
        fs::write(&written.card_path, b"{").unwrap();
        assert!(matches!(read_model(dir.path()), Err(ModelError::Damaged { .. })));
    }

    #[test]
    fn a_loss_that_is_no_number_does_not_spoil_the_card() {
        let dir = tempfile::tempdir().unwrap();
        let card = ModelCard { metrics: [("train_loss".to_owned(), f64::NAN)].into(), ..card() };
        write_model(dir.path(), b"weights", &card).unwrap();
        assert!(read_model(dir.path()).unwrap().1.metrics["train_loss"].is_nan());
    }
}
