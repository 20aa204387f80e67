//! What a tracker must do, each shown on scenes of a few boxes.

mod confusions;

use super::*;
use crate::splitmix::SplitMix64;
use std::collections::HashMap;

const PICTURE: Picture = Picture { width: 640, height: 480 };
/// 2 frames a second.
const STEP: u64 = 500;

fn at(x: f32, y: f32, score: f32) -> Sighting {
    sized(x, y, 40.0, 100.0, score)
}

/// A sighting by its centre and size; strong from 0.5.
fn sized(x: f32, y: f32, w: f32, h: f32, score: f32) -> Sighting {
    let bbox = [x - w / 2.0, y - h / 2.0, x + w / 2.0, y + h / 2.0];
    Sighting { class: 0, score, bbox, strong: score >= 0.5 }
}

/// A tracker with a clock and a source of ids.
struct Camera {
    tracker: Tracker,
    now: u64,
    ids: u128,
    started: Vec<Track>,
    ended: Vec<(Track, EndReason)>,
}

impl Camera {
    fn new() -> Self {
        Self::with(TrackingOptions::default())
    }

    fn with(options: TrackingOptions) -> Self {
        Self { tracker: Tracker::new(options), now: 0, ids: 0, started: Vec::new(), ended: Vec::new() }
    }

    /// A frame half a second after the one before.
    fn frame(&mut self, sightings: &[Sighting]) -> Changes {
        self.frame_after(STEP, sightings)
    }

    fn frame_after(&mut self, passed: u64, sightings: &[Sighting]) -> Changes {
        self.now += passed;
        let ids = &mut self.ids;
        let changes = self.tracker.update(self.now, PICTURE, sightings, &mut || {
            *ids += 1;
            TrackId(*ids)
        });
        self.note(&changes);
        changes
    }

    fn wait(&mut self, passed: u64) -> Changes {
        self.now += passed;
        let changes = self.tracker.expire(self.now);
        self.note(&changes);
        changes
    }

    fn note(&mut self, changes: &Changes) {
        self.started.extend(&changes.started);
        self.ended.extend(&changes.ended);
    }

    fn told(&self) -> Vec<Track> {
        self.tracker.tracks().collect()
    }
}

#[test]
fn an_object_is_told_at_its_second_sighting_under_a_fresh_id() {
    let mut camera = Camera::new();
    assert_eq!(camera.frame(&[at(100.0, 200.0, 0.6)]).of_sighting, [None]);
    assert!(camera.told().is_empty() && camera.ids == 0, "an id was spent on what may be noise");
    let changes = camera.frame(&[at(104.0, 200.0, 0.8)]);
    let [track] = changes.started[..] else { panic!("{changes:?}") };
    assert_eq!((track.id, track.hits, track.score, track.top_score), (TrackId(1), 2, 0.8, 0.8));
    assert_eq!((track.first_seen_ms, track.last_seen_ms, track.state), (500, 1000, State::Present));
    assert_eq!(track.last_bbox, at(104.0, 200.0, 0.8).bbox);
    assert_eq!(changes.of_sighting, [Some(TrackId(1))]);
    let changes = camera.frame(&[at(108.0, 200.0, 0.7)]);
    assert!(changes.started.is_empty());
    let [track] = changes.updated[..] else { panic!("{changes:?}") };
    assert_eq!((track.score, track.top_score), (0.7, 0.8));
}

#[test]
fn min_hits_is_kept() {
    let mut camera = Camera::with(TrackingOptions { min_hits: 4, ..TrackingOptions::default() });
    for hit in 1..=4 {
        assert_eq!(camera.frame(&[at(100.0, 200.0, 0.6)]).started.len(), usize::from(hit == 4), "{hit}");
    }
    let mut camera = Camera::with(TrackingOptions { min_hits: 1, ..TrackingOptions::default() });
    assert_eq!(camera.frame(&[at(100.0, 200.0, 0.6)]).started.len(), 1);
}

#[test]
fn other_options_hold_from_the_next_call_on() {
    let mut camera = Camera::new();
    for _ in 0..3 {
        camera.frame(&[at(300.0, 200.0, 0.7)]);
    }
    camera.tracker.set_options(TrackingOptions { max_age_ms: 2_000, ..TrackingOptions::default() });
    camera.frame(&[]);
    assert!(camera.wait(1_499).ended.is_empty());
    assert_eq!(camera.wait(1).ended.len(), 1);
}

