//! The data sets, and paths.

use std::collections::BTreeMap;

use super::super::code::Code;
use super::super::context::ParseContext;
use super::super::fault::{Faults, Reported, shortened};
use super::super::field::{Block, Field, Missing};
use super::super::job::{DataFormat, DataPart, DataSpec};
use super::super::layout;
use super::super::quantity;

const DATA_HELP: &str = "name the training data: `data: {train: {uri: path/to/data}}`";

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
            block.required(faults, "train", missing(), |field, faults| data_set(field, Some(0), context, faults));
        let eval = block.optional(faults, "eval", |field, faults| data_set(field, None, context, faults));
        let (train, eval) = (train?, eval?);
        let eval = eval.map(|eval| ("eval".to_owned(), eval));
        Ok([("train".to_owned(), train)].into_iter().chain(eval).collect())
    })
}

fn data_set(
    field: &Field<'_>,
    shuffle_seed: Option<u64>,
    context: &ParseContext,
    faults: &mut Faults,
) -> Result<DataSpec, Reported> {
    let block = field.block(faults, &layout::DATA_SET)?;
    let missing = Missing { code: Code::DataMissing, help: "say where the data is: `uri: path/to/data`" };
    let path = block.required(faults, "uri", missing, |field, faults| {
        Ok((local_path(field, Code::BadValue, context, faults)?, field.clone()))
    });
    let format = match (block.get("format"), &path) {
        (Some(field), _) => format(&field, faults),
        (None, Ok((path, uri))) => format_by_suffix(path, uri, faults),
        (None, Err(reported)) => Err(*reported),
    };
    let part = block.optional(faults, "split", |field, faults| split(field, format.as_ref().ok(), faults));
    let label = block.optional(faults, "label", |field, faults| label(field, format.as_ref().ok(), faults));
    let shuffle = block.optional(faults, "shuffle", shuffle);
    Ok(DataSpec {
        path: path?.0,
        format: format?,
        part: part?.unwrap_or(DataPart::All),
        label: label?,
        shuffle_seed: shuffle?.unwrap_or(shuffle_seed),
    })
}

/// An absolute path from a path or a `file://` uri, taken as it is written (without decoding `%20`). Pure: nothing is
/// looked at.
pub(super) fn local_path(
    field: &Field<'_>,
    code: Code,
    context: &ParseContext,
    faults: &mut Faults,
) -> Result<String, Reported> {
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
    if path.contains(['*', '?']) {
        let message = format!("a pattern, {}, is not built yet", field.found());
        return Err(field.fault(faults, Code::NotBuiltYet, message, "name one file or folder"));
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

fn format(field: &Field<'_>, faults: &mut Faults) -> Result<DataFormat, Reported> {
    field.choice(faults, Code::BadValue, &[("idx", DataFormat::Idx), ("csv", DataFormat::Csv)], &[])
}

fn format_by_suffix(path: &str, uri: &Field<'_>, faults: &mut Faults) -> Result<DataFormat, Reported> {
    let file = path.rsplit('/').next().unwrap_or_default();
    let file = file.strip_suffix(".gz").unwrap_or(file);
    if file.ends_with(".csv") {
        return Ok(DataFormat::Csv);
    }
    if file.ends_with("-ubyte") || file.ends_with(".idx") || !file.contains('.') {
        return Ok(DataFormat::Idx);
    }
    let message = format!("the name of {} does not tell its format", uri.found());
    Err(uri.fault(faults, Code::BadValue, message, "say `format: csv` or `format: idx`"))
}

fn split(field: &Field<'_>, format: Option<&DataFormat>, faults: &mut Faults) -> Result<DataPart, Reported> {
    if field.is_map() {
        let block = field.block(faults, &layout::SPLIT)?;
        let help = "write `{rows: 0..1500}`";
        if let (None, Some(other)) = (block.get("rows"), block.refused.first()) {
            return Err(other.reported);
        }
        let missing = Missing { code: Code::Missing, help };
        return block.required(faults, "rows", missing, |field, faults| {
            let (text, _) = field.scalar(faults, "a range of rows", help)?;
            match quantity::range(text) {
                Some((from, to)) if from < to => Ok(DataPart::Rows { from, to }),
                _ => {
                    let message = format!("{} is not a range of rows", field.found());
                    Err(field.fault(
                        faults,
                        Code::BadValue,
                        message,
                        "the first row is 0 and the end is not included: `0..1500`",
                    ))
                }
            }
        });
    }
    let part = field.choice(faults, Code::BadValue, &[("train", DataPart::Train), ("test", DataPart::Test)], &[])?;
    if format == Some(&DataFormat::Csv) {
        let message = format!("{} names a part of a folder of IDX files; a CSV file has none", field.found());
        return Err(field.fault(faults, Code::BadValue, message, "cut a CSV file by rows: `split: {rows: 0..1500}`"));
    }
    Ok(part)
}

fn label(field: &Field<'_>, format: Option<&DataFormat>, faults: &mut Faults) -> Result<String, Reported> {
    let label = field.text(faults)?;
    if format == Some(&DataFormat::Idx) {
        let help = "leave it out; IDX folders have their labels in files of their own";
        return Err(field.fault(faults, Code::BadValue, "IDX data has no label column", help));
    }
    Ok(label.to_owned())
}

/// `false` keeps the order of the file.
fn shuffle(field: &Field<'_>, faults: &mut Faults) -> Result<Option<u64>, Reported> {
    if field.is_map() {
        let block = field.block(faults, &layout::SHUFFLE)?;
        let seed = block.optional(faults, "seed", |field, faults| field.whole(faults, 0..=u64::MAX))?;
        return Ok(Some(seed.unwrap_or(0)));
    }
    let help = "write `{seed: 7}`, or `false` for the order of the file";
    match field.scalar(faults, "`{seed: 7}` or `false`", help)? {
        ("false", false) => Ok(None),
        ("true", false) => Ok(Some(0)),
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
