//! `<cam>/detections`: what was found in one frame. Boxes stand in the published frame, after rotation,
//! before letterbox.

use super::Kind;
use serde::{Deserialize, Serialize};

/// Most boxes in one message.
const MAX_BOXES: usize = 100;

/// Payload of `<cam>/detections`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Detections {
    /// Version of the meaning of these fields: 1.
    pub v: u32,
    /// The machine's name in topics.
    pub node: String,
    /// The camera's id.
    pub camera: String,
    /// Number of the frame, from 0 at the camera's start; superseded frames count, too. Begins at 0 again
    /// when the daemon starts or the camera's settings change.
    pub seq: u64,
    /// When the frame was taken: RFC 3339, UTC, milliseconds.
    pub captured_at: String,
    /// When the frame was taken: milliseconds since the machine started, comparable only within one
    /// `boot_id` of `bridge/info`.
    pub mono_ms: u64,
    /// Whether the machine's clock is set by the network, so that `captured_at` can be trusted.
    pub clock_synced: bool,
    /// Width of the frame, pixels.
    pub width: u32,
    /// Height of the frame, pixels.
    pub height: u32,
    /// Frames of this camera that were superseded by newer ones since the last frame that was looked at.
    pub dropped_before: u64,
    /// Where the time went, milliseconds.
    pub latency_ms: Latency,
    /// The model that judged the frame.
    pub model: ModelReference,
    /// What scores above this is told, 0.05 to 0.99, two places; of a label whose rule has a score of its own,
    /// what scores above that. What was told a moment ago may score less.
    pub threshold: f64,
    /// Detections left out because the message would be too large; those of the lowest scores.
    pub truncated: usize,
    /// What was found, best score first, at most 100.
    pub detections: Vec<DetectedObject>,
}

/// Where a frame's time went, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Latency {
    /// From capture until a worker took the frame, milliseconds.
    pub queue: f64,
    /// Decoding the picture, milliseconds.
    pub decode: f64,
    /// Scaling it into the network's input, milliseconds.
    pub preprocess: f64,
    /// The network, milliseconds.
    pub inference: f64,
    /// From its outputs to boxes, milliseconds.
    pub postprocess: f64,
    /// From capture until this message was handed to the sender, milliseconds.
    pub total: f64,
}

/// Which model file judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ModelReference {
    /// First 12 hex digits of the file's SHA-256.
    pub sha256: String,
    /// Counts the models that this daemon has run, from 1.
    pub generation: u64,
}

/// One object found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DetectedObject {
    /// The class's name as the model has it.
    pub label: String,
    /// Number of the class among the model's classes, from 0.
    pub label_id: usize,
    /// How sure the model is, 0 to 1, three places.
    pub score: f64,
    /// `[x1, y1, x2, y2]`, 0 to 1 of the frame's width and height, four places.
    #[serde(rename = "box")]
    pub bbox: [f64; 4],
    /// `[x1, y1, x2, y2]` in pixels of the frame.
    pub box_px: [i64; 4],
    /// The object that this is, by its `id` on `<cam>/events`; left out where it was not seen often enough to have
    /// one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub track: Option<String>,
}

/// The message as JSON of at most 100 boxes and the topic's size limit; what does not fit is counted in
/// `truncated`.
///
/// `message.detections` must be sorted best first, since those at the end go first.
#[must_use]
pub fn encode_fitting(mut message: Detections) -> Vec<u8> {
    let limit = Kind::Detections.spec().max_bytes;
    let all = message.detections.len() + message.truncated;
    message.detections.truncate(MAX_BOXES);
    loop {
        let kept = message.detections.len();
        message.truncated = all - kept;
        // Plain data with text keys cannot fail to become JSON.
        let bytes = serde_json::to_vec(&message).unwrap_or_default();
        if bytes.len() <= limit || kept == 0 {
            return bytes;
        }
        // A box is 130 to 200 bytes, so this ends after a few rounds.
        message.detections.truncate((kept * limit / bytes.len()).min(kept - 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(boxes: usize, label: &str) -> Detections {
        let object = DetectedObject {
            label: label.into(),
            label_id: 0,
            score: 0.5,
            bbox: [0.1, 0.2, 0.3, 0.4],
            box_px: [1, 2, 3, 4],
            track: Some("0".repeat(26)),
        };
        let latency_ms = Latency {
            queue: 0.0,
            decode: 0.0,
            preprocess: 0.0,
            inference: 0.0,
            postprocess: 0.0,
            total: 0.0,
        };
        Detections {
            v: 1,
            node: "n".into(),
            camera: "c".into(),
            seq: 1,
            captured_at: "1970-01-01T00:00:00.000Z".into(),
            mono_ms: 0,
            clock_synced: true,
            width: 640,
            height: 480,
            dropped_before: 0,
            latency_ms,
            model: ModelReference { sha256: "0123456789ab".into(), generation: 1 },
            threshold: 0.5,
            truncated: 0,
            detections: vec![object; boxes],
        }
    }

    #[test]
    fn the_size_limit_holds_with_a_thousand_boxes_of_the_longest_label() {
        let bytes = encode_fitting(message(1000, &"x".repeat(200)));
        assert!(bytes.len() <= Kind::Detections.spec().max_bytes);
        let read: Detections = serde_json::from_slice(&bytes).expect("JSON");
        assert!(read.detections.len() > 40 && read.detections.len() + read.truncated == 1000);
    }

    #[test]
    fn at_most_a_hundred_boxes_are_sent() {
        let read: Detections = serde_json::from_slice(&encode_fitting(message(101, "a"))).expect("JSON");
        assert_eq!((read.detections.len(), read.truncated), (100, 1));
    }
}
