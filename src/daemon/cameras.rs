//! One thread a camera: open, hand frames to the dispatcher, reopen with back-off. A camera that fails takes no other down.

use crate::capture::{self, CaptureError};
use crate::pipeline::Dispatcher;
use crate::settings::{CameraKind, CameraSettings};
use crossbeam_channel::Sender;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// What a camera's thread reports.
#[derive(Debug)]
pub enum News {
    /// The first frame after an open.
    Online,
    /// It cannot be opened or stopped; it will be tried again.
    Offline(String),
    /// A frame was damaged before it became one.
    Damaged,
    /// A replay is over.
    Ended,
}

/// Waits between attempts to open a camera, doubling.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Starts the camera's thread. It ends once the dispatcher is closed; it is not joined, because a camera may hang in its driver.
///
/// # Errors
/// If the thread cannot be started.
pub fn start(
    index: usize,
    id: &str,
    settings: CameraSettings,
    enabled: Arc<AtomicBool>,
    dispatcher: Arc<Dispatcher>,
    news: Sender<(usize, News)>,
) -> std::io::Result<()> {
    let mut name = format!("cam-{id}");
    name.truncate(15);
    let body = move || {
        let mut wait = FIRST_WAIT;
        loop {
            let reason = match feed(index, &settings, &enabled, &dispatcher, &news, &mut wait) {
                Ok(()) => return,
                Err(CaptureError::Ended { .. }) => {
                    let _ = news.send((index, News::Ended));
                    return;
                }
                Err(error) => error.to_string(),
            };
            if news.send((index, News::Offline(reason))).is_err() {
                return;
            }
            std::thread::sleep(wait);
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    };
    std::thread::Builder::new().name(name).spawn(body)?;
    Ok(())
}

/// From open to failure; `Ok` once the dispatcher is closed.
fn feed(
    index: usize,
    settings: &CameraSettings,
    enabled: &AtomicBool,
    dispatcher: &Dispatcher,
    news: &Sender<(usize, News)>,
    wait: &mut Duration,
) -> Result<(), CaptureError> {
    let mut camera = capture::open(settings)?;
    let paced_by_workers = settings.kind == CameraKind::Replay && settings.fps == 0.0;
    let mut online = false;
    loop {
        match camera.next_frame() {
            Ok(raw) => {
                if !online {
                    (online, *wait) = (true, FIRST_WAIT);
                    let _ = news.send((index, News::Online));
                }
                if enabled.load(Ordering::Relaxed) && !dispatcher.offer(index, raw, Instant::now(), SystemTime::now()) {
                    return Ok(());
                }
                if paced_by_workers {
                    dispatcher.wait_until_taken(index);
                }
            }
            Err(CaptureError::Damaged { what, reason }) => {
                tracing::debug!(what, reason, "damaged frame");
                if news.send((index, News::Damaged)).is_err() {
                    return Ok(());
                }
            }
            Err(error) => return Err(error),
        }
    }
}
