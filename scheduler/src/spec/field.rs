//! Typed reading of single fields and blocks. Each reader either gives the value or proves that it reported a fault,
//! so that a job is never refused without a reason and never built from a faulty value.

use std::ops::RangeInclusive;

use super::code::Code;
use super::fault::{Faults, Reported, Span, shortened};
use super::layout::{self, Layout};
use super::quantity;
use super::tree::{Entry, Node, Value};

/// How different a word may be from the one that was probably meant.
const SIMILARITY_MIN: f64 = 0.85;

/// Longer words are not compared: nobody misspells a key at that length.
const WORD_BYTES_MAX: usize = 64;

/// A value, the key it stands under, and the way there.
#[derive(Clone)]
pub(super) struct Field<'a> {
    pub(super) path: String,
    pub(super) key_span: &'a Span,
    pub(super) node: &'a Node,
}

impl<'a> Field<'a> {
    /// What to point at: the value where it is a word, the key where it is a block or nothing.
    pub(super) fn span(&self) -> &'a Span {
        match self.node.value {
            Value::Scalar { .. } if !self.node.span.bytes.is_empty() => &self.node.span,
            _ => self.key_span,
        }
    }

    pub(super) fn is_map(&self) -> bool {
        matches!(self.node.value, Value::Map(_))
    }

    /// Whether the value is this word.
    pub(super) fn is_word(&self, word: &str) -> bool {
        matches!(&self.node.value, Value::Scalar { text, .. } if text == word)
    }

    /// The field `key` below this one, if this is a map that has it.
    pub(super) fn get(&self, key: &str) -> Option<Field<'a>> {
        let Value::Map(entries) = &self.node.value else { return None };
        entries.iter().find(|entry| entry.key == key).map(|entry| self.child(entry))
    }

    /// Reports a fault of this field.
    pub(super) fn fault(
        &self,
        faults: &mut Faults,
        code: Code,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Reported {
        faults.error(code, &self.path, self.span(), message, help)
    }

    fn wrong_type(&self, faults: &mut Faults, wanted: &str, help: &str) -> Reported {
        match &self.node.value {
            Value::Refused(reported) => *reported,
            _ => self.fault(faults, Code::WrongType, format!("expected {wanted}, found {}", self.found()), help),
        }
    }

    /// The value in words, for messages.
    pub(super) fn found(&self) -> String {
        match &self.node.value {
            Value::Scalar { text, quoted } if is_nothing(text, *quoted) => "nothing".to_owned(),
            Value::Scalar { text, quoted: true } => format!("\"{}\"", shortened(text)),
            Value::Scalar { text, .. } => format!("`{}`", shortened(text)),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
            Value::Refused(_) => "something else".to_owned(),
        }
    }

    /// Any single value as it was written, and whether it was quoted.
    pub(super) fn scalar(&self, faults: &mut Faults, wanted: &str, help: &str) -> Result<(&'a str, bool), Reported> {
        match &self.node.value {
            Value::Scalar { text, quoted } if !is_nothing(text, *quoted) => Ok((text, *quoted)),
            _ => Err(self.wrong_type(faults, wanted, help)),
        }
    }

    /// A text. A plain word that YAML takes for a number or a switch is refused: other YAML readers would give
    /// something else than what was written.
    pub(super) fn text(&self, faults: &mut Faults) -> Result<&'a str, Reported> {
        let (text, quoted) = self.scalar(faults, "a text", "give a text")?;
        if !quoted && looks_like_no_text(text) {
            return Err(self.wrong_type(faults, "a text", &format!("put it in quotes: \"{}\"", shortened(text))));
        }
        Ok(text)
    }

    /// A whole number within `range`.
    pub(super) fn whole(&self, faults: &mut Faults, range: RangeInclusive<u64>) -> Result<u64, Reported> {
        self.whole_or(faults, range, Code::BadValue)
    }

    /// A whole number within `range`; outside of it the fault is `code`.
    pub(super) fn whole_or(
        &self,
        faults: &mut Faults,
        range: RangeInclusive<u64>,
        code: Code,
    ) -> Result<u64, Reported> {
        let help = match (*range.start(), *range.end()) {
            (start, end) if end >= u64::from(u32::MAX) => format!("give a whole number, {start} or more"),
            (start, end) => format!("give a whole number from {start} to {end}"),
        };
        let (text, quoted) = self.scalar(faults, "a whole number", &help)?;
        let signless = text.strip_prefix('-').unwrap_or(text);
        let digits = !signless.is_empty() && signless.bytes().all(|byte| byte.is_ascii_digit());
        match quantity::whole(text) {
            Some(number) if !quoted && range.contains(&number) => Ok(number),
            _ if digits && !quoted => {
                let message = format!("{} is out of range", shortened(text));
                Err(self.fault(faults, code, message, help))
            }
            _ if quoted => Err(self.wrong_type(faults, "a whole number", &(help + ", without quotes"))),
            _ => Err(self.wrong_type(faults, "a whole number", &help)),
        }
    }

    /// The same for the numbers that are counted in 32 bits.
    pub(super) fn whole_u32(&self, faults: &mut Faults, range: RangeInclusive<u32>) -> Result<u32, Reported> {
        let number = self.whole(faults, u64::from(*range.start())..=u64::from(*range.end()))?;
        Ok(u32::try_from(number).expect("the range was made of 32-bit numbers"))
    }

    /// `true` or `false`.
    pub(super) fn switch(&self, faults: &mut Faults) -> Result<bool, Reported> {
        let (wanted, help) = ("`true` or `false`", "write `true` or `false`, without quotes");
        match self.scalar(faults, wanted, help)? {
            ("true", false) => Ok(true),
            ("false", false) => Ok(false),
            _ => Err(self.wrong_type(faults, wanted, help)),
        }
    }

    /// One of the words in `built`; one of those in `planned` is refused as not built yet.
    pub(super) fn choice<T: Copy>(
        &self,
        faults: &mut Faults,
        code: Code,
        built: &[(&str, T)],
        planned: &[&str],
    ) -> Result<T, Reported> {
        let words = words(built.iter().map(|(word, _)| *word));
        let help = format!("write {words}");
        let (text, _) = self.scalar(faults, &words, &help)?;
        if let Some((_, value)) = built.iter().find(|(word, _)| *word == text) {
            return Ok(*value);
        }
        if planned.contains(&text) {
            return Err(self.fault(faults, Code::NotBuiltYet, format!("`{text}` is not built yet"), help));
        }
        let known = built.iter().map(|(word, _)| *word).chain(planned.iter().copied());
        let help = similar(text, known).map_or(help, |word| format!("did you mean `{word}`?"));
        Err(self.fault(faults, code, format!("unknown value {}", self.found()), help))
    }

    /// The entries of a map whose keys are the user's own.
    pub(super) fn entries(&self, faults: &mut Faults, help: &str) -> Result<Vec<(&'a str, Field<'a>)>, Reported> {
        match &self.node.value {
            Value::Map(entries) => Ok(entries.iter().map(|entry| (entry.key.as_str(), self.child(entry))).collect()),
            _ => Err(self.wrong_type(faults, "a map", help)),
        }
    }

    /// The items of a list.
    pub(super) fn items(&self, faults: &mut Faults, help: &str) -> Result<Vec<Field<'a>>, Reported> {
        let Value::List(items) = &self.node.value else { return Err(self.wrong_type(faults, "a list", help)) };
        let item = |(at, node): (usize, &'a Node)| Field {
            path: format!("{}[{at}]", self.path),
            key_span: self.key_span,
            node,
        };
        Ok(items.iter().enumerate().map(item).collect())
    }

    /// A map with the keys of `layout`. Unknown keys and those not built yet are reported; the others can be read.
    pub(super) fn block(&self, faults: &mut Faults, layout: &'static Layout) -> Result<Block<'a>, Reported> {
        let Value::Map(entries) = &self.node.value else {
            let keys = words(layout.keys.iter().copied());
            return Err(self.wrong_type(faults, "a map", &format!("give a map with {keys}")));
        };
        let known = |key: &str| layout.keys.contains(&key) || layout.kinds.contains(&key);
        let others = entries.iter().filter(|entry| !known(&entry.key));
        let refused = others.map(|entry| refuse_key(&self.child(entry), &entry.key, layout, faults)).collect();
        Ok(Block { field: self.clone(), refused })
    }

    fn child(&self, entry: &'a Entry) -> Field<'a> {
        let key = shortened(&entry.key);
        let path = if self.path.is_empty() { key } else { format!("{}.{key}", self.path) };
        Field { path, key_span: &entry.key_span, node: &entry.node }
    }
}

/// A map with fixed keys.
pub(super) struct Block<'a> {
    /// The map as a field.
    pub(super) field: Field<'a>,
    /// The keys that were refused.
    pub(super) refused: Vec<RefusedKey>,
}

