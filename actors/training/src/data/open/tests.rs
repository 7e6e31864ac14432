//! Whole data sets from files: every format, what columns become, cuts, the cache, and what is wrong with a file.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, DictionaryArray, Float32Array, Float64Array, Int32Array, Int64Array,
    RecordBatch, StringArray, UInt8Array,
};
use neap_scheduler::spec::{ColumnSpec, HashSide, HashSplit, Locality, OrderSpec, TargetKind};
use proptest::prelude::*;

use super::super::{ColumnKind, Rows, Targets, synthetic};
use super::*;

/// Everything in memory.
static MEMORY: LazyLock<Storage> = LazyLock::new(|| Storage { memory_max: 1 << 30, ..Storage::default() });

const ORDER: OrderSpec = OrderSpec { seed: Some(1), window: None, micro_shard: 4 };

fn spec(path: &Path, format: DataFormat, part: DataPart) -> DataSpec {
    DataSpec {
        path: path.display().to_string(),
        format,
        part,
        label: None,
        target: None,
        columns: ColumnSpec::default(),
        order: ORDER,
        prefetch: 4,
        locality: Locality::Prefer,
    }
}

fn fault(result: Result<Dataset, DataError>) -> String {
    result.unwrap_err().to_string()
}

/// A folder with one file, and the spec of it.
struct Table {
    folder: tempfile::TempDir,
    spec: DataSpec,
}

impl Table {
    fn csv(text: &str) -> Self {
        Self::with("table.csv", DataFormat::Csv, text.as_bytes())
    }

    fn jsonl(text: &str) -> Self {
        Self::with("table.jsonl", DataFormat::Jsonl, text.as_bytes())
    }

    fn with(name: &str, format: DataFormat, bytes: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(name), bytes).unwrap();
        let spec = spec(&folder.path().join(name), format, DataPart::All);
        Self { folder, spec }
    }

    fn labelled(mut self, label: &str) -> Self {
        self.spec.label = Some(label.to_owned());
        self
    }

    fn open(&self) -> Result<Dataset, DataError> {
        open(&self.spec, None, &MEMORY)
    }

    fn fault(&self) -> String {
        fault(self.open())
    }
}

fn floats(data: &Dataset) -> Vec<f32> {
    let Rows::Floats(floats) = data.rows() else { panic!("{:?}", data.rows()) };
    floats.clone()
}

fn features(data: &Dataset, of: &Dataset) -> Vec<f32> {
    let mut out = Vec::new();
    data.gather(&(0..data.len() as u32).collect::<Vec<_>>(), of.input(), &mut out).unwrap();
    out
}

fn names(data: &Dataset) -> Vec<String> {
    data.target_info().class_names().to_vec()
}

// ---- folders of images

#[test]
fn a_folder_is_read_plain_and_gzipped() {
    let folder = tempfile::tempdir().unwrap();
    synthetic::write_idx(folder.path(), "train", 20, false);
    synthetic::write_idx(folder.path(), "t10k", 10, true);
    let part = |part| open(&spec(folder.path(), DataFormat::Idx, part), None, &MEMORY);
    assert_eq!(part(DataPart::Train).unwrap().len(), 20);
    assert_eq!(part(DataPart::Test).unwrap().len(), 10);
    assert!(fault(part(DataPart::All)).contains("several data sets: t10k, train; say which"));
}

#[test]
fn rows_are_cut_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    synthetic::write_idx(folder.path(), "train", 20, false);
    let rows = |from, to| open(&spec(folder.path(), DataFormat::Idx, DataPart::Rows { from, to }), None, &MEMORY);
    assert_eq!(rows(5, 12).unwrap().len(), 7);
    assert!(fault(rows(5, 21)).contains("rows 5..21 are not all there: it has 20"));
    assert!(fault(rows(5, 5)).contains("holds no sample"));
    assert!(fault(rows(7, 5)).contains("rows 7..5"));
}

