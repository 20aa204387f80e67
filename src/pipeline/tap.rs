//! Taps: whoever wants to see every frame with what was found in it, in each camera's order.

use crate::detection::Outcome;

/// Sees each outcome after the sequencer and before the scene.
///
/// An outcome owns the frame as its camera gave it, so a tap that keeps a picture clones an `Arc` and
/// copies nothing. A tap runs on the thread that all frames pass: what takes long belongs on a thread of
/// the tap's own.
pub trait FrameTap: Send {
    /// Looks at one outcome.
    fn see(&mut self, outcome: &Outcome);
}
