//! The rules of the contract that the scene holds, each in simulated time: no thread, no sleep.

mod discovery;
mod events;
mod figures;
mod motion;
mod pictures;
mod requests;
mod tuning;
mod view;

use super::*;
use crate::contract::{Change, Detections, Health, HealthState, Info, ModelState};
use crate::detection::{Detection, Verdict};
use crate::frame::Flow;
use crate::settings::DetectionsMode;
use std::time::UNIX_EPOCH;

/// A scene with a clock of its own, and what it has published.
struct House {
    scene: Scene,
    start: Instant,
    ms: u64,
    effects: Vec<Effect>,
    /// Last payload of each topic, by its name below the node's.
    published: BTreeMap<String, Vec<u8>>,
}

fn settings(cameras: &[&str]) -> Settings {
    let mut text = String::from("[mqtt]\ndetections = \"always\"\nmax_rate = 60.0\n");
    for camera in cameras {
        text += &format!("[cameras.{camera}]\nkind = \"v4l2\"\ntimeout_s = 5.0\nmin_hits = 1\n");
    }
    toml::from_str(&text).expect("settings")
}

fn numbered(settings: Settings, first: usize) -> NewSettings {
    let numbers = settings.cameras.keys().enumerate().map(|(i, id)| (id.clone(), first + i)).collect();
    NewSettings { settings, numbers, restart_required: Vec::new() }
}

fn generation(number: u64, labels: &[&str]) -> GenerationFacts {
    let labels = labels.iter().map(|label| (*label).to_owned()).collect();
    GenerationFacts {
        number,
        sha256: format!("{number:064}"),
        name: "m".into(),
        labels,
        input: [320, 320],
        stored: Stored::default(),
    }
}

impl House {
    fn new(cameras: &[&str]) -> Self {
        Self::with(cameras, Overrides::default())
    }

    fn with(cameras: &[&str], overrides: Overrides) -> Self {
        Self::keeping(cameras, Remembered { overrides, ..Remembered::default() })
    }

    fn keeping(cameras: &[&str], remembered: Remembered) -> Self {
        let start = Instant::now();
        let mut effects = Vec::new();
        let identity = Identity { node: "n".into(), ..Identity::default() };
        let facts = generation(1, &["person", "cat", ""]);
        let new = numbered(settings(cameras), 0);
        let scene = Scene::new(now_at(start, 0), identity, new, facts, remembered, &mut effects);
        let mut house = Self { scene, start, ms: 0, effects, published: BTreeMap::new() };
        house.collect();
        house
    }

    fn collect(&mut self) {
        for effect in &self.effects {
            match effect {
                Effect::Publish(topic, payload) => {
                    drop(self.published.insert(topic.to_string(), payload.clone()))
                }
                Effect::Forget(topic) => drop(self.published.remove(&topic.to_string())),
                _ => {}
            }
        }
    }

    /// One input at `ms` after the start; deadlines before that pass first, as the shell has it.
    fn at(&mut self, ms: u64, input: Input<'_>) -> &[Effect] {
        self.effects.clear();
        let mut effects = Vec::new();
        while let Some(due) = self.scene.next_deadline() {
            let due_ms =
                u64::try_from(due.saturating_duration_since(self.start).as_millis()).expect("soon") + 1;
            if due_ms > ms || due_ms <= self.ms {
                break;
            }
            self.ms = due_ms;
            self.scene.handle(now_at(self.start, due_ms), Input::Tick, &mut effects);
        }
        self.ms = ms;
        self.scene.handle(now_at(self.start, ms), input, &mut effects);
        self.effects = effects;
        self.collect();
        &self.effects
    }

    fn frame(&mut self, ms: u64, camera: usize, persons: usize) -> &[Effect] {
        // Side by side in the picture of 10 by 10 pixels.
        let person = |i: usize| {
            let left = i as f32 * 2.0;
            Detection { class: 0, score: 0.9, bbox: [left, 2.0, left + 1.5, 6.0] }
        };
        self.outcome(ms, camera, 1, Verdict::Detected((0..persons).map(person).collect()))
    }

