//! Copies of objects of a real S3 server (moto): what is read is what is there, what changes or fails is named in time, and a
//! `kill -9` at any moment leaves whole copies only.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod common;

#[path = "common/moto.rs"]
mod moto;

use std::error::Error;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{Seeded, run_and_kill};
use moto::{BUCKET, Gate, Moto, SECRET, Weather};
use neap_storage::object::{Access, CacheError, Location, ObjectCache, ObjectError, Objects, Patience};

const FETCHER: &str = "NEAP_STORAGE_TEST_S3_FETCHER";

const CYCLES: u64 = 8;

/// So that a store that is away is given up soon.
const PATIENCE: Patience =
    Patience { request: Duration::from_millis(1_500), total: Duration::from_secs(3), retries_max: 2 };

/// Within this a store that fails is given up: the last request of the patience may begin just before its end, and four are
/// under way at once.
const GIVEN_UP_MAX: Duration = Duration::from_secs(20);

fn objects(addr: SocketAddr, patience: Patience) -> Objects {
    with(Access::with_variables(Moto::environment(addr)).patient(patience))
}

fn with(access: Access) -> Objects {
    let Location::Remote(uri) = Location::parse(&format!("s3://{BUCKET}/data")).unwrap() else { panic!("a place") };
    Objects::open(&uri, &access).unwrap()
}

/// Three parts, different for each number.
fn content(number: u64) -> Vec<u8> {
    let mut rng = Seeded(number);
    (0..1_200_000).flat_map(|_| rng.next().to_le_bytes()).take(9_000_000 + number as usize).collect()
}

fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// All copies have the content that their name says; how many there are.
fn whole_copies(folder: &Path) -> usize {
    let mut copies = 0;
    for entry in fs::read_dir(folder.join("content")).into_iter().flatten() {
        let path = entry.unwrap().path();
        let hash = blake3::hash(&fs::read(&path).unwrap()).to_hex().to_string();
        assert_eq!(path.file_name().unwrap().to_str().unwrap(), hash);
        copies += 1;
    }
    copies
}

#[test]
fn an_object_in_parts_comes_whole_and_one_that_changes_is_named() {
    let Some(moto) = Moto::start("an_object_in_parts_comes_whole_and_one_that_changes_is_named") else { return };
    let objects = objects(moto.addr, Patience::default());
    let folder = tempfile::tempdir().unwrap();
    let cache = ObjectCache::new(folder.path().to_owned());
    objects.put("deep/a file.csv", content(1).into()).unwrap();
    let listed = objects.list("").unwrap();
    assert_eq!(listed.iter().map(|info| info.key.as_str()).collect::<Vec<_>>(), ["deep/a file.csv"]);
    let first = cache.fetch(&objects, &listed[0]).unwrap();
    assert!(first.is_new && fs::read(&first.path).unwrap() == content(1));
    assert!(!cache.fetch(&objects, &listed[0]).unwrap().is_new);

    objects.put("deep/a file.csv", content(2).into()).unwrap();
    // What is known of the old one is still there; where it is not, the store is asked and refuses.
    assert!(!cache.fetch(&objects, &listed[0]).unwrap().is_new);
    let empty = tempfile::tempdir().unwrap();
    let error = ObjectCache::new(empty.path().to_owned()).fetch(&objects, &listed[0]).unwrap_err();
    assert!(matches!(error, CacheError::Store(ObjectError::Changed { .. })), "{error:?}");
    assert!(error.to_string().contains(&format!("s3://{BUCKET}/data/deep/a file.csv")), "{error}");
    let now = objects.look_at("deep/a file.csv").unwrap();
    assert!(fs::read(cache.fetch(&objects, &now).unwrap().path).unwrap() == content(2));
}

