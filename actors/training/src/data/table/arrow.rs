//! Parquet and Arrow IPC: columns with declared types, read in runs of rows whatever a row group holds.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, PrimitiveArray, RecordBatch};
use arrow_ipc::reader::StreamReader;
use arrow_schema::{ArrowError, DataType, SchemaRef};
use foldhash::fast::RandomState;
use neap_scheduler::spec::DataFormat;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{CHUNK_ROWS, Chunk, Column, Fault, NO_WORD, Next, Request, Visit, number_word};

/// How an Arrow IPC file begins, padded to eight bytes; a stream does not.
const FILE_MAGIC: &[u8; 8] = b"ARROW1\0\0";

/// The magic, and zeros up to the widest alignment there is.
const FILE_HEAD_BYTES: u64 = 72;

/// What stands before the length of a message, but for streams of old.
const CONTINUATION: u32 = u32::MAX;

const FIX_FILE: &str = "check that the file is complete, and what its name says";

/// The names of the columns.
pub(super) fn header(file: File, format: DataFormat) -> Result<Vec<String>, Fault> {
    guarded(|| {
        let schema = match format {
            DataFormat::Parquet => parquet(file)?.schema().clone(),
            _ => batches_of_ipc(file, None)?.0,
        };
        Ok(schema.fields().iter().map(|field| field.name().clone()).collect())
    })
}

/// Goes through the rows.
pub(super) fn read(file: File, format: DataFormat, request: &Request, visit: &mut Visit<'_>) -> Result<(), Fault> {
    guarded(|| {
        let batches = match format {
            DataFormat::Parquet => batches_of_parquet(file, request)?,
            _ => {
                let (schema, _) = batches_of_ipc(file.try_clone().map_err(|error| unreadable(&error))?, None)?;
                let places = places(&schema, request)?;
                batches_of_ipc(file, Some(places))?.1
            }
        };
        for batch in batches {
            let batch = batch.map_err(|error| unreadable(&error))?;
            for start in (0..batch.num_rows()).step_by(CHUNK_ROWS) {
                let rows = CHUNK_ROWS.min(batch.num_rows() - start);
                if visit(chunk(&batch.slice(start, rows), request)?)? == Next::Stop {
                    return Ok(());
                }
            }
        }
        Ok(())
    })
}

/// The decoders check what they read, but not everything: what panics in them is a damaged file.
fn guarded<T>(read: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    let panicked = |_| Err(Fault::new("is damaged: its decoder gave up", FIX_FILE));
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(panicked)
}

type Batches = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>>>;

fn parquet(file: File) -> Result<ParquetRecordBatchReaderBuilder<File>, Fault> {
    ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| unreadable(&error))
}

fn batches_of_parquet(file: File, request: &Request) -> Result<Batches, Fault> {
    let builder = parquet(file)?;
    let places = places(builder.schema(), request)?;
    let columns = ProjectionMask::roots(builder.parquet_schema(), places);
    let reader = builder.with_projection(columns).with_batch_size(CHUNK_ROWS).build();
    Ok(Box::new(reader.map_err(|error| unreadable(&error))?))
}

/// Reads a stream of messages; a file is one too, between its magic and its footer.
fn batches_of_ipc(mut file: File, columns: Option<Vec<usize>>) -> Result<(SchemaRef, Batches), Fault> {
    let start = first_message(&file)?;
    check_lengths(&file, start)?;
    file.seek(SeekFrom::Start(start)).map_err(|error| unreadable(&error))?;
    let source = BufReader::with_capacity(1 << 16, file);
    let reader = StreamReader::try_new(source, columns).map_err(|error| unreadable(&error))?;
    Ok((reader.schema(), Box::new(reader)))
}

/// Where the messages begin: at once, or behind the magic of a file and the zeros that align what follows.
fn first_message(file: &File) -> Result<u64, Fault> {
    let mut head = Vec::new();
    let mut source = file;
    source
        .seek(SeekFrom::Start(0))
        .and_then(|_| source.take(FILE_HEAD_BYTES).read_to_end(&mut head))
        .map_err(|error| unreadable(&error))?;
    if !head.starts_with(FILE_MAGIC) {
        return Ok(0);
    }
    let words = head[FILE_MAGIC.len()..].chunks(8).take_while(|word| word.iter().all(|&byte| byte == 0));
    Ok((FILE_MAGIC.len() + 8 * words.count()) as u64)
}

/// The reader asks for as much memory as each message says it has: none may say more than the file holds.
fn check_lengths(file: &File, start: u64) -> Result<(), Fault> {
    let size = file.metadata().map_err(|error| unreadable(&error))?.len();
    let truncated = |at: u64| Fault::new(format!("the message at byte {at} is longer than the file"), FIX_FILE);
    let number = |at: u64| {
        let mut bytes = [0; 4];
        file.read_exact_at(&mut bytes, at).map(|()| u32::from_le_bytes(bytes)).map_err(|_| truncated(at))
    };
    let mut at = start;
    while at < size {
        let first = number(at)?;
        let (length, header) = if first == CONTINUATION { (number(at + 4)?, 8) } else { (first, 4) };
        if length == 0 {
            return Ok(());
        }
        let body = at + header + u64::from(length);
        if body > size {
            return Err(truncated(at));
        }
        let mut message = vec![0; length as usize];
        file.read_exact_at(&mut message, at + header).map_err(|error| unreadable(&error))?;
        let message = arrow_ipc::root_as_message(&message);
        let message = message.map_err(|_| Fault::new(format!("there is no message at byte {at}"), FIX_FILE))?;
        let next = u64::try_from(message.bodyLength()).ok().and_then(|length| body.checked_add(length));
        at = next.filter(|&next| next <= size).ok_or_else(|| truncated(at))?;
    }
    Ok(())
}

