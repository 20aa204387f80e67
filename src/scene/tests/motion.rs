//! Frames that nobody looked at because nothing moved in them.

use super::*;

/// A camera with a gate.
fn gated() -> House {
    let mut house = House::new(&["front"]);
    let mut settings = settings(&["front"]);
    settings.cameras.get_mut("front").expect("the camera").motion = true;
    house.at(0, Input::Settings(Box::new(numbered(settings, 0))));
    house.online(0, 0);
    house
}

impl House {
    /// A frame that was looked at, in which something moves or not.
    fn looked(&mut self, ms: u64, persons: usize, moving: bool) -> &[Effect] {
        let person = |i: usize| {
            let left = i as f32 * 2.0;
            Detection { class: 0, score: 0.9, bbox: [left, 2.0, left + 1.5, 6.0] }
        };
        self.seen(ms, Verdict::Detected((0..persons).map(person).collect()), moving)
    }

    fn unchanged(&mut self, ms: u64) -> &[Effect] {
        self.seen(ms, Verdict::Unchanged, false)
    }

    fn seen(&mut self, ms: u64, verdict: Verdict, moving: bool) -> &[Effect] {
        let captured = self.start + Duration::from_millis(ms);
        let outcome = Outcome {
            seq: ms,
            width: 10,
            height: 10,
            moving: Some(moving),
            ..Outcome::of_nothing(captured, verdict)
        };
        self.at(ms, Input::Outcome(&outcome))
    }
}

fn looks_again(effects: &[Effect]) -> bool {
    effects.contains(&Effect::LookAgain { camera: 0 })
}

#[test]
fn what_was_seen_stays_while_nothing_moves_and_no_frame_is_told() {
    let mut house = gated();
    house.looked(100, 1, true);
    assert_eq!(house.text("front/person"), Some("1"));
    // Far longer than counts and objects last without being seen.
    for i in 1..3000 {
        let effects = house.unchanged(100 + 200 * i);
        let told =
            |effect: &Effect| matches!(effect, Effect::Publish(topic, _) if topic.kind() == Kind::Detections);
        assert!(!effects.iter().any(told), "frame {i}");
    }
    assert_eq!((house.text("front/person"), house.text("front/status")), (Some("1"), Some("online")));
    // It is gone when a look says so, and not before.
    let at = 100 + 200 * 3000;
    house.looked(at, 0, true);
    assert_eq!(house.text("front/person"), Some("1"));
    house.looked(at + 100_000, 0, false);
    assert_eq!(house.text("front/person"), Some("0"));
}

#[test]
fn who_was_missed_is_looked_for_again_at_once() {
    let mut house = gated();
    assert!(!looks_again(house.looked(100, 2, true)));
    assert!(!looks_again(house.unchanged(300)));
    assert!(looks_again(house.looked(500, 1, false)), "one of two was not found");
    assert!(!looks_again(house.looked(700, 2, false)), "both are");
    assert!(looks_again(house.command(800, "front", Change::Threshold(0.3))), "fainter ones may be there");
    // Without a gate every frame is looked at anyway.
    let mut house = House::new(&["front"]);
    house.online(0, 0);
    house.frame(100, 0, 2);
    assert!(!looks_again(house.frame(300, 0, 1)));
}

#[test]
fn motion_is_told_while_the_gate_is_on_and_taken_back_after() {
    let mut house = gated();
    assert_eq!(house.text("front/motion"), None, "nothing is known");
    house.looked(100, 0, false);
    assert_eq!(house.text("front/motion"), Some("OFF"));
    house.looked(300, 0, true);
    assert_eq!(house.text("front/motion"), Some("ON"));
    house.unchanged(500);
    assert_eq!(house.text("front/motion"), Some("ON"));
    house.at(60_000, Input::Tick);
    assert_eq!(house.text("front/motion"), Some("OFF"), "also without a frame");
    house.looked(60_100, 0, true);
    house.at(60_200, Input::Settings(Box::new(numbered(settings(&["front"]), 1))));
    assert_eq!(house.text("front/motion"), None);
}

/// The shares that health told of frames that were not looked at, until `ms`.
fn unchanged_shares(house: &mut House, ms: u64) -> Vec<Option<f64>> {
    let health = |effect: &Effect| match effect {
        Effect::Publish(topic, payload) if topic.kind() == Kind::Health => {
            Some(serde_json::from_slice::<Health>(payload).expect("health"))
        }
        _ => None,
    };
    let told: Vec<Health> = house.at(ms, Input::Tick).iter().filter_map(health).collect();
    assert!(!told.is_empty());
    told.iter().map(|health| health.cameras["front"].unchanged_share).collect()
}

#[test]
fn health_has_the_share_of_frames_that_were_not_looked_at() {
    let mut house = gated();
    unchanged_shares(&mut house, 100_000);
    house.looked(100_100, 0, false);
    for i in 1..4 {
        house.unchanged(100_100 + 200 * i);
    }
    let shares = unchanged_shares(&mut house, 400_000);
    assert_eq!((shares[0], shares[1]), (Some(0.75), None), "{shares:?}");
    let mut house = House::new(&["front"]);
    house.online(0, 0);
    house.frame(100, 0, 1);
    assert!(unchanged_shares(&mut house, 400_000).iter().all(Option::is_none), "no gate");
}
