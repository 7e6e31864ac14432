//! Crashes, fences, damage and failing stores, at every point where they can come.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};

use super::super::{CheckpointStore, Place};
use super::*;
use crate::object::Location;

/// How a request fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// This one is refused, later ones are not.
    Refused,
    /// This one is done, but the answer is lost.
    AnswerLost,
    /// The store is gone from this one on.
    Gone,
}

/// A store in memory whose request number `at` fails.
#[derive(Debug)]
struct Faulty {
    inner: InMemory,
    left: AtomicI64,
    fault: Fault,
}

impl Faulty {
    fn new(fault: Fault) -> Arc<Self> {
        Arc::new(Self { inner: InMemory::new(), left: AtomicI64::new(i64::MAX), fault })
    }

    fn fail_at(&self, request: i64) {
        self.left.store(request, Ordering::SeqCst);
    }

    fn heal(&self) {
        self.fail_at(i64::MAX);
    }

    /// Counts a request; the first of the results is for before it is done, the second for after.
    fn turn(&self) -> (Result<()>, Result<()>) {
        let left = self.left.fetch_sub(1, Ordering::SeqCst);
        let error = || object_store::Error::Generic { store: "S3", source: "503 Service Unavailable".into() };
        match self.fault {
            Fault::Refused if left == 0 => (Err(error()), Ok(())),
            Fault::Gone if left <= 0 => (Err(error()), Ok(())),
            Fault::AnswerLost if left == 0 => (Ok(()), Err(error())),
            _ => (Ok(()), Ok(())),
        }
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait::async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let (before, after) = self.turn();
        before?;
        let put = self.inner.put_opts(location, payload, options).await?;
        after.map(|()| put)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let (before, after) = self.turn();
        before.and(after)?;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        match self.turn() {
            (Ok(()), Ok(())) => self.inner.delete_stream(locations),
            (before, after) => futures_util::stream::iter([before.and(after).map(|()| Path::default())]).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.turn() {
            (Ok(()), Ok(())) => self.inner.list(prefix),
            (before, after) => {
                let error = before.and(after).err();
                futures_util::stream::iter(error.map(Err)).boxed()
            }
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

fn over(store: Arc<dyn ObjectStore>) -> (ObjectCheckpoints, CheckpointStore) {
    let Ok(Location::Remote(uri)) = Location::parse("s3://bucket/job") else { panic!("that is a place") };
    let checkpoints = ObjectCheckpoints::new(Objects::over(store, &uri));
    (checkpoints.clone(), CheckpointStore(Place::Objects(checkpoints)))
}

fn meta(membership: u64, step: u64) -> Meta {
    let membership = MembershipEpoch(membership);
    Meta { membership, step, epoch: 1, cursor: 2, extra: serde_json::json!({ "rng": [1, 2] }) }
}

fn two_chunks() -> Vec<u8> {
    vec![7; OBJECT_CHUNK_BYTES + 1]
}

#[test]
fn what_is_published_comes_back_in_order() {
    let (_, store) = over(Arc::new(InMemory::new()));
    assert_eq!(store.load_latest().unwrap(), None);
    let parts: [(&str, &[u8]); 3] = [("w", &two_chunks()), ("m", b"momentum"), ("empty", b"")];
    let published = store.publish(&meta(2, 7), &parts).unwrap();
    let loaded = store.load(&published.name).unwrap();
    assert_eq!((&loaded.digest, &loaded.meta), (&published.digest, &meta(2, 7)));
    assert!(parts.iter().all(|(name, bytes)| loaded.parts[*name] == *bytes));
    assert_eq!(store.publish(&meta(2, 7), &parts).unwrap(), published, "the same again is the same");
    store.publish(&meta(2, 9), &[("w", b"9")]).unwrap();
    store.publish(&meta(3, 8), &[("w", b"8")]).unwrap();
    let steps: Vec<u64> = store.list().unwrap().iter().map(|listed| listed.step).collect();
    assert_eq!(steps, [7, 9, 8]);
    assert!(matches!(store.load("checkpoint-e000001-s000000000001-00"), Err(CheckpointError::NotFound { .. })));
}

#[test]
fn a_crash_after_any_step_leaves_no_partial_checkpoint() {
    let parts: [(&str, &[u8]); 2] = [("w", &two_chunks()), ("m", b"momentum")];
    let steps =
        [Step::Fenced, Step::ChunkWritten, Step::ChunkWritten, Step::ChunkWritten, Step::ManifestWritten, Step::Shown];
    for (crash_after, step) in steps.into_iter().enumerate() {
        let (checkpoints, store) = over(Arc::new(InMemory::new()));
        let before = store.publish(&meta(1, 1), &[("w", b"before")]).unwrap();
        let mut seen = 0;
        let crashed = catch_unwind(AssertUnwindSafe(|| {
            checkpoints.publish_watched(&meta(1, 2), &parts, &mut |now| {
                if seen == crash_after {
                    panic_any(now);
                }
                seen += 1;
            })
        }));
        assert_eq!(crashed.unwrap_err().downcast_ref(), Some(&step));
        let latest = store.load_latest().unwrap().unwrap();
        match step {
            Step::Shown => assert_eq!(latest.parts["w"], two_chunks()),
            _ => assert_eq!((latest.name, store.list().unwrap().len()), (before.name, 1), "{step:?}"),
        }
        // The next membership finds its way and cleans up.
        store.publish(&meta(2, 2), &parts).unwrap();
        assert_eq!(store.load_latest().unwrap().unwrap().meta, meta(2, 2));
        let folders: Vec<Name> = checkpoints.folders().unwrap().into_iter().collect();
        assert_eq!(folders, checkpoints.list().unwrap(), "{step:?}");
    }
}

#[test]
fn a_fence_stops_a_publish_that_is_under_way() {
    for at in [Step::Fenced, Step::ChunkWritten, Step::ManifestWritten] {
        let (checkpoints, store) = over(Arc::new(InMemory::new()));
        let result = checkpoints.publish_watched(&meta(3, 9), &[("w", b"late")], &mut |now| {
            if now == at {
                store.fence(MembershipEpoch(4)).unwrap();
            }
        });
        let fenced = matches!(result, Err(CheckpointError::Fenced { fence: MembershipEpoch(4), .. }));
        assert!(fenced, "{at:?}: {result:?}");
        assert!(store.list().unwrap().is_empty() && checkpoints.folders().unwrap().is_empty(), "{at:?}");
        assert!(matches!(store.publish(&meta(3, 9), &[("w", b"late")]), Err(CheckpointError::Fenced { .. })));
        store.publish(&meta(4, 9), &[("w", b"in time")]).unwrap();
    }
}

#[test]
fn damage_of_any_object_falls_back_to_the_one_before() {
    let memory: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let (checkpoints, store) = over(memory);
    let parts: [(&str, &[u8]); 2] = [("w", &[3; 9_000]), ("m", &[4; 5_000])];
    let before = store.publish(&meta(1, 1), &parts).unwrap();
    let published = store.publish(&meta(1, 2), &parts).unwrap();
    let objects = &checkpoints.objects;
    for info in objects.list(&published.name).unwrap() {
        let whole = objects.get(&info.key, u64::MAX).unwrap();
        let mut flipped = whole.to_vec();
        flipped[whole.len() / 2] ^= 1;
        let longer = [&whole[..], b"x"].concat();
        for damaged in [flipped, whole[..whole.len() - 1].to_vec(), Vec::new(), longer] {
            objects.put(&info.key, damaged.into()).unwrap();
            assert!(matches!(store.load(&published.name), Err(CheckpointError::Damaged { .. })), "{}", info.key);
            assert_eq!(store.load_latest().unwrap().unwrap().name, before.name, "{}", info.key);
        }
        objects.delete_all(std::slice::from_ref(&info.key)).unwrap();
        let error = store.load(&published.name).unwrap_err();
        assert!(error.to_string().contains("is missing"), "{error}");
        // Publishing the same again repairs it.
        assert_eq!(store.publish(&meta(1, 2), &parts).unwrap(), published);
        assert_eq!(store.load_latest().unwrap().unwrap().name, published.name);
    }
}

#[test]
fn a_store_that_fails_at_any_request_loses_nothing() {
    for fault in [Fault::Refused, Fault::AnswerLost, Fault::Gone] {
        for request in 0.. {
            let faulty = Faulty::new(fault);
            let (checkpoints, store) = over(faulty.clone());
            store.publish(&meta(1, 1), &[("w", b"1")]).unwrap();
            faulty.fail_at(request);
            let result = store.publish(&meta(2, 2), &[("w", b"22"), ("m", b"22")]);
            let reached = faulty.left.load(Ordering::SeqCst) < 0;
            faulty.heal();
            let latest = store.load_latest().unwrap().unwrap();
            match &result {
                Ok(published) => assert_eq!(latest.name, published.name, "{fault:?} of request {request}"),
                Err(error) => {
                    assert!(error.is_retryable(), "{fault:?} of request {request}: {error:?}");
                    let text = error.to_string();
                    assert!(text.contains("s3://bucket/job"), "{text}");
                    assert!([1, 2].contains(&latest.meta.step), "{fault:?} of request {request}");
                }
            }
            // The next try succeeds, and nothing is left of the one that failed.
            store.publish(&meta(2, 3), &[("w", b"333")]).unwrap();
            store.keep(2).unwrap();
            assert_eq!(store.load_latest().unwrap().unwrap().meta.step, 3);
            let folders: Vec<Name> = checkpoints.folders().unwrap().into_iter().collect();
            assert_eq!(folders, checkpoints.list().unwrap(), "{fault:?} of request {request}");
            if !reached {
                assert!(request > 8 && result.is_ok(), "{fault:?}: {request} requests");
                break;
            }
        }
    }
}

#[test]
fn a_store_that_is_away_is_not_taken_for_an_older_state() {
    let faulty = Faulty::new(Fault::Gone);
    let (_, store) = over(faulty.clone());
    store.publish(&meta(1, 1), &[("w", b"1")]).unwrap();
    store.publish(&meta(1, 2), &[("w", b"2")]).unwrap();
    // The log can be read, then the store goes.
    for request in 0..6 {
        faulty.fail_at(request);
        let loaded = store.load_latest();
        assert!(matches!(loaded, Err(CheckpointError::Store { .. })), "{request}: {loaded:?}");
    }
    faulty.heal();
    assert_eq!(store.load_latest().unwrap().unwrap().meta.step, 2);
}

#[test]
fn old_ones_are_deleted_with_their_chunks_but_never_all_but_one() {
    let (checkpoints, store) = over(Arc::new(InMemory::new()));
    for step in 1..=5 {
        store.publish(&meta(1, step), &[("w", b"w")]).unwrap();
    }
    assert_eq!(store.keep(3).unwrap().len(), 2);
    let steps = || store.list().unwrap().iter().map(|listed| listed.step).collect::<Vec<_>>();
    assert_eq!(steps(), [3, 4, 5]);
    store.keep(0).unwrap();
    assert_eq!(steps(), [4, 5]);
    assert_eq!(checkpoints.objects.list("").unwrap().iter().filter(|info| info.key.contains("/w.")).count(), 2);
}
