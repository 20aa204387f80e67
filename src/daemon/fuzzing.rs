//! State files and requests, as the fuzzer gives them.

use super::clock::Clock;
use super::retained::RetainedTopics;
use crate::contract::{Incoming, Kind, Names, Response, Topic};
use crate::detection::{Detection, Outcome, Verdict};
use crate::samples::Sample;
use crate::scene::fuzzing::{announced, ledger, overrides};
use crate::scene::{
    Effect, Errand, GenerationFacts, Identity, Input, Labelling, NewSettings, Remembered, Scene,
};
use std::collections::BTreeSet;
use std::sync::Arc;

/// One of the state files: which, then its bytes.
pub fn state_files(bytes: &[u8]) {
    let Some((&which, text)) = bytes.split_first() else { return };
    // What is no text is refused before anybody parses it.
    let Ok(text) = std::str::from_utf8(text) else { return };
    match which % 4 {
        0 => overrides(text),
        1 => retained_topics(text),
        2 => ledger(Clock::new().now(), text),
        _ => announced(text),
    }
}

fn retained_topics(text: &str) {
    match RetainedTopics::parse(text) {
        Ok(mut topics) => {
            let update = topics.update(&BTreeSet::new(), &BTreeSet::new());
            let distinct: BTreeSet<&String> = update.clear.iter().collect();
            assert_eq!(distinct.len(), update.clear.len(), "each is cleared once");
            if let Some(file) = update.file {
                RetainedTopics::parse(std::str::from_utf8(&file).expect("JSON")).expect("what we wrote");
            }
        }
        Err(error) => assert_eq!(error.to_string().lines().count(), 1, "{error}"),
    }
}

/// A request: its verb, a line's end, its payload. Camera `front` has just told frame 7 with a cat and a person.
pub fn requests(bytes: &[u8]) {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return };
    let verb = String::from_utf8_lossy(&bytes[..end]);
    let names = Names::new("base", "node");
    let topic = names.parse(&names.full(&Topic::of_verb(Kind::Request, &Arc::from(&*verb))));
    let Some(verb) = topic.as_ref().and_then(|topic| topic.verb()) else { return };
    let incoming = Incoming::read(verb, &bytes[end + 1..]);
    let (mut scene, now) = (scene_that_told_a_frame(), Clock::new().now());
    let mut effects = Vec::new();
    // The second time it is the same transaction, if it has one.
    for _ in 0..2 {
        scene.handle(now, Input::Request(Box::new(incoming.clone())), &mut effects);
    }
    for effect in effects {
        match effect {
            Effect::Publish(topic, payload) if topic.verb().is_some() => {
                assert!(payload.len() <= topic.spec().max_bytes);
                let answer: Response = serde_json::from_slice(&payload).expect("a response");
                assert!(answer.data.is_some() != answer.error.is_some());
                let words = answer.error.map_or(String::new(), |refusal| refusal.message);
                assert!(!words.contains(char::is_control) && words.len() < 1000, "{words:?}");
            }
            Effect::Run(_, Errand::Label(labelling)) => assert_can_be_kept(*labelling),
            _ => {}
        }
    }
}

/// What a verdict makes of a sample can be read again.
fn assert_can_be_kept(labelling: Labelling) {
    let mut sample = labelling.new.sample;
    sample.take_opinion(&labelling.opinion).expect("few labels");
    let read = Sample::from_json(&sample.id, &sample.to_json()).expect("what we wrote");
    assert_eq!(read.labels.len(), sample.labels.len());
}

fn scene_that_told_a_frame() -> Scene {
    let mut settings: crate::settings::Settings =
        toml::from_str("[samples]\nenabled = true\n[cameras.front]\nkind = \"v4l2\"\n").expect("settings");
    settings.mqtt.allow = crate::verb::NAMES.map(str::to_owned).to_vec();
    let numbers = [("front".to_owned(), 0)].into();
    let new = NewSettings { settings, numbers, restart_required: Vec::new() };
    let labels = vec!["person".to_owned(), "cat".to_owned()];
    let facts = GenerationFacts { number: 1, labels, input: [320, 320], ..GenerationFacts::default() };
    let now = Clock::new().now();
    let mut effects = Vec::new();
    let mut scene = Scene::new(now, Identity::default(), new, facts, Remembered::default(), &mut effects);
    let at = |class, left| Detection { class, score: 0.9, bbox: [left, 0.0, left + 20.0, 64.0] };
    let verdict = Verdict::Detected(vec![at(1, 1.0), at(0, 30.0)]);
    let outcome = Outcome { seq: 7, width: 64, height: 64, ..Outcome::of_nothing(now.mono, verdict) };
    scene.handle(now, Input::Outcome(&outcome), &mut effects);
    scene
}
