//! Data and weights in a real S3 server (moto): every format, as one object, a prefix and a pattern, gives the same samples as
//! from a disk; what changes or fails is named; another process may read the same at the same time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

#[path = "../../../storage/tests/common/moto.rs"]
#[allow(dead_code, reason = "shared with the tests of the storage, which use other parts")]
mod moto;

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::{ArrayRef, Float64Array, Int32Array, RecordBatch};
use moto::{BUCKET, Gate, Moto, SECRET, Weather};
use neap_scheduler::spec::{ColumnSpec, DataFormat, DataPart, DataSpec, Locality, OrderSpec};
use neap_storage::object::{Access, Location, Objects, Patience};
use neap_training::data::{DataError, Dataset, Storage, Stores, find_in_store, open};

const PATIENCE: Patience =
    Patience { request: Duration::from_millis(1_500), total: Duration::from_secs(3), retries_max: 2 };

fn access(addr: SocketAddr) -> Access {
    Access::with_variables(Moto::environment(addr)).patient(PATIENCE)
}

fn objects(addr: SocketAddr) -> Objects {
    let Location::Remote(uri) = Location::parse(&format!("s3://{BUCKET}")).unwrap() else { panic!("a place") };
    Objects::open(&uri, &access(addr)).unwrap()
}

fn storage(addr: SocketAddr, memory_max: u64, cache: Option<&Path>) -> Storage {
    Storage { memory_max, cache: cache.map(Path::to_owned), stores: Arc::new(Stores::new(access(addr))) }
}

fn spec(path: &str, format: DataFormat) -> DataSpec {
    DataSpec {
        path: path.to_owned(),
        format,
        part: if format == DataFormat::Idx { DataPart::Train } else { DataPart::All },
        label: None,
        target: None,
        columns: ColumnSpec::default(),
        order: OrderSpec { seed: Some(1), window: None, micro_shard: 4 },
        prefetch: 4,
        locality: Locality::Prefer,
    }
}

