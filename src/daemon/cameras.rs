//! One supervisor a camera: open, hand frames to the dispatcher, reopen with back-off. A camera that fails takes no other down.

use crate::capture::{CaptureError, Waited, Watched};
use crate::pipeline::Dispatcher;
use crate::settings::{CameraKind, CameraSettings};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// What a camera's supervisor reports.
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

/// A camera's share of the daemon.
pub struct Supervisor {
    /// Place in the settings' order.
    pub index: usize,
    /// Its id.
    pub id: String,
    /// Its settings.
    pub settings: CameraSettings,
    /// Its switch.
    pub enabled: Arc<AtomicBool>,
    /// Where frames go.
    pub dispatcher: Arc<Dispatcher>,
    /// Where news goes.
    pub news: Sender<(usize, News)>,
    /// Closed when the daemon ends.
    pub stop: Receiver<()>,
}

/// Why a supervisor ends, or tries again.
enum End {
    Stopped,
    Failed(CaptureError),
}

impl Supervisor {
    /// Starts the supervisor's thread. It ends soon after `stop` closes, whatever the camera does.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(self) -> std::io::Result<JoinHandle<()>> {
        let mut name = format!("sup-{}", self.id);
        name.truncate(15);
        std::thread::Builder::new().name(name).spawn(move || self.run())
    }

    fn say(&self, news: News) {
        let _ = self.news.send((self.index, news));
    }

    fn run(self) {
        let mut wait = FIRST_WAIT;
        loop {
            let left = match Watched::start(&self.id, &self.settings) {
                Err(error) => {
                    self.say(News::Offline(error.to_string()));
                    None
                }
                Ok(camera) => {
                    let end = self.feed(&camera, &mut wait);
                    let left = camera.abandon();
                    match end {
                        End::Stopped => return,
                        End::Failed(CaptureError::Ended { .. }) => {
                            self.say(News::Ended);
                            return;
                        }
                        End::Failed(error) => self.say(News::Offline(error.to_string())),
                    }
                    left
                }
            };
            loop {
                match self.stop.recv_timeout(wait) {
                    Err(RecvTimeoutError::Timeout) => {}
                    _ => return,
                }
                wait = (wait * 2).min(LONGEST_WAIT);
                if left.as_ref().is_none_or(JoinHandle::is_finished) {
                    break;
                }
                // A second handle on a device whose driver hangs would be as dead as the first, and one thread more each time.
                self.say(News::Offline(format!("{}: its driver does not answer; unplug it or restart", self.settings.name())));
            }
        }
    }

    /// From open to failure.
    fn feed(&self, camera: &Watched, wait: &mut Duration) -> End {
        let paced_by_workers = self.settings.kind == CameraKind::Replay && self.settings.fps == 0.0;
        let mut online = false;
        loop {
            match camera.next_frame(Some(&self.stop)) {
                Ok(Waited::Stopped) => return End::Stopped,
                Ok(Waited::Frame(grabbed)) => {
                    if !online {
                        (online, *wait) = (true, FIRST_WAIT);
                        self.say(News::Online);
                    }
                    if self.enabled.load(Ordering::Relaxed)
                        && !self.dispatcher.offer(self.index, grabbed.raw, grabbed.captured, grabbed.captured_wall)
                    {
                        return End::Stopped;
                    }
                    if paced_by_workers {
                        self.dispatcher.wait_until_taken(self.index);
                    }
                }
                Err(CaptureError::Damaged { what, reason }) => {
                    tracing::debug!(what, reason, "damaged frame");
                    self.say(News::Damaged);
                }
                Err(error) => return End::Failed(error),
            }
        }
    }
}
