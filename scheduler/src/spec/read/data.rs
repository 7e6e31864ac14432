//! The data sets, and paths.

use std::collections::BTreeMap;

use super::super::code::Code;
use super::super::context::ParseContext;
use super::super::fault::{Faults, Reported, shortened};
use super::super::field::{Block, Field, Missing};
use super::super::job::{
    ColumnSpec, DataFormat, DataPart, DataSpec, HashSide, HashSplit, Locality, OrderSpec, TargetKind,
};
use super::super::layout;
use super::super::quantity;
use crate::model::{REMOTE_SCHEMES, RemoteObjects};

const DATA_HELP: &str = "name the training data: `data: {train: {uri: path/to/data}}`";

/// How many columns a list may name.
const COLUMNS_MAX: usize = 4_096;

/// Samples in a row that move together when a window is drawn from.
const MICRO_SHARD: u32 = 256;
const MICRO_SHARD_MAX: u32 = 65_536;

/// Steps prepared ahead.
const PREFETCH: u32 = 4;
const PREFETCH_MAX: u32 = 64;

/// What a data set is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Train,
    Eval,
}

/// `data`: `train` must be there, `eval` may.
pub(super) fn data_sets(
    job: &Block<'_>,
    context: &ParseContext,
    faults: &mut Faults,
) -> Result<BTreeMap<String, DataSpec>, Reported> {
    let missing = || Missing { code: Code::DataMissing, help: DATA_HELP };
    job.required(faults, "data", missing(), |field, faults| {
        let block = field.block(faults, &layout::DATA)?;
        let train =
            block.required(faults, "train", missing(), |field, faults| data_set(field, Use::Train, context, faults));
        let eval = block.optional(faults, "eval", |field, faults| data_set(field, Use::Eval, context, faults));
        let (train, eval) = (train?, eval?);
        if let (Some(eval), Some(field)) = (&eval, block.get("eval").and_then(|eval| eval.get("split"))) {
            complementary(&train, eval, &field, faults)?;
        }
        let eval = eval.map(|eval| ("eval".to_owned(), eval));
        Ok([("train".to_owned(), train)].into_iter().chain(eval).collect())
    })
}

/// Two sides of one cut have to be of the same cut: otherwise some rows are in both, and others in none.
fn complementary(train: &DataSpec, eval: &DataSpec, field: &Field<'_>, faults: &mut Faults) -> Result<(), Reported> {
    let (DataPart::Hash(rest), DataPart::Hash(share)) = (&train.part, &eval.part) else { return Ok(()) };
    if train.path != eval.path || (rest.share_ppm, &rest.by) == (share.share_ppm, &share.by) {
        return Ok(());
    }
    let message = "`data.train` cuts the same files in another way";
    Err(field.fault(faults, Code::BadValue, message, "write the same `split` in both; `train` gets the other rows"))
}

fn data_set(
    field: &Field<'_>,
    purpose: Use,
    context: &ParseContext,
    faults: &mut Faults,
) -> Result<DataSpec, Reported> {
    let block = field.block(faults, &layout::DATA_SET)?;
    let missing = Missing { code: Code::DataMissing, help: "say where the data is: `uri: path/to/data`" };
    let path = block.required(faults, "uri", missing, |field, faults| {
        Ok((path_or_objects(field, context, faults)?, field.clone()))
    });
    let format = match (block.get("format"), &path) {
        (Some(field), _) => format(&field, faults),
        (None, Ok((path, uri))) => format_by_suffix(path, uri, faults),
        (None, Err(reported)) => Err(*reported),
    };
    let known = format.as_ref().ok().copied();
    let part = block.optional(faults, "split", |field, faults| split(field, known, purpose, faults));
    let label = block.optional(faults, "label", |field, faults| label(field, known, faults));
    let target = block.optional(faults, "target", |field, faults| {
        training_table_only(field, known, purpose, faults)?;
        field.choice(faults, Code::BadValue, &[("class", TargetKind::Class), ("value", TargetKind::Value)], &[])
    });
    let columns = columns(&block, known, purpose, faults);
    let order = order(&block, purpose, faults);
    let prefetch = block.optional(faults, "prefetch", |field, faults| field.whole_u32(faults, 1..=PREFETCH_MAX));
    let locality =
        block.optional(faults, "locality", |field, faults| field.choice(faults, Code::BadValue, &LOCALITIES, &[]));
    Ok(DataSpec {
        path: path?.0,
        format: format?,
        part: part?.unwrap_or(DataPart::All),
        label: label?,
        target: target?,
        columns: columns?,
        order: order?,
        prefetch: prefetch?.unwrap_or(PREFETCH),
        locality: locality?.unwrap_or_default(),
    })
}

