//! What is told of a camera's picture, and its zones, lines and masks.

use super::*;

/// A house whose settings have this below `[cameras.front]`.
fn house(front: &str) -> House {
    let mut house = House::new(&["front"]);
    set(&mut house, 0, front);
    house.online(0, 0);
    house
}

/// Takes other settings of the camera, which runs on.
fn set(house: &mut House, ms: u64, front: &str) {
    let text = format!(
        "[mqtt]\ndetections = \"always\"\nmax_rate = 60.0\n[cameras.front]\nkind = \"v4l2\"\nmin_hits = 1\n{front}"
    );
    let settings: Settings = toml::from_str(&text).expect("settings");
    house.at(ms, Input::Settings(Box::new(numbered(settings, 0))));
}

/// A detection in the picture of 10 by 10 pixels.
fn found(class: usize, score: f32, bbox: [f32; 4]) -> Detection {
    Detection { class, score, bbox }
}

fn show(house: &mut House, ms: u64, objects: &[Detection]) {
    let mut objects = objects.to_vec();
    objects.sort_by(|a, b| b.score.total_cmp(&a.score));
    house.outcome(ms, 0, 1, Verdict::Detected(objects));
}

fn labels_told(house: &House) -> Vec<(String, f64)> {
    let message: Detections = house.json("front/detections");
    message.detections.into_iter().map(|object| (object.label, object.score)).collect()
}

const BOX: [f32; 4] = [1.0, 2.0, 5.0, 8.0];
const BESIDE: [f32; 4] = [6.0, 2.0, 9.0, 8.0];

#[test]
fn a_label_that_is_not_wanted_is_neither_told_nor_counted_and_has_no_topic() {
    let mut house = house("labels = [\"cat\"]\n");
    show(&mut house, 100, &[found(0, 0.9, BOX), found(1, 0.8, BOX)]);
    assert_eq!(labels_told(&house), [("cat".to_owned(), 0.8)]);
    assert_eq!((house.text("front/cat"), house.text("front/all")), (Some("1"), Some("1")));
    assert_eq!(house.text("front/person"), None);
    let info: Info = house.json("bridge/info");
    assert_eq!(info.cameras["front"].labels.keys().collect::<Vec<_>>(), ["cat"]);
    let health: Health = house.json("bridge/health");
    assert_eq!(health.cameras["front"].best_below, None, "the person is no near miss");
}

