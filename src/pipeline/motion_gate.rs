//! A camera's motion gate as the workers share it.

use crate::frame::Picture;
use crate::motion::{Gate, GateOptions, GateVerdict, GreyFrame, Reason};
use crate::settings::CameraSettings;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The gate of one camera. Two of its frames may be with two workers at once; whichever comes to the gate first is
/// compared first. The other is compared with a frame that is newer than itself, and what differs is as different.
#[derive(Debug, Clone)]
pub struct MotionGate(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    gate: Gate,
    /// When the first frame was captured: the gate's times count from there.
    start: Option<Instant>,
    /// The generation that judged what was looked at.
    generation: u64,
}

impl MotionGate {
    /// The gate that these settings ask for, if they do.
    #[must_use]
    pub fn of(settings: &CameraSettings) -> Option<Self> {
        let force_ms = Duration::from_secs_f32(settings.motion_force_s).as_millis();
        let options = GateOptions {
            threshold: settings.motion_threshold,
            force_ms: u64::try_from(force_ms).unwrap_or(u64::MAX),
        };
        settings.motion.then(|| Self::new(options))
    }

    /// A gate that has seen nothing yet.
    #[must_use]
    pub fn new(options: GateOptions) -> Self {
        Self(Arc::new(Mutex::new(State { gate: Gate::new(options), start: None, generation: 0 })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whatever a panic leaves of the gate, the next frames are looked at or compared with a frame that was.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Judges a frame that was captured then and will be looked at by this generation. What another one looked at does
    /// not count.
    pub fn judge(&self, picture: &Picture, captured: Instant, generation: u64) -> GateVerdict {
        let frame = GreyFrame::of(picture);
        let mut state = self.state();
        if state.generation != generation {
            state.generation = generation;
            state.gate.forget_look();
        }
        let elapsed = captured.saturating_duration_since(*state.start.get_or_insert(captured)).as_millis();
        state.gate.judge(u64::try_from(elapsed).unwrap_or(u64::MAX), frame)
    }

    /// The next frame is looked at: nothing came of the last look, or it does not count any more.
    pub fn forget_look(&self) {
        self.state().gate.forget_look();
    }
}

/// Whether the verdict says that something moved, as far as it can: not before the noise is known, and light that
/// changes is no motion.
pub(super) fn moving(verdict: GateVerdict) -> Option<bool> {
    (verdict.look != Some(Reason::Unknown)).then_some(verdict.moving)
}
