//! Requests: each verb, each refusal, repeats and limits.

use super::*;
use crate::contract::{Code, Data, Deleted, Incoming, Labelled, Response, ResponseStatus};
use crate::samples::{BACKGROUND, Rest};
use crate::scene::{Errand, Labelling, Ticket};

impl House {
    /// A house that keeps samples and allows everything.
    pub(super) fn open() -> Self {
        let mut house = Self::new(&["front", "yard"]);
        house.settings(0, |settings| {
            settings.samples.enabled = true;
            settings.mqtt.allow = crate::verb::NAMES.map(str::to_owned).to_vec();
        });
        house
    }

    fn settings(&mut self, ms: u64, change: impl FnOnce(&mut Settings)) {
        let mut settings = settings(&["front", "yard"]);
        change(&mut settings);
        self.at(ms, Input::Settings(Box::new(numbered(settings, 0))));
    }

    pub(super) fn ask(&mut self, ms: u64, verb: &str, payload: &str) -> Option<Response> {
        let incoming = Incoming::read(&Arc::from(verb), payload.as_bytes());
        self.at(ms, Input::Request(Box::new(incoming)));
        self.answered(verb)
    }

    /// The last answer of the verb among the effects.
    pub(super) fn answered(&self, verb: &str) -> Option<Response> {
        let topic = format!("bridge/response/{verb}");
        let of_verb = |effect: &Effect| match effect {
            Effect::Publish(to, payload) if to.to_string() == topic => Some(payload.clone()),
            _ => None,
        };
        let payload = self.effects.iter().filter_map(of_verb).next_back()?;
        Some(serde_json::from_slice(&payload).expect("a response"))
    }

    pub(super) fn refusal(&mut self, ms: u64, verb: &str, payload: &str) -> (Code, String) {
        let answer = self.ask(ms, verb, payload).unwrap_or_else(|| panic!("{verb} {payload}: no answer"));
        assert_eq!((answer.status, answer.data), (ResponseStatus::Error, None), "{payload}");
        let refusal = answer.error.expect("why");
        assert!(refusal.message.lines().count() == 1 && !refusal.message.is_empty(), "{refusal:?}");
        (refusal.code, refusal.message)
    }

    pub(super) fn errand(&self) -> Option<(Ticket, Errand)> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::Run(ticket, errand) => Some((*ticket, errand.clone())),
            _ => None,
        })
    }

    fn errands(&self) -> usize {
        self.effects.iter().filter(|effect| matches!(effect, Effect::Run(..))).count()
    }

    /// What the disk is told of a verdict.
    fn labelling(&mut self, ms: u64, fields: &str) -> Labelling {
        let payload = format!(r#"{{"camera":"front",{fields}}}"#);
        let answer = self.ask(ms, "feedback", &payload);
        assert_eq!(answer, None, "it waits for the disk: {payload}");
        let (ticket, errand) = self.errand().expect("an errand");
        let data = Data::Labelled(Labelled { sample: "s".into(), stored: true });
        self.at(ms, Input::Done(ticket, Ok(data)));
        let answer = self.answered("feedback").expect("answered when it is on the disk");
        assert_eq!(answer.data.expect("data")["stored"], true);
        let Errand::Label(labelling) = errand else { panic!("{errand:?}") };
        *labelling
    }
}

/// A cat on the left, a person on the right, and a cat that is not told.
fn found() -> Vec<Detection> {
    let at = |class, score, left| Detection { class, score, bbox: [left, 0.0, left + 2.0, 10.0] };
    vec![at(1, 0.9, 1.0), at(0, 0.8, 6.0), at(1, 0.3, 3.0)]
}