/// An absolute path, or pattern, or objects of a store.
fn path_or_objects(field: &Field<'_>, context: &ParseContext, faults: &mut Faults) -> Result<String, Reported> {
    let text = field.text(faults)?;
    if !is_remote(text) {
        return path(field, Code::BadValue, context, faults);
    }
    match RemoteObjects::parse(text) {
        Ok(objects) => Ok(objects.to_string()),
        Err(error) => {
            let help = "write `s3://bucket/a/key`, a prefix, or `s3://bucket/2013-*.csv`; credentials come from the \
                        environment";
            Err(field.fault(faults, Code::BadValue, error.to_string(), help))
        }
    }
}

/// Whether a text names something in an object store.
pub(super) fn is_remote(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| REMOTE_SCHEMES.contains(&scheme))
}

/// The absolute path of one local file or folder.
pub(super) fn local_path(
    field: &Field<'_>,
    code: Code,
    context: &ParseContext,
    faults: &mut Faults,
) -> Result<String, Reported> {
    let path = path(field, code, context, faults)?;
    if path.contains(['*', '?']) {
        let message = format!("{} is a pattern", field.found());
        return Err(field.fault(faults, code, message, "name one file or folder"));
    }
    Ok(path)
}

/// An absolute path, or pattern, from a path or a `file://` uri, taken as it is written (without decoding `%20`). Pure:
/// nothing is looked at.
fn path(field: &Field<'_>, code: Code, context: &ParseContext, faults: &mut Faults) -> Result<String, Reported> {
    let text = field.text(faults)?;
    let help = "write a path, or `file:///an/absolute/path`";
    let path = match text.split_once("://") {
        None => text,
        Some(("file", path)) if path.starts_with('/') => path,
        Some(("file", _)) => {
            let message = format!("{} has no absolute path behind `file://`", field.found());
            return Err(field.fault(faults, code, message, help));
        }
        Some((scheme, _)) => {
            let message = format!("`{}://` is not built yet", shortened(scheme));
            return Err(field.fault(faults, Code::NotBuiltYet, message, help));
        }
    };
    if path.is_empty() || path.contains('\0') {
        return Err(field.fault(faults, code, format!("{} is not a path", field.found()), help));
    }
    Ok(joined(&context.base_dir, path))
}

/// `path` from `base` on, without empty and `.` parts. A `..` stays: what it means depends on links, which are not
/// looked at here.
fn joined(base: &str, path: &str) -> String {
    let base = if path.starts_with('/') { "" } else { base };
    let parts = base.split('/').chain(path.split('/')).filter(|part| !matches!(*part, "" | "."));
    let joined = parts.fold(String::new(), |path, part| path + "/" + part);
    if joined.is_empty() { "/".to_owned() } else { joined }
}

const LOCALITIES: [(&str, Locality); 3] =
    [("prefer", Locality::Prefer), ("require", Locality::Require), ("ignore", Locality::Ignore)];

const FORMATS: [(&str, DataFormat); 5] = [
    ("idx", DataFormat::Idx),
    ("csv", DataFormat::Csv),
    ("jsonl", DataFormat::Jsonl),
    ("parquet", DataFormat::Parquet),
    ("arrow", DataFormat::Arrow),
];

/// Which format a file's name tells; a name without any suffix is taken for a folder of IDX files.
const SUFFIXES: [(&str, DataFormat); 9] = [
    (".csv", DataFormat::Csv),
    (".jsonl", DataFormat::Jsonl),
    (".ndjson", DataFormat::Jsonl),
    (".parquet", DataFormat::Parquet),
    (".arrow", DataFormat::Arrow),
    (".feather", DataFormat::Arrow),
    (".ipc", DataFormat::Arrow),
    (".idx", DataFormat::Idx),
    ("-ubyte", DataFormat::Idx),
];

fn format(field: &Field<'_>, faults: &mut Faults) -> Result<DataFormat, Reported> {
    field.choice(faults, Code::BadValue, &FORMATS, &[])
}

