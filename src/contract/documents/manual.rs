//! The generated parts of `docs/mqtt.md`: the table of topics, and the fields of each payload.
//!
//! A part stands between a marker, which names its source, and `<!-- end -->`. Everything else in the
//! document is written by hand.

use super::fields::fields_of;
use super::files::{compare_text, read};
use super::requests::verb_table;
use super::schemas::{json_rows, schema_of};
use crate::contract::discovery::{CameraFacts, camera_device};
use crate::contract::{CommandError, Form, Kind, Names, Problem, Spec, TOPICS, Way};
use crate::verb::Verb;
use std::fmt::Write;
use std::sync::Arc;

/// The document.
pub(super) const MANUAL: &str = "docs/mqtt.md";
const TOPICS_MARKER: &str = "<!-- topics: written from src/contract/topic.rs -->";
const VERBS_MARKER: &str = "<!-- verbs: written from src/verb.rs -->";
const DISCOVERY_MARKER: &str = "<!-- discovery of a camera: written from src/contract/discovery.rs -->";
const END: &str = "<!-- end -->";

/// The document with its generated parts as the types say; the rest stays as it is.
fn with_generated_parts(manual: &str) -> String {
    let topics = replace_part(manual, TOPICS_MARKER, &topic_table());
    let with_fields = |manual: String, name| replace_part(&manual, &fields_marker(name), &field_table(name));
    let verbs = replace_part(&topics, VERBS_MARKER, &verb_table());
    let discovery = replace_part(&verbs, DISCOVERY_MARKER, &discovery_example());
    json_rows().map(|(name, _)| name).fold(discovery, with_fields)
}

/// What Home Assistant is told of a camera that tells one label.
fn discovery_example() -> String {
    let (names, camera) = (Names::new("retinad", "pi-porch"), Arc::from("front"));
    let (device, left_out) = camera_device(&CameraFacts {
        node: "pi-porch",
        names: &names,
        camera: &camera,
        model: "retinad-m-320-int8",
        labels: &[("person".to_owned(), Arc::from("person"))],
        places: &[],
        pictures: true,
        allow: &[Verb::Snapshot.spec().name.to_owned()],
    });
    assert_eq!(left_out, 0);
    let mut value = serde_json::to_value(&device).expect("plain data becomes JSON");
    // The program's own version would make the document another one with each release.
    (value["dev"]["sw"], value["o"]["sw"]) = ("1.0.0".into(), "1.0.0".into());
    format!("```json\n{value:#}\n```\n")
}

fn fields_marker(payload: &str) -> String {
    let file = match payload {
        "detections" | "event" | "response" | "tune" => payload,
        "request" => "documents/requests",
        _ => "bridge",
    };
    format!("<!-- fields of {payload}: written from src/contract/{file}.rs -->")
}

/// Puts `part` between a marker and the end that follows it.
fn replace_part(text: &str, marker: &str, part: &str) -> String {
    assert_eq!(text.matches(marker).count(), 1, "{MANUAL} needs exactly one line `{marker}`");
    let (before, after) = text.split_once(marker).expect("it was just found");
    let (_, after) =
        after.split_once(END).unwrap_or_else(|| panic!("{MANUAL} lacks `{END}` after `{marker}`"));
    format!("{before}{marker}\n\n{part}\n{END}{after}")
}

/// The table of topics: first what is built, then the plan.
fn topic_table() -> String {
    let mut table =
        String::from("| topic | sent by | payload | QoS | retained | at most | when, or what for |\n");
    table.push_str("|---|---|---|---|---|---|---|\n");
    let (built, planned): (Vec<&Spec>, Vec<&Spec>) = TOPICS.iter().partition(|spec| spec.built);
    built.into_iter().chain(planned).for_each(|spec| add_topic_row(spec, &mut table));
    table
}

fn add_topic_row(spec: &Spec, table: &mut String) {
    let name = spec.pattern.trim_start_matches('/');
    let mark = if spec.built { "" } else { " (planned)" };
    let (sender, qos, retained) = match spec.way {
        Way::Out(class) => ("retinad", class.qos(), if class.retained() { "yes" } else { "no" }),
        Way::In(qos) if spec.pattern.starts_with('/') => ("Home Assistant", qos, "no"),
        Way::In(qos) => ("you", qos, "no"),
    };
    let (payload, limit) = (payload_words(spec), bytes_in_words(spec.max_bytes));
    let delivery = format!("{qos} | {retained} | {limit}");
    let row = writeln!(table, "| `{name}`{mark} | {sender} | {payload} | {delivery} | {} |", spec.when);
    row.expect("a String takes everything");
}

fn payload_words(spec: &Spec) -> String {
    match spec.form {
        Form::Text => "text".into(),
        Form::Jpeg => "JPEG".into(),
        Form::Discovery => "[JSON](#home-assistants-discovery)".into(),
        Form::Json(_) if spec.built => format!("[JSON](#{})", anchor_of(spec.pattern)),
        Form::Json(_) => "JSON".into(),
    }
}

/// What a link to the heading of this pattern is called: letters only, as GitHub and other readers of
/// Markdown make it.
fn anchor_of(pattern: &str) -> String {
    pattern.chars().filter(char::is_ascii_alphanumeric).collect()
}

fn bytes_in_words(bytes: usize) -> String {
    if bytes.is_multiple_of(1024) { format!("{} KiB", bytes / 1024) } else { format!("{bytes} B") }
}

