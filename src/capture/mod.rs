//! Frames in: cameras behind one trait. A camera knows nothing of models or brokers; its frames leave
//! compressed as they came.

mod child;
mod framing;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod http;
mod replay;
mod stream;
#[cfg(feature = "v4l2")]
mod v4l2;
mod watched;

pub(crate) use child::last_line_of;
pub use child::{exec_with_parent, guard_children};
pub use replay::{Replay, read_picture};
pub use stream::Stream;
#[cfg(feature = "v4l2")]
pub use v4l2::V4l2;
pub use watched::{Grabbed, Waited, Watched};

use crate::frame::RawFrame;
use crate::settings::{CameraSettings, Source};
use std::sync::Arc;
use std::time::Duration;

/// Makes a camera's pending [`Camera::next_frame`] return, from another thread.
pub type Interrupt = Arc<dyn Fn() + Send + Sync>;

/// Opens the camera that the settings describe.
///
/// # Errors
/// [`CaptureError::Open`], naming device, command or path.
pub fn open(settings: &CameraSettings) -> Result<Box<dyn Camera>, CaptureError> {
    let what = settings.name();
    match &settings.source {
        Source::Replay(replay) => Ok(Box::new(Replay::open(&replay.path, replay.fps, replay.repeat)?)),
        Source::Stream(stream) => {
            Ok(Box::new(Stream::open(what, stream, Duration::from_secs_f32(settings.timeout_s))?))
        }
        #[cfg(feature = "v4l2")]
        Source::V4l2(v4l2) => Ok(Box::new(V4l2::open(what, v4l2)?)),
        #[cfg(not(feature = "v4l2"))]
        Source::V4l2(_) => {
            Err(CaptureError::Open { what, reason: "this build reads no v4l2 (feature v4l2)".into() })
        }
    }
}

/// A source of frames, used by one thread.
pub trait Camera {
    /// Waits for the next frame.
    ///
    /// # Errors
    /// [`CaptureError`]; after `Stopped` the camera must be opened anew.
    fn next_frame(&mut self) -> Result<RawFrame, CaptureError>;

    /// How to wake a pending `next_frame`, where that is possible.
    fn interrupt(&self) -> Option<Interrupt> {
        None
    }
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