    fn outcome(&mut self, ms: u64, camera: usize, generation: u64, verdict: Verdict) -> &[Effect] {
        let captured = self.start + Duration::from_millis(ms);
        let outcome = Outcome {
            camera,
            seq: ms,
            width: 10,
            height: 10,
            generation,
            ..Outcome::of_nothing(captured, verdict)
        };
        self.at(ms, Input::Outcome(&outcome))
    }

    fn online(&mut self, ms: u64, camera: usize) {
        self.at(ms, Input::Camera(camera, CameraNews::Online));
    }

    fn offline(&mut self, ms: u64, camera: usize) -> &[Effect] {
        let news = CameraNews::Offline { reason: "unplugged".into(), retry_in: Duration::from_secs(1) };
        self.at(ms, Input::Camera(camera, news))
    }

    /// Frames of camera 0 with so many persons were looked at, one failed, two were damaged; the camera went and came.
    fn pass_eventful_minute(&mut self, persons: impl Fn(u64) -> usize) {
        self.online(0, 0);
        self.at(0, Input::Tick);
        for ms in (100..=6000).step_by(100) {
            self.frame(ms, 0, persons(ms));
        }
        self.outcome(6010, 0, 1, Verdict::Damaged("cut".into()));
        self.outcome(6020, 0, 1, Verdict::Failed("no".into()));
        self.at(6030, Input::Camera(0, CameraNews::Damaged { reason: "cut".into() }));
        let flows = vec![(0, Flow { given: 90, paced: 30 })];
        self.at(6040, Input::Machine(Box::new(Facts { flows, ..Facts::default() })));
        self.offline(6050, 0);
        self.online(6060, 0);
        self.at(70_000, Input::Tick);
    }

    fn command(&mut self, ms: u64, camera: &str, change: Change) -> &[Effect] {
        self.at(ms, Input::Command(Command { camera: Arc::from(camera), change }))
    }

    fn text(&self, topic: &str) -> Option<&str> {
        self.published.get(topic).map(|payload| std::str::from_utf8(payload).expect("text"))
    }

    fn json<T: serde::de::DeserializeOwned>(&self, topic: &str) -> T {
        serde_json::from_slice(&self.published[topic]).expect("JSON of its type")
    }

    fn logged(&self) -> Vec<&Log> {
        self.effects
            .iter()
            .filter_map(|effect| if let Effect::Tell(line) = effect { Some(line) } else { None })
            .collect()
    }
}

fn now_at(start: Instant, ms: u64) -> Now {
    let since = Duration::from_millis(ms);
    Now {
        mono: start + since,
        wall: UNIX_EPOCH + since,
        boot: Duration::from_secs(100) + since,
        synced: true,
    }
}

#[test]
fn at_the_start_status_and_switches_are_told_and_no_count_is() {
    let house = House::new(&["front"]);
    assert_eq!(house.text("front/status"), Some("offline"));
    assert_eq!(
        (house.text("front/detect/state"), house.text("front/threshold/state")),
        (Some("ON"), Some("0.50"))
    );
    assert_eq!((house.text("front/person"), house.text("front/all")), (None, None));
    let info: Info = house.json("bridge/info");
    assert_eq!(
        info.cameras["front"].labels,
        BTreeMap::from([("person".into(), "person".into()), ("cat".into(), "cat".into())])
    );
    let model: ModelState = house.json("bridge/model");
    assert_eq!((model.installed_version.as_str(), model.can_rollback_to), ("0", Vec::new()));
}

#[test]
fn the_first_frame_makes_every_count_known() {
    let mut house = House::new(&["front"]);
    house.online(100, 0);
    house.at(60_000, Input::Tick);
    assert_eq!(house.text("front/person"), None, "online for a minute, and nothing was looked at yet");
    house.frame(60_100, 0, 2);
    assert_eq!(
        (house.text("front/person"), house.text("front/cat"), house.text("front/all")),
        (Some("2"), Some("0"), Some("2"))
    );
}

