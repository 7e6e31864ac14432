//! `train.params`, checked against what the entry takes.

use std::collections::BTreeMap;

use super::super::code::Code;
use super::super::context::{EntryInfo, ParamInfo, ParamKind};
use super::super::fault::{Faults, Reported};
use super::super::field::{Block, Field, similar, words};
use super::super::job::ParamValue;

/// The entry's settings: those of the file, and the defaults of the others. Without a known entry only the form is
/// checked.
pub(super) fn params(
    train: &Block<'_>,
    entry: Option<&EntryInfo>,
    faults: &mut Faults,
) -> Result<BTreeMap<String, ParamValue>, Reported> {
    let given = train.optional(faults, "params", |field, faults| {
        let entries = field.entries(faults, "give a map, as in `{lr: 0.1}`")?;
        let Some(entry) = entry else { return Ok(BTreeMap::new()) };
        let read = |(name, field): (&str, Field<'_>)| Ok((name.to_owned(), param(name, &field, entry, faults)?));
        let given: Vec<_> = entries.into_iter().map(read).collect();
        given.into_iter().collect::<Result<BTreeMap<_, _>, Reported>>()
    })?;
    let mut params = given.unwrap_or_default();
    for info in entry.into_iter().flat_map(|entry| &entry.params) {
        if let (false, Some(default)) = (params.contains_key(&info.name), &info.default) {
            params.insert(info.name.clone(), default.clone());
        }
    }
    Ok(params)
}

/// Settings that only their program knows: plain values under any name.
pub(super) fn free(field: &Field<'_>, faults: &mut Faults) -> Result<BTreeMap<String, ParamValue>, Reported> {
    let entries = field.entries(faults, "give a map, as in `{chunks: 40}`")?;
    let read = |(name, field): (&str, Field<'_>)| {
        let (text, quoted) = field.scalar(faults, "a number, a text or a switch", "give a single value")?;
        let value = match text {
            _ if quoted => ParamValue::Text(text.to_owned()),
            "true" => ParamValue::Bool(true),
            "false" => ParamValue::Bool(false),
            _ => match (text.parse().ok(), number(text)) {
                (Some(whole), _) => ParamValue::Int(whole),
                (None, Some(number)) => ParamValue::Float(number),
                (None, None) => ParamValue::Text(field.text(faults)?.to_owned()),
            },
        };
        Ok((name.to_owned(), value))
    };
    let read: Vec<_> = entries.into_iter().map(read).collect();
    read.into_iter().collect()
}

fn param(name: &str, field: &Field<'_>, entry: &EntryInfo, faults: &mut Faults) -> Result<ParamValue, Reported> {
    let Some(info) = entry.params.iter().find(|info| info.name == name) else {
        let names = || entry.params.iter().map(|info| info.name.as_str());
        let help = match similar(name, names()) {
            Some(word) => format!("did you mean `{word}`?"),
            None => format!("it has {}", words(names())),
        };
        let message = format!("the entry `{}` has no such parameter", entry.name);
        return Err(faults.error(Code::Param, &field.path, field.key_span, message, help));
    };
    let wanted = wanted(&info.kind);
    let help = format!("give {wanted}");
    let (text, quoted) = field.scalar(faults, &wanted, &help)?;
    value(info, text, quoted).ok_or_else(|| {
        field.fault(faults, Code::Param, format!("`{name}` takes {wanted}, not {}", field.found()), help)
    })
}

fn value(info: &ParamInfo, text: &str, quoted: bool) -> Option<ParamValue> {
    match &info.kind {
        ParamKind::Text { choices } => (choices.is_empty() || choices.iter().any(|choice| choice == text))
            .then(|| ParamValue::Text(text.to_owned())),
        _ if quoted => None,
        ParamKind::Int { min, max } => {
            text.parse().ok().filter(|number| (*min..=*max).contains(number)).map(ParamValue::Int)
        }
        ParamKind::Float { min, max } => {
            number(text).filter(|number| (*min..=*max).contains(number)).map(ParamValue::Float)
        }
        ParamKind::Bool => match text {
            "true" => Some(ParamValue::Bool(true)),
            "false" => Some(ParamValue::Bool(false)),
            _ => None,
        },
    }
}

/// A finite number; `-0` is 0, so that it is written in one way only.
fn number(text: &str) -> Option<f64> {
    let form = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    let number: f64 = if form { text.parse().ok()? } else { return None };
    number.is_finite().then_some(number + 0.0)
}

fn wanted(kind: &ParamKind) -> String {
    match kind {
        ParamKind::Int { min, max } => format!("a whole number from {min} to {max}"),
        ParamKind::Float { min, max } => format!("a number from {min} to {max}"),
        ParamKind::Text { choices } if choices.is_empty() => "a text".to_owned(),
        ParamKind::Text { choices } => words(choices.iter().map(String::as_str)),
        ParamKind::Bool => "`true` or `false`".to_owned(),
    }
}
