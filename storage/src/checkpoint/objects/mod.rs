//! Checkpoints in an object store.
//!
//! ```text
//! <place>/
//!   log/<number>                     which checkpoints there are, and the fence          [`log`]
//!   checkpoint-e…-s…-<digest>/       of one checkpoint, as on a disk
//!     <part>.<chunk>                 at most 8 MiB each, several written at once
//!     manifest.json                  written when all chunks are
//! ```
//!
//! A store has no rename and no lock. What shows a checkpoint is therefore not that its manifest is there, but that the
//! log names it: one conditional put, made after everything else, and refused where a later membership has taken over.
//! No two checkpoints share an object, so what the log does not name, of a membership that is fenced off, can never be
//! named again and is deleted. See `docs/adr/0016-checkpoints-in-object-stores.md`.

mod log;

use std::collections::{BTreeMap, BTreeSet};

use neap_scheduler::model::MembershipEpoch;

use super::manifest::{MANIFEST_BYTES_MAX, MANIFEST_FILE, Manifest, Name, Prepared, chunk_file};
use super::{CheckpointError, KEEP_MIN, Loaded, Meta, OBJECT_CHUNK_BYTES, Published};
use crate::object::{ObjectError, Objects};
use log::{Head, Log};

/// What a publish has just done. Tests stop it there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Fenced,
    ChunkWritten,
    ManifestWritten,
    Shown,
}

#[derive(Debug, Clone)]
pub(super) struct ObjectCheckpoints {
    objects: Objects,
    log: Log,
}

impl ObjectCheckpoints {
    pub(super) fn new(objects: Objects) -> Self {
        Self { log: Log::new(objects.clone()), objects }
    }

    pub(super) fn shown(&self) -> &str {
        self.objects.uri()
    }

    pub(super) fn check_writable(&self) -> Result<(), CheckpointError> {
        let key = format!("probe-{}", std::process::id());
        let probe = self.objects.put(&key, "probe".into()).and_then(|()| self.objects.delete_all(&[key]));
        probe.map_err(|error| self.failed("write a checkpoint", error))
    }

    pub(super) fn fence(&self, epoch: MembershipEpoch) -> Result<(), CheckpointError> {
        if self.log.read()?.fence >= epoch {
            return Ok(());
        }
        let head = self.log.change(|head| {
            head.fence = head.fence.max(epoch);
            Ok(())
        })?;
        if let Err(error) = self.remove_unreferenced(&head) {
            tracing::warn!(store = self.shown(), %error, "unfinished checkpoints were not removed");
        }
        Ok(())
    }

    pub(super) fn read_fence(&self) -> Result<MembershipEpoch, CheckpointError> {
        self.log.read().map(|head| head.fence)
    }

    pub(super) fn list(&self) -> Result<Vec<Name>, CheckpointError> {
        self.log.read().map(|head| head.names)
    }

    pub(super) fn publish(&self, meta: &Meta, parts: &[(&str, &[u8])]) -> Result<Published, CheckpointError> {
        self.publish_watched(meta, parts, &mut |_| {})
    }

    fn publish_watched(
        &self,
        meta: &Meta,
        parts: &[(&str, &[u8])],
        watch: &mut (dyn FnMut(Step) + Send),
    ) -> Result<Published, CheckpointError> {
        let Prepared { manifest, published } = Prepared::new(meta, parts, OBJECT_CHUNK_BYTES)?;
        let name = Name::new(meta, &published.digest);
        self.check_fence(&self.log.read()?, meta.membership)?;
        self.fence(meta.membership)?;
        watch(Step::Fenced);
        if self.log.read()?.names.contains(&name) && self.load(&published.name).is_ok() {
            return Ok(published);
        }
        let written = self
            .write_all(&published.name, parts, manifest, watch)
            .map_err(|error| self.failed("write a checkpoint", error))
            .and_then(|()| self.show(&name, meta.membership));
        if let Err(error) = written {
            self.forget(&name);
            return Err(error);
        }
        watch(Step::Shown);
        Ok(published)
    }

    fn write_all(
        &self,
        name: &str,
        parts: &[(&str, &[u8])],
        manifest: Vec<u8>,
        watch: &mut (dyn FnMut(Step) + Send),
    ) -> Result<(), ObjectError> {
        let chunks = parts.iter().flat_map(|(part, bytes)| {
            let numbered = bytes.chunks(OBJECT_CHUNK_BYTES).enumerate();
            numbered.map(move |(index, chunk)| (format!("{name}/{}", chunk_file(part, index)), chunk))
        });
        self.objects.put_all(chunks, || watch(Step::ChunkWritten))?;
        self.objects.put(&format!("{name}/{MANIFEST_FILE}"), manifest.into())?;
        watch(Step::ManifestWritten);
        Ok(())
    }

    /// The one step that counts.
    fn show(&self, name: &Name, membership: MembershipEpoch) -> Result<(), CheckpointError> {
        let shown = self.log.change(|head| {
            self.check_fence(head, membership)?;
            if let Err(place) = head.names.binary_search(name) {
                head.names.insert(place, name.clone());
            }
            Ok(())
        });
        shown.map(|_| ())
    }

