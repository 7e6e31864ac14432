//! The schema for editors and the parser know the same keys.

use serde_json::Value;

use super::super::layout;
use super::*;

/// The objects of the schema that have this set of keys as their properties.
fn has_block(schema: &Value, keys: &[&str]) -> bool {
    let mut wanted: Vec<&str> = keys.to_vec();
    wanted.sort_unstable();
    blocks(schema).iter().any(|block| {
        let mut found: Vec<&str> = block["properties"].as_object().expect("a map").keys().map(String::as_str).collect();
        found.sort_unstable();
        found == wanted
    })
}

/// Every object with fixed keys, the root first.
fn blocks(schema: &Value) -> Vec<&Value> {
    let definitions = schema["$defs"].as_object().expect("definitions").values();
    std::iter::once(schema).chain(definitions).filter(|block| block.get("properties").is_some()).collect()
}

#[test]
fn the_schema_has_the_keys_that_are_read() {
    let schema = json_schema(&[]);
    for layout in layout::ALL {
        assert!(has_block(&schema, layout.keys), "`{}` has other keys in the schema", layout.path);
    }
    assert_eq!(blocks(&schema).len(), layout::ALL.len());
}

#[test]
fn unknown_keys_are_refused_and_all_keys_are_described() {
    let schema = json_schema(&context().entries);
    let train = &schema["$defs"]["Train"];
    assert_eq!(train["anyOf"][0]["properties"]["entry"]["enum"], serde_json::json!(["mlp", "cnn"]));
    assert_eq!(train["anyOf"][1]["required"], serde_json::json!(["artifact"]));
    for block in blocks(&schema) {
        assert_eq!(block["additionalProperties"], Value::Bool(false), "{block:#}");
        for (key, property) in block["properties"].as_object().expect("a map") {
            assert!(property["description"].is_string(), "`{key}` is not described");
        }
    }
}

#[test]
fn nothing_is_no_value() {
    assert!(!json_schema(&context().entries).to_string().contains("null"));
}