#[test]
fn a_count_falls_to_zero_after_the_delay_whatever_ends_the_view() {
    type End = fn(&mut House);
    let ends: [(&str, End); 4] = [
        ("only damaged frames", |house| {
            for ms in (1000..2900).step_by(100) {
                house.outcome(ms, 0, 1, Verdict::Damaged("cut short".into()));
            }
        }),
        ("detection switched off", |house| {
            house.command(1000, "front", Change::Detect(false));
        }),
        ("camera gone", |house| {
            house.offline(1000, 0);
        }),
        ("person left, and no frame since", |house| {
            house.frame(1000, 0, 0);
        }),
    ];
    for (what, end) in ends {
        let mut house = House::new(&["front"]);
        house.online(0, 0);
        house.frame(500, 0, 1);
        end(&mut house);
        house.at(2990, Input::Tick);
        assert_eq!(house.text("front/person"), Some("1"), "{what}: too early");
        house.at(3010, Input::Tick);
        assert_eq!((house.text("front/person"), house.text("front/all")), (Some("0"), Some("0")), "{what}");
    }
}

#[test]
fn a_clean_stop_clears_counts_at_once_and_says_offline() {
    let mut house = House::new(&["front", "back"]);
    house.online(0, 1);
    house.frame(10, 1, 3);
    house.at(20, Input::Stop);
    assert_eq!((house.text("front/person"), house.text("front/all")), (Some("0"), Some("0")));
    assert_eq!((house.text("front/status"), house.text("back/status")), (Some("offline"), Some("offline")));
    assert_eq!(house.text("back/person"), None, "never known, never told");
}

#[test]
fn a_camera_that_gives_only_damaged_frames_is_offline_with_the_reason_once() {
    for by_worker in [true, false] {
        let mut house = House::new(&["front"]);
        house.online(0, 0);
        house.frame(100, 0, 1);
        let mut lines = Vec::new();
        for ms in (1000..20_000).step_by(100) {
            if by_worker {
                house.outcome(ms, 0, 1, Verdict::Damaged("cut short".into()));
            } else {
                house.at(ms, Input::Camera(0, CameraNews::Damaged { reason: "cut short".into() }));
            }
            lines.extend(
                house.logged().into_iter().filter(|line| matches!(line, Log::CameraDamaged { .. })).cloned(),
            );
            let expected = if ms < 6000 { "online" } else { "offline" };
            assert_eq!(house.text("front/status"), Some(expected), "at {ms}");
        }
        assert_eq!(lines, [Log::CameraDamaged { camera: Arc::from("front"), reason: "cut short".into() }]);
        assert_eq!(house.text("front/person"), Some("0"));
        let health: Health = house.json("bridge/health");
        assert_eq!(
            (health.problems, health.state),
            (vec!["camera_damaged:front".to_owned()], HealthState::Failed)
        );
        house.frame(20_100, 0, 1);
        assert_eq!((house.text("front/status"), house.text("front/person")), (Some("online"), Some("1")));
    }
}

#[test]
fn one_good_frame_in_time_keeps_a_camera_online() {
    let mut house = House::new(&["front"]);
    house.online(0, 0);
    for ms in (100..60_000).step_by(100) {
        if ms % 4000 == 0 {
            house.frame(ms, 0, 0);
        } else {
            house.outcome(ms, 0, 1, Verdict::Damaged("cut short".into()));
        }
        assert_eq!(house.text("front/status"), Some("online"), "at {ms}");
    }
}

#[test]
fn the_same_reason_is_logged_once_and_another_one_again() {
    let mut house = House::new(&["front"]);
    let mut told = 0;
    for ms in [1000, 2000, 4000] {
        house.offline(ms, 0);
        told += house.logged().len();
    }
    assert_eq!(told, 1);
    let news = CameraNews::Offline { reason: "busy".into(), retry_in: Duration::from_secs(8) };
    house.at(5000, Input::Camera(0, news));
    assert_eq!(house.logged().len(), 1);
}

#[test]
fn a_command_is_kept_answered_and_shown() {
    let mut house = House::new(&["front"]);
    let effects = house.command(10, "front", Change::Threshold(0.66)).to_vec();
    let state = Topic::of_camera(Kind::ThresholdState, &Arc::from("front"));
    assert!(effects.contains(&Effect::Repeat(state)), "{effects:?}");
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Persist(StateFile::Overrides, _))));
    assert_eq!(house.text("front/threshold/state"), Some("0.66"));
    assert_eq!(house.json::<Info>("bridge/info").overrides["front"].threshold, Some(0.66));
    let again = house.command(20, "front", Change::Threshold(0.66)).to_vec();
    assert!(
        again.iter().any(|effect| matches!(effect, Effect::Repeat(_))),
        "answered though nothing changed"
    );
    assert!(
        !again.iter().any(|effect| matches!(effect, Effect::Persist(..))),
        "an equal value is not written again"
    );
}

