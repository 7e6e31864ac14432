//! Reads YAML text into a tree in which every node knows its place.
//!
//! serde stops at the first value of a wrong type; a tree lets the readers above go on and report everything. This
//! module knows YAML and nothing of jobs: it refuses what job files do not use (anchors, aliases, merge keys, tags,
//! composite keys, several documents), duplicate keys, and texts beyond the limits.

use std::collections::BTreeMap;

use serde_saphyr::granit_parser::{
    ErrorKind, Event, Parser, ScalarStyle, ScanError, Span as YamlSpan, StrInput, options,
};

use super::code::Code;
use super::fault::{Faults, Reported, Span, shortened};

/// The longest job file that is read.
pub const JOB_FILE_BYTES_MAX: usize = 64 * 1024;

/// How deep maps and lists may be nested; the deepest field of a job file is at 4.
const NESTING_MAX: usize = 16;

/// A value and where it is.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) span: Span,
    pub(super) value: Value,
}

/// A YAML value whose scalars are still the text that was written.
#[derive(Debug)]
pub(super) enum Value {
    /// A word, number, switch or nothing at all.
    Scalar {
        /// The text after unquoting.
        text: String,
        /// Whether it was quoted (or a block), and so is a text whatever it looks like.
        quoted: bool,
    },
    /// A list, in its order.
    List(Vec<Node>),
    /// A map, in the order of the file, without duplicates.
    Map(Vec<Entry>),
    /// Something that was refused and reported already.
    Refused(Reported),
}

/// A key and its value.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_span: Span,
    pub(super) node: Node,
}

/// Reads one document. Faults that leave a usable tree are reported and reading goes on.
pub(super) fn read(text: &str, faults: &mut Faults) -> Result<Node, Reported> {
    let start = Span { line: 1, column: 1, bytes: 0..0 };
    if text.len() > JOB_FILE_BYTES_MAX {
        let message = format!("the file has {} bytes; a job file has at most {JOB_FILE_BYTES_MAX}", text.len());
        return Err(faults.error(Code::TooLarge, "", &start, message, "keep data and programs in files of their own"));
    }
    let options = options! {
        disallow_directives: true,
        emit_unresolved_aliases: true,
        emit_anchor_events: true,
        emit_comments: false,
        flow_nesting_limit: NESTING_MAX,
        block_nesting_limit: NESTING_MAX,
    };
    let parser = Parser::new_from_str_with_options(text, options);
    Reader { text, parser, faults, path: Vec::new() }.document(&start)
}

struct Reader<'a, 'faults> {
    text: &'a str,
    parser: Parser<'a, StrInput<'a>>,
    /// The keys above the node that is read.
    path: Vec<String>,
    faults: &'faults mut Faults,
}

