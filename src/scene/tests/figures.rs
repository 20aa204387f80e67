//! Metrics: the same numbers as health, and counters that never fall.

use super::*;
use crate::contract::CameraHealth;
use crate::metrics::{CameraFigures, Figures};

impl House {
    fn figures(&self) -> Figures {
        self.scene.figures(now_at(self.start, self.ms))
    }

    fn camera_figures(&self) -> CameraFigures {
        self.figures().cameras.swap_remove(0)
    }
}

/// The eventful minute, in which a person came and went, too.
fn eventful() -> House {
    let mut house = House::new(&["front"]);
    house.pass_eventful_minute(|ms| usize::from(ms < 2000));
    house
}

#[test]
fn figures_are_the_numbers_of_health() {
    let house = eventful();
    let health: Health = house.json("bridge/health");
    let figures = house.figures();
    assert_eq!((figures.state, figures.clock_synced), (health.state, health.clock_synced));
    assert_eq!(figures.problems.iter().map(ToString::to_string).collect::<Vec<_>>(), health.problems);
    let camera = house.camera_figures();
    let told: &CameraHealth = &health.cameras["front"];
    let counters = camera.counters;
    assert_eq!(
        (counters.stale, counters.paced, counters.damaged, counters.failed, counters.reopens),
        (told.dropped_stale, told.dropped_paced, told.decode_errors, told.failed, told.reopens)
    );
    assert_eq!((counters.frames, counters.looked_at, counters.damaged, counters.failed), (90, 60, 2, 1));
    assert_eq!(camera.status, told.status);
    for histogram in [&camera.times.age, &camera.times.inference, &camera.times.queue] {
        assert_eq!(histogram.count(), counters.looked_at, "one of each frame that was looked at");
    }
}

#[test]
fn objects_and_their_events_are_counted() {
    let house = eventful();
    let camera = house.camera_figures();
    assert_eq!((camera.counters.events[0], camera.counters.events[2]), (1, 1));
    let labels: Vec<_> =
        camera.labels.iter().map(|label| (label.label.as_str(), label.objects, label.started)).collect();
    assert_eq!(labels, [("person", Some(0), 1), ("cat", Some(0), 0)]);
}

#[test]
fn looking_changes_nothing_and_a_health_message_resets_nothing() {
    let mut house = eventful();
    let before = house.camera_figures();
    assert_eq!(house.camera_figures().counters, before.counters);
    house.at(200_000, Input::Tick);
    assert_eq!(house.camera_figures().counters, before.counters, "health was told in between");
}

#[test]
fn counters_go_on_when_the_camera_is_restarted_or_the_model_changes() {
    let mut house = eventful();
    let before = house.camera_figures();
    // The same camera under another number, whose supervisor counts from 0 again.
    house.at(70_100, Input::Settings(Box::new(numbered(settings(&["front"]), 7))));
    let flows = vec![(7, Flow { given: 5, paced: 1 })];
    house.at(70_200, Input::Machine(Box::new(Facts { flows, ..Facts::default() })));
    let after = house.camera_figures();
    assert_eq!((after.counters.frames, after.counters.paced), (95, 31));
    assert_eq!((after.counters.looked_at, after.times), (before.counters.looked_at, before.times));
    house.at(70_300, Input::Generation(Box::new(generation(2, &["cat"]))));
    let figures = house.figures();
    assert_eq!(figures.generation, 2);
    let labels: Vec<_> =
        figures.cameras[0].labels.iter().map(|label| (label.label.as_str(), label.started)).collect();
    assert_eq!(labels, [("cat", 0), ("person", 1)], "a label that the model lost keeps its counter");
}

#[test]
fn the_share_of_still_frames_is_counted_and_motion_told_only_with_a_gate() {
    let mut house = House::new(&["front"]);
    house.online(0, 0);
    assert_eq!(house.camera_figures().moving, None);
    let mut gated = settings(&["front"]);
    gated.cameras.get_mut("front").expect("the camera").motion = true;
    house.at(10, Input::Settings(Box::new(numbered(gated, 0))));
    let still = |ms| Outcome {
        seq: ms,
        width: 10,
        height: 10,
        moving: Some(false),
        ..Outcome::of_nothing(house.start + Duration::from_millis(ms), Verdict::Unchanged)
    };
    let outcomes = [still(100), still(200)];
    for (i, outcome) in outcomes.iter().enumerate() {
        house.at(100 + 100 * i as u64, Input::Outcome(outcome));
    }
    let camera = house.camera_figures();
    assert_eq!((camera.counters.unchanged, camera.counters.looked_at, camera.moving), (2, 0, Some(false)));
    assert_eq!(camera.times.age.count(), 0);
}