/// A key that was reported as unknown or not built yet.
pub(super) struct RefusedKey {
    pub(super) reported: Reported,
    /// The key that was probably meant; it is not reported as missing again.
    meant: Option<&'static str>,
}

impl<'a> Block<'a> {
    pub(super) fn get(&self, key: &str) -> Option<Field<'a>> {
        self.field.get(key)
    }

    /// Reads the field `key` where there is one.
    pub(super) fn optional<T>(
        &self,
        faults: &mut Faults,
        key: &str,
        read: impl FnOnce(&Field<'a>, &mut Faults) -> Result<T, Reported>,
    ) -> Result<Option<T>, Reported> {
        self.get(key).map(|field| read(&field, faults)).transpose()
    }

    /// Reads the field `key`, which must be there.
    pub(super) fn required<T>(
        &self,
        faults: &mut Faults,
        key: &str,
        missing: Missing<'_>,
        read: impl FnOnce(&Field<'a>, &mut Faults) -> Result<T, Reported>,
    ) -> Result<T, Reported> {
        let meant = self.refused.iter().find(|refused| refused.meant == Some(key));
        match (self.get(key), meant) {
            (Some(field), _) => read(&field, faults),
            (None, Some(refused)) => Err(refused.reported),
            (None, None) => {
                let path =
                    if self.field.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.field.path) };
                Err(faults.error(missing.code, &path, self.field.key_span, format!("`{key}` is missing"), missing.help))
            }
        }
    }
}