    /// Deletes what a publish that failed has written, if the store does not fail there too. Whether the log names it is
    /// looked at first: the failure may be of an answer, not of the put.
    fn forget(&self, name: &Name) {
        let removed = self.log.read().and_then(|head| {
            if head.names.contains(name) { Ok(()) } else { self.remove_folders(&BTreeSet::from([name.to_string()])) }
        });
        if let Err(error) = removed {
            tracing::warn!(store = self.shown(), %name, %error, "an unfinished checkpoint was not removed");
        }
    }

    pub(super) fn load(&self, name: &str) -> Result<Loaded, CheckpointError> {
        let not_found = || CheckpointError::NotFound { store: self.shown().to_owned(), name: name.to_owned() };
        let parsed = Name::parse(name).ok_or_else(not_found)?;
        if !self.log.read()?.names.contains(&parsed) {
            return Err(not_found());
        }
        let manifest = self.objects.get(&format!("{name}/{MANIFEST_FILE}"), MANIFEST_BYTES_MAX);
        let manifest = manifest.map_err(|error| self.unreadable(name, error))?;
        let (manifest, digest) = Manifest::read(&parsed, &manifest)?;
        let mut parts = BTreeMap::new();
        for part in manifest.parts {
            let keys: Vec<String> =
                (0..part.chunks.len()).map(|index| format!("{name}/{}", chunk_file(&part.name, index))).collect();
            let mut chunks: Vec<Vec<u8>> = vec![Vec::new(); keys.len()];
            let mut damaged = None;
            let take = |index: usize, bytes: &[u8]| match part.chunks[index].matches(bytes) {
                true => chunks[index] = bytes.to_vec(),
                false => damaged = Some(index),
            };
            let fetched = self.objects.get_all(&keys, OBJECT_CHUNK_BYTES as u64, take);
            fetched.map_err(|error| self.unreadable(name, error))?;
            if let Some(index) = damaged {
                let why = format!("{} is not what was written", chunk_file(&part.name, index));
                return Err(CheckpointError::Damaged { name: name.to_owned(), why });
            }
            parts.insert(part.name, chunks.concat());
        }
        Ok(Loaded { name: name.to_owned(), digest, meta: manifest.meta, parts })
    }

    pub(super) fn keep(&self, count: usize) -> Result<Vec<String>, CheckpointError> {
        let before = self.log.read()?;
        let surplus = before.names.len().saturating_sub(count.max(KEEP_MIN));
        let doomed = &before.names[..surplus];
        let head = self.log.change(|head| {
            head.names.retain(|name| !doomed.contains(name));
            Ok(())
        })?;
        let deleted: BTreeSet<String> = doomed.iter().map(Name::to_string).collect();
        self.remove_folders(&deleted)?;
        self.remove_unreferenced(&head)?;
        Ok(doomed.iter().map(Name::to_string).collect())
    }

    /// Deletes what no checkpoint of the log has and none will: of memberships that are fenced off, and of the one in
    /// force what is older than the newest it has published, because it publishes one after the other.
    fn remove_unreferenced(&self, head: &Head) -> Result<(), CheckpointError> {
        let newest = head.names.last().map(|name| (name.membership, name.step));
        let dead = |name: &Name| {
            let older = newest.is_some_and(|newest| (name.membership, name.step) < newest);
            !head.names.contains(name) && (name.membership < head.fence || older)
        };
        let dead = self.folders()?.into_iter().filter(dead).map(|name| name.to_string()).collect();
        self.remove_folders(&dead)
    }

    fn folders(&self) -> Result<BTreeSet<Name>, CheckpointError> {
        let listed = self.objects.list("").map_err(|error| self.failed("list the checkpoints", error))?;
        Ok(listed.iter().filter_map(|info| Name::parse(info.key.split_once('/')?.0)).collect())
    }

    /// Deletes all objects of these checkpoints, the manifest of each first, so that none is left that looks whole.
    fn remove_folders(&self, names: &BTreeSet<String>) -> Result<(), CheckpointError> {
        for name in names {
            let removed = self.objects.list(name).and_then(|listed| {
                let keys: Vec<String> = listed.into_iter().map(|info| info.key).collect();
                let (manifest, chunks): (Vec<_>, Vec<_>) =
                    keys.into_iter().partition(|key| key.ends_with(MANIFEST_FILE));
                self.objects.delete_all(&manifest).and_then(|()| self.objects.delete_all(&chunks))
            });
            removed.map_err(|error| self.failed("delete a checkpoint", error))?;
        }
        Ok(())
    }

    fn check_fence(&self, head: &Head, asked: MembershipEpoch) -> Result<(), CheckpointError> {
        match asked < head.fence {
            true => Err(CheckpointError::Fenced { store: self.shown().to_owned(), asked, fence: head.fence }),
            false => Ok(()),
        }
    }

    /// An object that is gone or has grown is damage; a store that fails is not.
    fn unreadable(&self, name: &str, error: ObjectError) -> CheckpointError {
        match error {
            ObjectError::NotFound { key } => {
                let file = key.rsplit('/').next().unwrap_or_default();
                CheckpointError::Damaged { name: name.to_owned(), why: format!("{file} is missing") }
            }
            error @ ObjectError::TooLarge { .. } => {
                CheckpointError::Damaged { name: name.to_owned(), why: error.to_string() }
            }
            error => self.failed("read a checkpoint", error),
        }
    }

    fn failed(&self, action: &'static str, source: ObjectError) -> CheckpointError {
        CheckpointError::Store { action, store: self.shown().to_owned(), source }
    }
}

#[cfg(test)]
mod tests;
