//! What Home Assistant is told, in the order and at the times that it needs.

use super::*;
use serde_json::Value;

const FRONT: &str = "homeassistant/device/retinad_n_front/config";
const BACK: &str = "homeassistant/device/retinad_n_back/config";
const NODE: &str = "homeassistant/device/retinad_n/config";

impl House {
    fn link(&mut self, ms: u64, connected: bool) {
        self.at(ms, Input::Link(LinkState { connected, ..LinkState::default() }));
    }

    fn birth(&mut self, ms: u64, delay_ms: u64) {
        let delay = Duration::from_millis(delay_ms);
        self.at(ms, Input::HomeAssistant(HomeAssistantNews::Online { delay }));
    }

    fn reload(&mut self, ms: u64, settings: Settings) {
        self.at(ms, Input::Settings(Box::new(numbered(settings, 10))));
    }

    /// What stands on a topic of discovery: by name of each entity whether more than its platform is told.
    fn told(&self, topic: &str) -> Option<BTreeMap<String, bool>> {
        let message: Value = serde_json::from_slice(self.published.get(topic)?).expect("JSON");
        let components = message["cmps"].as_object().expect("entities");
        Some(components.iter().map(|(key, value)| (key.clone(), value.get("uniq_id").is_some())).collect())
    }

    fn has(&self, topic: &str, key: &str) -> Option<bool> {
        self.told(topic)?.get(key).copied()
    }

    /// Topics that the last input had sent again, in order.
    fn repeated(&self) -> Vec<String> {
        let topic = |effect: &Effect| match effect {
            Effect::Repeat(topic) => Some(topic.to_string()),
            _ => None,
        };
        self.effects.iter().filter_map(topic).collect()
    }

    /// The scene of a daemon that is started anew with what this one kept.
    fn restarted(&self, cameras: &[&str]) -> Self {
        let kept = Announced::parse(std::str::from_utf8(&self.scene.announced().encode()).expect("text"));
        let announced = kept.expect("reads its own");
        Self::keeping(cameras, Remembered { announced, ..Remembered::default() })
    }
}

#[test]
fn node_and_cameras_are_told_from_the_start_with_what_is_told_of_them() {
    let house = House::new(&["front"]);
    assert_eq!(house.has(NODE, "cpu_temp"), Some(true));
    for key in ["detect", "threshold", "all_occupancy", "person_occupancy", "cat_count", "latency"] {
        assert_eq!(house.has(FRONT, key), Some(true), "{key}");
    }
    let topics: Vec<String> = house.scene.retained_topics().iter().map(ToString::to_string).collect();
    assert_eq!(topics[..2], [NODE, FRONT], "the node first, and before all states");
}

#[test]
fn a_birth_is_answered_after_its_delay_with_everything() {
    let mut house = House::new(&["front"]);
    house.link(0, true);
    house.birth(1000, 3000);
    house.at(3999, Input::Tick);
    assert_eq!(house.repeated(), [""; 0]);
    house.at(4001, Input::Tick);
    let repeated = house.repeated();
    assert_eq!(repeated[..2], [NODE, FRONT]);
    for topic in ["status", "front/status", "front/detect/state", "bridge/info"] {
        assert!(repeated.iter().any(|name| name == topic), "{topic} is not among {repeated:?}");
    }
    let health =
        |effect: &Effect| matches!(effect, Effect::Publish(topic, _) if topic.kind() == Kind::Health);
    assert!(house.effects.iter().any(health), "health is kept by nobody, so it is said anew");
}

#[test]
fn a_flood_of_births_is_answered_every_five_seconds_and_a_longer_delay_is_cut() {
    let mut house = House::new(&["front"]);
    house.link(0, true);
    let mut answers = 0;
    for ms in (1000..31_000).step_by(50) {
        house.birth(ms, 0);
        answers += usize::from(house.repeated().iter().any(|name| name == NODE));
    }
    assert!((5..=7).contains(&answers), "{answers} answers in 30 s");
    house.at(100_000, Input::Tick);
    house.birth(100_000, 3_600_000);
    house.at(105_001, Input::Tick);
    assert!(!house.repeated().is_empty());
    house.birth(200_000, 1000);
    house.at(200_500, Input::HomeAssistant(HomeAssistantNews::Offline));
    house.at(202_000, Input::Tick);
    assert!(house.repeated().is_empty(), "it is gone again");
}

#[test]
fn a_camera_that_is_removed_is_told_once_more_and_then_taken_away() {
    let mut house = House::new(&["front", "back"]);
    house.link(0, true);
    house.birth(100, 0);
    house.reload(10_000, settings(&["front"]));
    assert_eq!(house.has(BACK, "detect"), Some(true), "told once more");
    house.at(11_900, Input::Tick);
    assert_eq!(house.has(BACK, "detect"), Some(true));
    house.at(12_100, Input::Tick);
    assert_eq!(house.told(BACK), None, "taken away");
    house.at(20_000, Input::Tick);
    assert_eq!(house.scene.announced().devices.keys().collect::<Vec<_>>(), ["retinad_n", "retinad_n_front"]);
    house.birth(30_000, 0);
    house.at(30_100, Input::Tick);
    assert_eq!(house.told(BACK), None, "it heard it, so nothing is done again");
}