fn format_by_suffix(path: &str, uri: &Field<'_>, faults: &mut Faults) -> Result<DataFormat, Reported> {
    let file = path.rsplit('/').next().unwrap_or_default();
    let file = file.strip_suffix(".gz").unwrap_or(file);
    match SUFFIXES.iter().find(|(suffix, _)| file.ends_with(suffix)) {
        Some((_, format)) => Ok(*format),
        None if !file.contains(['.', '*']) => Ok(DataFormat::Idx),
        None => {
            let message = format!("the name of {} does not tell its format", uri.found());
            let words = FORMATS.map(|(word, _)| format!("`format: {word}`"));
            Err(uri.fault(faults, Code::BadValue, message, format!("say one of {}", words.join(", "))))
        }
    }
}

const SPLIT_HELP: &str = "write `{rows: 0..1500}` or `{hash: 0.1}`";

fn split(
    field: &Field<'_>,
    format: Option<DataFormat>,
    purpose: Use,
    faults: &mut Faults,
) -> Result<DataPart, Reported> {
    if field.is_map() {
        let block = field.block(faults, &layout::SPLIT)?;
        return match (block.get("rows"), block.get("hash"), block.refused.first()) {
            (Some(rows), None, _) => match block.get("by") {
                None => row_range(&rows, faults),
                Some(by) => Err(by.fault(faults, Code::BadValue, "a cut by rows needs no column", "leave `by` out")),
            },
            (None, Some(hash), _) => {
                let share_ppm = share(&hash, faults);
                let by = block.optional(faults, "by", |field, faults| label(field, format, faults));
                let side = if purpose == Use::Eval { HashSide::Share } else { HashSide::Rest };
                Ok(DataPart::Hash(HashSplit { share_ppm: share_ppm?, by: by?, side }))
            }
            (None, None, Some(other)) => Err(other.reported),
            _ => Err(field.fault(faults, Code::Missing, "a cut is either by `rows` or by `hash`", SPLIT_HELP)),
        };
    }
    let part = field.choice(faults, Code::BadValue, &[("train", NamedPart::Train), ("test", NamedPart::Test)], &[])?;
    if format.is_some_and(DataFormat::is_table) {
        let message = format!("{} names a part of a folder of IDX files; a table has none", field.found());
        let help = "cut a table by rows or by hash: `split: {rows: 0..1500}`, `split: {hash: 0.1}`";
        return Err(field.fault(faults, Code::BadValue, message, help));
    }
    Ok(match part {
        NamedPart::Train => DataPart::Train,
        NamedPart::Test => DataPart::Test,
    })
}

#[derive(Clone, Copy)]
enum NamedPart {
    Train,
    Test,
}

fn row_range(field: &Field<'_>, faults: &mut Faults) -> Result<DataPart, Reported> {
    let (text, _) = field.scalar(faults, "a range of rows", SPLIT_HELP)?;
    match quantity::range(text) {
        Some((from, to)) if from < to => Ok(DataPart::Rows { from, to }),
        _ => {
            let message = format!("{} is not a range of rows", field.found());
            let help = "the first row is 0 and the end is not included: `0..1500`";
            Err(field.fault(faults, Code::BadValue, message, help))
        }
    }
}

fn share(field: &Field<'_>, faults: &mut Faults) -> Result<u32, Reported> {
    let help = "write the share of `data.eval`, as in `hash: 0.1`";
    let (text, _) = field.scalar(faults, "a share between 0 and 1", help)?;
    let ppm = text.parse::<f64>().map(|share| (share * 1e6).round()).unwrap_or(0.0);
    match (1.0..1e6).contains(&ppm) {
        true => Ok(ppm as u32),
        false => {
            let message = format!("{} is not a share between 0 and 1", field.found());
            Err(field.fault(faults, Code::BadValue, message, help))
        }
    }
}

fn label(field: &Field<'_>, format: Option<DataFormat>, faults: &mut Faults) -> Result<String, Reported> {
    let label = field.text(faults)?;
    if format == Some(DataFormat::Idx) {
        let help = "leave it out; IDX folders have their labels in files of their own";
        return Err(field.fault(faults, Code::BadValue, "IDX data has no columns with names", help));
    }
    Ok(label.to_owned())
}