fn field_table(payload: &str) -> String {
    let mut table = String::from("| field | what it is | meaning |\n|---|---|---|\n");
    for field in fields_of(&schema_of(payload)) {
        let meaning = field.meaning.replace('|', "\\|");
        writeln!(table, "| `{}` | {} | {meaning} |", field.path, field.form)
            .expect("a String takes everything");
    }
    table
}

#[test]
fn the_manuals_tables_are_those_of_the_types() {
    compare_text(MANUAL, &with_generated_parts(&read(MANUAL)));
}

/// The ids that the manual promises in words are those of the message.
#[test]
fn the_promised_entity_ids_are_those_that_are_told() {
    let (manual, message) = (read(MANUAL), discovery_example());
    let promised: Vec<&str> = manual
        .split('`')
        .filter(|word| {
            let is_of_a_place = word.contains("_drive_") || word.contains("_gate_");
            word.contains(".pi_porch_front_") && !is_of_a_place && !word.contains('\n')
        })
        .collect();
    assert!(promised.len() >= 7, "{promised:?}");
    for id in promised {
        assert!(message.contains(&format!("\"{id}\"")), "{MANUAL} promises {id}");
    }
}

#[test]
fn each_payload_has_a_section_of_its_own() {
    let manual = read(MANUAL);
    for (_, spec) in json_rows() {
        assert!(manual.contains(&format!("\n### `{}`\n", spec.pattern)), "{} has no section", spec.pattern);
    }
}

#[test]
fn only_what_stands_between_the_markers_is_replaced() {
    let text = "before\n<!-- x -->\nold\n<!-- end -->\nafter\n<!-- end -->\n";
    let wanted = "before\n<!-- x -->\n\nnew\n\n<!-- end -->\nafter\n<!-- end -->\n";
    assert_eq!(replace_part(text, "<!-- x -->", "new\n"), wanted);
}

/// Fills the placeholders of a pattern with names that no word of the contract is.
fn filled(pattern: &str) -> String {
    let example = |level: &str| match level {
        "<cam>" => "front".to_owned(),
        "<label>" => "person".to_owned(),
        other => other.replace(['<', '>'], ""),
    };
    pattern.split('/').map(example).collect::<Vec<_>>().join("/")
}

#[test]
fn every_topic_of_the_manual_is_parsed_as_the_topic_of_its_row() {
    let (manual, names) = (read(MANUAL), Names::new("retinad", "pi-porch"));
    let table = manual.split_once(TOPICS_MARKER).and_then(|(_, rest)| rest.split_once(END));
    let (rows, _) = table.expect("the table of topics");
    let patterns: Vec<&str> =
        rows.lines().filter_map(|row| row.strip_prefix("| `")?.split('`').next()).collect();
    assert_eq!(patterns.len(), TOPICS.len());
    // A topic has room for two names, and this planned one has three.
    for pattern in patterns.into_iter().filter(|pattern| *pattern != Kind::ZoneCount.spec().pattern) {
        let row = TOPICS.iter().find(|spec| spec.pattern.trim_start_matches('/') == pattern);
        let spec = row.unwrap_or_else(|| panic!("`{pattern}` is no topic"));
        let root = if spec.pattern.starts_with('/') { "" } else { "retinad/pi-porch/" };
        let topic = names.parse(&format!("{root}{}", filled(pattern)));
        assert_eq!(topic.map(|topic| topic.kind()), Some(spec.kind), "{pattern}");
    }
}

/// One of each kind of problem. Whoever adds a kind is stopped here by the compiler.
fn problems() -> Vec<Problem> {
    let name: Arc<str> = Arc::from("front");
    let filter: Arc<str> = Arc::from("retinad/pi-porch/front/detect/set");
    let all = vec![
        Problem::CameraOffline(Arc::clone(&name)),
        Problem::CameraDamaged(name),
        Problem::ClockUnsynced,
        Problem::Undervoltage,
        Problem::ThermalThrottle,
        Problem::DiskLow,
        Problem::StateNotKept,
        Problem::SubscribeRefused(filter),
        Problem::ModelFallback,
    ];
    for problem in &all {
        match problem {
            Problem::CameraOffline(_) | Problem::CameraDamaged(_) | Problem::SubscribeRefused(_) => {}
            Problem::ClockUnsynced | Problem::Undervoltage | Problem::ThermalThrottle => {}
            Problem::DiskLow | Problem::StateNotKept | Problem::ModelFallback => {}
        }
    }
    all
}

#[test]
fn every_code_of_health_stands_in_the_manual() {
    let manual = read(MANUAL);
    for problem in problems() {
        let code = problem.to_string();
        let kind = code.split_once(':').map_or(format!("`{code}`"), |(kind, _)| format!("`{kind}:<"));
        assert!(manual.contains(&kind), "{kind} is missing in {MANUAL}");
    }
}

#[test]
fn the_log_lines_of_refused_commands_stand_in_the_manual() {
    let manual = read(MANUAL);
    let topic = "retinad/pi-porch/front/detect/set".to_owned();
    let errors = [
        CommandError::Retained { topic },
        CommandError::TooLarge { bytes: 10_000_000, limit: Kind::DetectSet.spec().max_bytes },
        CommandError::NotUtf8,
        CommandError::NotOnOff,
        CommandError::NotThreshold,
    ];
    for error in errors {
        assert!(manual.contains(&error.to_string()), "`{error}` is missing in {MANUAL}");
    }
}