fn places(schema: &SchemaRef, request: &Request) -> Result<Vec<usize>, Fault> {
    let header: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let mut places = request.find_in(&header)?;
    places.sort_unstable();
    Ok(places)
}

fn chunk(batch: &RecordBatch, request: &Request) -> Result<Chunk, Fault> {
    let column = |(at, name): (usize, &String)| {
        let array = batch.column_by_name(name).expect("the columns asked for are those that are read");
        column(array, request.is_words(at)).map_err(|found| {
            let what = format!("column `{name}` holds {found}, which is neither numbers nor texts nor switches");
            Fault::new(what, "convert it, or leave it out with `ignore`")
        })
    };
    let columns = request.columns.iter().enumerate().map(column).collect::<Result<_, _>>()?;
    Ok(Chunk { columns, rows: batch.num_rows(), first_row: 0 })
}

/// The values of an array; the name of its type where it cannot be used.
fn column(array: &ArrayRef, as_words: bool) -> Result<Column, String> {
    let column = match array.data_type() {
        DataType::Null => Column::Missing,
        DataType::Boolean => {
            let switches = array.as_boolean();
            let number = |switch: Option<bool>| switch.map_or(f64::NAN, |switch| f64::from(u8::from(switch)));
            Column::Numbers { values: switches.iter().map(number).collect(), real: false }
        }
        DataType::Int8 => numbers::<Int8Type>(array, false, f64::from),
        DataType::Int16 => numbers::<Int16Type>(array, false, f64::from),
        DataType::Int32 => numbers::<Int32Type>(array, false, f64::from),
        DataType::Int64 => numbers::<Int64Type>(array, false, |value| value as f64),
        DataType::UInt8 => numbers::<UInt8Type>(array, false, f64::from),
        DataType::UInt16 => numbers::<UInt16Type>(array, false, f64::from),
        DataType::UInt32 => numbers::<UInt32Type>(array, false, f64::from),
        DataType::UInt64 => numbers::<UInt64Type>(array, false, |value| value as f64),
        DataType::Float16 => numbers::<Float16Type>(array, true, f64::from),
        DataType::Float32 => numbers::<Float32Type>(array, true, f64::from),
        DataType::Float64 => numbers::<Float64Type>(array, true, |value| value),
        DataType::Utf8 => words(array.as_string::<i32>().iter()),
        DataType::LargeUtf8 => words(array.as_string::<i64>().iter()),
        DataType::Utf8View => words(array.as_string_view().iter()),
        DataType::Dictionary(_, _) => dictionary(array)?,
        other => return Err(format!("the type {other}")),
    };
    Ok(match column {
        Column::Numbers { values, .. } if as_words => words_of_numbers(&values),
        column => column,
    })
}

fn numbers<T: ArrowPrimitiveType>(array: &ArrayRef, real: bool, number: impl Fn(T::Native) -> f64) -> Column {
    let array: &PrimitiveArray<T> = array.as_primitive();
    let mut values: Vec<f64> = array.values().iter().map(|&value| number(value)).collect();
    if let Some(nulls) = array.nulls().filter(|nulls| nulls.null_count() > 0) {
        values.iter_mut().zip(nulls.iter()).filter(|(_, there)| !there).for_each(|(value, _)| *value = f64::NAN);
    }
    Column::Numbers { values, real }
}

fn words<'a>(texts: impl Iterator<Item = Option<&'a str>>) -> Column {
    let (mut words, mut known) = (Vec::new(), HashMap::with_hasher(RandomState::default()));
    let mut code = |text: &'a str| {
        *known.entry(text).or_insert_with(|| {
            words.push(text.to_owned());
            words.len() as u32 - 1
        })
    };
    let codes = texts.map(|text| text.map_or(NO_WORD, &mut code)).collect();
    Column::Words { codes, words }
}

fn words_of_numbers(values: &[f64]) -> Column {
    let (mut words, mut known) = (Vec::new(), HashMap::with_hasher(RandomState::default()));
    let mut code = |value: f64| {
        *known.entry((value + 0.0).to_bits()).or_insert_with(|| {
            words.push(number_word(value));
            words.len() as u32 - 1
        })
    };
    let codes = values.iter().map(|&value| if value.is_nan() { NO_WORD } else { code(value) }).collect();
    Column::Words { codes, words }
}

/// Values that are stored once each, with a key a row.
fn dictionary(array: &ArrayRef) -> Result<Column, String> {
    let keyed = array.as_any_dictionary();
    if keyed.values().is_empty() {
        return Ok(Column::Missing);
    }
    let keys = keyed.normalized_keys();
    let there = |row: usize| keyed.keys().is_valid(row);
    let rows = keys.iter().enumerate();
    Ok(match column(keyed.values(), false)? {
        Column::Missing => Column::Missing,
        Column::Numbers { values, real } => {
            let value = |(row, &key): (usize, &usize)| if there(row) { values[key] } else { f64::NAN };
            Column::Numbers { values: rows.map(value).collect(), real }
        }
        Column::Words { codes, words } => {
            let code = |(row, &key): (usize, &usize)| if there(row) { codes[key] } else { NO_WORD };
            Column::Words { codes: rows.map(code).collect(), words }
        }
    })
}

fn unreadable(error: &dyn std::error::Error) -> Fault {
    Fault::new(format!("unreadable ({error})"), FIX_FILE)
}
