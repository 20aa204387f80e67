//! Events of objects: each start has one end, whatever happens in between.

use super::*;
use crate::contract::{Changed, EndReason, EventType, ObjectEvent, ulid_text};

/// A house in which the broker acknowledges everything and the disk writes at once, and every event it told.
struct Told {
    house: House,
    events: Vec<ObjectEvent>,
    disk: Vec<u8>,
}

/// A detection in the picture of 10 by 10 pixels.
fn person(score: f32, left: f32) -> Detection {
    Detection { class: 0, score, bbox: [left, 2.0, left + 2.0, 8.0] }
}

impl Told {
    /// With this below `[cameras.front]`.
    fn new(front: &str) -> Self {
        Self::keeping(front, Remembered::default())
    }

    fn keeping(front: &str, kept: Remembered) -> Self {
        let house = House::keeping(&["front"], kept);
        let mut told = Self { house, events: Vec::new(), disk: Vec::new() };
        told.disk_writes();
        told.set(0, front);
        told.house.online(0, 0);
        told
    }

    fn set(&mut self, ms: u64, front: &str) {
        let text = format!("[mqtt]\nmax_rate = 60.0\n[cameras.front]\nkind = \"v4l2\"\n{front}");
        let settings: Settings = toml::from_str(&text).expect("settings");
        self.at(ms, Input::Settings(Box::new(numbered(settings, 0))));
    }

    fn at(&mut self, ms: u64, input: Input<'_>) {
        self.house.at(ms, input);
        self.disk_writes();
    }

    /// The disk writes what it was given, and the broker takes what is published then.
    fn disk_writes(&mut self) {
        loop {
            let effects = std::mem::take(&mut self.house.effects);
            let mut inputs = Vec::new();
            for effect in effects {
                match effect {
                    Effect::Record { revision, bytes } => {
                        self.disk = bytes;
                        inputs.push(Input::Written(revision));
                    }
                    Effect::PublishEvent { topic, payload, key, .. } => {
                        assert_eq!(topic.to_string(), "front/events");
                        self.events.push(serde_json::from_slice(&payload).expect("an event"));
                        inputs.push(Input::Settled(vec![key]));
                    }
                    _ => {}
                }
            }
            if inputs.is_empty() {
                return;
            }
            let now = now_at(self.house.start, self.house.ms);
            for input in inputs {
                self.house.scene.handle(now, input, &mut self.house.effects);
            }
        }
    }

    fn show(&mut self, ms: u64, found: &[Detection]) {
        self.house.outcome(ms, 0, 1, Verdict::Detected(found.to_vec()));
        self.disk_writes();
    }

    /// What was told since the last call.
    fn news(&mut self) -> Vec<ObjectEvent> {
        std::mem::take(&mut self.events)
    }

    fn news_in_short(&mut self) -> Vec<(EventType, Option<EndReason>)> {
        self.news().into_iter().map(|event| (event.event_type, event.end_reason)).collect()
    }
}

const START: (EventType, Option<EndReason>) = (EventType::Start, None);

fn end(reason: EndReason) -> (EventType, Option<EndReason>) {
    (EventType::End, Some(reason))
}

#[test]
fn an_object_is_told_from_its_second_frame_to_its_end_under_one_id() {
    let mut told = Told::new("");
    told.show(1000, &[person(0.7, 1.0)]);
    assert_eq!(told.news(), [], "once may be a mistake");
    assert_eq!(told.house.text("front/person"), Some("0"));
    told.show(1200, &[person(0.72, 1.0)]);
    assert_eq!(told.house.text("front/person"), Some("1"));
    let [start] = &told.news()[..] else { panic!("no start") };
    assert_eq!(
        (start.event_type, start.label.as_str(), start.seq, start.frames),
        (EventType::Start, "person", 1200, 2)
    );
    assert_eq!(start.started_at, "1970-01-01T00:00:01.000Z");
    assert_eq!((start.box_px, start.bbox), ([1, 2, 3, 8], [0.1, 0.2, 0.3, 0.8]));
    assert_eq!((start.mono_ms, start.duration_s, start.ended_at.as_ref()), (101_200, 0.2, None));
    let detections: Detections = told.house.json("front/detections");
    assert_eq!(detections.detections[0].track.as_ref(), Some(&start.id));
    // It leaves: the count falls after its delay, the object ends after its age.
    for ms in [1400, 1600, 1800, 4000] {
        told.show(ms, &[]);
    }
    assert_eq!(told.house.text("front/person"), Some("0"));
    assert_eq!(told.news(), []);
    told.at(6300, Input::Tick);
    let [end] = &told.news()[..] else { panic!("no end") };
    assert_eq!((end.event_type, end.end_reason, &end.id), (EventType::End, Some(EndReason::Gone), &start.id));
    assert_eq!(end.ended_at.as_deref(), Some("1970-01-01T00:00:01.200Z"), "when it was seen last");
    assert_eq!((end.duration_s, &end.started_at), (0.2, &start.started_at));
    let empty = Ledger::default().encode();
    assert_eq!(told.disk, empty, "nothing is left to be told");
}

