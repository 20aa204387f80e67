//! Frames in: cameras behind one trait. A camera knows nothing of models or brokers; its frames leave compressed as they came.

mod replay;

pub use replay::Replay;

use crate::frame::RawFrame;
use crate::settings::{CameraKind, CameraSettings};

/// Opens the camera that the settings describe.
///
/// # Errors
/// [`CaptureError::Open`], naming device, command or path.
pub fn open(settings: &CameraSettings) -> Result<Box<dyn Camera>, CaptureError> {
    match settings.kind {
        CameraKind::Replay => Ok(Box::new(Replay::open(&settings.path, settings.fps, settings.repeat)?)),
        CameraKind::V4l2 | CameraKind::Stream => {
            let what = if settings.kind == CameraKind::V4l2 { &settings.device } else { &settings.url };
            Err(CaptureError::Open { what: what.clone(), reason: "this release has `replay` cameras only".into() })
        }
    }
}

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
