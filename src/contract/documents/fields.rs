//! The fields of a payload as rows of a table, from its schema.

use serde_json::{Map, Value};

const OR_NULL: &str = ", or null";

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    /// Where it stands: `host.board`, `cameras.<camera>.fps_in`, `detections[].label`.
    pub path: String,
    /// What it is made of, in words.
    pub form: String,
    /// Meaning, unit, range, when it is null.
    pub meaning: String,
}

/// Every field, in the order in which it is sent; the fields of an object follow it.
pub(super) fn fields_of(schema: &Value) -> Vec<Field> {
    let mut fields = Vec::new();
    add_fields(schema, schema, "", &mut fields);
    fields
}

/// Names of an object's fields in the order in which they are sent.
///
/// A schema's properties are sorted by name; the list of the required ones keeps the type's order. The
/// optional ones stand last in each type.
pub(super) fn names_of(schema: &Value) -> Vec<&str> {
    let required = required_names(schema);
    let all = schema["properties"].as_object().into_iter().flat_map(Map::keys).map(String::as_str);
    let optional: Vec<&str> = all.filter(|name| !required.contains(name)).collect();
    [required, optional].concat()
}

fn required_names(schema: &Value) -> Vec<&str> {
    schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Whether a schema is that of another one, or null.
pub(super) fn may_be_null(schema: &Value) -> bool {
    schema["anyOf"].as_array().is_some_and(|forms| forms.iter().any(|form| form["type"] == "null"))
}

/// The schema itself, or what it refers to, or what it is if it is not null.
pub(super) fn resolved<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let forms = schema["anyOf"].as_array();
    let schema = forms.and_then(|forms| forms.iter().find(|form| form["type"] != "null")).unwrap_or(schema);
    let pointer = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    pointer.and_then(|pointer| root.pointer(pointer)).unwrap_or(schema)
}

fn add_fields(root: &Value, object: &Value, prefix: &str, fields: &mut Vec<Field>) {
    for name in names_of(object) {
        let property = &object["properties"][name];
        let value = resolved(root, property);
        let path = format!("{prefix}{name}");
        let description = property["description"].as_str().unwrap_or_default();
        let words = [value, resolved(root, &value["items"])].map(words_in_text).concat();
        let meaning = format!("{description}{words}");
        let mut form = form_of(root, value);
        if may_be_null(property) {
            form += OR_NULL;
        }
        if !required_names(object).contains(&name) {
            // An optional field is left out where a required one would be null.
            form = format!("{}, or left out", form.trim_end_matches(OR_NULL));
        }
        fields.push(Field { path: path.clone(), form, meaning });
        if value["properties"].is_object() {
            add_fields(root, value, &format!("{path}."), fields);
        }
        let by_name = resolved(root, &value["additionalProperties"]);
        if by_name["properties"].is_object() {
            add_fields(root, by_name, &format!("{path}.<camera>."), fields);
        }
        let item = resolved(root, &value["items"]);
        if item["properties"].is_object() {
            add_fields(root, item, &format!("{path}[]."), fields);
        }
    }
}

/// The words of a field that has only a few, each with its meaning.
fn words_in_text(schema: &Value) -> String {
    let words = schema["oneOf"].as_array().into_iter().flatten();
    let text_of = |word: &Value, key: &str| word[key].as_str().unwrap_or_default().to_owned();
    words.map(|word| format!(" `{}`: {}", text_of(word, "const"), text_of(word, "description"))).collect()
}

fn form_of(root: &Value, schema: &Value) -> String {
    if schema["oneOf"].is_array() {
        return "one of these words".into();
    }
    if let [first, second] = not_null(schema)[..] {
        let of_type = |word: &Value| form_of(root, &serde_json::json!({"type": word}));
        return format!("{} or {}", of_type(first), of_type(second));
    }
    let (types, null) = types_of(schema);
    let form = match types {
        "string" => "text".into(),
        "integer" => "whole number".into(),
        "boolean" => "true or false".into(),
        "array" => {
            let item = form_of(root, resolved(root, &schema["items"]));
            let count = schema["maxItems"].as_u64().map(|count| format!(" of {count}"));
            format!("list{}: {item}", count.unwrap_or_default())
        }
        "object" if schema["additionalProperties"].is_object() => {
            format!("object by name: {}", form_of(root, resolved(root, &schema["additionalProperties"])))
        }
        other => other.to_owned(),
    };
    if null { format!("{form}{OR_NULL}") } else { form }
}

/// The types of a schema that has several, but for null.
fn not_null(schema: &Value) -> Vec<&Value> {
    schema["type"].as_array().into_iter().flatten().filter(|word| **word != "null").collect()
}

/// The type's word, and whether null is allowed, too.
fn types_of(schema: &Value) -> (&str, bool) {
    match &schema["type"] {
        Value::Array(several) => {
            let word = several.iter().filter_map(Value::as_str).find(|word| *word != "null");
            (word.unwrap_or_default(), several.iter().any(|word| word == "null"))
        }
        one => (one.as_str().unwrap_or_default(), false),
    }
}

#[test]
fn fields_come_in_the_order_of_the_type_with_those_of_nested_types_after_each() {
    let fields = fields_of(&super::schemas::schema_of("health"));
    let wanted = [
        "v",
        "state",
        "cpu_temp_c",
        "workers",
        "workers.total",
        "mqtt",
        "cameras",
        "cameras.<camera>.status",
    ];
    let found = fields.iter().map(|field| field.path.as_str()).filter(|path| wanted.contains(path));
    assert_eq!(found.collect::<Vec<_>>(), wanted);
}