#[test]
fn who_turns_around_while_he_is_missed_is_found_again() {
    let mut camera = Camera::new();
    for frame in 0..6 {
        camera.frame(&[at(100.0 + 50.0 * frame as f32, 200.0, 0.7)]);
    }
    camera.frame(&[]);
    camera.frame(&[]);
    // Expected near 400 and farther right; nobody else is there.
    let changes = camera.frame(&[at(130.0, 200.0, 0.7)]);
    assert_eq!(changes.of_sighting, [Some(TrackId(1))]);
    let bbox = camera.told()[0].bbox;
    assert!((bbox[0] - 110.0).abs() < 5.0, "the filter still believes in its way: {bbox:?}");
}

#[test]
fn who_comes_in_or_is_of_another_class_is_nobody_who_is_missed() {
    let dog = Sighting { class: 5, ..at(240.0, 200.0, 0.7) };
    for (found, id) in [(at(240.0, 200.0, 0.7), Some(TrackId(1))), (at(20.0, 200.0, 0.7), None), (dog, None)]
    {
        let mut camera = Camera::new();
        for _ in 0..20 {
            camera.frame(&[at(130.0, 200.0, 0.7)]);
        }
        camera.frame(&[]);
        camera.frame(&[]);
        assert_eq!(camera.frame(&[found]).of_sighting, [id], "{found:?}");
    }
}

#[test]
fn scattered_false_alarms_start_nothing() {
    let mut camera = Camera::new();
    let mut random = SplitMix64::new(3);
    for _ in 0..100 {
        let (x, y) = (random.unit() as f32 * 600.0, random.unit() as f32 * 400.0);
        camera.frame(&[sized(x, y, 20.0, 20.0, 0.6)]);
    }
    assert!(camera.started.len() <= 5, "{} of 100 false alarms", camera.started.len());
}

#[test]
fn a_walker_whose_boxes_do_not_overlap_keeps_its_id() {
    let mut camera = Camera::new();
    for frame in 0..10 {
        // 40 wide, 46 a frame.
        camera.frame(&[at(60.0 + 46.0 * frame as f32, 200.0, 0.7)]);
    }
    assert_eq!(camera.told().len(), 1);
    assert_eq!(camera.started.len(), 1);
    assert_eq!(camera.told()[0].hits, 10);
}

#[test]
fn irregular_frames_follow_the_same_walk() {
    let mut camera = Camera::new();
    let mut x = 60.0;
    for passed in [500, 100, 900, 250, 700, 120, 1000, 400, 300] {
        x += 0.08 * passed as f32;
        camera.frame_after(passed, &[at(x, 200.0, 0.7)]);
    }
    assert_eq!((camera.started.len(), camera.told()[0].hits), (1, 9));
}

#[test]
fn two_who_cross_keep_their_ids() {
    let mut camera = Camera::new();
    let mut ids = Vec::new();
    for frame in 0..=20 {
        let along = 20.0 * frame as f32;
        // They pass each other at different heights of the picture, half hidden.
        let found = [at(100.0 + along, 200.0, 0.7), at(500.0 - along, 240.0, 0.7)];
        ids = camera.frame_after(250, &found).of_sighting;
        if frame == 4 {
            assert_eq!(ids, [Some(TrackId(1)), Some(TrackId(2))]);
        }
    }
    assert_eq!(ids, [Some(TrackId(1)), Some(TrackId(2))]);
    assert_eq!(camera.started.len(), 2);
}

#[test]
fn weak_detections_keep_a_track_and_start_none() {
    let mut camera = Camera::new();
    for _ in 0..20 {
        camera.frame(&[at(300.0, 200.0, 0.4)]);
    }
    assert!(camera.started.is_empty());
    for score in [0.6, 0.6, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4] {
        camera.frame(&[at(300.0, 200.0, score)]);
    }
    assert_eq!((camera.started.len(), camera.ended.len()), (1, 0));
    assert_eq!(camera.told()[0].last_seen_ms, camera.now);
}

