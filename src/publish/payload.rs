//! JSON of the contract (`mqtt.md`, section 3). Boxes: `box` 0 to 1 with four places, `box_px` integers, both in the published frame.

use crate::detection::{Detection, Outcome};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};
use time::OffsetDateTime;
use time::macros::format_description;

/// Most boxes in one message.
pub const MAX_BOXES: usize = 100;
/// Largest `<cam>/detections`, bytes.
pub const MAX_DETECTIONS_BYTES: usize = 24 << 10;

/// RFC 3339 in UTC with milliseconds and `Z`.
#[must_use]
pub fn rfc3339(time: SystemTime) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    OffsetDateTime::from(time).format(&format).unwrap_or_else(|_| "1970-01-01T00:00:00.000Z".to_owned())
}

/// Milliseconds with one place.
#[must_use]
pub fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e4).round() / 10.0
}

/// What a `<cam>/detections` message says of its sender.
#[derive(Debug, Clone, Copy)]
pub struct Sender<'a> {
    /// Node.
    pub node: &'a str,
    /// Camera id.
    pub camera: &'a str,
    /// Labels per class.
    pub labels: &'a [String],
    /// SHA-256 of the model file, hex.
    pub model_sha256: &'a str,
    /// Threshold in force.
    pub threshold: f32,
    /// Whether the kernel reports a synchronised clock.
    pub clock_synced: bool,
}

/// `<cam>/detections` (3.3). `detections` best first; those that do not fit are counted in `truncated`.
#[must_use]
pub fn detections(sender: Sender<'_>, outcome: &Outcome, detections: &[Detection], mono_ms: u64) -> Vec<u8> {
    let mut kept = detections.len().min(MAX_BOXES);
    loop {
        let bytes = with_boxes(sender, outcome, detections, kept, mono_ms).to_string().into_bytes();
        if bytes.len() <= MAX_DETECTIONS_BYTES || kept == 0 {
            return bytes;
        }
        // A box is 130 to 200 bytes, so this ends after a few rounds.
        kept = (kept * MAX_DETECTIONS_BYTES / bytes.len()).min(kept - 1);
    }
}

fn with_boxes(sender: Sender<'_>, outcome: &Outcome, detections: &[Detection], kept: usize, mono_ms: u64) -> Value {
    let (w, h) = (f64::from(outcome.width.max(1)), f64::from(outcome.height.max(1)));
    let boxes: Vec<Value> = detections[..kept]
        .iter()
        .map(|d| {
            let b = d.bbox.map(f64::from);
            let part = |v: f64, side: f64| (v / side * 1e4).round() / 1e4;
            json!({"label": sender.labels.get(d.class), "label_id": d.class, "score": (f64::from(d.score) * 1e3).round() / 1e3,
                "box": [part(b[0], w), part(b[1], h), part(b[2], w), part(b[3], h)], "box_px": b.map(|v| v.round() as i64)})
        })
        .collect();
    let t = outcome.times;
    json!({"v": 1, "node": sender.node, "camera": sender.camera, "seq": outcome.seq, "captured_at": rfc3339(outcome.captured_wall),
        "mono_ms": mono_ms, "clock_synced": sender.clock_synced, "width": outcome.width, "height": outcome.height,
        "dropped_before": outcome.superseded_before,
        "latency_ms": {"queue": ms(t.queue), "decode": ms(t.decode), "preprocess": ms(t.preprocess), "inference": ms(t.inference),
            "postprocess": ms(t.postprocess), "total": ms(outcome.captured.elapsed())},
        "model": {"sha256": sender.model_sha256.get(..12), "generation": outcome.generation}, "threshold": (f64::from(sender.threshold) * 100.0).round() / 100.0,
        "truncated": detections.len() - kept, "detections": boxes})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detection::{Times, Verdict};
    use crate::frame::{Encoding, RawFrame};
    use std::sync::Arc;
    use std::time::Instant;

    #[test]
    fn the_size_limit_holds_with_a_thousand_boxes_of_the_longest_label() {
        let labels = vec!["x".repeat(200)];
        let sender =
            Sender { node: "n", camera: "c", labels: &labels, model_sha256: "0123456789abcdef", threshold: 0.5, clock_synced: true };
        let outcome = Outcome {
            camera: 0,
            seq: 1,
            captured: Instant::now(),
            captured_wall: SystemTime::UNIX_EPOCH,
            raw: Arc::new(RawFrame { width: 0, height: 0, encoding: Encoding::Jpeg, data: Vec::new() }),
            generation: 0,
            width: 640,
            height: 480,
            superseded_before: 0,
            times: Times::default(),
            verdict: Verdict::Detected(Vec::new()),
        };
        let many = vec![Detection { class: 0, score: 0.5, bbox: [1.0, 2.0, 300.0, 400.0] }; 1000];
        let bytes = detections(sender, &outcome, &many, 0);
        assert!(bytes.len() <= MAX_DETECTIONS_BYTES);
        let value: Value = serde_json::from_slice(&bytes).expect("JSON");
        let kept = value["detections"].as_array().expect("array").len();
        assert!(kept > 40 && kept as u64 + value["truncated"].as_u64().expect("number") == 1000);
        assert_eq!(value["captured_at"], "1970-01-01T00:00:00.000Z");
    }
}