#[test]
fn detection_switched_off_is_disabled_and_holds_frames_back() {
    let mut house = House::new(&["front"]);
    house.online(0, 0);
    let effects = house.command(10, "front", Change::Detect(false)).to_vec();
    assert!(effects.contains(&Effect::Switch { camera: 0, on: false }));
    assert_eq!(
        (house.text("front/status"), house.text("front/detect/state")),
        (Some("disabled"), Some("OFF"))
    );
    house.frame(20, 0, 5);
    assert_eq!(house.text("front/person"), None, "a frame that was under way is not counted");
    house.command(30, "front", Change::Detect(true));
    assert_eq!(house.text("front/status"), Some("online"));
}

#[test]
fn a_command_for_a_camera_that_is_gone_changes_nothing() {
    let mut house = House::new(&["front"]);
    house.command(10, "attic", Change::Detect(false));
    assert_eq!(house.logged(), [&Log::UnknownCamera { camera: Arc::from("attic") }]);
}

#[test]
fn a_changed_setting_wins_over_what_was_set() {
    let overrides = Overrides::parse(r#"{"cameras":{"front":{"threshold":{"value":0.7,"setting":0.5}}}}"#)
        .expect("reads");
    let mut house = House::with(&["front"], overrides);
    assert_eq!(house.text("front/threshold/state"), Some("0.70"));
    let mut changed = settings(&["front"]);
    changed.detector.min_score = 0.6;
    house.at(10, Input::Settings(Box::new(numbered(changed, 0))));
    assert_eq!(house.text("front/threshold/state"), Some("0.60"));
    assert!(house.json::<Info>("bridge/info").overrides.is_empty());
}

#[test]
fn a_reload_touches_only_the_cameras_that_changed() {
    let mut house = House::new(&["a", "b", "c"]);
    for camera in 0..3 {
        house.online(camera as u64, camera);
        house.frame(100 + camera as u64, camera, 1);
    }
    // `a` is gone, `b` goes on under its number, `c` was restarted, `d` is new.
    let numbers = BTreeMap::from([("b".to_owned(), 1), ("c".to_owned(), 7), ("d".to_owned(), 8)]);
    let new =
        NewSettings { settings: settings(&["b", "c", "d"]), numbers, restart_required: vec!["node".into()] };
    let effects = house.at(200, Input::Settings(Box::new(new))).to_vec();
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Load(_))));
    assert_eq!((house.text("a/status"), house.text("a/person"), house.text("a/all")), (None, None, None));
    assert_eq!((house.text("b/status"), house.text("b/person")), (Some("online"), Some("1")));
    assert_eq!((house.text("c/status"), house.text("d/status")), (Some("offline"), Some("offline")));
    assert_eq!(house.json::<Info>("bridge/info").restart_required, ["node"]);
    house.frame(300, 1, 2);
    house.frame(301, 2, 9);
    assert_eq!(
        (house.text("b/person"), house.text("c/person")),
        (Some("2"), Some("1")),
        "2 is nobody's number any more"
    );
    house.at(2300, Input::Tick);
    assert_eq!(house.text("c/person"), Some("0"), "no frame came since it was stopped");
    assert_eq!(
        house
            .scene
            .retained_topics()
            .iter()
            .filter(|topic| topic.camera().is_some_and(|c| &**c == "a"))
            .count(),
        0
    );
}

#[test]
fn detections_are_told_as_the_settings_want() {
    for (mode, persons, told) in [
        (DetectionsMode::Always, 0, true),
        (DetectionsMode::NonEmpty, 0, false),
        (DetectionsMode::NonEmpty, 1, true),
        (DetectionsMode::Off, 1, false),
    ] {
        let mut house = House::new(&["front"]);
        let mut changed = settings(&["front"]);
        changed.mqtt.detections = mode;
        house.at(0, Input::Settings(Box::new(numbered(changed, 0))));
        house.frame(10, 0, persons);
        assert_eq!(house.text("front/detections").is_some(), told, "{mode:?} with {persons}");
    }
}

