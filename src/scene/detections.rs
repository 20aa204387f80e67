//! `<cam>/detections`: what one frame showed, as a message.

use super::Now;
use super::generations::GenerationFacts;
use super::view::Sighting;
use crate::contract::{
    DetectedObject, Detections, Latency, ModelReference, SCHEMA_VERSION, encode_fitting, milliseconds,
    rfc3339, rounded, ulid_text,
};
use crate::detection::Outcome;
use crate::settings::DetectionsMode;

/// Who sends, and by which model's words.
#[derive(Clone, Copy)]
pub(super) struct Sender<'a> {
    pub node: &'a str,
    pub judge: &'a GenerationFacts,
}

/// Which camera showed it, and above which score it is told.
pub(super) struct Origin<'a> {
    pub camera: &'a str,
    pub threshold: f32,
}

/// Whether the settings want a message for a frame that showed this.
pub(super) fn is_wanted(mode: DetectionsMode, told: &[Sighting]) -> bool {
    match mode {
        DetectionsMode::Always => true,
        DetectionsMode::NonEmpty => !told.is_empty(),
        DetectionsMode::Off => false,
    }
}

/// The message; `told` is sorted best first.
pub(super) fn encode(
    now: Now,
    outcome: &Outcome,
    told: &[Sighting],
    origin: &Origin<'_>,
    sender: &Sender<'_>,
) -> Vec<u8> {
    let age = now.mono.saturating_duration_since(outcome.captured);
    let times = &outcome.times;
    let sides = [f64::from(outcome.width.max(1)), f64::from(outcome.height.max(1))];
    encode_fitting(Detections {
        v: SCHEMA_VERSION,
        node: sender.node.to_owned(),
        camera: origin.camera.to_owned(),
        seq: outcome.seq,
        captured_at: rfc3339(outcome.captured_wall),
        mono_ms: u64::try_from(now.boot.saturating_sub(age).as_millis()).unwrap_or(u64::MAX),
        clock_synced: now.synced,
        width: outcome.width,
        height: outcome.height,
        dropped_before: outcome.superseded_before,
        latency_ms: Latency {
            queue: milliseconds(times.queue),
            decode: milliseconds(times.decode),
            preprocess: milliseconds(times.preprocess),
            inference: milliseconds(times.inference),
            postprocess: milliseconds(times.postprocess),
            total: milliseconds(age),
        },
        model: ModelReference { sha256: sender.judge.short_sha256(), generation: sender.judge.number },
        threshold: rounded(f64::from(origin.threshold), 2),
        truncated: 0,
        detections: told.iter().map(|sighting| object(sighting, sides, &sender.judge.labels)).collect(),
    })
}

fn object(sighting: &Sighting, [width, height]: [f64; 2], labels: &[String]) -> DetectedObject {
    let detection = &sighting.detection;
    let px = detection.bbox.map(f64::from);
    let share = |value: f64, side: f64| rounded(value / side, 4);
    DetectedObject {
        label: labels.get(detection.class).cloned().unwrap_or_default(),
        label_id: detection.class,
        score: rounded(f64::from(detection.score), 3),
        bbox: [share(px[0], width), share(px[1], height), share(px[2], width), share(px[3], height)],
        box_px: px.map(|value| value.round() as i64),
        track: sighting.track.map(|track| ulid_text(track.0)),
    }
}
