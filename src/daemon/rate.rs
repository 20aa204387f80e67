//! Frames detected on a second, for the status line: a tap that counts.

use crate::detection::{Outcome, Verdict};
use crate::pipeline::FrameTap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Counts frames that were detected on.
#[derive(Clone, Default)]
pub(super) struct DetectedFrames(Arc<AtomicU64>);

impl FrameTap for DetectedFrames {
    fn see(&mut self, outcome: &Outcome) {
        if matches!(outcome.verdict, Verdict::Detected(_)) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The rate between two looks.
pub(super) struct Rate {
    frames: DetectedFrames,
    since: Instant,
    counted: u64,
    per_second: f64,
}

/// Looks that are closer together than this, in seconds, would only show noise.
const SHORTEST_LOOK_S: f64 = 0.5;

impl Rate {
    pub fn new(frames: DetectedFrames, now: Instant) -> Self {
        Self { frames, since: now, counted: 0, per_second: 0.0 }
    }

    /// Frames a second since the last look.
    pub fn look(&mut self, now: Instant) -> f64 {
        let (counted, seconds) =
            (self.frames.0.load(Ordering::Relaxed), now.saturating_duration_since(self.since).as_secs_f64());
        if seconds > SHORTEST_LOOK_S {
            self.per_second = (counted - self.counted) as f64 / seconds;
            (self.since, self.counted) = (now, counted);
        }
        self.per_second
    }
}