#[test]
fn detections_carry_the_boxes_above_the_threshold_and_the_frames_times() {
    let mut house = House::new(&["front"]);
    let found = |score| Detection { class: 1, score, bbox: [1.0, 2.0, 5.0, 10.0] };
    house.outcome(40, 0, 1, Verdict::Detected(vec![found(0.8), found(0.5), found(0.3)]));
    let told: Detections = house.json("front/detections");
    assert_eq!(
        (told.detections.len(), told.detections[0].label.as_str(), told.detections[0].label_id),
        (1, "cat", 1)
    );
    assert_eq!((told.detections[0].bbox, told.detections[0].box_px), ([0.1, 0.2, 0.5, 1.0], [1, 2, 5, 10]));
    assert_eq!((told.mono_ms, told.model.generation, told.threshold), (100_040, 1, 0.5));
}

#[test]
fn the_rate_of_detections_is_held() {
    let mut house = House::new(&["front"]);
    let mut slow = settings(&["front"]);
    slow.mqtt.max_rate = 2.0;
    house.at(0, Input::Settings(Box::new(numbered(slow, 0))));
    let topic = Topic::of_camera(Kind::Detections, &Arc::from("front"));
    let sent = |effects: &[Effect]| {
        effects.iter().filter(|e| matches!(e, Effect::Publish(t, _) if *t == topic)).count()
    };
    let told: usize = (1..=100).map(|i| sent(house.frame(i * 100, 0, 1))).sum();
    assert_eq!(told, 20, "10 s at 2 a second");
}

#[test]
fn classes_are_mapped_through_the_generation_that_judged() {
    let mut house = House::new(&["front"]);
    house.online(0, 0);
    house.frame(10, 0, 1);
    let effects = house.at(20, Input::Generation(Box::new(generation(2, &["dog", "person"])))).to_vec();
    let gone = Topic::count(&Arc::from("front"), &Arc::from("cat"));
    assert!(effects.contains(&Effect::Forget(gone)), "{effects:?}");
    assert_eq!((house.text("front/person"), house.text("front/dog")), (Some("1"), None));
    // A frame that was begun before the swap: its class 0 is a person.
    house.frame(30, 0, 2);
    assert_eq!((house.text("front/person"), house.text("front/dog")), (Some("2"), Some("0")));
    // One after it: its class 0 is a dog.
    let dog = Detection { class: 0, score: 0.9, bbox: [6.0, 2.0, 9.0, 6.0] };
    house.outcome(40, 0, 2, Verdict::Detected(vec![dog]));
    assert_eq!(house.text("front/dog"), Some("1"));
    let stored = Stored { number: 5, earlier: vec![4, 0], candidate: Some(6), summary: "better".into() };
    house.at(50, Input::Stored(stored));
    let model: ModelState = house.json("bridge/model");
    assert_eq!((model.installed_version.as_str(), model.latest_version.as_str()), ("5", "6"));
    assert_eq!((model.can_rollback_to, model.release_summary.as_str()), (vec![4, 0], "better"));
}

#[test]
fn a_generation_that_fails_is_rolled_back_and_told_once() {
    let mut house = House::new(&["front"]);
    house.at(10, Input::Generation(Box::new(generation(2, &["person"]))));
    let unfit = || Input::Unfit { generation: 2, reason: "panicked".into() };
    assert!(house.at(20, unfit()).contains(&Effect::RollBack));
    assert_eq!(house.at(30, unfit()), [], "one rollback at a time");
    house.at(40, Input::Generation(Box::new(generation(1, &["person", "cat", ""]))));
    house.at(6000, Input::Tick);
    assert_eq!(house.json::<Health>("bridge/health").problems, ["model_fallback", "camera_offline:front"]);
    assert_eq!(house.at(6010, unfit()), [], "a late word about one that is not in use");
    let last = Input::Unfit { generation: 1, reason: "panicked, too".into() };
    assert_eq!(house.at(6020, last), [Effect::GiveUp { reason: "panicked, too".into() }]);
}

