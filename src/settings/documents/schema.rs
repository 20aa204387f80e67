//! A JSON Schema (draft 2020-12) of the settings file, for editors.

use crate::geometry::MOST_POINTS;
use crate::settings::CameraKind;
use crate::settings::keys::{self, CAMERA_KIND, CAMERAS, Key, NAMED, NameRule, Named, SECTIONS, paragraph};
use crate::settings::value::{TextRule, ValueType};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// The text of `schemas/retinad.schema.json`.
#[must_use]
pub fn json_schema() -> String {
    let mut root = Schema {
        dialect: Some("https://json-schema.org/draft/2020-12/schema"),
        title: Some("retinad settings"),
        description: Some(
            "Settings of retinad, as TOML. Written from the keys in src/settings/; do not edit.".into(),
        ),
        ..Schema::object()
    };
    for section in &SECTIONS {
        let keys = section.keys.iter().map(|key| (key.name.to_owned(), of_key(key)));
        if section.name.is_empty() {
            root.properties.extend(keys);
        } else {
            let description = Some(paragraph(section.about));
            let schema = Schema { description, properties: keys.collect(), ..Schema::object() };
            match section.name.split_once('.') {
                Some((above, name)) => {
                    let above = root.properties.entry(above.into()).or_insert_with(Schema::object);
                    above.properties.insert(name.into(), schema);
                }
                None => drop(root.properties.insert(section.name.into(), schema)),
            }
        }
    }
    root.properties.insert(CAMERAS.into(), cameras());
    serde_json::to_string_pretty(&root).expect("a schema has text for keys and no number that JSON lacks")
        + "\n"
}

/// The cameras by id. Of the kinds exactly one fits, because each but the default must be named by `kind`.
fn cameras() -> Schema {
    let id = Schema { pattern: TextRule::Id.pattern(), not: Some(Box::new(taken())), ..Schema::default() };
    let camera =
        Schema { one_of: CameraKind::ALL.iter().map(|kind| camera(*kind)).collect(), ..Schema::default() };
    Schema {
        kind: Some("object"),
        description: Some("Cameras by id.".into()),
        property_names: Some(Box::new(id)),
        additional_properties: Some(Additional::Schema(Box::new(camera))),
        ..Schema::default()
    }
}

fn taken() -> Schema {
    Schema { one_of_values: keys::TAKEN_IDS.iter().map(|id| Value::from(*id)).collect(), ..Schema::default() }
}

fn camera(kind: CameraKind) -> Schema {
    let all = keys::camera_keys(kind).iter().chain(keys::common_camera_keys());
    let is_default = CAMERA_KIND.default == format!("\"{}\"", kind.as_str());
    let mut required: Vec<&'static str> =
        all.clone().filter(|key| key.must_be_given()).map(|key| key.name).collect();
    if !is_default {
        required.push(CAMERA_KIND.name);
    }
    let mut properties: BTreeMap<String, Schema> =
        all.map(|key| (key.name.to_owned(), of_key(key))).collect();
    let description = Some(CAMERA_KIND.paragraph());
    properties.insert(
        CAMERA_KIND.name.into(),
        Schema { description, constant: Some(kind.as_str()), ..Schema::default() },
    );
    properties.extend(NAMED.iter().map(|named| (named.name.to_owned(), of_group(named))));
    Schema { properties, required, ..Schema::object() }
}

/// What stands below a camera by name.
fn of_group(named: &Named) -> Schema {
    let required = named.keys.iter().filter(|key| key.must_be_given()).map(|key| key.name).collect();
    let properties = named.keys.iter().map(|key| (key.name.to_owned(), of_key(key))).collect();
    let one = Schema { required, properties, ..Schema::object() };
    let names = match named.names {
        NameRule::Label => Schema { min_length: Some(1), ..Schema::default() },
        NameRule::Free => {
            let taken = keys::TAKEN_NAMES.iter().map(|name| Value::from(*name)).collect();
            let taken = Schema { one_of_values: taken, ..Schema::default() };
            Schema { pattern: TextRule::Id.pattern(), not: Some(Box::new(taken)), ..Schema::default() }
        }
    };
    Schema {
        kind: Some("object"),
        description: Some(paragraph(named.about)),
        property_names: Some(Box::new(names)),
        additional_properties: Some(Additional::Schema(Box::new(one))),
        ..Schema::default()
    }
}

