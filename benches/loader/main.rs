//! Question: how fast do samples come from files to the model, and does decoding ever hold a training up?
//!
//! Back of the envelope. IDX: a 28×28 image is 784 bytes, read once, looked up byte by byte and written as 3,136 bytes of
//! floats; at 2 GB/s of writing on one core that is 640,000 samples a second. Bound: ≥ 500,000 samples a second per core.
//! Parquet: decoding numbers moves each value through a decoder, a column of f64 and a row of f32; at 1 GB/s for the three
//! together and two passes (one learns means and categories, one encodes) a quarter of that is left. Bound: ≥ 200 MB a
//! second per core, both passes included. What a MB is of, is said with each figure: the file's bytes, its columns' bytes
//! before compression, and the f32 that are stored of it. Disk: rows of a micro-shard are read in one piece, so what comes
//! from the page cache costs one more copy.
//!
//! ```text
//! cargo bench --profile dev --bench loader [-- ROUNDS [ONLY]]
//! ```
//!
//! CPU seconds are those of the whole process, so one core's rate is what is shown whatever ran beside. One JSON object a
//! measurement, then a table of medians. Everything is made up from fixed seeds in a temporary folder.

#[path = "../training/usage.rs"]
mod usage;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float32Array, Float64Array, Int32Array, RecordBatch, StringArray};
use neap_scheduler::elastic::SampleOrder;
use neap_scheduler::spec::{ColumnSpec, DataFormat, DataPart, DataSpec, Locality, OrderSpec};
use neap_training::data::{Dataset, Storage, open};
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

/// Samples of the images, and how often they are gone through.
const IMAGES: u32 = 60_000;
const PASSES: u32 = 10;

/// Rows of the tables.
const ROWS: u32 = 1_000_000;

/// Samples a batch.
const BATCH: u32 = 128;

/// Rounds unless the command line says otherwise.
const ROUNDS: usize = 5;

/// One measurement: how much was done, counted in one unit or several, in how many CPU seconds.
struct Measurement {
    amounts: Vec<(&'static str, f64)>,
    cpu_seconds: f64,
}

/// The bytes of a Parquet file.
#[derive(Clone, Copy)]
struct TableBytes {
    file: f64,
    /// Of its columns, encoded and before compression.
    columns: f64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let rounds = arguments.first().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS);
    let only = arguments.get(1).cloned().unwrap_or_default();
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_images(folder.path());
    let bytes = write_table(folder.path());
    let images = spec(folder.path(), DataFormat::Idx);
    let table = spec(&folder.path().join("table.parquet"), DataFormat::Parquet);
    let whole = OrderSpec { seed: Some(1), window: None, micro_shard: 256 };
    let windows = OrderSpec { window: Some(16_384), ..whole };
    let memory = Storage { memory_max: 1 << 30, ..Storage::default() };
    let disk = Storage { memory_max: 32 << 20, ..Storage::default() };
    type Run<'a> = Box<dyn Fn() -> Measurement + 'a>;
    let runs: [(&str, Run<'_>); 4] = [
        ("idx, in memory", Box::new(|| batches(&images, &memory, whole))),
        ("idx, on disk, one by one", Box::new(|| batches(&images, &disk, whole))),
        ("idx, on disk, in windows", Box::new(|| batches(&images, &disk, windows))),
        ("parquet, fit and encode", Box::new(|| decode(&table, &memory, bytes))),
    ];
    let mut rates: BTreeMap<&str, Vec<Measurement>> = BTreeMap::new();
    for round in 0..rounds {
        for (what, run) in runs.iter().filter(|(what, _)| what.contains(&only)) {
            let measurement = run();
            report(what, round, &measurement);
            rates.entry(what).or_default().push(measurement);
        }
    }
    println!("\n{:<28}{:>14}", "", "per CPU second");
    for (what, measurements) in &rates {
        for (at, (unit, _)) in measurements[0].amounts.iter().enumerate() {
            let mut values: Vec<f64> = measurements.iter().map(|m| m.amounts[at].1 / m.cpu_seconds).collect();
            values.sort_by(f64::total_cmp);
            println!("{what:<28}{:>14.0} {unit}", values[values.len() / 2]);
        }
    }
}

fn report(what: &str, round: usize, measurement: &Measurement) {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    for (unit, amount) in &measurement.amounts {
        let line = serde_json::json!({
            "bench": "loader",
            "what": what,
            "round": round,
            "unit": unit,
            "amount": amount,
            "cpu_seconds": measurement.cpu_seconds,
            "per_cpu_second": amount / measurement.cpu_seconds,
            "load": load.split_whitespace().next(),
        });
        println!("{line}");
    }
}

fn cpu() -> f64 {
    usage::cpu_seconds(std::process::id())
}

fn spec(path: &Path, format: DataFormat) -> DataSpec {
    DataSpec {
        path: path.display().to_string(),
        format,
        part: DataPart::All,
        label: None,
        target: None,
        columns: ColumnSpec::default(),
        order: OrderSpec { seed: Some(1), window: None, micro_shard: 256 },
        prefetch: 4,
        locality: Locality::Prefer,
    }
}

/// All samples in the order of each epoch, as the model sees them. Reading the files is not in it.
fn batches(spec: &DataSpec, storage: &Storage, order: OrderSpec) -> Measurement {
    let mut data = open(spec, None, storage).expect("what was written");
    data.prepare_for(order, storage.memory_max);
    let mut features = Vec::new();
    let started = cpu();
    for epoch in 0..PASSES {
        let order = SampleOrder::new(IMAGES, order, epoch, BATCH, 1);
        for step in 0..order.steps() {
            features.clear();
            gather(&data, order.ids(order.step(step)), &mut features);
            std::hint::black_box(&features);
        }
    }
    Measurement { amounts: vec![("samples", f64::from(IMAGES * PASSES))], cpu_seconds: cpu() - started }
}

fn gather(data: &Dataset, ids: &[u32], features: &mut Vec<f32>) {
    data.gather(ids, data.input(), features).expect("what was written");
}

/// A table from its file to rows.
fn decode(spec: &DataSpec, storage: &Storage, bytes: TableBytes) -> Measurement {
    let started = cpu();
    let data = open(spec, None, storage).expect("what was written");
    let cpu_seconds = cpu() - started;
    assert_eq!(data.len(), ROWS as usize);
    let stored = data.len() as f64 * (data.stored_width() + 1) as f64 * 4.0;
    let amounts = vec![
        ("MB of the file", bytes.file / 1e6),
        ("MB of columns before compression", bytes.columns / 1e6),
        ("MB of f32 that are stored", stored / 1e6),
    ];
    Measurement { amounts, cpu_seconds }
}

/// A generator for made-up data.
fn numbers(seed: u64) -> impl FnMut() -> u32 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as u32
    }
}

