//! The AsyncAPI document (version 3.0.0) of the topics that are built.
//!
//! Channels, messages and operations are named after the topic's pattern: `<cam>/detect/set` is
//! `camera_detect_set`. An operation says what retinad does: it *sends* what it publishes and *receives*
//! commands.

use super::files::compare_json;
use super::schemas::FOLDER;
use crate::contract::{Availability, Form, Kind, SCHEMA_VERSION, Spec, TOPICS, Topic, Way, on_off};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Version of AsyncAPI's MQTT binding.
const BINDING: &str = "0.2.0";

fn built() -> impl Iterator<Item = &'static Spec> {
    TOPICS.iter().filter(|spec| spec.built)
}

fn document() -> Value {
    json!({
        "asyncapi": "3.0.0",
        "id": format!("urn:retinad:mqtt:v{SCHEMA_VERSION}"),
        "info": {
            "title": "retinad",
            "version": SCHEMA_VERSION.to_string(),
            "description": "What retinad says over MQTT. docs/mqtt.md says the same for people.",
        },
        "defaultContentType": "application/json",
        "servers": {
            "broker": {
                "host": "127.0.0.1:1883",
                "protocol": "mqtt",
                "protocolVersion": "3.1.1",
                "description": "The broker of the settings (mqtt.host, mqtt.port).",
            },
        },
        "channels": by_name(channel),
        "operations": by_name(operation),
        "components": {"messages": by_name(message), "parameters": parameters()},
    })
}

/// One entry for each topic, under its name.
fn by_name(entry: fn(&Spec) -> Value) -> Value {
    Value::Object(built().map(|spec| (name_of(spec), entry(spec))).collect())
}

/// `<cam>/detect/set` becomes `camera_detect_set`.
fn name_of(spec: &Spec) -> String {
    spec.pattern.trim_start_matches('/').replace("<cam>", "camera").replace(['<', '>'], "").replace('/', "_")
}

/// `<cam>/<label>` becomes `{base}/{node}/{camera}/{label}`.
fn address_of(spec: &Spec) -> String {
    let below = spec.pattern.replace("<cam>", "<camera>").replace('<', "{").replace('>', "}");
    below.strip_prefix('/').map_or_else(|| format!("{{base}}/{{node}}/{below}"), str::to_owned)
}

fn channel(spec: &Spec) -> Value {
    let (name, address) = (name_of(spec), address_of(spec));
    let names = address.split('/').filter_map(|level| level.strip_prefix('{')?.strip_suffix('}'));
    let referred = |name: &str| (name.to_owned(), reference(&["components", "parameters", name]));
    let parameters: Map<String, Value> = names.map(referred).collect();
    json!({
        "address": address,
        "messages": {&name: reference(&["components", "messages", &name])},
        "parameters": parameters,
    })
}

fn operation(spec: &Spec) -> Value {
    let name = name_of(spec);
    let (action, qos, retain) = match spec.way {
        Way::Out(class) => ("send", class.qos(), class.retained()),
        // Whether a command is retained is the sender's choice, and a retained one is refused.
        Way::In(qos) => ("receive", qos, false),
    };
    let mut operation = json!({
        "action": action,
        "channel": reference(&["channels", &name]),
        "messages": [reference(&["channels", &name, "messages", &name])],
        "summary": spec.when,
        "bindings": {"mqtt": {"qos": qos, "retain": retain, "bindingVersion": BINDING}},
    });
    if let Some(answer) = answer_of(spec.kind) {
        operation["reply"] = json!({"channel": reference(&["channels", &name_of(answer.spec())])});
    }
    operation
}

/// The topic on which a command is answered.
fn answer_of(kind: Kind) -> Option<Topic> {
    if kind == Kind::Request {
        return Topic::of_verb(kind, &Arc::from("verb")).answer();
    }
    let is_command = matches!(kind.spec().way, Way::In(_)) && kind.spec().pattern.starts_with("<cam>/");
    is_command.then(|| Topic::of_camera(kind, &Arc::from("camera")).answer()).flatten()
}