#[test]
fn a_track_ends_by_time_alone_at_its_deadline() {
    let mut camera = Camera::new();
    for _ in 0..3 {
        camera.frame(&[at(300.0, 200.0, 0.7)]);
    }
    assert_eq!(camera.tracker.next_deadline(), Some(1500 + 60_000), "no frame says that it is gone");
    camera.frame(&[]);
    assert_eq!(camera.tracker.next_deadline(), Some(1500 + 5000));
    assert!(camera.wait(4499).ended.is_empty());
    let changes = camera.wait(1);
    let [(track, EndReason::Gone)] = changes.ended[..] else { panic!("{changes:?}") };
    assert_eq!((track.id, track.last_seen_ms), (TrackId(1), 1500));
    assert_eq!(camera.tracker.next_deadline(), None);
    assert!(camera.wait(60_000).ended.is_empty());
}

#[test]
fn an_object_that_is_hidden_comes_back_under_its_id() {
    let mut camera = Camera::new();
    for frame in 0..6 {
        camera.frame(&[at(100.0 + 20.0 * frame as f32, 200.0, 0.7)]);
    }
    for missed in 0..6 {
        camera.frame(&[]);
        let state = camera.told()[0].state;
        assert_eq!(state, if missed < 2 { State::Present } else { State::Lost }, "after {missed}");
    }
    camera.frame(&[at(100.0 + 20.0 * 11.0, 200.0, 0.7)]);
    assert_eq!((camera.started.len(), camera.ended.len()), (1, 0));
    assert_eq!(camera.told()[0].state, State::Present);
}

#[test]
fn who_walks_out_of_the_picture_ends_soon() {
    let mut camera = Camera::new();
    for x in [500.0, 530.0, 560.0, 590.0, 610.0] {
        let right = f32::min(x + 20.0, 640.0);
        let bbox = [x - 20.0, 100.0, right, 200.0];
        camera.frame(&[Sighting { class: 0, score: 0.7, bbox, strong: true }]);
    }
    let bbox = [625.0, 100.0, 640.0, 200.0];
    camera.frame(&[Sighting { class: 0, score: 0.7, bbox, strong: true }]);
    camera.frame(&[]);
    assert_eq!(camera.told()[0].state, State::Lost, "it is still taken to be there");
    for _ in 0..4 {
        camera.frame(&[]);
    }
    assert_eq!(camera.ended.len(), 1);
}

/// One object for an hour at 2 frames a second, of which 18 % miss it, in bursts of some frames; jittered.
fn hour_of_flicker(seed: u64, burst: f64) -> Camera {
    let mut camera = Camera::new();
    let mut random = SplitMix64::new(seed);
    // A chain of two states whose share of missing is 0.18.
    let (back, away) = (1.0 / burst, 0.18 / 0.82 / burst);
    let (mut missing, mut missed) = (false, 0);
    for frame in 0..7200 {
        missing = if missing { random.unit() >= back } else { random.unit() < away };
        missing &= frame > 10;
        missed += u32::from(missing);
        let mut jitter = |most: f32| (random.unit() as f32 - 0.5) * 2.0 * most;
        let (dx, dy, dw, dh) = (jitter(3.0), jitter(7.0), jitter(4.0), jitter(10.0));
        let score = 0.55 + jitter(0.19);
        let seen = sized(300.0 + dx, 200.0 + dy, 40.0 + dw, 100.0 + dh, score);
        camera.frame(if missing { &[] } else { std::slice::from_ref(&seen) });
    }
    let share = f64::from(missed) / 7200.0;
    assert!((0.13..0.23).contains(&share), "{share} missing");
    camera
}

#[test]
fn a_stationary_object_does_not_end_in_an_hour_of_flicker() {
    for (seed, burst) in [(1, 1.0), (2, 1.0), (3, 3.0), (4, 3.0), (5, 6.0), (6, 6.0)] {
        let camera = hour_of_flicker(seed, burst);
        assert_eq!((camera.started.len(), camera.ended.len()), (1, 0), "seed {seed}, bursts of {burst}");
        assert!(camera.told()[0].stationary);
    }
}

