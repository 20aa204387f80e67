//! A camera on a thread of its own, with a limit on silence. Drivers hang, and neither V4L2's nor a pipe's
//! read can be told to give up; so the thread that reads is one that can be left behind.

use super::{Camera, CaptureError, Interrupt, open};
use crate::frame::RawFrame;
use crate::settings::CameraSettings;
use crossbeam_channel::{Receiver, Sender, bounded, never, select};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// A frame with the times at which it was taken.
pub struct Grabbed {
    /// The frame.
    pub raw: RawFrame,
    /// Monotonic time.
    pub captured: Instant,
    /// Wall time.
    pub captured_wall: SystemTime,
}

/// How to wake the thread, once its camera is open.
#[derive(Default)]
struct Wake {
    abandoned: bool,
    interrupt: Option<Interrupt>,
}

/// A camera that is read on a thread of its own. Dropping it ends the camera where it can be ended.
pub struct Watched {
    what: String,
    timeout: Duration,
    frames: Receiver<Result<Grabbed, CaptureError>>,
    wake: Arc<Mutex<Wake>>,
    thread: Option<JoinHandle<()>>,
}

/// What came of waiting for a frame.
pub enum Waited {
    /// A frame.
    Frame(Grabbed),
    /// The caller's `stop` closed.
    Stopped,
}

impl Watched {
    /// Starts to open the camera; errors come from [`Watched::next_frame`].
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(id: &str, settings: &CameraSettings) -> std::io::Result<Self> {
        let (to, frames) = bounded(0);
        let wake = Arc::new(Mutex::new(Wake::default()));
        let (settings_there, wake_there, what) = (settings.clone(), Arc::clone(&wake), settings.name());
        let what_there = what.clone();
        let body = move || {
            // nokhwa's stream panics on drop where the device is in trouble; that must end this thread only.
            let grabbed = catch_unwind(AssertUnwindSafe(|| grab(&settings_there, &wake_there, &to)));
            let reason = "the camera's driver panicked".to_owned();
            let last = grabbed.unwrap_or(Err(CaptureError::Stopped { what: what_there, reason }));
            if let Err(error) = last {
                let _ = to.send(Err(error));
            }
        };
        let mut name = format!("cam-{id}");
        name.truncate(15);
        let thread = std::thread::Builder::new().name(name).spawn(body)?;
        let timeout = Duration::from_secs_f32(settings.timeout_s) + settings.between_frames();
        Ok(Self { what, timeout, frames, wake, thread: Some(thread) })
    }

    /// Waits for the next frame, at most the camera's `timeout_s`, and until `stop` closes.
    ///
    /// # Errors
    /// [`CaptureError`]; after anything but `Damaged` drop this and start anew.
    pub fn next_frame(&self, stop: Option<&Receiver<()>>) -> Result<Waited, CaptureError> {
        let closed = || CaptureError::Stopped { what: self.what.clone(), reason: "its thread ended".into() };
        let none = never();
        select! {
            recv(self.frames) -> frame => frame.unwrap_or_else(|_| Err(closed())).map(Waited::Frame),
            recv(stop.unwrap_or(&none)) -> _ => Ok(Waited::Stopped),
            default(self.timeout) => {
                let reason = format!("no frame for {} s", self.timeout.as_secs_f32());
                Err(CaptureError::Stopped { what: self.what.clone(), reason })
            }
        }
    }

    /// Ends the camera where it can be ended, and gives its thread: as long as that runs, the device must
    /// not be opened again.
    #[must_use]
    pub fn abandon(mut self) -> Option<JoinHandle<()>> {
        self.thread.take()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut wake = self.wake.lock().unwrap_or_else(PoisonError::into_inner);
        wake.abandoned = true;
        if let Some(interrupt) = wake.interrupt.take() {
            interrupt();
        }
    }
}

/// Opens, hands over frames until nobody takes them or the camera fails.
fn grab(
    settings: &CameraSettings,
    wake: &Mutex<Wake>,
    to: &Sender<Result<Grabbed, CaptureError>>,
) -> Result<(), CaptureError> {
    let mut camera: Box<dyn Camera> = open(settings)?;
    if let Some(interrupt) = camera.interrupt() {
        let mut wake = wake.lock().unwrap_or_else(PoisonError::into_inner);
        if wake.abandoned {
            return Ok(());
        }
        wake.interrupt = Some(interrupt);
    }
    let turn = settings.turn();
    loop {
        let message = match camera.next_frame() {
            Ok(mut raw) => {
                raw.turn = raw.turn.then(turn);
                Ok(Grabbed { raw, captured: Instant::now(), captured_wall: SystemTime::now() })
            }
            Err(error @ CaptureError::Damaged { .. }) => Err(error),
            Err(error) => {
                // The process of a finished child may be somebody else's by now.
                wake.lock().unwrap_or_else(PoisonError::into_inner).interrupt = None;
                return Err(error);
            }
        };
        if to.send(message).is_err() {
            wake.lock().unwrap_or_else(PoisonError::into_inner).interrupt = None;
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Source, StreamFormat, StreamSource};

    fn child(script: &str) -> CameraSettings {
        let command = ["sh", "-c", script].map(str::to_owned).to_vec();
        let format = StreamFormat::I420;
        let source = StreamSource { command, format, width: 4, height: 2, ..StreamSource::default() };
        CameraSettings { source: Source::Stream(source), timeout_s: 0.3, ..CameraSettings::default() }
    }

    #[test]
    fn a_silent_camera_is_given_up_and_its_thread_ends() {
        let watched = Watched::start("a", &child("printf aaaaaaaaaaaa; sleep 60")).expect("a thread");
        assert!(matches!(watched.next_frame(None), Ok(Waited::Frame(_))));
        let error = watched.next_frame(None).err().expect("silent").to_string();
        assert!(error.contains("no frame for 0.3 s"), "{error}");
        watched.abandon().expect("a thread").join().expect("ends");
    }

    #[test]
    fn stop_wakes_the_waiter() {
        let watched =
            Watched::start("a", &CameraSettings { timeout_s: 60.0, ..child("sleep 60") }).expect("a thread");
        let (stop, stopped) = bounded::<()>(0);
        drop(stop);
        assert!(matches!(watched.next_frame(Some(&stopped)), Ok(Waited::Stopped)));
    }
}
