//! A frame of the tracker, on one core: `cargo bench --bench tracking [-- NAME]`.
//!
//! Objects walk over the picture at 4 frames a second, a fifth of their detections is missing and a fifth of
//! the others is weak, as in `benches/tracking_scenes.py`. The flood is the most that a tracker looks at: as
//! many strong detections as it may follow, at other places in each frame.

use criterion::{Criterion, criterion_group, criterion_main};
use retinad::tracking::{Picture, Sighting, TrackId, Tracker, TrackingOptions};

const PICTURE: Picture = Picture { width: 1280, height: 720 };
const STEP_MS: u64 = 250;
/// Frames that repeat; objects walk to and fro, so that the last fits the first.
const FRAMES: usize = 400;

/// A number from 0 to below 1 of two: SplitMix64's mixing.
fn mixed(object: usize, frame: usize) -> f32 {
    let mut z = (object as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ (frame as u64).wrapping_mul(0xd1b5_4a32_d192_ed03);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 40) as f32 / (1_u64 << 24) as f32
}

fn walk(objects: usize, frame: usize) -> Vec<Sighting> {
    let half = (FRAMES / 2) as f32;
    let along = (half - (frame as f32 - half).abs()) * 3.0;
    (0..objects)
        .filter(|object| mixed(*object, frame) >= 0.2)
        .map(|object| {
            let x = 40.0 + 300.0 * (object % 3) as f32 + along * (0.5 + mixed(object, FRAMES));
            let y = 60.0 + 640.0 * object as f32 / objects as f32 + 4.0 * mixed(object, frame + FRAMES);
            let score = if mixed(object, frame + 2 * FRAMES) < 0.2 { 0.4 } else { 0.7 };
            Sighting { class: object % 2, score, bbox: [x, y, x + 50.0, y + 110.0], strong: score >= 0.5 }
        })
        .collect()
}

fn flood(objects: usize, frame: usize) -> Vec<Sighting> {
    (0..objects)
        .map(|object| {
            let (x, y) = (mixed(object, frame) * 1200.0, mixed(object, frame + FRAMES) * 640.0);
            Sighting { class: 0, score: 0.9, bbox: [x, y, x + 60.0, y + 70.0], strong: true }
        })
        .collect()
}

fn tracking(c: &mut Criterion) {
    let mut group = c.benchmark_group("tracking");
    type Scene = fn(usize, usize) -> Vec<Sighting>;
    let scenes: [(&str, Scene, usize); 4] = [
        ("5 objects", walk, 5),
        ("20 objects", walk, 20),
        ("50 objects", walk, 50),
        ("flood of 100", flood, 100),
    ];
    for (name, scene, objects) in scenes {
        let frames: Vec<Vec<Sighting>> = (0..FRAMES).map(|frame| scene(objects, frame)).collect();
        let mut tracker = Tracker::new(TrackingOptions::default());
        let (mut now, mut ids, mut frame) = (0, 0, 0);
        group.bench_function(name, |b| {
            b.iter(|| {
                now += STEP_MS;
                frame = (frame + 1) % FRAMES;
                tracker.update(now, PICTURE, &frames[frame], &mut || {
                    ids += 1;
                    TrackId(ids)
                })
            });
        });
    }
    group.finish();
}

criterion_group!(benches, tracking);
criterion_main!(benches);