#[test]
fn missing_and_damaged_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing =
        open(&spec(&folder.path().join("nothing"), DataFormat::Csv, DataPart::All), None, &MEMORY).unwrap_err();
    assert!(missing.is_local() && missing.to_string().contains("nothing"));
    let train = || open(&spec(folder.path(), DataFormat::Idx, DataPart::Train), None, &MEMORY);
    assert!(fault(train()).contains("holds no file"));
    synthetic::write_idx(folder.path(), "train", 20, true);
    let images = folder.path().join("train-images-idx3-ubyte.gz");
    let whole = fs::read(&images).unwrap();
    fs::write(&images, &whole[..whole.len() / 2]).unwrap();
    let text = fault(train());
    assert!(text.contains("train-images-idx3-ubyte.gz: unreadable within 20 images"), "{text}");
}

#[test]
fn a_small_gzipped_file_cannot_claim_much_memory() {
    use std::io::Write;
    let folder = tempfile::tempdir().unwrap();
    synthetic::write_idx(folder.path(), "train", 2, false);
    fs::remove_file(folder.path().join("train-images-idx3-ubyte")).unwrap();
    let mut header = Vec::new();
    [0x803u32, 0x7fff_ffff, 28, 28].iter().for_each(|number| header.extend(number.to_be_bytes()));
    let file = File::create(folder.path().join("train-images-idx3-ubyte.gz")).unwrap();
    let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::best());
    encoder.write_all(&header).unwrap();
    encoder.finish().unwrap();
    let text = fault(open(&spec(folder.path(), DataFormat::Idx, DataPart::Train), None, &MEMORY));
    assert!(text.contains("more than the file can hold"), "{text}");
}

// ---- what the columns of a table become

#[test]
fn a_table_of_pixels_with_the_class_last() {
    let data = Table::csv("p9,p10,class\n0,255,1\n3,4,0\n").open().unwrap();
    let Rows::Bytes(bytes) = data.rows() else { panic!("{:?}", data.rows()) };
    assert_eq!(bytes, &[0, 255, 3, 4]);
    assert_eq!((data.targets(), names(&data)), (&Targets::Classes(vec![1, 0]), vec!["0".to_owned(), "1".to_owned()]));
    assert_eq!(data.input().mean(), [65.5]);
}

#[test]
fn small_whole_numbers_that_are_no_pixels_have_a_mean_of_their_own_each() {
    for header in ["hour,distance", "p1,p3", "p2,p1", "p1,q2", "1,p2", "p,p1"] {
        let data = Table::csv(&format!("{header},class\n0,255,1\n2,5,0\n")).open().unwrap();
        assert_eq!(data.input().mean(), [1.0, 130.0], "{header}");
        assert_eq!(features(&data, &data), [-1.0, 1.0, 1.0, -1.0], "{header}");
    }
}

#[test]
fn text_classes_are_numbered_in_sorted_order_and_the_label_can_be_any_column() {
    let data = Table::csv("kind,x\nrose,1.5\nlily,-2\nrose,3\n").labelled("kind").open().unwrap();
    assert_eq!(floats(&data), [1.5, -2.0, 3.0]);
    assert_eq!(names(&data), ["lily", "rose"]);
    assert_eq!(data.targets(), &Targets::Classes(vec![1, 0, 1]));
}

#[test]
fn numbers_as_classes_keep_their_order() {
    let data = Table::csv("x,y\n1,10\n1,2\n1,1\n").open().unwrap();
    assert_eq!(names(&data), ["1", "2", "10"]);
}

#[test]
fn numbers_with_a_fraction_are_values_and_the_job_file_may_say_otherwise() {
    let table = |target| {
        let mut table = Table::csv("x,y\n1,0.5\n2,2\n3,-1\n");
        table.spec.target = target;
        table.open().unwrap()
    };
    assert_eq!(table(None).targets(), &Targets::Values(vec![0.5, 2.0, -1.0]));
    assert_eq!(names(&table(Some(TargetKind::Class))), ["-1", "0.5", "2"]);
    let mut whole = Table::csv("x,y\n1,3\n2,4\n");
    assert_eq!(whole.open().unwrap().targets(), &Targets::Classes(vec![0, 1]));
    whole.spec.target = Some(TargetKind::Value);
    assert_eq!(whole.open().unwrap().targets(), &Targets::Values(vec![3.0, 4.0]));
}