#[test]
fn a_store_that_fails_is_silent_or_cuts_is_named_in_time_and_leaves_nothing_half() {
    let Some(moto) = Moto::start("a_store_that_fails_is_silent_or_cuts_is_named_in_time_and_leaves_nothing_half")
    else {
        return;
    };
    let gate = Gate::before(moto.addr);
    objects(gate.addr, PATIENCE).put("a", content(1).into()).unwrap();
    let info = objects(gate.addr, PATIENCE).look_at("a").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let cache = ObjectCache::new(folder.path().to_owned());
    for weather in [Weather::Error, Weather::Silent, Weather::CutAnswer] {
        gate.turn(weather);
        let started = Instant::now();
        // A client of its own: connections that are open stay as they are.
        let error = cache.fetch(&objects(gate.addr, PATIENCE), &info).unwrap_err();
        let text = chain(&error);
        assert!(text.contains(&format!("failed to read s3://{BUCKET}/data/a")), "{weather:?}: {text}");
        assert!(!text.contains(SECRET), "{text}");
        assert!(started.elapsed() < GIVEN_UP_MAX, "{weather:?}: {:?}", started.elapsed());
        assert_eq!(whole_copies(folder.path()), 0, "{weather:?}");
    }
    gate.turn(Weather::Fair);
    assert!(fs::read(cache.fetch(&objects(gate.addr, PATIENCE), &info).unwrap().path).unwrap() == content(1));
}

#[test]
fn credentials_that_are_missing_or_wrong_are_named() {
    let Some(moto) = Moto::start("credentials_that_are_missing_or_wrong_are_named") else { return };
    let fair: Vec<(String, String)> = Moto::environment(moto.addr).into();
    // Also where a machine in a cloud would be asked for some, and does not answer.
    let mut none: Vec<_> = fair.iter().filter(|(name, _)| !name.contains("KEY")).cloned().collect();
    none.push(("AWS_METADATA_ENDPOINT".to_owned(), "http://127.0.0.1:1".to_owned()));
    let error = with(Access::with_variables(none).patient(PATIENCE)).look_at("a").unwrap_err();
    assert!(matches!(error, ObjectError::NoCredentials { .. }), "{}", chain(&error));
    assert!(error.to_string().contains("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"), "{error}");
    let nobody = Access::with_variables(Moto::environment(SocketAddr::from(([127, 0, 0, 1], 1)))).patient(PATIENCE);
    let error = with(nobody).list("").unwrap_err();
    assert!(matches!(error, ObjectError::Failed { .. }) && error.to_string().contains(BUCKET), "{}", chain(&error));
}

/// Not a test by itself: the child of the next one. The variable holds the server's address and the cache's folder.
#[test]
fn fetcher() {
    let Ok(place) = std::env::var(FETCHER) else { return };
    let (addr, folder) = place.split_once(' ').unwrap();
    let objects = objects(addr.parse().unwrap(), Patience::default());
    // Room for two: copies come and go all the time.
    let cache = ObjectCache::new(folder.into()).with_room(20_000_000);
    for step in 1.. {
        common::begin(step);
        let info = objects.look_at(&(step % 4).to_string()).unwrap();
        drop(cache.fetch(&objects, &info).unwrap());
        common::acknowledge(step);
    }
}

#[test]
fn a_killed_fetcher_leaves_only_whole_copies() {
    let Some(moto) = Moto::start("a_killed_fetcher_leaves_only_whole_copies") else { return };
    let objects = objects(moto.addr, Patience::default());
    (0..4).for_each(|number| objects.put(&number.to_string(), content(number).into()).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let place = format!("{} {}", moto.addr, folder.path().display());
    for seed in 0..CYCLES {
        run_and_kill("fetcher", FETCHER, place.as_ref(), seed, Duration::from_millis(400));
        whole_copies(folder.path());
    }
    let cache = ObjectCache::new(folder.path().to_owned()).with_room(20_000_000);
    for number in 0..4 {
        let info = objects.look_at(&number.to_string()).unwrap();
        assert!(fs::read(cache.fetch(&objects, &info).unwrap().path).unwrap() == content(number));
    }
    let left = fs::read_dir(folder.path().join("partial")).unwrap().count();
    assert_eq!((left, whole_copies(folder.path())), (0, 2), "unfinished downloads are gone, and what has no room");
}
