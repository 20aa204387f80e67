//! What the detector says: heads as codes, detections, and the outcome of a frame, which owns the frame it
//! came from.

use crate::frame::RawFrame;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// One object found. The box is `[x1, y1, x2, y2]` in pixels of the source picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// Index into the manifest's classes.
    pub class: usize,
    /// Sigmoid score, 0 to 1.
    pub score: f32,
    /// `[x1, y1, x2, y2]`, pixels of the source picture, within it.
    pub bbox: [f32; 4],
}

/// Intersection over union of two boxes `[x1, y1, x2, y2]`, 0 to 1.
pub(crate) fn overlap(a: &[f32; 4], b: &[f32; 4]) -> f32 {
    let side = |low: usize| (a[low + 2].min(b[low + 2]) - a[low].max(b[low])).max(0.0);
    let area = |r: &[f32; 4]| (r[2] - r[0]) * (r[3] - r[1]);
    let both = side(0) * side(1);
    let either = area(a) + area(b) - both;
    if either > 0.0 { both / either } else { 0.0 }
}

/// One tensor that a session gives, `[channels, height, width]`: a head, or what the manifest taps.
///
/// A real value is `(code - zero_point) * scale`. Signed int8 outputs are stored with 128 added to code and
/// zero point.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tensor {
    /// Codes in `c, y, x` order, or `y, x, c` if `interleaved`; empty if the graph's output is not quantised.
    pub codes: Vec<u8>,
    /// Step of a code; 0 if not quantised.
    pub scale: f32,
    /// Code of 0.0.
    pub zero_point: i32,
    /// Real values in `c, y, x` order, where the graph's output is not quantised; else empty.
    pub values: Vec<f32>,
    /// Channels; of a class head A·K, of a box head A·4.
    pub channels: usize,
    /// Cells down.
    pub height: usize,
    /// Cells across.
    pub width: usize,
    /// Whether the channels of a cell lie side by side.
    pub interleaved: bool,
}

impl Tensor {
    /// The real value of `channel` at `cell` (`y * width + x`).
    #[must_use]
    pub fn value(&self, channel: usize, cell: usize) -> f32 {
        let i = self.index(channel, cell);
        if self.codes.is_empty() {
            self.values[i]
        } else {
            (i32::from(self.codes[i]) - self.zero_point) as f32 * self.scale
        }
    }

    /// The codes in `c, y, x` order; empty if the graph's output is not quantised.
    #[must_use]
    pub fn planar_codes(&self) -> Vec<u8> {
        if self.codes.is_empty() {
            return Vec::new();
        }
        let cells = self.height * self.width;
        let plane = |channel| (0..cells).map(move |cell| self.codes[self.index(channel, cell)]);
        (0..self.channels).flat_map(plane).collect()
    }

    /// Where `channel` of `cell` is.
    fn index(&self, channel: usize, cell: usize) -> usize {
        if self.interleaved {
            cell * self.channels + channel
        } else {
            channel * self.height * self.width + cell
        }
    }
}

/// What a session gives for one picture.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Heads {
    /// `(class output, box output)` per level, in the manifest's order.
    pub levels: Vec<(Tensor, Tensor)>,
    /// Per level `[A, h, w]` that the classes' scores are multiplied by; empty where the manifest names none.
    pub objects: Vec<Tensor>,
    /// What the manifest taps beside them, in its order; always codes.
    pub taps: Vec<Tensor>,
}

/// Where a frame's time went.
#[derive(Debug, Clone, Copy, Default)]
pub struct Times {
    /// Capture to the start of work.
    pub queue: Duration,
    /// Picture decoding.
    pub decode: Duration,
    /// Letterbox into the input tensor.
    pub preprocess: Duration,
    /// The session's run.
    pub inference: Duration,
    /// Head decoding, NMS and mapping back.
    pub postprocess: Duration,
}

/// What became of a frame a worker took.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// Detections, best first.
    Detected(Vec<Detection>),
    /// The frame could not be decoded; the reason in words.
    Damaged(String),
    /// The worker failed on it (a panic or an engine error).
    Failed(String),
    /// Not looked at: it shows what the last frame showed that was.
    Unchanged,
}

/// One frame's result.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Index of the camera.
    pub camera: usize,
    /// The frame's number.
    pub seq: u64,
    /// Monotonic time of capture.
    pub captured: Instant,
    /// Wall time of capture.
    pub captured_wall: SystemTime,
    /// The frame as the camera gave it. Lives as long as the outcome, or longer where somebody keeps it.
    pub raw: Arc<RawFrame>,
    /// Number of the model that judged it; its labels say what the classes mean.
    pub generation: u64,
    /// Source picture, pixels across (0 if damaged).
    pub width: u32,
    /// Source picture, pixels down.
    pub height: u32,
    /// Frames superseded before this one.
    pub superseded_before: u64,
    /// Where its time went.
    pub times: Times,
    /// What became of it.
    pub verdict: Verdict,
    /// Whether something in it moved since the last frame that was looked at; `None` where nobody asked.
    pub moving: Option<bool>,
}

impl Outcome {
    /// An outcome of no frame in particular, for tests and benches to fill in.
    #[doc(hidden)]
    #[must_use]
    pub fn of_nothing(captured: Instant, verdict: Verdict) -> Self {
        let raw = RawFrame {
            width: 1,
            height: 1,
            encoding: crate::frame::Encoding::Grey,
            turn: crate::frame::Turn::NONE,
            data: vec![0],
        };
        Self {
            camera: 0,
            seq: 0,
            captured,
            captured_wall: SystemTime::UNIX_EPOCH,
            width: 1,
            height: 1,
            superseded_before: 0,
            times: Times::default(),
            verdict,
            moving: None,
            raw: Arc::new(raw),
            generation: 1,
        }
    }

    /// The detections, best first; none where the frame was damaged or failed, or was not looked at.
    #[must_use]
    pub fn detections(&self) -> Option<&[Detection]> {
        match &self.verdict {
            Verdict::Detected(found) => Some(found),
            Verdict::Damaged(_) | Verdict::Failed(_) | Verdict::Unchanged => None,
        }
    }
}
