//! Whether a camera's share of the pipeline makes progress: the watchdog is fed only while every camera's
//! does.

use crate::settings::CameraSettings;
use std::time::{Duration, Instant};

/// Longest time from a frame's capture to its outcome that is not a hang, for each camera that shares the
/// workers.
const WORK: Duration = Duration::from_secs(10);

/// Until when the next sign of life must come; none after a replay's end.
pub(super) struct Progress {
    patience: Duration,
    due: Option<Instant>,
}

impl Progress {
    /// For one of `cameras` cameras, which share the workers; its first sign must come as soon as any later
    /// one.
    pub fn new(settings: &CameraSettings, cameras: usize, now: Instant) -> Self {
        let rates = [settings.replay_fps().unwrap_or(0.0), settings.max_fps];
        let between: f32 = rates.into_iter().filter(|fps| *fps > 0.0).map(|fps| 1.0 / fps).sum();
        let patience = Duration::from_secs_f32(settings.timeout_s + between)
            + WORK * u32::try_from(cameras).unwrap_or(u32::MAX);
        Self { patience, due: Some(now + patience) }
    }

    /// A frame came out, or the camera came back.
    pub fn came(&mut self, now: Instant) {
        if self.due.is_some() {
            self.due = Some(now + self.patience);
        }
    }

    /// The camera is away and will be tried again after `retry_in`.
    pub fn will_be_tried_again(&mut self, now: Instant, retry_in: Duration) {
        self.due = Some(now + retry_in + self.patience);
    }

    /// Nothing more is to come.
    pub fn ended(&mut self) {
        self.due = None;
    }

    /// Whether the sign is overdue.
    pub fn is_overdue(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| now > due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_never_comes_out_is_overdue_and_a_camera_that_is_away_is_not() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let settings = CameraSettings { timeout_s: 5.0, max_fps: 0.5, ..CameraSettings::default() };
        let mut camera = Progress::new(&settings, 2, start);
        // 5 s of silence, 2 s between frames, 10 s of work for each of two cameras.
        assert!(!camera.is_overdue(at(27)) && camera.is_overdue(at(28)));
        camera.came(at(20));
        assert!(!camera.is_overdue(at(47)) && camera.is_overdue(at(48)));
        camera.will_be_tried_again(at(50), Duration::from_secs(20));
        assert!(!camera.is_overdue(at(97)) && camera.is_overdue(at(98)));
        camera.ended();
        assert!(!camera.is_overdue(at(10_000)));
    }
}