#[test]
fn stationary_comes_with_rest_and_goes_with_motion() {
    let mut camera = Camera::new();
    for frame in 0..6 {
        camera.frame(&[at(100.0 + 30.0 * frame as f32, 200.0, 0.7)]);
        assert!(camera.told().iter().all(|track| !track.stationary));
    }
    for _ in 0..20 {
        camera.frame(&[at(280.0, 200.0, 0.7)]);
    }
    assert!(camera.told()[0].stationary);
    let id = camera.told()[0].id;
    for frame in 1..6 {
        camera.frame(&[at(280.0 + 30.0 * frame as f32, 200.0, 0.7)]);
    }
    assert_eq!((camera.told()[0].id, camera.told()[0].stationary), (id, false));
}

#[test]
fn a_stationary_object_that_is_gone_ends_after_its_longer_age() {
    let mut camera = Camera::new();
    for _ in 0..20 {
        camera.frame(&[at(300.0, 200.0, 0.7)]);
    }
    camera.frame(&[]);
    assert!(camera.wait(29_499).ended.is_empty());
    assert_eq!(camera.wait(1).ended.len(), 1);
}

/// Four objects at rest, told.
fn four_at_rest(camera: &mut Camera) -> [Sighting; 4] {
    let four = [
        at(100.0, 150.0, 0.8),
        at(250.0, 300.0, 0.7),
        sized(420.0, 200.0, 80.0, 60.0, 0.9),
        at(550.0, 330.0, 0.6),
    ];
    for _ in 0..4 {
        camera.frame(&four);
    }
    assert_eq!(camera.told().len(), 4);
    four
}

#[test]
fn a_pushed_camera_ends_nobody() {
    let mut camera = Camera::new();
    let four = four_at_rest(&mut camera);
    let before = camera.frame(&four).of_sighting;
    let pushed = four.map(|mut s| {
        // Farther than anybody is wide.
        for (side, by) in s.bbox.iter_mut().zip([60.0, -70.0, 60.0, -70.0]) {
            *side += by;
        }
        s
    });
    assert_eq!(camera.frame(&pushed[..3]).of_sighting, before[..3], "right after the push, one missed");
    for _ in 0..20 {
        assert_eq!(camera.frame(&pushed).of_sighting, before);
    }
    assert_eq!((camera.started.len(), camera.ended.len()), (4, 0));
}

#[test]
fn a_pushed_camera_mixes_up_nobody_in_a_row() {
    let mut camera = Camera::new();
    let row: Vec<Sighting> = (0..5).map(|i| at(120.0 + 80.0 * i as f32, 240.0, 0.7)).collect();
    for _ in 0..10 {
        camera.frame(&row);
    }
    let before = camera.frame(&row).of_sighting;
    // Each is now nearer to where its neighbour was than to where it was itself.
    let pushed: Vec<Sighting> = row.iter().map(|s| moved(*s, 55.0)).collect();
    assert_eq!(camera.frame(&pushed).of_sighting, before);
    assert!(camera.told().iter().all(|track| track.stationary), "a push is no motion");
}

#[test]
fn one_who_walks_among_others_at_rest_is_no_push() {
    let mut camera = Camera::new();
    let mut four = four_at_rest(&mut camera);
    for _ in 0..4 {
        four[0] = moved(four[0], 25.0);
        camera.frame(&four);
    }
    let still = camera.told()[3].bbox;
    assert!((still[0] - four[3].bbox[0]).abs() < 3.0, "{still:?}");
}

fn moved(mut sighting: Sighting, by: f32) -> Sighting {
    sighting.bbox[0] += by;
    sighting.bbox[2] += by;
    sighting
}

#[test]
fn a_switched_exposure_ends_nobody() {
    let mut camera = Camera::new();
    let four = four_at_rest(&mut camera);
    let before = camera.frame(&four).of_sighting;
    // Nothing for six seconds, which is more than the age of one who vanishes alone; then all dark.
    for _ in 0..12 {
        camera.frame(&[]);
    }
    let dark = four.map(|s| Sighting { score: s.score * 0.6, strong: false, ..s });
    for _ in 0..20 {
        assert_eq!(camera.frame(&dark).of_sighting, before);
    }
    assert_eq!((camera.started.len(), camera.ended.len()), (4, 0));
}