/// Rows of two numbers and a class.
fn rows(from: i32, count: i32) -> RecordBatch {
    let number = Float64Array::from_iter_values((from..from + count).map(|at| f64::from(at) / 3.0));
    let whole = Int32Array::from_iter_values((from..from + count).map(|at| at % 7 - 3));
    let class = Int32Array::from_iter_values((from..from + count).map(|at| at % 3));
    let columns: [(&str, ArrayRef); 3] =
        [("number", Arc::new(number)), ("whole", Arc::new(whole)), ("class", Arc::new(class))];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn csv(from: i32, count: i32) -> Vec<u8> {
    let row = |at: i32| format!("{},{},{}\n", f64::from(at) / 3.0, at % 7 - 3, at % 3);
    std::iter::once("number,whole,class\n".to_owned()).chain((from..from + count).map(row)).collect::<String>().into()
}

fn jsonl(from: i32, count: i32) -> Vec<u8> {
    let row = |at: i32| {
        format!("{{\"number\": {}, \"whole\": {}, \"class\": {}}}\n", f64::from(at) / 3.0, at % 7 - 3, at % 3)
    };
    (from..from + count).map(row).collect::<String>().into()
}

fn parquet(from: i32, count: i32, zstd: bool) -> Vec<u8> {
    let batch = rows(from, count);
    let compression = match zstd {
        true => parquet::basic::Compression::ZSTD(parquet::basic::ZstdLevel::default()),
        false => parquet::basic::Compression::SNAPPY,
    };
    let properties = parquet::file::properties::WriterProperties::builder().set_compression(compression).build();
    let mut bytes = Vec::new();
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

fn arrow(from: i32, count: i32) -> Vec<u8> {
    let batch = rows(from, count);
    let mut writer = arrow_ipc::writer::FileWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    writer.into_inner().unwrap()
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Images of two pixels, and their classes.
fn idx(count: u8) -> [Vec<u8>; 2] {
    let header = |numbers: &[u32]| numbers.iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<u8>>();
    let images = (0..count).flat_map(|at| [at, at.wrapping_mul(7)]);
    let labels = (0..count).map(|at| at % 3);
    let count = u32::from(count);
    [
        header(&[0x803, count, 1, 2]).into_iter().chain(images).collect(),
        header(&[0x801, count]).into_iter().chain(labels).collect(),
    ]
}

/// Files by their names below a folder, on a disk and in the store.
fn put(folder: &Path, store: &Objects, files: &[(&str, Vec<u8>)]) {
    for (name, bytes) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        store.put(name, bytes.clone().into()).unwrap();
    }
}

fn text(result: Result<Dataset, DataError>) -> String {
    result.unwrap_err().text()
}

#[test]
fn every_format_gives_the_samples_that_a_disk_gives() {
    let Some(moto) = Moto::start("every_format_gives_the_samples_that_a_disk_gives") else { return };
    let (folder, cache, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), objects(moto.addr));
    let [images, labels] = idx(20);
    put(
        folder.path(),
        &store,
        &[
            ("csv/a.csv", csv(0, 40)),
            ("csv/b.csv.gz", gzipped(&csv(40, 60))),
            ("csv/README.md", b"no data".to_vec()),
            ("csv/deeper/c.csv", csv(100, 9)),
            ("x/2013-1.jsonl", jsonl(0, 30)),
            ("x/2013-2.jsonl", jsonl(30, 30)),
            ("x/2014-1.jsonl", jsonl(60, 30)),
            ("parquet/a.parquet", parquet(0, 5_000, false)),
            ("parquet/z.parquet", parquet(5_000, 5_000, true)),
            ("one.arrow", arrow(0, 50)),
            ("idx/train-images-idx3-ubyte", images),
            ("idx/train-labels-idx1-ubyte.gz", gzipped(&labels)),
        ],
    );
    for (meant, format, samples) in [
        ("csv", DataFormat::Csv, 100),
        ("csv/a.csv", DataFormat::Csv, 40),
        ("csv/*/c.csv", DataFormat::Csv, 9),
        ("csv/?.csv*", DataFormat::Csv, 100),
        ("x/2013-*.jsonl", DataFormat::Jsonl, 60),
        ("parquet", DataFormat::Parquet, 10_000),
        ("one.arrow", DataFormat::Arrow, 50),
        ("idx", DataFormat::Idx, 20),
    ] {
        let local = spec(&folder.path().join(meant).display().to_string(), format);
        let local = open(&local, None, &Storage::default()).unwrap();
        let remote = spec(&format!("s3://{BUCKET}/{meant}"), format);
        find_in_store(&remote, &Stores::new(access(moto.addr))).unwrap();
        // In memory, and on disk as data that is larger than memory.
        for memory_max in [1 << 30, 64] {
            let storage = storage(moto.addr, memory_max, Some(cache.path()));
            let data = open(&remote, None, &storage).unwrap();
            assert_eq!((data.len(), data.digest()), (samples, local.digest()), "{meant} {memory_max}");
        }
    }
    // All was fetched once, and is on the node now.
    let again = storage(moto.addr, 1 << 30, Some(cache.path()));
    open(&spec(&format!("s3://{BUCKET}/parquet"), DataFormat::Parquet), None, &again).unwrap();
    assert_eq!(again.stores.fetched_bytes(), 0);
    let alone = storage(moto.addr, 1 << 30, None);
    open(&spec(&format!("s3://{BUCKET}/one.arrow"), DataFormat::Arrow), None, &alone).unwrap();
    assert_eq!(alone.stores.fetched_bytes(), arrow(0, 50).len() as u64);
}

#[test]
fn what_is_wrong_in_a_store_is_named() {
    let Some(moto) = Moto::start("what_is_wrong_in_a_store_is_named") else { return };
    let store = objects(moto.addr);
    store.put("bad/a.csv", "x,y\n1,2\n1,tea,3\n".into()).unwrap();
    store.put("idx/train-images-idx3-ubyte", "images".into()).unwrap();
    let storage = storage(moto.addr, 1 << 30, None);
    let read = |path: &str, format| text(open(&spec(&format!("s3://{BUCKET}/{path}"), format), None, &storage));
    for (path, format, wanted) in [
        ("bad/a.csv", DataFormat::Csv, vec!["bad/a.csv: line 3 has 3 columns"]),
        ("bad", DataFormat::Csv, vec!["bad/a.csv: line 3"]),
        ("bad", DataFormat::Parquet, vec![BUCKET, "holds no file that ends in .parquet"]),
        ("absent", DataFormat::Csv, vec!["failed to read", "there is no s3://", "absent"]),
        ("bad/*.jsonl", DataFormat::Jsonl, vec!["there is no s3://", "bad/*.jsonl"]),
        ("idx", DataFormat::Idx, vec!["no `train-labels-idx1-ubyte` beside it"]),
    ] {
        let found = read(path, format);
        assert!(wanted.iter().all(|part| found.contains(part)), "{path}: {found}");
    }
    let few = Stores::new(access(moto.addr)).with_most(3);
    let few = Storage { stores: Arc::new(few), ..Storage::default() };
    let found = text(open(&spec(&format!("s3://{BUCKET}/bad/a.csv"), DataFormat::Csv), None, &few));
    assert!(found.contains("at most 3 are fetched only to measure"), "{found}");
}

#[test]
fn a_store_that_fails_is_named_in_time_and_what_is_here_needs_it_no_more_than_to_be_looked_at() {
    let Some(moto) = Moto::start("a_store_that_fails_is_named_in_time") else { return };
    let gate = Gate::before(moto.addr);
    let cache = tempfile::tempdir().unwrap();
    // More than an answer that is cut lets through.
    objects(moto.addr).put("a.csv", csv(0, 60_000).into()).unwrap();
    let data = spec(&format!("s3://{BUCKET}/a.csv"), DataFormat::Csv);
    for weather in [Weather::Error, Weather::Silent, Weather::CutAnswer] {
        gate.turn(weather);
        let started = Instant::now();
        let error = open(&data, None, &storage(gate.addr, 1 << 30, Some(cache.path()))).unwrap_err();
        let found = error.text();
        assert!(error.is_local() && found.contains(&format!("s3://{BUCKET}/a.csv")), "{weather:?}: {found}");
        assert!(!found.contains(SECRET), "{found}");
        assert!(started.elapsed() < Duration::from_secs(30), "{weather:?}: {:?}", started.elapsed());
    }
    gate.turn(Weather::Fair);
    open(&data, None, &storage(gate.addr, 1 << 30, Some(cache.path()))).unwrap();
    // Only small answers come through, and no more is needed.
    gate.turn(Weather::CutAnswer);
    open(&data, None, &storage(gate.addr, 1 << 30, Some(cache.path()))).unwrap();
}

#[test]
fn a_flipped_byte_in_the_cache_is_noticed_and_a_new_version_is_other_data() {
    let Some(moto) = Moto::start("a_flipped_byte_in_the_cache_is_noticed") else { return };
    let (cache, store) = (tempfile::tempdir().unwrap(), objects(moto.addr));
    store.put("a.csv", csv(0, 50).into()).unwrap();
    let data = spec(&format!("s3://{BUCKET}/a.csv"), DataFormat::Csv);
    let read = || {
        let storage = storage(moto.addr, 1 << 30, Some(cache.path()));
        let digest = open(&data, None, &storage).unwrap().digest();
        (digest, storage.stores.fetched_bytes() > 0)
    };
    let first = read();
    assert_eq!(read(), (first.0, false));
    let copies: Vec<PathBuf> =
        fs::read_dir(cache.path().join("objects/content")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let mut bytes = fs::read(&copies[0]).unwrap();
    let last = bytes.len() - 4;
    bytes[last] ^= 1;
    fs::write(&copies[0], bytes).unwrap();
    assert_eq!(read(), first, "fetched again");
    store.put("a.csv", csv(1, 50).into()).unwrap();
    let other = read();
    assert!(other.1 && other.0 != first.0);
}