/// What a table means is said once, where the model learns it.
fn training_table_only(
    field: &Field<'_>,
    format: Option<DataFormat>,
    purpose: Use,
    faults: &mut Faults,
) -> Result<(), Reported> {
    if purpose == Use::Eval {
        let message = "the columns are those of `data.train`";
        return Err(field.fault(faults, Code::BadValue, message, "leave it out here"));
    }
    if format == Some(DataFormat::Idx) {
        let help = "leave it out; an IDX folder holds images and their classes";
        return Err(field.fault(faults, Code::BadValue, "IDX data has no columns with names", help));
    }
    Ok(())
}

fn columns(
    block: &Block<'_>,
    format: Option<DataFormat>,
    purpose: Use,
    faults: &mut Faults,
) -> Result<ColumnSpec, Reported> {
    let mut list = |key: &str| {
        block.optional(faults, key, |field, faults| {
            training_table_only(field, format, purpose, faults)?;
            column_names(field, faults)
        })
    };
    let (only, ignore, categories) = (list("columns"), list("ignore"), list("categories"));
    Ok(ColumnSpec {
        only: only?.unwrap_or_default(),
        ignore: ignore?.unwrap_or_default(),
        categories: categories?.unwrap_or_default(),
    })
}

fn column_names(field: &Field<'_>, faults: &mut Faults) -> Result<Vec<String>, Reported> {
    let help = "give a list of columns, as in `[origin, distance]`";
    let items = field.items(faults, help)?;
    if items.is_empty() || items.len() > COLUMNS_MAX {
        let message = format!("a list of {} columns", items.len());
        return Err(field.fault(faults, Code::BadValue, message, format!("name 1 to {COLUMNS_MAX} columns")));
    }
    let names: Vec<_> = items.iter().map(|item| item.text(faults).map(str::to_owned)).collect();
    names.into_iter().collect()
}

fn order(block: &Block<'_>, purpose: Use, faults: &mut Faults) -> Result<OrderSpec, Reported> {
    let shuffle = block.optional(faults, "shuffle", shuffle);
    let micro_shard =
        block.optional(faults, "micro_shard", |field, faults| field.whole_u32(faults, 1..=MICRO_SHARD_MAX));
    let default = if purpose == Use::Train { (Some(0), None) } else { (None, None) };
    let (seed, window) = shuffle?.unwrap_or(default);
    let micro_shard = micro_shard?.unwrap_or(MICRO_SHARD);
    let given = block.get("shuffle").and_then(|shuffle| shuffle.get("window"));
    if let (Some(window), Some(field)) = (window.filter(|window| *window < micro_shard), given) {
        let message = format!("a window of {window} samples is smaller than a micro-shard of {micro_shard}");
        return Err(field.fault(faults, Code::BadValue, message, "make the window larger, or `micro_shard` smaller"));
    }
    Ok(OrderSpec { seed, window, micro_shard })
}

/// The seed and the window; `false` keeps the order of the files.
fn shuffle(field: &Field<'_>, faults: &mut Faults) -> Result<(Option<u64>, Option<u32>), Reported> {
    if field.is_map() {
        let block = field.block(faults, &layout::SHUFFLE)?;
        let seed = block.optional(faults, "seed", |field, faults| field.whole(faults, 0..=u64::MAX));
        let window = block.optional(faults, "window", |field, faults| field.whole_u32(faults, 1..=u32::MAX));
        return Ok((Some(seed?.unwrap_or(0)), window?));
    }
    let help = "write `{seed: 7}`, or `false` for the order of the file";
    match field.scalar(faults, "`{seed: 7}` or `false`", help)? {
        ("false", false) => Ok((None, None)),
        ("true", false) => Ok((Some(0), None)),
        _ => {
            let message = format!("expected `{{seed: 7}}` or `false`, found {}", field.found());
            Err(field.fault(faults, Code::WrongType, message, help))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_joined_without_looking() {
        let cases = [
            ("data/digits.csv", "/jobs/data/digits.csv"),
            ("./data//digits.csv", "/jobs/data/digits.csv"),
            ("../digits.csv", "/jobs/../digits.csv"),
            ("/abs/folder/", "/abs/folder"),
            (".", "/jobs"),
            ("/", "/"),
        ];
        for (path, wanted) in cases {
            assert_eq!(joined("/jobs/", path), wanted, "{path}");
        }
        assert_eq!(joined("/", "a"), "/a");
        assert_eq!(joined("/", "."), "/");
    }
}