#[test]
fn one_who_vanishes_alone_gets_no_more_time() {
    let mut camera = Camera::new();
    let four = four_at_rest(&mut camera);
    for _ in 0..10 {
        camera.frame(&four[1..]);
    }
    assert_eq!(camera.ended.len(), 1);
}

#[test]
fn labels_that_flip_are_one_object_of_the_majoritys_class() {
    let mut camera = Camera::new();
    for frame in 0..40 {
        let mut seen = at(300.0, 200.0, 0.7);
        seen.class = if frame % 3 == 2 { 7 } else { 2 };
        camera.frame(&[seen]);
    }
    assert_eq!(camera.started.len(), 1);
    assert_eq!(camera.told()[0].class, 2);
}

#[test]
fn two_labels_at_once_for_one_box_are_one_object() {
    let mut camera = Camera::new();
    let (car, mut truck) = (at(300.0, 200.0, 0.7), at(301.0, 201.0, 0.6));
    truck.class = 7;
    for _ in 0..10 {
        camera.frame(&[car, truck]);
    }
    assert_eq!(camera.frame(&[car, truck]).of_sighting, [Some(TrackId(1)); 2]);
    assert_eq!((camera.started.len(), camera.told()[0].class), (1, 0));
}

#[test]
fn a_person_at_a_car_is_two_objects() {
    let mut camera = Camera::new();
    let mut car = sized(300.0, 200.0, 160.0, 90.0, 0.8);
    car.class = 2;
    for frame in 0..10 {
        camera.frame(&[car, sized(240.0 + 10.0 * frame as f32, 205.0, 40.0, 100.0, 0.7)]);
    }
    let classes: Vec<usize> = camera.told().iter().map(|track| track.class).collect();
    assert_eq!((classes, camera.started.len()), (vec![2, 0], 2));
}

#[test]
fn boxes_that_are_none_are_passed_over() {
    let mut camera = Camera::new();
    let good = at(300.0, 200.0, 0.7);
    let bad = [
        Sighting { bbox: [f32::NAN; 4], ..good },
        Sighting { bbox: [0.0, 0.0, f32::INFINITY, 10.0], ..good },
        Sighting { bbox: [50.0, 50.0, 50.0, 50.0], ..good },
        Sighting { bbox: [90.0, 90.0, 10.0, 10.0], ..good },
        Sighting { bbox: [f32::MIN, f32::MIN, f32::MAX, f32::MAX], ..good },
        Sighting { score: f32::NAN, ..good },
    ];
    for _ in 0..5 {
        let mut all = bad.to_vec();
        all.push(good);
        let changes = camera.frame(&all);
        assert!(changes.of_sighting[..6].iter().all(Option::is_none));
    }
    assert_eq!(camera.told().len(), 1);
    assert!(camera.told()[0].bbox.iter().all(|side| side.is_finite()));
}

#[test]
fn time_that_stands_still_or_steps_back_is_harmless() {
    let mut camera = Camera::new();
    let seen = at(300.0, 200.0, 0.7);
    camera.now = 4_000_000;
    for _ in 0..5 {
        camera.frame(&[seen]);
    }
    for _ in 0..5 {
        camera.frame_after(0, &[seen]);
    }
    camera.now -= 3_600_000;
    let changes = camera.frame_after(0, &[seen]);
    assert_eq!(changes.updated.len(), 1);
    assert_eq!(camera.told()[0].last_seen_ms, camera.now);
    assert_eq!(camera.told()[0].first_seen_ms, camera.now - 2000);
    // It ends after its age, not after an hour more.
    camera.frame_after(1_000, &[]);
    assert!(camera.wait(3_999).ended.is_empty());
    assert_eq!(camera.wait(1).ended.len(), 1);
    assert!(camera.frame_after(0, &[seen]).ended.is_empty());
    camera.now = 0;
    assert!(camera.frame_after(0, &[seen]).ended.is_empty());
    camera.now = u64::MAX;
    camera.frame_after(0, &[seen]);
}

