//! How results reach the user: results on standard output in the format asked for, remarks on standard error.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use neap_scheduler::model::Millis;
use serde::Serialize;

use super::args::{Format, Global};
use super::exit::CliError;

/// Where results and remarks go, and how they look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    /// How results are printed.
    pub(super) format: Format,
    /// Whether remarks are left out.
    pub(super) quiet: bool,
    color_out: bool,
    color_err: bool,
}

/// What a cell says beyond its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// As it should be.
    Good,
    /// Under way, or worth a look.
    Busy,
    /// Not as it should be.
    Bad,
    /// Nothing special.
    Plain,
}

/// Rows under headers, as `ps` prints them.
#[derive(Debug)]
pub(super) struct Listing {
    headers: &'static [&'static str],
    rows: Vec<Vec<(String, Tone)>>,
}

impl Listing {
    /// A listing without rows.
    pub(super) fn new(headers: &'static [&'static str]) -> Self {
        Self { headers, rows: Vec::new() }
    }

    /// Adds a row; its first cell is the item's name.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = (String, Tone)>) {
        self.rows.push(cells.into_iter().collect());
    }

    fn table(&self, color: bool) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        if color {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table.set_header(self.headers.iter().copied());
        for row in &self.rows {
            table.add_row(row.iter().map(|(text, tone)| cell(text, *tone)));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        table.lines().fold(String::new(), |mut text, line| {
            text.push_str(line.trim_end());
            text.push('\n');
            text
        })
    }

    fn csv(&self) -> String {
        let mut text = csv_line(self.headers.iter().map(|header| header.to_lowercase().replace([' ', '/'], "_")));
        for row in &self.rows {
            text.push_str(&csv_line(row.iter().map(|(cell, _)| cell.clone())));
        }
        text
    }
}

fn cell(text: &str, tone: Tone) -> Cell {
    let cell = Cell::new(one_line(text));
    match tone {
        Tone::Good => cell.fg(Color::Green),
        Tone::Busy => cell.fg(Color::Yellow),
        Tone::Bad => cell.fg(Color::Red),
        Tone::Plain => cell,
    }
}

/// What others wrote stays in its cell.
fn one_line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// Quoted where RFC 4180 asks for it.
fn csv_line(cells: impl Iterator<Item = String>) -> String {
    let quote = |cell: String| {
        if cell.contains([',', '"', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
    };
    cells.map(quote).collect::<Vec<_>>().join(",") + "\n"
}

impl Output {
    /// As the global options ask for; colours only where a person looks and nothing asks for none.
    pub(super) fn new(global: &Global) -> Self {
        let wanted = !global.no_color && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self {
            format: global.output,
            quiet: global.quiet,
            color_out: wanted && io::stdout().is_terminal(),
            color_err: wanted && io::stderr().is_terminal(),
        }
    }

    /// Whether remarks may have colours.
    pub(super) fn color_err(self) -> bool {
        self.color_err
    }

    /// Prints one thing.
    ///
    /// # Errors
    ///
    /// [`CliError`] where the format does not suit, or standard output cannot be written.
    pub(super) fn document<T: Serialize>(
        self,
        value: &T,
        name: &str,
        human: impl FnOnce() -> String,
    ) -> Result<(), CliError> {
        match self.format {
            Format::Table => self.text(&human()),
            Format::Json => self.text(&json(value, Layout::Indented)?),
            Format::Jsonl => self.text(&json(value, Layout::OneLine)?),
            Format::Name => self.text(&format!("{name}\n")),
            Format::Csv => Err(CliError::Usage("`-o csv` is for lists; use -o json here".to_owned())),
        }
    }

    /// Prints many things of a kind.
    ///
    /// # Errors
    ///
    /// [`CliError`] where standard output cannot be written.
    pub(super) fn list<T: Serialize>(self, items: &[T], listing: &Listing) -> Result<(), CliError> {
        match self.format {
            Format::Table => self.text(&listing.table(self.color_out)),
            Format::Json => self.text(&json(&items, Layout::Indented)?),
            Format::Jsonl => {
                let lines = items.iter().map(|item| json(item, Layout::OneLine)).collect::<Result<Vec<_>, _>>()?;
                self.text(&lines.concat())
            }
            Format::Csv => self.text(&listing.csv()),
            Format::Name => {
                let names = listing.rows.iter().filter_map(|row| row.first());
                self.text(&names.map(|(name, _)| format!("{name}\n")).collect::<String>())
            }
        }
    }

    /// Lays a listing out as part of a longer text for people.
    pub(super) fn table(self, listing: &Listing) -> String {
        listing.table(self.color_out)
    }

    /// Prints a text as it is. A reader that has gone away (`| head`) is no error.
    ///
    /// # Errors
    ///
    /// [`CliError::Output`].
    pub(super) fn text(self, text: &str) -> Result<(), CliError> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(CliError::Output(error)),
            _ => Ok(()),
        }
    }

    /// Makes a remark on standard error, unless the user wants none.
    pub(super) fn remark(self, text: &str) {
        if !self.quiet {
            self.warn(text);
        }
    }

    /// Says something that the user must know.
    pub(super) fn warn(self, text: &str) {
        say(text);
    }
}