/// What to say where a required field is missing.
pub(super) struct Missing<'a> {
    pub(super) code: Code,
    pub(super) help: &'a str,
}

fn refuse_key(field: &Field<'_>, key: &str, layout: &'static Layout, faults: &mut Faults) -> RefusedKey {
    let key_span = field.key_span;
    if let Some((planned, help)) = layout.planned.iter().find(|(planned, _)| *planned == key) {
        let message = format!("`{planned}` is not built yet");
        let reported = faults.error(Code::NotBuiltYet, &field.path, key_span, message, *help);
        return RefusedKey { reported, meant: None };
    }
    let here = layout.keys.iter().copied().chain(layout.planned.iter().map(|(planned, _)| *planned));
    let meant = similar(key, here);
    let elsewhere = layout::ALL.iter().find(|other| !other.path.is_empty() && other.keys.contains(&key));
    let help = match (meant, elsewhere) {
        (Some(word), _) => format!("did you mean `{word}`?"),
        (None, Some(other)) => format!("it belongs into `{}`", other.path),
        (None, None) => format!("the keys here are {}", words(layout.keys.iter().copied())),
    };
    let message = format!("unknown key `{}`", shortened(key));
    RefusedKey { reported: faults.error(Code::UnknownKey, &field.path, key_span, message, help), meant }
}

/// The word of `known` that was probably meant: a slip of a letter per three, or the same beginning.
pub(super) fn similar<'a>(text: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let slips_max = (text.len() / 3).max(1);
    if text.len() > WORD_BYTES_MAX {
        return None;
    }
    let rated = known.map(|word| (strsim::osa_distance(text, word), word));
    let close = |(slips, word): &(usize, &str)| {
        *slips <= slips_max && *slips < word.len() || strsim::jaro_winkler(text, word) >= SIMILARITY_MIN
    };
    rated.filter(close).min_by_key(|(slips, _)| *slips).map(|(_, word)| word)
}

/// `a`, `b` or `c`.
pub(super) fn words<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = words.map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => "nothing".to_owned(),
    }
}

fn is_nothing(text: &str, quoted: bool) -> bool {
    !quoted && matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

fn looks_like_no_text(text: &str) -> bool {
    let switch = matches!(text.to_ascii_lowercase().as_str(), "true" | "false" | "yes" | "no" | "on" | "off");
    switch
        || text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first))
            && text.parse::<f64>().is_ok()
}
