//! Faults found in a job file, and the list they are collected in.
//!
//! Rendering for people and machines is the command line's work; this is only what was found and where.

use std::fmt;
use std::ops::Range;

use super::code::Code;

/// A place in the job file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// The bytes of the text that are meant; empty for a point. Always within the text, at character boundaries.
    pub bytes: Range<usize>,
}

/// How bad a fault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The job is refused.
    Error,
    /// The job is taken; the user should know.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// One thing that is wrong with a job file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What kind of fault it is.
    pub code: Code,
    /// Whether the job is refused for it.
    pub severity: Severity,
    /// The field, for example `resources.cpus`; empty for the whole file.
    pub path: String,
    /// What is wrong: lowercase, without a full stop.
    pub message: String,
    /// How to fix it.
    pub help: Option<String>,
    /// Where it is.
    pub span: Option<Span>,
}

/// `error[E044] train.global_batch: 100 cannot be cut into 8 equal shards`.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}] ", self.severity, self.code)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// Proof that an error was put on the list, so that whoever holds it may give up without a word.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reported(());

/// The faults found so far.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    /// Adds an error.
    pub(super) fn error(
        &mut self,
        code: Code,
        path: &str,
        span: &Span,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Reported {
        self.push(Severity::Error, code, path, span, message.into(), help.into());
        Reported(())
    }

    /// Adds a warning.
    pub(super) fn warning(
        &mut self,
        code: Code,
        path: &str,
        span: &Span,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.push(Severity::Warning, code, path, span, message.into(), help.into());
    }

    fn push(&mut self, severity: Severity, code: Code, path: &str, span: &Span, message: String, help: String) {
        let (path, help, span) = (path.to_owned(), Some(help), Some(span.clone()));
        self.0.push(Fault { code, severity, path, message, help, span });
    }

    /// The value with its warnings if nothing is wrong with it, otherwise all faults; both sorted by position.
    pub(super) fn finish<T>(mut self, value: Result<T, Reported>) -> Result<(T, Vec<Fault>), Vec<Fault>> {
        let position = |fault: &Fault| fault.span.as_ref().map(|span| (span.bytes.start, span.bytes.end));
        self.0.sort_by(|a, b| position(a).cmp(&position(b)).then_with(|| (&a.path, a.code).cmp(&(&b.path, b.code))));
        match value {
            Ok(value) if self.0.iter().all(|fault| fault.severity == Severity::Warning) => Ok((value, self.0)),
            _ => Err(self.0),
        }
    }
}

/// A text of the file as messages show it: its first line, cut, without characters that could steer a terminal.
pub(super) fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 48;
    let line = text.lines().next().unwrap_or_default();
    let shown = |letter: char| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter };
    let cut: String = line.chars().take(CHARS_MAX).map(shown).collect();
    if line.chars().nth(CHARS_MAX).is_some() || line.len() < text.len() { format!("{cut}…") } else { cut }
}