fn write_images(folder: &Path) {
    let mut number = numbers(1);
    let mut write = |name: &str, header: &[u32], bytes: usize, modulo: u32| {
        let mut file: Vec<u8> = header.iter().flat_map(|number| number.to_be_bytes()).collect();
        file.extend((0..bytes).map(|_| (number() % modulo) as u8));
        std::fs::write(folder.join(name), file).expect("a writable folder");
    };
    write("train-images-idx3-ubyte", &[0x803, IMAGES, 28, 28], IMAGES as usize * 784, 256);
    write("train-labels-idx1-ubyte", &[0x801, IMAGES], IMAGES as usize, 10);
}

/// Writes a table of sixteen numbers, two texts and a value, with the compression that most writers choose.
fn write_table(folder: &Path) -> TableBytes {
    let mut number = numbers(2);
    let mut columns: Vec<(String, ArrayRef)> = Vec::new();
    for at in 0..8 {
        let values = Float64Array::from_iter_values((0..ROWS).map(|_| f64::from(number()) / 1e6));
        columns.push((format!("real{at}"), Arc::new(values)));
        let values = Int32Array::from_iter_values((0..ROWS).map(|_| (number() >> 8) as i32));
        columns.push((format!("whole{at}"), Arc::new(values)));
    }
    for at in 0..2 {
        let values = StringArray::from_iter_values((0..ROWS).map(|_| format!("category-{}", number() % 40)));
        columns.push((format!("text{at}"), Arc::new(values)));
    }
    let values = Float32Array::from_iter_values((0..ROWS).map(|_| number() as f32 / 1e9));
    columns.push(("value".to_owned(), Arc::new(values)));
    let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
    let file = std::fs::File::create(folder.join("table.parquet")).expect("a writable folder");
    let size = file.try_clone().expect("an open file");
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), Some(properties)).expect("a new file");
    writer.write(&batch).expect("a writable folder");
    let written = writer.close().expect("a writable folder");
    let columns = written.row_groups().iter().map(|group| group.total_byte_size() as f64).sum();
    TableBytes { file: size.metadata().expect("an open file").len() as f64, columns }
}
