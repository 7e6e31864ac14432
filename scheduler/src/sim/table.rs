//! Reading tables of benchmark data and prices: comma-separated text with a header line, one type per row. Lines that
//! start with `#` are comments.
//!
//! Text comes in, rows come out; nothing here opens a file. A bad row is refused with the file, the line, the column and
//! the value, so that whoever made the table finds the place.

use std::fmt;

use serde::de::DeserializeOwned;

/// A row that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataError {
    /// The name of the file, as it was given.
    pub file: String,
    /// The line, from 1.
    pub line: u64,
    /// The column, where one is to blame.
    pub column: Option<String>,
    /// What stood there.
    pub value: Option<String>,
    /// What is wrong with it.
    pub why: String,
}

impl std::error::Error for DataError {}

/// `prices.csv:7: column on_demand_usd_h: "-3": a price is not negative`.
impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file, self.line)?;
        if let Some(column) = &self.column {
            write!(f, "column {column}: ")?;
        }
        if let Some(value) = &self.value {
            write!(f, "\"{value}\": ")?;
        }
        f.write_str(&self.why)
    }
}

/// One row and where it stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row<T> {
    /// The line in the file, from 1.
    pub line: u64,
    /// The row.
    pub value: T,
}

impl<T> Row<T> {
    /// The row refused because of one of its columns.
    pub fn refuse(&self, file: &str, column: &str, value: impl fmt::Display, why: impl Into<String>) -> DataError {
        DataError {
            file: file.to_owned(),
            line: self.line,
            column: Some(column.to_owned()),
            value: Some(value.to_string()),
            why: why.into(),
        }
    }
}

/// Reads every row of a comma-separated table whose first line names the columns.
///
/// # Errors
///
/// The first row that does not have the columns or the types of `T`.
pub fn read_rows<T: DeserializeOwned>(file: &str, text: &str) -> Result<Vec<Row<T>>, DataError> {
    let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).trim(csv::Trim::All).from_reader(text.as_bytes());
    let headers = reader.headers().map_err(|error| refused(file, &error, None, None))?.clone();
    rows(file, reader, &headers)
}

/// Reads every row of a tab-separated table without a header line, whose columns have these names.
///
/// # Errors
///
/// The first row that does not have the columns or the types of `T`.
pub fn read_tabbed<T: DeserializeOwned>(file: &str, text: &str, columns: &[&str]) -> Result<Vec<Row<T>>, DataError> {
    let mut reader = csv::ReaderBuilder::new();
    reader.delimiter(b'\t').has_headers(false).quoting(false).trim(csv::Trim::All);
    rows(file, reader.from_reader(text.as_bytes()), &csv::StringRecord::from(columns.to_vec()))
}

fn rows<T: DeserializeOwned>(
    file: &str,
    mut reader: csv::Reader<&[u8]>,
    headers: &csv::StringRecord,
) -> Result<Vec<Row<T>>, DataError> {
    let mut rows = Vec::new();
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record).map_err(|error| refused(file, &error, None, None))? {
        let line = record.position().map_or(0, csv::Position::line);
        let value =
            record.deserialize(Some(headers)).map_err(|error| refused(file, &error, Some(headers), Some(&record)))?;
        rows.push(Row { line, value });
    }
    Ok(rows)
}

fn refused(
    file: &str,
    error: &csv::Error,
    headers: Option<&csv::StringRecord>,
    record: Option<&csv::StringRecord>,
) -> DataError {
    let field = match error.kind() {
        csv::ErrorKind::Deserialize { err, .. } => err.field().and_then(|field| usize::try_from(field).ok()),
        _ => None,
    };
    let at = |record: Option<&csv::StringRecord>| {
        field.and_then(|field| record.and_then(|record| record.get(field))).map(ToOwned::to_owned)
    };
    let why = match error.kind() {
        csv::ErrorKind::Deserialize { err, .. } => err.kind().to_string(),
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} columns, but the header names {expected_len}")
        }
        _ => error.to_string(),
    };
    let line = error.position().or_else(|| record.and_then(csv::StringRecord::position));
    DataError {
        file: file.to_owned(),
        line: line.map_or(1, csv::Position::line),
        column: at(headers),
        value: at(record),
        why,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Price {
        name: String,
        usd: f64,
    }

    fn refusal(text: &str) -> String {
        read_rows::<Price>("p.csv", text).unwrap_err().to_string()
    }

    #[test]
    fn rows_come_with_their_lines() {
        let rows = read_rows::<Price>("p.csv", "name,usd\na,1.5\nb, 2\n").unwrap();
        assert_eq!((rows[1].line, rows[1].value.name.as_str(), rows[1].value.usd), (3, "b", 2.0));
    }

    #[test]
    fn a_table_without_a_header_is_given_its_columns() {
        let rows = read_tabbed::<Price>("p.tsv", "a \"x\t1.5\nb\t2\n", &["name", "usd"]).unwrap();
        assert_eq!((rows[0].value.name.as_str(), rows[1].value.usd), ("a \"x", 2.0));
        let refusal = read_tabbed::<Price>("p.tsv", "a\tx\n", &["name", "usd"]).unwrap_err().to_string();
        assert_eq!(refusal, "p.tsv:1: column usd: \"x\": invalid float literal");
    }

    #[test]
    fn a_bad_row_names_its_place() {
        assert_eq!(refusal("name,usd\na,1\nb,x\n"), "p.csv:3: column usd: \"x\": invalid float literal");
        assert_eq!(refusal("name,usd\na,1\nb\n"), "p.csv:3: 1 columns, but the header names 2");
        assert!(refusal("name,eur\na,1\n").contains("missing field `usd`"), "{}", refusal("name,eur\na,1\n"));
    }
}