/// Writes a line to standard error. Nobody is left to tell when that is gone.
pub(super) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

#[derive(Clone, Copy)]
enum Layout {
    Indented,
    OneLine,
}

fn json<T: Serialize>(value: &T, layout: Layout) -> Result<String, CliError> {
    let text = match layout {
        Layout::Indented => serde_json::to_string_pretty(value),
        Layout::OneLine => serde_json::to_string(value),
    };
    text.map(|text| text + "\n").map_err(|error| CliError::Output(error.into()))
}

/// `name  value` lines with the values under each other; entries without a value are left out.
pub(super) fn fields(entries: &[(&str, Option<String>)]) -> String {
    let width = entries.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let present = entries.iter().filter_map(|(name, value)| value.as_ref().map(|value| (name, value)));
    present.fold(String::new(), |mut text, (name, value)| {
        writeln!(text, "{name:width$}  {}", harmless(value)).expect("writing to a string cannot fail");
        text
    })
}

/// How long ago `then` was.
pub(super) fn age(then: Millis) -> String {
    coarse(now().since(then))
}

/// A length of time in whole seconds, or in full below ten seconds.
pub(super) fn coarse(time: Millis) -> String {
    if time.get() < 10_000 { time.to_string() } else { Millis::from_secs(time.get() / 1_000).to_string() }
}

/// The wall clock.
pub(super) fn now() -> Millis {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().into()
}

/// An instant in the user's time zone.
pub(super) fn instant(at: Millis) -> String {
    let known = i64::try_from(at.get()).ok().and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok());
    known.map_or_else(
        || format!("{} ms", at.get()),
        |time| time.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
    )
}

/// `87.34 %`.
pub(super) fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

/// `52,340`.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `text` without control characters other than line ends and tabs: what jobs write cannot steer the terminal.
pub(super) fn harmless(text: &str) -> String {
    text.chars().filter(|&letter| matches!(letter, '\n' | '\t') || !letter.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(thousands(number), text);
        }
    }

    #[test]
    fn cells_with_separators_are_quoted() {
        assert_eq!(csv_line(["a,b", "c\"d", "e"].map(str::to_owned).into_iter()), "\"a,b\",\"c\"\"d\",e\n");
    }

    #[test]
    fn a_log_cannot_steer_the_terminal() {
        assert_eq!(harmless("a\u{1b}[2Jb\tc\n\r"), "a[2Jb\tc\n");
    }

    #[test]
    fn a_table_has_aligned_columns_and_no_trailing_blanks() {
        let mut listing = Listing::new(&["ID", "STATE"]);
        listing.row([("j1".to_owned(), Tone::Plain), ("running".to_owned(), Tone::Good)]);
        listing.row([("j12345".to_owned(), Tone::Plain), ("failed".to_owned(), Tone::Bad)]);
        assert_eq!(listing.table(false), "ID      STATE\nj1      running\nj12345  failed\n");
        assert!(listing.table(true).contains("\u{1b}["));
    }
}