impl<'a> Reader<'a, '_> {
    fn document(mut self, start: &Span) -> Result<Node, Reported> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentEnd => {}
                Event::StreamEnd => break,
                Event::DocumentStart(..) if root.is_none() => {}
                Event::DocumentStart(..) => {
                    let span = self.span(&span);
                    self.refuse(&span, "a second document", "put each job into a file of its own");
                    break;
                }
                event => root = Some(self.node(event, &span)?),
            }
        }
        root.ok_or_else(|| {
            let help = "start with `version: 1` and `kind: train`";
            self.faults.error(Code::NotAJob, "", start, "the file is empty", help)
        })
    }

    fn node(&mut self, event: Event<'a>, span: &YamlSpan) -> Result<Node, Reported> {
        if let Some(tag) = event.tag() {
            let message = format!("the tag `{}`", shortened(&tag.original()));
            let place = self.span(&span.tag_span().unwrap_or(*span));
            self.refuse(&place, &message, "leave it out; the field says which type it takes");
        }
        let span = self.span(span);
        let value = match event {
            Event::Scalar(text, style, ..) => {
                Value::Scalar { text: text.into_owned(), quoted: style != ScalarStyle::Plain }
            }
            Event::SequenceStart(..) => self.list()?,
            Event::MappingStart(..) => self.map()?,
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                let alias = shortened(self.text.get(span.bytes.clone()).unwrap_or_default());
                Value::Refused(self.refuse(&span, &format!("the alias `{alias}`"), "write the value out"))
            }
            _ => Value::Refused(self.faults.error(Code::Syntax, "", &span, "unexpected YAML here", "write it plainly")),
        };
        Ok(Node { span, value })
    }

    fn list(&mut self) -> Result<Value, Reported> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, span) => items.push(self.node(event, &span)?),
            }
        }
    }

    fn map(&mut self) -> Result<Value, Reported> {
        let mut entries = Vec::new();
        let mut first_lines = BTreeMap::new();
        loop {
            let (event, span) = match self.next()? {
                (Event::MappingEnd, _) => return Ok(Value::Map(entries)),
                next => next,
            };
            let key = self.node(event, &span)?;
            let name = if let Value::Scalar { text, .. } = &key.value { text.as_str() } else { "?" };
            self.path.push(shortened(name));
            let (event, span) = self.next()?;
            let node = self.node(event, &span)?;
            let path = self.path.join(".");
            self.path.pop();
            let Value::Scalar { text, quoted } = key.value else {
                if !matches!(key.value, Value::Refused(_)) {
                    self.refuse(&key.span, "a list or map as a key", "keys are plain words");
                }
                continue;
            };
            if text == "<<" && !quoted {
                self.refuse(&key.span, "the merge key `<<`", "write the keys out");
                continue;
            }
            if let Some(line) = first_lines.get(&text) {
                let message = format!("`{}` is given twice, first in line {line}", shortened(&text));
                self.faults.error(Code::DuplicateKey, &path, &key.span, message, "remove one of the two");
                continue;
            }
            first_lines.insert(text.clone(), key.span.line);
            entries.push(Entry { key: text, key_span: key.span, node });
        }
    }

    /// The next event that is part of the document. A syntax error ends the reading: what follows would be guesses.
    fn next(&mut self) -> Result<(Event<'a>, YamlSpan), Reported> {
        loop {
            match self.parser.next_event() {
                Some(Ok((Event::Anchor(_, name), span))) => {
                    let span = self.span(&span);
                    self.refuse(
                        &span,
                        &format!("the anchor `&{}`", shortened(&name)),
                        "write the value out where it is needed",
                    );
                }
                Some(Ok(next)) => return Ok(next),
                Some(Err(error)) => return Err(self.syntax(&error)),
                None => return Ok((Event::StreamEnd, YamlSpan::default())),
            }
        }
    }

    fn refuse(&mut self, span: &Span, what: &str, help: &str) -> Reported {
        let path = self.path.join(".");
        self.faults.error(Code::YamlFeature, &path, span, format!("{what} is not used in job files"), help)
    }

    fn syntax(&mut self, error: &ScanError) -> Reported {
        let marker = error.marker();
        let span = self.span(&YamlSpan::empty(*marker));
        if matches!(error.kind(), ErrorKind::RecursionLimitExceeded) {
            let message = format!("maps and lists are nested more than {NESTING_MAX} deep");
            return self.faults.error(Code::TooLarge, "", &span, message, "no field needs that; check the brackets");
        }
        let line = self.text.lines().nth(span.line.saturating_sub(1)).unwrap_or_default();
        let indent = &line[..line.len() - line.trim_start().len()];
        let message = error.info();
        let help = if indent.contains('\t') || message.contains("tab") {
            "indent with spaces; YAML does not take tabs"
        } else {
            "check indentation, quotes and brackets in this line and the one before"
        };
        self.faults.error(Code::Syntax, "", &span, format!("not valid YAML: {message}"), help)
    }

    fn span(&self, span: &YamlSpan) -> Span {
        let length = self.text.len();
        let floor = |offset: Option<usize>| self.text.floor_char_boundary(offset.unwrap_or(length).min(length));
        let (start, end) = (floor(span.start.byte_offset()), floor(span.end.byte_offset()));
        let end = start + self.text.get(start..end).unwrap_or_default().trim_end().len();
        Span { line: span.start.line().max(1), column: span.start.col() + 1, bytes: start..end }
    }
}
