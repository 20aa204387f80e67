//! The motion gate: whether a frame shows anything that the last frame that was looked at did not.
//!
//! A [`Gate`] belongs to one camera. It compares each frame, as a small grey one ([`GreyFrame`]), with the frame
//! that was last looked at, not with the one before: what moves slowly adds up until it is seen, and what is told of
//! the scene is what that frame showed. A change counts where it exceeds the noise of its place (`noise.rs`),
//! after a change of light of the whole picture was taken out (`light.rs`). Whatever is unsure is looked at, and
//! every few seconds a frame is looked at in any case.
//!
//! Pure: the time comes in milliseconds, and nothing here knows of detectors or cameras.

mod change;
mod grey;
mod light;
mod noise;

pub use grey::GreyFrame;

use light::Light;
use noise::Noise;

/// What a gate is held to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GateOptions {
    /// How many times the noise's standard deviation a change must be. Less finds fainter changes and looks at more
    /// frames.
    pub threshold: f32,
    /// A frame is looked at no later than this after the last one, milliseconds.
    pub force_ms: u64,
}

/// Why a frame is to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Nothing is known yet of scene or noise, or the picture has another size.
    Unknown,
    /// Something changed.
    Motion,
    /// The light changed more than can be calculated away.
    Light,
    /// Something changed a moment ago.
    Settling,
    /// None was for long enough, or nothing came of it.
    Due,
}

/// What a gate says of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GateVerdict {
    /// Why it is to be looked at; `None`: it shows what the last one showed that was.
    pub look: Option<Reason>,
    /// Whether something moved since then.
    pub moving: bool,
}

/// For so long after a change every frame is looked at, and so many frames: what stops is seen where it stands, and one
/// that is found in two frames of three is found.
const SETTLING_MS: u64 = 1000;
const SETTLING_FRAMES: u32 = 3;
/// Frames that are looked at, whatever they show, until the noise is known.
const LEARNING: u32 = 8;
/// After so many frames in a row in another light the noise is learnt anew.
const UNLIKE: u32 = 5;

/// Says of one camera's frames which are worth looking at.
#[derive(Debug, Clone)]
pub struct Gate {
    options: GateOptions,
    state: Option<State>,
}

/// What is known once a frame came.
#[derive(Debug, Clone)]
struct State {
    /// The frame last looked at.
    reference: GreyFrame,
    looked_ms: u64,
    /// That look does not count.
    look_again: bool,
    /// When something last changed, and frames since then.
    changed: Option<(u64, u32)>,
    noise: Noise,
    /// Frames that the noise is known from.
    learnt: u32,
    /// Frames in a row in another light.
    unlike: u32,
}

impl Gate {
    /// A gate that has seen nothing yet.
    #[must_use]
    pub fn new(options: GateOptions) -> Self {
        Self { options, state: None }
    }

    /// Nothing came of the last look, or it does not count any more: the next frame is looked at.
    pub fn forget_look(&mut self) {
        if let Some(state) = &mut self.state {
            state.look_again = true;
        }
    }

    /// Judges a frame that was taken at `now_ms`. If it is to be looked at, the gate takes it that it will be;
    /// [`Gate::forget_look`] where that failed.
    pub fn judge(&mut self, now_ms: u64, frame: GreyFrame) -> GateVerdict {
        let Some(state) = self.state.as_mut().filter(|state| state.noise.fits(&frame)) else {
            self.state = Some(State {
                noise: Noise::new(&frame),
                reference: frame,
                looked_ms: now_ms,
                look_again: false,
                changed: None,
                learnt: 0,
                unlike: 0,
            });
            return GateVerdict { look: Some(Reason::Unknown), moving: false };
        };
        let verdict = state.judge(now_ms, &frame, self.options);
        if verdict.look.is_some() {
            (state.reference, state.looked_ms, state.look_again) = (frame, now_ms, false);
        }
        verdict
    }
}

impl State {
    fn judge(&mut self, now_ms: u64, frame: &GreyFrame, options: GateOptions) -> GateVerdict {
        if self.learnt == 0 {
            self.noise.begin(&self.reference, frame);
        }
        let light = Light::between(&self.reference, frame, self.noise.deviations());
        let Light::Same(difference) = light else {
            self.changed = Some((now_ms, 0));
            self.unlike += 1;
            if self.unlike == UNLIKE {
                // No lamp is switched so often: it is noise, and more of it than was known.
                (self.unlike, self.learnt) = (0, 0);
            }
            return GateVerdict { look: Some(Reason::Light), moving: false };
        };
        self.unlike = 0;
        let moving = change::is_there(&difference, frame.columns(), &self.noise, options.threshold);
        self.noise.learn(&difference, options.threshold);
        self.learnt = self.learnt.saturating_add(1);
        if self.learnt <= LEARNING {
            return GateVerdict { look: Some(Reason::Unknown), moving: false };
        }
        if moving {
            self.changed = Some((now_ms, 0));
            return GateVerdict { look: Some(Reason::Motion), moving };
        }
        let settling = self.changed.as_mut().is_some_and(|(at, frames)| {
            *frames = frames.saturating_add(1);
            now_ms.saturating_sub(*at) < SETTLING_MS || *frames <= SETTLING_FRAMES
        });
        let due = self.look_again || now_ms.saturating_sub(self.looked_ms) >= options.force_ms;
        let look = if settling { Some(Reason::Settling) } else { due.then_some(Reason::Due) };
        GateVerdict { look, moving }
    }
}

#[cfg(test)]
mod tests;
