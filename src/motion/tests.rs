//! What a gate lets through: scenes of numbers, with noise of a seed.

use super::*;
use crate::splitmix::SplitMix64;

const COLUMNS: usize = 80;
const ROWS: usize = 45;
const FORCE_MS: u64 = 5000;
/// Five frames a second.
const EVERY_MS: u64 = 200;

/// A camera before a still scene, whose gate has learnt its noise.
struct Watched {
    gate: Gate,
    random: SplitMix64,
    noise: f64,
    now_ms: u64,
    every_ms: u64,
}

impl Watched {
    fn new(noise: f64) -> Self {
        let options = GateOptions { threshold: 5.0, force_ms: FORCE_MS };
        let mut watched = Self {
            gate: Gate::new(options),
            random: SplitMix64::new(7),
            noise,
            now_ms: 100,
            every_ms: EVERY_MS,
        };
        for _ in 0..50 {
            watched.judge(|_, _| 0.0);
        }
        watched
    }

    /// The verdict of the next frame: the scene, `more` at column and row, and noise.
    fn judge(&mut self, more: impl Fn(usize, usize) -> f64) -> GateVerdict {
        self.judge_lit(1.0, 0.0, more)
    }

    fn judge_lit(&mut self, gain: f64, offset: f64, more: impl Fn(usize, usize) -> f64) -> GateVerdict {
        let mut cells = Vec::with_capacity(COLUMNS * ROWS);
        for row in 0..ROWS {
            for column in 0..COLUMNS {
                let scene = 60.0 + ((column * 7 + row * 13) % 120) as f64;
                let normal: f64 = (0..12).map(|_| self.random.unit()).sum::<f64>() - 6.0;
                let lit = gain * (scene + more(column, row)) + offset;
                cells.push((lit + self.noise * normal).clamp(0.0, 255.0) as f32);
            }
        }
        self.now_ms += self.every_ms;
        self.gate.judge(self.now_ms, GreyFrame::from_cells(COLUMNS, cells))
    }

    /// How many of `frames` frames of this are looked at.
    fn looks(&mut self, frames: usize, more: impl Fn(usize, usize) -> f64 + Copy) -> usize {
        (0..frames).filter(|_| self.judge(more).look.is_some()).count()
    }
}

fn still(_: usize, _: usize) -> f64 {
    0.0
}

#[test]
fn a_still_scene_is_looked_at_when_it_is_due_whatever_its_noise() {
    for noise in [0.0, 0.3, 1.0, 3.0, 8.0] {
        let mut watched = Watched::new(noise);
        let looks = watched.looks(1000, still);
        // One frame in 25 is due.
        assert!((40..=60).contains(&looks), "noise {noise}: {looks} of 1000");
    }
}

#[test]
fn frames_are_looked_at_until_the_noise_is_known() {
    let mut gate = Gate::new(GateOptions { threshold: 5.0, force_ms: FORCE_MS });
    let frame = || GreyFrame::from_cells(COLUMNS, vec![100.0; COLUMNS * ROWS]);
    let verdicts: Vec<_> = (0..12).map(|i| gate.judge(200 * i, frame()).look).collect();
    assert!(verdicts[..9].iter().all(|look| *look == Some(Reason::Unknown)), "{verdicts:?}");
    assert_eq!(verdicts[9..], [None; 3]);
    let smaller = GreyFrame::from_cells(40, vec![100.0; 40 * 30]);
    assert_eq!(gate.judge(2400, smaller).look, Some(Reason::Unknown), "another size is another camera");
}

#[test]
fn what_comes_is_seen_at_once_and_a_second_longer() {
    let mut watched = Watched::new(1.0);
    let thing = |column: usize, row: usize| {
        if (20..23).contains(&column) && (30..34).contains(&row) { 25.0 } else { 0.0 }
    };
    let verdict = watched.judge(thing);
    assert_eq!(verdict, GateVerdict { look: Some(Reason::Motion), moving: true });
    let after: Vec<_> = (0..8).map(|_| watched.judge(thing)).collect();
    assert!(
        after[..4].iter().all(|verdict| verdict.look == Some(Reason::Settling) && !verdict.moving),
        "{after:?}"
    );
    assert!(after[5..].iter().all(|verdict| verdict.look.is_none()), "{after:?}");
    // It leaves, which is as much of a change.
    assert_eq!(watched.judge(still).look, Some(Reason::Motion));
}

