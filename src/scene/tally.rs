//! What is counted of one camera, for `bridge/health` and for metrics.

use super::Now;
use crate::contract::{Availability, CameraHealth, EventType, ObjectEvent, milliseconds, rfc3339, rounded};
use crate::detection::{Outcome, Verdict};
use crate::frame::Flow;
use crate::metrics::{Counters, FrameTimes};
use std::collections::{BTreeMap, VecDeque};
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
    /// Frames that were not looked at since nothing moved.
    unchanged: u64,
    decode_errors: u64,
    failed: u64,
    last_frame: Option<SystemTime>,
    /// Best score since the last report that was not above the threshold.
    best_below: Option<f32>,
    infer: VecDeque<Duration>,
    age: VecDeque<Duration>,
    times: FrameTimes,
    /// Events that were told: starts, updates, ends.
    events: [u64; 3],
    /// Objects that started, by label.
    started: BTreeMap<String, u64>,
    /// When the last report was made, and what was counted then.
    reported: Option<(Instant, Counters)>,
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
                self.last_frame = Some(outcome.captured_wall);
                let age = now.mono.saturating_duration_since(outcome.captured);
                for (window, value) in [(&mut self.infer, outcome.times.inference), (&mut self.age, age)] {
                    if window.len() == WINDOW {
                        window.pop_front();
                    }
                    window.push_back(value);
                }
                self.times.age.take(age);
                self.times.inference.take(outcome.times.inference);
                self.times.queue.take(outcome.times.queue);
            }
        }
    }

    /// Takes the best score of a frame that was not above the threshold.
    pub fn take_below(&mut self, score: f32) {
        self.best_below = Some(self.best_below.map_or(score, |best| best.max(score)));
    }

    /// Takes a message about an object.
    pub fn take_event(&mut self, event: &ObjectEvent) {
        let place = match event.event_type {
            EventType::Start => {
                *self.started.entry(event.label.clone()).or_default() += 1;
                0
            }
            EventType::Update => 1,
            EventType::End => 2,
        };
        self.events[place] += 1;
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

    /// What was counted since the start.
    pub fn counters(&self) -> Counters {
        Counters {
            frames: self.earlier.given + self.flow.given,
            looked_at: self.detected,
            unchanged: self.unchanged,
            stale: self.superseded,
            paced: self.earlier.paced + self.flow.paced,
            damaged: self.decode_errors + self.damaged,
            failed: self.failed,
            reopens: self.reopens,
            events: self.events,
        }
    }

    /// How long frames took since the start.
    pub fn times(&self) -> &FrameTimes {
        &self.times
    }

    /// When the last frame that was looked at was taken.
    pub fn last_frame(&self) -> Option<SystemTime> {
        self.last_frame
    }

    /// Objects that started, by label.
    pub fn started(&self) -> &BTreeMap<String, u64> {
        &self.started
    }

    /// This camera's part of `bridge/health`; rates are over the time since the last call. `has_gate`: frames may not be
    /// looked at.
    pub fn report(&mut self, status: Availability, has_gate: bool, now: Now) -> CameraHealth {
        let counters = self.counters();
        let last = self.reported.replace((now.mono, counters));
        let (since, then) = last.unwrap_or((now.mono, Counters::default()));
        let seconds = now.mono.saturating_duration_since(since).as_secs_f64();
        let rate = |count: u64| if seconds > 0.0 { rounded(count as f64 / seconds, 1) } else { 0.0 };
        let (looked_at, unchanged) =
            (counters.looked_at - then.looked_at, counters.unchanged - then.unchanged);
        let unchanged_share = unchanged as f64 / (looked_at + unchanged).max(1) as f64;
        CameraHealth {
            status,
            fps_in: rate(counters.frames.saturating_sub(then.frames)),
            fps_detect: rate(looked_at),
            unchanged_share: (has_gate && looked_at + unchanged > 0).then(|| rounded(unchanged_share, 2)),
            dropped_stale: counters.stale,
            dropped_paced: counters.paced,
            decode_errors: counters.damaged,
            failed: counters.failed,
            reopens: counters.reopens,
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
