//! Tables: a header line, numbers, and one column that holds the class.

use std::collections::BTreeMap;
use std::io::Read;

use super::{CLASSES_MAX, Dataset, Fault, Features, SampleShape};

const FIX_CELL: &str = "put a number there, or take the row out";
const FIX_LABEL: &str = "name the column that holds the class with `data.*.label`";

/// Reads a table. `label` names the column of the class; the last column where there is no name.
pub(super) fn read_table(source: impl Read, label: Option<&str>) -> Result<Dataset, Fault> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).has_headers(true).from_reader(source);
    let header = reader.headers().map_err(|error| unreadable(&error, 1))?.clone();
    if header.len() < 2 {
        let what = format!("the header has {} column(s); a feature and a class need two", header.len());
        return Err(Fault::new(what, "check that the first line names the columns, separated by commas"));
    }
    let label_column = find_label(&header, label)?;
    let mut values: Vec<f32> = Vec::new();
    let mut labels: Vec<String> = Vec::new();
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record).map_err(|error| unreadable(&error, labels.len() as u64 + 2))? {
        let line = record.position().map_or(0, csv::Position::line);
        if record.len() != header.len() {
            let what = format!("line {line} has {} columns, the header {}", record.len(), header.len());
            return Err(Fault::new(what, "every row needs a value in every column"));
        }
        for (column, cell) in record.iter().enumerate() {
            if column == label_column {
                labels.push(cell.trim().to_owned());
            } else {
                values.push(number(cell, line, &header[column])?);
            }
        }
    }
    let (classes, names) = number_classes(&labels)?;
    let shape = SampleShape { height: 1, width: header.len() as u32 - 1, channels: 1 };
    Ok(Dataset::new(shape, compact(values), classes, names))
}

fn find_label(header: &csv::StringRecord, label: Option<&str>) -> Result<usize, Fault> {
    let Some(label) = label else { return Ok(header.len() - 1) };
    header.iter().position(|name| name.trim() == label).ok_or_else(|| {
        let known = header.iter().take(8).collect::<Vec<_>>().join(", ");
        Fault::new(format!("no column `{label}`; the header starts with {known}"), FIX_LABEL)
    })
}

fn number(cell: &str, line: u64, column: &str) -> Result<f32, Fault> {
    match cell.trim().parse::<f32>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => {
            let shown: String = cell.chars().take(40).collect();
            Err(Fault::new(format!("line {line}, column `{column}`: `{shown}` is not a finite number"), FIX_CELL))
        }
    }
}

/// Numbers the classes in the order of their names; whole numbers are put in the order of their values.
fn number_classes(labels: &[String]) -> Result<(Vec<u16>, Vec<String>), Fault> {
    let mut by_name: BTreeMap<&str, u16> = labels.iter().map(|label| (label.as_str(), 0)).collect();
    if by_name.len() > CLASSES_MAX {
        return Err(Fault::new(
            format!("{} different classes, at most {CLASSES_MAX} are possible", by_name.len()),
            FIX_LABEL,
        ));
    }
    let mut names: Vec<&str> = by_name.keys().copied().collect();
    if names.iter().all(|name| name.parse::<i64>().is_ok()) {
        names.sort_by_key(|name| name.parse::<i64>().unwrap_or_default());
    }
    names.iter().zip(0..).for_each(|(name, number)| {
        by_name.insert(name, number);
    });
    let classes = labels.iter().map(|label| by_name[label.as_str()]).collect();
    Ok((classes, names.into_iter().map(str::to_owned).collect()))
}

/// Whole numbers from 0 to 255 are kept as bytes: a quarter of the memory, and the table counts as an image.
fn compact(values: Vec<f32>) -> Features {
    let is_byte = |value: &f32| (0.0..=255.0).contains(value) && value.fract() == 0.0;
    if values.iter().all(is_byte) {
        Features::Bytes(values.into_iter().map(|value| value as u8).collect())
    } else {
        Features::Floats(values)
    }
}

fn unreadable(error: &csv::Error, line: u64) -> Fault {
    let line = error.position().map_or(line, csv::Position::line);
    Fault::new(format!("unreadable at line {line} ({error})"), "it must be text in UTF-8, plain or gzipped")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::data::Targets;

    fn fault(text: &str, label: Option<&str>) -> String {
        read_table(text.as_bytes(), label).unwrap_err().what
    }

    #[test]
    fn a_table_of_bytes_with_the_class_last() {
        let data = read_table(&b"a,b,class\n0,255,1\n3,4,0\n"[..], None).unwrap();
        assert_eq!(data.features(), &Features::Bytes(vec![0, 255, 3, 4]));
        assert_eq!(
            (data.targets(), data.target_info().class_names()),
            (&Targets::Classes(vec![1, 0]), &["0".to_owned(), "1".to_owned()][..])
        );
    }

    #[test]
    fn text_classes_are_numbered_in_sorted_order_and_the_label_can_be_any_column() {
        let data = read_table(&b"kind,x\nrose,1.5\nlily,-2\nrose,3\n"[..], Some("kind")).unwrap();
        assert_eq!(data.features(), &Features::Floats(vec![1.5, -2.0, 3.0]));
        assert_eq!(data.target_info().class_names(), ["lily", "rose"]);
        assert_eq!(data.targets(), &Targets::Classes(vec![1, 0, 1]));
    }

    #[test]
    fn numbers_as_classes_keep_their_order() {
        let data = read_table(&b"x,y\n1,10\n1,2\n1,1\n"[..], None).unwrap();
        assert_eq!(data.target_info().class_names(), ["1", "2", "10"]);
    }

    #[test]
    fn each_fault_names_its_place() {
        assert!(fault("a,b,c\n1,2,0\n1,x,0\n", None).starts_with("line 3, column `b`: `x` is not"));
        assert!(fault("a,b,c\n1,NaN,0\n", None).contains("`NaN` is not a finite number"));
        assert!(fault("a,b,c\n1,2,0\n1,2\n", None).starts_with("line 3 has 2 columns, the header 3"));
        assert!(fault("a,b\n1,2\n", Some("kind")).starts_with("no column `kind`; the header starts with a, b"));
        assert!(fault("", None).starts_with("the header has 0 column(s)"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read_table(&bytes[..], None);
        }

        #[test]
        fn arbitrary_tables_never_panic(text in "[a-c0-9,.\"\n\r-]{0,200}") {
            let _ = read_table(text.as_bytes(), Some("a"));
        }
    }
}