#[test]
fn without_a_generation_to_go_back_to_the_daemon_ends() {
    let mut house = House::new(&["front"]);
    let unfit = Input::Unfit { generation: 1, reason: "no session".into() };
    assert!(house.at(10, unfit).contains(&Effect::GiveUp { reason: "no session".into() }));
}

#[test]
fn health_comes_at_its_interval_and_soon_after_a_change() {
    let mut house = House::new(&["front"]);
    let topic = Topic::of_node(Kind::Health);
    let mut told = Vec::new();
    for ms in (0..=200_000).step_by(500) {
        if ms == 130_000 {
            house.online(ms, 0);
        } else {
            house.at(ms, Input::Tick);
        }
        let sent = house
            .effects
            .iter()
            .filter(|effect| matches!(effect, Effect::Publish(t, _) if *t == topic))
            .count();
        told.extend(std::iter::repeat_n(ms, sent));
    }
    // At once, each minute, at once on the change, and a minute after that.
    assert_eq!(told, [0, 60_000, 120_000, 130_000, 190_000]);
}

#[test]
fn health_has_the_best_score_below_the_threshold_since_the_last_one() {
    let mut house = House::new(&["front"]);
    house.online(0, 0);
    house.at(0, Input::Tick);
    let best = |house: &House| house.json::<Health>("bridge/health").cameras["front"].best_below;
    assert_eq!(best(&house), None);
    let found = |scores: &[f32]| {
        let at = |i: usize| [i as f32 * 3.0, 2.0, i as f32 * 3.0 + 2.0, 4.0];
        let found = scores.iter().enumerate().map(|(i, &score)| Detection { class: 0, score, bbox: at(i) });
        Verdict::Detected(found.collect())
    };
    for (ms, scores) in [(100, &[0.3, 0.2][..]), (200, &[0.9, 0.41234, 0.1]), (300, &[0.34]), (400, &[])] {
        house.outcome(ms, 0, 1, found(scores));
    }
    house.at(70_000, Input::Tick);
    assert_eq!(best(&house), Some(0.412));
    house.outcome(70_100, 0, 1, found(&[0.9]));
    house.at(140_000, Input::Tick);
    assert_eq!(best(&house), None);
}

#[test]
fn health_counts_what_came_and_what_was_lost() {
    let mut house = House::new(&["front"]);
    house.pass_eventful_minute(|_| 0);
    let health: Health = house.json("bridge/health");
    let camera = &health.cameras["front"];
    assert_eq!((camera.decode_errors, camera.failed, camera.dropped_paced, camera.reopens), (2, 1, 30, 1));
    assert_eq!(camera.last_frame.as_deref(), Some("1970-01-01T00:00:00.000Z"));
}

#[test]
fn the_watchdog_is_fed_only_while_every_camera_makes_progress() {
    let mut house = House::new(&["front"]);
    house.online(0, 0);
    for ms in (0..=60_000).step_by(1000) {
        // 5 s of silence and 10 s of work are allowed from the last sign of life.
        let alive = house.at(ms, Input::Tick).contains(&Effect::Alive);
        assert_eq!(alive, ms <= 15_000, "at {ms}");
    }
    house.frame(61_000, 0, 0);
    assert!(house.at(62_000, Input::Tick).contains(&Effect::Alive));
}

#[test]
fn a_camera_that_is_switched_off_makes_progress_while_it_gives_frames() {
    let mut house = House::new(&["front"]);
    house.online(0, 0);
    house.command(10, "front", Change::Detect(false));
    for second in 1..=60u64 {
        let flows = vec![(0, Flow { given: second * 10, paced: 0 })];
        house.at(second * 1000, Input::Machine(Box::new(Facts { flows, ..Facts::default() })));
        assert!(house.at(second * 1000 + 1, Input::Tick).contains(&Effect::Alive), "after {second} s");
    }
}