#[test]
fn info_and_health_are_answered_by_default_and_nothing_that_acts_is() {
    let mut house = House::new(&["front"]);
    let info = house.ask(10, "info", r#"{"transaction":"a1"}"#).expect("an answer");
    assert_eq!((info.status, &info.data.expect("data")["node"]), (ResponseStatus::Ok, &"n".into()));
    assert_eq!(serde_json::to_string(&info.transaction).expect("JSON"), r#""a1""#);
    let told: Info = house.json("bridge/info");
    assert_eq!(told.allow, ["info", "health", "snapshot", "feedback"]);
    let health = house.ask(20, "health", "{}").expect("an answer").data.expect("data");
    assert_eq!(health["state"], "failed", "the camera is offline");
    for verb in [
        "samples/list",
        "samples/delete",
        "tune/start",
        "tune/cancel",
        "model/activate",
        "rollback",
        "reload",
        "restart",
    ] {
        // What it says is not even looked at.
        let (code, message) = house.refusal(30, verb, r#"{"x":1}"#);
        assert_eq!((code, message.contains("mqtt.allow")), (Code::Forbidden, true), "{message}");
    }
    for verb in ["samples", "nobody/knows"] {
        assert_eq!(house.refusal(40, verb, "{}").0, Code::UnknownVerb, "{verb}");
        assert_eq!(house.refusal(40, verb, "{").0, Code::UnknownVerb, "{verb}");
    }
    assert_eq!(house.refusal(50, "info", "{").0, Code::BadJson);
    assert_eq!(house.refusal(50, "info", &" ".repeat(17 << 10)).0, Code::TooLarge);
    // No verb at all.
    house.settings(60, |settings| settings.mqtt.allow.clear());
    assert_eq!(house.refusal(70, "info", "{}").0, Code::Forbidden);
}

#[test]
fn health_on_request_is_at_most_five_seconds_old_and_not_made_more_often() {
    let mut house = House::new(&["front"]);
    let uptime = |house: &mut House, ms| {
        let health = house.ask(ms, "health", "{}").expect("an answer").data.expect("data");
        health["uptime_s"].as_u64().expect("seconds")
    };
    house.at(0, Input::Tick);
    assert_eq!((uptime(&mut house, 2_000), uptime(&mut house, 20_000)), (0, 20));
    assert_eq!((uptime(&mut house, 24_000), uptime(&mut house, 26_000)), (20, 26));
}

#[test]
fn each_verdict_says_what_it_means_of_the_boxes_that_were_told() {
    let mut house = House::open();
    house.outcome(1_000, 0, 1, Verdict::Detected(found()));
    let (cat, person) = ([1.0, 0.0, 3.0, 10.0], [6.0, 0.0, 8.0, 10.0]);
    let near_cat = "[0.1,0,0.32,1]";
    for (fields, wanted) in [
        (r#""verdict":"correct""#.to_owned(), vec![("cat", cat), ("person", person)]),
        (r#""verdict":"correct","label":"cat""#.into(), vec![("cat", cat)]),
        (format!(r#""verdict":"correct","box":{near_cat}"#), vec![("cat", cat)]),
        (r#""verdict":"false_positive""#.into(), vec![(BACKGROUND, cat), (BACKGROUND, person)]),
        (r#""verdict":"false_positive","label":" Person ""#.into(), vec![(BACKGROUND, person)]),
        (format!(r#""verdict":"wrong_label","label":"dog","box":{near_cat}"#), vec![("dog", cat)]),
        (
            r#""verdict":"missed","label":"CAT","box":[0.3,0,0.5,1]"#.into(),
            vec![("cat", [3.0, 0.0, 5.0, 10.0])],
        ),
        (
            r#""verdict":"missed","label":"toilet","box":[0,0,1,1]"#.into(),
            vec![("toilet", [0.0, 0.0, 10.0, 10.0])],
        ),
    ] {
        let labelling = house.labelling(2_000, &format!(r#""seq":1000,{fields}"#));
        let labels: Vec<(&str, [f32; 4])> =
            labelling.opinion.labels.iter().map(|label| (label.label.as_str(), label.bbox)).collect();
        assert_eq!(labels, wanted, "{fields}");
        let rest = if fields.contains("missed") { Rest::Doubtful } else { Rest::Unsaid };
        assert_eq!(labelling.opinion.rest, rest, "{fields}");
        let sample = &labelling.new.sample;
        assert_eq!((sample.camera.as_str(), sample.found.len(), sample.told().count()), ("front", 3, 2));
    }
    house.outcome(3_000, 0, 1, Verdict::Detected(Vec::new()));
    let nothing = house.labelling(3_100, r#""seq":3000,"verdict":"correct""#);
    assert_eq!((nothing.opinion.labels, nothing.opinion.rest), (Vec::new(), Rest::Background));
    house.outcome(4_000, 0, 1, Verdict::Detected(found()[..1].to_vec()));
    let one = house.labelling(4_100, r#""seq":4000,"verdict":"wrong_label","label":"person""#);
    assert_eq!(one.opinion.labels[0].label, "person", "there is only one that can be meant");
}

#[test]
fn what_a_verdict_cannot_mean_is_refused_in_words() {
    let mut house = House::open();
    house.outcome(1_000, 0, 1, Verdict::Detected(found()));
    house.outcome(2_000, 0, 1, Verdict::Detected(Vec::new()));
    let good = r#""camera":"front","seq":1000,"verdict":"false_positive""#;
    for (old, new, code, words) in [
        ("front", "frnt", Code::UnknownCamera, "no camera `frnt`: there are front, yard"),
        ("front", "yard", Code::NotFound, "frame 1000 of `yard` is not remembered"),
        ("1000", "999", Code::NotFound, "frame 999 of `front` is not remembered: only the last 64 frames"),
        ("1000", "2000", Code::NotFound, "nothing was told in this frame"),
        (
            "\"false_positive\"",
            "\"false_positive\",\"label\":\"dog\"",
            Code::NotFound,
            "no `dog` was told in this frame, but cat, person",
        ),
        ("\"false_positive\"", "\"false_positive\",\"label\":\"\"", Code::BadField, "label: `` is no label"),
        (
            "\"false_positive\"",
            "\"false_positive\",\"label\":\"a\\nb\"",
            Code::BadField,
            "label: `a b` is no label",
        ),
        (
            "\"false_positive\"",
            "\"correct\",\"box\":[0.8,0,1,1]",
            Code::NotFound,
            "no object that was told overlaps it by half",
        ),
        (
            "\"false_positive\"",
            "\"wrong_label\",\"label\":\"dog\"",
            Code::BadField,
            "box: 2 objects were told, so say which",
        ),
        (
            "\"false_positive\"",
            "\"wrong_label\",\"label\":\"Background\"",
            Code::BadField,
            "`background` is no object",
        ),
        (
            "\"false_positive\"",
            "\"missed\",\"label\":\"dog\",\"box\":[0,0,0.01,1]",
            Code::BadField,
            "box: 0,0,0.1,10 is no box",
        ),
    ] {
        assert!(good.contains(old), "{old}");
        let payload = format!("{{{}}}", good.replacen(old, new, 1));
        let (found, message) = house.refusal(3_000, "feedback", &payload);
        assert_eq!((found, message.contains(words)), (code, true), "{payload}: {message}");
        assert_eq!(house.errands(), 0);
    }
    let long = format!(r#"{{{good},"label":"{}"}}"#, "x".repeat(65));
    assert_eq!(house.refusal(3_000, "feedback", &long).0, Code::BadField);
    // The camera was restarted: its frames are counted from 0 again.
    let numbers = numbered(house.scene.settings.clone(), 7);
    house.at(4_000, Input::Settings(Box::new(numbers)));
    assert_eq!(house.refusal(4_100, "feedback", &format!("{{{good}}}")).0, Code::NotFound);
}

#[test]
fn without_samples_nothing_is_remembered_and_verdicts_are_refused() {
    let mut house = House::new(&["front", "yard"]);
    house.outcome(1_000, 0, 1, Verdict::Detected(found()));
    let verdict = r#"{"camera":"front","seq":1000,"verdict":"correct"}"#;
    assert_eq!(house.refusal(2_000, "feedback", verdict).0, Code::SamplesOff);
    house.settings(3_000, |settings| settings.samples.enabled = true);
    assert_eq!(house.refusal(4_000, "feedback", verdict).0, Code::NotFound);
    house.outcome(5_000, 0, 1, Verdict::Detected(found()));
    // What was remembered goes when samples are switched off.
    house.settings(6_000, |_| ());
    house.settings(7_000, |settings| settings.samples.enabled = true);
    let verdict = r#"{"camera":"front","seq":5000,"verdict":"correct"}"#;
    assert_eq!(house.refusal(8_000, "feedback", verdict).0, Code::NotFound);
}

#[test]
fn a_frame_that_was_not_told_cannot_be_spoken_about() {
    let mut house = House::open();
    house.settings(0, |settings| {
        settings.samples.enabled = true;
        settings.mqtt.detections = DetectionsMode::NonEmpty;
    });
    house.outcome(1_000, 0, 1, Verdict::Detected(Vec::new()));
    let verdict = r#"{"camera":"front","seq":1000,"verdict":"correct"}"#;
    assert_eq!(house.refusal(2_000, "feedback", verdict).0, Code::NotFound);
}

#[test]
fn samples_are_listed_and_deleted_by_the_disk() {
    let mut house = House::open();
    assert_eq!(house.ask(0, "samples/list", r#"{"limit":3,"after":"20260101-000000-000-front"}"#), None);
    let (_, errand) = house.errand().expect("an errand");
    let after = Some("20260101-000000-000-front".parse().expect("an id"));
    assert_eq!(errand, Errand::List { limit: 3, after });
    assert_eq!(house.ask(1, "samples/delete", r#"{"all":true,"confirm":true}"#), None);
    assert_eq!(house.errand().map(|(_, errand)| errand), Some(Errand::DeleteAll));
    house.ask(2, "samples/delete", r#"{"ids":["a","b"],"transaction":1}"#);
    let (ticket, errand) = house.errand().expect("an errand");
    assert!(matches!(errand, Errand::Delete(ids) if ids.len() == 2));
    house.at(3, Input::Done(ticket, Ok(Data::Deleted(Deleted { deleted: 1 }))));
    assert_eq!(house.answered("samples/delete").expect("an answer").data.expect("data")["deleted"], 1);
    for (verb, payload, field) in [
        ("samples/list", r#"{"after":"../../etc/passwd"}"#, "after: "),
        ("samples/delete", r#"{"ids":["a","../b"]}"#, "ids[1]: "),
    ] {
        let (code, message) = house.refusal(4, verb, payload);
        assert_eq!((code, message.starts_with(field)), (Code::BadField, true), "{message}");
    }
}

#[test]
fn a_repeated_transaction_gets_its_answer_again_and_is_not_carried_out_twice() {
    let mut house = House::open();
    let delete = r#"{"ids":["a"],"transaction":"t"}"#;
    assert_eq!(house.ask(0, "samples/delete", delete), None);
    let (ticket, _) = house.errand().expect("an errand");
    assert_eq!((house.ask(1, "samples/delete", delete), house.errands()), (None, 0), "it is under way");
    house.at(2, Input::Done(ticket, Ok(Data::Deleted(Deleted { deleted: 1 }))));
    let first = house.answered("samples/delete").expect("an answer");
    assert_eq!((house.ask(3, "samples/delete", delete), house.errands()), (Some(first.clone()), 0));
    // Even if the rest of it differs: the transaction is what tells requests apart.
    let other = r#"{"ids":["b"],"transaction":"t"}"#;
    assert_eq!((house.ask(599_000, "samples/delete", other), house.errands()), (Some(first), 0));
    // Another verb, another transaction, and ten minutes later.
    assert_eq!((house.ask(599_100, "samples/list", r#"{"transaction":"t"}"#), house.errands()), (None, 1));
    house.ask(599_200, "samples/delete", r#"{"ids":["a"],"transaction":1}"#);
    assert_eq!(house.errands(), 1);
    house.ask(600_003, "samples/delete", delete);
    assert_eq!(house.errands(), 1);
    // Without one each is carried out.
    for _ in 0..2 {
        house.ask(600_100, "samples/delete", r#"{"ids":["a"]}"#);
        assert_eq!(house.errands(), 1);
    }
}

#[test]
fn what_was_not_carried_out_may_come_again_with_the_same_transaction() {
    let mut house = House::new(&["front"]);
    let reload = r#"{"transaction":1}"#;
    assert_eq!(house.refusal(0, "reload", reload).0, Code::Forbidden);
    house.settings(1, |settings| settings.mqtt.allow = vec!["reload".into()]);
    assert_eq!(house.ask(2, "reload", reload), None);
    assert!(house.effects.contains(&Effect::Reload));
}

#[test]
fn kept_answers_are_bounded_in_number_and_bytes() {
    let mut house = House::open();
    for i in 0..200 {
        house.ask(i, "info", &format!(r#"{{"transaction":{i}}}"#));
        house.refusal(
            i,
            "feedback",
            &format!(r#"{{"transaction":{i},"camera":"{}","seq":1,"verdict":"correct"}}"#, "x".repeat(9_000)),
        );
    }
    let (count, bytes) = house.scene.requests.kept();
    assert!(count <= 64 && bytes <= 256 << 10, "{count} answers, {bytes} bytes");
}

#[test]
fn eight_requests_may_be_under_way_and_one_that_takes_too_long_makes_room() {
    let mut house = House::open();
    for i in 0..8 {
        assert_eq!(house.ask(i, "samples/list", &format!(r#"{{"transaction":{i}}}"#)), None);
    }
    let (ticket, _) = house.errand().expect("an errand");
    assert_eq!(house.refusal(10, "samples/list", r#"{"transaction":"late"}"#).0, Code::Busy);
    // A field that is wrong is said all the same, and so is what waits for nothing refused.
    assert_eq!(house.refusal(10, "samples/list", r#"{"limit":0}"#).0, Code::BadField);
    house.at(20, Input::Done(ticket, Ok(Data::Deleted(Deleted { deleted: 0 }))));
    assert_eq!(house.ask(30, "samples/list", r#"{"transaction":"late"}"#), None, "there is room again");
    assert_eq!(house.errands(), 1);
    house.at(61_000, Input::Tick);
    let late = house.answered("samples/list").expect("an answer").error.expect("too late");
    assert_eq!(late.code, Code::Internal);
    assert_eq!(house.ask(62_000, "samples/list", "{}"), None);
    // What was given up is not answered a second time.
    house.at(62_100, Input::Done(ticket, Ok(Data::Deleted(Deleted { deleted: 0 }))));
    assert_eq!(house.answered("samples/list"), None);
}

#[test]
fn a_reload_is_answered_when_the_settings_are_in_force_or_refused() {
    let mut house = House::open();
    assert_eq!(house.ask(0, "reload", r#"{"transaction":1}"#), None);
    assert_eq!(house.ask(1, "reload", r#"{"transaction":2}"#), None);
    let mut new = numbered(house.scene.settings.clone(), 0);
    new.restart_required = vec!["node".into()];
    house.at(2, Input::Settings(Box::new(new)));
    assert_eq!(house.answered("reload"), None);
    let answers = |effects: &[Effect]| {
        effects
            .iter()
            .filter(|effect| matches!(effect, Effect::Publish(to, _) if to.kind() == Kind::Response))
            .count()
    };
    assert_eq!(answers(house.at(3, Input::Reloaded(true))), 2);
    assert_eq!(house.answered("reload").expect("an answer").data.expect("data")["restart_required"], true);
    assert_eq!(answers(house.at(4, Input::Reloaded(true))), 0, "a reload that nobody asked for");
    house.ask(5, "reload", "{}");
    house.at(6, Input::Reloaded(false));
    assert_eq!(house.answered("reload").expect("an answer").error.expect("why").code, Code::Internal);
}

#[test]
fn a_restart_comes_after_its_answer_and_only_with_settings_that_can_be_used() {
    let mut house = House::open();
    assert_eq!(house.ask(0, "restart", r#"{"transaction":1}"#), None);
    assert!(house.effects.contains(&Effect::Reload));
    house.at(1, Input::Reloaded(false));
    assert_eq!(house.answered("restart").expect("an answer").error.expect("why").code, Code::Internal);
    assert!(!house.effects.contains(&Effect::Restart));
    house.ask(2, "restart", r#"{"transaction":2}"#);
    house.ask(3, "reload", r#"{"transaction":3}"#);
    house.at(4, Input::Reloaded(true));
    assert_eq!(house.answered("restart").expect("an answer").data.expect("data")["restarting"], true);
    assert!(house.answered("reload").is_some(), "whoever asked at the same time has an answer");
    assert_eq!(house.effects.last(), Some(&Effect::Restart));
    house.ask(5, "reload", r#"{"transaction":4}"#);
    house.at(6, Input::Reloaded(true));
    assert!(!house.effects.contains(&Effect::Restart), "once");
}
