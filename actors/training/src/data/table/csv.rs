//! Comma-separated values with a header line.

use std::io::Read;

use super::builder::Builder;
use super::{CHUNK_ROWS, Chunk, Fault, Next, Request, Visit};

/// The names in the first line.
pub(super) fn header(source: impl Read) -> Result<Vec<String>, Fault> {
    names(&mut reader(source))
}

fn reader<R: Read>(source: R) -> csv::Reader<R> {
    csv::ReaderBuilder::new().flexible(true).has_headers(true).buffer_capacity(1 << 16).from_reader(source)
}

fn names<R: Read>(reader: &mut csv::Reader<R>) -> Result<Vec<String>, Fault> {
    let header = reader.headers().map_err(|error| unreadable(&error, 1))?;
    if header.len() < 2 {
        let what = format!("the header has {} column(s); a feature and a label need two", header.len());
        return Err(Fault::new(what, "check that the first line names the columns, separated by commas"));
    }
    Ok(header.iter().map(|name| name.trim().to_owned()).collect())
}

/// Goes through the rows.
pub(super) fn read(source: impl Read, request: &Request, visit: &mut Visit<'_>) -> Result<(), Fault> {
    let mut reader = reader(source);
    let header = names(&mut reader)?;
    let places = request.find_in(&header)?;
    let mut builders: Vec<Builder> =
        request.columns.iter().enumerate().map(|(at, name)| Builder::new(name, request.is_words(at))).collect();
    let mut record = csv::StringRecord::new();
    let (mut rows, mut line) = (0, 1);
    loop {
        let more = reader.read_record(&mut record).map_err(|error| unreadable(&error, line + 1))?;
        if more {
            line = record.position().map_or(line + 1, csv::Position::line);
            if record.len() != header.len() {
                let what = format!("line {line} has {} columns, the header {}", record.len(), header.len());
                return Err(Fault::new(what, "every row needs as many columns as the header; leave a cell empty"));
            }
            for (builder, &place) in builders.iter_mut().zip(&places) {
                builder.push_cell(&record[place], line)?;
            }
            rows += 1;
        }
        if rows == CHUNK_ROWS || (!more && rows > 0) {
            let columns = builders.iter_mut().map(Builder::take).collect();
            if visit(Chunk { columns, rows, first_row: 0 })? == Next::Stop {
                return Ok(());
            }
            rows = 0;
        }
        if !more {
            return Ok(());
        }
    }
}

fn unreadable(error: &csv::Error, line: u64) -> Fault {
    let line = error.position().map_or(line, csv::Position::line);
    Fault::new(format!("unreadable at line {line} ({error})"), "it must be text in UTF-8, plain or gzipped")
}