#[test]
fn the_count_of_a_label_that_is_wanted_no_more_is_taken_off_the_broker_and_the_camera_runs_on() {
    let mut house = house("");
    show(&mut house, 100, &[found(0, 0.9, BOX), found(1, 0.8, BESIDE)]);
    assert_eq!((house.text("front/person"), house.text("front/all")), (Some("1"), Some("2")));
    set(&mut house, 200, "labels = [\"cat\"]\n");
    let forgotten: Vec<String> = house
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Forget(topic) => Some(topic.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(forgotten, ["front/person"]);
    assert_eq!((house.text("front/cat"), house.text("front/all")), (Some("1"), Some("1")), "counts go on");
    show(&mut house, 300, &[found(0, 0.9, BOX), found(1, 0.8, BESIDE)]);
    assert_eq!((house.text("front/person"), house.text("front/all")), (None, Some("1")));
}

#[test]
fn a_rule_asks_for_another_score_and_a_size() {
    let mut house = house(
        "[cameras.front.rules.person]\nmin_score = 0.7\n\
         [cameras.front.rules.cat]\nmin_score = 0.3\nmin_size = 0.1\n",
    );
    // 4 by 6 of 100 pixels, and 2 by 2.
    let (large, small) = (BOX, [6.0, 6.0, 8.0, 8.0]);
    show(&mut house, 100, &[found(0, 0.65, large), found(1, 0.35, large), found(1, 0.9, small)]);
    assert_eq!(labels_told(&house), [("cat".to_owned(), 0.35)]);
    show(&mut house, 200, &[found(0, 0.75, small)]);
    assert_eq!(labels_told(&house), [("person".to_owned(), 0.75)]);
}

#[test]
fn what_was_told_stays_at_a_lower_score_until_the_threshold_is_set_anew() {
    let mut house = house("off_score = 0.3\n");
    show(&mut house, 100, &[found(0, 0.4, BOX)]);
    assert_eq!(labels_told(&house), []);
    show(&mut house, 200, &[found(0, 0.6, BOX)]);
    show(&mut house, 300, &[found(0, 0.35, BOX)]);
    assert_eq!(labels_told(&house), [("person".to_owned(), 0.35)]);
    show(&mut house, 400, &[found(0, 0.3, BOX)]);
    assert_eq!(labels_told(&house), []);
    show(&mut house, 500, &[found(0, 0.35, BOX)]);
    assert_eq!(labels_told(&house).len(), 1);
    house.command(600, "front", Change::Threshold(0.9));
    show(&mut house, 700, &[found(0, 0.85, BOX)]);
    assert_eq!(labels_told(&house), [], "whoever raises the threshold sees it at once");
}

#[test]
fn a_settings_file_without_an_off_score_uses_seven_tenths_and_099_none() {
    for (front, told) in [("", 1), ("off_score = 0.99\n", 0)] {
        let mut house = house(front);
        show(&mut house, 100, &[found(0, 0.6, BOX)]);
        show(&mut house, 200, &[found(0, 0.36, BOX)]);
        assert_eq!(labels_told(&house).len(), told, "{front}");
    }
}

#[test]
fn an_object_that_is_masked_is_as_if_it_were_not_there() {
    let mut house = house(
        "[cameras.front.masks.street]\npoints = [[0, 0], [1, 0], [1, 0.5], [0, 0.5]]\nlabels = [\"person\"]\n",
    );
    let (above, astride, below) = ([1.0, 0.0, 3.0, 4.0], [1.0, 2.0, 3.0, 9.0], [6.0, 6.0, 8.0, 9.0]);
    show(&mut house, 100, &[found(0, 0.9, above), found(0, 0.8, astride), found(0, 0.7, below)]);
    assert_eq!(labels_told(&house).len(), 2);
    show(&mut house, 200, &[found(0, 0.9, above), found(1, 0.8, above)]);
    assert_eq!(labels_told(&house), [("cat".to_owned(), 0.8)], "the mask is for persons");
    assert_eq!(house.text("front/person"), Some("2"), "falls after its delay only");
    show(&mut house, 2300, &[found(0, 0.9, above)]);
    assert_eq!(house.text("front/person"), Some("0"));
}

#[test]
fn samples_carry_what_is_hidden_and_nothing_of_what_is_masked() {
    let mut house = house(
        "[cameras.front.masks.window]\nhides = \"picture\"\npoints = [[0, 0], [1, 0], [1, 0.5], [0, 0.5]]\n\
         [cameras.front.masks.road]\npoints = [[0, 0.9], [1, 0.9], [1, 1]]\n[samples]\nenabled = true\n",
    );
    show(&mut house, 100, &[found(0, 0.9, [1.0, 0.0, 3.0, 4.0]), found(1, 0.45, [6.0, 6.0, 8.0, 9.0])]);
    let [new] = kept(&house.effects)[..] else { panic!("{:?}", house.effects) };
    assert_eq!(new.hidden.len(), 1, "only what is black in pictures");
    let found: Vec<_> = new.sample.found.iter().map(|found| (found.label.as_str(), found.told)).collect();
    assert_eq!(found, [("cat", false)]);
}

#[test]
fn objects_are_counted_in_the_zone_in_which_they_stand() {
    let mut house = house(
        "[cameras.front.zones.drive]\npoints = [[0, 0.5], [1, 0.5], [1, 1], [0, 1]]\nlabels = [\"person\"]\n",
    );
    // The first one's head is in the zone of the second and its feet are not; the other way round.
    let (outside, inside) = ([1.0, 0.0, 3.0, 4.9], [6.0, 1.0, 8.0, 6.0]);
    show(
        &mut house,
        100,
        &[found(0, 0.9, outside), found(0, 0.8, inside), found(1, 0.7, [3.5, 1.0, 5.5, 6.0])],
    );
    assert_eq!(house.text("front/zone/drive/person"), Some("1"));
    assert_eq!(house.text("front/zone/drive/cat"), None, "the zone is for persons");
    assert_eq!((house.text("front/person"), house.text("front/cat")), (Some("2"), Some("1")));
    show(&mut house, 200, &[found(0, 0.9, outside)]);
    assert_eq!(house.text("front/zone/drive/person"), Some("1"), "falls after its delay only");
    house.at(2300, Input::Tick);
    assert_eq!(house.text("front/zone/drive/person"), Some("0"));
    let info: Info = house.json("bridge/info");
    assert_eq!(info.cameras["front"].zones, ["drive"]);
    set(&mut house, 3000, "");
    assert_eq!(house.text("front/zone/drive/person"), None, "taken off the broker");
}

#[test]
fn who_passes_a_zone_does_not_count_where_one_must_loiter() {
    let mut house =
        house("[cameras.front.zones.door]\npoints = [[0, 0], [1, 0], [1, 1], [0, 1]]\nloiter_s = 1.0\n");
    let told = |house: &mut House, ms: u64, bbox: [f32; 4]| {
        show(house, ms, &[found(0, 0.9, bbox)]);
        house.text("front/zone/door/person").map(str::to_owned)
    };
    assert_eq!(told(&mut house, 100, BOX).as_deref(), Some("0"));
    assert_eq!(told(&mut house, 600, BOX).as_deref(), Some("0"));
    assert_eq!(told(&mut house, 1100, BOX).as_deref(), Some("1"), "a second later");
    // A setting that has nothing to do with it does not make everybody begin anew.
    set(
        &mut house,
        1200,
        "max_fps = 0.0\n[cameras.front.zones.door]\npoints = [[0, 0], [1, 0], [1, 1], [0, 1]]\nloiter_s = 1.0\n\
         [cameras.front.zones.other]\npoints = [[0, 0], [1, 0], [1, 1]]\n",
    );
    assert_eq!(told(&mut house, 1300, BOX).as_deref(), Some("1"));
    house.offline(1400, 0);
    house.at(60_000, Input::Tick);
    assert_eq!(house.text("front/zone/door/person"), Some("0"), "nothing can be seen");
    house.at(61_000, Input::Stop);
}

#[test]
fn who_crosses_a_line_is_counted_once_and_by_direction() {
    let mut house = house("[cameras.front.lines.gate]\npoints = [[0.5, 0], [0.5, 1]]\n");
    let total =
        |house: &House, side: &str| house.text(&format!("front/line/gate/person/{side}")).map(str::to_owned);
    assert_eq!((total(&house, "right").as_deref(), total(&house, "left").as_deref()), (Some("0"), Some("0")));
    // From the right of the picture to its left and back, a pixel a frame.
    let way = (0..8_u8).rev().chain(0..8).map(f32::from);
    for (i, left) in way.enumerate() {
        show(&mut house, 100 * i as u64, &[found(0, 0.9, [left, 1.0, left + 3.0, 9.0])]);
        if left == 0.0 {
            assert_eq!(total(&house, "right").as_deref(), Some("1"));
        }
    }
    assert_eq!((total(&house, "right").as_deref(), total(&house, "left").as_deref()), (Some("1"), Some("1")));
    assert_eq!(house.text("front/line/gate/cat/left"), Some("0"));
    set(&mut house, 5000, "");
    assert_eq!(total(&house, "right"), None, "taken off the broker");
}

#[test]
fn a_model_that_lacks_a_label_of_the_settings_is_told_of() {
    let mut house = house("[cameras.front.rules.cat]\nmin_size = 0.1\n");
    house.at(100, Input::Generation(Box::new(generation(2, &["person", "dog"]))));
    let said = house.effects.iter().any(|effect| match effect {
        Effect::Tell(Log::LabelUnknown { reason }) => {
            reason.starts_with("cameras.front.rules.cat: the model")
        }
        _ => false,
    });
    assert!(said, "{:?}", house.effects);
    house.outcome(200, 0, 2, Verdict::Detected(vec![found(1, 0.9, BOX)]));
    assert_eq!((house.text("front/dog"), house.text("front/cat")), (Some("1"), None));
}

#[test]
fn a_camera_that_gives_a_frame_in_ten_seconds_knows_its_objects_again() {
    let mut house = house(
        "timeout_s = 60.0\n[cameras.front.zones.door]\npoints = [[0, 0], [1, 0], [1, 1], [0, 1]]\nloiter_s = 15.0\n",
    );
    let scores = [0.6, 0.4, 0.4];
    for (frame, score) in scores.into_iter().enumerate() {
        show(&mut house, 10_000 * frame as u64, &[found(0, score, BOX)]);
        assert_eq!(labels_told(&house).len(), 1, "frame {frame}");
        let loiters = house.text("front/zone/door/person") == Some("1");
        assert_eq!(loiters, frame == 2, "frame {frame}");
    }
    show(&mut house, 120_000, &[found(0, 0.4, BOX)]);
    assert_eq!(labels_told(&house), [], "after 100 s without a frame it may be anything");
}