#[test]
fn numbers_texts_and_nothing_become_features() {
    let table = Table::csv("dep,origin,air,y\n1,JFK,100,a\n3,EWR,NA,b\n5,,300,a\n").labelled("y");
    let data = table.open().unwrap();
    let number = |mean, deviation: f32, indicator| ColumnKind::Number { mean, scale: 1.0 / deviation, indicator };
    let kinds: Vec<&ColumnKind> = data.input().columns().iter().map(|column| &column.kind).collect();
    let origins = ColumnKind::Category(["", "EWR", "JFK"].map(str::to_owned).to_vec());
    assert_eq!(kinds[1..], [&origins, &number(200.0, 100.0, true)]);
    assert_eq!((data.stored_width(), data.shape().len()), (3, 1 + 4 + 2));
    let rows = features(&data, &data);
    let rows: Vec<&[f32]> = rows.chunks(7).collect();
    assert_eq!(rows[0][1..], [0.0, 0.0, 1.0, 0.0, -1.0, 0.0]);
    assert_eq!(rows[1][1..], [0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
    assert_eq!(rows[2][1..], [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
    assert!((rows[0][0] + 1.224_744_9).abs() < 1e-6 && rows[1][0] == 0.0);
}

#[test]
fn evaluation_data_gets_the_columns_and_classes_of_the_training_data() {
    let training = Table::csv("a,origin,n,y\n1.5,JFK,7,x\n2.5,EWR,8,z\n").labelled("y");
    let data = training.open().unwrap();
    // Other columns, another order of them, an origin that is new, and a number that is missing.
    let eval = Table::csv("y,n,extra,origin,a\nz,8,q,LGA,2.5\nx,,q,JFK,1.5\n");
    let eval = open(&eval.spec, Some(&data), &MEMORY).unwrap();
    assert_eq!(eval.targets(), &Targets::Classes(vec![1, 0]));
    assert_eq!(eval.shape(), data.shape());
    assert_eq!(features(&eval, &data), [1.0, 0.0, 0.0, 1.0, 1.0, -1.0, 0.0, 1.0, 0.0, 0.0]);
    let strange = Table::csv("a,origin,n,y\n1.5,JFK,7,w\n");
    let text = fault(open(&strange.spec, Some(&data), &MEMORY));
    assert!(text.contains("row 0, column `y`: its class `w` does not occur in the training data"), "{text}");
    let typed = Table::csv("a,origin,n,y\nq,JFK,7,x\n");
    let text = fault(open(&typed.spec, Some(&data), &MEMORY));
    assert!(text.contains("column `a` holds texts, the training data numbers"), "{text}");
    let without = Table::csv("a,n,y\n1,7,x\n");
    assert!(fault(open(&without.spec, Some(&data), &MEMORY)).contains("no column `origin`"));
}

#[test]
fn columns_are_chosen_by_name() {
    let mut table = Table::csv("id,month,x,y\n900,1,0.5,a\n901,12,1.5,b\n");
    table.spec.columns = ColumnSpec { ignore: vec!["id".into()], categories: vec!["month".into()], only: Vec::new() };
    let data = table.open().unwrap();
    let names: Vec<&str> = data.input().columns().iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["month", "x"]);
    assert_eq!(data.input().columns()[0].kind, ColumnKind::Category(vec!["1".into(), "12".into()]));
    table.spec.columns = ColumnSpec { only: vec!["x".into()], ..ColumnSpec::default() };
    assert_eq!(floats(&table.open().unwrap()), [0.5, 1.5]);
    table.spec.columns = ColumnSpec { ignore: vec!["idd".into()], ..ColumnSpec::default() };
    assert!(table.fault().contains("no column `idd`; the header starts with id, month, x, y"));
    table.spec.columns = ColumnSpec { only: vec!["y".into()], ..ColumnSpec::default() };
    assert!(table.fault().contains("no column is left as a feature"));
}

#[test]
fn each_fault_of_a_table_names_its_place() {
    let says = |text: &str, part: &str| {
        let found = Table::csv(text).fault();
        assert!(found.contains("table.csv: ") && found.contains(part), "{found}");
    };
    says("a,b,c\n1,2,0\n1,x,0\n", "line 3, column `b`: `x` is not a finite number");
    says("a,b,c\n1,inf,0\n", "line 2, column `b`: `inf` is not a finite number");
    says("a,b,c\n1,1e39,0\n", "line 2, column `b`: `1e39` is not a finite number");
    says("a,b,c\n1,2,0\n1,2\n", "line 3 has 2 columns, the header 3");
    says("", "the header has 0 column(s)");
    says("a,a\n1,2\n", "the column `a` is there twice");
    says("a,b\n1,2\n3,\n", "row 1, column `b`: there is no label");
    says("a,b\n,2\n,3\n", "column `a` holds nothing in any row");
    says("a,b\n", "holds no sample");
    let found = Table::csv("a,b\n1,2\n").labelled("kind").fault();
    assert!(found.contains("no column `kind`; the header starts with a, b"), "{found}");
    let many: String = (0..4_097).map(|row| format!("w{row},{}\n", row % 2)).collect();
    says(&format!("a,b\n{many}"), "column `a` has more than 4096 different texts");
    let many: String = (0..65_537).map(|row| format!("1,w{row}\n")).collect();
    says(&format!("a,b\n{many}"), "more than 65536 different classes in column `b`");
}

#[test]
fn lines_of_json_are_rows() {
    let table = Table::jsonl(
        "{\"a\": 1, \"late\": false, \"origin\": \"JFK\", \"y\": 0.5}\n\n{\"a\": null, \"late\": true, \"y\": 2}\n",
    );
    let data = table.open().unwrap();
    let rows = floats(&data);
    assert_eq!((&rows[..3], &rows[4..]), (&[1.0, 0.0, 1.0][..], &[1.0, 0.0][..]));
    assert!(rows[3].is_nan());
    assert_eq!(data.targets(), &Targets::Values(vec![0.5, 2.0]));
    let says = |text: &str, part: &str| {
        let found = Table::jsonl(text).fault();
        assert!(found.contains("table.jsonl: ") && found.contains(part), "{found}");
    };
    says("{\"a\": 1, \"y\": 2}\n{\"a\": [1], \"y\": 2}\n", "line 2, column `a`: a list is neither");
    says("{\"a\": 1, \"y\": 2}\n{\"a\": \"x\", \"y\": 2}\n", "line 2, column `a`: `x` is not a finite number");
    says("{\"a\": \"x\", \"y\": 2}\n{\"a\": 1, \"y\": 2}\n", "line 2, column `a`: `1` is a number, the rows before");
    says("{\"a\": 1, \"y\": 2}\n{\"b\": 1, \"y\": 2}\n", "line 2 has the key `b`, the first line has not");
    says("{\"a\": 1, \"y\": 2}\n{\"a\": 1, \"y\"\n", "line 2 is no JSON object");
    says("{\"a\": 1}\n", "line 1 has 1 key(s)");
    says("", "holds no line");
}

// ---- Parquet and Arrow

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

fn parquet_bytes(batch: &RecordBatch) -> Vec<u8> {
    use parquet::arrow::ArrowWriter;
    use parquet::basic::Compression;
    use parquet::file::properties::WriterProperties;
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_max_row_group_row_count(Some(1_000))
        .build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    bytes
}

fn ipc_bytes(batch: &RecordBatch, stream: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    if stream {
        let mut writer = arrow_ipc::writer::StreamWriter::try_new(&mut bytes, &batch.schema()).unwrap();
        writer.write(batch).unwrap();
        writer.finish().unwrap();
    } else {
        let mut writer = arrow_ipc::writer::FileWriter::try_new(&mut bytes, &batch.schema()).unwrap();
        writer.write(batch).unwrap();
        writer.finish().unwrap();
    }
    bytes
}

/// The same rows as [`FLIGHTS_CSV`], in typed columns.
fn flights() -> RecordBatch {
    let carriers = StringArray::from(vec![Some("UA"), None, Some("AA"), Some("UA")]);
    let origins: DictionaryArray<arrow_array::types::Int8Type> = vec!["JFK", "EWR", "JFK", "EWR"].into_iter().collect();
    batch(vec![
        ("hour", Arc::new(Int32Array::from(vec![5, 6, 7, 300]))),
        ("late", Arc::new(BooleanArray::from(vec![true, false, true, false]))),
        ("distance", Arc::new(Float64Array::from(vec![Some(0.5), Some(1.5), None, Some(f64::NAN)]))),
        ("carrier", Arc::new(carriers)),
        ("origin", Arc::new(origins)),
        ("delay", Arc::new(Float32Array::from(vec![1.0, 2.5, -3.0, 4.0]))),
    ])
}

const FLIGHTS_CSV: &str = "\
hour,late,distance,carrier,origin,delay
5,1,0.5,UA,JFK,1
6,0,1.5,,EWR,2.5
7,1,,AA,JFK,-3
300,0,NaN,UA,EWR,4
";

#[test]
fn every_format_of_a_table_gives_the_same_samples() {
    let csv = Table::csv(FLIGHTS_CSV).open().unwrap();
    assert_eq!(csv.targets(), &Targets::Values(vec![1.0, 2.5, -3.0, 4.0]));
    for (name, format, bytes) in [
        ("flights.parquet", DataFormat::Parquet, parquet_bytes(&flights())),
        ("flights.arrow", DataFormat::Arrow, ipc_bytes(&flights(), false)),
        ("flights.ipc", DataFormat::Arrow, ipc_bytes(&flights(), true)),
    ] {
        let typed = Table::with(name, format, &bytes).open().unwrap();
        assert_eq!(typed.input(), csv.input(), "{name}");
        assert_eq!(typed.digest(), csv.digest(), "{name}");
    }
}

#[test]
fn a_column_of_the_wrong_type_is_named_with_what_was_found() {
    let days = batch(vec![
        ("day", Arc::new(Date32Array::from(vec![1, 2]))),
        ("x", Arc::new(Int64Array::from(vec![1, 2]))),
        ("y", Arc::new(UInt8Array::from(vec![0, 1]))),
    ]);
    let mut table = Table::with("days.parquet", DataFormat::Parquet, &parquet_bytes(&days));
    let text = table.fault();
    assert!(text.contains("days.parquet: column `day` holds the type Date32, which is neither"), "{text}");
    // What is ignored is not read, so its type does not matter.
    table.spec.columns.ignore.push("day".to_owned());
    let data = table.open().unwrap();
    assert_eq!((data.targets(), names(&data)), (&Targets::Classes(vec![0, 1]), vec!["0".to_owned(), "1".to_owned()]));
    table.spec.label = Some("day".to_owned());
    assert!(table.fault().contains("column `day` holds the type Date32"));
}

#[test]
fn several_files_are_one_table_in_the_order_of_their_names() {
    let table = Table::csv("x,y\n0.5,a\n");
    fs::write(table.folder.path().join("b.csv"), "y,x\nb,1.5\n").unwrap();
    let mut whole = spec(table.folder.path(), DataFormat::Csv, DataPart::All);
    whole.label = Some("y".to_owned());
    assert_eq!(floats(&open(&whole, None, &MEMORY).unwrap()), [1.5, 0.5]);
    whole.part = DataPart::Rows { from: 1, to: 2 };
    assert_eq!(floats(&open(&whole, None, &MEMORY).unwrap()), [0.5]);
    fs::write(table.folder.path().join("c.csv"), "y,x\nb,late\n").unwrap();
    whole.part = DataPart::All;
    let text = fault(open(&whole, None, &MEMORY));
    assert!(text.contains("c.csv: column `x` holds texts, the files before hold numbers"), "{text}");
}

#[test]
fn a_message_that_claims_more_than_the_file_holds_costs_no_memory() {
    let mut bytes = ipc_bytes(&flights(), true);
    bytes[4..8].copy_from_slice(&0x7fff_0000u32.to_le_bytes());
    let text = Table::with("flights.arrow", DataFormat::Arrow, &bytes).fault();
    assert!(text.contains("flights.arrow: the message at byte 0 is longer than the file"), "{text}");
    let cut = &ipc_bytes(&flights(), false)[..600];
    let text = Table::with("flights.arrow", DataFormat::Arrow, cut).fault();
    assert!(text.contains("flights.arrow: "), "{text}");
}

#[test]
fn damaged_parquet_is_an_error_and_never_a_panic() {
    let good = parquet_bytes(&flights());
    let table = Table::with("flights.parquet", DataFormat::Parquet, &good);
    let path = Path::new(&table.spec.path);
    for at in (0..good.len()).step_by(23) {
        let mut bad = good.clone();
        bad[at] ^= 0x55;
        fs::write(path, &bad).unwrap();
        let _ = table.open();
        fs::write(path, &good[..at]).unwrap();
        let text = table.fault();
        assert!(text.contains("flights.parquet"), "{text}");
    }
}

// ---- cuts by hash

fn hash_part(share_ppm: u32, by: Option<&str>, side: HashSide) -> DataPart {
    DataPart::Hash(HashSplit { share_ppm, by: by.map(str::to_owned), side })
}

/// The values of the only feature column, `x`, of one side.
fn side(table: &Table, by: Option<&str>, side: HashSide) -> Vec<f32> {
    let mut spec = table.spec.clone();
    spec.part = hash_part(300_000, by, side);
    spec.columns.only = vec!["x".to_owned()];
    floats(&open(&spec, None, &MEMORY).unwrap())
}

#[test]
fn a_cut_by_hash_parts_the_rows_the_same_way_in_every_format_and_order() {
    let rows: Vec<u32> = (0..500).collect();
    let line = |row: &u32| format!("{row}.5,{},t{}\n", row % 29, row % 3);
    let table = Table::csv(&format!("x,group,y\n{}", rows.iter().map(line).collect::<String>()));
    let (rest, share) = (side(&table, None, HashSide::Rest), side(&table, None, HashSide::Share));
    assert!((100..200).contains(&share.len()), "{}", share.len());
    let mut all: Vec<f32> = rest.iter().chain(&share).copied().collect();
    all.sort_unstable_by(f32::total_cmp);
    assert_eq!(all, rows.iter().map(|&row| row as f32 + 0.5).collect::<Vec<_>>());
    // Other order of rows and columns, another format: the same rows.
    let typed = batch(vec![
        ("y", Arc::new(rows.iter().rev().map(|row| Some(format!("t{}", row % 3))).collect::<StringArray>())),
        ("x", Arc::new(rows.iter().rev().map(|&row| f64::from(row) + 0.5).collect::<Float64Array>())),
        ("group", Arc::new(rows.iter().rev().map(|&row| (row % 29) as i32).collect::<Int32Array>())),
    ]);
    let mut other = Table::with("rows.parquet", DataFormat::Parquet, &parquet_bytes(&typed));
    other.spec.label = Some("y".to_owned());
    let mut same = side(&other, None, HashSide::Share);
    same.reverse();
    assert_eq!(same, share);
    // By a column: what has the same value stays together.
    let groups = |rows: Vec<f32>| rows.into_iter().map(|x| x as u32 % 29).collect::<std::collections::BTreeSet<_>>();
    let (rest, share) = (side(&table, Some("group"), HashSide::Rest), side(&table, Some("group"), HashSide::Share));
    assert!(groups(rest).is_disjoint(&groups(share)));
}

#[test]
fn images_are_cut_by_hash_too() {
    let folder = tempfile::tempdir().unwrap();
    synthetic::write_idx(folder.path(), "train", 300, false);
    let side = |side| {
        let data = open(&spec(folder.path(), DataFormat::Idx, hash_part(200_000, None, side)), None, &MEMORY).unwrap();
        data.len()
    };
    let (rest, share) = (side(HashSide::Rest), side(HashSide::Share));
    assert!(rest + share == 300 && (30..100).contains(&share), "{rest} {share}");
}

// ---- data that does not fit into memory

fn large_table() -> Table {
    let line = |row: u32| format!("{}.25,{},w{}\n", row, row % 300, row % 5);
    Table::csv(&format!("x,n,y\n{}", (0..3_000).map(line).collect::<String>()))
}

fn small_storage(cache: Option<&Path>) -> Storage {
    Storage { memory_max: 4_096, cache: cache.map(Path::to_owned), ..Storage::default() }
}

fn cached_files(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn data_beyond_the_memory_limit_lies_in_the_cache_and_is_the_same() {
    let table = large_table();
    let cache = table.folder.path().join("cache");
    let whole = table.open().unwrap();
    let ids: Vec<u32> = (0..3_000).map(|at| (at * 7) % 3_000).collect();
    let expected = |data: &Dataset| {
        let mut out = Vec::new();
        data.gather(&ids, whole.input(), &mut out).unwrap();
        out
    };
    for storage in [small_storage(Some(&cache)), small_storage(None)] {
        let mut stored = open(&table.spec, None, &storage).unwrap();
        assert!(matches!(stored.rows(), Rows::Stored(_)));
        assert_eq!(
            (stored.digest(), stored.targets(), stored.input()),
            (whole.digest(), whole.targets(), whole.input())
        );
        assert_eq!(expected(&stored), expected(&whole));
        stored.prepare_for(OrderSpec { seed: Some(1), window: Some(128), micro_shard: 16 }, 4_096);
        assert_eq!(expected(&stored), expected(&whole));
    }
    let files = cached_files(&cache);
    assert_eq!(files.len(), 1);
    // The second time it is taken from there, and a damaged file is made again.
    let good = fs::read(&files[0]).unwrap();
    let made = fs::metadata(&files[0]).unwrap();
    let again = open(&table.spec, None, &small_storage(Some(&cache))).unwrap();
    assert_eq!((again.digest(), expected(&again)), (whole.digest(), expected(&whole)));
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs::metadata(&files[0]).unwrap().ino(), made.ino());
    for at in [9, good.len() / 2, good.len() - 45, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&files[0], &bad).unwrap();
        let again = open(&table.spec, None, &small_storage(Some(&cache))).unwrap();
        assert_eq!(expected(&again), expected(&whole), "{at}");
        assert!(fs::read(&files[0]).unwrap() == good);
    }
    fs::write(&files[0], &good[..20]).unwrap();
    assert_eq!(open(&table.spec, None, &small_storage(Some(&cache))).unwrap().len(), 3_000);
}

#[test]
fn the_cache_knows_content_and_meaning_apart() {
    let mut table = large_table();
    let cache = table.folder.path().join("cache");
    let storage = small_storage(Some(&cache));
    open(&table.spec, None, &storage).unwrap();
    table.spec.columns.categories.push("n".to_owned());
    open(&table.spec, None, &storage).unwrap();
    let moved = table.folder.path().join("moved.csv");
    fs::rename(&table.spec.path, &moved).unwrap();
    table.spec.path = moved.display().to_string();
    open(&table.spec, None, &storage).unwrap();
    assert_eq!(cached_files(&cache).len(), 2);
    let text = fs::read_to_string(&moved).unwrap();
    fs::write(&moved, text.replacen("0.25", "0.75", 1)).unwrap();
    open(&table.spec, None, &storage).unwrap();
    assert_eq!(cached_files(&cache).len(), 3);
}

#[test]
fn images_beyond_the_memory_limit_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    synthetic::write_idx(folder.path(), "train", 300, true);
    let spec = spec(folder.path(), DataFormat::Idx, DataPart::Rows { from: 10, to: 290 });
    let cache = folder.path().join("cache");
    let (whole, stored) =
        (open(&spec, None, &MEMORY).unwrap(), open(&spec, None, &small_storage(Some(&cache))).unwrap());
    assert!(matches!(stored.rows(), Rows::Stored(_)) && !stored.rows().is_wide());
    assert_eq!((whole.digest(), features(&whole, &whole)), (stored.digest(), features(&stored, &whole)));
}

#[test]
fn a_disk_without_room_is_a_fault_of_this_node_alone() {
    let table = large_table();
    let blocked = table.folder.path().join("file");
    fs::write(&blocked, "").unwrap();
    let error = open(&table.spec, None, &small_storage(Some(&blocked.join("cache")))).unwrap_err();
    assert!(error.is_local() && error.to_string().contains("file/cache"), "{error}");
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Table::with("a.csv", DataFormat::Csv, &bytes).open();
        let _ = Table::with("a.jsonl", DataFormat::Jsonl, &bytes).open();
        let _ = Table::with("a.parquet", DataFormat::Parquet, &bytes).open();
        let _ = Table::with("a.arrow", DataFormat::Arrow, &bytes).open();
    }

    #[test]
    fn arbitrary_tables_never_panic(text in "[a-c0-9,.\"\n\r-]{0,200}") {
        let _ = Table::csv(&text).labelled("a").open();
        let _ = Table::csv(&text).open();
    }

    #[test]
    fn arbitrary_lines_of_json_never_panic(text in "(\\{\"a\": ?(1|\"x\"|null|\\[\\]|true), ?\"b\": ?[0-9.e]{1,4}\\}\n){0,9}") {
        let _ = Table::jsonl(&text).open();
    }
}
