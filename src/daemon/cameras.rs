//! One supervisor a camera: open, hand frames to the dispatcher, reopen with back-off. A camera that fails takes no other down.

use crate::capture::{CaptureError, Waited, Watched};
use crate::pipeline::Dispatcher;
use crate::settings::CameraSettings;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a camera's supervisor reports.
#[derive(Debug)]
pub enum News {
    /// The first frame after an open.
    Online,
    /// It cannot be opened or stopped; it will be tried again.
    Offline {
        /// Why.
        reason: String,
        /// When.
        retry_in: Duration,
    },
    /// A frame was damaged before it became one.
    Damaged,
    /// A replay is over.
    Ended,
}

/// Waits between attempts to open a camera, doubling. The longest is what a replugged camera is at most away.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// What a supervisor counts, for the desk to read.
#[derive(Debug, Default)]
pub struct Counted {
    /// Frames the camera gave.
    pub frames: AtomicU64,
    /// Of these, left out to keep to `max_fps`.
    pub paced: AtomicU64,
}

/// Lets through at most so many frames a second, without falling below that for a camera whose rate is a multiple of it.
struct Pace {
    interval: Duration,
    due: Option<Instant>,
}

impl Pace {
    /// 0 lets everything through.
    fn new(max_fps: f32) -> Self {
        Self { interval: if max_fps > 0.0 { Duration::from_secs_f32(1.0 / max_fps) } else { Duration::ZERO }, due: None }
    }

    fn pass(&mut self, now: Instant) -> bool {
        let due = self.due.unwrap_or(now);
        // A frame that is a little early counts as in time: cameras jitter.
        if now + self.interval / 10 < due {
            return false;
        }
        self.due = Some((due + self.interval).max(now));
        true
    }
}

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
    /// What it counts.
    pub counted: Arc<Counted>,
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

    fn say_offline(&self, reason: String, retry_in: Duration) {
        self.say(News::Offline { reason, retry_in });
    }

    fn say(&self, news: News) {
        let _ = self.news.send((self.index, news));
    }

    fn run(self) {
        let mut wait = FIRST_WAIT;
        loop {
            let left = match Watched::start(&self.id, &self.settings) {
                Err(error) => {
                    self.say_offline(error.to_string(), wait);
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
                        End::Failed(error) => self.say_offline(error.to_string(), wait),
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
                self.say_offline(format!("{}: its driver does not answer; unplug it or restart", self.settings.name()), wait);
            }
        }
    }

    /// From open to failure.
    fn feed(&self, camera: &Watched, wait: &mut Duration) -> End {
        let paced_by_workers = self.settings.replay_fps() == Some(0.0);
        let mut online = false;
        let mut pace = Pace::new(self.settings.max_fps);
        loop {
            match camera.next_frame(Some(&self.stop)) {
                Ok(Waited::Stopped) => return End::Stopped,
                Ok(Waited::Frame(grabbed)) => {
                    if !online {
                        (online, *wait) = (true, FIRST_WAIT);
                        self.say(News::Online);
                    }
                    self.counted.frames.fetch_add(1, Ordering::Relaxed);
                    if !pace.pass(grabbed.captured) {
                        self.counted.paced.fetch_add(1, Ordering::Relaxed);
                    } else if self.enabled.load(Ordering::Relaxed)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames let through in ten seconds of a camera at `fps` whose frames come up to `jitter` late.
    fn passed(fps: u32, max_fps: f32, jitter: Duration) -> usize {
        let (start, mut pace) = (Instant::now(), Pace::new(max_fps));
        (0..10 * fps).filter(|i| pace.pass(start + Duration::from_secs(1) * *i / fps + jitter * (i * 7 % 5) / 5)).count()
    }

    #[test]
    fn a_pace_is_kept_and_not_fallen_below() {
        assert_eq!(passed(30, 0.0, Duration::ZERO), 300);
        for (fps, max_fps, wanted) in [(15, 5.0, 50), (30, 10.0, 100), (30, 0.5, 5), (10, 15.0, 100), (25, 10.0, 100)] {
            let found = passed(fps, max_fps, Duration::from_millis(8));
            assert!(found.abs_diff(wanted) <= 2, "{found} of {wanted} a 10 s, {fps} frames a second held to {max_fps}");
        }
    }
}
