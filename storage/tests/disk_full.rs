//! A full disk, for real: a file system of 1 MiB in memory. Where it cannot be mounted the tests say SKIPPED.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use common::scratch;
use neap_scheduler::model::{ContentHash, JobId, MembershipEpoch, Millis};
use neap_storage::checkpoint::Meta;
use neap_storage::model::{ModelCard, ModelError, read_model, write_model};
use neap_storage::{ArtifactError, ArtifactStore, CheckpointError, CheckpointStore, Journal, JournalError};

/// A mounted file system of 1 MiB, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(test: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "neap-test"]).arg(dir.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(dir)),
            Ok(output) => {
                println!("SKIPPED {test}: mount said: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                println!("SKIPPED {test}: mount could not be started: {error}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

#[test]
fn a_full_disk_refuses_appends_and_loses_none_that_was_acknowledged() {
    let Some(disk) = SmallDisk::mount("a_full_disk_refuses_appends") else { return };
    let dir = disk.path().join("journal");
    let (mut journal, _) = Journal::open(&dir).unwrap();
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![1; 100_000]).unwrap();
    let mut acknowledged = Vec::new();
    let payload = |n: usize| vec![n as u8; 3_000 + n];
    let error = loop {
        let next = payload(acknowledged.len());
        match journal.append(std::slice::from_ref(&next)) {
            Ok(_) => acknowledged.push(next),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, JournalError::Full { .. }), "{error:?}");
    assert!(error.is_retryable());
    assert!(error.to_string().contains(dir.to_str().unwrap()), "{error}");
    assert!(acknowledged.len() > 100, "{}", acknowledged.len());
    assert!(journal.append(&[vec![0; 500_000]]).is_err());

    // What did not fit was taken back. The journal can be read on a full disk, and goes on as soon as there is room.
    let length = fs::metadata(dir.join("journal.neap")).unwrap().len();
    assert_eq!(length, journal.bytes());
    drop(journal);
    let (mut journal, entries) = Journal::open(&dir).unwrap();
    assert!(journal.torn().is_none());
    assert_eq!(entries.len(), acknowledged.len());
    fs::remove_file(ballast).unwrap();
    acknowledged.push(payload(1));
    assert_eq!(journal.append(&[payload(1)]).unwrap().0 as usize, acknowledged.len());
    drop(journal);
    let (_, entries) = Journal::open(&dir).unwrap();
    assert!(entries.iter().map(|entry| &entry.payload).eq(&acknowledged));
}

#[test]
fn a_full_disk_refuses_a_checkpoint_and_keeps_the_earlier_ones() {
    let Some(disk) = SmallDisk::mount("a_full_disk_refuses_a_checkpoint") else { return };
    let folder = disk.path().join("checkpoints");
    let store = CheckpointStore::open(&folder).unwrap();
    let meta =
        |step| Meta { membership: MembershipEpoch(1), step, epoch: 0, cursor: 0, extra: serde_json::Value::Null };
    let published = store.publish(&meta(1), &[("w", &[1; 300_000])]).unwrap();

    let error = store.publish(&meta(2), &[("v", &[3; 100_000]), ("w", &[2; 900_000])]).unwrap_err();
    assert!(matches!(error, CheckpointError::Full { bytes: 1_000_000, .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(folder.to_str().unwrap()) && text.contains("checkpoint.uri"), "{text}");
    assert_eq!(store.list().unwrap().len(), 1);
    assert_eq!(store.load_latest().unwrap().unwrap().name, published.name);
    let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_str().unwrap().starts_with("tmp-")), "{names:?}");

    store.publish(&meta(2), &[("w", &[2; 300_000])]).unwrap();
    assert_eq!(store.load_latest().unwrap().unwrap().meta.step, 2);
}

#[test]
fn a_full_disk_refuses_a_model_and_keeps_the_earlier_one() {
    let Some(disk) = SmallDisk::mount("a_full_disk_refuses_a_model") else { return };
    let card = ModelCard {
        format: neap_storage::model::CARD_FORMAT,
        job: JobId::new(1),
        name: "digits".to_owned(),
        entry: "mlp".to_owned(),
        spec_hash: "00".to_owned(),
        data_hash: [("train".to_owned(), "11".to_owned())].into(),
        params: serde_json::Map::new(),
        metrics: [("eval_accuracy".to_owned(), 0.5)].into(),
        steps: 10,
        epochs: 1,
        created_at: Millis::new(1),
        device: "flex x86_64".to_owned(),
    };
    write_model(disk.path(), &[1; 200_000], &card).unwrap();
    let error = write_model(disk.path(), &[2; 900_000], &card).unwrap_err();
    assert!(matches!(error, ModelError::Full { bytes: 900_000, .. }), "{error:?}");
    assert_eq!(read_model(disk.path()).unwrap(), (vec![1; 200_000], card));
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let dir = scratch();
    let file = dir.path().join("a-file");
    fs::write(&file, "").unwrap();
    let error = CheckpointStore::open(&file.join("checkpoints")).unwrap_err();
    assert!(error.to_string().contains("a-file/checkpoints"), "{error}");
    let error = Journal::open(&file.join("journal")).unwrap_err();
    assert!(error.to_string().contains("a-file/journal"), "{error}");
}

#[test]
fn a_full_disk_refuses_an_artifact_and_takes_it_once_there_is_room() {
    let Some(disk) = SmallDisk::mount("a_full_disk_refuses_an_artifact") else { return };
    let program = vec![7; 700_000];
    let hash = ContentHash::new(*blake3::hash(&program).as_bytes());
    let store = ArtifactStore::open(disk.path().join("artifacts"), 1 << 30).unwrap();
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![1; 500_000]).unwrap();
    let put = || {
        let mut incoming = store.begin(hash, 700_000, &BTreeSet::new())?;
        program.chunks(4_096).try_for_each(|bytes| incoming.write(bytes))?;
        incoming.finish()
    };
    let error = put().unwrap_err();
    assert!(matches!(error, ArtifactError::Full { .. }), "{error:?}");
    assert_eq!(fs::read_dir(disk.path().join("artifacts")).unwrap().count(), 0, "nothing half is left");
    fs::remove_file(&ballast).unwrap();
    assert_eq!(fs::read(put().unwrap().path).unwrap(), program);
}
