//! One JSON object a line. The first line names the columns; a line may leave some out.

use std::io::{BufRead, BufReader, Read};

use serde_json::{Map, Value};

use super::builder::Builder;
use super::{CHUNK_ROWS, Chunk, Fault, Next, Request, Visit};

/// The longest line that is read.
const LINE_BYTES_MAX: u64 = 16 << 20;

const FIX_LINE: &str =
    "each line is one object of numbers, texts, switches and nulls, such as `{\"a\": 1, \"b\": \"x\"}`";

/// The keys of the first line, in its order.
pub(super) fn header(source: impl Read) -> Result<Vec<String>, Fault> {
    match Lines::new(source).next()? {
        Some((_, object)) if object.len() >= 2 => Ok(object.keys().cloned().collect()),
        Some((line, object)) => {
            let what = format!("line {line} has {} key(s); a feature and a label need two", object.len());
            Err(Fault::new(what, FIX_LINE))
        }
        None => Err(Fault::new("holds no line", FIX_LINE)),
    }
}

/// Goes through the rows.
pub(super) fn read(source: impl Read, request: &Request, visit: &mut Visit<'_>) -> Result<(), Fault> {
    let mut lines = Lines::new(source);
    let mut builders: Vec<Builder> =
        request.columns.iter().enumerate().map(|(at, name)| Builder::new(name, request.is_words(at))).collect();
    let (mut rows, mut known) = (0, None);
    loop {
        let row = lines.next()?;
        let more = row.is_some();
        if let Some((line, object)) = row {
            let header = known.get_or_insert_with(|| object.keys().cloned().collect::<Vec<_>>());
            if line == 1 {
                request.find_in(header)?;
            }
            if let Some(stranger) = object.keys().find(|key| !header.contains(key)) {
                let what = format!("line {line} has the key `{stranger}`, the first line has not");
                return Err(Fault::new(what, "name every column in the first line, as null where it has no value"));
            }
            for (builder, name) in builders.iter_mut().zip(&request.columns) {
                push(builder, object.get(name), line)?;
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

fn push(builder: &mut Builder, value: Option<&Value>, line: u64) -> Result<(), Fault> {
    match value {
        None | Some(Value::Null) => {
            builder.push_missing();
            Ok(())
        }
        Some(Value::Bool(switch)) => builder.push_number(f64::from(u8::from(*switch)), line),
        Some(Value::Number(number)) => match number.as_f64().filter(|number| (*number as f32).is_finite()) {
            Some(number) => builder.push_number(number, line),
            None => Err(builder.fault(line, &format!("`{number}` is not a finite number"))),
        },
        Some(Value::String(text)) => builder.push_text(text, line),
        Some(Value::Array(_)) => Err(builder.fault(line, "a list is neither a number nor a text")),
        Some(Value::Object(_)) => Err(builder.fault(line, "an object is neither a number nor a text")),
    }
}

/// An object and its line.
type Row = (u64, Map<String, Value>);

/// The objects of a file, with their lines; empty lines are passed over.
struct Lines<R: Read> {
    source: BufReader<R>,
    line: u64,
    text: Vec<u8>,
}

impl<R: Read> Lines<R> {
    fn new(source: R) -> Self {
        Self { source: BufReader::with_capacity(1 << 16, source), line: 0, text: Vec::new() }
    }

    fn next(&mut self) -> Result<Option<Row>, Fault> {
        loop {
            self.text.clear();
            self.line += 1;
            let line = self.line;
            let fault = |what: String| Fault::new(format!("line {line} {what}"), FIX_LINE);
            let mut limited = (&mut self.source).take(LINE_BYTES_MAX);
            let read =
                limited.read_until(b'\n', &mut self.text).map_err(|error| fault(format!("is unreadable ({error})")))?;
            if read as u64 == LINE_BYTES_MAX {
                return Err(fault(format!("has more than {LINE_BYTES_MAX} bytes")));
            }
            if read == 0 {
                return Ok(None);
            }
            if self.text.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let object =
                serde_json::from_slice(&self.text).map_err(|error| fault(format!("is no JSON object ({error})")))?;
            return Ok(Some((line, object)));
        }
    }
}
