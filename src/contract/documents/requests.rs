//! Requests in the documents: the fields of all verbs, the table of verbs, and an answer of each.

use super::files::read;
use super::manual::MANUAL;
use crate::contract::{
    Activated, Deleted, FeedbackVerdict, Incoming, Job, Kind, Labelled, Reloaded, Response, Restarting,
    SamplesPage, SnapshotSent, Topic, Transaction,
};
use crate::verb::{VERBS, VerbSpec};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Write;
use std::sync::Arc;

/// The fields that a request may have; which of them, its verb says. All may be left out as far as that
/// allows.
#[derive(Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "it is described, and never made")]
pub(super) struct AnyRequest {
    /// A text of at most 64 bytes or a number, which comes back with the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Transaction")]
    transaction: Option<Transaction>,
    /// The object's `id`, as on `<cam>/events`.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<String>,
    /// The camera's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    camera: Option<String>,
    /// Number of the frame, as on `<cam>/detections`.
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    /// What was right or wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "FeedbackVerdict")]
    verdict: Option<FeedbackVerdict>,
    /// What the object is, or which of those that were told; at most 64 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    /// Where the object is: `[left, top, right, bottom]`, 0 to 1 of the frame's width and height, as on
    /// `<cam>/detections`.
    #[serde(rename = "box", skip_serializing_if = "Option::is_none")]
    bbox: Option<[f64; 4]>,
    /// Most samples on a page, 1 to 50; 20 if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<usize>,
    /// Only samples behind this id.
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<String>,
    /// Ids of samples, 1 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    ids: Option<Vec<String>>,
    /// True: every sample is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    all: Option<bool>,
    /// Must be true with `all`.
    #[serde(skip_serializing_if = "Option::is_none")]
    confirm: Option<bool>,
    /// Minutes after which the tuning ends, 1 to 10,080; the next one goes on from there.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_minutes: Option<u32>,
    /// True: tune and judge, and keep nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    dry_run: Option<bool>,
    /// Number of the tuned model, as on `bridge/model`; 0 is the model of the settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
}

/// The table of verbs.
pub(super) fn verb_table() -> String {
    let mut table =
        String::from("| verb | allowed by default | fields | `data` of the answer |\n|---|---|---|---|\n");
    for spec in &VERBS {
        let allowed = if spec.allowed { "yes" } else { "no" };
        let VerbSpec { name, data_in, data_out, .. } = spec;
        writeln!(table, "| `{name}` | {allowed} | {data_in} | {data_out} |")
            .expect("a String takes everything");
    }
    table
}

/// What stands in back quotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn every_field_of_the_table_of_verbs_is_described() {
    let schema = super::schemas::schema_of("request");
    let mut used: Vec<&str> = VERBS.iter().flat_map(|spec| quoted(spec.data_in)).collect();
    used.push("transaction");
    let described = schema["properties"].as_object().expect("fields");
    for name in &used {
        assert!(described.contains_key(*name), "{name} is not described");
    }
    for name in described.keys() {
        assert!(used.contains(&name.as_str()), "{name} belongs to no verb");
    }
}

/// Fails unless the answer that the manual shows is what the type reads and writes.
fn check_answer<T: DeserializeOwned + Serialize>(verb: &str) {
    let manual = read(MANUAL);
    let marker = format!("<!-- answer of {verb}: read by a test -->\n\n```json\n");
    let after = manual.split_once(&marker).unwrap_or_else(|| panic!("{MANUAL} lacks `{marker}`")).1;
    let text = after.split_once("```").expect("the block's end").0;
    let answer: Response = serde_json::from_str(text).unwrap_or_else(|error| panic!("{verb}: {error}"));
    let data = serde_json::Value::Object(answer.data.expect("an answer that is ok"));
    let read: T = serde_json::from_value(data.clone()).unwrap_or_else(|error| panic!("{verb}: {error}"));
    assert_eq!(serde_json::to_value(&read).expect("plain data"), data, "answer of {verb}");
}

#[test]
fn the_answers_of_the_manual_are_what_the_types_read_and_write() {
    check_answer::<SnapshotSent>("snapshot");
    check_answer::<Labelled>("feedback");
    check_answer::<SamplesPage>("samples/list");
    check_answer::<Deleted>("samples/delete");
    check_answer::<Job>("tune/start");
    check_answer::<Activated>("model/activate");
    check_answer::<Reloaded>("reload");
    check_answer::<Restarting>("restart");
}

#[test]
fn every_verb_is_shown_and_what_is_shown_is_well_formed() {
    let manual = read(MANUAL);
    let mut shown = Vec::new();
    for (full, message) in super::examples::commands(&manual) {
        let topic = crate::contract::Names::new("retinad", "pi-porch").parse(full);
        let Some(verb) = topic.as_ref().filter(|topic| topic.kind() == Kind::Request).and_then(Topic::verb)
        else {
            continue;
        };
        let incoming = Incoming::read(verb, message.trim_matches('\'').as_bytes());
        if let Err(refusal) = incoming.asked {
            panic!("{full} {message}: {}", refusal.message);
        }
        shown.push(Arc::clone(verb));
    }
    for spec in &VERBS {
        assert!(shown.iter().any(|verb| **verb == *spec.name), "{MANUAL} shows no request of {}", spec.name);
    }
}
