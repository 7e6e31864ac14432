//! `neap schema` is a JSON Schema, and it takes our examples.

use serde_json::Value;

use crate::support::{Home, folder};

#[test]
fn the_schema_takes_the_examples_and_refuses_a_slip_of_the_pen() {
    let schema = Home::new().neap(&["schema"]).expect(0).json();
    for example in ["digits.yaml", "fashion-mnist.yaml"] {
        let text = std::fs::read_to_string(folder("examples").join(example)).unwrap();
        let job: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(check(&schema, &schema, &job), Ok(()), "{example}");
        let mut slip = job.clone();
        slip["marktet"] = Value::from("spot");
        assert!(check(&schema, &schema, &slip).is_err(), "{example}");
        let mut lie = job;
        lie["train"]["epochs"] = Value::from("many");
        assert!(check(&schema, &schema, &lie).is_err(), "{example}");
    }
}

/// Checks `value` against the keywords that our schema uses; an unknown one is an error, so that none is overlooked.
fn check(root: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let keywords = match schema {
        Value::Bool(true) => return Ok(()),
        Value::Bool(false) => return Err(format!("{value} is not allowed")),
        _ => schema.as_object().ok_or("a schema is an object or a bool")?,
    };
    for (keyword, rule) in keywords {
        let holds = match keyword.as_str() {
            "$schema" | "$defs" | "$id" | "title" | "description" | "default" | "format" | "examples" | "pattern" => {
                true
            }
            "$ref" => {
                let target =
                    rule.as_str().and_then(|path| root.pointer(path.strip_prefix('#')?)).ok_or("a broken $ref")?;
                check(root, target, value).map(|()| true)?
            }
            "type" => types(rule).iter().any(|name| is(value, name)),
            "enum" => rule.as_array().unwrap().contains(value),
            "const" => rule == value,
            "anyOf" | "oneOf" => rule.as_array().unwrap().iter().any(|option| check(root, option, value).is_ok()),
            "allOf" => rule.as_array().unwrap().iter().all(|option| check(root, option, value).is_ok()),
            "not" => check(root, rule, value).is_err(),
            "required" => value
                .as_object()
                .is_none_or(|map| rule.as_array().unwrap().iter().all(|key| map.contains_key(key.as_str().unwrap()))),
            "properties" => {
                for (key, rule) in rule.as_object().unwrap() {
                    if let Some(value) = value.get(key) {
                        check(root, rule, value).map_err(|why| format!("{key}: {why}"))?;
                    }
                }
                true
            }
            "additionalProperties" => {
                let known = keywords.get("properties").and_then(Value::as_object);
                for (key, value) in value.as_object().into_iter().flatten() {
                    if !known.is_some_and(|known| known.contains_key(key)) {
                        check(root, rule, value).map_err(|why| format!("{key}: {why}"))?;
                    }
                }
                true
            }
            "minProperties" => value.as_object().is_none_or(|map| map.len() as u64 >= rule.as_u64().unwrap()),
            "maxProperties" => value.as_object().is_none_or(|map| map.len() as u64 <= rule.as_u64().unwrap()),
            "propertyNames" | "minLength" | "maxLength" => true,
            "minimum" => value.as_f64().is_none_or(|number| number >= rule.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|number| number <= rule.as_f64().unwrap()),
            "exclusiveMinimum" => value.as_f64().is_none_or(|number| number > rule.as_f64().unwrap()),
            unknown => return Err(format!("the test does not know the keyword {unknown}")),
        };
        if !holds {
            return Err(format!("{value} breaks {keyword}: {rule}"));
        }
    }
    Ok(())
}

fn types(rule: &Value) -> Vec<&str> {
    rule.as_array()
        .map_or_else(|| rule.as_str().into_iter().collect(), |all| all.iter().filter_map(Value::as_str).collect())
}

fn is(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        _ => false,
    }
}