#[test]
fn throttling_rests_half_of_the_workers_and_is_told_once() {
    let mut house = House::new(&["front"]);
    let mut four = settings(&["front"]);
    four.detector.workers = 4;
    house.at(0, Input::Settings(Box::new(numbered(four, 0))));
    let facts = |throttled| {
        let machine = crate::contract::Machine { throttled: Some(throttled), ..Default::default() };
        Input::Machine(Box::new(Facts { machine, ..Facts::default() }))
    };
    assert!(house.at(10, facts(true)).contains(&Effect::Limit { workers: 2, share_percent: 100 }));
    assert_eq!(house.logged().len(), 1);
    assert!(!house.at(20, facts(true)).iter().any(|effect| matches!(effect, Effect::Limit { .. })));
    assert!(house.at(30, facts(false)).contains(&Effect::Limit { workers: 4, share_percent: 100 }));
}

#[test]
fn a_connection_brings_health_and_refused_subscriptions_are_problems() {
    let mut house = House::new(&["front"]);
    house.at(0, Input::Tick);
    let refused_filters = vec![Arc::from("retinad/n/front/detect/set")];
    house.at(10, Input::Link(LinkState { connected: true, refused_filters, ..LinkState::default() }));
    let health: Health = house.json("bridge/health");
    assert!(
        health.problems.contains(&"subscribe_refused:retinad/n/front/detect/set".to_owned()),
        "{:?}",
        health.problems
    );
}

#[test]
fn a_clock_past_the_year_9999_breaks_nothing() {
    let mut house = House::new(&["front"]);
    let far = UNIX_EPOCH + Duration::from_secs(1 << 40);
    let mut effects = Vec::new();
    let now = Now { wall: far, ..now_at(house.start, 0) };
    let outcome =
        Outcome { captured_wall: far, ..Outcome::of_nothing(house.start, Verdict::Detected(Vec::new())) };
    house.scene.handle(now, Input::Outcome(&outcome), &mut effects);
    house.scene.handle(Now { synced: false, ..now }, Input::Tick, &mut effects);
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Publish(topic, _) if topic.kind() == Kind::Detections))
    );
}

/// The samples among the effects.
fn kept(effects: &[Effect]) -> Vec<&NewSample> {
    let of = |effect: &'_ Effect| matches!(effect, Effect::Keep(_));
    effects
        .iter()
        .filter(|effect| of(effect))
        .map(|effect| match effect {
            Effect::Keep(new) => &**new,
            _ => unreachable!("filtered"),
        })
        .collect()
}

#[test]
fn frames_are_kept_when_that_is_wanted_by_the_threshold_in_force() {
    let unsure = |score| Verdict::Detected(vec![Detection { class: 1, score, bbox: [1.0, 2.0, 9.0, 9.0] }]);
    let mut house = House::new(&["front", "yard"]);
    assert_eq!(kept(house.outcome(1_000, 0, 1, unsure(0.4))), [] as [&NewSample; 0], "off by default");
    let mut wanted = settings(&["front", "yard"]);
    (wanted.samples.enabled, wanted.samples.max_mb) = (true, 3);
    house.at(2_000, Input::Settings(Box::new(numbered(wanted, 0))));
    let effects = house.outcome(3_000, 0, 1, unsure(0.4)).to_vec();
    let [new] = kept(&effects)[..] else { panic!("one sample: {effects:?}") };
    assert_eq!(new.most_bytes, 3 << 20);
    assert_eq!((new.sample.camera.as_str(), new.sample.threshold), ("front", 0.5));
    assert_eq!(new.sample.found[0].label, "cat");
    assert_eq!(new.sample.model.sha256, generation(1, &[]).sha256);
    assert!(new.sample.reasons.contains(&crate::samples::Reason::Uncertain));
    // 0.4 is not around a threshold of 0.2.
    house.at(4_000, Input::Command(Command { camera: Arc::from("yard"), change: Change::Threshold(0.2) }));
    assert!(kept(house.outcome(5_000, 1, 1, unsure(0.4))).is_empty());
    let effects = house.outcome(70_000, 1, 1, unsure(0.3)).to_vec();
    let [new] = kept(&effects)[..] else { panic!("one sample: {effects:?}") };
    assert_eq!((new.sample.camera.as_str(), new.sample.threshold), ("yard", 0.2));
    // A camera that is switched off keeps nothing.
    house.at(200_000, Input::Command(Command { camera: Arc::from("yard"), change: Change::Detect(false) }));
    assert!(kept(house.outcome(201_000, 1, 1, Verdict::Detected(Vec::new()))).is_empty());
}