fn message(spec: &Spec) -> Value {
    let (content_type, payload) = match spec.form {
        Form::Json(name) => ("application/json", json!({"$ref": format!("./{name}.schema.json")})),
        Form::Discovery => (
            "application/json",
            json!({"type": "object", "description": "A device in the form of Home Assistant's MQTT discovery."}),
        ),
        Form::Text => ("text/plain", text_schema(spec.kind)),
        Form::Jpeg => ("image/jpeg", json!({"type": "string", "format": "binary"})),
    };
    json!({
        "name": name_of(spec),
        "contentType": content_type,
        "payload": payload,
        "x-max-bytes": spec.max_bytes,
    })
}

/// What a text may be.
fn text_schema(kind: Kind) -> Value {
    let words = |words: &[Availability]| json!({"type": "string", "enum": words});
    match kind {
        Kind::Status => words(&[Availability::Online, Availability::Offline]),
        Kind::CameraStatus => words(&[Availability::Online, Availability::Offline, Availability::Disabled]),
        Kind::All | Kind::Count | Kind::ZoneCount | Kind::LineRight | Kind::LineLeft => {
            json!({"type": "string", "pattern": "^[0-9]+$"})
        }
        // The words of its birth and will are Home Assistant's defaults.
        Kind::HomeAssistantStatus => words(&[Availability::Online, Availability::Offline]),
        Kind::DetectState | Kind::SnapshotsState | Kind::Motion => {
            json!({"type": "string", "enum": [on_off(true), on_off(false)]})
        }
        Kind::DetectSet | Kind::SnapshotsSet => {
            json!({"type": "string", "pattern": "^\\s*([oO][nN]|[oO][fF][fF])\\s*$"})
        }
        Kind::ThresholdState => json!({"type": "string", "pattern": "^0\\.[0-9]{2}$"}),
        Kind::ThresholdSet => json!({
            "type": "string",
            "pattern": "^\\s*[0-9]*\\.?[0-9]*\\s*$",
            "description": "A decimal from 0.05 to 0.99.",
        }),
        other => panic!("{other:?} has no text of which the form is known here"),
    }
}

fn parameters() -> Value {
    json!({
        "base": {
            "description": "mqtt.base of the settings: 1 to 3 levels, shared by all machines.",
            "default": "retinad",
        },
        "node": {
            "description": "The machine's name: node of the settings, else from the host name.",
            "examples": ["pi-porch"],
        },
        "camera": {
            "description": "The camera's id: the name of its section in the settings.",
            "examples": ["front"],
        },
        "id": {
            "description": "A device: retinad_<node> or retinad_<node>_<camera>, each `_` of a name doubled.",
            "examples": ["retinad_pi-porch", "retinad_pi-porch_front"],
        },
        "verb": {
            "description": "What is asked for; some verbs have two levels.",
            "enum": crate::verb::NAMES,
        },
        "label": {
            "description": "A label as cameras.<camera>.labels of bridge/info spells it.",
            "examples": ["person", "traffic_light"],
        },
        "zone": {
            "description": "A zone's name, as cameras.<camera>.zones of bridge/info lists it.",
            "examples": ["drive"],
        },
        "line": {
            "description": "A line's name, as cameras.<camera>.lines of bridge/info lists it.",
            "examples": ["gate"],
        },
    })
}

fn reference(path: &[&str]) -> Value {
    json!({"$ref": format!("#/{}", path.join("/"))})
}

#[test]
fn the_asyncapi_document_is_that_of_the_table_of_topics() {
    compare_json(&format!("{FOLDER}/asyncapi.json"), &document());
}

#[test]
fn every_reference_of_the_asyncapi_document_leads_somewhere() {
    let document = document();
    let mut open = vec![&document];
    let mut references = 0;
    while let Some(value) = open.pop() {
        match value {
            Value::Object(fields) => open.extend(fields.values()),
            Value::Array(items) => open.extend(items),
            _ => {}
        }
        let Some(reference) = value["$ref"].as_str() else { continue };
        references += 1;
        match reference.strip_prefix('#') {
            Some(pointer) => assert!(document.pointer(pointer).is_some(), "{reference}"),
            None => assert!(super::files::path(FOLDER).join(reference).exists(), "{reference}"),
        }
    }
    assert!(references > 4 * built().count(), "only {references} references found");
}

#[test]
fn a_command_is_replied_to_on_its_state() {
    let reply = &document()["operations"]["camera_threshold_set"]["reply"]["channel"]["$ref"];
    assert_eq!(reply, "#/channels/camera_threshold_state");
}