/// One key: its type, limits, default and meaning.
fn of_key(key: &Key) -> Schema {
    let mut schema = Schema {
        description: Some(format!("{} {}", key.paragraph(), super::facts(key))),
        default: (!key.must_be_given()).then(|| default(key)),
        ..Schema::default()
    };
    match &key.value {
        ValueType::Text(rule) => (schema.kind, schema.pattern) = (Some("string"), rule.pattern()),
        ValueType::Path => schema.kind = Some("string"),
        ValueType::GivenPath => (schema.kind, schema.min_length) = (Some("string"), Some(1)),
        ValueType::Word(words) => {
            schema.one_of_values = words.iter().map(|word| Value::from(word.text)).collect()
        }
        ValueType::Whole { min, max } => schema.limits("integer", (*min).into(), (*max).into()),
        ValueType::Choice(numbers) => {
            schema.one_of_values = numbers.iter().copied().map(Value::from).collect();
        }
        ValueType::WholeOr { min, max, word } => {
            let mut number = Schema::default();
            number.limits("integer", (*min).into(), (*max).into());
            schema.any_of = vec![number, Schema { constant: Some(word), ..Schema::default() }];
        }
        ValueType::Number { min, max } => schema.limits("number", (*min).into(), (*max).into()),
        ValueType::Switch => schema.kind = Some("boolean"),
        ValueType::Texts => {
            schema.kind = Some("array");
            schema.items = Some(Box::new(Schema { kind: Some("string"), ..Schema::default() }));
        }
        ValueType::Words(words) => {
            schema.kind = Some("array");
            let one_of_values = words.iter().copied().map(Value::from).collect();
            schema.items = Some(Box::new(Schema { one_of_values, ..Schema::default() }));
        }
        ValueType::Labels => {
            let label = Schema { kind: Some("string"), min_length: Some(1), ..Schema::default() };
            (schema.kind, schema.items) = (Some("array"), Some(Box::new(label)));
        }
        ValueType::Area => schema.points(3, MOST_POINTS),
        ValueType::Line => schema.points(2, 2),
    }
    schema
}

/// The default of a key as JSON: the table has it as TOML.
fn default(key: &Key) -> Value {
    let table: BTreeMap<String, Value> =
        toml::from_str(&format!("default = {}", key.default)).expect("defaults are TOML");
    table.into_values().next().unwrap_or_default()
}

/// The words of JSON Schema that are needed here; what is empty is left out.
#[derive(Debug, Default, Serialize)]
struct Schema {
    #[serde(rename = "$schema", skip_serializing_if = "Option::is_none")]
    dialect: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(rename = "const", skip_serializing_if = "Option::is_none")]
    constant: Option<&'static str>,
    #[serde(rename = "enum", skip_serializing_if = "Vec::is_empty")]
    one_of_values: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    minimum: Option<serde_json::Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    maximum: Option<serde_json::Number>,
    #[serde(rename = "minLength", skip_serializing_if = "Option::is_none")]
    min_length: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pattern: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    items: Option<Box<Schema>>,
    #[serde(rename = "minItems", skip_serializing_if = "Option::is_none")]
    min_items: Option<usize>,
    #[serde(rename = "maxItems", skip_serializing_if = "Option::is_none")]
    max_items: Option<usize>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    properties: BTreeMap<String, Schema>,
    #[serde(rename = "propertyNames", skip_serializing_if = "Option::is_none")]
    property_names: Option<Box<Schema>>,
    #[serde(rename = "additionalProperties", skip_serializing_if = "Option::is_none")]
    additional_properties: Option<Additional>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    required: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not: Option<Box<Schema>>,
    #[serde(rename = "anyOf", skip_serializing_if = "Vec::is_empty")]
    any_of: Vec<Schema>,
    #[serde(rename = "oneOf", skip_serializing_if = "Vec::is_empty")]
    one_of: Vec<Schema>,
}

/// Properties that are not named: none, or ones of this form.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Additional {
    Allowed(bool),
    Schema(Box<Schema>),
}

impl Schema {
    /// An object with no properties but those that are added.
    fn object() -> Self {
        Self {
            kind: Some("object"),
            additional_properties: Some(Additional::Allowed(false)),
            ..Self::default()
        }
    }

    /// A list of points, each two shares of the picture.
    fn points(&mut self, least: usize, most: usize) {
        let mut share = Self::default();
        share.limits("number", 0.0.into(), 1.0.into());
        let list = |items: Self, least, most| Self {
            kind: Some("array"),
            items: Some(Box::new(items)),
            min_items: Some(least),
            max_items: Some(most),
            ..Self::default()
        };
        let points = list(list(share, 2, 2), least, most);
        (self.kind, self.items) = (points.kind, points.items);
        (self.min_items, self.max_items) = (points.min_items, points.max_items);
    }

    fn limits(&mut self, kind: &'static str, min: Limit, max: Limit) {
        (self.kind, self.minimum, self.maximum) = (Some(kind), min.0, max.0);
    }
}

/// A limit as JSON writes it: whole where the type is.
struct Limit(Option<serde_json::Number>);

impl From<u32> for Limit {
    fn from(whole: u32) -> Self {
        Self(Some(whole.into()))
    }
}

impl From<f64> for Limit {
    fn from(number: f64) -> Self {
        Self(serde_json::Number::from_f64(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_has_each_key_with_its_default_and_limits() {
        let schema: Value = serde_json::from_str(&json_schema()).expect("JSON");
        let min_score = &schema["properties"]["detector"]["properties"]["min_score"];
        assert_eq!((&min_score["minimum"], &min_score["maximum"]), (&Value::from(0.05), &Value::from(0.99)));
        for section in &SECTIONS {
            let root = &schema["properties"];
            let levels = section.name.split('.').filter(|level| !level.is_empty());
            let keys = levels.fold(root, |above, level| &above[level]["properties"]);
            for key in section.keys {
                assert_eq!(keys[key.name]["default"], default(key), "{}.{}", section.name, key.name);
            }
        }
        assert_eq!(schema["additionalProperties"], Value::from(false));
        assert_eq!(
            schema["properties"][CAMERAS]["additionalProperties"]["oneOf"].as_array().map(Vec::len),
            Some(3)
        );
    }
}
