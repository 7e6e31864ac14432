//! Just enough reading of Rust to tell code from comments, literals and tests. Not a parser.

use std::fs;
use std::path::{Path, PathBuf};

/// A source file as the checks see it.
pub(crate) struct Source {
    /// From the repository's root, with `/`.
    pub(crate) path: String,
    /// The text with comments and literals blanked out; lines stay where they are.
    pub(crate) code: String,
    /// Whether all of it is compiled for tests only.
    test: bool,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let folders = ["tests/", "benches/", "examples/"];
        let in_folder = folders.iter().any(|f| path.starts_with(f) || path.contains(&format!("/{f}")));
        Self { path: path.to_owned(), code: code_only(text), test: in_folder || path.ends_with("/tests.rs") }
    }

    /// The code that ships: nothing of a test file, and no `#[cfg(test)]` item.
    pub(crate) fn shipped(&self) -> String {
        if self.test { String::new() } else { split_tests(&self.code).0 }
    }

    /// The files and folders of modules that this file declares under `#[cfg(test)]`.
    pub(crate) fn test_modules(&self) -> Vec<String> {
        let (folder, file) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        let folder = match file {
            "mod.rs" | "lib.rs" | "main.rs" => folder.to_owned(),
            _ => format!("{folder}/{}", file.trim_end_matches(".rs")),
        };
        let (_, tests) = split_tests(&self.code);
        let names = tests
            .iter()
            .filter_map(|item| item.trim_end().strip_suffix(';')?.rsplit_once("mod ").map(|(_, name)| name));
        names.flat_map(|name| [format!("{folder}/{name}.rs"), format!("{folder}/{name}/")]).collect()
    }
}

/// Reads every Rust file in `folders`, in order of path.
pub(crate) fn read_all(root: &Path, folders: &[PathBuf], except: &Path) -> Vec<Source> {
    let mut files = Vec::new();
    folders.iter().for_each(|folder| collect(folder, except, &mut files));
    files.sort();
    let mut sources: Vec<Source> = files
        .iter()
        .map(|file| {
            let path = file.strip_prefix(root).expect("members lie in the repository").display().to_string();
            let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{path}: {error}"));
            Source::new(&path, &text)
        })
        .collect();
    let modules: Vec<String> = sources.iter().flat_map(Source::test_modules).collect();
    for source in &mut sources {
        source.test |= modules.iter().any(|module| source.path.starts_with(module.as_str()));
    }
    sources
}

fn collect(path: &Path, except: &Path, files: &mut Vec<PathBuf>) {
    if path == except {
        return;
    }
    if path.is_dir() {
        let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        entries.for_each(|entry| collect(&entry.expect("a folder of the checkout is readable").path(), except, files));
    } else if path.is_file() && path.extension().is_some_and(|extension| extension == "rs") {
        files.push(path.to_owned());
    }
}

/// `path:line: needle` for every line of `code` that has one of the needles.
pub(crate) fn lines_with(path: &str, code: &str, needles: &[&str]) -> Vec<String> {
    let hits = |(line, number): (&str, usize)| {
        let found = needles.iter().filter(|needle| has_word(line, needle));
        found.map(|needle| format!("{path}:{number}: {needle}")).collect::<Vec<_>>()
    };
    code.lines().zip(1..).flat_map(hits).collect()
}

/// Whether `word` stands in `text` with no letter, digit or underscore before or after it.
pub(crate) fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back().is_some_and(part) && word.starts_with(part);
        let after = text[at + word.len()..].chars().next().is_some_and(part) && word.ends_with(part);
        !before && !after
    })
}

/// Code without the items under `#[cfg(test)]`, and these items: each up to its `;`, or to the brace that closes it.
fn split_tests(code: &str) -> (String, Vec<&str>) {
    let (mut shipped, mut tests) = (String::new(), Vec::new());
    let mut rest = code;
    while let Some(start) = rest.find("#[cfg(test)]") {
        let (before, item) = rest.split_at(start);
        let (item, after) = item.split_at(item_end(item));
        shipped.push_str(before);
        shipped.extend(item.chars().filter(|&c| c == '\n'));
        tests.push(item);
        rest = after;
    }
    (shipped + rest, tests)
}

fn item_end(item: &str) -> usize {
    let mut depth = 0usize;
    for (at, c) in item.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return at + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    item.len()
}

/// Blanks out comments and the inside of string and character literals, and keeps every line break. Knows nested block
/// comments, escapes, raw strings and that `'a` may be a lifetime; nothing more of the language is needed here.
pub(crate) fn code_only(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_or_comment_end(&chars, at);
        if end > at {
            code.push(' ');
            code.extend(chars[at..end].iter().filter(|&&c| c == '\n'));
            at = end;
        } else {
            code.push(chars[at]);
            at += 1;
        }
    }
    code
}

/// Where the comment or literal that starts at `at` ends; `at` itself where none starts there.
fn literal_or_comment_end(chars: &[char], at: usize) -> usize {
    let next = |ahead: usize| chars.get(at + ahead).copied();
    match chars[at] {
        '/' if next(1) == Some('/') => position(chars, at, |c| c == '\n'),
        '/' if next(1) == Some('*') => block_comment_end(chars, at),
        '"' => quoted_end(chars, at, '"'),
        'r' if at == 0 || !(chars[at - 1].is_alphanumeric() && chars[at - 1] != 'b' || chars[at - 1] == '_') => {
            raw_string_end(chars, at)
        }
        '\'' if next(1) == Some('\\') || (next(1) != Some('\'') && next(2) == Some('\'')) => {
            quoted_end(chars, at, '\'')
        }
        _ => at,
    }
}

fn position(chars: &[char], from: usize, wanted: impl Fn(char) -> bool) -> usize {
    chars[from..].iter().position(|&c| wanted(c)).map_or(chars.len(), |ahead| from + ahead)
}

fn block_comment_end(chars: &[char], start: usize) -> usize {
    let (mut depth, mut at) = (0usize, start);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) if depth == 1 => return at + 2,
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    chars.len()
}

fn quoted_end(chars: &[char], start: usize, quote: char) -> usize {
    let mut at = start + 1;
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// The end of `r"…"`, `r#"…"#` and so on; `start` where it is an ordinary `r`.
fn raw_string_end(chars: &[char], start: usize) -> usize {
    let quote = position(chars, start + 1, |c| c != '#');
    let hashes = quote - start - 1;
    if chars.get(quote) != Some(&'"') {
        return start;
    }
    let closes =
        |at: usize| chars[at] == '"' && chars[at + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes;
    (quote + 1..chars.len()).find(|&at| closes(at)).map_or(chars.len(), |at| at + 1 + hashes)
}
