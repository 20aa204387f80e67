//! The examples of payloads in `docs/mqtt.md` are what the types read and write.

use super::conformance::complaints;
use super::files::read;
use super::manual::MANUAL;
use super::schemas::{json_rows, schema_of};
use crate::contract::{
    Availability, Command, Detections, Health, Incoming, Info, Kind, ModelState, Names, ObjectEvent,
    Response, Tune, Way,
};
use crate::contract::{on_off, threshold_text};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;

/// The JSON that follows the payload's marker.
fn example_of(manual: &str, payload: &str) -> String {
    let marker = format!("<!-- example of {payload}: read by a test -->\n\n```json\n");
    let after = manual.split_once(&marker).unwrap_or_else(|| panic!("{MANUAL} lacks `{marker}`")).1;
    after.split_once("```").expect("the block's end").0.to_owned()
}

/// What the payload's type makes of the example.
fn read_and_written_again(payload: &str, example: &str) -> Value {
    match payload {
        "info" => again::<Info>(example),
        "health" => again::<Health>(example),
        "model" => again::<ModelState>(example),
        "detections" => again::<Detections>(example),
        "event" => again::<ObjectEvent>(example),
        "response" => again::<Response>(example),
        "tune" => again::<Tune>(example),
        "request" => {
            let incoming = Incoming::read(&Arc::from("feedback"), example.as_bytes());
            assert!(incoming.asked.is_ok(), "{incoming:?}");
            serde_json::from_str(example).expect("JSON")
        }
        other => panic!("payload `{other}` has no type here"),
    }
}

fn again<T: DeserializeOwned + Serialize>(example: &str) -> Value {
    let read: T = serde_json::from_str(example).unwrap_or_else(|error| panic!("{error} in {example}"));
    serde_json::to_value(&read).expect("plain data becomes JSON")
}

/// What is wrong with an example. One request or response has no fields of others, so theirs may be missing.
fn wrong_in(payload: &str, example: &Value) -> Vec<String> {
    let schema = schema_of(payload);
    let required = |path: &str| {
        let mut names = schema["required"].as_array().into_iter().flatten();
        !matches!(payload, "request" | "response")
            || names.any(|name| path == format!("/{} is missing", name.as_str().unwrap_or_default()))
    };
    let mut found = complaints(&schema, example);
    found.retain(|complaint| !complaint.ends_with(" is missing") || required(complaint));
    found
}

#[test]
fn each_payload_has_an_example_with_every_field_and_no_other() {
    let manual = read(MANUAL);
    for (name, spec) in json_rows() {
        let example = example_of(&manual, name);
        let value: Value = serde_json::from_str(&example).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(wrong_in(name, &value), Vec::<String>::new(), "example of {name}");
        assert_eq!(read_and_written_again(name, &example), value, "example of {name}");
        assert!(example.len() <= spec.max_bytes, "{name}: {} bytes", example.len());
    }
}

#[test]
fn a_field_too_many_or_too_few_in_an_example_is_found() {
    let manual = read(MANUAL);
    for (name, _) in json_rows().filter(|(_, spec)| matches!(spec.way, Way::Out(_))) {
        let mut value: Value = serde_json::from_str(&example_of(&manual, name)).expect("JSON");
        value["unknown_field"] = 1.into();
        assert_eq!(wrong_in(name, &value), ["/unknown_field is unknown"], "{name}");
        let fields = value.as_object_mut().expect("an object");
        fields.remove("unknown_field");
        fields.remove("v");
        assert_eq!(wrong_in(name, &value), ["/v is missing"], "{name}");
    }
}

#[test]
fn the_words_of_text_topics_stand_in_the_manual() {
    let manual = read(MANUAL);
    let availability = [Availability::Online, Availability::Offline, Availability::Disabled];
    let switches = [on_off(true), on_off(false)];
    let threshold = threshold_text(0.55);
    let words = availability.map(Availability::word).into_iter().chain(switches).chain([threshold.as_str()]);
    for word in words {
        assert!(manual.contains(&format!("`{word}`")), "`{word}` is missing in {MANUAL}");
    }
}

/// The commands of the manual's examples: `mosquitto_pub -t TOPIC -m MESSAGE`.
pub(super) fn commands(manual: &str) -> Vec<(&str, &str)> {
    let lines = manual.lines().filter_map(|line| line.trim().strip_prefix("mosquitto_pub -t "));
    lines.filter_map(|line| line.split('#').next()?.trim().split_once(" -m ")).collect()
}

#[test]
fn the_manuals_commands_are_accepted() {
    let (manual, names) = (read(MANUAL), Names::new("retinad", "pi-porch"));
    let commands = commands(&manual);
    for kind in [Kind::DetectSet, Kind::ThresholdSet] {
        let mut kinds = commands.iter().filter_map(|(full, _)| Some(names.parse(full)?.kind()));
        assert!(kinds.any(|shown| shown == kind), "{MANUAL} shows no command on {}", kind.spec().pattern);
    }
    for (full, message) in commands {
        let topic = names.parse(full).unwrap_or_else(|| panic!("{full} is no topic"));
        if topic.kind() == Kind::Request {
            continue;
        }
        if let Err(error) = Command::read(&topic, full, message.as_bytes(), false) {
            panic!("{full} {message}: {error}");
        }
    }
}
