//! JSON Schemas (draft 2020-12) of the payloads, from the types and their doc comments.
//!
//! They describe what retinad sends: fields may be added in any version, so a schema allows fields that it
//! does not know. That of requests, which retinad receives, allows no others.

use super::files::{compare_json, path};
use super::requests::AnyRequest;
use crate::contract::{
    Detections, Form, Health, Info, ModelState, ObjectEvent, Response, SCHEMA_VERSION, Spec, TOPICS, Tune,
};
use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, RestrictFormats};
use schemars::{JsonSchema, Schema};
use serde_json::Value;

/// Where the schemas stand.
pub(super) const FOLDER: &str = "schemas/mqtt/v1";

/// The rows whose payload is JSON, each with the name of its schema, as far as they are built.
pub(super) fn json_rows() -> impl Iterator<Item = (&'static str, &'static Spec)> {
    TOPICS.iter().filter(|spec| spec.built).filter_map(|spec| match spec.form {
        Form::Json(name) => Some((name, spec)),
        Form::Text | Form::Jpeg | Form::Discovery => None,
    })
}

/// The schema of the payload with this name.
pub(super) fn schema_of(name: &str) -> Value {
    let (_, spec) = json_rows().find(|(known, _)| *known == name).expect("a payload of the table");
    let mut schema = match name {
        "info" => root_schema::<Info>(),
        "health" => root_schema::<Health>(),
        "model" => root_schema::<ModelState>(),
        "detections" => root_schema::<Detections>(),
        "event" => root_schema::<ObjectEvent>(),
        "tune" => root_schema::<Tune>(),
        "request" => root_schema::<AnyRequest>(),
        "response" => root_schema::<Response>(),
        other => panic!("payload `{other}` has no type here"),
    };
    schema.insert("$id".into(), format!("urn:retinad:mqtt:v{SCHEMA_VERSION}:{name}").into());
    schema.insert("title".into(), format!("Payload of {}", spec.pattern).into());
    schema.to_value()
}

fn root_schema<T: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12()
        .for_serialize()
        .with_transform(RestrictFormats::default())
        .with_transform(RecursiveTransform(join_description_lines))
        .into_generator()
        .into_root_schema_for::<T>()
}

/// A doc comment is wrapped where the source is; a description is one line.
fn join_description_lines(schema: &mut Schema) {
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    }
}

#[test]
fn schemas_are_those_of_the_types() {
    for (name, _) in json_rows() {
        compare_json(&format!("{FOLDER}/{name}.schema.json"), &schema_of(name));
    }
}

#[test]
fn no_schema_stands_there_for_a_payload_that_is_not_built() {
    let files = std::fs::read_dir(path(FOLDER)).expect("the schemas' folder");
    for file in files {
        let name = file.expect("an entry").file_name().to_string_lossy().into_owned();
        let stem = name.strip_suffix(".schema.json");
        let known = json_rows().any(|(payload, _)| stem == Some(payload)) || name == "asyncapi.json";
        assert!(known, "{FOLDER}/{name} belongs to no payload");
    }
}

#[test]
fn every_field_is_described() {
    for (name, _) in json_rows() {
        for field in super::fields::fields_of(&schema_of(name)) {
            let (path, meaning) = (field.path, field.meaning);
            assert!(meaning.ends_with('.'), "{name}: {path}: `{meaning}` is no sentence");
        }
    }
}