#[test]
fn changes_are_told_once_a_second_at_most_and_by_time_alone() {
    let mut told = Told::new("[cameras.front.zones.door]\npoints = [[0.5, 0], [1, 0], [1, 1], [0.5, 1]]\n");
    told.show(0, &[person(0.6, 1.0)]);
    told.show(200, &[person(0.6, 1.0)]);
    assert_eq!(told.news_in_short(), [START]);
    told.show(400, &[person(0.64, 2.0)]);
    told.show(1100, &[person(0.8, 4.5)]);
    assert_eq!(told.news(), [], "within a second of its start");
    told.at(1190, Input::Tick);
    assert_eq!(told.news(), []);
    told.at(1210, Input::Tick);
    let [update] = &told.news()[..] else { panic!("no update") };
    assert_eq!(update.changed, [Changed::Zones, Changed::TopScore]);
    assert_eq!((&update.zones[..], update.top_score, update.seq), (&["door".to_owned()][..], 0.8, 1100));
    told.show(2300, &[person(0.6, 1.0)]);
    let [update] = &told.news()[..] else { panic!("no update") };
    assert_eq!(update.changed, [Changed::Zones]);
    assert_eq!((update.zones.len(), &update.entered_zones[..]), (0, &["door".to_owned()][..]));
    for ms in (2500..12_000).step_by(250) {
        told.show(ms, &[person(0.6, 1.0)]);
    }
    let [update] = &told.news()[..] else { panic!("no update") };
    assert!(update.changed == [Changed::Stationary] && update.stationary, "{update:?}");
}

#[test]
fn whatever_ends_the_view_ends_its_objects_for_that_reason() {
    type End = fn(&mut Told);
    let ends: [(EndReason, End); 6] = [
        (EndReason::CameraOffline, |told| {
            told.house.offline(1000, 0);
        }),
        (EndReason::CameraOffline, |told| {
            for ms in (1000..3000).step_by(100) {
                told.house.outcome(ms, 0, 1, Verdict::Damaged("cut short".into()));
                told.disk_writes();
            }
        }),
        (EndReason::Disabled, |told| {
            told.house.command(1000, "front", Change::Detect(false));
        }),
        (EndReason::Shutdown, |told| told.at(1000, Input::Stop)),
        (EndReason::CameraOffline, |told| {
            let none: Settings = toml::from_str("").expect("settings");
            told.at(1000, Input::Settings(Box::new(numbered(none, 0))));
        }),
        (EndReason::CameraOffline, |told| {
            let again: Settings = toml::from_str("[cameras.front]\nkind = \"v4l2\"\n").expect("settings");
            told.at(1000, Input::Settings(Box::new(numbered(again, 5))));
        }),
    ];
    for (reason, bring) in ends {
        let mut told = Told::new("");
        told.show(500, &[person(0.7, 1.0), person(0.6, 6.0)]);
        told.show(700, &[person(0.7, 1.0), person(0.6, 6.0)]);
        assert_eq!(told.news_in_short(), [START, START]);
        bring(&mut told);
        told.at(3050, Input::Tick);
        assert_eq!(told.news_in_short(), [end(reason), end(reason)], "{reason:?}");
        told.at(600_000, Input::Tick);
        assert_eq!(told.news(), [], "{reason:?}");
    }
}

#[test]
fn a_short_gap_of_the_camera_ends_nobody() {
    let mut told = Told::new("");
    told.show(0, &[person(0.7, 1.0)]);
    told.show(200, &[person(0.7, 1.0)]);
    told.house.offline(400, 0);
    told.disk_writes();
    told.house.online(2000, 0);
    told.show(2100, &[person(0.7, 1.0)]);
    told.at(6000, Input::Tick);
    assert_eq!(told.news_in_short(), [START]);
}

#[test]
fn another_model_with_the_same_labels_goes_on_with_the_same_objects() {
    let mut told = Told::new("");
    told.show(0, &[person(0.7, 1.0)]);
    told.show(200, &[person(0.7, 1.0)]);
    told.at(300, Input::Generation(Box::new(generation(2, &["dog", "person"]))));
    for ms in [400, 600] {
        let found = Detection { class: 1, ..person(0.7, 1.0) };
        told.house.outcome(ms, 0, 2, Verdict::Detected(vec![found]));
        told.disk_writes();
    }
    assert_eq!(told.news_in_short(), [START]);
    assert_eq!((told.house.text("front/person"), told.house.text("front/dog")), (Some("1"), Some("0")));
}

