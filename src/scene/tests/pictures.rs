//! Pictures: which are made, that an event waits for its own, and what is refused.

use super::*;
use crate::contract::{Change, Code, EventType, ObjectEvent};
use crate::scene::{PictureOf, PictureOrder};

const ON: &str = "[snapshots]\nenabled = true\n";

fn house(text: &str) -> House {
    let mut house = House::new(&["front"]);
    let text = format!("[mqtt]\nmax_rate = 60.0\n[cameras.front]\nkind = \"v4l2\"\nmin_hits = 1\n{text}");
    let settings: Settings = toml::from_str(&text).expect("settings");
    house.at(0, Input::Settings(Box::new(numbered(settings, 0))));
    house.online(0, 0);
    house
}

fn orders(house: &House) -> Vec<PictureOrder> {
    let order =
        |effect: &Effect| if let Effect::Picture(order) = effect { Some((**order).clone()) } else { None };
    house.effects.iter().filter_map(order).collect()
}

#[test]
fn an_event_waits_for_its_picture_and_names_it() {
    let mut house = house(ON);
    assert_eq!(house.text("front/snapshots/state"), Some("ON"));
    house.frame(100, 0, 1);
    let [order] = &orders(&house)[..] else { panic!("{:?}", house.effects) };
    assert_eq!(order.of, PictureOf::Object([0.0, 2.0, 2.0, 6.0]));
    assert_eq!((order.quality, order.longest_side, order.most_bytes), (80, 1280, 100 << 10));
    let number = order.number;
    assert_eq!(house.at(150, Input::Written(1000)).iter().filter(is_event).count(), 0, "it waits");
    let picture = Input::Picture(number, Ok(vec![7; 9]));
    assert_eq!(house.at(200, picture).iter().filter(is_event).count(), 1);
}

fn is_event(effect: &&Effect) -> bool {
    matches!(effect, Effect::PublishEvent { .. })
}

#[test]
fn the_picture_goes_with_the_event_or_the_event_without_it() {
    for (picture, named) in [(Ok(vec![7; 9]), true), (Err("no memory".to_owned()), false)] {
        let mut house = house(ON);
        house.frame(100, 0, 1);
        let number = orders(&house)[0].number;
        house.at(150, Input::Written(1000));
        house.at(200, Input::Picture(number, picture));
        let effect = house.effects.iter().find(|effect| matches!(effect, Effect::PublishEvent { .. }));
        let Some(Effect::PublishEvent { payload, picture, .. }) = effect else {
            panic!("{:?}", house.effects)
        };
        let event: ObjectEvent = serde_json::from_slice(payload).expect("an event");
        let topic = Topic::label_snapshot(&Arc::from("front"), &Arc::from("person"));
        assert_eq!(event.event_type, EventType::Start);
        assert_eq!(event.snapshot.as_deref(), named.then_some("retinad/n/front/person/snapshot"));
        assert_eq!(*picture, named.then(|| (topic, vec![7; 9])));
    }
}

#[test]
fn a_picture_is_made_of_a_new_view_every_two_seconds_at_most() {
    let mut house = house(ON);
    let show = |house: &mut House, ms: u64, score: f32| {
        let found = Detection { class: 0, score, bbox: [0.0, 2.0, 2.0, 6.0] };
        house.outcome(ms, 0, 1, Verdict::Detected(vec![found]));
        orders(house).len()
    };
    assert_eq!(show(&mut house, 0, 0.6), 1);
    assert_eq!(show(&mut house, 1500, 0.7), 0, "an update, too early for a picture");
    assert_eq!(show(&mut house, 3000, 0.7), 0, "nothing new");
    assert_eq!(show(&mut house, 4000, 0.8), 1, "seen better");
    house.at(60_000, Input::Stop);
    assert_eq!(orders(&house).len(), 0, "an end has no picture");
}

#[test]
fn nothing_leaves_the_machine_unless_the_settings_and_the_switch_allow_it() {
    let mut house = house("");
    assert_eq!(house.text("front/snapshots/state"), Some("OFF"));
    house.frame(100, 0, 1);
    assert_eq!(orders(&house).len(), 0);
    house.command(200, "front", Change::Snapshots(true));
    assert!(house.logged().iter().any(|line| matches!(line, Log::SnapshotsForbidden { .. })));
    assert_eq!(house.text("front/snapshots/state"), Some("OFF"));
    house.frame(300, 0, 2);
    assert_eq!(orders(&house).len(), 0);
    let request = r#"{"camera":"front"}"#;
    let (code, words) = house.refusal(400, "snapshot", request);
    assert!(code == Code::SnapshotsOff && words.contains("snapshots.enabled"), "{words}");

    let mut house = self::house(ON);
    house.command(100, "front", Change::Snapshots(false));
    assert!(house.effects.iter().any(|effect| matches!(effect, Effect::Persist(StateFile::Overrides, _))));
    assert_eq!(house.text("front/snapshots/state"), Some("OFF"));
    let info: Info = house.json("bridge/info");
    assert_eq!(info.overrides["front"].snapshots, Some(false));
    house.frame(200, 0, 1);
    assert_eq!(orders(&house).len(), 0);
    let (code, words) = house.refusal(300, "snapshot", request);
    assert!(code == Code::SnapshotsOff && words.contains("switched off over MQTT"), "{words}");
    house.command(400, "front", Change::Snapshots(true));
    house.frame(3000, 0, 2);
    assert_eq!(orders(&house).len(), 1);
}

#[test]
fn a_request_is_answered_after_its_picture() {
    let mut house = house(
        "[cameras.front.masks.window]\nhides = \"picture\"\npoints = [[0, 0], [1, 0], [1, 0.1], [0, 0.1]]\n\
         [snapshots]\nenabled = true\nquality = 30\nmax_side = 500\n",
    );
    let request = r#"{"camera":"front"}"#;
    assert_eq!(house.refusal(50, "snapshot", request).0, Code::NotFound, "no frame so far");
    assert_eq!(house.refusal(60, "snapshot", r#"{"camera":"frnt"}"#).0, Code::UnknownCamera);
    house.frame(100, 0, 1);
    assert_eq!(house.ask(200, "snapshot", request), None, "it waits");
    let [order] = &orders(&house)[..] else { panic!("{:?}", house.effects) };
    assert_eq!(order.of, PictureOf::Frame(vec![([0.0, 2.0, 1.5, 6.0], "person 0.90".into())]));
    assert_eq!((order.hidden.len(), order.quality, order.longest_side), (1, 30, 500));
    let number = order.number;
    house.at(300, Input::Picture(number, Ok(vec![1, 2, 3])));
    assert_eq!(house.published["front/snapshot"], [1, 2, 3]);
    let answer = house.answered("snapshot").expect("answered");
    let data = answer.data.expect("data");
    assert_eq!((&data["topic"], &data["bytes"]), (&"retinad/n/front/snapshot".into(), &3.into()));
    assert_eq!(data["seq"], 100);
    house.ask(400, "snapshot", request);
    let number = orders(&house)[0].number;
    house.at(500, Input::Picture(number, Err("cut\nshort".into())));
    let answer = house.answered("snapshot").expect("answered").error.expect("why");
    assert_eq!((answer.code, answer.message.lines().count()), (Code::Internal, 1));
    house.offline(600, 0);
    assert_eq!(house.refusal(700, "snapshot", request).0, Code::NotFound, "no old picture");
}