#[test]
fn a_frame_may_be_older_than_the_clock() {
    let mut camera = Camera::new();
    camera.now = 10_000;
    for _ in 0..20 {
        camera.frame_after(600, &[at(300.0, 200.0, 0.7)]);
        // Time went on while the frame was worked on.
        camera.wait(400);
        camera.now -= 400;
    }
    let captured = camera.now;
    assert_eq!((camera.started.len(), camera.told()[0].last_seen_ms), (1, captured));
    assert_eq!(camera.told()[0].first_seen_ms, 10_600);
    // At rest for more than four seconds: the longer age, counted from the capture.
    camera.frame_after(600, &[]);
    assert_eq!(camera.tracker.next_deadline(), Some(captured + 30_000));
}

#[test]
fn another_size_of_the_picture_moves_nobody() {
    let mut camera = Camera::new();
    let seen = at(300.0, 200.0, 0.7);
    for _ in 0..5 {
        camera.frame(&[seen]);
    }
    let doubled = Sighting { bbox: seen.bbox.map(|side| side * 2.0), ..seen };
    let picture = Picture { width: 1280, height: 960 };
    let changes = camera.tracker.update(camera.now + STEP, picture, &[doubled], &mut || TrackId(99));
    assert_eq!(changes.of_sighting, [Some(TrackId(1))]);
    let nothing = Picture { width: 0, height: 0 };
    camera.tracker.update(camera.now + 2 * STEP, nothing, &[doubled], &mut || TrackId(99));
    assert!(camera.told()[0].bbox.iter().all(|side| side.is_finite()));
}

#[test]
fn a_slow_camera_still_follows() {
    let mut camera = Camera::new();
    for _ in 0..20 {
        camera.frame_after(4_000, &[at(300.0, 200.0, 0.7)]);
    }
    assert_eq!((camera.started.len(), camera.ended.len()), (1, 0));
}

#[test]
fn a_picture_in_ten_seconds_tells_who_is_there_and_a_minute_without_one_ends_it() {
    let mut camera = Camera::new();
    camera.frame(&[at(300.0, 200.0, 0.7)]);
    for _ in 0..5 {
        camera.frame_after(10_000, &[at(300.0, 200.0, 0.7)]);
    }
    assert_eq!((camera.started.len(), camera.ended.len()), (1, 0), "the same one");
    assert_eq!(camera.frame_after(10_000, &[at(300.0, 200.0, 0.7), at(100.0, 200.0, 0.7)]).started.len(), 1);
    assert!(camera.wait(59_999).ended.is_empty());
    assert_eq!(camera.wait(1).ended.len(), 2);
}

#[test]
fn who_is_doubted_must_be_seen_well_again() {
    let mut camera = Camera::new();
    let (strong, weak) = (at(300.0, 200.0, 0.7), Sighting { strong: false, ..at(300.0, 200.0, 0.4) });
    for _ in 0..12 {
        camera.frame(&[strong]);
    }
    assert!(camera.told()[0].stationary);
    camera.tracker.doubt();
    assert_eq!(camera.frame(&[weak]).of_sighting, [None]);
    assert!(!camera.told()[0].stationary);
    assert_eq!(camera.frame(&[strong]).of_sighting, [Some(TrackId(1))]);
    assert_eq!(camera.frame(&[weak]).of_sighting, [Some(TrackId(1))], "trusted again");
    camera.tracker.doubt();
    for _ in 0..12 {
        camera.frame(&[weak]);
    }
    assert_eq!((camera.started.len(), camera.ended.len()), (1, 1));
}

#[test]
fn who_was_seen_before_nothing_moved_is_there_still() {
    let mut camera = Camera::new();
    for _ in 0..3 {
        camera.frame(&[at(300.0, 200.0, 0.7)]);
    }
    camera.frame(&[at(300.0, 200.0, 0.7), at(100.0, 200.0, 0.7)]);
    camera.frame(&[at(100.0, 200.0, 0.7)]);
    for _ in 0..200 {
        camera.now += STEP;
        camera.tracker.stand_still(camera.now);
        camera.wait(0);
    }
    let told = camera.told();
    assert_eq!((told.len(), told[0].last_seen_ms), (1, camera.now), "only who was missed before is gone");
}

