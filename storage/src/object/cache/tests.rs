//! Copies of objects in a store in memory: what is fetched, what is found, what is damaged, and what makes room.

use std::sync::Arc;

use bytes::Bytes;
use object_store::memory::InMemory;

use super::*;
use crate::object::{Location, RemoteUri};

fn place() -> RemoteUri {
    match Location::parse("s3://bucket/data").unwrap() {
        Location::Remote(uri) => uri,
        Location::Local(path) => panic!("{}", path.display()),
    }
}

fn objects() -> Objects {
    Objects::over(Arc::new(InMemory::new()), &place())
}

/// More than one part.
fn large() -> Vec<u8> {
    (0..9_000_000u32).map(|at| (at % 251) as u8).collect()
}

fn put(objects: &Objects, key: &str, bytes: &[u8]) -> ObjectInfo {
    objects.put(key, Bytes::copy_from_slice(bytes)).unwrap();
    objects.look_at(key).unwrap()
}

fn count(folder: &Path, part: &str) -> usize {
    files_of(&folder.join(part)).count()
}

#[test]
fn an_object_is_fetched_once_and_kept_by_its_content() {
    let folder = tempfile::tempdir().unwrap();
    let cache = ObjectCache::new(folder.path().to_owned());
    let objects = objects();
    let (a, b, empty) = (put(&objects, "a", &large()), put(&objects, "b", &large()), put(&objects, "empty", b""));
    let first = cache.fetch(&objects, &a).unwrap();
    assert!(first.is_new && fs::read(&first.path).unwrap() == large());
    assert_eq!(first.hash, *blake3::hash(&large()).as_bytes());
    assert!(!cache.fetch(&objects, &a).unwrap().is_new);
    let same = cache.fetch(&objects, &b).unwrap();
    assert!(same.is_new && same.path == first.path);
    assert_eq!(fs::read(cache.fetch(&objects, &empty).unwrap().path).unwrap(), b"");
    assert_eq!((count(folder.path(), CONTENT), count(folder.path(), KNOWN), count(folder.path(), PARTIAL)), (2, 3, 0));
}

#[test]
fn what_changed_is_refused_and_another_version_is_another_copy() {
    let folder = tempfile::tempdir().unwrap();
    let cache = ObjectCache::new(folder.path().to_owned());
    let objects = objects();
    let before = put(&objects, "a", b"before");
    let now = put(&objects, "a", b"after!");
    let error = cache.fetch(&objects, &before).unwrap_err().to_string();
    assert!(error.contains("s3://bucket/data/a was changed"), "{error}");
    assert_eq!((count(folder.path(), CONTENT), count(folder.path(), PARTIAL)), (0, 0));
    assert_eq!(fs::read(cache.fetch(&objects, &now).unwrap().path).unwrap(), b"after!");
    // A store that does not name contents: the size is all there is, and nothing is found again.
    let unnamed = ObjectInfo { etag: None, ..now };
    assert!(cache.fetch(&objects, &unnamed).unwrap().is_new && cache.fetch(&objects, &unnamed).unwrap().is_new);
    let cut = ObjectInfo { bytes: 3, ..unnamed };
    assert!(cache.fetch(&objects, &cut).unwrap_err().to_string().contains("was changed"));
}

#[test]
fn a_damaged_copy_is_fetched_again() {
    let folder = tempfile::tempdir().unwrap();
    let cache = ObjectCache::new(folder.path().to_owned());
    let objects = objects();
    let info = put(&objects, "a", b"content");
    let path = cache.fetch(&objects, &info).unwrap().path;
    for damaged in [&b"contemt"[..], b"conte", b""] {
        fs::write(&path, damaged).unwrap();
        let again = cache.fetch(&objects, &info).unwrap();
        assert!(again.is_new && fs::read(&again.path).unwrap() == b"content");
    }
}

#[test]
fn the_oldest_make_room_but_not_what_is_held() {
    let folder = tempfile::tempdir().unwrap();
    let cache = ObjectCache::new(folder.path().to_owned()).with_room(250);
    let objects = objects();
    let [a, b, c] = [1u8, 2, 3].map(|byte| put(&objects, &format!("k{byte}"), &[byte; 100]));
    let old = cache.fetch(&objects, &a).unwrap();
    let age = |held: &CachedObject, seconds| {
        let then = SystemTime::now() - std::time::Duration::from_secs(seconds);
        File::open(&held.path).unwrap().set_modified(then).unwrap();
    };
    age(&old, 60);
    let next = cache.fetch(&objects, &b).unwrap();
    age(&next, 30);
    drop(next);
    drop(cache.fetch(&objects, &c).unwrap());
    assert_eq!(count(folder.path(), CONTENT), 2);
    assert!(!cache.fetch(&objects, &a).unwrap().is_new, "the oldest is held");
    assert!(cache.fetch(&objects, &b).unwrap().is_new, "the next one has made room");
    drop(old);
    // One that is larger than all the room is kept alone.
    let huge = put(&objects, "huge", &[9; 1_000]);
    drop(cache.fetch(&objects, &huge).unwrap());
    assert_eq!((count(folder.path(), CONTENT), count(folder.path(), KNOWN)), (1, 1));
}

#[test]
fn a_download_that_was_killed_is_taken_over_or_removed() {
    let folder = tempfile::tempdir().unwrap();
    let cache = ObjectCache::new(folder.path().to_owned());
    let objects = objects();
    let info = put(&objects, "a", b"content");
    drop(cache.fetch(&objects, &put(&objects, "b", b"other")).unwrap());
    let partial = folder.path().join(PARTIAL);
    for name in [objects.version(&info).unwrap(), "of-another-object".to_owned()] {
        fs::write(partial.join(&name), b"half of the con").unwrap();
        fs::write(partial.join(name).with_extension(LOCK), b"").unwrap();
    }
    assert_eq!(fs::read(cache.fetch(&objects, &info).unwrap().path).unwrap(), b"content");
    assert_eq!(count(folder.path(), PARTIAL), 0);
}

#[test]
fn many_at_once_fetch_it_once() {
    let folder = tempfile::tempdir().unwrap();
    let cache = ObjectCache::new(folder.path().to_owned());
    let objects = objects();
    let info = put(&objects, "a", &large());
    let fetch = || cache.fetch(&objects, &info).unwrap();
    let new = std::thread::scope(|scope| {
        let all: Vec<_> = (0..8).map(|_| scope.spawn(fetch)).collect();
        all.into_iter().map(|one| u32::from(one.join().unwrap().is_new)).sum::<u32>()
    });
    assert_eq!((new, count(folder.path(), CONTENT), count(folder.path(), PARTIAL)), (1, 1, 0));
}
