//! Just enough reading of Rust to tell code from comments, literals and tests. Not a parser.

/// Takes out every item under `#[cfg(test)]`: up to its `;`, or to the brace that closes it.
pub(crate) fn without_test_items(code: &str) -> String {
    let mut kept = String::new();
    let mut rest = code;
    while let Some(start) = rest.find("#[cfg(test)]") {
        kept.push_str(&rest[..start]);
        let item = &rest[start..];
        let end = item_end(item);
        kept.extend(item[..end].chars().filter(|&c| c == '\n'));
        rest = &item[end..];
    }
    kept + rest
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