#[test]
fn finish_ends_everybody_for_the_reason_given() {
    let mut camera = Camera::new();
    four_at_rest(&mut camera);
    let ended = camera.tracker.finish(EndReason::CameraOffline).ended;
    assert_eq!(ended.len(), 4);
    assert!(ended.iter().all(|(_, reason)| *reason == EndReason::CameraOffline));
    assert!(camera.tracker.finish(EndReason::Shutdown).ended.is_empty());
    assert!(camera.told().is_empty());
}

#[test]
fn a_flood_is_bounded() {
    let options = TrackingOptions { max_tracks: 30, ..TrackingOptions::default() };
    let mut camera = Camera::with(options);
    let flood: Vec<Sighting> = (0..2000)
        .map(|i| sized(10.0 + (i % 50) as f32 * 12.0, 10.0 + (i / 50) as f32 * 11.0, 8.0, 8.0, 0.6))
        .collect();
    for _ in 0..20 {
        assert_eq!(camera.frame(&flood).of_sighting.len(), 2000);
        assert!(camera.told().len() <= 30);
    }
    assert!(camera.started.len() <= 30, "{}", camera.started.len());
}

/// Whatever comes: an id is given once, started once, ended once and after its start, and updated only
/// between; no more tracks than allowed; no number that is none.
#[test]
fn each_start_has_one_end_whatever_comes() {
    for seed in 0..150 {
        let mut random = SplitMix64::new(seed);
        let max_tracks = 1 + random.below(12);
        let min_hits = 1 + random.below(3) as u64;
        let options = TrackingOptions { max_tracks, min_hits, ..TrackingOptions::default() };
        let mut camera = Camera::with(options);
        // 0 alive, 1 ended.
        let mut lives: HashMap<TrackId, bool> = HashMap::new();
        camera.now = 100_000;
        for _ in 0..200 {
            let changes = match random.below(12) {
                0 => camera.wait(random.below(9_000) as u64),
                1 => {
                    camera.now -= random.below(5_000).min(camera.now as usize) as u64;
                    camera.wait(0)
                }
                2 if random.below(8) == 0 => camera.tracker.finish(EndReason::Disabled),
                _ => {
                    let count = random.below(16);
                    let found: Vec<Sighting> = (0..count).map(|_| any_sighting(&mut random)).collect();
                    camera.frame_after(random.below(1200) as u64, &found)
                }
            };
            follow(&mut lives, &changes, seed);
            let told = camera.told();
            assert!(told.len() <= max_tracks, "seed {seed}");
            assert!(told.iter().all(|track| lives.get(&track.id) == Some(&true)), "seed {seed}");
            assert_eq!(told.len(), lives.values().filter(|alive| **alive).count(), "seed {seed}");
            assert!(told.iter().all(|track| track.bbox.iter().all(|side| side.is_finite())), "seed {seed}");
        }
        follow(&mut lives, &camera.tracker.finish(EndReason::Shutdown), seed);
        assert!(lives.values().all(|alive| !alive), "seed {seed}: a start without an end");
    }
}

fn any_sighting(random: &mut SplitMix64) -> Sighting {
    // Few places, so that tracks live; now and then nonsense.
    let place = random.below(5) as f32;
    let mut number = |most: f32| random.unit() as f32 * most;
    let mut seen =
        sized(100.0 * place + number(30.0), 200.0 + number(30.0), 20.0 + number(50.0), 80.0, number(1.0));
    seen.class = random.below(3);
    match random.below(20) {
        0 => seen.bbox[random.below(4)] = [f32::NAN, f32::INFINITY, -1e30, 0.0][random.below(4)],
        1 => seen.score = f32::NAN,
        _ => {}
    }
    seen
}

fn follow(lives: &mut HashMap<TrackId, bool>, changes: &Changes, seed: u64) {
    for (track, _) in &changes.ended {
        assert_eq!(lives.insert(track.id, false), Some(true), "seed {seed}: ended without life: {track:?}");
    }
    for track in &changes.started {
        assert_eq!(lives.insert(track.id, true), None, "seed {seed}: an id twice: {track:?}");
    }
    for track in &changes.updated {
        assert_eq!(lives.get(&track.id), Some(&true), "seed {seed}: updated without life: {track:?}");
    }
    for id in changes.of_sighting.iter().flatten() {
        assert_eq!(lives.get(id), Some(&true), "seed {seed}: a sighting of nobody");
    }
}