#[test]
fn a_slow_camera_is_looked_at_three_times_more() {
    let mut watched = Watched::new(1.0);
    watched.every_ms = 1500;
    let thing = |column: usize, row: usize| if column == 20 && (30..34).contains(&row) { 25.0 } else { 0.0 };
    assert!(watched.judge(thing).moving);
    let after: Vec<_> = (0..4).map(|_| watched.judge(thing).look).collect();
    assert_eq!(after, [Some(Reason::Settling), Some(Reason::Settling), Some(Reason::Settling), None]);
}

#[test]
fn what_moves_slower_than_the_noise_is_seen_when_it_has_come_far_enough() {
    let mut watched = Watched::new(1.0);
    // Ten steps brighter in three by three cells, of which it covers a twentieth more with each frame.
    let mut frames = 0;
    for covered in 1..=20 {
        let part = f64::from(covered) / 20.0;
        let thing = move |column: usize, row: usize| {
            if (40..43).contains(&column) && (20..23).contains(&row) { 10.0 * part } else { 0.0 }
        };
        frames = covered;
        if watched.judge(thing).moving {
            break;
        }
    }
    assert!((2..=14).contains(&frames), "seen after {frames} frames of 20");
}

#[test]
fn light_that_wanders_is_no_motion_and_light_that_is_switched_is_one_look() {
    let mut watched = Watched::new(1.0);
    let mut looks = 0;
    for i in 0..200 {
        let swing = f64::from(i % 20 - 10) / 10.0;
        let verdict = watched.judge_lit(1.0 + 0.03 * swing, 2.0 * swing, still);
        looks += usize::from(verdict.look.is_some());
        assert!(!verdict.moving, "frame {i}");
    }
    assert!(looks <= 20, "{looks} of 200");
    let mut watched = Watched::new(1.0);
    let verdict = watched.judge_lit(0.6, 0.0, still);
    assert_eq!(verdict, GateVerdict { look: Some(Reason::Light), moving: false });
    let after: Vec<_> = (0..10).map(|_| watched.judge_lit(0.6, 0.0, still).look).collect();
    assert!(after[5..].iter().all(Option::is_none), "{after:?}");
}

#[test]
fn what_comes_while_the_light_wanders_is_seen() {
    let mut watched = Watched::new(1.0);
    let thing = |column: usize, row: usize| if column < 6 && row > 38 { -30.0 } else { 0.0 };
    assert!(watched.judge_lit(1.08, -2.0, thing).moving);
}

#[test]
fn a_sensor_that_gets_noisier_is_learnt_again() {
    let mut watched = Watched::new(0.5);
    watched.noise = 4.0;
    watched.looks(60, still);
    let looks = watched.looks(250, still);
    assert!(looks <= 20, "{looks} of 250");
    // And it does not stay blind when the light is back.
    watched.noise = 0.5;
    watched.looks(400, still);
    let thing = |column: usize, row: usize| {
        if (20..22).contains(&column) && (30..32).contains(&row) { 8.0 } else { 0.0 }
    };
    assert!(watched.judge(thing).moving);
}

#[test]
fn a_look_of_which_nothing_came_is_made_again() {
    let mut watched = Watched::new(1.0);
    watched.gate.forget_look();
    assert_eq!(watched.judge(still), GateVerdict { look: Some(Reason::Due), moving: false });
    assert_eq!(watched.judge(still).look, None);
}

#[test]
fn times_that_step_back_and_numbers_that_are_none_do_no_harm() {
    let mut watched = Watched::new(1.0);
    watched.now_ms = 0;
    assert_eq!(watched.judge(still).look, None);
    for value in [f64::NAN, f64::INFINITY, -1e30] {
        watched.judge(|_, _| value);
        watched.judge(still);
    }
    let one = GreyFrame::from_cells(1, vec![7.0]);
    let mut gate = Gate::new(GateOptions { threshold: 5.0, force_ms: FORCE_MS });
    for i in 0..30 {
        gate.judge(i * 200, one.clone());
    }
}