#[test]
fn a_label_that_is_told_no_more_leaves_the_others_alone() {
    let mut house = House::new(&["front"]);
    house.link(0, true);
    house.birth(100, 0);
    let mut narrower = settings(&["front"]);
    narrower.cameras.get_mut("front").expect("front").labels = vec!["person".into()];
    house.reload(10_000, narrower);
    assert_eq!(house.has(FRONT, "cat_count"), Some(true));
    house.at(12_100, Input::Tick);
    assert_eq!(house.has(FRONT, "cat_count"), Some(false), "only its platform");
    assert_eq!(house.has(FRONT, "person_count"), Some(true));
    house.at(14_200, Input::Tick);
    assert_eq!(house.has(FRONT, "cat_count"), None);
    assert!(!house.scene.announced().devices["retinad_n_front"].entities.contains_key("cat_count"));
}

#[test]
fn what_was_removed_unheard_is_removed_again_after_the_next_birth() {
    let mut house = House::new(&["front", "back"]);
    house.link(0, true);
    house.reload(10_000, settings(&["front"]));
    house.at(20_000, Input::Tick);
    assert_eq!(house.told(BACK), None);
    // Another daemon, days later, that was told by nobody.
    let mut house = house.restarted(&["front"]);
    house.link(0, true);
    house.at(10_000, Input::Tick);
    assert_eq!(house.told(BACK), None, "once was enough without a birth");
    house.birth(20_000, 1000);
    house.at(21_100, Input::Tick);
    assert_eq!(house.has(BACK, "person_occupancy"), Some(true));
    house.at(23_200, Input::Tick);
    assert_eq!(house.told(BACK), None);
    house.at(25_300, Input::Tick);
    assert!(!house.scene.announced().devices.contains_key("retinad_n_back"));
}

#[test]
fn a_camera_that_went_while_the_daemon_was_down_is_taken_away_on_the_next_connection() {
    let house = House::new(&["front", "back"]);
    let mut house = house.restarted(&["front"]);
    assert_eq!(house.has(BACK, "detect"), Some(true), "not cleared before it is told once more");
    house.at(10_000, Input::Tick);
    assert_eq!(house.has(BACK, "detect"), Some(true), "nobody is there to hear it");
    house.link(20_000, true);
    house.at(22_100, Input::Tick);
    assert_eq!(house.told(BACK), None);
}

#[test]
fn a_removal_that_a_lost_connection_cut_short_begins_anew() {
    let mut house = House::new(&["front", "back"]);
    house.link(0, true);
    house.birth(100, 0);
    house.reload(10_000, settings(&["front"]));
    house.at(12_100, Input::Tick);
    assert_eq!(house.told(BACK), None);
    house.link(12_200, false);
    assert_eq!(house.has(BACK, "detect"), Some(true));
    house.link(60_000, true);
    house.at(62_100, Input::Tick);
    assert_eq!(house.told(BACK), None);
    house.at(65_000, Input::Tick);
    let known = &house.scene.announced().devices["retinad_n_back"];
    assert_eq!(known.tried.len(), known.entities.len(), "unheard, so a birth is waited for");
}

#[test]
fn a_camera_that_comes_back_during_its_removal_stays() {
    let mut house = House::new(&["front", "back"]);
    house.link(0, true);
    house.birth(100, 0);
    house.reload(10_000, settings(&["front"]));
    house.at(12_100, Input::Tick);
    house.reload(12_500, settings(&["front", "back"]));
    assert_eq!(house.has(BACK, "detect"), Some(true));
    house.at(20_000, Input::Tick);
    assert_eq!(house.has(BACK, "detect"), Some(true));
    assert!(house.scene.announced().devices["retinad_n_back"].tried.is_empty());
}

#[test]
fn where_home_assistant_is_not_wanted_nothing_is_told_and_what_was_is_taken_away() {
    let mut house = House::new(&["front"]);
    house.link(0, true);
    house.birth(100, 0);
    let mut without = settings(&["front"]);
    without.mqtt.homeassistant.enabled = false;
    house.reload(10_000, without);
    house.at(15_000, Input::Tick);
    assert_eq!((house.told(NODE), house.told(FRONT)), (None, None));
    assert!(house.scene.announced().is_empty());
    assert!(house.scene.retained_topics().iter().all(|topic| topic.kind() != Kind::HomeAssistantDevice));
}

#[test]
fn a_new_model_adds_its_labels_and_takes_those_that_it_lacks() {
    let mut house = House::new(&["front"]);
    house.link(0, true);
    house.birth(100, 0);
    house.at(10_000, Input::Generation(Box::new(generation(2, &["person", "bowl"]))));
    assert_eq!(house.has(FRONT, "bowl_occupancy"), Some(true));
    house.at(15_000, Input::Tick);
    assert_eq!(house.has(FRONT, "cat_occupancy"), None);
    assert_eq!(house.has(FRONT, "bowl_occupancy"), Some(true));
}

#[test]
fn a_state_file_that_was_tampered_with_names_no_device_of_others() {
    let text = r#"{"v":1,"devices":{"retinad_n":{"entities":{"a/b":"sensor","rss":"sensor"}},
        "tasmota_1":{"entities":{"x":"sensor"}},"retinad_/../x":{"entities":{}}}}"#;
    let read = Announced::parse(text).expect("JSON");
    assert_eq!(read.devices.keys().collect::<Vec<_>>(), ["retinad_n"]);
    assert_eq!(read.devices["retinad_n"].entities.keys().collect::<Vec<_>>(), ["rss"]);
    assert!(Announced::parse("[1]").is_err() && Announced::parse("{\"devices\":3}").is_err());
}
