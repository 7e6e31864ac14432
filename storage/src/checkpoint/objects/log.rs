//! The log: which checkpoints there are, and the fence, agreed on by writers that know nothing of each other.
//!
//! Entry `log/<number>` holds the whole state; the highest number that reads is in force. A change creates the next entry
//! with a conditional put, which succeeds for one writer only, so that all changes are in one order, and a writer whose
//! epoch the newest entry fences finds out before its change counts. Old entries are deleted; whoever creates one that
//! was deleted before (it must have slept for [`ENTRIES_KEPT`] changes) sees that there are later ones, and takes it back.

use bytes::Bytes;
use neap_scheduler::model::MembershipEpoch;
use rand::TryRng;
use rand::rngs::SysRng;
use serde::{Deserialize, Serialize};

use super::super::CheckpointError;
use super::super::manifest::Name;
use crate::object::{Created, ObjectError, Objects};

/// How many entries are kept, also as a way back where the newest is damaged.
const ENTRIES_KEPT: u64 = 8;

/// The most bytes an entry may have: enough for 10,000 names.
const ENTRY_BYTES_MAX: u64 = 1 << 20;

/// How often a change is tried again because somebody else was first.
const TRIES_MAX: usize = 20;

const FORMAT: u32 = 1;
const FOLDER: &str = "log";
const HASH_CHARS: usize = 64;

/// What holds now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Head {
    /// The oldest membership that may publish.
    pub(super) fence: MembershipEpoch,
    /// The checkpoints, the oldest first.
    pub(super) names: Vec<Name>,
}

/// An entry: a line with the hash of the rest, then this as JSON.
#[derive(Serialize, Deserialize)]
struct Entry {
    format: u32,
    fence: u64,
    checkpoints: Vec<String>,
    /// Tells this writer's entry from any other with the same content.
    writer: String,
}

/// The log of one store.
#[derive(Debug, Clone)]
pub(super) struct Log {
    objects: Objects,
}

impl Log {
    pub(super) fn new(objects: Objects) -> Self {
        Self { objects }
    }

    /// What holds now.
    pub(super) fn read(&self) -> Result<Head, CheckpointError> {
        self.read_numbered().map(|(_, head)| head)
    }

    /// Changes what holds. `change` is given what holds at the moment, again whenever somebody else was first; where it
    /// changes nothing, nothing is written. Returns what holds then.
    pub(super) fn change(
        &self,
        change: impl Fn(&mut Head) -> Result<(), CheckpointError>,
    ) -> Result<Head, CheckpointError> {
        for _ in 0..TRIES_MAX {
            let (next, before) = self.read_numbered()?;
            let mut head = before.clone();
            change(&mut head)?;
            if head == before {
                return Ok(head);
            }
            if self.append(next, &head)? {
                self.trim(next);
                return Ok(head);
            }
        }
        Err(CheckpointError::Contended { store: self.objects.uri().to_owned() })
    }

    /// Writes entry `number` unless there is one; whether it counts.
    fn append(&self, number: u64, head: &Head) -> Result<bool, CheckpointError> {
        let (key, bytes) = (key(number), encode(head)?);
        // A failure may hide that it was written; looking tells.
        let created = match self.objects.create(&key, bytes.clone()) {
            Ok(Created::New) => true,
            Ok(Created::AlreadyThere) | Err(ObjectError::Failed { .. }) => {
                match self.objects.get(&key, ENTRY_BYTES_MAX) {
                    Ok(there) => there == bytes,
                    Err(ObjectError::NotFound { .. }) => false,
                    Err(error) => return Err(self.failed("write the log", error)),
                }
            }
            Err(error) => return Err(self.failed("write the log", error)),
        };
        if !created {
            return Ok(false);
        }
        let newest = self.numbers()?.last().copied().unwrap_or(number);
        if newest >= number + ENTRIES_KEPT {
            self.objects.delete_all(&[key]).map_err(|error| self.failed("take back an entry of the log", error))?;
            return Ok(false);
        }
        Ok(true)
    }

    /// The number of the next entry, and what holds now.
    fn read_numbered(&self) -> Result<(u64, Head), CheckpointError> {
        for _ in 0..TRIES_MAX {
            let numbers = self.numbers()?;
            let Some(newest) = numbers.last() else { return Ok((1, Head::default())) };
            if let Some(head) = self.newest_whole(&numbers)? {
                return Ok((newest + 1, head));
            }
        }
        Err(CheckpointError::Contended { store: self.objects.uri().to_owned() })
    }

    /// The newest of these entries that reads; `None` where one was deleted meanwhile, so that there are later ones.
    fn newest_whole(&self, numbers: &[u64]) -> Result<Option<Head>, CheckpointError> {
        for number in numbers.iter().rev() {
            let whole = match self.objects.get(&key(*number), ENTRY_BYTES_MAX) {
                Ok(bytes) => decode(&bytes),
                Err(ObjectError::NotFound { .. }) => return Ok(None),
                Err(ObjectError::TooLarge { .. }) => None,
                Err(error) => return Err(self.failed("read the log", error)),
            };
            if whole.is_some() {
                return Ok(whole);
            }
            tracing::warn!(store = self.objects.uri(), number, "a damaged entry of the log is passed over");
        }
        Err(CheckpointError::BadLog { store: self.objects.uri().to_owned() })
    }

