//! Frames in: cameras behind one trait. A camera knows nothing of models or brokers; its frames leave compressed as they came.

mod replay;

pub use replay::Replay;

use crate::frame::RawFrame;

/// A source of frames, used by one thread.
pub trait Camera: Send {
    /// Waits for the next frame.
    ///
    /// # Errors
    /// [`CaptureError`]; after `Stopped` the camera must be opened anew.
    fn next_frame(&mut self) -> Result<RawFrame, CaptureError>;
}

/// Why a camera gives no frame. One line each.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// It cannot be opened.
    #[error("{what}: {reason}")]
    Open {
        /// Device, address, command or path.
        what: String,
        /// What is wrong, and what is allowed.
        reason: String,
    },
    /// It gave frames and stopped: open it anew.
    #[error("{what}: stopped: {reason}")]
    Stopped {
        /// Device, address, command or path.
        what: String,
        /// Why.
        reason: String,
    },
    /// This frame is lost, the next may be well.
    #[error("{what}: damaged: {reason}")]
    Damaged {
        /// Device, address, command or path.
        what: String,
        /// Why.
        reason: String,
    },
    /// A replay is over and was not to be repeated.
    #[error("{what}: no more pictures")]
    Ended {
        /// Path of the replay.
        what: String,
    },
}
