//! What is counted of one camera, for `bridge/health`.

use super::Now;
use crate::contract::{Availability, CameraHealth, milliseconds, rfc3339, rounded};
use crate::detection::{Outcome, Verdict};
use crate::frame::Flow;
use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

/// Frames whose times are kept for percentiles.
const WINDOW: usize = 256;

/// Counters of one camera since the start.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Frames damaged before they reached a worker.
    pub damaged: u64,
    /// Times the camera came back after it was away.
    pub reopens: u64,
    flow: Flow,
    /// Frames that the supervisors before the present one let through.
    earlier: Flow,
    superseded: u64,
    detected: u64,
    /// Frames since the last report that were looked at, and that were not since nothing moved.
    looked: u64,
    unchanged: u64,
    decode_errors: u64,
    failed: u64,
    last_frame: Option<SystemTime>,
    /// Best score since the last report that was not above the threshold.
    best_below: Option<f32>,
    infer: VecDeque<Duration>,
    age: VecDeque<Duration>,
    /// When the last report was made, and the frames that had come and been detected on then.
    reported: Option<(Instant, u64, u64)>,
}

impl Tally {
    /// Takes a frame that came out of the pipeline.
    pub fn take_outcome(&mut self, now: Now, outcome: &Outcome) {
        self.superseded += outcome.superseded_before;
        match outcome.verdict {
            Verdict::Damaged(_) => self.decode_errors += 1,
            Verdict::Failed(_) => self.failed += 1,
            Verdict::Unchanged => self.unchanged += 1,
            Verdict::Detected(_) => {
                self.detected += 1;
                self.looked += 1;
                self.last_frame = Some(outcome.captured_wall);
                let age = now.mono.saturating_duration_since(outcome.captured);
                for (window, value) in [(&mut self.infer, outcome.times.inference), (&mut self.age, age)] {
                    if window.len() == WINDOW {
                        window.pop_front();
                    }
                    window.push_back(value);
                }
            }
        }
    }

    /// Takes the best score of a frame that was not above the threshold.
    pub fn take_below(&mut self, score: f32) {
        self.best_below = Some(self.best_below.map_or(score, |best| best.max(score)));
    }

    /// Takes how many frames the supervisor has counted; returns whether more came since the last time.
    pub fn take_flow(&mut self, flow: Flow) -> bool {
        if flow.given < self.flow.given {
            // The camera was restarted and counts from 0 again.
            self.earlier = Flow {
                given: self.earlier.given + self.flow.given,
                paced: self.earlier.paced + self.flow.paced,
            };
            self.flow = Flow::default();
        }
        let more = flow.given > self.flow.given;
        self.flow = flow;
        more
    }

    /// This camera's part of `bridge/health`; rates are over the time since the last call. `has_gate`: frames may not be
    /// looked at.
    pub fn report(&mut self, status: Availability, has_gate: bool, now: Now) -> CameraHealth {
        let frames_in = self.earlier.given + self.flow.given;
        let last = self.reported.replace((now.mono, frames_in, self.detected));
        let (since, frames_then, detected_then) = last.unwrap_or((now.mono, 0, 0));
        let seconds = now.mono.saturating_duration_since(since).as_secs_f64();
        let rate = |count: u64| if seconds > 0.0 { rounded(count as f64 / seconds, 1) } else { 0.0 };
        let (looked, unchanged) = (std::mem::take(&mut self.looked), std::mem::take(&mut self.unchanged));
        let unchanged_share = unchanged as f64 / (looked + unchanged).max(1) as f64;
        CameraHealth {
            status,
            fps_in: rate(frames_in.saturating_sub(frames_then)),
            fps_detect: rate(self.detected - detected_then),
            unchanged_share: (has_gate && looked + unchanged > 0).then(|| rounded(unchanged_share, 2)),
            dropped_stale: self.superseded,
            dropped_paced: self.earlier.paced + self.flow.paced,
            decode_errors: self.decode_errors + self.damaged,
            failed: self.failed,
            reopens: self.reopens,
            best_below: self.best_below.take().map(|score| rounded(f64::from(score), 3)),
            age_ms_p50: percentile(&self.age, 0.5),
            age_ms_p95: percentile(&self.age, 0.95),
            infer_ms_p50: percentile(&self.infer, 0.5),
            infer_ms_p95: percentile(&self.infer, 0.95),
            last_frame: self.last_frame.map(rfc3339),
        }
    }
}

/// Milliseconds; none without a value.
fn percentile(window: &VecDeque<Duration>, share: f64) -> Option<f64> {
    let mut sorted: Vec<Duration> = window.iter().copied().collect();
    sorted.sort_unstable();
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().map(milliseconds)
}
