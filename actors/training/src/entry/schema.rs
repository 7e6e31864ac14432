//! What a struct of hyper-parameters takes, read from its JSON Schema: names, kinds, bounds, words and defaults.

use std::collections::BTreeSet;

use neap_scheduler::spec::{ParamInfo, ParamKind, ParamValue};
use schemars::JsonSchema;
use serde_json::{Map, Value};

/// A field that a job file cannot give.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the field `{field}` {fault}; it must be a whole number, a number, a word or a switch")]
pub(super) struct SchemaFault {
    field: String,
    fault: String,
}

/// The names of a struct's fields.
pub(super) fn param_names<P: JsonSchema>() -> BTreeSet<String> {
    let schema = schemars::schema_for!(P).to_value();
    properties(&schema).map(|(name, _)| name.clone()).collect()
}

/// What a struct's fields take, sorted by name.
pub(super) fn params<P: JsonSchema>() -> Result<Vec<ParamInfo>, SchemaFault> {
    let schema = schemars::schema_for!(P).to_value();
    let mut params = properties(&schema)
        .map(|(name, property)| {
            let fault = |fault: String| SchemaFault { field: name.clone(), fault };
            let kind = kind(resolved(property, &schema)).map_err(fault)?;
            let default = property.get("default").and_then(|default| default_value(default, &kind));
            Ok(ParamInfo { name: name.clone(), kind, default })
        })
        .collect::<Result<Vec<_>, SchemaFault>>()?;
    params.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(params)
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::iter)
}

/// The schema behind a reference, and the one that is not `null` of an optional field.
fn resolved<'a>(property: &'a Value, root: &'a Value) -> &'a Value {
    if let Some(reference) = property.get("$ref").and_then(Value::as_str) {
        let found = reference.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
        return found.map_or(property, |found| resolved(found, root));
    }
    let alternatives = ["anyOf", "allOf"].into_iter().find_map(|word| property.get(word)?.as_array());
    let mut real = alternatives.into_iter().flatten().filter(|one| one.get("type") != Some(&"null".into()));
    match (real.next(), real.next()) {
        (Some(only), None) => resolved(only, root),
        _ => property,
    }
}

fn kind(schema: &Value) -> Result<ParamKind, String> {
    if let Some(choices) = words(schema) {
        return Ok(ParamKind::Text { choices });
    }
    let bound = |word: &str| schema.get(word).and_then(Value::as_f64);
    match type_of(schema) {
        Some("integer") => Ok(ParamKind::Int {
            min: bound("minimum").map_or(i64::MIN, |min| min as i64),
            max: bound("maximum").map_or(i64::MAX, |max| max as i64),
        }),
        Some("number") => Ok(ParamKind::Float {
            min: bound("minimum").unwrap_or(f64::MIN),
            max: bound("maximum").unwrap_or(f64::MAX),
        }),
        Some("string") => Ok(ParamKind::Text { choices: Vec::new() }),
        Some("boolean") => Ok(ParamKind::Bool),
        Some(other) => Err(format!("is of the type {other}")),
        None => Err("has no simple type".to_owned()),
    }
}

/// The type; of an optional field the one that is not `null`.
fn type_of(schema: &Value) -> Option<&str> {
    match schema.get("type")? {
        Value::String(only) => Some(only),
        Value::Array(several) => several.iter().filter_map(Value::as_str).find(|name| *name != "null"),
        _ => None,
    }
}

/// The words of an enum: together, or one constant each where the variants have descriptions.
fn words(schema: &Value) -> Option<Vec<String>> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        return words.iter().filter(|word| !word.is_null()).map(text).collect();
    }
    let alternatives = schema.get("oneOf")?.as_array()?;
    alternatives
        .iter()
        .map(|one| words(one).or_else(|| Some(vec![text(one.get("const")?)?])))
        .collect::<Option<Vec<_>>>()
        .map(|all| all.concat())
}

fn default_value(default: &Value, kind: &ParamKind) -> Option<ParamValue> {
    match kind {
        ParamKind::Int { .. } => default.as_i64().map(ParamValue::Int),
        ParamKind::Float { .. } => default.as_f64().map(ParamValue::Float),
        ParamKind::Text { .. } => default.as_str().map(|word| ParamValue::Text(word.to_owned())),
        ParamKind::Bool => default.as_bool().map(ParamValue::Bool),
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Deserialize, Serialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    enum Activation {
        /// Cut off below 0.
        Relu,
        /// Smooth around 0.
        Gelu,
    }

    #[derive(Deserialize, JsonSchema)]
    #[expect(dead_code, reason = "only the schema is looked at")]
    struct All {
        #[schemars(range(min = 1, max = 64))]
        layers: u32,
        #[serde(default = "half")]
        #[schemars(range(min = 0.0, max = 1.0))]
        dropout: f64,
        #[serde(default = "gelu")]
        activation: Activation,
        #[serde(default)]
        bias: bool,
        note: Option<String>,
        seed: i64,
    }

    fn half() -> f64 {
        0.5
    }

    fn gelu() -> Activation {
        Activation::Gelu
    }

    #[test]
    fn every_kind_is_read_with_bounds_words_and_defaults() {
        let found = params::<All>().unwrap();
        let info = |name: &str, kind, default| ParamInfo { name: name.to_owned(), kind, default };
        let choices = vec!["relu".to_owned(), "gelu".to_owned()];
        assert_eq!(
            found,
            [
                info("activation", ParamKind::Text { choices }, Some(ParamValue::Text("gelu".to_owned()))),
                info("bias", ParamKind::Bool, Some(ParamValue::Bool(false))),
                info("dropout", ParamKind::Float { min: 0.0, max: 1.0 }, Some(ParamValue::Float(0.5))),
                info("layers", ParamKind::Int { min: 1, max: 64 }, None),
                info("note", ParamKind::Text { choices: vec![] }, None),
                info("seed", ParamKind::Int { min: i64::MIN, max: i64::MAX }, None),
            ]
        );
        assert!(param_names::<All>().contains("dropout"));
    }

    #[test]
    fn a_field_that_a_job_file_cannot_give_is_named() {
        #[derive(Deserialize, JsonSchema)]
        #[expect(dead_code, reason = "only the schema is looked at")]
        struct Odd {
            sizes: Vec<u32>,
        }
        let fault = params::<Odd>().unwrap_err().to_string();
        assert!(fault.starts_with("the field `sizes` is of the type array"), "{fault}");
    }
}