#[test]
fn a_daemon_that_starts_after_a_crash_ends_what_was_open() {
    let mut told = Told::new("");
    told.show(0, &[person(0.7, 1.0)]);
    told.show(200, &[person(0.7, 1.0)]);
    let started = told.news();
    let kept = |disk: &[u8]| {
        let ledger = Ledger::parse(std::str::from_utf8(disk).expect("text")).expect("ours");
        Remembered { ledger, ..Remembered::default() }
    };
    let mut after = Told::keeping("", kept(&told.disk));
    let [end] = &after.news()[..] else { panic!("no end") };
    assert_eq!((end.event_type, end.end_reason), (EventType::End, Some(EndReason::Restart)));
    assert_eq!((&end.id, end.ended_at.as_ref()), (&started[0].id, Some(&started[0].time)));
    assert_eq!(Told::keeping("", kept(&after.disk)).news(), [], "it is told once");
}

#[test]
fn a_wall_clock_that_steps_back_an_hour_ends_nobody_and_makes_no_duration_wrong() {
    let mut told = Told::new("");
    told.show(4_000_000, &[person(0.7, 1.0)]);
    told.show(4_000_200, &[person(0.7, 1.0)]);
    let started = told.news();
    let mut now = now_at(told.house.start, 4_000_400);
    now.wall -= Duration::from_secs(3600);
    told.house.scene.handle(now, Input::Stop, &mut told.house.effects);
    told.disk_writes();
    let [end] = &told.news()[..] else { panic!("no end") };
    assert_eq!((&end.id, end.duration_s), (&started[0].id, 0.2));
}

#[test]
fn an_object_that_stays_for_a_month_is_one_object_and_little_is_said_of_it() {
    let mut told = Told::new("");
    let month_ms = 30 * 24 * 3600 * 1000;
    for frame in 0..20_000_u64 {
        // 20,000 of the frames of a month: flicker, then long rests without a frame within the minute.
        let found = if frame % 5 == 0 { vec![] } else { vec![person(0.6, 1.0)] };
        told.show(frame * 1000, &found);
    }
    told.show(20_000_000, &[person(0.6, 1.0)]);
    let news = told.news();
    assert!(news.len() < 10, "{}", news.len());
    told.at(20_000_000 + month_ms, Input::Tick);
    let ended = told.news();
    assert_eq!(ended.len(), 1);
    assert_eq!((ended[0].end_reason, &ended[0].id), (Some(EndReason::Gone), &news[0].id));
    assert_eq!(ended[0].duration_s, 19_999.0);
}

#[test]
fn ids_sort_by_time_and_another_daemon_gives_others() {
    let mut ids = events::Ulids::new("a");
    let at = |ms| UNIX_EPOCH + Duration::from_millis(ms);
    let first: Vec<String> = (0..100).map(|ms| ulid_text(ids.next(at(ms)).0)).collect();
    assert!(first.is_sorted() && first.iter().all(|id| id.len() == 26));
    let mut others = events::Ulids::new("b");
    assert!(first.iter().all(|id| *id != ulid_text(others.next(at(0)).0)));
}

#[test]
fn a_verdict_on_an_event_is_one_on_its_object_in_the_frame_that_shows_it_best() {
    let text = "[samples]\nenabled = true\n";
    let mut told = Told::new(text);
    for (ms, score) in [(100, 0.7), (300, 0.9), (500, 0.6)] {
        told.show(ms, &[person(score, 1.0), Detection { class: 1, ..person(0.55, 5.0) }]);
    }
    let id = told.news().into_iter().find(|event| event.label == "person").expect("an event").id;
    let ask = |told: &mut Told, payload: String| {
        let incoming = Incoming::read(&Arc::from("feedback"), payload.as_bytes());
        told.house.at(600, Input::Request(Box::new(incoming)));
        told.house.errand()
    };
    let errand = ask(&mut told, format!(r#"{{"event":"{id}","verdict":"false_positive"}}"#));
    let Some((_, Errand::Label(labelling))) = errand else { panic!("{errand:?}") };
    let Labelling { new, opinion } = *labelling;
    assert_eq!(new.sample.found[0].score, 0.9, "the frame that shows it best");
    let [label] = &opinion.labels[..] else { panic!("{:?}", opinion.labels) };
    assert_eq!((label.label.as_str(), label.bbox), ("background", [1.0, 2.0, 3.0, 8.0]));
    let unknown = format!(r#"{{"event":"{}","verdict":"correct"}}"#, ulid_text(7));
    let (code, words) = told.house.refusal(700, "feedback", &unknown);
    assert!(code == crate::contract::Code::NotFound && words.contains(&ulid_text(7)), "{words}");
}
