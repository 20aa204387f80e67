//! Whether a JSON value is what a schema describes, field by field: as much of JSON Schema as the payloads'
//! schemas use.
//!
//! Stricter than a consumer should be: fields that the schema does not know and optional ones that are
//! missing are complaints, because an example has to show everything and nothing else.

use super::fields::{may_be_null, resolved};
use serde_json::{Map, Value};

/// What is wrong with `value`, each with its place; empty if nothing is.
pub(super) fn complaints(schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(schema, schema, value, "", &mut found);
    found
}

fn check(root: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    if *schema == Value::Bool(true) {
        return;
    }
    if may_be_null(schema) && value.is_null() {
        return;
    }
    let schema = resolved(root, schema);
    if let Some(words) = schema["oneOf"].as_array() {
        if !words.iter().any(|word| word["const"] == *value) {
            found.push(format!("{at}: {value} is none of the words"));
        }
        return;
    }
    let wanted = &schema["type"];
    if !is_of_type(value, wanted) {
        found.push(format!("{at}: {value} is not of type {wanted}"));
        return;
    }
    if schema["minimum"].as_f64().is_some_and(|least| value.as_f64().is_some_and(|number| number < least)) {
        found.push(format!("{at}: {value} is too small"));
    }
    match value {
        Value::Object(fields) => check_fields(root, schema, fields, at, found),
        Value::Array(items) => check_items(root, schema, items, at, found),
        _ => {}
    }
}

fn check_fields(
    root: &Value,
    schema: &Value,
    fields: &Map<String, Value>,
    at: &str,
    found: &mut Vec<String>,
) {
    let properties = schema["properties"].as_object();
    for name in properties.into_iter().flat_map(Map::keys).filter(|name| !fields.contains_key(*name)) {
        found.push(format!("{at}/{name} is missing"));
    }
    for (name, value) in fields {
        let at = format!("{at}/{name}");
        let others = schema.get("additionalProperties").filter(|others| **others != Value::Bool(false));
        match properties.and_then(|known| known.get(name)).or(others) {
            Some(schema) => check(root, schema, value, &at, found),
            None => found.push(format!("{at} is unknown")),
        }
    }
}

fn check_items(root: &Value, schema: &Value, items: &[Value], at: &str, found: &mut Vec<String>) {
    let count = items.len() as u64;
    let too_few = schema["minItems"].as_u64().is_some_and(|least| count < least);
    let too_many = schema["maxItems"].as_u64().is_some_and(|most| count > most);
    if too_few || too_many {
        found.push(format!("{at} has {count} items"));
    }
    for (i, item) in items.iter().enumerate() {
        check(root, &schema["items"], item, &format!("{at}/{i}"), found);
    }
}

/// Whether the value is of the type, or of one of the types.
fn is_of_type(value: &Value, wanted: &Value) -> bool {
    match wanted {
        Value::Array(several) => several.iter().any(|one| is_of_type(value, one)),
        one => match one.as_str() {
            Some("string") => value.is_string(),
            Some("boolean") => value.is_boolean(),
            Some("integer") => value.is_i64() || value.is_u64(),
            Some("number") => value.is_number(),
            Some("array") => value.is_array(),
            Some("object") => value.is_object(),
            Some("null") => value.is_null(),
            _ => false,
        },
    }
}

#[test]
fn planted_mistakes_are_complained_about() {
    use serde_json::json;
    let schema = json!({
        "type": "object",
        "properties": {
            "count": {"type": "integer", "minimum": 0},
            "note": {"type": ["string", "null"]},
            "state": {"$ref": "#/$defs/State"},
            "ended": {"anyOf": [{"$ref": "#/$defs/State"}, {"type": "null"}]},
            "box": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
            "by_name": {"type": "object", "additionalProperties": {"type": "boolean"}},
        },
        "$defs": {"State": {"oneOf": [{"const": "ok"}, {"const": "failed"}]}},
    });
    let good = json!({"count": 1, "note": null, "state": "ok", "ended": null, "box": [0, 0.5], "by_name": {"a": true}});
    assert_eq!(complaints(&schema, &good), Vec::<String>::new());
    let planted = [
        ("count", json!(-1), "/count: -1 is too small"),
        ("ended", json!("never"), "/ended: \"never\" is none of the words"),
        ("state", json!(null), "/state: null is none of the words"),
        ("count", json!(1.5), "/count: 1.5 is not of type \"integer\""),
        ("count", json!(null), "/count: null is not of type \"integer\""),
        ("state", json!("OK"), "/state: \"OK\" is none of the words"),
        ("box", json!([0]), "/box has 1 items"),
        ("box", json!(["0", 1]), "/box/0: \"0\" is not of type \"number\""),
        ("by_name", json!({"a": 1}), "/by_name/a: 1 is not of type \"boolean\""),
        ("colour", json!(1), "/colour is unknown"),
    ];
    for (name, value, complaint) in planted {
        let mut wrong = good.clone();
        wrong[name] = value;
        assert_eq!(complaints(&schema, &wrong), [complaint]);
    }
    let mut wrong = good;
    wrong.as_object_mut().expect("an object").remove("note");
    assert_eq!(complaints(&schema, &wrong), ["/note is missing"]);
}