    /// The numbers of the entries there are, in order.
    fn numbers(&self) -> Result<Vec<u64>, CheckpointError> {
        let listed = self.objects.list(FOLDER).map_err(|error| self.failed("list the log", error))?;
        let number = |key: &str| key.strip_prefix(FOLDER)?.strip_prefix('/')?.parse::<u64>().ok();
        let mut numbers: Vec<u64> = listed.iter().filter_map(|info| number(&info.key)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Deletes entries that nobody needs any more. Those that cannot be deleted only take room.
    fn trim(&self, newest: u64) {
        let trimmed = self.numbers().and_then(|numbers| {
            let old: Vec<String> =
                numbers.into_iter().filter(|number| number + ENTRIES_KEPT <= newest).map(key).collect();
            self.objects.delete_all(&old).map_err(|error| self.failed("trim the log", error))
        });
        if let Err(error) = trimmed {
            tracing::warn!(store = self.objects.uri(), %error, "old entries of the log stay");
        }
    }

    fn failed(&self, action: &'static str, source: ObjectError) -> CheckpointError {
        CheckpointError::Store { action, store: self.objects.uri().to_owned(), source }
    }
}

fn key(number: u64) -> String {
    format!("{FOLDER}/{number:012}")
}

fn encode(head: &Head) -> Result<Bytes, CheckpointError> {
    let mut writer = [0; 16];
    SysRng.try_fill_bytes(&mut writer).map_err(|error| CheckpointError::BadPart(error.to_string()))?;
    let entry = Entry {
        format: FORMAT,
        fence: head.fence.0,
        checkpoints: head.names.iter().map(Name::to_string).collect(),
        writer: hex::encode(writer),
    };
    let text = serde_json::to_string_pretty(&entry).map_err(|error| CheckpointError::BadPart(error.to_string()))?;
    Ok(format!("{}\n{text}\n", blake3::hash(text.as_bytes())).into())
}

/// `None` for whatever is not an entry as it was written.
fn decode(bytes: &[u8]) -> Option<Head> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (hash, text) = text.split_once('\n')?;
    let text = text.strip_suffix('\n')?;
    if hash.len() != HASH_CHARS || hash != blake3::hash(text.as_bytes()).to_hex().as_str() {
        return None;
    }
    let entry: Entry = serde_json::from_str(text).ok().filter(|entry: &Entry| entry.format <= FORMAT)?;
    let names = entry.checkpoints.iter().map(|name| Name::parse(name)).collect::<Option<Vec<_>>>()?;
    Some(Head { fence: MembershipEpoch(entry.fence), names })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;
    use proptest::prelude::*;

    use super::*;
    use crate::object::Location;

    fn log() -> Log {
        let Ok(Location::Remote(uri)) = Location::parse("s3://bucket/job") else { panic!("that is a place") };
        Log::new(Objects::over(Arc::new(InMemory::new()), &uri))
    }

    fn name(membership: u64, step: u64) -> Name {
        Name::parse(&format!("checkpoint-e{membership:06}-s{step:012}-0123456789abcdef")).unwrap()
    }

    #[test]
    fn changes_add_up_and_old_entries_go() {
        let log = log();
        for step in 1..=30 {
            log.change(|head| {
                head.names.push(name(1, step));
                Ok(())
            })
            .unwrap();
        }
        assert_eq!(log.read().unwrap().names.len(), 30);
        assert_eq!(log.numbers().unwrap(), (23..=30).collect::<Vec<_>>());
        log.change(|_| Ok(())).unwrap();
        assert_eq!(log.numbers().unwrap().last(), Some(&30), "nothing changed, nothing written");
    }

    #[test]
    fn of_two_writers_neither_is_lost() {
        let log = log();
        std::thread::scope(|scope| {
            for writer in 1..=4 {
                let log = &log;
                scope.spawn(move || {
                    for step in 1..=5 {
                        let add = |head: &mut Head| {
                            head.names.push(name(writer, step));
                            Ok(())
                        };
                        log.change(add).unwrap();
                    }
                });
            }
        });
        let mut names = log.read().unwrap().names;
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 20);
    }

    #[test]
    fn an_entry_whose_number_was_used_and_deleted_does_not_count() {
        let log = log();
        for epoch in 1..=20 {
            log.change(|head| {
                head.fence = MembershipEpoch(epoch);
                Ok(())
            })
            .unwrap();
        }
        assert!(!log.append(3, &Head::default()).unwrap());
        assert_eq!(log.read().unwrap().fence, MembershipEpoch(20));
        assert_eq!(log.numbers().unwrap().first(), Some(&13));
    }

    #[test]
    fn damage_falls_back_to_the_entry_before() {
        let log = log();
        for step in 1..=2 {
            log.change(|head| {
                head.names.push(name(1, step));
                Ok(())
            })
            .unwrap();
        }
        let whole = log.objects.get(&key(2), ENTRY_BYTES_MAX).unwrap();
        log.objects.put(&key(2), whole.slice(..whole.len() / 2)).unwrap();
        assert_eq!(log.read().unwrap().names.len(), 1);
        log.objects.put(&key(1), Bytes::from_static(b"?")).unwrap();
        assert!(matches!(log.read(), Err(CheckpointError::BadLog { .. })));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_and_no_flipped_bit_is(
            fence in any::<u64>(), steps in prop::collection::vec(0u64..10_000, 0..5), bit in any::<prop::sample::Index>(),
        ) {
            let head = Head { fence: MembershipEpoch(fence), names: steps.iter().map(|step| name(1, *step)).collect() };
            let mut bytes = encode(&head).unwrap().to_vec();
            prop_assert_eq!(decode(&bytes), Some(head));
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(decode(&bytes), None);
        }
    }
}
